"""Files in a request: which can be sent, and as what."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.media import absent, base64_of, data_url, is_public, text_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.parts import MediaPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.media import Carries

_IMAGES: Final = frozenset({"png", "jpeg", "jpg", "gif", "webp"})
_SOUNDS: Final[Mapping[str, str]] = MappingProxyType(
    {"wav": "wav", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mpeg": "mp3", "mp3": "mp3", "x-mp3": "mp3"}
)
"""What the API calls a recording, by its subtype."""
_PDF: Final = "pdf"
_NAMES: Final[Mapping[str, str]] = MappingProxyType({_PDF: "document.pdf"})
_NAME: Final = "document"
"""The API wants a name with the bytes of a document."""


def carrier(profile: ModelProfile) -> Carries:
    """Which files this format has a form for, for a model.

    Args:
        profile: of the model; says whether addresses are fetched.
    """

    def carries(part: MediaPart) -> bool:
        if part.url is not None and not (profile.fetches_urls and is_public(part.url)):
            return False
        here = part.url is None and part.file_id is None
        match part.media:
            case "text":
                return here
            case "image":
                return part.file_id is not None or _subtype(part) in _IMAGES
            case "audio":
                return here and _subtype(part) in _SOUNDS
            case "document":
                return True
            case _:
                return False

    return carries


def file_piece(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    """A file as a piece of content: a text as its words, and one that cannot be read as a note of it.

    Args:
        part: the file.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media not in profile.media or not carrier(profile)(part):
        return {"type": "input_text", "text": absent(part)}
    detail = {"detail": part.detail} if part.detail else {}
    match part.media:
        case "text":
            return {"type": "input_text", "text": text_in(part)}
        case "image" if part.file_id is not None:
            return {"type": "input_image", "file_id": part.file_id, **detail}
        case "image":
            return {"type": "input_image", "image_url": part.url or data_url(part), **detail}
        case "audio":
            sound = {"data": base64_of(part), "format": _SOUNDS[_subtype(part)]}
            return {"type": "input_audio", "input_audio": sound}
        case _:
            return {"type": "input_file", **_document(part), **detail}


def _document(part: MediaPart) -> dict[str, object]:
    if part.file_id is not None:
        return {"file_id": part.file_id}
    if part.url is not None:
        return {"file_url": part.url}
    return {"filename": part.name or _NAMES.get(_subtype(part), _NAME), "file_data": data_url(part)}


def _subtype(part: MediaPart) -> str:
    return part.media_type.partition(";")[0].strip().lower().partition("/")[2]
