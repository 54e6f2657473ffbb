"""What went wrong lately: the newest attempts that failed, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import check_limit
from nodellm_orm.store.access import open_access
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records

_LATEST: Final = 20_000
"""Attempts among which the failed ones are looked for: which ones failed is in no index."""
_BAD: Final = ("failed", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An attempt that failed, or whose outcome is unknown."""

    id: UUID
    chat_id: UUID | None
    operation: str
    provider: str
    requested_model: str
    status: str
    http_status: int | None
    error_type: str | None
    request_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidents:
    """What went wrong lately, the newest first."""

    latest: tuple[Incident, ...]
    read_at: datetime
    """When this was read, by the database's clock."""


async def read_incidents(
    session: object, *, owner: Owner = None, limit: int = 50, records: Records = RECORDS
) -> Incidents:
    """The newest attempts that failed, among the newest attempts of all; what deleted chats left is in it.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        owner: whose; ``None`` means requests without owner, `ANY_OWNER` means everybody's.
        limit: attempts at most.
        records: own records.

    Raises:
        ConfigurationError: the limit is below 1.
    """
    check_limit(limit)
    requests = records.tables.requests
    r = requests.c
    columns = [r[name] for name in Incident.__dataclass_fields__]
    latest = select(*columns)
    if owner is not ANY_OWNER:
        latest = latest.where(r.owner.is_(None) if owner is None else r.owner == owner)
    window = latest.order_by(r.created_at.desc()).limit(_LATEST).subquery()
    found = (
        select(window)
        .where(window.c.status.in_(_BAD))
        .order_by(window.c.created_at.desc(), window.c.id.desc())
        .limit(limit)
    )

    def work(connection: Connection) -> Incidents:
        read_at = connection.execute(select(DatabaseNow())).scalar_one()
        latest = tuple(Incident(**row) for row in connection.execute(found).mappings())
        return Incidents(latest=latest, read_at=read_at)

    return await open_access(session, records).read(work)
