"""Files on their way to a provider: what every wire format needs to put them into a request."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart
from nodellm_orm.errors import AttachmentError, UnsupportedFeatureError

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest

Carries: TypeAlias = Callable[[MediaPart], bool]
"""Whether a wire format has a form for a file: of its kind and type, and from where its content is."""
_OWN_PLACES: Final = ("https://generativelanguage.googleapis.com/",)
"""Addresses that only their own provider can fetch from."""


def bytes_of(part: MediaPart) -> bytes:
    """The bytes of a file.

    Args:
        part: a file whose content is here.

    Raises:
        AttachmentError: they are not here.
    """
    if part.data is None:
        msg = f"the content of {label(part)} is not stored any more; ask without it, or add it to the chat again"
        raise AttachmentError(msg)
    return part.data


def base64_of(part: MediaPart) -> str:
    """The bytes of a file in base 64."""
    return base64.b64encode(bytes_of(part)).decode("ascii")


def data_url(part: MediaPart) -> str:
    """The file as a ``data:`` URL."""
    return f"data:{part.media_type};base64,{base64_of(part)}"


def text_in(part: MediaPart) -> str:
    """What a text file says, under its name: formats without a block for texts send it as words.

    Args:
        part: a file of kind ``text``.
    """
    words = bytes_of(part).decode("utf-8", errors="replace")
    return f'<file name="{part.name}">\n{words}\n</file>' if part.name else words


def label(part: MediaPart) -> str:
    """The file in a few words for people: kind, name and type."""
    return " ".join(word for word in (part.media, part.name, f"({part.media_type})") if word)


def absent(part: MediaPart) -> str:
    """What a model is told of a file in its history that it cannot be given."""
    return f"[{label(part)}: not shown, because this model cannot read it]"


def readable(part: MediaPart, request: ModelRequest, carries: Carries) -> bool:
    """Whether the model reads files of this kind, and the content can get there.

    Args:
        part: the file.
        request: what it is sent with.
        carries: what the wire format can do.
    """
    return part.media in request.profile.media and carries(part)


def is_public(url: str) -> bool:
    """Whether an address means the same to everybody: one of a provider's own buckets or files does not.

    Args:
        url: of a file.
    """
    return url.lower().startswith(("https://", "http://")) and not url.lower().startswith(_OWN_PLACES)


def given_parts(message: Message, request: ModelRequest) -> tuple[Part, ...]:
    """What the user gave, as far as it can be given here: of a file that another provider has the model is told.

    Args:
        message: a user's.
        request: what it is sent with.
    """
    if not _is_foreign(message, request):
        return message.parts
    return tuple(TextPart(text=absent(part)) if _is_bound(part) else part for part in message.parts)


def _is_foreign(message: Message, request: ModelRequest) -> bool:
    return message.origin is not None and not message.origin.shares_state_with(request.target)


def _is_bound(part: Part) -> TypeGuard[MediaPart]:
    return isinstance(part, MediaPart) and part.file_id is not None


def refuse_unreadable(
    request: ModelRequest, carries: Carries, takes: Callable[[OpaquePart], bool] = lambda _: False
) -> None:
    """Refuse a question with a file that would not reach the model; of earlier ones it is merely told (`absent`).

    Args:
        request: what is to be sent.
        carries: what the wire format can do.
        takes: whether it takes a block that a user gives as it stands.

    Raises:
        UnsupportedFeatureError: names the file and what could be done.
    """
    newest = request.messages[-1] if request.messages else None
    if newest is None or newest.role != "user":
        return
    for part in newest.parts:
        if isinstance(part, OpaquePart) and not takes(part):
            msg = f"{request.target.provider} takes no {part.payload:.60} from a user; say it in words, or as a file"
            raise UnsupportedFeatureError(msg)
        foreign = _is_bound(part) and _is_foreign(newest, request)
        if not isinstance(part, MediaPart) or (readable(part, request, carries) and not foreign):
            continue
        if part.media not in request.profile.media:
            kinds = ", ".join(request.profile.media) or "no files"
            remedy = f"it reads {kinds}; use a model that reads this kind, or say what it does in profiles="
        elif part.url is not None:
            remedy = 'it cannot be given by its address; attach it with AttachmentPolicy(urls="fetch"), or its bytes'
        elif part.file_id is not None:
            remedy = "a file id is valid at the provider that gave it only; attach the file's bytes"
        else:
            remedy = "convert it to a type that this provider takes"
        msg = f"{request.target.provider}/{request.model} cannot be given {label(part)}: {remedy}"
        raise UnsupportedFeatureError(msg)
