"""The revisions of the schema: where their scripts are, and how a connection is taken from one to another.

Alembic's version table is ours alone (``llm_alembic_version``), so that a host's Alembic goes its own way beside it.
Revisions are called with `Steps` instead of using Alembic's global ``op``: several engines can be migrated at once.
"""

from __future__ import annotations

from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Column, PrimaryKeyConstraint, String, column, table

from nodellm_orm.errors import ConfigurationError, SchemaVersionError
from nodellm_orm.store.steps import Operating, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alembic.script import Script
    from sqlalchemy import Connection

    from nodellm_orm.store.naming import Naming

VERSION_TABLE: Final = "alembic_version"
"""The version table's name, without the prefix."""
VIEW: Final = "usage"
"""The view's name, without the prefix."""
BASE: Final = "base"
"""Before the first revision."""


def location() -> Path:
    """The folder of the scripts: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "_migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"


@cache
def scripts() -> ScriptDirectory:
    """The scripts, read once."""
    return ScriptDirectory(str(location()))


@cache
def known() -> tuple[str, ...]:
    """All revisions, oldest first; they form one line."""
    return tuple(script.revision for script in reversed(list(scripts().walk_revisions())))


def resolved(revision: str) -> str:
    """A revision's own name for what a caller wrote, such as ``head``.

    Raises:
        ConfigurationError: there is no such revision.
    """
    if revision == "head":
        return known()[-1]
    if revision in known() or revision == BASE:
        return revision
    msg = f"there is no revision {revision!r}; use head, {BASE} or one of {', '.join(known())}"
    raise ConfigurationError(msg)


def version_options(naming: Naming) -> dict[str, Any]:
    """What Alembic must be told about the version table."""
    return {"version_table": naming.table(VERSION_TABLE), "version_table_schema": naming.schema}


def stored(connection: Connection, naming: Naming) -> str | None:
    """The revision that a database is at; ``None`` when it has none.

    Raises:
        SchemaVersionError: the version table has several rows.
    """
    heads = MigrationContext.configure(connection=connection, opts=version_options(naming)).get_current_heads()
    if len(heads) > 1:
        msg = (
            f"the table {naming.table(VERSION_TABLE)} names several revisions ({', '.join(sorted(heads))}), which no "
            "release writes; delete all rows but that of the revision the tables are really at"
        )
        raise SchemaVersionError(msg)
    return heads[0] if heads else None


def path_up(lower: str | None, upper: str) -> tuple[Script, ...]:
    """The scripts that lead up, oldest first; none when there is nothing to do."""
    return tuple(_script(name) for name in known()[_height(lower) : _height(upper)])


def path_down(upper: str | None, lower: str) -> tuple[Script, ...]:
    """The scripts that lead down, newest first; none when there is nothing to do."""
    return tuple(_script(name) for name in reversed(known()[_height(lower) : _height(upper)]))


def upgrade(connection: Connection, naming: Naming, target: str) -> None:
    """Take a database up to a revision, within the transaction the connection is in."""
    _run(connection, naming, lambda current: _steps_up(path_up(current, target)))


def downgrade(connection: Connection, naming: Naming, target: str) -> None:
    """Take a database down to a revision, within the transaction the connection is in."""
    _run(connection, naming, lambda current: _steps_down(path_down(current, target)))


def written(dialect: str, naming: Naming, lower: str | None, upper: str) -> str:
    """The SQL that takes a database up, for a person to apply.

    Args:
        dialect: ``sqlite``, ``postgresql`` or ``mysql``.
        naming: prefix and schema of the tables.
        lower: the revision the database is at, ``None``: empty.
        upper: the revision to reach.
    """
    buffer = StringIO()
    context = MigrationContext.configure(
        dialect_name=dialect,
        # Another style would double every percent sign.
        dialect_opts={"paramstyle": "named"},
        opts={
            **version_options(naming),
            "as_sql": True,
            "output_buffer": buffer,
            "starting_rev": lower,
            "script": scripts(),
            "transactional_ddl": dialect in {"sqlite", "postgresql"},
            "fn": lambda _heads, _context: _steps_up(path_up(lower, upper)),
        },
    )
    with context.begin_transaction():
        context.run_migrations(steps=Steps(Operations(context), naming))
    return buffer.getvalue()


def apply(op: Operating, naming: Naming, lower: str | None, upper: str) -> None:
    """Run the operations that lead up within a migration of somebody else's, and note the revision reached.

    Raises:
        ConfigurationError: there is no way up from the one to the other.
        SchemaVersionError: the tables are at a revision that is not between them.
    """
    _check_order(lower, upper, f"upgrade_operations leads up, not from {lower or BASE} to {upper}")
    steps = Steps(op, naming)
    # Whoever begins with nothing may find tables: each step looks at what is there.
    _check_place(steps, None if lower in {None, BASE} else lower, upper)
    for script in path_up(lower, upper):
        script.module.upgrade(steps)
    _note(steps, upper)


def revert(op: Operating, naming: Naming, upper: str, lower: str) -> None:
    """Run the operations that lead down within a migration of somebody else's, and note the revision reached.

    Raises:
        ConfigurationError: there is no way down from the one to the other.
        SchemaVersionError: the tables are at a revision that is not between them.
    """
    _check_order(lower, upper, f"downgrade_operations leads down, not from {upper} to {lower}")
    steps = Steps(op, naming)
    _check_place(steps, lower, upper)
    for script in path_down(upper, lower):
        script.module.downgrade(steps)
    _note(steps, lower)


def _run(connection: Connection, naming: Naming, path: Callable[[str | None], list[MigrationStep]]) -> None:
    def chosen(heads: tuple[str, ...], _context: MigrationContext) -> list[MigrationStep]:
        return path(heads[0] if heads else None)

    context = MigrationContext.configure(
        connection=connection, opts={**version_options(naming), "script": scripts(), "fn": chosen}
    )
    context.run_migrations(steps=Steps(Operations(context), naming))


def _check_order(lower: str | None, upper: str, wrong: str) -> None:
    if _height(lower) >= _height(upper):
        msg = f"{wrong}; the revisions are, in order: {', '.join(known())}"
        raise ConfigurationError(msg)


def _check_place(steps: Steps, lower: str | None, upper: str) -> None:
    """Refuse to skip steps, or to note an older revision than the tables are at; where SQL is written, nobody knows."""
    context = steps.op.get_context()
    if context.as_sql or context.connection is None:
        return
    current = stored(context.connection, steps.naming)
    if current is None or current in known():
        low, high = _height(lower), _height(upper)
        # What was interrupted behind its last step is run again, and finds the revision noted.
        if low <= _height(current) <= high:
            return
    msg = (
        f"the tables {steps.naming.prefix}* are at revision {current or BASE}, but your revision leads between "
        f"{lower or BASE} and {upper}; correct from_revision and to_revision, or run the revisions before it"
    )
    raise SchemaVersionError(msg)


def _note(steps: Steps, revision: str) -> None:
    name, schema = steps.naming.table(VERSION_TABLE), steps.naming.schema
    steps.create_table(
        VERSION_TABLE, Column("version_num", String(32), nullable=False), PrimaryKeyConstraint("version_num")
    )
    versions = table(name, column("version_num", String(32)), schema=schema)
    steps.op.execute(versions.delete())
    if revision != BASE:
        steps.op.execute(versions.insert().values(version_num=steps.op.inline_literal(revision)))


def _steps_up(path: Iterable[Script]) -> list[MigrationStep]:
    return [MigrationStep.upgrade_from_script(scripts().revision_map, script) for script in path]


def _steps_down(path: Iterable[Script]) -> list[MigrationStep]:
    return [MigrationStep.downgrade_from_script(scripts().revision_map, script) for script in path]


def _height(revision: str | None) -> int:
    """How many revisions lead there."""
    return 0 if revision in {None, BASE} else known().index(str(revision)) + 1


def _script(name: str) -> Script:
    script = scripts().get_revision(name)
    if script is None:
        msg = f"the revision {name!r} is not among the scripts of this package; install it again"
        raise ConfigurationError(msg)
    return script
