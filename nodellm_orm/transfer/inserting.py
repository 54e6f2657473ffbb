"""Transactions of an import: one chat with everything in it, or a batch of ledger rows."""

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
from nodellm_orm.transfer.layout import CONTENTS
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
    """One transaction: a chat that is not there yet; it may be run again.

    Args:
        target: where to.
        segment: its lines.
    """

    target: Target
    segment: Segment
    rows: Counter[str] = field(default_factory=Counter)
    kept: int = 0

    def __call__(self, connection: Connection) -> Counter[str]:
        """Write all rows; the chat's own first, so that whoever writes the same chat waits."""
        self.rows, self.kept = Counter(), 0
        batch: list[Fields] = []
        current: TableLayout | None = None
        weight = 0
        for layout, row in stored_rows(self.target.layout, self.segment.spool):
            if current is not None and (layout is not current or len(batch) >= BATCH or weight > _WEIGHT):
                self._send(connection, current, batch)
                batch, weight = [], 0
            current = layout
            batch.append(row)
            weight += sum(len(value) for value in row.values() if isinstance(value, str | bytes))
        if current is not None:
            self._send(connection, current, batch)
        return self.rows

    def confirm(self, connection: Connection) -> Counter[str] | None:
        """What was written, if it was."""
        there = connection.execute(_there(self.target.tables.chats), {"b_ids": [self.segment.id]}).first()
        return None if there is None else self.rows

    def _send(self, connection: Connection, layout: TableLayout, rows: list[Fields]) -> None:
        if layout.suffix in CONTENTS:
            send_contents(connection, self.target, layout, rows, used=True)
        elif layout.suffix == "requests":
            new, kept = new_requests(connection, self.target, rows)
            send_rows(connection, self.target, layout, new, self.segment.owner)
            self.rows["requests"] += len(new)
            self.kept += kept
        else:
            send_rows(connection, self.target, layout, rows, self.segment.owner)
            self.rows[layout.suffix] += len(rows)


def send_rows(
    connection: Connection, target: Target, layout: TableLayout, rows: Sequence[Fields], owner: str | None
) -> None:
    """New rows, encrypted where they are to be, for their new owner.

    Args:
        connection: in a transaction.
        target: where to.
        layout: their table.
        rows: as in the file.
        owner: whose chat it is in the file; of a row with an owner of its own, that one.
    """
    suffix = layout.suffix
    ready = [_for_owner(target, row) for row in rows]
    if suffix == "chats":
        ready = [_let_go(row) for row in ready]
    if suffix != "requests":
        ready = target.tables.sealer.sealed_rows(suffix, ready, owner=target.owner_of(owner))
    send(connection, insert_plain(layout.table), ready)


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
        send_rows(connection, self.target, self.target.layout["requests"], new, None)
        return len(new), kept


@dataclass(slots=True, kw_only=True)
class ContentsInsertion:
    """One transaction: what a chat that stays as it is brings for chats that follow in the file.

    Args:
        target: where to.
        segment: the chat's lines.
    """

    target: Target
    segment: Segment

    def __call__(self, connection: Connection) -> None:
        """Write what is not there."""
        for layout, row in stored_rows(self.target.layout, self.segment.spool):
            if layout.suffix in CONTENTS:
                send_contents(connection, self.target, layout, [row], used=False)


def chat_owner(connection: Connection, tables: Tables, chat_id: UUID) -> Mapping[Any, Any] | None:
    """Whose chat it is that has an id, also one that is being deleted; ``None``: there is none.

    Args:
        connection: where.
        tables: the records' tables.
        chat_id: the id.
    """
    return connection.execute(_there(tables.chats), {"b_ids": [chat_id]}).mappings().first()


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _among(table: Table) -> Any:
    return table.c.id.in_(bindparam("b_ids", expanding=True, type_=table.c.id.type))


@lru_cache(maxsize=CACHED)
def _there(chats: Table) -> Select[Any]:
    return select(chats.c.owner, chats.c.active_turn_id).where(_among(chats))


@lru_cache(maxsize=CACHED)
def _requests(requests: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(*(requests.c[name] for name in names)).where(_among(requests))
