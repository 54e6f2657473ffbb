"""All features that change a chat, used by several workers inside each other's model calls and tools, in any order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nodellm_orm import (
    ChatNotFoundError,
    ConfigurationError,
    Encryption,
    Persistence,
    RetryPolicy,
    StaleChatError,
    StorageError,
    Tool,
    ToolContext,
    ToolHalt,
    Window,
    create_chat,
    interrupted_turns,
    load_chat,
    tool,
    verify,
)
from nodellm_orm.models import RequestRecord
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.compaction import WORDS
from nodellm_orm.runtime.restored import asked_with
from nodellm_orm.testing import FakeCall, sse_answer
from tests.acceptance.interfering import WORKERS, Interfering, check_whole, search
from tests.acceptance.speakers import Fails, Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored

if TYPE_CHECKING:
    from uuid import UUID

    from nodellm_orm import LLM, Chat, Reply
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.validity import Rows
    from tests.integration.databases import DatabaseKind

OWNER: Final = "ada"
TALKS: Final = 3
"""Chats at most: the first one and branches."""
MODELS: Final = {"openai_chat": ("gpt-5-mini", "gpt-5"), "anthropic": ("claude-haiku-4-5", "claude-sonnet-4-5")}
QUESTIONS: Final = (
    *("plain", "note", "book", "pay", "note book", "book write", "pay note", "pay book pay", "halt", "write halt"),
    *("fail", "flaky", "note fail"),
)
"""The words of a question say which tools the model calls, and what goes wrong."""
WINDOWS: Final = (Window(), Window(turns=1), Window(turns=2), Window(tokens=25), Window(turns=3, tokens=60))
ACTIONS: Final = (
    *("ask", "ask", "ask keyed", "ask in a window", "ask and abandon", "stream", "stream and leave", "stream broken"),
    *("regenerate", "regenerate keyed", "edit", "compact", "fork", "approve", "approve", "deny"),
    *("resume", "resume and retry", "expire and resume", "expire and ask", "expire", "serve the interrupted"),
    *("cancel", "add", "model", "rename", "load", "restart", "delete"),
)
EXAMPLES: Final[dict[DatabaseKind, int]] = {"sqlite": 6, "postgresql": 3, "mysql": 3}
IN_SESSION: Final = frozenset({"book", "write", "halt"})
"""Tools that write through ``context.session``."""
deed = st.tuples(
    *(st.integers(0, WORKERS - 1), st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from(ACTIONS), st.integers(0, 1_000))
)


class HostBase(DeclarativeBase):
    """The host's own tables."""


class Entry(HostBase):
    """What a tool has done, as often as it has."""

    __tablename__ = "host_entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255))


@dataclass(slots=True)
class Talk:
    """One chat, and the objects that workers have of it."""

    id: UUID
    chats: dict[int, Chat] = field(default_factory=dict)
    keyed: dict[str, UUID] = field(default_factory=dict)
    """The turn of each idempotency key that was answered."""
    gone: bool = False
    retried: bool = False
    """Somebody has said that calls of unknown outcome are to run again."""


