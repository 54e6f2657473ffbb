"""Files in a request: which can be sent, and as what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nodellm_orm.wire.media import absent, base64_of, is_public, text_in

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.media import Carries

_TYPES: Final = {
    "image": "png jpeg webp heic heif",
    "audio": "wav x-wav wave mp3 mpeg mpga aiff x-aiff aac ogg opus flac x-flac m4a x-m4a mp4 webm pcm",
    "video": "mp4 mpeg mpg mpegps mov quicktime avi x-msvideo x-flv webm wmv x-ms-wmv 3gpp",
    "application": "pdf",
}
"""Types of files that the models read, by family; of texts they read all."""
_OWN_HOSTS: Final = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be", "generativelanguage.googleapis.com"}
)


def carrier(profile: ModelProfile) -> Carries:
    """Which files this format has a form for, for a model.

    Args:
        profile: of the model; says whether files at any public address are fetched.
    """

    def carries(part: MediaPart) -> bool:
        if part.url is not None and not (_is_own(part.url) or (profile.fetches_urls and is_public(part.url))):
            return False
        family, _, name = part.media_type.partition(";")[0].strip().lower().partition("/")
        return part.media == "text" or name in _TYPES.get(family, "").split()

    return carries


def file_part(part: MediaPart, profile: ModelProfile) -> dict[str, object]:
    """A file of the user's as a part; a text as its words, and one that cannot be read as a note of what it was.

    Args:
        part: the file.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media not in profile.media or not carrier(profile)(part):
        return {"text": absent(part)}
    address = part.url or part.file_id
    if address is not None:
        return {"fileData": {"mimeType": part.media_type, "fileUri": address}}
    if part.media == "text":
        return {"text": text_in(part)}
    return {"inlineData": blob(part)}


def blob(part: MediaPart) -> dict[str, object]:
    """The bytes of a file, as the API has them in a part.

    Args:
        part: a file whose bytes are here.
    """
    return {"mimeType": part.media_type, "data": base64_of(part)}


def _is_own(url: str) -> bool:
    """Whether the provider has it in a place of its own: a film, an uploaded file, a storage bucket."""
    try:
        where = urlsplit(url)
    except ValueError:
        return False
    return where.scheme == "gs" or where.hostname in _OWN_HOSTS
