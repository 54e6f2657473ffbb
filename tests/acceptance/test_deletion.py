"""Deleting chats and purging: content goes, also under a running turn and a killed process; the ledger stays exact."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    ANY_OWNER,
    ChatNotFoundError,
    ConfigurationError,
    MediaPart,
    PurgeReport,
    StaleChatError,
    create_chat,
    define_records,
    list_chats,
    load_chat,
    migrate,
    purge,
)
from nodellm_orm.models import (
    AttachmentRecord,
    BlobRecord,
    ChatRecord,
    MessageRecord,
    RequestRecord,
    TextRecord,
    ThinkingRecord,
    ToolCallRecord,
    TurnRecord,
)
from nodellm_orm.testing import LoopbackServer
from tests.acceptance import deleter
from tests.acceptance.forks import status_of
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.test_two_processes import SHORT, Provider
from tests.acceptance.victim import Job
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.victim import Where

SPEAKER: Final = Speaker("openai_chat")
CHILDREN: Final = (TurnRecord, MessageRecord, ToolCallRecord, ThinkingRecord, AttachmentRecord)
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
NOTES: Final = MediaPart(media="text", media_type="text/plain", data=b"notes", name="notes.txt")


@pytest.fixture
async def server() -> AsyncIterator[LoopbackServer]:
    """Answers everything with the same words."""

    async def answer(_: ReceivedRequest) -> Answer:
        return SPEAKER.answer(Says(text="Hello"), stream=False)

    async with LoopbackServer(answer) as server:
        yield server


@pytest.fixture
async def llm(server: LoopbackServer) -> AsyncIterator[LLM]:
    """A client of it."""
    async with SPEAKER.llm(server) as llm:
        yield llm


async def spoken(engine: AsyncEngine, llm: LLM, owner: str | None = "ada", **options: Any) -> Chat:
    """A chat with one turn and a file."""
    chat = await create_chat(engine, llm, owner=owner, metadata={"team": "blue"}, **options)
    await chat.ask(["Look at this", NOTES])
    return chat


async def number(engine: AsyncEngine, record: Any, *conditions: Any) -> int:
    """How many rows of a table meet these conditions."""
    async with engine.connect() as connection:
        counted = await connection.execute(select(func.count()).select_from(record).where(*conditions))
        return int(counted.scalar_one())


async def ledger(engine: AsyncEngine) -> list[Any]:
    """The ledger, in order."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(RequestRecord.__table__).order_by(RequestRecord.id))).all())


async def age(engine: AsyncEngine, chat: Chat) -> None:
    """Let a chat be made, and last used, long ago."""
    async with engine.begin() as connection:
        old = update(ChatRecord).where(ChatRecord.id == chat.id)
        await connection.execute(old.values(created_at=LONG_AGO, updated_at=LONG_AGO))


async def age_texts(engine: AsyncEngine) -> None:
    """Let it be long since any text was last brought by a turn."""
    async with engine.begin() as connection:
        await connection.execute(update(TextRecord).values(created_at=LONG_AGO))


async def orphans(engine: AsyncEngine) -> int:
    """Rows of content whose chat is not there."""
    chats = select(ChatRecord.id)
    return sum([await number(engine, record, record.chat_id.not_in(chats)) for record in CHILDREN])


# ── one chat ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E16")
async def test_a_deleted_chat_is_gone_and_its_costs_are_not(engine: AsyncEngine, llm: LLM) -> None:
    """Everything that was said and given is gone, the ledger row is as it was, and every method says not found."""
    chat, other = await spoken(engine, llm), await spoken(engine, llm, "bob")
    before = await ledger(engine)

    assert await chat.delete()
    assert not await chat.delete()

    assert await ledger(engine) == before
    assert [(row.chat_id, row.owner, row.labels) for row in before[:1]] == [(chat.id, "ada", {"team": "blue"})]
    for record in CHILDREN:
        assert await number(engine, record, record.chat_id == chat.id) == 0
    assert await number(engine, BlobRecord, BlobRecord.owner == "ada") == 0
    assert await number(engine, BlobRecord, BlobRecord.owner == "bob") == 1
    for attempted in (
        chat.ask("Still there?"),
        chat.resume(),
        chat.cancel(),
        chat.history(),
        chat.usage(),
        chat.update(),
        chat.add_message("user", "Still there?"),
        load_chat(engine, llm, chat.id, owner="ada"),
    ):
        with pytest.raises(ChatNotFoundError):
            await attempted
    with pytest.raises(ChatNotFoundError):
        async for _ in chat.stream("Still there?"):
            pass
    assert (await other.ask("And you?")).content == "Hello"


