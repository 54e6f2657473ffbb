"""Encrypting anew what other keys, or none, have encrypted, while the database is in use.

No row is locked while it is worked on: it is read, encrypted with the current key, and written only if it still holds
what was read. Whoever wrote in between wins, and what he wrote is looked at in the next run.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, LargeBinary, Text, and_, bindparam, func, or_, select, type_coerce, update

from nodellm_orm.errors import ConfigurationError, EncryptionError
from nodellm_orm.store.access import open_access
from nodellm_orm.store.guard import CACHED, executed, there
from nodellm_orm.store.records import chosen_records
from nodellm_orm.store.sealed import HEAD_CHARS, Sealed, sealed_bytes, sealed_text
from nodellm_orm.store.sealing import CONTENT
from nodellm_orm.store.sizes import check_sizes
from nodellm_orm.store.types import LongBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, Update
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.encryption import Encryption
    from nodellm_orm.store.sealing import KeySealer

_BATCH: Final = 100
_LARGEST_BATCH: Final = 10_000
_UNREADABLE: Final = 100
"""Unreadable values that a report names."""
_END: Final = "$"
"""Stands behind both sides of a comparison: MySQL takes texts for equal that differ in spaces at the end."""
_PLACE: Final[Mapping[str, tuple[str, ...]]] = {
    "chats": ("id",),
    "messages": ("chat_id", "position"),
    "blobs": ("owner", "sha256"),
    "texts": ("owner", "sha256"),
}
"""Primary keys, by which the rows of a table are gone through; of the others it is chat and id."""
_BY_DIGEST: Final = frozenset({"blobs", "texts"})
"""Tables whose rows belong to an owner, and to no chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableValue:
    """A value that none of the keys opens."""

    table: str
    column: str
    id: UUID | str
    """The row's id; the digest of a file or text."""
    key: str | None
    """Name of the key it is encrypted with."""
    reason: str
    """What is wrong, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReport:
    """What a rotation has done, and what it has left."""

    rotated: int = 0
    """Rows that were encrypted anew."""
    skipped: int = 0
    """Rows that somebody changed or deleted meanwhile."""
    left: int | None = None
    """Rows that are not encrypted with the current key; ``None`` while the rotation goes on. At 0, once every process
    writes with the current key, the other keys are needed no more."""
    unreadable: tuple[UnreadableValue, ...] = ()
    """Values that could not be read and were left as they are; the first hundred."""


async def rotate_keys(
    session: AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession,
    encryption: Encryption,
    *,
    batch: int = _BATCH,
    progress: Callable[[RotationReport], object] | None = None,
    records: Records | None = None,
) -> RotationReport:
    """Encrypt with the current key whatever is encrypted with another one, or not at all, while turns go on.

    It can be broken off and run again at any time; what is done is not done again.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        encryption: the new key as ``current``, and the old ones beside it.
        batch: rows a transaction at most, up to 10,000; files go one by one.
        progress: told after every transaction; may be async.
        records: own records.

    Raises:
        ConfigurationError: the batch has no room, or ``encryption`` is none.

    Example:
        >>> report = await rotate_keys(engine, Encryption(keys={"2026-11": new, "2025-11": old}, current="2026-11"))
        >>> report.left
        0
    """
    whole: object = batch
    if isinstance(whole, bool) or not isinstance(whole, int) or not 1 <= whole <= _LARGEST_BATCH:
        msg = f"batch={batch!r:.100} is no number of rows from 1 to {_LARGEST_BATCH}; leave it out, or give 1 or more"
        raise ConfigurationError(msg)
    if progress is not None and not callable(progress):
        msg = f"progress is a function that is called with what was done so far, not {type(progress).__name__}"
        raise ConfigurationError(msg)
    chosen = chosen_records(records).encrypted(encryption)
    access = open_access(session, chosen)
    await access.settle()
    report = RotationReport()
    for name in CONTENT:
        walk = Walk(access, chosen.tables, encryption.sealer, name, 1 if name == "blobs" else batch)
        while changes := await walk.read():
            report = _joined(report, await walk.write(changes))
            if progress is not None:
                await _awaited(progress(report))
    tables, current = chosen.tables, encryption.current
    return replace(report, left=await access.read(lambda connection: _count(connection, tables, current)))


async def _awaited(result: object) -> None:
    if inspect.isawaitable(result):
        await result


def _joined(one: RotationReport, other: RotationReport) -> RotationReport:
    return RotationReport(
        rotated=one.rotated + other.rotated,
        skipped=one.skipped + other.skipped,
        unreadable=(*one.unreadable, *other.unreadable)[:_UNREADABLE],
    )


def _count(connection: Connection, tables: Tables, current: str) -> int:
    marks = _marks(current)
    return sum(connection.scalar(_left(tables.chats, getattr(tables, name), name), marks) or 0 for name in CONTENT)


class Walk:
    """One table from its first row to its last, a batch at a time: read, then written.

    Args:
        access: the database.
        tables: the records' tables.
        sealer: encrypts and decrypts.
        name: the table's name without its prefix.
        batch: rows at a time.
    """

    def __init__(self, access: Access, tables: Tables, sealer: KeySealer, name: str, batch: int) -> None:
        """Begin before the first row."""
        self._access = access
        self._sealer = sealer
        self._name = name
        self._chats = tables.chats
        self._table: Table = getattr(tables, name)
        self._batch = batch
        self._after: dict[str, Any] = {}

    async def read(self) -> list[Change]:
        """The next rows, encrypted anew in memory; none at the end."""
        statement = _next(self._chats, self._table, self._name, begun=bool(self._after))
        wanted = {**_marks(self._sealer.current), **self._after, "b_limit": self._batch}
        rows = await self._access.read(lambda connection: connection.execute(statement, wanted).mappings().all())
        if rows:
            self._after = {f"b_after_{part}": rows[-1][part] for part in _place(self._name)}
        return [self._change(row) for row in rows]

    async def write(self, changes: Sequence[Change]) -> RotationReport:
        """Store them in one transaction, each unless its row was changed since.

        Args:
            changes: what `read` gave.
        """
        work = [change for change in changes if change.new]
        rotated = await self._access.run(lambda connection: self._write(connection, work)) if work else 0
        unreadable = tuple(value for change in changes for value in change.unreadable)
        return RotationReport(rotated=rotated, skipped=len(work) - rotated, unreadable=unreadable)

    def _change(self, row: RowMapping) -> Change:
        key = row["sha256" if self._name in _BY_DIGEST else "id"]
        change = Change(at={f"b_at_{part}": row[part] for part in _place(self._name)})
        for column in CONTENT[self._name]:
            raw = row[column]
            value = self._table.c[column].type.process_result_value(raw, None)  # type: ignore[attr-defined]  # ours
            sealed = isinstance(value, Sealed)
            if value is None or (sealed and value.key == self._sealer.current):
                continue
            try:
                plain = self._sealer.opened_value(self._name, column, value, owner=row["owner"], key=key)
            except EncryptionError as error:
                name = value.key if sealed else None
                bad = UnreadableValue(table=self._name, column=column, id=key, key=name, reason=str(error))
                change.unreadable.append(bad)
                continue
            change.new[column] = self._sealer.sealed_value(self._name, column, plain, owner=row["owner"], key=key)
            # No two sealed values begin alike, and files are named by their content.
            change.old[column] = raw[:HEAD_CHARS] if sealed or isinstance(raw, bytes) else raw + _END
            change.whole.append((column, not (sealed or isinstance(raw, bytes))))
        return change

    def _write(self, connection: Connection, work: Sequence[Change]) -> int:
        rows = [change.parameters for change in work]
        check_sizes(connection, rows)
        statements = [_replace(self._table, self._name, tuple(change.whole)) for change in work]
        return sum(executed(connection, *pair) for pair in zip(statements, rows, strict=True))


@dataclass(slots=True, kw_only=True)
class Change:
    """One row about to be encrypted anew."""

    at: dict[str, Any]
    """Where it is."""
    new: dict[str, Sealed] = field(default_factory=dict)
    old: dict[str, str | bytes] = field(default_factory=dict)
    """What its columns must still hold, or begin with."""
    whole: list[tuple[str, bool]] = field(default_factory=list)
    """The columns, and whether they are compared as a whole."""
    unreadable: list[UnreadableValue] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the update."""
        new = {f"b_new_{column}": value for column, value in self.new.items()}
        return {**self.at, **new, **{f"b_old_{column}": value for column, value in self.old.items()}}


