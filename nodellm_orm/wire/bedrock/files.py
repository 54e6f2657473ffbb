"""Files in a request: which can be sent, and as what.

A text goes as its words, which every model reads. A document has a name, which may hold few kinds of characters; that
no two of a request are equal is seen to in `turns`.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.media import absent, base64_of, text_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.parts import MediaPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.media import Carries

NAME_CHARS: Final = 200
_BUCKET: Final = "s3://"
_IN_BUCKETS: Final = frozenset({"image", "document", "video", "audio"})
_UNNAMED: Final = "document"
_ILLEGAL_IN_NAME: Final = re.compile(r"[^A-Za-z0-9\-()\[\]]+")
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,8}$")

_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image/png": "png",
        "image/jpeg": "jpeg",
        "image/jpg": "jpeg",
        "image/gif": "gif",
        "image/webp": "webp",
        "application/pdf": "pdf",
        "application/msword": "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "video/x-matroska": "mkv",
        "video/matroska": "mkv",
        "video/quicktime": "mov",
        "video/mp4": "mp4",
        "video/webm": "webm",
        "video/x-flv": "flv",
        "video/mpeg": "mpeg",
        "video/x-ms-wmv": "wmv",
        "video/3gpp": "three_gp",
        "audio/mpeg": "mp3",
        "audio/mp3": "mp3",
        "audio/wav": "wav",
        "audio/x-wav": "wav",
        "audio/wave": "wav",
        "audio/aac": "aac",
        "audio/flac": "flac",
        "audio/x-flac": "flac",
        "audio/ogg": "ogg",
        "audio/opus": "opus",
        "audio/mp4": "mp4",
        "audio/m4a": "m4a",
        "audio/x-m4a": "m4a",
        "audio/webm": "webm",
        "audio/matroska": "mka",
        "audio/x-matroska": "mka",
        "audio/l16": "pcm",
    }
)
_KINDS: Final[Mapping[str, str]] = MappingProxyType({"application": "document"})


def carrier(profile: ModelProfile) -> Carries:
    """Which files this format has a form for, for a model.

    Args:
        profile: of the model; says whether it reads from buckets.
    """

    def carries(part: MediaPart) -> bool:
        if part.file_id is not None:
            return False
        if part.url is not None and not (
            part.url.startswith(_BUCKET) and part.media in _IN_BUCKETS and profile.fetches_urls
        ):
            return False
        return part.media == "text" or _kind(part) == part.media

    return carries


def file_block(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    """A file of the user's as a block; a text as its words, and one that cannot be read as a note of what it was.

    Args:
        part: the file.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media not in profile.media or not carrier(profile)(part):
        return {"text": absent(part)}
    if part.media == "text":
        return {"text": text_in(part)}
    return whole_block(part)


def whole_block(part: MediaPart) -> dict[str, object]:
    """A file as the block of its kind.

    Args:
        part: an image, a document, a film or a recording of a known format.

    Raises:
        AttachmentError: its bytes are not here.
    """
    source = {"bytes": base64_of(part)} if part.url is None else {"s3Location": {"uri": part.url}}
    named = {"name": _document_name(part.name)} if part.media == "document" else {}
    return {part.media: {**named, "format": _FORMATS[_media_type(part)], "source": source}}


def is_known(part: MediaPart) -> bool:
    """Whether there is a block for files of this type."""
    return _kind(part) == part.media


def media_type_of(kind: str, name: str) -> str | None:
    """The media type of a format's name, the first where it has several.

    Args:
        kind: ``image``, ``audio`` …
        name: of the format, such as ``jpeg``.
    """
    types = (found for found, format_name in _FORMATS.items() if format_name == name and _kind_of(found) == kind)
    return next(types, None)


def _kind(part: MediaPart) -> str | None:
    media_type = _media_type(part)
    return _kind_of(media_type) if media_type in _FORMATS else None


def _kind_of(media_type: str) -> str:
    family = media_type.partition("/")[0]
    return _KINDS.get(family, family)


def _media_type(part: MediaPart) -> str:
    return part.media_type.partition(";")[0].strip().lower()


def _document_name(name: str | None) -> str:
    """The name without its ending and with blanks in place of what may not be in it."""
    plain = _ILLEGAL_IN_NAME.sub(" ", _SUFFIX.sub("", name or "")).strip()
    return plain[:NAME_CHARS].rstrip() or _UNNAMED
