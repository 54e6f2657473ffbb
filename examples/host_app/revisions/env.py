"""What Alembic runs the helpdesk's revisions with: one history for the helpdesk's tables and those of the chats."""

import asyncio
import os

from alembic import context
from host_models import PREFIX, Base
from sqlalchemy import Connection

from nodellm_orm import make_engine
from nodellm_orm.alembic import include_owned, render_item


def run(connection: Connection) -> None:
    """Run what was asked for, on a connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_owned(prefix=PREFIX),
        render_item=render_item,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect() -> None:
    """Run it on the database of the environment."""
    engine = make_engine(os.environ.get("HOST_DATABASE_URL", "sqlite:///helpdesk.db"))
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(connect())
