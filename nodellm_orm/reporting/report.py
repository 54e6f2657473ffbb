"""`usage_report`: what was used and spent, by whatever is asked for, exactly and equally on every database."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.refused import check_limit
from nodellm_orm.reporting.filters import filters
from nodellm_orm.reporting.keys import group_keys
from nodellm_orm.reporting.rolled import answer_rolled
from nodellm_orm.reporting.rows import MEASURES, UsageRow
from nodellm_orm.reporting.statement import Question, answer
from nodellm_orm.reporting.zones import zone_of
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.moments import moment_of
from nodellm_orm.runtime.refusals import refuse_switch, refuse_unknown
from nodellm_orm.store.access import open_access
from nodellm_orm.store.define import Records
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import tzinfo
    from typing import TypeAlias

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.ports.owners import Owner

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""


async def usage_report(
    session: Database,
    *,
    group_by: Sequence[str] = ("day",),
    since: datetime | date | None = None,
    until: datetime | date | None = None,
    owner: Owner = None,
    time_zone: str | tzinfo = "UTC",
    models: Collection[str] | None = None,
    providers: Collection[str] | None = None,
    operations: Collection[str] | None = None,
    statuses: Collection[str] | None = None,
    chat_id: UUID | str | None = None,
    metadata: Mapping[str, object] | None = None,
    percentiles: bool | None = None,
    order_by: str | Sequence[str] | None = None,
    limit: int | None = None,
    rollup: bool = False,
    records: Records | None = None,
    database_timeout: float | None = None,
) -> list[UsageRow]:
    """Sums over the ledger (`llm_requests`), group by group; what deleted chats have cost is in it.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        group_by: any of ``hour``, ``day``, ``week``, ``month``, ``model``, ``provider``, ``owner``, ``chat``,
            ``operation``, ``status`` and ``metadata.<key>``; nothing gives one row for all.
        since: the first moment, with its zone; a date is its first moment in ``time_zone``.
        until: the first moment that is not meant any more.
        owner: whose; omitted means requests without owner, `ANY_OWNER` means everybody's.
        time_zone: the zone whose hours, days, weeks and months are meant: a name such as ``Europe/Berlin``.
        models: only these; the model that answered, or that was asked where none did.
        providers: only these.
        operations: only these, such as ``chat`` and ``embed``.
        statuses: only these: ``started``, ``ok``, ``failed``, ``cancelled``, ``unknown``.
        chat_id: only this chat's.
        metadata: only requests whose chat had these members, exactly; ``None`` for none or null.
        percentiles: whether percentiles of the times are wanted, as they are by default, unless ``rollup``; leaving
            them out saves about half of the time.
        order_by: names of ``group_by`` or of what a row tells, a minus before one that falls; by default the groups
            rise, ``None`` first.
        limit: rows at most.
        rollup: take the sums of whole hours from where `refresh_rollup` has put them, and only the rest from the
            ledger: the same result, sooner. There are none by chat and metadata, and no percentiles.
        records: own records.
        database_timeout: seconds the report may take; by default what the engine was made with, or 30.

    Raises:
        ConfigurationError: a name that is unknown, an argument that cannot be meant, or what the roll-up cannot tell.

    Example:
        >>> rows = await usage_report(engine, group_by=["day", "metadata.team"], owner=ANY_OWNER)
    """
    zone = zone_of(time_zone)
    keys = group_keys(group_by)
    chosen = RECORDS if records is None else records
    if not isinstance(chosen, Records):
        msg = f"records is what define_records() gave, not {type(chosen).__name__}"
        raise ConfigurationError(msg)
    if limit is not None:
        check_limit(limit)
    question = Question(
        keys=keys,
        filters=filters(
            owner=owner,
            since=moment_of("since", since, zone),
            until=moment_of("until", until, zone),
            chat_id=None if chat_id is None else chat_id_of(chat_id),
            metadata=metadata,
            models=models,
            providers=providers,
            operations=operations,
            statuses=statuses,
        ),
        zone=zone,
        percentiles=not rollup if percentiles is None else percentiles,
    )
    refuse_switch("rollup", rollup)
    if rollup:
        _refuse_beyond_rollup(question)
    names = [key.name for key in keys]
    order = _order(order_by, names)
    access = open_access(session, chosen, deadline=database_timeout)
    tables = chosen.tables
    if rollup:
        rows = await access.read(partial(answer_rolled, tables=tables, question=question))
    else:
        rows = await access.read(partial(answer, requests=tables.requests, question=question))
    return _sorted(rows, order, limit)


def _refuse_beyond_rollup(question: Question) -> None:
    """Refuse what the sums of hours do not tell."""
    asked = [f"group_by {key.name!r:.80}" for key in question.keys if key.name == "chat" or "." in key.name]
    limits = question.filters
    given = {"chat_id": limits.chat_id, "metadata": limits.metadata, "percentiles": question.percentiles}
    asked += [name for name, value in given.items() if value]
    if asked:
        msg = (
            f"rollup=True has sums by hour, owner, provider, model, operation and status, and does not know "
            f"{', '.join(asked)}; leave that out, or leave rollup=True out"
        )
        raise ConfigurationError(msg)


# ── order ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _order(order_by: object, names: Sequence[str]) -> list[tuple[str, bool]]:
    """Names, each with whether it falls; the groups decide in the end, so that there is one order."""
    listed = [order_by] if isinstance(order_by, str) else ([] if order_by is None else order_by)
    if not isinstance(listed, Sequence) or not all(isinstance(name, str) for name in listed):
        msg = f"order_by is a name or a list of names such as ['-cost'], not {order_by!r:.80}"
        raise ConfigurationError(msg)
    order = [(name.removeprefix("-"), name.startswith("-")) for name in listed]
    refuse_unknown([name for name, _ in order], (*names, *MEASURES), what="order_by name")
    return [*order, *((name, False) for name in names)]


def _sorted(rows: list[UsageRow], order: Sequence[tuple[str, bool]], limit: int | None) -> list[UsageRow]:
    def place(row: UsageRow) -> list[Any]:
        return [
            _Falling(at) if falls else at for at, falls in ((_place(_told(row, name)), falls) for name, falls in order)
        ]

    return sorted(rows, key=place) if limit is None else heapq.nsmallest(limit, rows, key=place)


def _told(row: UsageRow, name: str) -> object:
    return row.keys[name] if name in row.keys else getattr(row, name)


def _place(value: object) -> tuple[Any, ...]:
    """Where a value stands among others of any type: nothing, false, true, numbers, texts, the rest as JSON."""
    match value:
        case None:
            return (0,)
        case bool():
            return (1, value)
        case UUID():
            return (3, value.hex)
        case str():
            return (3, value)
        case datetime():
            return (2, value, value.utcoffset())
        case list() | dict():
            return (4, dumps(value))
        case int() | float():
            return (2, value, type(value).__name__)
        case _:
            return (2, value)


class _Falling:
    """A place, the other way round."""

    def __init__(self, place: tuple[Any, ...]) -> None:
        self.place = place

    def __lt__(self, other: _Falling) -> bool:
        return other.place < self.place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Falling) and self.place == other.place

    __hash__ = None  # type: ignore[assignment]  # only compared
