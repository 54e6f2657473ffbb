"""A host that has an Alembic of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nodellm_orm.alembic import (
    downgrade_operations,
    include_object,
    include_others,
    include_owned,
    render_item,
    upgrade_operations,
)
from nodellm_orm.errors import ConfigurationError, SchemaVersionError
from nodellm_orm.models import Base, define_records
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store import revisions
from nodellm_orm.store.schema import check, current, migrate
from tests.migrations.definitions import definitions, tables_of

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.alembic import IncludeObject
    from nodellm_orm.models import Records

pytestmark = pytest.mark.fault("D08")
NEWEST = revisions.known()[-1]


def host_metadata() -> sa.MetaData:
    """The host's tables; one of them shares our prefix."""
    metadata = sa.MetaData()
    sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("llm_prompts", metadata, sa.Column("id", sa.Integer, primary_key=True))
    return metadata


def proposed(connection: Connection, metadata: sa.MetaData, include: IncludeObject | None) -> list[tuple[str, str]]:
    """What the host's autogenerate would do, as pairs of operation and table."""
    context = MigrationContext.configure(connection=connection, opts={"include_object": include})
    changes = compare_metadata(context, metadata)
    return sorted((change[0], change[1].name) for change in changes if change[0].endswith("_table"))


async def test_autogenerate_leaves_our_tables_alone(engine: AsyncEngine) -> None:
    """Our tables, indexes and version table are neither dropped nor added; the host's own are seen."""
    await migrate(engine)

    async with engine.connect() as connection:
        changes = await connection.run_sync(proposed, host_metadata(), include_object)
        without = await connection.run_sync(proposed, host_metadata(), None)

    assert changes == [("add_table", "llm_prompts"), ("add_table", "users")]
    assert ("remove_table", "llm_chats") in without


