"""The place where a page ends, as text that its reader hands back."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from nodellm_orm.ports.refused import no_cursor
from nodellm_orm.search.statements import Place

_MOST = 2**63 - 1


def encode_place(place: Place) -> str:
    """A place as text that says nothing to its holder.

    Args:
        place: the last message of a page.
    """
    written = f"{place.created_at.isoformat()} {place.chat_id} {place.position}"
    return base64.urlsafe_b64encode(written.encode()).decode()


def decode_place(cursor: str) -> Place:
    """Read what `encode_place` wrote.

    Args:
        cursor: as handed back.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        created_at, chat_id, position = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split(" ")
        place = Place(datetime.fromisoformat(created_at), UUID(chat_id), int(position))
    except (ValueError, binascii.Error):
        raise no_cursor() from None
    if place.created_at.utcoffset() is None or not 0 <= place.position <= _MOST:
        raise no_cursor()
    return place
