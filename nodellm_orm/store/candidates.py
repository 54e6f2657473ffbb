"""The statements that look for chats: the next ones by an index, and which of them the database knows to be meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import and_, bindparam, case, exists, func, or_, select, true

from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED, there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select, Subquery, Table

ChatState: TypeAlias = Literal["failed", "running", "interrupted", "waiting"]
"""``failed``: a turn of it did; ``running``: a turn holds it; ``interrupted``: that turn's worker is gone;
``waiting``: its turn waits for somebody's approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a search needs of the database."""

    whose: str
    """``any``: everybody's chats; ``nobody``: those without owner; ``one``: an owner's."""
    model: bool
    provider: bool
    state: ChatState | None
    titled: bool
    """Whether titles are looked at, by us."""
    labelled: bool
    """Whether metadata is, by us."""

    @property
    def narrows(self) -> bool:
        """Whether the database leaves out chats that it looks at."""
        return self.model or self.provider or self.state is not None


def _window(chats: Table, *, whose: str, placed: bool, names: Sequence[str] = ()) -> Subquery:
    """The next chats, as many as an index gives without looking at others."""
    c = chats.c
    created, chat_id = c.created_at, c.id
    owners = {"any": true(), "nobody": c.owner.is_(None), "one": c.owner == bindparam("b_owner", type_=c.owner.type)}
    before = or_(
        created < bindparam("b_created", type_=created.type),
        and_(created == bindparam("b_created", type_=created.type), chat_id < bindparam("b_id", type_=chat_id.type)),
    )
    # Said once more, since not every database sees the bound in the condition above.
    bounds = (created <= bindparam("b_created", type_=created.type), before) if placed else (true(),)
    return (
        select(chat_id, created, *(c[name] for name in names))
        .where(owners[whose], *bounds, there(chats))
        .order_by(created.desc(), chat_id.desc())
        .limit(bindparam("b_window"))
        .subquery("looked_at")
    )


@lru_cache(maxsize=CACHED)
def candidates(chats: Table, turns: Table, kind: Kind, *, placed: bool) -> Select[Any]:
    """Those of the next chats of which the database does not know that they are not meant, with what decides on them.

    Args:
        chats: the table.
        turns: the table.
        kind: what is searched for; the values are parameters.
        placed: whether the search goes on behind a chat.
    """
    wanted = {
        "owner": kind.titled,
        "title": kind.titled,
        "metadata": kind.labelled,
        "model": kind.model,
        "provider": kind.provider,
        "active_turn_id": kind.state is not None,
        "lease_until": kind.state is not None,
    }
    names = [name for name, needed in wanted.items() if needed]
    w = _window(chats, whose=kind.whose, placed=placed, names=names).c
    conditions: list[ColumnElement[bool]] = []
    if kind.model:
        conditions.append(w.model == bindparam("b_model", type_=w.model.type))
    if kind.provider:
        conditions.append(w.provider == bindparam("b_provider", type_=w.provider.type))
    if kind.state is not None:
        conditions += _standing(w, turns, kind.state)
    shown = [w[name] for name in ("id", "created_at", *names[: 2 * kind.titled + kind.labelled])]
    return select(*shown).where(*conditions).order_by(w.created_at.desc(), w.id.desc()).limit(bindparam("b_wanted"))


@lru_cache(maxsize=CACHED)
def end_of(chats: Table, *, whose: str, placed: bool) -> Select[Any]:
    """The last one of the next chats, and how many they are.

    Args:
        chats: the table.
        whose: chats are meant.
        placed: whether the search goes on behind a chat.
    """
    w = _window(chats, whose=whose, placed=placed).c
    number = func.count().over().label("number")
    return select(w.created_at, w.id, number).order_by(w.created_at, w.id).limit(1)


@lru_cache(maxsize=CACHED)
def shown(chats: Table, turns: Table) -> Select[Any]:
    """What a list shows of some chats.

    Args:
        chats: the table.
        turns: the table.
    """
    c = chats.c
    held = c.active_turn_id.is_not(None)
    return (
        select(
            *(c[name] for name in ("id", "owner", "title", "provider", "model", "metadata")),
            c.next_position.label("message_count"),
            _flag(and_(held, c.lease_until >= DatabaseNow())).label("running"),
            _flag(held).label("held"),
            _of_last_turn(c.id, turns, "status").label("last_status"),
            _of_last_turn(c.id, turns, "reason").label("last_reason"),
            c.created_at,
            c.updated_at,
        )
        .where(c.id.in_(bindparam("b_ids", expanding=True, type_=c.id.type)), there(chats))
        .order_by(c.created_at.desc(), c.id.desc())
    )


def _standing(w: Any, turns: Table, state: ChatState) -> list[ColumnElement[bool]]:
    """Conditions that a chat stands so, as a list tells it; a failed one has any turn that failed."""
    held = w.active_turn_id.is_not(None)
    good = w.lease_until >= DatabaseNow()
    match state:
        case "running":
            return [held, good]
        case "interrupted":
            return [held, or_(w.lease_until.is_(None), ~good)]
        case "waiting":
            suspended = _of_last_turn(w.id, turns, "status") == "suspended"
            return [~held, suspended, _of_last_turn(w.id, turns, "reason") == "approval"]
        case "failed":
            return [exists().where(turns.c.chat_id == w.id, turns.c.status == "failed")]


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _of_last_turn(chat_id: ColumnElement[Any], turns: Table, name: str) -> ColumnElement[Any]:
    of_chat = select(turns.c[name]).where(turns.c.chat_id == chat_id)
    return of_chat.order_by(turns.c.position.desc()).limit(1).scalar_subquery()
