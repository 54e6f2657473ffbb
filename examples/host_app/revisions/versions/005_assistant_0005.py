"""The release of nodellm_orm with the roll-up of the ledger, whose revision is 0005."""

from alembic import op

from nodellm_orm.alembic import downgrade_operations, upgrade_operations

revision = "005"
down_revision = "004"


def upgrade() -> None:
    """From the revision that 004 has reached to that of the new release."""
    upgrade_operations(op, from_revision="0004", to_revision="0005", prefix="assistant_")


def downgrade() -> None:
    """Back to it."""
    downgrade_operations(op, from_revision="0005", to_revision="0004", prefix="assistant_")
