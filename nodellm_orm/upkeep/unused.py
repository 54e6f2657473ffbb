"""Texts that no turn refers to any more: found by reading the turns, because a turn names them among its settings.

To count their uses with every turn and every deletion would cost each of them more than a purge now and then. A text
that a turn has brought lately is left alone: a process that knows it to be stored need not have written it again.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, or_, select

from nodellm_orm.errors import EncryptionError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.texts import BELIEVED, forget
from nodellm_orm.upkeep.due import read_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Tables

    Text = tuple[str | None, str]
    """Owner and digest."""

log = logging.getLogger("nodellm_orm")

_RECENT: Final = timedelta(seconds=4 * BELIEVED)
_TEXTS: Final = 50_000
"""Texts that are looked for in one reading of the turns."""
_TURNS: Final = 1000
"""Turns that are read at a time."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


async def sweep_texts(access: Access, tables: Tables, owner: Owner, batch: int, *, erased: bool) -> AsyncIterator[int]:
    """Delete texts that no turn of their owner refers to; gives the number of each transaction.

    Args:
        access: the database.
        tables: the records' tables.
        owner: whose.
        batch: texts a transaction.
        erased: also those that were in use a moment ago, because their owner is erased.
    """
    before = await access.read(read_now) - (timedelta(0) if erased else _RECENT)
    after: Text | None = None
    while True:
        page = await access.read(partial(_stored, tables=tables, owner=owner, before=before, after=after))
        if not page:
            return
        try:
            unused = await _unused(access, tables, owner, set(page))
        except EncryptionError as error:
            log.warning("texts that no turn refers to are kept, because the turns cannot be read: %s", error)
            return
        for whose in sorted({each for each, _ in unused}, key=lambda each: each or ""):
            digests = sorted(digest for each, digest in unused if each == whose)
            for start in range(0, len(digests), batch):
                some = digests[start : start + batch]
                yield await access.run(partial(_remove, tables=tables, owner=whose, digests=some, before=before))
        if unused:
            forget(access.engine)
        after = page[-1]


def _stored(connection: Connection, tables: Tables, owner: Owner, before: datetime, after: Text | None) -> list[Text]:
    texts = tables.texts
    found = select(texts.c.owner, texts.c.sha256).where(texts.c.created_at < before)
    if owner is not ANY_OWNER:
        found = found.where(texts.c.owner == owner)
    if after is not None:
        beyond = and_(texts.c.owner == after[0], texts.c.sha256 > after[1])
        found = found.where(beyond if owner is not ANY_OWNER else or_(texts.c.owner > after[0], beyond))
    rows = connection.execute(found.order_by(texts.c.owner, texts.c.sha256).limit(_TEXTS))
    return [(row.owner, row.sha256) for row in rows]


async def _unused(access: Access, tables: Tables, owner: Owner, texts: set[Text]) -> set[Text]:
    """Those of the texts that are named by no turn; the turns are read until all others have been found."""
    after: tuple[UUID, UUID] | None = None
    while texts:
        rows = await access.read(partial(_turns, tables=tables, owner=owner, after=after))
        for row in rows:
            said = tables.sealer.opened_value("turns", "settings", row.settings, owner=row.owner, key=row.id)
            texts -= {(row.owner, digest) for digest in _DIGEST.findall(said)}
        if len(rows) < _TURNS:
            break
        after = rows[-1].chat_id, rows[-1].id
    return texts


def _turns(connection: Connection, tables: Tables, owner: Owner, after: tuple[UUID, UUID] | None) -> Sequence[Any]:
    chats, turns = tables.chats, tables.turns
    found = select(turns.c.chat_id, turns.c.id, turns.c.settings, chats.c.owner).join_from(
        turns, chats, turns.c.chat_id == chats.c.id
    )
    if owner is not ANY_OWNER:
        found = found.where(chats.c.owner.is_not_distinct_from(owner))
    if after is not None:
        chat_id, key = turns.c.chat_id, turns.c.id
        found = found.where(or_(chat_id > after[0], and_(chat_id == after[0], key > after[1])))
    return connection.execute(found.order_by(turns.c.chat_id, turns.c.id).limit(_TURNS)).all()


def _remove(connection: Connection, tables: Tables, owner: str | None, digests: Sequence[str], before: datetime) -> int:
    texts = tables.texts
    unused = and_(texts.c.owner == owner, texts.c.sha256.in_(digests), texts.c.created_at < before)
    return connection.execute(delete(texts).where(unused)).rowcount
