"""The roll-up of the ledger: sums hour by hour, which hours are out of date, and how far it is; all of it empty.

Nothing is in it until `refresh_rollup` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from nodellm_orm.store.steps import Steps

revision: str = "0005"
down_revision: str | None = "0004"

_MYSQL: Final = ("mysql", "mariadb")
ID: Final = (
    sa.CHAR(32)
    .with_variant(mysql.CHAR(32, charset="ascii", collation="ascii_bin"), *_MYSQL)
    .with_variant(sa.Uuid(), "postgresql")
)
MOMENT: Final = (
    sa.DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL).with_variant(sa.DateTime(timezone=True), "postgresql")
)
MONEY: Final = sa.Numeric(24, 12).with_variant(sa.BigInteger(), "sqlite")
COUNT: Final = sa.BigInteger()


def _key(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


NAME: Final = _key(255)
DIGEST: Final = _key(64)
WORD: Final = _key(32)


def _must(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _may(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade(steps: Steps) -> None:
    """Create the tables."""
    tokens = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    steps.create_table(
        "usage_hours",
        _must("scope", WORD),
        _must("hour", MOMENT),
        _must("digest", DIGEST),
        _may("owner", NAME),
        _must("provider", NAME),
        _must("model", NAME),
        _must("operation", WORD),
        _must("status", WORD),
        _must("requests", COUNT),
        _must("unpriced", COUNT),
        *(_may(name, COUNT) for name in tokens),
        _may("cost", MONEY),
        steps.naming.primary_key("usage_hours", "scope", "hour", "digest"),
        steps.naming.words("usage_hours", "scope", ("all", "owner")),
        steps.naming.words("usage_hours", "status", ("started", "ok", "failed", "cancelled", "unknown")),
    )
    steps.create_index("usage_hours", "owner", "hour")
    steps.create_table(
        "usage_stale",
        _must("hour", MOMENT),
        _must("id", ID),
        steps.naming.primary_key("usage_stale", "hour", "id"),
    )
    steps.create_table(
        "usage_rollup",
        _must("name", WORD),
        _may("added_until", MOMENT),
        steps.naming.primary_key("usage_rollup", "name"),
    )


def downgrade(steps: Steps) -> None:
    """Drop the tables: the ledger has everything that is in them."""
    for suffix in ("usage_rollup", "usage_stale", "usage_hours"):
        steps.drop_table(suffix)