async def test_deletion_of_a_chat_that_this_object_is_answering(engine: AsyncEngine) -> None:
    """The turn of the object itself is stopped and ends as cancelled, and then the chat goes."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, owner="ada")
        asking = asyncio.create_task(chat.ask("Hello"))
        await provider.received(1)
        assert await chat.delete()
        assert (await asking).finish_reason == "cancelled"
    assert [row.status for row in await ledger(engine)] == ["cancelled"]
    assert await number(engine, ChatRecord) == await orphans(engine) == 0


@pytest.mark.fault("C63")
@pytest.mark.parametrize("erases", [False, True])
async def test_deletion_wins_over_a_turn_in_another_process(
    engine: AsyncEngine, database: str, tmp_path: Path, *, erases: bool
) -> None:
    """Its worker gets the answer with the error, no row is left behind, and what was paid is in the ledger."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        job = Job(
            database=database, chat=chat.id, api="openai_chat", url=server.url, effects=tmp_path / "e", question="Hi"
        )
        async with working(job) as worker:
            worker.go()
            await provider.received(1)
            if erases:
                assert (await purge(engine, owner=None)).complete
            else:
                assert await chat.delete()
            (row,) = await ledger(engine)
            assert (row.status, row.cost) == ("unknown", None)
            provider.release(0)
            told = await worker.outcome()
            assert (told.error, told.content) == ("StaleChatError", "answer 0 to Hi")
            assert await worker.ended() == 0

    (row,) = await ledger(engine)
    assert (row.status, row.output_tokens, row.chat_id) == ("ok", 7, None if erases else chat.id)
    assert row.cost > 0
    assert row.message_id is None
    assert await number(engine, ChatRecord) == await orphans(engine) == 0


@pytest.mark.fault("C63")
async def test_the_call_of_a_deleted_chat_is_aborted(engine: AsyncEngine) -> None:
    """A worker notices with its next renewal, hangs up, and says so; its provider is never heard."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm, SPEAKER.llm(server) as another:
        chat = await create_chat(engine, llm, lease=SHORT)
        asking = asyncio.create_task(chat.ask("Hello"))
        await provider.received(1)
        assert await (await load_chat(engine, another, chat.id)).delete()
        with pytest.raises(StaleChatError):
            await asking
        provider.release(0)
    assert [row.status for row in await ledger(engine)] == ["unknown"]
    assert await orphans(engine) == 0


async def died_deleting(database: str, what: str, name: object, where: Where, commit: int) -> None:
    """A process that deletes, and is killed at a commit."""
    assert await status_of(deleter.main, database, what, str(name), where, commit) == -signal.SIGKILL


@pytest.mark.fault("E16")
@pytest.mark.parametrize("where", ["before commit", "after commit"])
@pytest.mark.parametrize("commit", [1, 2, 3])
async def test_a_deletion_that_is_killed_is_finished_by_a_purge(
    engine: AsyncEngine, llm: LLM, database: str, where: Where, commit: int
) -> None:
    """A long chat is there as a whole or for nobody, wherever its deletion stops; the next purge leaves nothing."""
    said = [{"role": "user", "content": f"{n}"} for n in range(2200)]
    chat = await create_chat(engine, llm, owner="ada", messages=said)
    await died_deleting(database, "delete", chat.id, where, commit)

    if (commit, where) == (1, "before commit"):
        assert len(await chat.history(limit=3000)) == len(said)
        assert await chat.delete()
    else:
        with pytest.raises(ChatNotFoundError):
            await chat.history()
        assert len(await list_chats(engine, owner=ANY_OWNER)) == 0
        report = await purge(engine, older_than=timedelta(days=1), owner="ada")
        whole = (commit, where) == (3, "after commit")
        assert (report.chats, report.complete) == (0 if whole else 1, True)
    assert await number(engine, MessageRecord) == await number(engine, ChatRecord) == 0


async def test_a_deletion_in_the_callers_transaction_is_his_to_commit(engine: AsyncEngine, llm: LLM) -> None:
    """With ``transactions="caller"`` a rollback brings the chat back, and a commit takes it away."""
    kept = await spoken(engine, llm)
    for commits in (False, True):
        async with AsyncSession(engine) as session:
            chat = await load_chat(session, llm, kept.id, owner="ada", transactions="caller")
            assert await chat.delete()
            await (session.commit() if commits else session.rollback())
        assert await number(engine, MessageRecord) == (0 if commits else 2)
        assert await number(engine, BlobRecord) == (0 if commits else 1)


async def test_a_chat_in_memory_is_deleted(llm: LLM) -> None:
    """A chat that is nowhere else is gone as well."""
    chat = llm.chat()
    await chat.ask("Hello")
    assert await chat.delete()
    with pytest.raises(ChatNotFoundError):
        await chat.ask("Still there?")


# ── many chats ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_old_goes(engine: AsyncEngine, llm: LLM) -> None:
    """Only chats of the named owner that were last used before, however long ago they were made; costs stay."""
    old, used, new = [await spoken(engine, llm) for _ in range(3)]
    unowned, eves = await spoken(engine, llm, None), await spoken(engine, llm, "eve")
    for chat in (old, used, unowned, eves):
        await age(engine, chat)
    await used.ask("Again")
    before = await ledger(engine)
    quarter = timedelta(days=90)

    report = await purge(engine, older_than=quarter, owner="ada")
    assert report == PurgeReport(chats=1, turns=1, messages=2, attachments=1, complete=True)
    assert await purge(engine, older_than=quarter, owner="ada") == PurgeReport(complete=True)
    assert (await purge(engine, older_than=quarter)).chats == 1
    assert (await purge(engine, older_than=LONG_AGO + quarter, owner=ANY_OWNER)).chats == 1

    assert {chat.id for chat in await list_chats(engine, owner=ANY_OWNER)} == {used.id, new.id}
    assert await ledger(engine) == before
    assert await orphans(engine) == 0


async def test_a_chat_that_is_being_answered_is_not_old(engine: AsyncEngine) -> None:
    """A purge by age leaves a turn alone whose worker is alive, and takes one whose worker is gone."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        asking = asyncio.create_task(chat.ask("Hello"))
        await provider.received(1)
        await age(engine, chat)
        assert (await purge(engine, older_than=timedelta(days=90))).chats == 0
        async with engine.begin() as connection:
            await connection.execute(update(ChatRecord).values(lease_until=LONG_AGO))
        assert (await purge(engine, older_than=timedelta(days=90))).chats == 1
        provider.release(0)
        with pytest.raises(StaleChatError):
            await asking
    assert [row.status for row in await ledger(engine)] == ["ok"]


