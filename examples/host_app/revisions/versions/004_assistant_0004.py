"""The release of nodellm_orm with reports, whose revision is 0004."""

from alembic import op

from nodellm_orm.alembic import downgrade_operations, upgrade_operations

revision = "004"
down_revision = "003"


def upgrade() -> None:
    """From the revision that 003 has reached to that of the new release."""
    upgrade_operations(op, from_revision="0003", to_revision="0004", prefix="assistant_")


def downgrade() -> None:
    """Back to it."""
    downgrade_operations(op, from_revision="0004", to_revision="0003", prefix="assistant_")
