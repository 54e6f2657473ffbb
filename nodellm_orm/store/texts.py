"""Texts that many turns refer to by digest: written once an owner, and not even looked for while they are known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.store.absent import insert_or_date
from nodellm_orm.store.entries import send

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.mapping import Row

_REMEMBERED: Final = 8192
"""Texts an engine; then all are forgotten and looked for again."""
BELIEVED: Final = 300.0
"""Seconds after which a text is written again, or dated anew: what was not dated for longer may be deleted."""

_Key = tuple[str, str | None, str]
_known: WeakKeyDictionary[Engine, dict[_Key, float]] = WeakKeyDictionary()


def forget(engine: Engine) -> None:
    """Texts of a database were deleted: look for all of them again.

    Args:
        engine: the database's.
    """
    _known.pop(engine, None)


class Texts:
    """The texts of one turn that may not be stored yet.

    Args:
        access: the database.
        tables: the records' tables.
        owner: whose.
        texts: the texts.
    """

    def __init__(self, access: Access, tables: Tables, owner: str | None, texts: Iterable[str]) -> None:
        """Leave out what is known to be stored."""
        self._access = access
        self._table = tables.texts
        self._sealer = tables.sealer
        self._owner = owner
        known = _known.get(access.engine, {})
        limit = time.monotonic() - BELIEVED
        by_digest = {digest_of_text(text): text for text in texts}
        # Sorted: two transactions that write the same texts wait for each other in one order.
        self._missing = [
            (key, by_digest[key]) for key in sorted(by_digest) if known.get(self._key(key), limit) <= limit
        ]

    def _key(self, sha256: str) -> _Key:
        return self._table.fullname, self._owner, sha256

    def write(self, connection: Connection) -> None:
        """Write those that are missing, in the transaction of the turn that refers to them."""
        rows: list[Row] = [{"owner": self._owner, "sha256": key, "text": text} for key, text in self._missing]
        if rows:
            sealed = self._sealer.sealed_rows("texts", rows, owner=self._owner, key="sha256")
            send(connection, insert_or_date(connection.dialect.name, self._table), sealed)

    def remember(self) -> None:
        """They are committed: do not write them again."""
        if not self._missing or not self._access.durable:
            return
        known = _known.setdefault(self._access.engine, {})
        if len(known) + len(self._missing) > _REMEMBERED:
            known.clear()
        now = time.monotonic()
        known.update((self._key(key), now) for key, _ in self._missing)
