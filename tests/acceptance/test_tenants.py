"""Owners and their chats: whatever one of them does, no statement and no row of his is another's."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from sqlalchemy import event, func, select

from nodellm_orm import (
    ANY_OWNER,
    ChatNotFoundError,
    MediaPart,
    create_chat,
    list_chats,
    load_chat,
    purge,
    search_messages,
)
from nodellm_orm.models import BlobRecord, ChatRecord, TextRecord, TurnRecord
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.details import read_details
from nodellm_orm.store.glances import read_glances
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import last_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest

SPEAKER: Final = Speaker("openai_chat")
MARKS: Final[Mapping[str | None, str]] = {"ada": "(says Ada)", "bob": "(says Bob)", None: "(says nobody)"}
"""Stands in everything that an owner writes, so that it is recognised wherever it turns up."""
OWNERS: Final = tuple(MARKS)
SHARED: Final = b"the same bytes, whoever gives them"
INSTRUCTIONS: Final = "The same instructions for all."
CONTENT: Final = frozenset(table.name for table in RECORDS.tables)
_NOBODYS: Final = re.compile(r"owner (IS|IS NOT DISTINCT FROM|<=>) NULL")
STEPS: Final = 100


# ── the watch ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Watch:
    """Looks at every statement on the way to the database, and at every row on the way back."""

    chats: dict[UUID, str | None] = field(default_factory=dict)
    """Whose each chat is, deleted ones included."""
    caller: str | None = None
    active: bool = False
    seen: int = 0
    rows: int = 0

    def after(self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: Any) -> None:
        """A statement was executed."""
        del connection, parameters, many
        if not self.active or context.compiled is None or not CONTENT & _tables_in(statement):
            return
        self.seen += 1
        for given in context.compiled_parameters:
            self._look_at(statement, given)
        for row in list(getattr(cursor, "_rows", ())):
            self._look_at_row(statement, row)

    def _look_at(self, statement: str, given: Mapping[str, Any]) -> None:
        values = list(_flat(given.values()))
        owned = [value for name, value in given.items() if "owner" in name or "whose" in name]
        said = self.caller in owned or (self.caller is None and _NOBODYS.search(statement) is not None)
        ids = {value for value in values if isinstance(value, UUID)} & self.chats.keys()
        own = {each for each in ids if self.chats[each] == self.caller}
        assert said or (own and own == ids), f"{self.caller!r} is not said: {statement}"

    def _look_at_row(self, statement: str, row: Sequence[Any]) -> None:
        self.rows += 1
        told = " ".join(_text(value) for value in row)
        for owner, mark in MARKS.items():
            assert owner == self.caller or mark not in told, f"{owner!r} is read by {self.caller!r}: {statement}"


def _tables_in(statement: str) -> set[str]:
    words = statement.replace(".", " ").replace("(", " ").replace("`", " ").replace('"', " ").split()
    return set(words)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple | set):
            yield from _flat(value)
        else:
            yield value


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@pytest.fixture
def watch(engine: AsyncEngine) -> Iterator[Watch]:
    """A watch on the engine."""
    watch = Watch()
    event.listen(engine.sync_engine, "after_cursor_execute", watch.after)
    yield watch
    event.remove(engine.sync_engine, "after_cursor_execute", watch.after)


@pytest.fixture
async def llm() -> AsyncIterator[LLM]:
    """A model that repeats what was said last, and hears of one owner only in each conversation."""

    async def answer(request: ReceivedRequest) -> Answer:
        body = request.json()
        heard = {mark for mark in MARKS.values() if mark in str(body)}
        assert len(heard) == 1, heard
        return SPEAKER.answer(
            Says(text=f"You said: {last_words(body, SPEAKER.api)}"), stream=body.get("stream") is True
        )

    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        yield llm


# ── the world ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Tenants:
    """Owners who create, ask, branch and delete at random, and try each other's ids."""

    def __init__(self, engine: AsyncEngine, llm: LLM, watch: Watch, chance: random.Random) -> None:
        self._engine = engine
        self._llm = llm
        self._watch = watch
        self._chance = chance
        self._said: dict[str | None, dict[UUID, list[str]]] = defaultdict(dict)
        """What each owner's chats hold."""
        self.refused = 0

    async def step(self) -> None:
        """One owner does one thing, to a chat that is his, or is not."""
        caller = self._watch.caller = self._chance.choice(OWNERS)
        ids = [*self._watch.chats, new_id()]
        target = self._chance.choice(ids) if self._chance.random() < 0.5 else self._own(caller)
        act = self._chance.choice([*[self._create] * 2, self._list, self._purge, *[self._use] * 10, self._show])
        self._watch.active = True
        try:
            await act(caller, target)
        finally:
            self._watch.active = False

    def _own(self, caller: str | None) -> UUID:
        return self._chance.choice([*self._said[caller], new_id()])

    async def _create(self, caller: str | None, target: UUID) -> None:
        """A new chat; sometimes under an id that somebody else has."""
        mark = MARKS[caller]
        taken = target in self._said[caller] or not any(target in chats for chats in self._said.values())
        key = new_id() if taken else target
        if key not in self._watch.chats:
            self._watch.chats[key] = caller
        options: dict[str, Any] = {"metadata": {"of": mark}, "title": mark, "instructions": INSTRUCTIONS}
        making = create_chat(self._engine, self._llm, id=key, owner=caller, **options)
        if key == target:
            # Whether an id is taken at all has to be asked without saying whose it would be.
            self._watch.active = False
            await self._refused(making, key)
        else:
            await making
            self._said[caller][key] = []

    async def _list(self, caller: str | None, target: UUID) -> None:
        page = await list_chats(self._engine, owner=caller, limit=500)
        assert {chat.id for chat in page} == self._said[caller].keys()
        assert {chat.owner for chat in page} <= {caller}
        narrowed = await list_chats(self._engine, owner=caller, metadata={"of": MARKS["ada"]})
        assert len(narrowed) == (len(page) if caller == "ada" else 0)
        await self._search(caller, target)

    async def _show(self, caller: str | None, target: UUID) -> None:
        """What the command line shows."""
        glance = (await read_glances(self._engine, [target], owner=caller)).by_chat[target]
        if target in self._said[caller]:
            details = await read_details(self._engine, target, owner=caller)
            assert [m.message.content for m in details.messages] == self._said[caller][target]
        else:
            assert (glance.opening, glance.cost) == ("", None)
            await self._refused(read_details(self._engine, target, owner=caller), target)

    async def _search(self, caller: str | None, target: UUID) -> None:
        """For a word that everybody says; in a chat that may be another's."""
        said = {(key, at) for key, texts in self._said[caller].items() for at, text in enumerate(texts) if text}
        page = await search_messages(self._engine, "says", owner=caller, limit=1000)
        assert {(found.chat_id, found.position) for found in page} == said
        assert {found.owner for found in page} <= {caller}
        within = search_messages(self._engine, "says", owner=caller, chat_id=target)
        if target in self._said[caller]:
            assert {found.chat_id for found in await within} <= {target}
        else:
            await self._refused(within, target)

    async def _purge(self, caller: str | None, _: UUID) -> None:
        if self._chance.random() < 0.15:
            report = await purge(self._engine, owner=caller)
            assert report.chats == len(self._said[caller])
            self._said[caller].clear()
        else:
            await purge(self._engine, owner=caller, older_than=timedelta(days=1))

    async def _use(self, caller: str | None, target: UUID) -> None:
        loading = load_chat(self._engine, self._llm, target, owner=caller)
        if target not in self._said[caller]:
            await self._refused(loading, target)
            return
        chat = await loading
        act: Callable[[Chat, list[str], str], Awaitable[None]] = self._chance.choice(
            [self._ask, self._ask, self._stream, self._add, self._read, self._change, self._fork, self._delete]
        )
        await act(chat, self._said[caller][target], MARKS[caller])
        if target in self._said[caller]:
            assert [message.content for message in await chat.history(limit=1000)] == self._said[caller][target]

    async def _ask(self, chat: Chat, said: list[str], mark: str) -> None:
        question = f"{mark} asks"
        key = self._chance.choice([None, "the same key"])
        before = (await chat.usage()).requests
        reply = await chat.ask(question, idempotency_key=key)
        assert reply.content == f"You said: {question}"
        if (await chat.usage()).requests > before:
            said += [question, reply.content]

    async def _stream(self, chat: Chat, said: list[str], mark: str) -> None:
        heard = "".join([chunk.content async for chunk in chat.stream(f"{mark} streams")])
        said += [f"{mark} streams", heard]

    async def _add(self, chat: Chat, said: list[str], mark: str) -> None:
        file = MediaPart(media="text", media_type="text/plain", data=SHARED, name=f"{mark}.txt")
        said.append((await chat.add_message("user", [f"{mark} adds", file])).content)

    async def _read(self, chat: Chat, said: list[str], mark: str) -> None:
        assert len(await chat.history(limit=1)) == min(1, len(said))
        assert all(mark in message.content for message in chat.messages)
        assert not await chat.cancel()
        if chat.messages and (await chat.usage()).requests:
            assert mark in (await chat.resume()).content

    async def _change(self, chat: Chat, _: list[str], mark: str) -> None:
        await chat.update_metadata(note=mark)
        await chat.with_temperature(0.5).update()

    async def _fork(self, chat: Chat, said: list[str], _: str) -> None:
        key = new_id()
        self._watch.chats[key] = chat.owner
        branch = await chat.fork(id=key)
        assert branch.owner == chat.owner
        self._said[chat.owner][key] = list(said)

    async def _delete(self, chat: Chat, _: list[str], __: str) -> None:
        assert await chat.delete()
        assert not await chat.delete()
        del self._said[chat.owner][chat.id]
        await self._refused(chat.ask(f"{MARKS[chat.owner]} asks"), chat.id)

    async def _refused(self, attempt: Awaitable[object], target: UUID) -> None:
        """A chat that is another's, was deleted or never was: the same class, and the same words."""
        with pytest.raises(ChatNotFoundError) as refused:
            await attempt
        assert type(refused.value) is ChatNotFoundError
        words = "there is no chat  for this owner; check the id, and the owner it was created with"
        assert str(refused.value).replace(str(target), "") == words
        self.refused += 1

    async def check(self) -> None:
        """In the end everybody has what is his, and nothing else is there."""
        listed = {(chat.owner, chat.id) for chat in await list_chats(self._engine, owner=ANY_OWNER, limit=1000)}
        assert listed == {(owner, key) for owner, chats in self._said.items() for key in chats}
        for owner, chats in self._said.items():
            for key, said in chats.items():
                chat = await load_chat(self._engine, self._llm, key, owner=owner)
                assert [message.content for message in await chat.history(limit=1000)] == said
                files = [part for message in chat.messages for part in message.parts if isinstance(part, MediaPart)]
                assert all(part.data == SHARED for part in files)