async def test_autogenerate_does_not_add_our_tables(engine: AsyncEngine) -> None:
    """A host whose metadata contains our records does not make the tables a second time."""
    async with engine.connect() as connection:
        assert await connection.run_sync(proposed, Base.metadata, include_object) == []
        assert await connection.run_sync(proposed, Base.metadata, None) != []


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_host_s_own_rule_still_counts(engine: AsyncEngine) -> None:
    """Two rules are combined: both have to agree."""

    def own_rule(obj: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:  # noqa: FBT001 — as Alembic calls it
        del obj, type_, reflected, compare_to
        return name != "users"

    await migrate(engine, prefix="chat_")
    combined = include_others(prefix="chat_", also=own_rule)

    async with engine.connect() as connection:
        assert await connection.run_sync(proposed, host_metadata(), combined) == [("add_table", "llm_prompts")]


@pytest.mark.postgresql
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_the_same_names_in_another_schema_are_the_host_s(engine: AsyncEngine) -> None:
    """Only the schema that was named is ours."""
    metadata = sa.MetaData()
    sa.Table("llm_chats", metadata, sa.Column("id", sa.Integer, primary_key=True))

    async with engine.connect() as connection:
        include = include_others(schema="llm")
        assert await connection.run_sync(proposed, metadata, include) == [("add_table", "llm_chats")]


async def test_the_host_s_version_table_is_another_one(engine: AsyncEngine) -> None:
    """The host's ``alembic_version`` and ours do not know each other."""

    def stamp(connection: Connection) -> None:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('abc123')"))

    async with engine.begin() as connection:
        await connection.run_sync(stamp)

    await migrate(engine)

    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "abc123"
    await check(engine)


async def test_a_host_s_revision_can_make_our_tables(engine: AsyncEngine) -> None:
    """In two of the host's revisions our tables become what `migrate` makes, and are known to be so."""
    await migrate(engine, prefix="same_")

    def both(connection: Connection) -> None:
        op = Operations(MigrationContext.configure(connection=connection))
        upgrade_operations(op, to_revision="0001", prefix="host_")
        op.add_column("host_chats", sa.Column("team_id", sa.Integer()))
        upgrade_operations(op, from_revision="0001", to_revision=NEWEST, prefix="host_")
        op.drop_column("host_chats", "team_id")

    async with engine.begin() as connection:
        await connection.run_sync(both)

    await check(engine, prefix="host_")
    made = await definitions(engine)
    for suffix in ("turns", "messages", "tool_calls", "requests", "usage"):
        assert [line.replace("host_", "same_") for line in made[f"host_{suffix}"]] == made[f"same_{suffix}"]


async def test_a_host_s_revision_can_take_our_tables_back(engine: AsyncEngine) -> None:
    """Step by step, and in the end nothing is left but the empty version table."""
    await migrate(engine)

    def back(connection: Connection) -> None:
        downgrade_operations(
            Operations(MigrationContext.configure(connection=connection)), from_revision=NEWEST, to_revision="0001"
        )

    def off(connection: Connection) -> None:
        downgrade_operations(Operations(MigrationContext.configure(connection=connection)), from_revision="0001")

    async with engine.begin() as connection:
        await connection.run_sync(back)
    assert await current(engine) == "0001"
    async with engine.begin() as connection:
        await connection.run_sync(off)

    assert await current(engine) is None
    assert await tables_of(engine) == {"llm_alembic_version"}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_host_s_revision_names_a_revision_of_ours(engine: AsyncEngine) -> None:
    """A typing error is found before anything is changed."""

    def wrong(connection: Connection) -> None:
        upgrade_operations(Operations(MigrationContext.configure(connection=connection)), to_revision="0815")

    async with engine.begin() as connection:
        with pytest.raises(ConfigurationError, match="no revision '0815'"):
            await connection.run_sync(wrong)
    assert await tables_of(engine) == set()


class OwnedChat:
    """What a host adds to the chats: one column with a foreign key, and one with an index."""

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    pinned: Mapped[bool] = mapped_column(default=False, server_default="0")


def owning_host() -> Records:
    """A host's records, in the metadata that its Alembic compares, beside a table of its own."""

    class HostBase(DeclarativeBase):
        """The host's base."""

    sa.Table("users", HostBase.metadata, sa.Column("id", sa.Integer, primary_key=True))
    return define_records(HostBase, prefix="own_", chat=OwnedChat)


def first_revision(connection: Connection, revision: str) -> None:
    """The host's revision that begins with the library at one of its revisions."""
    op = Operations(MigrationContext.configure(connection=connection))
    op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))
    upgrade_operations(op, to_revision=revision, prefix="own_")
    with op.batch_alter_table("own_chats") as chats:
        chats.add_column(sa.Column("user_id", sa.Integer(), nullable=False))
        chats.add_column(sa.Column("pinned", sa.Boolean(), server_default="0", nullable=False))
        chats.create_foreign_key("fk_own_chats_user_id", "users", ["user_id"], ["id"])
        chats.create_index("ix_own_chats_user_id", ["user_id"])


def fill(connection: Connection, records: Records) -> None:
    """A row in every table, as an earlier release writes them."""
    chat, turn, message, now = (*(new_id() for _ in range(3)), datetime(2026, 1, 2, tzinfo=UTC))
    of_chat, of_message = {"chat_id": chat}, {"chat_id": chat, "message_id": message, "position": 0}
    scope = {"owner": "ada", "sha256": "a" * 64, "created_at": now}
    said = {"role": "user", "content": "Q", "parts": "[]", "status": "complete"}
    call = {"turn_id": turn, "call_id": "call_1", "name": "f", "arguments": '{"a": 1.0}', "status": "succeeded"}
    file = {"kind": "text", "media_type": "text/plain", "sha256": "a" * 64}
    asked = {"operation": "chat", "provider": "openai", "requested_model": "m", "status": "ok", "attempt": 1}
    rows: dict[str, dict[str, object]] = {
        "chats": {"id": chat, "owner": "ada", "user_id": 7, "title": "Grüße 🌍", "created_at": now, "updated_at": now},
        "turns": {**of_chat, "id": turn, "position": 0, "status": "completed", "settings": "{}", "started_at": now},
        "messages": {**of_chat, "position": 0, "id": message, **said, "created_at": now},
        "tool_calls": {**of_message, "id": new_id(), **call},
        "thinking": {**of_message, "id": new_id(), "text": "Hm", "redacted": False},
        "attachments": {**of_message, "id": new_id(), **file},
        "requests": {**of_chat, "id": new_id(), **asked, "cost": Decimal("0.000000000001"), "created_at": now},
        "blobs": {**scope, "size": 1, "data": b"\x00"},
        "texts": {**scope, "text": "Be brief."},
    }
    connection.execute(sa.insert(records.metadata.tables["users"]).values(id=7))
    for suffix, row in rows.items():
        connection.execute(sa.insert(getattr(records.tables, suffix)).values(row))


