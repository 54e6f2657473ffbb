"""What was approved: the digest of a call's name and arguments, compared before the call runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

if TYPE_CHECKING:
    from nodellm_orm.store.steps import Steps

revision: str = "0003"
down_revision: str | None = "0002"

DIGEST: Final = sa.String(64).with_variant(
    mysql.VARCHAR(64, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)


def upgrade(steps: Steps) -> None:
    """Add the column; calls that were decided before have none, and there are none that can still run."""
    steps.add_column("tool_calls", sa.Column("approved_sha256", DIGEST, nullable=True))


def downgrade(steps: Steps) -> None:
    """Drop the column."""
    steps.drop_column("tool_calls", "approved_sha256")