@pytest.mark.fault("E10")
@pytest.mark.parametrize("seed", range(3))
async def test_no_owner_reaches_what_is_anothers(engine: AsyncEngine, llm: LLM, watch: Watch, seed: int) -> None:
    """Whatever three owners do at random, each statement names its caller or a chat of his, and reads only his rows."""
    tenants = Tenants(engine, llm, watch, random.Random(seed))  # noqa: S311 — it only has to be the same each time
    for _ in range(STEPS):
        await tenants.step()
    assert min(watch.seen, watch.rows) > STEPS
    assert tenants.refused > 0
    await tenants.check()


def test_the_watch_sees_what_it_is_for() -> None:
    """A statement that names nobody, one on another's chat, and a row of another's are all noticed."""
    mine, his = new_id(), new_id()
    watch = Watch(chats={mine: "ada", his: "bob"}, caller="ada")
    watch._look_at("SELECT", {"b_chat": mine})
    watch._look_at("SELECT", {"b_chat": his, "b_owner": "ada"})
    for given in ({}, {"b_chat": his}, {"b_chat": his, "b_other": mine}, {"b_chat": his, "b_owner": "bob"}):
        with pytest.raises(AssertionError):
            watch._look_at("SELECT", given)
    with pytest.raises(AssertionError):
        watch._look_at_row("SELECT", (mine, f"said by {MARKS['bob']}"))