def contents(connection: Connection) -> dict[str, list[dict[str, object]]]:
    """Everything in the tables, as the database itself has it."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    left_out = {"own_alembic_version"}
    return {
        name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
        for name, table in metadata.tables.items()
        if name not in left_out
    }


def missing(connection: Connection, records: Records) -> list[object]:
    """What the owning host's autogenerate would still do."""
    options = {"include_object": include_owned(prefix="own_"), "compare_type": True, "compare_server_default": True}
    found: list[object] = compare_metadata(
        MigrationContext.configure(connection=connection, opts=options), records.metadata
    )
    return found


@pytest.mark.fault("D01")
@pytest.mark.parametrize("start", revisions.known()[:-1])
async def test_tables_of_the_host_are_upgraded_with_everything_in_them(engine: AsyncEngine, start: str) -> None:
    """From each earlier revision the host's own revision leads on; rows are as before, and nothing differs."""
    records = owning_host()
    async with engine.begin() as connection:
        await connection.run_sync(first_revision, start)
    async with engine.begin() as connection:
        await connection.run_sync(fill, records)
        before = await connection.run_sync(contents)
        # The last revision makes views only, which are no part of the records.
        assert start in {"0001", "0003"} or await connection.run_sync(missing, records) != []

    def upgrade(connection: Connection) -> None:
        op = Operations(MigrationContext.configure(connection=connection))
        upgrade_operations(op, from_revision=start, to_revision=NEWEST, prefix="own_")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)

    async with engine.connect() as connection:
        assert await connection.run_sync(missing, records) == []
        after = await connection.run_sync(contents)
    await check(engine, records=records)
    assert after.keys() >= before.keys()
    for name, rows in before.items():
        assert [{**new, **old} for new, old in zip(after[name], rows, strict=True)] == after[name]


async def test_autogenerate_compares_what_the_host_owns(engine: AsyncEngine) -> None:
    """A column that the host's revisions forgot is found; the library's version table is not one too many."""
    records = owning_host()

    def without_columns(connection: Connection) -> None:
        op = Operations(MigrationContext.configure(connection=connection))
        op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))
        upgrade_operations(op, to_revision=NEWEST, prefix="own_")

    async with engine.begin() as connection:
        await connection.run_sync(without_columns)

    async with engine.connect() as connection:
        found = await connection.run_sync(missing, records)
    assert {(change[0], change[3].name) for change in found if isinstance(change, tuple) and len(change) > 3} == {
        ("add_column", "user_id"),
        ("add_column", "pinned"),
    }
    assert not any("alembic_version" in str(change) for change in found)


async def test_tables_that_the_host_has_not_upgraded_name_his_remedy(engine: AsyncEngine) -> None:
    """The check at start-up tells the owner of the tables what his revision calls."""
    records = owning_host()
    async with engine.begin() as connection:
        await connection.run_sync(first_revision, "0001")

    with pytest.raises(SchemaVersionError, match=r"own_\* are at revision 0001.*upgrade_operations"):
        await check(engine, records=records)


def test_a_prefix_that_cannot_be_used_is_refused_in_env_py() -> None:
    """An empty prefix would leave out tables of the host's."""
    with pytest.raises(ConfigurationError, match="1 to 24 letters"):
        include_owned(prefix="")


