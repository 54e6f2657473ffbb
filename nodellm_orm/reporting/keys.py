"""What a report can be grouped by: a list of names, each with its SQL and the way back to a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import case, func, literal

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.reporting.functions import Cut, MemberJson, Unit
from nodellm_orm.reporting.zones import fixed
from nodellm_orm.runtime.refusals import refuse_text, refuse_unknown
from nodellm_orm.store.escaping import unescape_json

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause

    from nodellm_orm.reporting.rows import GroupValue
    from nodellm_orm.reporting.zones import Changes

_UNITS: Final[dict[str, Unit]] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_COLUMNS: Final = {
    "provider": "provider",
    "owner": "owner",
    "chat": "chat_id",
    "operation": "operation",
    "status": "status",
}
_METADATA: Final = "metadata."
NAMES: Final = (*_UNITS, "model", *_COLUMNS)
"""The names, beside ``metadata.`` and a key of the metadata."""


class GroupKey(ABC):
    """One thing that is grouped by."""

    name: str
    unit: Unit | None = None
    """The unit of time that it is, by the clocks of the time zone."""

    @abstractmethod
    def columns(self, requests: FromClause, changes: Changes) -> list[ColumnElement[Any]]:
        """Its SQL: one or two expressions.

        Args:
            requests: the ledger, or whatever has its columns.
            changes: the offsets of the time zone.
        """

    @abstractmethod
    def value(self, given: Sequence[Any], changes: Changes) -> GroupValue:
        """What the database gave for `columns`, as a value."""


@dataclass(frozen=True, slots=True)
class _Column(GroupKey):
    name: str

    def columns(self, requests: FromClause, changes: Changes) -> list[ColumnElement[Any]]:
        del changes
        return [model_of(requests) if self.name == "model" else requests.c[_COLUMNS[self.name]]]

    def value(self, given: Sequence[Any], changes: Changes) -> GroupValue:
        del changes
        value: GroupValue = given[0]
        return value


@dataclass(frozen=True, slots=True)
class _Time(GroupKey):
    name: str
    unit: Unit

    def columns(self, requests: FromClause, changes: Changes) -> list[ColumnElement[Any]]:
        offset = _offset(requests, changes)
        cut = Cut(self.unit, requests.c.created_at, offset)
        # An hour that comes twice when clocks are put back is two hours.
        return [cut, offset] if self.name == "hour" and len(changes) > 1 else [cut]

    def value(self, given: Sequence[Any], changes: Changes) -> GroupValue:
        start = given[0]
        if isinstance(start, str):
            start = datetime.fromisoformat(start)
        if self.name == "hour":
            return datetime.combine(
                start.date(), start.time(), tzinfo=fixed(int(given[1]) if len(given) > 1 else changes[0][1])
            )
        day: date = start.date() if isinstance(start, datetime) else start
        return day


def _offset(requests: FromClause, changes: Changes) -> ColumnElement[int]:
    """The offset that holds at a request's time."""
    created = requests.c.created_at
    last = changes[-1][1]
    if len(changes) == 1:
        return literal(last)
    ends = pairwise(changes)
    return case(*((created < literal(end, created.type), offset) for (_, offset), (end, _) in ends), else_=last)


@dataclass(frozen=True, slots=True)
class _Member(GroupKey):
    name: str

    def columns(self, requests: FromClause, changes: Changes) -> list[ColumnElement[Any]]:
        del changes
        return [MemberJson(requests.c.labels, self.name.removeprefix(_METADATA))]

    def value(self, given: Sequence[Any], changes: Changes) -> GroupValue:
        del changes
        return None if given[0] is None else unescape_json(loads(given[0]))


def model_of(requests: FromClause) -> ColumnElement[str]:
    """The model that answered; of an attempt that nothing answered, the one that was asked.

    Args:
        requests: the ledger, or what has a model in any case.
    """
    if "requested_model" not in requests.c:
        return requests.c.model
    return func.coalesce(requests.c.model, requests.c.requested_model, type_=requests.c.model.type)


def group_keys(group_by: object) -> tuple[GroupKey, ...]:
    """What the names stand for.

    Args:
        group_by: names, or one of them.

    Raises:
        ConfigurationError: one of them is unknown, or comes twice.
    """
    names = (group_by,) if isinstance(group_by, str) else group_by
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        msg = f"group_by is a list of names such as ['day', 'model'], not {group_by!r:.80}; known are {_known()}"
        raise ConfigurationError(msg)
    if len(set(names)) < len(names):
        msg = f"group_by={list(names)!r:.200} names something twice; name each once"
        raise ConfigurationError(msg)
    return tuple(_group_key(name) for name in names)


def _group_key(name: str) -> GroupKey:
    if name.startswith(_METADATA):
        refuse_member(name.removeprefix(_METADATA), f"group_by {name!r:.80}")
        return _Member(name)
    if name in _UNITS:
        return _Time(name, _UNITS[name])
    refuse_unknown([name], NAMES, among=[_METADATA + "key"], what="group_by name")
    return _Column(name)


def refuse_member(key: object, where: str) -> None:
    """Refuse what cannot be a key of the metadata at its first level.

    Args:
        key: as given.
        where: it was given, for the message.

    Raises:
        ConfigurationError: it is no text, empty, too long, or a path.
    """
    refuse_text(where, key, limit=255)
    if not isinstance(key, str):
        msg = f"{where} names no key of the metadata; write metadata.team, for instance"
        raise ConfigurationError(msg)
    if "." in key:
        msg = (
            f"{where} is a path: only the members of the metadata itself can be grouped and filtered by, and a key "
            "with a dot in it cannot; keep what reports need at the first level, under a key without dots"
        )
        raise ConfigurationError(msg)


def _known() -> str:
    return f"{', '.join(NAMES)} and metadata.<key>"
