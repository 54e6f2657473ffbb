"""What a caller keeps and is told when his database, or his own session on it, fails around a turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import String, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from nodellm_orm import StorageError, create_chat, list_chats, load_chat, tool
from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.talks import double

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

OPENAI: Final = Speaker("openai_chat")
CALL: Final = FakeCall("double", {"x": 21})


class HostBase(DeclarativeBase):
    """A host's own tables."""


class Note(HostBase):
    """A row of the host's."""

    __tablename__ = "host_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str] = mapped_column(String(50))


async def ledger(engine: AsyncEngine) -> Sequence[RequestRecord]:
    """Every attempt, in order."""
    async with AsyncSession(engine) as session:
        return (await session.scalars(select(RequestRecord).order_by(RequestRecord.id))).all()


# ── nothing can be written any more ───────────────────────────────────────────────────────────────────────────────────


def read_only(engine: AsyncEngine) -> Callable[[], None]:
    """From now on every transaction may only read, until the function given back is called."""
    statement = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET TRANSACTION READ ONLY",
        "mysql": "SET TRANSACTION READ ONLY",
    }[engine.dialect.name]

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine.sync_engine, "begin", begin)

    def over() -> None:
        event.remove(engine.sync_engine, "begin", begin)

    return over


def full(engine: AsyncEngine) -> Callable[[], None]:
    """From now on the database cannot grow, until the function given back is called."""
    limits = {"pages": 1}

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limits['pages']}")

    event.listen(engine.sync_engine, "begin", begin)

    def over() -> None:
        limits["pages"] = 1_000_000

    return over


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        pytest.param(read_only, "read-only; connect to the primary", marks=pytest.mark.fault("B05"), id="read-only"),
        pytest.param(full, "disk of the database is full", marks=pytest.mark.fault("B11"), id="full"),
    ],
)
async def test_an_answer_that_cannot_be_saved_is_in_the_error(database: str, fails: Any, words: str) -> None:
    """The database fails while the model answers: the error has the whole reply, and the turn can be carried on."""
    if fails is full and not database.startswith("sqlite"):
        pytest.skip("only a SQLite file can be told to be full")
    engine = create_async_engine(database)
    over: list[Callable[[], None]] = []
    answers = [Says(text="paid for " * 50_000), Says(text="again")]

    async with OPENAI.server(*answers) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm)
        chat.before_request(lambda _: over.append(fails(engine)) if not over else None)
        with pytest.raises(StorageError, match=words) as caught:
            await chat.ask("go")
        reply: Any = caught.value.reply
        assert (reply.content, reply.usage.input_tokens) == ("paid for " * 50_000, 11)
        over[0]()
        await engine.dispose()  # SQLite's connections keep what they were told
        assert [m.content for m in (await load_chat(engine, llm, chat.id)).messages] == ["go"]
        async with engine.begin() as connection:  # as soon as the lease has ended, which could not be given up either
            await connection.execute(update(ChatRecord).values(lease_until=ChatRecord.created_at))
        assert (await (await load_chat(engine, llm, chat.id)).resume()).content == "again"
        assert [request.status for request in await ledger(engine)] == ["unknown", "ok"]
    await engine.dispose()


# ── the caller's session ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B37")
@pytest.mark.fault("B38")
@pytest.mark.parametrize("what", ["rollback", "close", "expire", "expunge"])
async def test_what_a_caller_does_with_his_session_during_a_turn_does_not_matter(
    engine: AsyncEngine, what: str
) -> None:
    """Rolled back, closed, or with its objects expired inside a tool and a hook, the turn is stored all the same."""
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)

    async def done() -> None:
        match what:
            case "rollback":
                await session.rollback()
            case "close":
                await session.close()
            case "expire":
                session.expire_all()
            case _:
                session.expunge_all()

    @tool
    async def act() -> str:
        """Do what the host does."""
        session.add(Note(words="of the tool"))
        await done()
        return "done"

    script = [Says(calls=[FakeCall("act")]), Says(text="answer"), Says(text="more")]
    async with OPENAI.server(*script) as server, OPENAI.llm(server) as llm, AsyncSession(engine) as session:
        session.add(Note(words="pending"))
        chat = await create_chat(session, llm, tools=[act])
        chat.on_new_message(done)
        reply = await chat.ask("go")
        assert (reply.content, reply.tool_calls[0].result) == ("answer", "done")
        await done()
        assert [m.content for m in chat.messages] == ["go", "", "done", "answer"]
        assert (await chat.ask("on")).content == "more"
        await session.rollback()
        stored = await load_chat(engine, llm, chat.id)
    assert stored.messages == chat.messages
    async with AsyncSession(engine) as other:
        assert (await other.scalars(select(Note.words).order_by(Note.id))).first() == "pending"


