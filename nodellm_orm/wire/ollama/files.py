"""Files in a request: images beside the text of a message, texts within it, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.media import absent, text_in

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaPart
    from nodellm_orm.domain.profile import ModelProfile

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp"})


def carries(part: MediaPart) -> bool:
    """Whether this format has a form for a file; the server fetches nothing, and has no files of its own.

    Args:
        part: the file.
    """
    if part.url is not None or part.file_id is not None:
        return False
    return part.media == "text" or is_image(part)


def is_image(part: MediaPart) -> bool:
    """Whether a file goes along as an image.

    Args:
        part: the file.
    """
    return part.media == "image" and part.media_type.partition(";")[0].strip().lower() in _IMAGES


def in_words(part: MediaPart, profile: ModelProfile) -> str:
    """What the text of a message says of a file: a text in full, of any other that it cannot be shown.

    Args:
        part: a file that does not go along as an image.
        profile: of the model it is sent to.

    Raises:
        AttachmentError: its bytes are not here.
    """
    if part.media == "text" and part.media in profile.media and carries(part):
        return text_in(part)
    return absent(part)
