"""Searching what was said: whose, where and when; in pages that do not move; encrypted and hostile texts."""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from nodellm_orm import (
    ANY_OWNER,
    ChatNotFoundError,
    Chats,
    ConfigurationError,
    Encryption,
    EncryptionError,
    SchemaVersionError,
    create_llm,
    define_records,
    migrate,
    search_messages,
)
from nodellm_orm.models import ChatRecord, MessageRecord
from nodellm_orm.search import reading
from nodellm_orm.store.schema import downgrade
from tests.acceptance.searching import found, places, saying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

MISSING: Final = UUID("01890000-0000-7000-8000-000000000000")
HOSTILE: Final = "\x1b[2J<b>needle</b> \u202e %_' \x00 \ud800 end\ufdd0s1:x"


@pytest.fixture
async def say(engine: AsyncEngine) -> AsyncIterator[Callable[..., Awaitable[Chat]]]:
    """Makes chats in which texts have been said."""
    async with saying(engine) as say:
        yield say


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads four messages at a time, three times."""
    monkeypatch.setattr(reading, "CHUNK", 4)
    monkeypatch.setattr(reading, "CHUNKS", 3)


async def test_messages_are_found_with_where_they_are(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """A found message names its chat, place, role and time, and shows the words as they were written."""
    chat = await say("Where is the Needle?", "In the haystack, the needle is.", owner="ann", title="Sewing")
    await say("nothing here", owner="ann")

    page = await search_messages(engine, "needle", owner="ann")

    assert (page.next, page.searched, page.encrypted, page.indexed) == (None, 3, 0, False)
    answer, question = page
    assert (question.chat_id, question.owner, question.title) == (chat.id, "ann", "Sewing")
    assert [(message.role, message.position) for message in page] == [("assistant", 1), ("user", 0)]
    assert question.created_at.utcoffset() == timedelta(0)
    assert not question.superseded
    assert list(question.excerpt.pieces()) == [("Where is the ", False), ("Needle", True), ("?", False)]
    assert list(answer.excerpt.pieces())[1] == ("needle", True)


@pytest.mark.fault("E10")
async def test_nobody_finds_what_is_anothers(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """Another's chat is none, in the same words; each statement says whose; no owner means chats of nobody's."""
    chats = {owner: await say("needle", owner=owner) for owner in ("ann", "bob", None, "")}
    seen: list[tuple[str, dict[str, Any]]] = []

    def noted(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: Any) -> None:
        if context.compiled is not None and "llm_" in statement:
            seen.extend((statement, given) for given in context.compiled_parameters)

    event.listen(engine.sync_engine, "after_cursor_execute", noted)
    for owner, chat in chats.items():
        assert await places(engine, "needle", owner=owner) == [(chat.id, 0)]
        assert await places(engine, "needle", owner=owner, chat_id=chat.id) == [(chat.id, 0)]
        for other in (*(chats[name].id for name in chats if name != owner), MISSING):
            with pytest.raises(ChatNotFoundError) as refused:
                await search_messages(engine, "needle", owner=owner, chat_id=other)
            words = "there is no chat  for this owner; check the id, and the owner it was created with"
            assert str(refused.value).replace(str(other), "") == words
    event.remove(engine.sync_engine, "after_cursor_execute", noted)
    assert seen
    for statement, given in seen:
        assert "b_owner" in given or "owner IS NULL" in statement, statement
    assert {chat for chat, _ in await places(engine, "needle", owner=ANY_OWNER)} == {chat.id for chat in chats.values()}


@pytest.mark.usefixtures("small_steps")
async def test_pages_follow_each_other_whatever_is_said_meanwhile(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """Newest chat first, newest message first, each once; what is new moves no page, and what is deleted is gone."""
    chats = [await say(*(f"needle {number}" for number in range(size))) for size in (11, 1, 0, 3, 9, 1)]
    expected = [(chat.id, at) for chat in reversed(chats) for at in reversed(range(len(chat.messages)))]
    assert await places(engine, "needle", limit=1) == expected
    assert await places(engine, "needle", limit=7) == expected
    assert await places(engine, "needle", limit=1000) == expected

    page = await search_messages(engine, "needle", limit=5)
    assert [(message.chat_id, message.position) for message in page] == expected[:5]
    await say("needle of a new chat")
    await chats[4].add_message("user", "needle of a chat that was read")
    await chats[0].add_message("user", "needle of a chat that was not")
    await chats[3].delete()
    rest: list[tuple[UUID, int]] = []
    while page.next is not None:
        page = await search_messages(engine, "needle", limit=5, after=page.next)
        rest += [(message.chat_id, message.position) for message in page]
    gone = {(chats[3].id, at) for at in range(3)}
    assert [place for place in rest if place != (chats[0].id, 11)] == [p for p in expected[5:] if p not in gone]
    assert (chats[0].id, 11) in rest


@pytest.mark.usefixtures("small_steps")
async def test_a_page_reads_no_more_than_it_may(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """Of many messages without the word a page reads a part, says that there is more, and the next goes on there."""
    await say("needle", *["hay"] * 19)
    for _ in range(3):
        await say("hay", "hay")
    pages = [await search_messages(engine, "needle")]
    while pages[-1].next is not None:
        pages.append(await search_messages(engine, "needle", after=pages[-1].next))
    assert [len(page) for page in pages[:-1]] == [0] * (len(pages) - 1)
    assert all(page.searched <= 12 for page in pages)
    assert sum(page.searched for page in pages) == 26
    assert len(pages[-1]) == 1


async def test_what_is_searched_can_be_chosen(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """By chat, role and time; messages in whose place others have come only when they are asked for."""
    old, new = await say("needle", "needle"), await say("needle", "needle")
    async with engine.begin() as connection:
        past = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
        await connection.execute(update(MessageRecord).where(MessageRecord.chat_id == old.id).values(created_at=past))
        await connection.execute(
            update(MessageRecord)
            .where(MessageRecord.chat_id == new.id, MessageRecord.position == 0)
            .values(superseded_at=past)
        )
    berlin = timezone(timedelta(hours=1))
    everything = {"all": [(new.id, 1), (old.id, 1), (old.id, 0)], "old": [(old.id, 1), (old.id, 0)]}
    assert await places(engine, "needle") == everything["all"]
    assert await places(engine, "needle", superseded=True) == [(new.id, 1), (new.id, 0), *everything["old"]]
    assert [m.superseded for m in await found(engine, "needle", superseded=True, chat_id=new.id)] == [False, True]
    assert await places(engine, "needle", chat_id=str(old.id)) == everything["old"]
    assert await places(engine, "needle", roles=["user"]) == [(old.id, 0)]
    assert await places(engine, "needle", roles=("tool", "system")) == []
    assert await places(engine, "needle", until=date(2026, 3, 2)) == everything["old"]
    assert await places(engine, "needle", until=datetime(2026, 3, 2, 0, 30, tzinfo=berlin)) == []
    assert await places(engine, "needle", since=datetime(2026, 3, 2, 0, 30, tzinfo=berlin)) == everything["all"]
    assert await places(engine, "needle", since=date(2026, 3, 2)) == [(new.id, 1)]


async def test_an_age_leaves_out_chats_that_were_not_used_since(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """With a first moment, chats that were last used before it are not read at all."""
    old, new = await say("needle"), await say("needle")
    async with engine.begin() as connection:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        for record, key in ((ChatRecord, ChatRecord.id), (MessageRecord, MessageRecord.chat_id)):
            stamp = {"updated_at": past} if record is ChatRecord else {"created_at": past}
            await connection.execute(update(record).where(key == old.id).values(**stamp))
    page = await search_messages(engine, "needle", since=date(2021, 1, 1))
    assert ([message.chat_id for message in page], page.searched) == ([new.id], 1)


@pytest.mark.fault("B16")
async def test_any_text_is_found_as_it_was_written(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """NUL, lone surrogates and marks of our own escape are signs between words, and come back as given."""
    chat = await say(HOSTILE)
    for typed in ("needle", "end", '"b needle b"', "s1 x", "END needle"):
        (message,) = await found(engine, typed)
        assert (message.chat_id, message.excerpt.text) == (chat.id, HOSTILE)
    for typed in ("0000", "d800", "fdd0"):
        assert await places(engine, typed) == []


async def test_encrypted_messages_are_searched_with_their_keys_only(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """Without keys they are left out and counted, with nothing shown; with keys they are found like others."""
    encryption = Encryption(keys={"k": Encryption.generate_key()})
    plain, sealed = await say("a needle"), await say("a needle", "s1", title="Secret", encryption=encryption)

    page = await search_messages(engine, "needle")
    assert ([message.chat_id for message in page], page.encrypted) == ([plain.id], 2)
    assert await places(engine, "s1") == await places(engine, "k") == []

    page = await search_messages(engine, "needle", encryption=encryption)
    assert ([message.chat_id for message in page], page.encrypted) == ([sealed.id, plain.id], 0)
    assert page.items[0].title == "Secret"
    with pytest.raises(EncryptionError, match="'k'"):
        await search_messages(engine, "needle", encryption=Encryption(keys={"k": Encryption.generate_key()}))


async def test_a_session_and_own_tables_are_searched_too(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """A sessionmaker, a session and `Chats` find the same; tables under other names are their own."""
    records = define_records(prefix="own_")
    await migrate(engine, records=records)
    chat, own = await say("needle", owner="ann"), await say("needle", owner="ann", records=records)
    factory = async_sessionmaker(engine)
    assert [m.chat_id for m in await search_messages(factory, "needle", owner="ann")] == [chat.id]
    async with AsyncSession(engine) as session:
        assert [m.chat_id for m in await search_messages(session, "needle", owner="ann")] == [chat.id]
    assert await places(engine, "needle", owner="ann", records=records) == [(own.id, 0)]
    async with create_llm("openai", api_key="sk-never-used", model="gpt-5-mini") as llm:
        chats = Chats(engine, llm, records=records)
        assert [m.chat_id for m in await chats.search("needle", owner="ann", limit=5)] == [own.id]


def wrong() -> Iterator[Any]:
    """Arguments that cannot be meant."""
    cursor = base64.urlsafe_b64encode
    yield {"text": " "}, "no word"
    yield {"text": 5}, "a text, not int"
    yield {"limit": 0}, "at least 1"
    yield {"owner": 5}, "owner"
    yield {"after": ""}, "not a page's cursor"
    yield {"after": "rubbish"}, "not a page's cursor"
    yield {"after": cursor(f"2026-01-01 {MISSING} 1".encode()).decode()}, "not a page's cursor"
    yield {"after": cursor(f"2026-01-01T00:00+00:00 {MISSING} -1".encode()).decode()}, "not a page's cursor"
    yield {"after": cursor(f"2026-01-01T00:00+00:00 {MISSING} {2**64}".encode()).decode()}, "not a page's cursor"
    yield {"chat_id": "nope"}, "a chat's id is a UUID"
    yield {"roles": "user"}, "a list such as"
    yield {"roles": ["robot"]}, "'assistant'"
    yield {"roles": []}, "names nobody"
    yield {"since": "yesterday"}, "since is an aware datetime"
    yield {"until": datetime(2026, 1, 1)}, "no time zone"  # noqa: DTZ001 — that is what is refused
    yield {"since": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}, "outside of the calendar"
    yield {"superseded": "no"}, "superseded"
    yield {"records": 5}, "define_records"
    yield {"encryption": b"key"}, "Encryption"


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(("options", "why"), list(wrong()))
async def test_what_cannot_be_meant_is_refused(engine: AsyncEngine, options: dict[str, Any], why: str) -> None:
    """Each argument of the wrong kind is refused in one sentence, before the database is asked."""
    with pytest.raises(ConfigurationError, match=why):
        await search_messages(engine, **{"text": "needle", **options})


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_missing_tables_are_named(engine: AsyncEngine) -> None:
    """A database without our tables is told of as everywhere."""
    await downgrade(engine, revision="base")
    with pytest.raises(SchemaVersionError, match="db upgrade"):
        await search_messages(engine, "needle")