async def test_autogenerate_writes_a_table_that_refers_to_chats(engine: AsyncEngine) -> None:
    """What it writes runs as it is, on every database, and the foreign key is accepted there."""
    records = owning_host()
    table = sa.Table(
        "notes",
        records.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("chat_id", sa.ForeignKey(records.tables.chats.c.id, ondelete="CASCADE"), nullable=False),
    )
    async with engine.begin() as connection:
        await connection.run_sync(first_revision, NEWEST)

    def write_and_run(connection: Connection) -> str:
        imports: set[str] = set()

        def render(type_: str, obj: object, autogen_context: AutogenContext) -> str | Literal[False]:
            rendered = render_item(type_, obj, autogen_context)
            imports.update(autogen_context.imports)
            return rendered

        context = MigrationContext.configure(
            connection=connection, opts={"include_object": include_owned(prefix="own_")}
        )
        operations = produce_migrations(context, records.metadata).upgrade_ops
        assert operations is not None
        written = render_python_code(operations, render_item=render)
        script = "\n".join((*imports, "def upgrade(op, sa):", *(f"    {line}" for line in written.splitlines())))
        names: dict[str, Any] = {}
        exec(script, names)  # noqa: S102 — as Alembic runs it
        names["upgrade"](Operations(context), sa)
        return script

    async with engine.begin() as connection:
        script = await connection.run_sync(write_and_run)
        assert "from nodellm_orm.models import Id\n" in script
        await connection.run_sync(fill, records)
        chats = await connection.scalars(sa.select(records.tables.chats.c.id))
        await connection.execute(sa.insert(table).values(id=1, chat_id=chats.one()))

    async with engine.connect() as connection:
        assert await connection.run_sync(missing, records) == []


@pytest.mark.parametrize(
    ("operations", "options"),
    [
        (upgrade_operations, {"from_revision": "0002", "to_revision": "0001"}),
        (upgrade_operations, {"from_revision": "0002", "to_revision": "0002"}),
        (upgrade_operations, {"to_revision": "base"}),
        (downgrade_operations, {"from_revision": "0001", "to_revision": "0002"}),
        (downgrade_operations, {"from_revision": "base"}),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_two_revisions_in_the_wrong_order_are_refused(
    engine: AsyncEngine, operations: Any, options: dict[str, str]
) -> None:
    """Mixed up they would do nothing, and note a revision that the tables are not at."""
    async with engine.begin() as connection:
        with pytest.raises(ConfigurationError, match="in order: 0001, 0002"):
            await connection.run_sync(
                lambda inner: operations(Operations(MigrationContext.configure(connection=inner)), **options)
            )
    assert await tables_of(engine) == set()


@pytest.mark.parametrize(
    ("at", "operations", "options"),
    [
        ("0001", upgrade_operations, {"from_revision": "0002", "to_revision": "0003"}),
        ("0003", upgrade_operations, {"from_revision": "0001", "to_revision": "0002"}),
        ("0003", upgrade_operations, {"to_revision": "0002"}),
        (None, upgrade_operations, {"from_revision": "0001", "to_revision": "0002"}),
        ("0003", downgrade_operations, {"from_revision": "0002", "to_revision": "0001"}),
        ("0001", downgrade_operations, {"from_revision": "0003", "to_revision": "0002"}),
    ],
)
async def test_a_revision_of_the_host_s_that_is_not_the_next_one_is_refused(
    engine: AsyncEngine, at: str | None, operations: Any, options: dict[str, str]
) -> None:
    """No step is left out and no older revision is noted; the tables stay where they are."""
    if at is not None:
        await migrate(engine, revision=at)
    before = await definitions(engine)
    async with engine.begin() as connection:
        with pytest.raises(SchemaVersionError, match=rf"at revision {at or 'base'}, but .* leads between"):
            await connection.run_sync(
                lambda inner: operations(Operations(MigrationContext.configure(connection=inner)), **options)
            )
    assert await current(engine) == at
    assert await definitions(engine) == before


async def test_a_revision_of_the_host_s_can_be_run_again(engine: AsyncEngine) -> None:
    """What was interrupted before the host's own version was written is done already, and stays so."""

    def twice(connection: Connection, *, lower: str | None, upper: str) -> None:
        op = Operations(MigrationContext.configure(connection=connection))
        for _ in range(2):
            upgrade_operations(op, from_revision=lower, to_revision=upper)

    async with engine.begin() as connection:
        await connection.run_sync(lambda inner: twice(inner, lower=None, upper="0002"))
        await connection.run_sync(lambda inner: twice(inner, lower="0002", upper=NEWEST))

    await check(engine)