def _place(name: str) -> tuple[str, ...]:
    return _PLACE.get(name, ("chat_id", "id"))


def _marks(current: str) -> dict[str, Any]:
    """What values begin with that are encrypted with the current key."""
    text, data = sealed_text(current, b"").raw, sealed_bytes(current, b"").raw
    return {"b_text": text, "b_text_length": len(text), "b_bytes": data, "b_bytes_length": len(data)}


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _source(chats: Table, table: Table, name: str) -> tuple[Any, ColumnElement[Any], list[ColumnElement[bool]]]:
    """Where rows come from, whose they are, and which there are: not those of chats that are being deleted."""
    if name in _BY_DIGEST:
        return table, table.c.owner, []
    if name == "chats":
        return chats, chats.c.owner, [there(chats)]
    return table.join(chats, chats.c.id == table.c.chat_id), chats.c.owner, [there(chats)]


def _raw(table: Table, column: str) -> ColumnElement[Any]:
    """A column as it stands."""
    kind = LargeBinary() if isinstance(table.c[column].type, LongBlob) else Text()
    return type_coerce(table.c[column], kind)


def _outdated(table: Table, name: str) -> ColumnElement[bool]:
    """Whether a row holds what the current key has not encrypted."""

    def differs(column: str) -> ColumnElement[bool]:
        raw = _raw(table, column)
        if isinstance(table.c[column].type, LongBlob):
            mark = bindparam("b_bytes", type_=LongBlob())
            return func.substr(raw, 1, bindparam("b_bytes_length", type_=Integer())) != mark
        text_mark = bindparam("b_text", type_=Text())
        return func.substr(raw, 1, bindparam("b_text_length", type_=Integer())) != text_mark

    return or_(*(differs(column) for column in CONTENT[name]))


