"""A process that migrates a database when it is told to, and can kill itself in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from sqlalchemy import event

from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from sqlalchemy import Connection


async def main(database: str, statements: int) -> None:
    """Say that it is ready, wait for a line, and migrate.

    Args:
        database: the URL.
        statements: how many changes of the schema to make before it kills itself; negative: all of them.
    """
    engine = make_engine(database)
    left = statements

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def count(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        if statement.lstrip().startswith(("CREATE", "ALTER")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    await migrate(engine)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