@pytest.mark.fault("E16")
async def test_an_erased_owner_leaves_sums_and_nothing_else(engine: AsyncEngine, llm: LLM) -> None:
    """His chats, files and texts are gone, no ledger row leads to him, and what was spent is exactly what it was."""
    for owner in ("ada", "ada", "eve", None):
        await spoken(engine, llm, owner, instructions=f"You talk with {owner}.")
    before = await ledger(engine)

    report = await purge(engine, owner="ada")

    assert (report.chats, report.requests, report.blobs, report.texts, report.complete) == (2, 2, 1, 1, True)
    after = await ledger(engine)
    assert sum(row.cost for row in after) == sum(row.cost for row in before)
    spent = [(row.created_at, row.model, row.input_tokens, row.cost) for row in before]
    assert [(row.created_at, row.model, row.input_tokens, row.cost) for row in after] == spent
    traces = [(row.chat_id, row.turn_id, row.message_id, row.owner, row.request_id, row.labels) for row in after]
    assert traces[:2] == [(None, None, None, None, None, {})] * 2
    assert after[2:] == before[2:]
    for record in (ChatRecord, BlobRecord, TextRecord):
        assert await number(engine, record, record.owner == "ada") == 0
    assert await number(engine, TextRecord) == 2
    assert await purge(engine, owner="ada") == PurgeReport(complete=True)


async def test_labels_of_an_erased_owner_are_kept_where_that_is_wanted(engine: AsyncEngine, llm: LLM) -> None:
    """Labels that say nothing of persons may stay, so that reports by team remain exact, too."""
    await spoken(engine, llm)
    await purge(engine, owner="ada", keep_labels=True)
    (row,) = await ledger(engine)
    assert (row.owner, row.chat_id, row.labels) == (None, None, {"team": "blue"})


async def test_what_is_nobodys_is_erased_when_that_is_said(engine: AsyncEngine, llm: LLM) -> None:
    """``owner=None`` means the chats without an owner, and nobody else's."""
    await spoken(engine, llm, None)
    kept = await spoken(engine, llm, "ada")
    report = await purge(engine, owner=None)
    assert (report.chats, report.requests, report.complete) == (1, 1, True)
    assert [row.chat_id for row in await ledger(engine)] == [None, kept.id]
    assert (await purge(engine, owner=None)).requests == 0