# ── keys, contents, texts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E22")
async def test_a_guessed_key_finds_nothing(engine: AsyncEngine, llm: LLM) -> None:
    """The key and the very question of another owner, or of another chat, begin a turn of their own."""
    chats = [await create_chat(engine, llm, owner=owner) for owner in ("ada", "bob", None, "ada")]
    replies = [await chat.ask(f"{MARKS['ada']} Pay the bill", idempotency_key="order 7") for chat in chats]
    assert len({reply.turn_id for reply in replies}) == len(chats)
    again = [await chat.ask(f"{MARKS['ada']} Pay the bill", idempotency_key="order 7") for chat in chats]
    assert [reply.turn_id for reply in again] == [reply.turn_id for reply in replies]
    async with engine.connect() as connection:
        assert (await connection.execute(select(func.count()).select_from(TurnRecord))).scalar_one() == len(chats)


async def owners_of(engine: AsyncEngine, record: Any) -> list[str | None]:
    """Whose the rows of a table are."""
    async with engine.connect() as connection:
        return sorted(await connection.scalars(select(record.owner)), key=str)


@pytest.mark.fault("E10")
async def test_nothing_is_shared_between_owners(engine: AsyncEngine, llm: LLM) -> None:
    """The same file and the same instructions are stored for each owner, and go with his own chats only."""
    file = MediaPart(media="text", media_type="text/plain", data=SHARED)
    chats: dict[str | None, Chat] = {}
    for owner in (*OWNERS, ""):
        chats[owner] = await create_chat(engine, llm, owner=owner, instructions=INSTRUCTIONS)
        await chats[owner].ask([f"{MARKS['ada']} Read this", file])
    expected: list[str | None] = sorted(chats, key=str)
    assert await owners_of(engine, BlobRecord) == await owners_of(engine, TextRecord) == expected

    await chats["ada"].delete()
    await purge(engine, owner="bob")
    await purge(engine, owner="")
    assert await owners_of(engine, BlobRecord) == await owners_of(engine, ChatRecord) == [None]
    assert await owners_of(engine, TextRecord) == [None, "ada"]
    kept = await load_chat(engine, llm, chats[None].id)
    assert [part.data for part in kept.messages[0].parts if isinstance(part, MediaPart)] == [SHARED]
