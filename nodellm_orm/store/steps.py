"""What revisions are written with: operations that know prefix and schema, and that can each be run again.

On MySQL every DDL statement commits itself, so a revision that was interrupted is begun anew from its first step, and
each step looks at what is there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from alembic.operations import Operations
from sqlalchemy import Column, MetaData, Table, inspect

from nodellm_orm.errors import SchemaVersionError
from nodellm_orm.store.wordtables import KEYS, WORDS

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Inspector
    from sqlalchemy.schema import SchemaItem

    from nodellm_orm.store.naming import Naming


class Operating(Protocol):
    """Alembic's ``op``: the module of that name, or an `alembic.operations.Operations`."""

    def get_context(self) -> MigrationContext:
        """The migration context that the operations run in."""
        ...


class Steps:
    """The operations of a revision.

    Args:
        op: Alembic's ``op``.
        naming: prefix and schema of the tables.
    """

    def __init__(self, op: Operating, naming: Naming) -> None:
        """Bind to a migration context."""
        self.op = Operations(op.get_context())
        self.naming = naming

    @property
    def dialect(self) -> str:
        """``sqlite``, ``postgresql``, ``mysql`` (also for MariaDB), or another name of SQLAlchemy's."""
        name = self.op.get_context().dialect.name
        return "mysql" if name == "mariadb" else name

    def quoted(self, suffix: str) -> str:
        """A table's or view's full name as it is written in SQL."""
        table = Table(self.naming.table(suffix), MetaData(), schema=self.naming.schema)
        return self.op.get_context().dialect.identifier_preparer.format_table(table)

    def create_table(self, suffix: str, *items: SchemaItem) -> None:
        """Create a table, unless it is there.

        Raises:
            SchemaVersionError: a table of that name is there, but without columns that it must have.
        """
        name = self.naming.table(suffix)
        inspector = self._inspector()
        if inspector is None or not inspector.has_table(name, schema=self.naming.schema):
            options: dict[str, Any] = {**self.naming.options()}
            self.op.create_table(name, *items, **options)
            return
        there = {column["name"] for column in inspector.get_columns(name, schema=self.naming.schema)}
        missing = [item.name for item in items if isinstance(item, Column) and item.name not in there]
        if missing:
            msg = (
                f"the table {name} exists already, without the columns {', '.join(missing)}: it was not made by this "
                "package, or by another version of it; rename it, or choose another prefix"
            )
            raise SchemaVersionError(msg)

    def drop_table(self, suffix: str) -> None:
        """Drop a table, if it is there; on SQLite with the messages also the words that were indexed of them."""
        if suffix == "messages" and self.dialect == "sqlite":
            for part in (WORDS, KEYS):
                self.op.execute(f"DROP TABLE IF EXISTS {self.quoted(part)}")
        name, schema = self.naming.table(suffix), self.naming.schema
        inspector = self._inspector()
        # IF EXISTS alone would do, but MySQL's drivers turn its note into a Python warning.
        if inspector is None or inspector.has_table(name, schema=schema):
            self.op.drop_table(name, schema=schema, if_exists=inspector is None)

    def add_column(self, suffix: str, column: Column[Any]) -> None:
        """Add a column at the end of a table, unless it is there.

        Args:
            suffix: the table's name without the prefix.
            column: may be NULL or has a default of the server's, so that the rows that are there can take it.
        """
        if column.name not in self._columns(suffix):
            self.op.add_column(self.naming.table(suffix), column, schema=self.naming.schema)

    def drop_column(self, suffix: str, name: str) -> None:
        """Drop a column, if it is there; a constraint or an index on it has to be dropped first."""
        if self._inspector() is None or name in self._columns(suffix):
            self.op.drop_column(self.naming.table(suffix), name, schema=self.naming.schema)

    def _columns(self, suffix: str) -> set[str]:
        """The columns that a table has now; none where SQL is only written down."""
        inspector = self._inspector()
        if inspector is None:
            return set()
        found = inspector.get_columns(self.naming.table(suffix), schema=self.naming.schema)
        return {column["name"] for column in found}

    def create_index(self, suffix: str, *columns: str) -> None:
        """Create an index under its fixed name, unless it is there."""
        table, schema = self.naming.table(suffix), self.naming.schema
        name = self.naming.index(suffix, *columns).name
        inspector = self._inspector()
        if inspector is None or name not in {index["name"] for index in inspector.get_indexes(table, schema=schema)}:
            self.op.create_index(name, table, list(columns), schema=schema)

    def create_view(self, suffix: str, select: str) -> None:
        """Create a view, in place of one that is there.

        Args:
            suffix: its name without the prefix.
            select: what it shows; a colon that is no parameter is written with a backslash.
        """
        if self.dialect == "mysql":
            # In one statement, because each is a transaction of its own. The rights of whoever asks apply, and the
            # view outlives the user who made it.
            create = "CREATE OR REPLACE SQL SECURITY INVOKER VIEW"
        else:
            # PostgreSQL replaces a view only by one with the same columns, SQLite not at all.
            self.drop_view(suffix)
            create = "CREATE VIEW"
        self.op.execute(f"{create} {self.quoted(suffix)} AS {select}")

    def drop_view(self, suffix: str) -> None:
        """Drop a view, if it is there."""
        inspector = self._inspector()
        if inspector is None:
            self.op.execute(f"DROP VIEW IF EXISTS {self.quoted(suffix)}")
        elif self.naming.table(suffix) in inspector.get_view_names(schema=self.naming.schema):
            self.op.execute(f"DROP VIEW {self.quoted(suffix)}")

    def _inspector(self) -> Inspector | None:
        """What is there now; ``None`` where SQL is only written down."""
        context = self.op.get_context()
        # A new one each time: inspectors remember what they have seen.
        return None if context.as_sql or context.connection is None else inspect(context.connection)