async def test_an_erasure_that_is_killed_is_carried_on(engine: AsyncEngine, llm: LLM, database: str) -> None:
    """Wherever the process ends, the next erasure leaves what an undisturbed one leaves."""
    said = [{"role": "user", "content": f"{n}"} for n in range(120)]
    for commit in (2, 6, 7):
        for _ in range(2):
            await spoken(engine, llm, messages=said)
        spent = sum(row.cost for row in await ledger(engine))
        await died_deleting(database, "purge", "ada", "after commit", commit)
        assert (await purge(engine, owner="ada")).complete
        assert await number(engine, ChatRecord) == await orphans(engine) == await number(engine, BlobRecord) == 0
        rows = await ledger(engine)
        assert {(row.owner, row.chat_id) for row in rows} == {(None, None)}
        assert sum(row.cost for row in rows) == spent


async def test_texts_go_when_no_turn_names_them(engine: AsyncEngine, llm: LLM) -> None:
    """Instructions that another turn of the owner was asked with stay, and so do those of a moment ago."""
    shared = await spoken(engine, llm, instructions="Both")
    alone = await spoken(engine, llm, instructions="Alone")
    eves = await spoken(engine, llm, "eve", instructions="Alone")
    again = await spoken(engine, llm, instructions="Both")
    await alone.delete()
    await shared.delete()
    year = timedelta(days=365)
    assert (await purge(engine, older_than=year, owner=ANY_OWNER)).texts == 0

    await age_texts(engine)
    assert (await purge(engine, older_than=year, owner="ada")).texts == 1
    assert (await purge(engine, older_than=year, owner=ANY_OWNER)).texts == 0
    assert await number(engine, TextRecord, TextRecord.text == "Both") == 1

    await eves.delete()
    await again.delete()
    assert (await purge(engine, older_than=year, owner=ANY_OWNER)).texts == 2
    assert await number(engine, TextRecord) == 0
    # What was swept is written again with the next turn that needs it.
    await spoken(engine, llm, instructions="Both")
    assert await number(engine, TextRecord) == 1


async def test_a_purge_in_parts(engine: AsyncEngine, llm: LLM) -> None:
    """It stops after as many chats as it may delete, says whether more are left, and tells how far it is."""
    for _ in range(5):
        await age(engine, await spoken(engine, llm))
    heard: list[PurgeReport] = []

    async def heard_later(report: PurgeReport) -> None:
        await asyncio.sleep(0)
        heard.append(report)

    old = timedelta(days=90)
    first = await purge(engine, older_than=old, owner="ada", limit=2, batch=2, progress=heard.append)
    assert (first.chats, first.complete, heard[-1].chats) == (2, False, 2)
    assert max(len(heard), 2) > 2
    heard.clear()
    second = await purge(engine, older_than=old, owner="ada", limit=3, progress=heard_later)
    assert (second.chats, second.complete, [report.chats for report in heard]) == (3, True, [1, 2, 3])


async def test_a_purge_of_own_records(engine: AsyncEngine, llm: LLM) -> None:
    """Chats in tables under other names are deleted there, and nowhere else."""
    records = define_records(prefix="own_")
    await migrate(engine, records=records)
    kept = await spoken(engine, llm)
    await spoken(engine, llm, records=records)
    report = await purge(engine, owner="ada", records=records)
    assert (report.chats, report.requests, report.complete) == (1, 1, True)
    assert (await kept.ask("Still there?")).content == "Hello"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "told what to delete"),
        ({"owner": ANY_OWNER}, "told what to delete"),
        ({"older_than": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 — that is the mistake
        ({"older_than": timedelta(days=-1)}, "future"),
        ({"older_than": 90}, "timedelta"),
        ({"owner": 7}, "owner"),
        ({"owner": "ada", "batch": 0}, "batch"),
        ({"owner": "ada", "limit": 0}, "limit"),
        ({"owner": "ada", "records": ChatRecord}, "records"),
    ],
)
async def test_what_cannot_be_meant_is_refused(engine: AsyncEngine, arguments: dict[str, Any], says: str) -> None:
    """Nothing to go by, everybody at once, and values that are none are refused before anything is deleted."""
    with pytest.raises(ConfigurationError, match=says):
        await purge(engine, **arguments)