@pytest.mark.fault("B37")
async def test_a_callers_own_transaction_takes_everything_back(engine: AsyncEngine) -> None:
    """With ``transactions="caller"`` the turn is part of his transaction, and goes with its rollback, as documented."""
    async with OPENAI.server(Says(text="one")) as server, OPENAI.llm(server) as llm:
        async with AsyncSession(engine) as session:
            chat = await create_chat(session, llm, transactions="caller")
            await chat.ask("go")
            assert await session.scalar(select(func.count()).select_from(MessageRecord)) == 2
            await session.rollback()
        assert (await list_chats(engine)).items == ()


@pytest.mark.fault("B39")
async def test_a_replica_that_lags_is_not_asked(engine: AsyncEngine, tmp_path: Any) -> None:
    """A session that sends its reads to a replica creates, asks, loads and resumes on the primary all the same."""
    replica = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path / 'behind.db'}"
    )  # so far behind that it has no tables

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
            del mapper, options
            writes = self._flushing or (clause is not None and clause.is_dml)
            return (engine if writes else replica).sync_engine

    async with (
        OPENAI.server(Says(text="one"), Says(text="two")) as server,
        OPENAI.llm(server) as llm,
        AsyncSession(sync_session_class=Routing) as session,
    ):
        chat = await create_chat(session, llm, tools=[double])
        await chat.ask("1")
        loaded = await load_chat(session, llm, chat.id)
        assert loaded.messages == chat.messages
        assert (await loaded.ask("2")).content == "two"
        assert [found.id for found in await list_chats(session)] == [chat.id]
        assert (await loaded.usage()).requests == 2
    await replica.dispose()


# ── SQL that not every database has ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B35")
async def test_nothing_is_used_that_a_database_lacks(engine: AsyncEngine) -> None:
    """No statement of a chat's life returns rows it has written, and no index of ours is partial."""
    statements: set[str] = set()

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        statements.add(statement)

    async with OPENAI.server(Says(calls=[CALL]), *[Says(text="ok")] * 4) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double], metadata={"a": "b"})
        await chat.ask("go", idempotency_key="k")
        await chat.with_instructions("Now briefly.").update()
        await chat.regenerate()
        branch = await chat.fork()
        await branch.ask("on")
        await list_chats(engine, metadata={"a": "b"})
        await chat.usage()
        await branch.delete()
    assert any(statement.startswith("INSERT") for statement in statements)
    lacking = re.compile(r"\bRETURNING\b|\bSKIP LOCKED\b|\bFULL (OUTER )?JOIN\b", re.IGNORECASE)
    assert not [statement for statement in statements if lacking.search(statement)]
    for table in RECORDS.tables:
        for index in table.indexes:
            assert not [o for options in index.dialect_options.values() for o in ("where", "include") if options.get(o)]


@pytest.mark.fault("D07")
async def test_code_goes_on_while_the_tables_grow(engine: AsyncEngine) -> None:
    """What a later release adds first (columns that may be empty, tables) does not disturb this one while it runs."""
    async with (
        OPENAI.server(Says(calls=[CALL]), Says(text="one"), Says(text="two")) as server,
        OPENAI.llm(server) as llm,
    ):
        chat = await create_chat(engine, llm, tools=[double])
        await chat.ask("1")
        async with engine.begin() as connection:
            for table in RECORDS.tables:
                await connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN of_tomorrow INTEGER"))
            await connection.execute(text("CREATE TABLE llm_of_tomorrow (n INTEGER)"))
        assert (await chat.ask("2")).content == "two"
        assert (await load_chat(engine, llm, chat.id)).messages == chat.messages
        assert await chat.delete()