class Everything(Interfering):
    """Chats and branches of them, and workers of which one writes at the end of a turn only."""

    speaker: ClassVar[Speaker]
    encryption: ClassVar[Encryption | None] = None
    persist: ClassVar[Persistence | None] = None
    apart: ClassVar[bool]
    """Whether writers of this database do not wait for each other, unless they write the same rows."""

    @initialize(lazy=st.booleans())
    def begin(self, lazy: bool) -> None:  # noqa: FBT001 — hypothesis gives it by name
        """Start the provider and make the chat."""
        self.start()
        self.lazy = lazy
        """Whether the last worker's turns have ``durability="turn"``."""
        self.talks: list[Talk] = []
        self.runs: Counter[str] = Counter()
        self.failed: set[str] = set()
        self.asked = 0
        """Requests that were in the ledger when they were sent."""
        self.ending = False
        self.beside = 0
        """How many interfere while a turn runs on, which may thus end before it is taken."""
        self.do(self._begin())

    async def _begin(self) -> None:
        await self.open()
        self.tools = [self._noting("note"), self._noting("pay"), self._booking("book"), self._booking("write")]
        self.tools.append(self._booking("halt"))
        talk = Talk(new_id())
        talk.chats[0] = await create_chat(
            self.engines[0],
            self.clients[0],
            id=talk.id,
            instructions="Repeat.",
            owner=OWNER,
            tools=self.tools,
            encryption=self.encryption,
            persist=self.persist,
            max_takeovers=2,
            **self._behaviour(0, talk.id),
        )
        self.talks.append(talk)

    def client(self) -> LLM:
        """A worker's client, which tries twice."""
        return self.speaker.llm(self.server, retry=RetryPolicy(max_attempts=2, base_ms=1, max_ms=1))

    def objects(self) -> list[Chat]:
        """All objects of chats."""
        return [chat for talk in self.talks for chat in talk.chats.values()]

    def _behaviour(self, worker: int, chat_id: UUID) -> dict[str, Any]:
        durability = "turn" if self.lazy and worker == WORKERS - 1 else "step"
        return {"durability": durability, "headers": {"x-chat": str(chat_id), "x-durability": durability}}

    async def _load(self, worker: int, talk: Talk, **options: Any) -> Chat:
        return await load_chat(
            self.engines[worker],
            self.clients[worker],
            talk.id,
            owner=OWNER,
            tools=self.tools,
            encryption=self.encryption,
            persist=self.persist,
            max_takeovers=2,
            **self._behaviour(worker, talk.id),
            **options,
        )

    async def _chat(self, worker: int, talk: Talk) -> Chat:
        if worker not in talk.chats:
            talk.chats[worker] = await self._load(worker, talk)
        return talk.chats[worker]

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ran(self, context: ToolContext) -> None:
        self.runs[context.idempotency_key] += 1

    def _noting(self, name: str) -> Tool:
        @tool(name=name, description="Do something elsewhere.", requires_approval=name == "pay")
        async def note(word: str, context: ToolContext) -> str:
            self._ran(context)
            await self.interfere()
            return f"{name} {word}"

        return note

    def _booking(self, name: str) -> Tool:
        @tool(name=name, description="Write a row.", idempotent=name != "write")
        async def book(word: str, context: ToolContext) -> str:
            self._ran(context)
            await self.interfere()
            context.session.add(Entry(key=context.idempotency_key))
            if name != "halt":
                await context.session.flush()
                if self.apart:
                    await self.interfere()
            if name == "halt":
                raise ToolHalt(word)
            return f"{name} {word}"

        return book

    # ── the provider ──────────────────────────────────────────────────────────────────────────────────────────────

    async def answer(self, request: ReceivedRequest) -> Answer:
        """Look at what has arrived, let others interfere, and do as the question says."""
        body: Any = request.json()
        try:
            check(body, self.speaker.api)
            await self._compare(request, body)
        except AssertionError as error:
            self.failures.append(f"a request is not in order: {error}")
        await self.interfere()
        return self._say(request, body)

    async def _compare(self, request: ReceivedRequest, body: Any) -> None:
        """What is sent is what the rows say, whoever sends it."""
        if request.headers["x-durability"] == "turn":
            return
        self.asked += 1
        if self.persist is not None or last_words(body, self.speaker.api) == WORDS:
            return
        talk = next(talk for talk in self.talks if str(talk.id) == request.headers["x-chat"])
        fresh = await self._load(0, talk, history_window=Window())
        turn = fresh._chat.last_turn
        asked = asked_with(turn) if turn is not None else None
        # A turn keeps the window that it was asked with, whatever is saved meanwhile.
        fresh.with_settings(history_window=(asked.history_window if asked is not None else None) or Window())
        expected: Any = json.loads(fresh.render().body)
        assert body["messages"] == expected["messages"], f"sent {body['messages']}, stored {expected['messages']}"

    def _say(self, request: ReceivedRequest, body: Any) -> Answer:
        stream, words = self.speaker.streams(request), last_words(body, self.speaker.api)
        asked = question_of(body)
        if words == WORDS:
            return self.speaker.answer(Says(text=f"summary {next(self.numbers)}"), stream=stream)
        tools = [name for name in asked.split() if name in {*IN_SESSION, "note", "pay"}]
        if "fail" in asked and self._first(f"{asked} {words is None or not tools}"):
            return self.speaker.answer(Fails(status=400), stream=stream)
        if "flaky" in asked and self._first(asked):
            return self.speaker.answer(Fails(status=503), stream=stream)
        if words is not None and tools:
            calls = [FakeCall(name, {"word": f"{next(self.numbers)}"}, id=f"c{next(self.numbers)}") for name in tools]
            return self.speaker.answer(Says(text="I will.", calls=calls), stream=stream)
        line = Says(text=f"answer to {asked}")
        if stream and "broken" in asked and self._first(asked):
            return sse_answer(self.speaker.events(line)[:-3])
        return self.speaker.answer(line, stream=stream)

    def _first(self, words: str) -> bool:
        first = words not in self.failed
        self.failed.add(words)
        return first

    # ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(what=deed, inside=st.lists(deed, max_size=5))
    def step(self, what: tuple[Any, ...], inside: list[tuple[Any, ...]]) -> None:
        """One worker does something; others interfere, each while the one before waits for its model or its tool."""
        self.go(what, inside)

    async def act(self, *given: Any) -> None:
        """One deed, which may be refused; whether it takes a turn from its worker is remembered."""
        worker, place, action, pick = given
        talk = self.talks[place % len(self.talks)]
        if talk.gone:
            talk = self.talks[0]
        told = f"{action} {pick} of worker {worker} in chat {self.talks.index(talk)}"
        try:
            held = (await stored(self.engines[worker], talk.id)).chat.active_turn_id
            if await self._perform(worker, talk, action, pick) and held is not None and not self.beside:
                self.lost.add(held)
        except ChatNotFoundError as error:
            if not talk.gone and "call" not in str(error):
                self.failures.append(f"{told}: {error!r}")
        except StorageError as error:
            self.failures.append(f"{told}: {error!r} {error.__cause__!r}")
        except Exception as error:  # noqa: BLE001 — told by the invariant, out of the callback's reach
            self.refused(told, error)

    async def _perform(self, worker: int, talk: Talk, action: str, pick: int) -> bool:
        """Do it; whether a turn that was running then is no longer its worker's."""
        if action == "restart":
            await self._restart(worker)
            return False
        chat = await self._chat(worker, talk)
        match action:
            case "ask" | "ask keyed" | "ask in a window" | "ask and abandon":
                await self._ask(talk, chat, action, pick)
            case "stream" | "stream broken" | "stream and leave":
                await self._stream(chat, action, pick)
            case "regenerate" | "regenerate keyed" | "edit":
                await self._revise(talk, chat, action, pick)
            case "resume" | "resume and retry" | "serve the interrupted":
                await self._resume(worker, talk, chat, action)
            case "expire and resume" | "expire and ask":
                await self.expire(talk.id)
                await (chat.resume() if action == "expire and resume" else chat.ask(self._words(pick)))
                return True
            case "expire":
                await self.expire(talk.id)
            case "cancel":
                return await chat.cancel()
            case "approve" | "deny":
                await self._decide(worker, talk, chat, action, pick)
            case "fork":
                await self._fork(worker, chat, pick)
            case "delete":
                return await self._delete(talk, chat)
            case _:
                await self._change(worker, talk, chat, action, pick)
        return False

    def _words(self, pick: int) -> str:
        return f"{QUESTIONS[pick % len(QUESTIONS)]} q{next(self.numbers)}"

    def _check(self, reply: Reply[Any], words: str) -> None:
        if reply.turn_id in self.lost and reply.finish_reason != "cancelled":
            self.failures.append(f"a worker that had lost its turn has ended it {reply.finish_reason}")
        if reply.finish_reason == "stop" and reply.content != f"answer to {words}":
            self.failures.append(f"asked {words!r}, got {reply.content!r}")

    async def _ask(self, talk: Talk, chat: Chat, action: str, pick: int) -> None:
        words, options = self._words(pick), dict[str, Any](abandon_pending=action == "ask and abandon")
        if action == "ask in a window":
            options["history_window"] = WINDOWS[pick % len(WINDOWS)]
        if action != "ask keyed":
            self._check(await chat.ask(words, **options), words)
            return
        key, words = f"key {pick % 2}", f"{QUESTIONS[pick % 4]} key"
        reply = await chat.ask(words, idempotency_key=key)
        self._check_key(talk, key, reply)
        if reply.finish_reason == "stop" and reply.content != f"answer to {words}":
            self.failures.append(f"asked {words!r}, got {reply.content!r}")

    def _check_key(self, talk: Talk, key: str, reply: Reply[Any]) -> None:
        if talk.keyed.setdefault(key, reply.turn_id) != reply.turn_id:
            self.failures.append(f"{key} was answered twice")

    async def _stream(self, chat: Chat, action: str, pick: int) -> None:
        words = f"broken {self._words(pick)}" if action == "stream broken" else self._words(pick)
        options: dict[str, Any] = {"checkpoint": 0} if pick % 2 and chat._behaviour.durability == "step" else {}
        if action == "stream and leave":
            async for _ in chat.stream(words, on_abandon="finish" if pick % 3 == 0 else "cancel", **options):
                break
            return
        async with chat.stream(words, **options) as stream:
            pieces = []
            async for chunk in stream:
                pieces.append(chunk.content)
                self.beside += 1
                await self.interfere()
                self.beside -= 1
            reply = await stream.reply()
        self._check(reply, words)
        if reply.finish_reason == "stop" and not "".join(pieces).endswith(reply.content):
            self.failures.append(f"the pieces {pieces} are not {reply.content!r}")

    async def _revise(self, talk: Talk, chat: Chat, action: str, pick: int) -> None:
        options: dict[str, Any] = {"abandon_pending": pick % 2 == 0}
        if action == "edit":
            asked = [m for m in chat.messages if m.role == "user"]
            words = self._words(pick)
            message = asked[pick % len(asked)] if asked else 0
            self._check(await chat.edit(message, words, **options), words)
        elif action == "regenerate":
            await chat.regenerate(**options)
        else:
            reply = await chat.regenerate(idempotency_key="again", **options)
            self._check_key(talk, "again", reply)

    async def _resume(self, worker: int, talk: Talk, chat: Chat, action: str) -> None:
        if action == "resume":
            await chat.resume()
        elif action == "resume and retry":
            talk.retried = True
            await chat.resume(unknown="retry")
        else:
            for turn in await interrupted_turns(self.engines[worker]):
                of = next(talk for talk in self.talks if talk.id == turn.chat_id)
                await (await self._chat(worker, of)).resume(turn=turn)

    async def _decide(self, worker: int, talk: Talk, chat: Chat, action: str, pick: int) -> None:
        rows = await stored(self.engines[worker], talk.id)
        waiting = [call.call_id for call in rows.calls if call.status == "awaiting_approval"]
        call_id = waiting[pick % len(waiting)] if waiting else "none"
        if action == "approve":
            await chat.approve(call_id, by="bob")
        else:
            await chat.deny(call_id, "no", by="bob")

    async def _fork(self, worker: int, chat: Chat, pick: int) -> None:
        if len(self.talks) >= TALKS:
            return
        talk = Talk(new_id())
        at = chat.messages[pick % len(chat.messages)] if pick % 3 and chat.messages else None
        branch = await chat.fork(at, id=talk.id, **self._behaviour(worker, talk.id))
        talk.chats[worker] = branch
        self.talks.append(talk)
        if at is not None and self.persist is None:
            known = {message.position: message for message in chat.messages}
            other = [m for m in branch.messages if m.position in known and known[m.position] != m]
            if other or all(m.position != at.position for m in branch.messages):
                self.failures.append(f"a branch of {chat.messages} at {at.position} begins with {branch.messages}")

    async def _delete(self, talk: Talk, chat: Chat) -> bool:
        if talk is self.talks[0] and not self.ending:
            return False
        talk.gone = True
        return await chat.delete()

    async def _change(self, worker: int, talk: Talk, chat: Chat, action: str, pick: int) -> None:
        match action:
            case "add":
                await chat.add_message("user" if pick % 2 else "assistant", f"added {next(self.numbers)}")
            case "compact":
                await chat.compact(keep=pick % 3)
            case "model":
                chat.with_model(MODELS[self.speaker.api][pick % 2])
            case "rename":
                await chat.update(title=f"title {next(self.numbers)}")
            case _:
                options = {"history_window": WINDOWS[pick % len(WINDOWS)]} if pick % 2 else {}
                drive = chat._drive
                if drive is None or drive.over:
                    talk.chats[worker] = await self._load(worker, talk, **options)

    async def _restart(self, worker: int) -> None:
        """A deployment: what this worker does is let go of, and it is there again."""
        client, self.clients[worker] = self.clients[worker], self.client()
        for talk in self.talks:
            talk.chats.pop(worker, None)
        await client.aclose(grace=0)

    # ── what must hold ────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def everything_is_whole(self) -> None:
        """Whatever has happened, the rows are in order, and say what the objects say."""
        if hasattr(self, "talks"):
            assert not self.failures, self.failures
            self.do(self._check_all())

    async def _check_all(self) -> None:
        report = await verify(self.engines[0], encryption=self.encryption)
        assert report.ok, [str(finding) for finding in report.findings]
        keys = await self._keys()
        async with AsyncSession(self.engines[0]) as session:
            ledger = (await session.scalars(select(RequestRecord.id))).all()
        assert len(ledger) >= self.asked
        for talk in self.talks:
            if talk.gone:
                with pytest.raises(ChatNotFoundError):
                    await self._load(0, talk)
                continue
            rows = await stored(self.engines[0], talk.id)
            check_whole(rows)
            self._check_calls(talk, rows, keys)
            await self._check_objects(talk, rows)
        for chat in self.objects():
            assert chat._drive is None or chat._drive.over

    async def _keys(self) -> Counter[str]:
        async with AsyncSession(self.engines[0]) as session:
            return Counter((await session.scalars(select(Entry.key))).all())

    def _check_calls(self, talk: Talk, rows: Rows, keys: Counter[str]) -> None:
        own = {turn.id for turn in rows.turns}
        calls = {f"{talk.id}:{call.call_id}": call for call in rows.calls if call.turn_id in own}
        for key, call in calls.items():
            done = call.status in {"succeeded", "halted"}
            told = f"{call.name} is {call.status}, ran {self.runs[key]} times, and has written {keys[key]}"
            if call.name in IN_SESSION:
                assert keys[key] == done, told
            if done:
                assert self.runs[key], told
            if call.status in {"pending", "awaiting_approval", "denied"} or (
                call.name == "pay" and not call.decided_at
            ):
                assert self.runs[key] == 0, told
            stored_first = call.name == "pay" or not self.lazy
            if call.name in {"note", "pay", "write"} and stored_first and not talk.retried:
                assert self.runs[key] <= 1, told
        prefix = f"{talk.id}:"
        assert not [key for key in keys if key.startswith(prefix) and key not in calls]

    async def _check_objects(self, talk: Talk, rows: Rows) -> None:
        fresh = await self._load(0, talk)
        live = [message.position for message in rows.messages if message.superseded_at is None]
        assert [message.position for message in await fresh.history(limit=10_000)] == live
        assert fresh._chat.since or [message.position for message in fresh.messages] == live
        expected = fresh.render("and then?").body
        for chat in talk.chats.values():
            known = chat._chat
            behind = (known.fence, known.step, known.head.version) != (
                rows.chat.fence,
                rows.chat.step,
                rows.chat.version,
            )
            # A person's decision on a call of an interrupted turn is noticed when the call is closed.
            if known.stale or behind or known.changes or rows.chat.active_turn_id or self.persist is not None:
                continue
            try:
                rendered = chat.render("and then?").body
            except ConfigurationError:  # less is loaded than the stored window shows
                assert known.since
            else:
                assert rendered == expected, f"{json.loads(rendered)['messages']} is not what is stored"

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        """Whoever comes next can carry each chat on; then they are deleted."""
        if hasattr(self, "talks"):
            self.end(self._last())

    async def _last(self) -> None:
        for talk in self.talks:
            if not talk.gone:
                await self._carry_on(talk)
        assert not self.failures, self.failures
        await self._check_all()
        for talk in reversed(self.talks):
            if not talk.gone:
                await self._delete_during_a_turn(talk)
        report = await verify(self.engines[0], encryption=self.encryption)
        assert report.ok, [str(finding) for finding in report.findings]
        assert not self.failures, self.failures

    async def _carry_on(self, talk: Talk) -> None:
        await self.expire(talk.id)
        fresh = await self._load(1, talk)
        reply = await fresh.ask("at last", abandon_pending=True)
        assert reply.content == "answer to at last"
        check_history([message for message in fresh.messages if message.status == "complete"])
        (await stored(self.engines[0], fresh.id)).check()
        again = await self._load(0, talk)
        assert again.messages
        if self.persist is None:
            assert not [message for message in again.messages if message not in fresh.messages]

    async def _delete_during_a_turn(self, talk: Talk) -> None:
        """Deletion wins; what the answer has cost is in the ledger."""
        self.ending = True
        fresh = talk.chats[1] = await self._load(1, talk)
        self.inside.append((0, self.talks.index(talk), "delete", 0))
        with pytest.raises(StaleChatError) as stale:
            await fresh.ask("at the very last", history_window=1)
        assert stale.value.reply is not None
        assert str(stale.value.reply) == "answer to at the very last"
        async with AsyncSession(self.engines[0]) as session:
            of_chat = select(RequestRecord.status).where(RequestRecord.chat_id == talk.id)
            assert "started" not in (await session.scalars(of_chat)).all()


