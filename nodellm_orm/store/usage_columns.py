"""What the rows of the roll-up are made of: sums of the ledger hour by hour, and which of them are out of date.

They are optional: nothing is in them until `refresh_rollup` is called. See `reporting.rollup`.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 — SQLAlchemy reads the annotations
from decimal import Decimal  # noqa: TC003 — SQLAlchemy reads the annotations
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from uuid import UUID  # noqa: TC003 — SQLAlchemy reads the annotations

from sqlalchemy.orm import Mapped, mapped_column

from nodellm_orm.ports.statuses import AttemptStatus
from nodellm_orm.store.columns import DIGEST, NAME, WORD
from nodellm_orm.store.types import Count, Id, Key, Money, UtcDateTime, Word

if TYPE_CHECKING:
    from nodellm_orm.store.naming import Naming, TableArguments

Scope: TypeAlias = Literal["all", "owner"]
EVERYBODY: Final[Scope] = "all"
"""Rows that are the sums over all owners."""
EACH_OWNER: Final[Scope] = "owner"
"""Rows of one owner each, nobody's included."""


class UsageHourColumns:
    """Sums over the requests of one hour: once over all owners, and once for each of them."""

    scope: Mapped[str] = mapped_column(Key(WORD))
    """``all``: over everybody's requests; ``owner``: over those of one owner. Add up one of the two, never both."""
    hour: Mapped[datetime] = mapped_column(UtcDateTime)
    """The beginning of the hour, in UTC."""
    digest: Mapped[str] = mapped_column(Key(DIGEST))
    """Digest of what the requests have in common, some of which may be ``NULL`` and so in no key."""
    owner: Mapped[str | None] = mapped_column(Key(NAME))
    """The owner; ``NULL``: nobody, and in all rows over everybody."""
    provider: Mapped[str] = mapped_column(Key(NAME))
    """The provider asked."""
    model: Mapped[str] = mapped_column(Word(NAME))
    """The model that answered; where none did, the one asked for."""
    operation: Mapped[str] = mapped_column(Key(WORD))
    """``chat``, ``embed``, ``image`` …"""
    status: Mapped[str] = mapped_column(Key(WORD))
    """``started``, ``ok``, ``failed``, ``cancelled`` or ``unknown``."""
    requests: Mapped[int] = mapped_column(Count)
    """How many there were."""
    unpriced: Mapped[int] = mapped_column(Count)
    """How many have no known cost."""
    input_tokens: Mapped[int | None] = mapped_column(Count)
    """All prompt tokens; ``NULL`` where no provider said, as in the other counts."""
    cached_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, read from a provider's cache."""
    cache_write_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, written to a cache."""
    output_tokens: Mapped[int | None] = mapped_column(Count)
    """All answer tokens, reasoning included."""
    reasoning_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, reasoning."""
    cost: Mapped[Decimal | None] = mapped_column(Money)
    """US dollars: the sum of the known costs; ``NULL`` when none is known."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table; clustered so that a report over everybody is one sweep."""
        return naming.arguments(
            naming.primary_key("usage_hours", "scope", "hour", "digest"),
            naming.words("usage_hours", "scope", get_args(Scope)),
            naming.words("usage_hours", "status", get_args(AttemptStatus)),
            naming.index("usage_hours", "owner", "hour"),
        )


class StaleHourColumns:
    """A mark: some transaction has changed or added old rows of an hour. It adds a row, and waits for nobody."""

    hour: Mapped[datetime] = mapped_column(UtcDateTime)
    """The beginning of the hour, in UTC."""
    id: Mapped[UUID] = mapped_column(Id)
    """The mark's id, random."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys and options of the table."""
        return naming.arguments(naming.primary_key("usage_stale", "hour", "id"))


class RollupColumns:
    """How far the roll-up is: the row that everybody locks who writes to it."""

    name: Mapped[str] = mapped_column(Key(WORD))
    """``hours``: there is this one row."""
    added_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """All hours before have been added up, but for the empty ones; it never goes back. ``NULL``: none has."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys and options of the table."""
        return naming.arguments(naming.primary_key("usage_rollup", "name"))
