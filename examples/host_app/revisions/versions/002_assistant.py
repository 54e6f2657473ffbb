"""Chats of users: the tables of nodellm_orm as its revision 0002 has them, and the helpdesk's own columns."""

import sqlalchemy as sa
from alembic import op

from nodellm_orm.alembic import downgrade_operations, upgrade_operations

revision = "002"
down_revision = "001"


def upgrade() -> None:
    """Create the tables, then add the columns: SQLite copies the table for that, which is empty still."""
    upgrade_operations(op, to_revision="0002", prefix="assistant_")
    with op.batch_alter_table("assistant_chats") as chats:
        chats.add_column(sa.Column("user_id", sa.Integer(), nullable=False))
        chats.add_column(sa.Column("pinned", sa.Boolean(), server_default="0", nullable=False))
        chats.create_foreign_key("fk_assistant_chats_user_id", "users", ["user_id"], ["id"], ondelete="RESTRICT")
        chats.create_index("ix_assistant_chats_user_id", ["user_id"])


def downgrade() -> None:
    """Drop the tables, and the columns with them."""
    downgrade_operations(op, from_revision="0002", prefix="assistant_")
