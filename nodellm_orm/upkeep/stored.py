"""Chats as they are stored, a batch at a time: everything the rules look at, in a constant number of queries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, func, select

from nodellm_orm.errors import EncryptionError, TamperedValueError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.sealed import Sealed
from nodellm_orm.store.sealing import CONTENT
from nodellm_orm.upkeep.digests import texts_named
from nodellm_orm.upkeep.readable import UNREADABLE, columns_of, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables

    Fields = dict[str, Any]
    """A row's values by column."""

CHAT: Final = (
    *("id", "owner", "title", "model", "provider", "api", "instructions", "settings", "metadata"),
    *("parent_chat_id", "fork_position", "active_turn_id", "lease_owner", "lease_until"),
    *("fence", "next_position", "step", "version", "created_at", "updated_at"),
)
TURN: Final = (
    *("chat_id", "id", "position", "status", "reason", "active_slot", "idempotency_key", "request_hash"),
    *("takeovers", "settings", "started_at", "finished_at"),
)
MESSAGE: Final = (
    *("chat_id", "position", "id", "turn_id", "role", "content", "parts", "status", "finish_reason"),
    *("raw_finish_reason", "model", "provider", "api", "endpoint", "created_at", "superseded_at"),
)
CALL: Final = (
    *("chat_id", "id", "turn_id", "message_id", "position", "call_id", "wire_id", "name", "arguments", "status"),
    *("result", "result_message_id", "error", "attempts", "started_at", "finished_at", "decided_by", "decided_at"),
)
THINKING: Final = ("chat_id", "id", "message_id", "position", "text", "signature", "redacted", "opaque", "tokens")
ATTACHMENT: Final = (
    *("chat_id", "id", "message_id", "position", "kind", "media_type", "name", "size", "sha256", "url"),
)
STATE: Final = ("fence", "step", "version", "next_position", "active_turn_id", "updated_at")
"""What changes of a chat's row with everything that is written in the chat."""
_DIGESTS: Final = 500
"""Digests a query, far below every database's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A row with a value that is not what its column holds."""

    table: str
    id: object
    rule: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChat:
    """The rows of one chat, and of what they name by digest."""

    row: Fields
    turns: Sequence[Fields] = ()
    """In order of their positions, as all that follow."""
    messages: Sequence[Fields] = ()
    calls: Sequence[Fields] = ()
    thinking: Sequence[Fields] = ()
    attachments: Sequence[Fields] = ()
    files: Mapping[str, int]
    """Sizes of the contents that are stored for its owner, by digest; -1: it cannot be read."""
    texts: frozenset[str] = frozenset()
    """Digests of the texts that are stored for its owner."""
    troubles: Sequence[Trouble] = ()
    """Values that are not what their columns hold."""
    locked: frozenset[str] = frozenset()
    """Names of keys that some of it is encrypted with and that were not given: none of its content can be compared."""

    @property
    def id(self) -> UUID:
        """The chat's id."""
        key: UUID = self.row["id"]
        return key

    @property
    def deleting(self) -> bool:
        """Whether its deletion has begun: it is nobody's any more."""
        return bool(self.row["active_turn_id"] == self.id)

    @property
    def file_digests(self) -> list[str]:
        """Digests of its files' contents."""
        return sorted({row["sha256"] for row in self.attachments if isinstance(row["sha256"], str)})

    @property
    def text_digests(self) -> list[str]:
        """Digests of the texts that its turns were asked with."""
        return sorted({digest for turn in self.turns for digest in texts_named(turn["settings"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Chats that were read together."""

    chats: Sequence[StoredChat]
    changed: Sequence[UUID]
    """Chats in which something was written meanwhile: what was read of them need not fit together."""


def owned(column: ColumnElement[Any], owner: Owner) -> list[ColumnElement[bool]]:
    """The condition for rows of an owner; the parameter is ``b_owner``.

    Args:
        column: that holds the owner.
        owner: whose.
    """
    return [] if owner is ANY_OWNER else [column.is_not_distinct_from(bindparam("b_owner", type_=column.type))]


def owner_parameters(owner: Owner) -> dict[str, Any]:
    """What `owned` asks for."""
    return {} if owner is ANY_OWNER else {"b_owner": owner}


def count_chats(connection: Connection, tables: Tables, owner: Owner) -> int:
    """How many chats an owner has."""
    counted = select(func.count()).select_from(tables.chats).where(*owned(tables.chats.c.owner, owner))
    return int(connection.execute(counted, owner_parameters(owner)).scalar_one())


def page_of_chats(
    connection: Connection, tables: Tables, owner: Owner, after: UUID | None, limit: int
) -> list[tuple[UUID, int]]:
    """Ids of chats in their order, with the number of messages that each says to have.

    Args:
        connection: where.
        tables: the records' tables.
        owner: whose.
        after: the last id of the page before.
        limit: chats at most.
    """
    statement = _page(tables.chats, any_owner=owner is ANY_OWNER, placed=after is not None)
    place = {} if after is None else {"b_after": after}
    rows = connection.execute(statement, {**owner_parameters(owner), **place, "b_limit": limit})
    return [(row.id, row.next_position if isinstance(row.next_position, int) else 0) for row in rows]


def read_batch(connection: Connection, tables: Tables, ids: Sequence[UUID]) -> Batch:
    """Everything that is stored of chats: nine queries at most, for one and for many.

    The chats' own rows are read first and last: every write of a turn changes them, so that what was read in between
    of a chat whose row is still the same belongs together.

    Args:
        connection: where.
        tables: the records' tables.
        ids: the chats; those that are gone are left out.
    """
    parameters = {"b_ids": list(ids)}
    found = [dict(row) for row in connection.execute(_chats(tables.chats), parameters).mappings()]
    opener = Opener(tables, {row["id"]: row["owner"] for row in found})
    chats = {row["id"]: opener.opened("chats", row["id"], row) for row in found}

    def rows(suffix: str, names: tuple[str, ...]) -> Mapping[UUID, list[Fields]]:
        by_chat: defaultdict[UUID, list[Fields]] = defaultdict(list)
        for row in connection.execute(_rows(getattr(tables, suffix), names), parameters).mappings():
            by_chat[row["chat_id"]].append(opener.opened(suffix, row["chat_id"], dict(row)))
        return by_chat

    turns, messages = rows("turns", TURN), rows("messages", MESSAGE)
    calls, thinking = rows("tool_calls", CALL), rows("thinking", THINKING)
    attachments = rows("attachments", ATTACHMENT)
    files = _present(connection, tables.blobs, {row["sha256"] for of_chat in attachments.values() for row in of_chat})
    named = {digest for of_chat in turns.values() for row in of_chat for digest in texts_named(row["settings"])}
    texts = _present(connection, tables.texts, named)
    after = {row["id"]: row for row in connection.execute(_chats(tables.chats), parameters).mappings()}
    kept = [key for key in chats if key in after]
    return Batch(
        chats=[
            StoredChat(
                row=chats[key],
                turns=turns[key],
                messages=messages[key],
                calls=calls[key],
                thinking=thinking[key],
                attachments=attachments[key],
                files=files.get(chats[key]["owner"], {}),
                texts=frozenset(texts.get(chats[key]["owner"], {})),
                troubles=opener.troubles[key],
                locked=frozenset(opener.locked[key]),
            )
            for key in kept
        ],
        changed=[key for key in kept if any(chats[key][name] != after[key][name] for name in STATE)],
    )


class Opener:
    """Decrypts rows as they are read, and notes which values cannot be read.

    Args:
        tables: the records' tables.
        owners: of the chats.
    """

    def __init__(self, tables: Tables, owners: Mapping[UUID, Any]) -> None:
        """Begin with nothing."""
        self._tables = tables
        self._owners = owners
        self.troubles: defaultdict[UUID, list[Trouble]] = defaultdict(list)
        self.locked: defaultdict[UUID, set[str]] = defaultdict(set)

    def opened(self, suffix: str, chat_id: UUID, row: Fields) -> Fields:
        """A row, decrypted where it is encrypted and the key was given.

        Args:
            suffix: the table's name without its prefix.
            chat_id: the chat.
            row: as read.
        """
        key = None if row["id"] is UNREADABLE else row["id"]
        owner = self._owners.get(chat_id)
        if names := unreadable(row):
            self._trouble(suffix, chat_id, key, "unreadable", f"{', '.join(names)} cannot be read")
        if key is None or owner is UNREADABLE:
            return row
        for column in CONTENT[suffix]:
            if row.get(column) is not None and row[column] is not UNREADABLE:
                row[column] = self._value(suffix, column, row[column], owner, chat_id, key)
        return row

    def _value(self, suffix: str, column: str, value: Any, owner: str | None, chat_id: UUID, key: UUID) -> Any:
        try:
            return self._tables.sealer.opened_value(suffix, column, value, owner=owner, key=key)
        except TamperedValueError:
            told = f"{column} was changed or moved since it was encrypted"
            self._trouble(suffix, chat_id, key, "tampered", told)
        except EncryptionError:
            if isinstance(value, Sealed):
                self.locked[chat_id].add(value.key or "")
            else:
                self._trouble(suffix, chat_id, key, "plaintext", f"{column} is not encrypted")
        return value

    def _trouble(self, suffix: str, chat_id: UUID, key: object, rule: str, message: str) -> None:
        table = getattr(self._tables, suffix).name
        self.troubles[chat_id].append(Trouble(table=table, id=key, rule=rule, message=message))


def _present(connection: Connection, table: Table, digests: Iterable[object]) -> Mapping[str | None, dict[str, int]]:
    """Which digests are stored, by owner, with the sizes that their rows tell, -1 for one that cannot be read."""
    found: defaultdict[str | None, dict[str, int]] = defaultdict(dict)
    wanted = sorted(digest for digest in digests if isinstance(digest, str))
    for start in range(0, len(wanted), _DIGESTS):
        parameters = {"b_digests": wanted[start : start + _DIGESTS]}
        for row in connection.execute(_digests(table), parameters):
            size = getattr(row, "size", 0)
            found[row.owner][row.sha256] = size if isinstance(size, int) else -1
    return found


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _page(chats: Table, *, any_owner: bool, placed: bool) -> Select[Any]:
    conditions = owned(chats.c.owner, ANY_OWNER if any_owner else None)
    if placed:
        conditions.append(chats.c.id > bindparam("b_after", type_=chats.c.id.type))
    return (
        select(*columns_of(chats, "id", "next_position"))
        .where(*conditions)
        .order_by(chats.c.id)
        .limit(bindparam("b_limit"))
    )


def _among(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.in_(bindparam("b_ids", expanding=True, type_=column.type))


@lru_cache(maxsize=CACHED)
def _chats(chats: Table) -> Select[Any]:
    expired = (chats.c.lease_until < DatabaseNow()).label("lease_expired")
    return select(*columns_of(chats, *CHAT), expired).where(_among(chats.c.id)).order_by(chats.c.id)


@lru_cache(maxsize=CACHED)
def _rows(table: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(*columns_of(table, *names)).where(_among(table.c.chat_id)).order_by(table.c.chat_id, table.c.position)


@lru_cache(maxsize=CACHED)
def _digests(table: Table) -> Select[Any]:
    names = ("owner", "sha256", "size") if "size" in table.c else ("owner", "sha256")
    wanted = bindparam("b_digests", expanding=True, type_=table.c.sha256.type)
    return select(*columns_of(table, *names)).where(table.c.sha256.in_(wanted))
