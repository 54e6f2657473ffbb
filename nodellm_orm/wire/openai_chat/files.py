"""Files in a request: which can be sent in whose form of Chat Completions, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nodellm_orm.wire.media import absent, base64_of, data_url, is_public, text_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.parts import MediaKind, MediaPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.media import Carries

_Source: TypeAlias = Literal["data", "url", "file_id"]

_PDF_NAME: Final = "document.pdf"
"""The API wants a name with the bytes of a document."""
_IMAGES: Final = ("png", "jpeg", "jpg", "gif", "webp")
_WAV_AND_MP3: Final = MappingProxyType(
    {"wav": "wav", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mpeg": "mp3", "mp3": "mp3", "x-mp3": "mp3"}
)
_SOUNDS: Final = MappingProxyType(
    {
        **_WAV_AND_MP3,
        **{name: name for name in ("aac", "aiff", "flac", "m4a", "ogg")},
        "x-aiff": "aiff",
        "x-flac": "flac",
        "x-m4a": "m4a",
        "mp4": "m4a",
    }
)
"""What the APIs call a recording, by its subtype."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """Files of a kind that have a form: of these subtypes (all of them where there are none), from these sources."""

    subtypes: tuple[str, ...]
    sources: frozenset[_Source]


def _accepted(subtypes: tuple[str, ...], *sources: _Source) -> _Accepted:
    return _Accepted(subtypes, frozenset(sources))


_TEXT: Final = _accepted((), "data")
_IMAGE: Final = _accepted(_IMAGES, "data", "url")
_FORMS: Final[Mapping[str, Mapping[MediaKind, _Accepted]]] = MappingProxyType(
    {
        "openai": {
            "text": _TEXT,
            "image": _IMAGE,
            "audio": _accepted(tuple(_WAV_AND_MP3), "data"),
            "document": _accepted(("pdf",), "data", "file_id"),
        },
        "openrouter": {
            "text": _TEXT,
            "image": _IMAGE,
            "audio": _accepted(tuple(_SOUNDS), "data"),
            "video": _accepted(("mp4", "mpeg", "quicktime", "mov", "webm"), "data", "url"),
            "document": _accepted(("pdf",), "data", "url"),
        },
        "mistral": {
            "text": _TEXT,
            "image": _IMAGE,
            "audio": _accepted(tuple(_SOUNDS), "data", "url"),
            "document": _accepted(("pdf",), "data", "url", "file_id"),
        },
    }
)


def carrier(profile: ModelProfile) -> Carries:
    """Which files this format has a form for, for a model.

    Args:
        profile: of the model; says whose form, and whether addresses are fetched.
    """

    def carries(part: MediaPart) -> bool:
        accepted, source = _FORMS[profile.file_form].get(part.media), _source(part)
        if accepted is None or source not in accepted.sources:
            return False
        if part.url is not None and not (profile.fetches_urls and is_public(part.url)):
            return False
        return not accepted.subtypes or _subtype(part) in accepted.subtypes

    return carries


def file_item(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    """A file of the user's as an item of content: a text as its words, and one that cannot be read as a note of it.

    Args:
        part: the file.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media not in profile.media or not carrier(profile)(part):
        return {"type": "text", "text": absent(part)}
    match part.media:
        case "text":
            return {"type": "text", "text": text_in(part)}
        case "image":
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": _address(part), **detail}}
        case "audio":
            return _audio(part, profile)
        case "video":
            return {"type": "video_url", "video_url": {"url": _address(part)}}
        case _:
            return _document(part, profile)


def _audio(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    if profile.file_form == "mistral":
        return {"type": "input_audio", "input_audio": part.url or base64_of(part)}
    return {"type": "input_audio", "input_audio": {"data": base64_of(part), "format": _SOUNDS[_subtype(part)]}}


def _document(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    if profile.file_form == "mistral":
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        name = {"document_name": part.name} if part.name else {}
        return {"type": "document_url", "document_url": _address(part), **name}
    if part.file_id is not None:
        return {"type": "file", "file": {"file_id": part.file_id}}
    return {"type": "file", "file": {"filename": part.name or _PDF_NAME, "file_data": _address(part)}}


def _address(part: MediaPart) -> str:
    return part.url if part.url is not None else data_url(part)


def _source(part: MediaPart) -> _Source:
    if part.url is not None:
        return "url"
    return "data" if part.file_id is None else "file_id"


def _subtype(part: MediaPart) -> str:
    return part.media_type.partition(";")[0].strip().lower().partition("/")[2]
