"""`create_search_index`, `drop_search_index`: the words of messages in an index, where much is searched."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import greenlet_spawn

from nodellm_orm.search.choosing import index_of
from nodellm_orm.store.access import open_access
from nodellm_orm.store.failures import translate
from nodellm_orm.store.forks import own_pool
from nodellm_orm.store.records import chosen_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from nodellm_orm.search.indexes import WordIndex
    from nodellm_orm.search.messages import Database
    from nodellm_orm.store.define import Records

T = TypeVar("T")


async def create_search_index(session: Database, *, records: Records | None = None) -> None:
    """Make the index that searches use when it is there; on SQLite also tidy up one that is.

    It takes as long as it takes: minutes for millions of messages. PostgreSQL builds it while the table is written to;
    MySQL and SQLite let writers wait.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`; it is committed at once, on a
            connection of its own.
        records: on whose tables.

    Raises:
        UnsupportedFeatureError: this database cannot have one.
        StorageError: the database refused.

    Example:
        >>> await create_search_index(engine)                        # doctest: +SKIP
    """
    await _on(session, records, lambda index, connection: index.create(connection))


async def drop_search_index(session: Database, *, records: Records | None = None) -> bool:
    """Remove the index, and every word in it; searches go on without.

    Args:
        session: as for `create_search_index`.
        records: as for `create_search_index`.

    Returns:
        Whether there was one.
    """
    return await _on(session, records, lambda index, connection: index.drop(connection))


async def has_search_index(session: Database, *, records: Records | None = None) -> bool:
    """Whether there is an index that searches can rely on.

    Args:
        session: as for `create_search_index`.
        records: as for `create_search_index`.
    """
    return await _on(session, records, lambda index, connection: index.present(connection) is not None)


async def _on(session: Database, records: Records | None, work: Callable[[WordIndex, Connection], T]) -> T:
    chosen = chosen_records(records)
    engine = open_access(session, chosen).engine

    def run() -> T:
        own_pool(engine)
        with engine.connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            return work(index_of(chosen, connection.dialect.name), connection)

    try:
        return await greenlet_spawn(run)
    except (SQLAlchemyError, OSError) as error:
        raise translate(error) from error
