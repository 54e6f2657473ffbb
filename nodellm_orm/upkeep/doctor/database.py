"""A look at a database: whether it can be reached, is set up as chats need it, and has the tables of this release."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from nodellm_orm.errors import NodeLLMError, StorageError
from nodellm_orm.runtime.refusals import refuse_limit
from nodellm_orm.store.access import open_access
from nodellm_orm.store.engine import make_engine, refuse_deadline
from nodellm_orm.store.records import chosen_records
from nodellm_orm.upkeep.doctor.checks import Check, error, told_of
from nodellm_orm.upkeep.doctor.files import check_file, missing_file
from nodellm_orm.upkeep.doctor.mysql import MYSQL_CHECKS
from nodellm_orm.upkeep.doctor.pools import check_pool
from nodellm_orm.upkeep.doctor.postgresql import POSTGRESQL_CHECKS
from nodellm_orm.upkeep.doctor.rights import check_rights
from nodellm_orm.upkeep.doctor.sqlite import SQLITE_CHECKS
from nodellm_orm.upkeep.doctor.tables import check_migrations
from nodellm_orm.upkeep.doctor.values import check_clock, check_isolation, check_rowcount, check_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records

    Looks = Callable[..., Check | Sequence[Check]]
    """Takes a connection and records."""

_ANYWHERE: Final[tuple[tuple[str, Looks], ...]] = (
    ("migrations", check_migrations),
    ("privileges", check_rights),
    ("text", check_text),
    ("row count", check_rowcount),
    ("isolation", check_isolation),
    ("clock", check_clock),
)
_ON: Final[dict[str, tuple[tuple[str, Looks], ...]]] = {
    "sqlite": SQLITE_CHECKS,
    "postgresql": POSTGRESQL_CHECKS,
    "mysql": MYSQL_CHECKS,
    "mariadb": MYSQL_CHECKS,
}
_MAKE: Final = "name the file with your chats, or make it with: nodellm-orm db upgrade"
_START: Final = "check that it runs, the URL's host, port and database, and the user's rights"


async def check_database(
    database: object,
    *,
    records: Records | None = None,
    concurrency: int | None = None,
    deadline: float = 30.0,
) -> list[Check]:
    """Look at a database and at how it is reached; no row and no table is changed.

    What is tried (statements that match no row, a temporary table) is undone. Given a URL, the engine is made with
    `make_engine`, which keeps a write-ahead log in a SQLite file that had none.

    Args:
        database: its URL, or an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`, whose own settings are
            looked at then.
        records: own records, from `define_records`.
        concurrency: how many turns are expected to run at once in this process, for a look at the pool.
        deadline: seconds that one look may take.

    Returns:
        A check for each thing, in the order in which they matter; when the database cannot be reached, only that.

    Raises:
        ConfigurationError: ``records`` or ``concurrency`` cannot be meant.
    """
    if concurrency is not None:
        refuse_limit("concurrency", concurrency)
    chosen = chosen_records(records)
    checks: list[Check] = []
    try:
        async with _reached(database, chosen, deadline) as access:
            if (path := missing_file(access.engine.url)) is not None:
                return [error("database", f"there is no database file {path}", _MAKE)]
            checks += check_file(access.engine.url)
            checks += await _looked(access, chosen)
            checks.append(check_pool(access.engine, concurrency))
    except NodeLLMError as failure:
        checks.append(told_of("database", failure))
    except (SQLAlchemyError, OSError) as failure:
        checks.append(error("database", f"it cannot be used ({type(failure).__name__})", _START))
    return checks


@asynccontextmanager
async def _reached(database: object, records: Records, deadline: float) -> AsyncIterator[Access]:
    refuse_deadline("deadline", deadline)
    if not isinstance(database, str | URL):
        yield open_access(database, records, deadline=deadline)
        return
    engine = make_engine(database, deadline=deadline)
    try:
        yield open_access(engine, records, deadline=deadline)
    finally:
        await engine.dispose()


async def _looked(access: Access, records: Records) -> list[Check]:
    """One look after the other, each on its own, so that what fails in one says nothing of the next."""
    name = access.engine.dialect.name
    checks: list[Check] = []
    for title, look in (*_ON[name][:1], *_ANYWHERE, *_ON[name][1:]):
        try:
            found = await access.read(partial(look, records=records))
        except StorageError as failure:
            if not checks:
                raise  # it cannot be reached at all
            checks.append(told_of(title, failure))
            continue
        checks += [found] if isinstance(found, Check) else found
    return checks
