"""Chats in a host's own tables: its base, its prefix, its columns."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, Table, delete, func, insert, select
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, selectinload

from nodellm_orm import (
    ConfigurationError,
    SchemaVersionError,
    StorageError,
    create_chat,
    define_records,
    list_chats,
    load_chat,
    make_engine,
    migrate,
    purge,
    tool,
    verify,
)
from nodellm_orm.models import RECORDS as DEFAULT
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database
from tests.integration.store.samples import begin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind


class HostBase(DeclarativeBase):
    """A host's base."""


class Priced:
    """What the host adds to a chat."""

    tier: Mapped[str | None] = mapped_column(String(20))


RECORDS = define_records(HostBase, prefix="assistant_", chat=Priced)


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


async def test_chats_live_in_the_hosts_own_tables(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """With own records everything works in the host's tables, and its own columns are filled by ``values``."""
    speaker = Speaker("openai_chat")
    script = (Says(calls=[FakeCall("double", {"x": 2})]), Says(text="4"), Says(text="more"))
    async with empty_database(database_kind, tmp_path) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(HostBase.metadata.create_all)
        async with speaker.server(*script) as server, speaker.llm(server) as llm:
            chat = await create_chat(
                engine, llm, tools=[double], records=RECORDS, values={"tier": "gold"}, instructions="Be brief."
            )
            assert (await chat.ask("2*2")).content == "4"
            again = await load_chat(engine, llm, chat.id, tools=[double], records=RECORDS)
            assert (await again.ask("more")).content == "more"
            assert [summary.id for summary in await list_chats(engine, records=RECORDS)] == [chat.id]
            with pytest.raises(ConfigurationError, match="there are: tier"):
                await create_chat(engine, llm, records=RECORDS, values={"owner": "eve"})
        async with engine.connect() as connection:
            assert await connection.scalar(select(RECORDS.tables.chats.c.tier)) == "gold"
        await engine.dispose()


class OtherBase(DeclarativeBase):
    """A host whose chats must belong to somebody."""


class User(OtherBase):
    """Somebody."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)


class OwnedChat:
    """Whose it is, and a code that no other chat has."""

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    code: Mapped[str | None] = mapped_column(String(10), unique=True)


OWNED = define_records(OtherBase, prefix="owned_", chat=OwnedChat)


@pytest.fixture
async def host(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A host's database, with its tables and a user, where foreign keys are enforced."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = make_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(OtherBase.metadata.create_all)
            await connection.execute(insert(User).values(id=7))
        yield engine
        await engine.dispose()


async def owned(host: AsyncEngine) -> list[UUID]:
    """The chats that are stored."""
    async with host.connect() as connection:
        return list(await connection.scalars(select(OWNED.tables.chats.c.id)))


async def test_a_value_that_is_missing_is_named(host: AsyncEngine) -> None:
    """A chat that could not be stored is refused before the database is asked, with the line that was meant."""
    speaker = Speaker("openai_chat")
    async with speaker.server() as server, speaker.llm(server) as llm:
        for values in (None, {}, {"code": "x"}, {"user_id": None}):
            with pytest.raises(ConfigurationError, match=r"needs a value for user_id.*values=\{\"user_id\": …\}"):
                await create_chat(host, llm, records=OWNED, values=values)
        chat = await create_chat(host, llm, records=OWNED, values={"user_id": 7})
    assert await owned(host) == [chat.id]


async def test_a_value_that_the_host_s_constraints_forbid_says_whose_they_are(host: AsyncEngine) -> None:
    """A user who is not there, and a code that is taken, are told from a failure of ours; nothing is stored."""
    speaker = Speaker("openai_chat")
    async with speaker.server() as server, speaker.llm(server) as llm:
        chat = await create_chat(host, llm, records=OWNED, values={"user_id": 7, "code": "x"})
        wrong: tuple[dict[str, object], ...] = ({"user_id": 8}, {"user_id": 7, "code": "x"})
        for values in wrong:
            with pytest.raises(StorageError, match=r"your own columns of owned_chats \(code, user_id\)"):
                await create_chat(host, llm, records=OWNED, values=values)
        with pytest.raises(StorageError, match=r"your own columns of owned_chats"):
            await chat.fork()
        again = await create_chat(host, llm, id=chat.id, records=OWNED, values={"user_id": 8})
    assert again.id == chat.id
    assert await owned(host) == [chat.id]


async def test_records_that_were_forgotten_are_asked_for(host: AsyncEngine) -> None:
    """Where the default tables are missing, the error tells of the others."""
    speaker = Speaker("openai_chat")
    async with speaker.server() as server, speaker.llm(server) as llm:
        chat = await create_chat(host, llm, records=OWNED, values={"user_id": 7})
        for call in (load_chat(host, llm, chat.id), list_chats(host), create_chat(host, llm)):
            with pytest.raises(SchemaVersionError, match="pass records="):
                await call


async def test_the_host_s_rows_and_ours_are_read_in_one_query(host: AsyncEngine) -> None:
    """Users join their chats, messages and costs; a relationship that was not loaded says so instead of blocking."""
    speaker = Speaker("openai_chat")
    chats, requests = OWNED.tables.chats, OWNED.tables.requests
    async with speaker.server(Says(text="Fine.")) as server, speaker.llm(server) as llm:
        chat = await create_chat(host, llm, records=OWNED, values={"user_id": 7})
        await chat.ask("How are you?")
    spent = (
        select(User.id, func.count(requests.c.id), func.sum(requests.c.input_tokens))
        .join(chats, chats.c.user_id == User.id)
        .join(requests, requests.c.chat_id == chats.c.id)
        .group_by(User.id)
    )
    async with AsyncSession(host) as session:
        assert [tuple(row) for row in await session.execute(spent)] == [(7, 1, 11)]
        record = (await session.scalars(select(OWNED.chat))).one()
        with pytest.raises(InvalidRequestError, match="raise"):
            _ = record.messages
        loaded = select(OWNED.chat).options(selectinload(OWNED.chat.messages))
        (record,) = (await session.scalars(loaded.execution_options(populate_existing=True))).all()
        assert [message.content for message in record.messages] == ["How are you?", "Fine."]


async def test_two_sets_of_records_do_not_know_each_other(host: AsyncEngine) -> None:
    """In one process and one database each has its own chats, leases, lists and purges, also under the same ids."""
    await migrate(host)
    speaker = Speaker("openai_chat")
    script = (Says(text="default"), Says(text="owned"), Says(text="still"))
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        default = await create_chat(host, llm, owner="ada")
        own = await create_chat(host, llm, id=default.id, owner="ada", records=OWNED, values={"user_id": 7})
        assert (await default.ask("Q")).content == "default"
        assert (await own.ask("Q")).content == "owned"
        assert [message.content for message in default.messages] == ["Q", "default"]

        # A worker has both chats: what renews the leases of one set does not touch those of the other.
        journals = [SqlJournal(open_access(host, records), records) for records in (DEFAULT, OWNED)]
        assert journals[0].database != journals[1].database
        taken = [await begin(journal, await journal.load(default.id, "ada")) for journal in journals]
        assert [await journal.renew([mine.hold]) for journal, mine in zip(journals, taken, strict=True)] == [set()] * 2
        assert await journals[0].cancel(default.id, "ada")
        assert await journals[1].renew([taken[1].hold]) == frozenset()
        assert await journals[1].cancel(default.id, "ada")

        assert (await purge(host, owner="ada", records=OWNED)).chats == 1
        assert list(await list_chats(host, owner="ada", records=OWNED)) == []
        assert [summary.id for summary in await list_chats(host, owner="ada")] == [default.id]
        assert (await (await load_chat(host, llm, default.id, owner="ada")).ask("Q")).content == "still"
    assert (await verify(host)).ok


@pytest.mark.parametrize("action", ["RESTRICT", "SET NULL", "CASCADE"])
async def test_a_user_who_is_deleted_leaves_no_content_without_a_chat(
    database_kind: DatabaseKind, tmp_path: Path, action: str
) -> None:
    """Whatever the host's foreign key says: the chat stays whole, or the user does."""

    class Base(DeclarativeBase):
        """A host's base."""

    users = Table("users", Base.metadata, Column("id", Integer, primary_key=True))

    class Owned:
        user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete=action))

    records = define_records(Base, prefix="x_", chat=Owned)
    speaker = Speaker("openai_chat")
    async with empty_database(database_kind, tmp_path) as url:
        engine = make_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(insert(users).values(id=7))
        async with speaker.server(Says(text="A"), Says(text="B")) as server, speaker.llm(server) as llm:
            chat = await create_chat(engine, llm, owner="7", records=records, values={"user_id": 7})
            await chat.ask("Q")
            refused = pytest.raises(IntegrityError) if action != "SET NULL" else nullcontext()
            with refused:
                async with engine.begin() as connection:
                    await connection.execute(delete(users))
            assert (await chat.ask("Q")).content == "B"
        assert (await verify(engine, records=records)).ok
        assert (await purge(engine, owner="7", records=records)).chats == 1
        async with engine.begin() as connection:
            await connection.execute(delete(users))
        await engine.dispose()


@pytest.mark.mysql
@pytest.mark.parametrize("database_kind", ["mysql"])
async def test_a_string_key_of_the_host_keeps_its_collation(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """A column that refers to a string is given the collation of that string, as the guide says."""

    class Base(DeclarativeBase):
        """A host's base."""

    collation = "utf8mb4_general_ci"
    key = String(36).with_variant(mysql.VARCHAR(36, collation=collation), "mysql", "mariadb")
    users = Table("users", Base.metadata, Column("id", String(36), primary_key=True), mysql_collate=collation)

    class Owned:
        user_id: Mapped[str] = mapped_column(key, ForeignKey("users.id"))

    records = define_records(Base, prefix="x_", chat=Owned)
    speaker = Speaker("openai_chat")
    async with empty_database(database_kind, tmp_path) as url, speaker.server() as server, speaker.llm(server) as llm:
        engine = make_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(insert(users).values(id="ada"))
        chat = await create_chat(engine, llm, records=records, values={"user_id": "ada"})
        assert [summary.id for summary in await list_chats(engine, records=records)] == [chat.id]
        await engine.dispose()
