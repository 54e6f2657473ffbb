"""Images that a model made, in the member ``images`` of its message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.events import PartReceived
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.media import read_data_url
from nodellm_orm.domain.mediatypes import kind_of
from nodellm_orm.domain.parts import MediaPart
from nodellm_orm.errors import AttachmentError
from nodellm_orm.wire.values import object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event

PICTURES_FIELD: Final = "images"
_ADDRESS: Final = "image_url"
_KNOWN: Final = frozenset({"type", "index", _ADDRESS})


def pictures(items: list[object], unread: list[object]) -> Iterator[Event]:
    """The images in a message or in a fragment of one; one that comes again is the same part.

    Args:
        items: the member ``images``, parsed verbatim.
        unread: takes those whose content is not here.
    """
    for item in items:
        part = _picture(object_of(item))
        if part is None:
            unread.append(item)
        else:
            yield PartReceived(index=f"image:{part.sha256}", part=part)


def _picture(members: Mapping[str, object]) -> MediaPart | None:
    """An image whose bytes are in its address."""
    address = members.get(_ADDRESS)
    try:
        data, media_type = read_data_url(text_of(address) or text_of(object_of(address).get("url")))
    except AttachmentError:
        return None
    if not data or not media_type:
        return None
    extra = Pairs((name, value) for name, value in members.items() if name not in _KNOWN and not says_nothing(value))
    return MediaPart(
        media=kind_of(media_type),
        media_type=media_type,
        sha256=digest_of(data),
        extra=dumps(extra) if extra else None,
        data=data,
    )
