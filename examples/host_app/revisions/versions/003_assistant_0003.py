"""The release of nodellm_orm with approvals, whose revision is 0003."""

from alembic import op

from nodellm_orm.alembic import downgrade_operations, upgrade_operations

revision = "003"
down_revision = "002"


def upgrade() -> None:
    """From the revision that 002 has reached to that of the new release."""
    upgrade_operations(op, from_revision="0002", to_revision="0003", prefix="assistant_")


def downgrade() -> None:
    """Back to it."""
    downgrade_operations(op, from_revision="0003", to_revision="0002", prefix="assistant_")
