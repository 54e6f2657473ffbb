"""Texts that many turns refer to by digest: written once an owner, and not even looked for while they are known."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from nodellm_orm.domain.jsontext import encode
from nodellm_orm.store.absent import insert_absent
from nodellm_orm.store.entries import send

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine, Table

    from nodellm_orm.store.access import Access

_REMEMBERED: Final = 8192
"""Texts an engine; then all are forgotten and looked for again."""
_BELIEVED: Final = 300.0
"""Seconds after which a text is written again if it is missing: somebody may have deleted it."""

_Key = tuple[str, str | None, str]
_known: WeakKeyDictionary[Engine, dict[_Key, float]] = WeakKeyDictionary()


def digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal.

    Args:
        text: instructions or a tool's schema.
    """
    return hashlib.sha256(encode(text)).hexdigest()


class Texts:
    """The texts of one turn that may not be stored yet.

    Args:
        access: the database.
        table: where texts are kept.
        owner: whose.
        texts: the texts.
    """

    def __init__(self, access: Access, table: Table, owner: str | None, texts: Iterable[str]) -> None:
        """Leave out what is known to be stored."""
        self._access = access
        self._table = table
        self._owner = owner
        known = _known.get(access.engine, {})
        limit = time.monotonic() - _BELIEVED
        by_digest = {digest(text): text for text in texts}
        # Sorted: two transactions that write the same texts wait for each other in one order.
        self._missing = [
            (key, by_digest[key]) for key in sorted(by_digest) if known.get(self._key(key), limit) <= limit
        ]

    def _key(self, sha256: str) -> _Key:
        return self._table.fullname, self._owner, sha256

    def write(self, connection: Connection) -> None:
        """Write those that are missing, in the transaction of the turn that refers to them."""
        rows = [{"owner": self._owner, "sha256": key, "text": text} for key, text in self._missing]
        if rows:
            send(connection, insert_absent(connection.dialect.name, self._table), rows)

    def remember(self) -> None:
        """They are committed: do not write them again."""
        if not self._missing or not self._access.durable:
            return
        known = _known.setdefault(self._access.engine, {})
        if len(known) + len(self._missing) > _REMEMBERED:
            known.clear()
        now = time.monotonic()
        known.update((self._key(key), now) for key, _ in self._missing)