def question_of(body: Any) -> str:
    """The text that the user said last.

    Args:
        body: a request.
    """
    for message in reversed(body["messages"]):
        content = message["content"]
        if message["role"] == "user" and isinstance(content, str):
            return content
        texts = [block["text"] for block in content or () if message["role"] == "user" and block["type"] == "text"]
        if texts:
            return str(texts[-1])
    return ""


async def prepared(database: str) -> None:
    """Make the host's table."""
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    await engine.dispose()


@pytest.mark.fault("C55")
@pytest.mark.fault("C63")
@pytest.mark.parametrize("how", ["plain", "encrypted", "without results"])
async def test_all_features_at_once_leave_whole_chats(database: str, database_kind: DatabaseKind, how: str) -> None:
    """Whatever workers do to a chat and its branches, rows and objects agree, and each chat can be carried on."""
    await prepared(database)
    await search(machine(database, database_kind, how), examples=EXAMPLES[database_kind])


def machine(database: str, kind: DatabaseKind, how: str) -> type[Everything]:
    """The search on one database.

    Args:
        database: its URL.
        kind: what it is.
        how: chats are kept.
    """
    given = {
        "url": database,
        "speaker": Speaker("anthropic" if how == "encrypted" else "openai_chat"),
        "encryption": Encryption(keys={"k": Encryption.generate_key()}) if how == "encrypted" else None,
        "persist": Persistence(tool_results=False) if how == "without results" else None,
        "apart": kind != "sqlite",
    }
    return type("EverythingHere", (Everything,), given)
