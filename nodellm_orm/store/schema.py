"""Create and upgrade the tables, and tell whether they fit this release.

Several processes may do so at once: one works, the others wait and find nothing left to do. What was interrupted is
carried on by the next call.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.schema import CreateSchema

from nodellm_orm.errors import ConfigurationError, SchemaVersionError, StorageError
from nodellm_orm.store import revisions
from nodellm_orm.store.failures import code_of, translate
from nodellm_orm.store.naming import Naming, usable
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.schema_lock import exclusive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy import URL, Connection

    from nodellm_orm.store.define import Records

    Bind: TypeAlias = AsyncEngine | AsyncConnection | AsyncSession | async_sessionmaker[AsyncSession]
    """What names a database. A session is not used itself, only what it is bound to."""

_UPGRADE: Final = (
    "run `nodellm-orm db upgrade`, or `await migrate(engine)` at start-up; where your own Alembic owns the tables, "
    "call nodellm_orm.alembic.upgrade_operations in a revision of yours"
)
_FORBIDDEN: Final = frozenset({"42501", 1044, 1142})
"""PostgreSQL's and MySQL's codes for a missing privilege."""
_DIALECTS: Final = ("sqlite", "postgresql", "mysql", "mariadb")


async def migrate(
    bind: Bind,
    *,
    revision: str = "head",
    records: Records | None = None,
    prefix: str | None = None,
    schema: str | None = None,
    wait: float = 60.0,
) -> None:
    """Create the tables, or upgrade them; do nothing when they are there already.

    Tables that were made with ``create_all`` are taken over when they have the columns they must have. On PostgreSQL
    a ``schema`` that is missing is created.

    Args:
        bind: an engine, a session factory, a session or a connection. On a connection that is in a transaction the
            work is part of it (except on MySQL, which commits at every step); else it is committed.
        revision: how far; never back.
        records: the records whose prefix and schema to use, from `define_records`.
        prefix: begins every table name, ``llm_`` when omitted.
        schema: the schema of the tables, the connection's own when omitted.
        wait: seconds to wait for another process that migrates.

    Raises:
        SchemaVersionError: the tables are newer than this package, or a table of that name is not ours.
        ConfigurationError: there is no such revision, the prefix cannot be used, or the records have columns of
            their own (then your own Alembic makes the tables: `nodellm_orm.alembic`).
        StorageError: the database refused, or another process did not finish in time.

    Example:
        >>> await migrate(engine)                                    # doctest: +SKIP
    """
    _refuse_own_columns(records)
    naming = _naming(records, prefix, schema)
    target = revisions.resolved(revision)

    def work(connection: Connection) -> None:
        if not revisions.path_up(_known_revision(connection, naming), target):
            return
        with exclusive(connection, naming, wait=wait):
            _ensure_schema(connection, naming)
            if revisions.path_up(_known_revision(connection, naming), target):
                revisions.upgrade(connection, naming, target)

    await _on(bind, work)


async def downgrade(
    bind: Bind,
    *,
    revision: str,
    records: Records | None = None,
    prefix: str | None = None,
    schema: str | None = None,
    wait: float = 60.0,
) -> None:
    """Take the tables back to an earlier revision, with the loss of what that one has no place for.

    Args:
        bind: as for `migrate`.
        revision: where to; ``base`` drops all tables and everything in them.
        records: as for `migrate`.
        prefix: as for `migrate`.
        schema: as for `migrate`.
        wait: as for `migrate`.

    Raises:
        SchemaVersionError: the tables are newer than this package, which cannot know the way back.
        ConfigurationError: there is no such revision.
        StorageError: the database refused, or another process did not finish in time.
    """
    naming = _naming(records, prefix, schema)
    target = revisions.resolved(revision)

    def work(connection: Connection) -> None:
        if not revisions.path_down(_known_revision(connection, naming), target):
            return
        with exclusive(connection, naming, wait=wait):
            if revisions.path_down(_known_revision(connection, naming), target):
                revisions.downgrade(connection, naming, target)

    await _on(bind, work)


async def current(
    bind: Bind, *, records: Records | None = None, prefix: str | None = None, schema: str | None = None
) -> str | None:
    """The revision the tables are at, also one this package does not know; ``None`` when there are none.

    Args:
        bind: as for `migrate`.
        records: as for `migrate`.
        prefix: as for `migrate`.
        schema: as for `migrate`.
    """
    naming = _naming(records, prefix, schema)
    found: list[str | None] = []
    await _on(bind, lambda connection: found.append(revisions.stored(connection, naming)))
    return found[0]


async def check(
    bind: Bind, *, records: Records | None = None, prefix: str | None = None, schema: str | None = None
) -> None:
    """Make sure that the tables fit this release.

    Args:
        bind: as for `migrate`.
        records: as for `migrate`.
        prefix: as for `migrate`.
        schema: as for `migrate`.

    Raises:
        SchemaVersionError: the tables are missing, older or newer.
    """
    naming = _naming(records, prefix, schema)
    await _on(bind, lambda connection: _require_head(_known_revision(connection, naming), naming))


def sql(
    database: str | URL,
    *,
    revision: str = "head",
    from_revision: str | None = None,
    records: Records | None = None,
    prefix: str | None = None,
    schema: str | None = None,
) -> str:
    """The SQL that `migrate` would run, for somebody with the rights to apply it.

    Args:
        database: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``, or a URL (no connection is made).
        revision: the revision to reach.
        from_revision: the revision the database is at, ``None``: it is empty.
        records: as for `migrate`.
        prefix: as for `migrate`.
        schema: as for `migrate`; it must exist.

    Raises:
        ConfigurationError: the database or a revision is not known.
    """
    lower = None if from_revision is None else revisions.resolved(from_revision)
    return revisions.written(_dialect(database), _naming(records, prefix, schema), lower, revisions.resolved(revision))


def _naming(records: Records | None, prefix: str | None, schema: str | None) -> Naming:
    if records is None:
        return usable(Naming(schema=schema) if prefix is None else Naming(prefix, schema))
    if prefix is not None or schema is not None:
        msg = "records= brings its own prefix and schema; leave prefix= and schema= out"
        raise ConfigurationError(msg)
    return usable(records.naming)


def _refuse_own_columns(records: Records | None) -> None:
    if records is None:
        return
    for theirs, ours in zip(records.tables, RECORDS.tables, strict=True):
        own = sorted(set(theirs.c.keys()) - set(ours.c.keys()))
        if own:
            msg = (
                f"{theirs.name} has columns of your own ({', '.join(own)}), which our migrations do not know; let "
                "your own Alembic make the tables, with nodellm_orm.alembic.upgrade_operations"
            )
            raise ConfigurationError(msg)


def _dialect(database: str | URL) -> str:
    name = database if isinstance(database, str) else database.get_backend_name()
    if "://" in name:
        try:
            name = make_url(name).get_backend_name()
        except (ArgumentError, NoSuchModuleError, ValueError):
            # The cause would quote parts of the URL, in which there may be a password.
            name = "this URL"
    name = name.partition("+")[0]
    if name not in _DIALECTS:
        msg = f"{name} names no database that is supported; use {', '.join(_DIALECTS)}, or a URL of one of them"
        raise ConfigurationError(msg)
    # One script for both: what MariaDB's own dialect writes differently, MySQL does not understand.
    return "mysql" if name == "mariadb" else name


def _known_revision(connection: Connection, naming: Naming) -> str | None:
    """The revision the tables are at.

    Raises:
        SchemaVersionError: this package does not know it.
    """
    ours = not connection.in_transaction()
    revision = revisions.stored(connection, naming)
    if ours:
        connection.rollback()
    if revision is not None and revision not in revisions.known():
        msg = (
            f"the tables {naming.prefix}* are at revision {revision}, which is newer than this package (it knows up "
            f"to {revisions.known()[-1]}); install the release that made them, or a later one"
        )
        raise SchemaVersionError(msg)
    return revision


def _require_head(revision: str | None, naming: Naming) -> None:
    head = revisions.known()[-1]
    if revision is None:
        msg = f"the tables {naming.prefix}* are missing, or only partly made; {_UPGRADE}"
        raise SchemaVersionError(msg)
    if revision != head:
        msg = f"the tables {naming.prefix}* are at revision {revision}, older than this package's {head}; {_UPGRADE}"
        raise SchemaVersionError(msg)


def _ensure_schema(connection: Connection, naming: Naming) -> None:
    if naming.schema is not None and connection.dialect.name == "postgresql":
        connection.execute(CreateSchema(naming.schema, if_not_exists=True))


async def _on(bind: Bind, work: Callable[[Connection], None]) -> None:
    with _translated():
        async with _connected(bind) as connection:
            await connection.run_sync(work)


@asynccontextmanager
async def _connected(bind: object) -> AsyncIterator[AsyncConnection]:
    """A connection of an engine's, or the one that was given."""
    match bind:
        case AsyncConnection():
            yield bind
        case AsyncEngine():
            async with bind.connect() as connection:
                if connection.dialect.name != "sqlite":
                    # A snapshot from before the lock was had would hide what the process before us did.
                    await connection.execution_options(isolation_level="READ COMMITTED")
                yield connection
        case AsyncSession() if bind.bind is not None:
            async with _connected(bind.bind) as connection:
                yield connection
        case async_sessionmaker() if bind.kw.get("bind") is not None:
            async with _connected(bind.kw["bind"]) as connection:
                yield connection
        case _:
            msg = f"{type(bind).__name__} names no database; pass an AsyncEngine, or a session that is bound to one"
            raise ConfigurationError(msg)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        failure = translate(error)
        if code_of(error) not in _FORBIDDEN:
            raise failure from error
        msg = (
            f"{failure}; where a user may not create tables, have the output of `nodellm-orm db upgrade --sql` applied"
        )
        raise StorageError(msg) from error
