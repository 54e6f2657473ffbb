"""Transactions of an import: chats with everything in them, or a batch of ledger rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, select

from nodellm_orm.errors import ChatError
from nodellm_orm.store.absent import insert_absent, insert_or_date
from nodellm_orm.store.deletion import LONG_AGO
from nodellm_orm.store.entries import insert_plain, send
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.stale import mark
from nodellm_orm.transfer.layout import CONTENTS, TABLES
from nodellm_orm.transfer.segments import stored_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table

    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.layout import Fields, Layout, TableLayout
    from nodellm_orm.transfer.segments import Segment

BATCH: Final = 250
"""Rows that are sent at once."""
_WEIGHT: Final = 1 << 22
"""Characters or bytes, likewise."""
UNPREPARED: Final = frozenset({*CONTENTS, "requests"})
"""Tables whose rows are compared with what is there before they are made ready."""


class AsInFile:
    """The type of `AS_IN_FILE`."""

    def __repr__(self) -> str:
        """What it stands for."""
        return "<as in the file>"


AS_IN_FILE: Final = AsInFile()
"""No owner was named: each chat is imported for the one that the file names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where rows go.

    Args:
        tables: the records' tables.
        layout: the file's columns.
        owner: whose they become.
        keep: whether a ledger row that is there with something else in it stays, instead of being an error.
    """

    tables: Tables
    layout: Layout
    owner: str | AsInFile | None
    keep: bool

    def owner_of(self, owner: str | None) -> str | None:
        """Whose a row becomes.

        Args:
            owner: whose it is in the file.
        """
        return owner if isinstance(self.owner, AsInFile) else self.owner


@dataclass(slots=True, kw_only=True)
class ChatInsertion:
    """One transaction: chats that are not there yet; it may be run again.

    Args:
        target: where to.
        segments: their lines.
    """

    target: Target
    segments: Sequence[Segment]
    rows: Counter[str] = field(default_factory=Counter)
    kept: int = 0

    def __call__(self, connection: Connection) -> Counter[str]:
        """Write all rows; a chat's own before those in it, so that whoever writes the same chat waits."""
        self.rows, self.kept = Counter(), 0
        waiting: dict[str, list[Fields]] = {suffix: [] for suffix in TABLES}
        weight = 0
        for segment in self.segments:
            for layout, row in stored_rows(self.target.layout, segment.spool):
                rows = waiting[layout.suffix]
                rows.append(row if layout.suffix in UNPREPARED else ready(self.target, layout, row, segment.owner))
                weight += _weight(row)
                if len(rows) >= BATCH or weight > _WEIGHT:
                    self._send(connection, waiting)
                    weight = 0
        self._send(connection, waiting)
        return self.rows

    def confirm(self, connection: Connection) -> Counter[str] | None:
        """What was written, if it was."""
        ids = [segment.id for segment in self.segments]
        return self.rows if len(chat_owners(connection, self.target.tables, ids)) == len(ids) else None

    def _send(self, connection: Connection, waiting: Mapping[str, list[Fields]]) -> None:
        """What waits, table after table: what others refer to comes first."""
        for suffix, rows in waiting.items():
            layout = self.target.layout[suffix]
            if suffix in CONTENTS:
                send_contents(connection, self.target, layout, rows, used=True)
            elif suffix == "requests":
                new, kept = new_requests(connection, self.target, rows)
                send_requests(connection, self.target, new)
                self.rows[suffix] += len(new)
                self.kept += kept
            else:
                send(connection, insert_plain(layout.table), rows)
                self.rows[suffix] += len(rows)
            rows.clear()


def _weight(row: Fields) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def ready(target: Target, layout: TableLayout, row: Fields, owner: str | None) -> Fields:
    """A row of a chat as it is to be written, encrypted where it is to be, for its new owner.

    Args:
        target: where to.
        layout: its table.
        row: as in the file.
        owner: whose chat it is in the file.
    """
    suffix = layout.suffix
    row = _for_owner(target, row)
    if suffix == "chats":
        row = _let_go(row)
    return target.tables.sealer.sealed(suffix, row, owner=target.owner_of(owner), key=row["id"])


def send_requests(connection: Connection, target: Target, rows: Sequence[Fields]) -> None:
    """New rows of the ledger, for their new owner; the hours that they belong to are marked.

    Args:
        connection: in a transaction.
        target: where to.
        rows: as in the file.
    """
    send(connection, insert_plain(target.tables.requests), [_for_owner(target, row) for row in rows])
    mark(connection, target.tables, [row["created_at"] for row in rows])


def _for_owner(target: Target, row: Fields) -> Fields:
    return {**row, "owner": target.owner_of(row["owner"])} if "owner" in row else row


