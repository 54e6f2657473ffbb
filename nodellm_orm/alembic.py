"""For a host's own Alembic: keep it off our tables, or let it own them.

Usually `nodellm_orm.migrate` makes our tables, with a version table of their own, and the host's autogenerate must not
touch them; in the host's ``env.py``::

    from nodellm_orm.alembic import include_object

    context.configure(connection=connection, target_metadata=Base.metadata, include_object=include_object)

A host that adds columns, or wants one history, owns the tables: its revisions call `upgrade_operations`, and its
autogenerate compares them like its own, but for the version table (`include_owned`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from nodellm_orm.store import revisions
from nodellm_orm.store.naming import Naming, usable
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import Id
from nodellm_orm.store.wordtables import COLUMN, SUFFIXES, index_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alembic.autogenerate.api import AutogenContext

    from nodellm_orm.store.steps import Operating

__all__ = [
    "IncludeObject",
    "downgrade_operations",
    "include_object",
    "include_others",
    "include_owned",
    "render_item",
    "upgrade_operations",
]


class IncludeObject(Protocol):
    """What Alembic asks for each table, column, index and constraint it finds: whether to compare it."""

    def __call__(self, obj: Any, name: str | None, type_: Any, reflected: bool, compare_to: Any, /) -> bool:  # noqa: FBT001 — as Alembic calls it
        """Say ``False`` to leave it alone."""
        ...


def include_others(
    *, prefix: str = "llm_", schema: str | None = None, also: IncludeObject | None = None
) -> IncludeObject:
    """Make an ``include_object`` for tables under another prefix or schema, or one that asks the host's own too.

    Args:
        prefix: begins the names of our tables.
        schema: the schema they are in, as Alembic names it: ``None`` for the connection's own.
        also: the host's own function; what is not ours is included when it says so.

    Example::

        context.configure(..., include_object=include_others(prefix="assistant_", also=my_include_object))
    """
    suffixes = [table.name.removeprefix(RECORDS.naming.prefix) for table in RECORDS.tables]
    return _without(usable(Naming(prefix, schema)), (*suffixes, revisions.VERSION_TABLE, revisions.VIEW), also)


def include_owned(
    *, prefix: str = "llm_", schema: str | None = None, also: IncludeObject | None = None
) -> IncludeObject:
    """Make an ``include_object`` for a host that owns the tables: autogenerate compares them, with its own columns.

    Left alone are only the version table, the view and the optional index of words, which the host's metadata does not
    have.

    Args:
        prefix: begins the names of our tables.
        schema: the schema they are in, as Alembic names it: ``None`` for the connection's own.
        also: the host's own function; the rest is included when it says so.

    Example::

        context.configure(..., target_metadata=Base.metadata, include_object=include_owned(prefix="assistant_"))
    """
    return _without(usable(Naming(prefix, schema)), (revisions.VERSION_TABLE, revisions.VIEW), also)


def render_item(type_: str, obj: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """A ``render_item`` that lets autogenerate write a column of our types, with its import.

    Such columns are in tables of the host's that refer to ours: a foreign key to a chat has the type `Id`.

    Args:
        type_: what is rendered.
        obj: the thing itself.
        autogen_context: where imports are noted.

    Example::

        context.configure(..., render_item=render_item)
    """
    kind = type(obj)
    if type_ != "type" or kind.__module__ != Id.__module__:
        return False
    autogen_context.imports.add(
        f"from {'nodellm_orm.models' if kind is Id else kind.__module__} import {kind.__name__}"
    )
    return repr(obj)


def _without(naming: Naming, suffixes: Iterable[str], also: IncludeObject | None) -> IncludeObject:
    left_out = {naming.table(suffix) for suffix in (*suffixes, *SUFFIXES)}
    messages, words = naming.table("messages"), {index_name(naming), COLUMN}

    def include(obj: Any, name: str | None, type_: Any, reflected: bool, compare_to: Any, /) -> bool:  # noqa: FBT001 — as Alembic calls it
        table = obj if type_ == "table" else getattr(obj, "table", None)
        if table is not None and table.schema == naming.schema:
            if table.name in left_out:
                return False
            if table.name == messages and type_ in {"index", "column"} and name in words:
                return False
        return also is None or also(obj, name, type_, reflected, compare_to)

    return include


include_object: IncludeObject = include_others()
"""Keeps autogenerate off the tables under the default names; `include_others` for other names."""


def upgrade_operations(
    op: Operating,
    *,
    from_revision: str | None = None,
    to_revision: str,
    prefix: str = "llm_",
    schema: str | None = None,
) -> None:
    """Bring our tables from one of our revisions to another, within a revision of the host's.

    Each release names its revision in the changelog; write it out, so that a revision of yours never changes its
    meaning. The revision reached is noted in ``llm_alembic_version``, so that start-up checks find what they expect.

    Args:
        op: ``alembic.op``.
        from_revision: our revision the tables are at, ``None``: there are none.
        to_revision: our revision to reach.
        prefix: begins the names of our tables.
        schema: the schema they are in; it must exist.

    Raises:
        ConfigurationError: there is no such revision, none that leads up, or the prefix cannot be used.
        SchemaVersionError: a table of that name is there, but it is not ours; or the tables are at another revision.

    Example::

        from alembic import op
        from nodellm_orm.alembic import downgrade_operations, upgrade_operations

        def upgrade():
            upgrade_operations(op, to_revision="0003", prefix="assistant_")
            op.add_column("assistant_chats", sa.Column("team_id", sa.Integer(), nullable=True))

        def downgrade():
            op.drop_column("assistant_chats", "team_id")
            downgrade_operations(op, from_revision="0003", prefix="assistant_")
    """
    lower = None if from_revision is None else revisions.resolved(from_revision)
    revisions.apply(op, usable(Naming(prefix, schema)), lower, revisions.resolved(to_revision))


def downgrade_operations(
    op: Operating,
    *,
    from_revision: str,
    to_revision: str | None = None,
    prefix: str = "llm_",
    schema: str | None = None,
) -> None:
    """Take our tables back from one of our revisions to an earlier one, within a revision of the host's.

    Args:
        op: ``alembic.op``.
        from_revision: our revision the tables are at.
        to_revision: our revision to go back to, ``None``: drop the tables.
        prefix: begins the names of our tables.
        schema: the schema they are in.

    Raises:
        ConfigurationError: there is no such revision, none that leads down, or the prefix cannot be used.
        SchemaVersionError: the tables are at another revision.
    """
    lower = revisions.BASE if to_revision is None else revisions.resolved(to_revision)
    revisions.revert(op, usable(Naming(prefix, schema)), revisions.resolved(from_revision), lower)