@lru_cache(maxsize=CACHED)
def _next(chats: Table, table: Table, name: str, *, begun: bool) -> Select[Any]:
    source, owner, conditions = _source(chats, table, name)
    place = [table.c[part] for part in _place(name)]
    columns = [*place, owner.label("owner")] if "owner" not in _place(name) else place
    if "id" not in _place(name) and "id" in table.c:
        columns = [*columns, table.c.id]
    if begun:
        values = [bindparam(f"b_after_{column.name}", type_=column.type) for column in place]
        behind = place[-1] > values[-1]
        conditions.append(behind if len(place) == 1 else or_(place[0] > values[0], and_(place[0] == values[0], behind)))
    return (
        select(*columns, *(_raw(table, column).label(column) for column in CONTENT[name]))
        .select_from(source)
        .where(*conditions, _outdated(table, name))
        .order_by(*place)
        .limit(bindparam("b_limit"))
    )


@lru_cache(maxsize=CACHED)
def _left(chats: Table, table: Table, name: str) -> Select[Any]:
    source, _, conditions = _source(chats, table, name)
    return select(func.count()).select_from(source).where(*conditions, _outdated(table, name))


@lru_cache(maxsize=CACHED)
def _replace(table: Table, name: str, columns: tuple[tuple[str, bool], ...]) -> Update:
    at = [table.c[part] == bindparam(f"b_at_{part}", type_=table.c[part].type) for part in _place(name)]
    same: list[ColumnElement[bool]] = []
    for column, whole in columns:
        raw = _raw(table, column)
        kind: Any = LongBlob() if isinstance(table.c[column].type, LongBlob) else Text()
        old: ColumnElement[Any] = bindparam(f"b_old_{column}", type_=kind)
        same.append((raw.concat(_END) if whole else func.substr(raw, 1, HEAD_CHARS)) == old)
    new = {column: bindparam(f"b_new_{column}", type_=table.c[column].type) for column, _ in columns}
    return update(table).where(*at, *same).values(new)