def _let_go(row: Fields) -> Fields:
    """A chat's row without a worker; of a turn that runs, a lease that is over: whoever wants it has it at once."""
    return {**row, "lease_owner": None, "lease_until": None if row["active_turn_id"] is None else LONG_AGO}


def send_contents(
    connection: Connection, target: Target, layout: TableLayout, rows: Sequence[Fields], *, used: bool
) -> None:
    """Files and texts, unless their owner has them already.

    Args:
        connection: in a transaction.
        target: where to.
        layout: their table.
        rows: as in the file, files with their bytes.
        used: whether what is there already is held for what is being written: nobody may delete it meanwhile.
    """
    ready = [_for_owner(target, row) for row in rows]
    sealer, suffix, dialect = target.tables.sealer, layout.suffix, connection.dialect.name
    ready = [sealer.sealed(suffix, row, owner=row["owner"], key=row["sha256"]) for row in ready]
    if suffix == "texts":
        statement = (insert_or_date if used else insert_absent)(dialect, layout.table)
    else:
        statement = insert_absent(dialect, layout.table, dated=False)
    send(connection, statement, ready)


def new_requests(connection: Connection, target: Target, rows: Sequence[Fields]) -> tuple[list[Fields], int]:
    """Those ledger rows that are not there yet, and the number of those that are there and differ.

    The ledger outlives its chats: of a chat that was deleted here, it is there already.

    Args:
        connection: in a transaction.
        target: where to.
        rows: as in the file.

    Raises:
        ChatError: a row is there with something else in it.
    """
    if not rows:
        return [], 0
    layout = target.layout["requests"]
    ids = [row["id"] for row in rows]
    found = connection.execute(_requests(layout.table, layout.names), {"b_ids": ids}).mappings()
    stored = {row["id"]: row for row in found}
    new: list[Fields] = []
    kept = 0
    for row in rows:
        there = stored.get(row["id"])
        if there is None:
            new.append(row)
        elif layout.line({**there}) != layout.line(_for_owner(target, row)):
            if not target.keep:
                msg = (
                    f"request {row['id']} is in {layout.table.name} already, with something else in its row; "
                    'on_conflict="skip" leaves such rows as they are'
                )
                raise ChatError(msg)
            kept += 1
    return new, kept


@dataclass(slots=True, kw_only=True)
class LedgerInsertion:
    """One transaction: a batch of ledger rows without a chat; it may be run again.

    Args:
        target: where to.
        rows: as in the file.
    """

    target: Target
    rows: Sequence[Fields]

    def __call__(self, connection: Connection) -> tuple[int, int]:
        """Write those that are not there; gives their number, and that of those that differ."""
        new, kept = new_requests(connection, self.target, self.rows)
        send_requests(connection, self.target, new)
        return len(new), kept


@dataclass(slots=True, kw_only=True)
class ContentsInsertion:
    """One transaction: what chats that stay as they are bring for chats that follow in the file.

    Args:
        target: where to.
        segments: the chats' lines.
    """

    target: Target
    segments: Sequence[Segment]

    def __call__(self, connection: Connection) -> None:
        """Write what is not there."""
        waiting: dict[str, list[Fields]] = {suffix: [] for suffix in CONTENTS}
        weight = 0
        for segment in self.segments:
            for layout, row in stored_rows(self.target.layout, segment.spool):
                if layout.suffix in CONTENTS:
                    waiting[layout.suffix].append(row)
                    weight += _weight(row)
                    if weight > _WEIGHT:
                        self._send(connection, waiting)
                        weight = 0
        self._send(connection, waiting)

    def _send(self, connection: Connection, waiting: Mapping[str, list[Fields]]) -> None:
        for suffix, rows in waiting.items():
            send_contents(connection, self.target, self.target.layout[suffix], rows, used=False)
            rows.clear()


def chat_owners(connection: Connection, tables: Tables, ids: Sequence[UUID]) -> dict[UUID, str | None]:
    """Which of some chats are there, also those that are being deleted, and whose they are.

    Args:
        connection: where.
        tables: the records' tables.
        ids: the chats.
    """
    rows = connection.execute(_there(tables.chats), {"b_ids": list(ids)})
    return {row.id: row.owner for row in rows}


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _among(table: Table) -> Any:
    return table.c.id.in_(bindparam("b_ids", expanding=True, type_=table.c.id.type))


@lru_cache(maxsize=CACHED)
def _there(chats: Table) -> Select[Any]:
    return select(chats.c.id, chats.c.owner).where(_among(chats))


@lru_cache(maxsize=CACHED)
def _requests(requests: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(*(requests.c[name] for name in names)).where(_among(requests))
