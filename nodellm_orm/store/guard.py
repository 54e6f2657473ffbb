"""The chat's row, locked first in every transaction of a turn: guarded updates, and what it means when none matches."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import ColumnElement, bindparam, null, select, update

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import chat_not_found
from nodellm_orm.store.clock import DatabaseLater, DatabaseNow, seconds

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Row, Table, Update

    from nodellm_orm.ports.owners import Owner

CACHED = 128
"""Statements of a kind that are kept; a host has one or two sets of tables."""


def of_chat(chats: Table, owner: Owner) -> list[ColumnElement[bool]]:
    """Conditions for a chat of an owner; the parameters are `chat_parameters`.

    Args:
        chats: the table.
        owner: whose chat.
    """
    return [*row_of(chats, owner), there(chats)]


def row_of(chats: Table, owner: Owner) -> list[ColumnElement[bool]]:
    """As `of_chat`, for a chat whose deletion has begun as well.

    Args:
        chats: the table.
        owner: whose chat.
    """
    conditions: list[ColumnElement[bool]] = [chats.c.id == bindparam("b_chat")]
    if owner is not ANY_OWNER:
        owned = bindparam("b_owner", type_=chats.c.owner.type)
        conditions.append(chats.c.owner.is_not_distinct_from(owned))
    return conditions


def there(chats: Table) -> ColumnElement[bool]:
    """The condition that a chat's deletion has not begun; with that it is nobody's any more, and holds itself.

    Args:
        chats: the table.
    """
    return chats.c.active_turn_id.is_distinct_from(chats.c.id)


def chat_parameters(chat_id: UUID, owner: Owner) -> dict[str, Any]:
    """What `of_chat` asks for."""
    return {"b_chat": chat_id} if owner is ANY_OWNER else {"b_chat": chat_id, "b_owner": owner}


def hold_conditions(chats: Table) -> list[ColumnElement[bool]]:
    """Conditions that say that a hold is still good: same turn, same worker, same fence."""
    return [
        chats.c.active_turn_id == bindparam("b_turn"),
        chats.c.lease_owner == bindparam("b_worker"),
        chats.c.fence == bindparam("b_fence"),
    ]


def leased() -> DatabaseLater:
    """When a lease that begins now ends."""
    return DatabaseLater(seconds("b_lease"))


def freed() -> dict[str, Any]:
    """Values of a chat that no turn holds."""
    return {"active_turn_id": null(), "lease_owner": null(), "lease_until": null()}


def executed(connection: Connection, statement: Update, parameters: dict[str, Any]) -> bool:
    """Run a guarded update.

    Returns:
        Whether it matched its row.
    """
    return connection.execute(statement, parameters).rowcount == 1


# ── what no match means ───────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _state(chats: Table, *, any_owner: bool) -> Any:
    owner: Owner = ANY_OWNER if any_owner else None
    expired = (chats.c.lease_until < DatabaseNow()).label("lease_expired")
    return select(
        chats.c.active_turn_id,
        chats.c.lease_owner,
        chats.c.lease_until,
        chats.c.fence,
        chats.c.step,
        chats.c.version,
        chats.c.next_position,
        chats.c.owner,
        chats.c.metadata,
        expired,
    ).where(*of_chat(chats, owner))


def state_of(connection: Connection, chats: Table, chat_id: UUID, owner: Owner) -> Row[Any] | None:
    """Who holds the chat and how far it is, ``None`` when there is none for this owner."""
    statement = _state(chats, any_owner=owner is ANY_OWNER)
    row: Row[Any] | None = connection.execute(statement, chat_parameters(chat_id, owner)).first()
    return row


def found(state: Row[Any] | None, chat_id: UUID) -> Row[Any]:
    """The state of a chat that has to be there.

    Raises:
        ChatNotFoundError: it is not.
    """
    if state is None:
        not_found(chat_id)
    return state


def not_found(chat_id: UUID) -> NoReturn:
    """Say that there is no such chat; a wrong owner is told the same."""
    raise chat_not_found(chat_id)


def touch(chats: Table) -> Update:
    """An update of a chat that says when it was."""
    return update(chats).values(updated_at=DatabaseNow())
