"""Which requests a report is about: conditions whose values are all bound."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.statuses import AttemptStatus
from nodellm_orm.reporting.functions import MemberJson
from nodellm_orm.reporting.keys import model_of, refuse_member
from nodellm_orm.runtime.refusals import refuse_key, refuse_owner, refuse_word
from nodellm_orm.store.escaping import escape_json

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, FromClause

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.owners import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which requests are meant; ``None`` is no limit."""

    owner: Owner
    since: datetime | None = None
    until: datetime | None = None
    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None
    chat_id: UUID | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)

    def times(self, requests: FromClause) -> list[ColumnElement[bool]]:
        """Owner and time: what the indexes are for.

        Args:
            requests: the ledger.
        """
        r = requests.c
        found: list[ColumnElement[bool]] = []
        if self.owner is not ANY_OWNER:
            found.append(r.owner.is_(None) if self.owner is None else r.owner == self.owner)
        if self.since is not None:
            found.append(r.created_at >= self.since)
        if self.until is not None:
            found.append(r.created_at < self.until)
        if self.chat_id is not None:
            found.append(r.chat_id == self.chat_id)
        return found

    def conditions(self, requests: FromClause) -> list[ColumnElement[bool]]:
        """All of them.

        Args:
            requests: the ledger, or what has those of its columns that are asked for.
        """
        r = requests.c
        listed: list[tuple[ColumnElement[Any], tuple[str, ...] | None]] = [
            (model_of(requests), self.models),
            (r.provider, self.providers),
            (r.operation, self.operations),
            (r.status, self.statuses),
        ]
        found = [*self.times(requests), *(column.in_(words) for column, words in listed if words is not None)]
        for name, value in self.metadata.items():
            member = MemberJson(r.labels, name)
            found.append(member.is_(None) if value is None else member == dumps(escape_json(value)))
        return found


def filters(
    *,
    owner: Owner,
    since: datetime | None,
    until: datetime | None,
    chat_id: UUID | None,
    metadata: object,
    **listed: object,
) -> Filters:
    """Check what a report is limited to.

    Raises:
        ConfigurationError: a limit that cannot be meant.
    """
    refuse_owner(owner, anybody=ANY_OWNER)
    if since is not None and until is not None and since >= until:
        msg = f"since={since.isoformat()} is not before until={until.isoformat()}; exchange them, or leave one out"
        raise ConfigurationError(msg)
    words = {name: _words(name, given) for name, given in listed.items()}
    for status in words.get("statuses") or ():
        refuse_word("statuses", status, get_args(AttemptStatus))
    return Filters(owner=owner, since=since, until=until, chat_id=chat_id, metadata=_members(metadata), **words)


def _words(name: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    words = (given,) if isinstance(given, str) else given
    if not isinstance(words, Collection) or isinstance(words, Mapping) or not words:
        msg = f"{name} is a list of at least one text, not {given!r:.80}; leave it out for all of them"
        raise ConfigurationError(msg)
    for word in words:
        if word is None:
            msg = f"{name} has None in it; leave it out"
            raise ConfigurationError(msg)
        refuse_key(name, word, empty=True)
    return tuple(words)


def _members(metadata: object) -> Mapping[str, JsonValue]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        msg = f"metadata is a dict of members and their values, not {type(metadata).__name__}"
        raise ConfigurationError(msg)
    for key, value in metadata.items():
        refuse_member(key, f"metadata={{{key!r:.80}: …}}")
        if not _comparable(value):
            msg = f"metadata={{{key!r:.80}: …}} is compared with a text, a number, a bool or None, nothing else"
            raise ConfigurationError(msg)
    return dict(metadata)


def _comparable(value: object) -> bool:
    if value is not None and not isinstance(value, bool | int | float | str):
        return False
    try:
        dumps(value)
    except ValueError:  # not finite, or a number of thousands of digits
        return False
    return True
