"""Files in a request: which can be sent, and as what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs, loads_verbatim
from nodellm_orm.wire.media import absent, base64_of, bytes_of, is_public

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.media import Carries

_IMAGES: Final = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_PDF: Final = "application/pdf"
_PLAIN: Final = "text/plain"
_SAID: Final = frozenset({"title", "context", "citations", "cache_control", "transformations"})
"""Members of a file's block that whoever attaches it may set in the part's ``extra``."""


def carrier(profile: ModelProfile) -> Carries:
    """Which files this format has a form for, for a model.

    Args:
        profile: of the model; says whether files at an address are fetched.
    """

    def carries(part: MediaPart) -> bool:
        if part.url is not None and (part.media == "text" or not (profile.fetches_urls and is_public(part.url))):
            return False
        return part.media == "text" or _media_type(part) in {*_IMAGES, _PDF}

    return carries


def file_block(part: MediaPart, profile: ModelProfile) -> object:
    """A file of the user's as a content block; one that cannot be read as a note of what it was.

    Args:
        part: the file.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media not in profile.media or not carrier(profile)(part):
        return {"type": "text", "text": absent(part)}
    is_image = _media_type(part) in _IMAGES
    said = dict(_extra(part))
    if part.name and not is_image:
        said.setdefault("title", part.name)
    return {"type": "image" if is_image else "document", "source": _source(part), **said}


def _source(part: MediaPart) -> dict[str, object]:
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    if part.url is not None:
        return {"type": "url", "url": part.url}
    if part.media == "text":
        return {"type": "text", "media_type": _PLAIN, "data": bytes_of(part).decode("utf-8", errors="replace")}
    kind = _media_type(part)
    return {"type": "base64", "media_type": _IMAGES.get(kind, kind), "data": base64_of(part)}


def _extra(part: MediaPart) -> list[tuple[str, object]]:
    members = loads_verbatim(part.extra) if part.extra is not None else None
    return [(name, value) for name, value in members if name in _SAID] if isinstance(members, Pairs) else []


def _media_type(part: MediaPart) -> str:
    return part.media_type.partition(";")[0].strip().lower()
