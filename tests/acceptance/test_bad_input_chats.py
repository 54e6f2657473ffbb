"""Bad input to what chats can do beyond a question: approval, branches, summaries, windows, closing, tool sessions."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    ChatBusyError,
    ChatNotFoundError,
    Chats,
    ConfigurationError,
    InterruptedTurn,
    Message,
    NodeLLMError,
    SessionStateError,
    TextPart,
    ToolContext,
    Window,
    create_chat,
    create_llm,
    interrupted_turns,
    list_chats,
    load_chat,
    tool,
)
from nodellm_orm.store.schema import downgrade
from nodellm_orm.testing import FakeCall
from tests.acceptance.refusing import LONG, SECRET, each, faults_of, refused, rows
from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import LoopbackServer

SPEAKER = Speaker("openai_chat")
UNKNOWN: Final = UUID("01890000-0000-7000-8000-000000000000")
NO_COUNT: Final = (0, -1, 1.5, "2", True, math.nan, [1], LONG)
NO_TEXT: Final = (5, b"x", ["x"], {"x": 1})
NO_ID: Final = ("nope", "", 5, b"x", [UNKNOWN], "01890000-0000-7000-8000-00000000000g")


@tool(requires_approval=True)
async def pay(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Chats with something in them, whose model answers nothing any more."""

    engine: AsyncEngine
    llm: LLM
    server: LoopbackServer
    chat: Chat
    """Of Ann's, with two turns."""
    waiting: Chat
    """Of Ann's, with a call that waits for a decision."""
    call: str
    """Its id."""
    other: Chat
    """Of Bob's, with one turn."""


def any_of(call: object) -> Any:
    """A call, to be made as nobody should who asks a type checker."""
    return call


@asynccontextmanager
async def scene(engine: AsyncEngine) -> AsyncIterator[Scene]:
    """The chats; a request beyond theirs fails the test."""
    script = [Says(text="a"), Says(text="b"), Says(calls=[FakeCall("pay", {"to": SECRET})]), Says(text="c")]
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, owner="ann")
        await chat.ask("one")
        await chat.ask("two")
        waiting = await create_chat(engine, llm, owner="ann", tools=[pay])
        (call,) = (await waiting.ask("pay")).tool_calls
        other = await create_chat(engine, llm, owner="bob")
        await other.ask("hello")
        yield Scene(engine=engine, llm=llm, server=server, chat=chat, waiting=waiting, call=call.call_id, other=other)
        assert len(server.requests) == len(script)


async def test_decisions_on_what_is_no_call_are_refused(engine: AsyncEngine) -> None:
    """An id that is none, another chat's call, a reason or a name that says nothing: the call goes on waiting."""
    async with scene(engine) as on:
        calls: list[Callable[[Any], object]] = [on.waiting.approve, lambda value: on.waiting.deny(value, "no")]
        (pending,) = on.waiting.pending_approvals
        for decide in calls:
            await refused(
                engine,
                [
                    *each("call_id", [None, "", " "], "chat.pending_approvals", decide),
                    *each("call_id", [*NO_TEXT, UNKNOWN], "call_id is a text", decide),
                    *each("call_id", [pending], "pass its call_id", decide),
                    *each("call_id", [LONG], "use at most 255", decide),
                    *each("call_id", ["nope", "\x00", "\ud800", on.call.upper(), f"{on.call} "], "these wait", decide),
                ],
            )
        await refused(
            engine,
            [
                *each("by", NO_TEXT, "by is a text", lambda v: on.waiting.approve(on.call, by=v)),
                *each("by", ["", "  "], "by is empty; leave it out", lambda v: on.waiting.approve(on.call, by=v)),
                *each("by", [LONG, "x" * 256], "use at most 255", lambda v: on.waiting.deny(on.call, "no", by=v)),
                *each("reason", [None, "", "\n"], "say why", lambda v: on.waiting.deny(on.call, v)),
                *each("reason", NO_TEXT, "reason is a text", lambda v: on.waiting.deny(on.call, v)),
                *each("chat", [on.chat, on.other], "no call of it waits.*check", lambda v: v.approve(on.call)),
                *each("chat", [on.chat, on.other], "no call of it waits.*check", lambda v: v.deny(on.call, "no")),
                *each("files", [[b"x"], b"x"], "ask with them", lambda v: on.waiting.resume(files=v)),
            ],
        )
        with pytest.raises(TypeError, match="reason"):
            await on.waiting.deny(on.call)  # type: ignore[call-arg]  # a mistake
        await on.waiting.approve(on.call, by="ada")
        await refused(engine, each("reason", ["no"], "was approved by ada", lambda v: on.waiting.deny(on.call, v)))


async def test_a_yes_in_the_wrong_type_gives_up_no_call(engine: AsyncEngine) -> None:
    """``abandon_pending`` is ``True`` or ``False``: the text "no" does not count as a yes."""
    async with scene(engine) as on:
        switches: tuple[object, ...] = ("no", "false", 0, 1, None, [])
        ask, edit, again = any_of(on.waiting.ask), any_of(on.waiting.edit), any_of(on.waiting.regenerate)
        await refused(engine, each("pending", switches, "True or False", lambda v: ask("x", abandon_pending=v)))
        await refused(engine, each("pending", switches, "True or False", lambda v: edit(0, "x", abandon_pending=v)))
        await refused(engine, each("abandon_pending", switches, "True or False", lambda v: again(abandon_pending=v)))
        says = "approve.*deny.*resume"
        for busy in (on.waiting.regenerate, lambda: on.waiting.edit(0, "x"), lambda: on.waiting.compact(keep=0)):
            await refused(engine, [("pending", (busy, says))])
        assert [call.call_id for call in on.waiting.pending_approvals] == [on.call]


async def test_branches_that_cannot_be_meant_are_not_made(engine: AsyncEngine) -> None:
    """A place that is none, another chat's message, an id that is taken, an option that is none: no branch, no copy."""
    async with scene(engine) as on:
        fork = on.chat.fork
        strange = [on.other.messages[0], on.waiting.messages[1], Message(role="user", parts=(TextPart(text="one"),))]
        await refused(
            engine,
            [
                *each(
                    "at",
                    ["2", 1.0, math.nan, True, b"", UNKNOWN, [1], LONG],
                    "such as chat.messages",
                    lambda v: fork(at=v),
                ),
                *each("at", [-1, 4, 99, 10**30], "from 0 to 3", lambda v: fork(at=v)),
                *each("at", strange, "take it from chat.messages", lambda v: fork(at=v)),
                *each("title", NO_TEXT, "title is a text", lambda v: fork(title=v)),
                *each("metadata", [[1], "x", 5], "a dict of JSON values", lambda v: fork(metadata=v)),
                *each(
                    "metadata", [{1: 2}, {"a": math.nan}, {"a": b""}], "cannot be stored", lambda v: fork(metadata=v)
                ),
                *each("tools", ["pay", 5, pay], r"tools=\[...\]", lambda v: fork(tools=v)),
                *each("tools", [[5], [int]], "give a function|derive it", lambda v: fork(tools=v)),
                *each("id", NO_ID, "a UUID or its text", lambda v: fork(id=v)),
                *each("id", [on.chat.id, str(on.waiting.id)], "choose another id", lambda v: fork(id=v)),
                *each("id", [on.other.id], "for this owner; check", lambda v: fork(id=v)),
            ],
        )
        options: list[tuple[dict[str, Any], str]] = [
            ({"owner": "bob"}, "unknown option owner"),
            ({"temprature": 1}, "did you mean temperature"),
            ({"encryption": 5}, "unknown option encryption"),
            ({"files": [b""]}, "unknown option files"),
            ({"model": 5}, "model is a text"),
            ({"model": " "}, "model is empty"),
            ({"provider": "opnai"}, "Did you mean 'openai'"),
            ({"instructions": " "}, "a text that says something"),
            ({"temperature": math.nan}, "from 0 to 2"),
            ({"temperature": LONG}, "from 0 to 2"),
            ({"max_tokens": LONG}, "at least 1"),
            ({"max_cost": LONG}, "an amount of US dollars"),
            ({"thinking": LONG}, "a number of tokens"),
            ({"tool_choice": LONG}, "auto, none, required"),
            ({"lease": "60"}, "number of seconds above 0"),
            ({"max_takeovers": -1}, "at least 0"),
            ({"max_takeovers": True}, "at least 0"),
            ({"durability": "now"}, "'step' or 'turn'"),
            ({"timeout": -1}, "above 0"),
            ({"headers": [SECRET]}, "a dict of texts"),
            ({"headers": {"authorization": f"{SECRET}\n"}}, "line break"),
            ({"params": [SECRET]}, "params is a dict"),
            ({"history_window": 0}, "at least 1"),
            ({"schema": "City"}, "give a class"),
        ]
        await refused(engine, [(repr(given)[:60], (partial(fork, **given), says)) for given, says in options])


async def test_a_branch_lives_under_the_limits_that_were_given(engine: AsyncEngine) -> None:
    """``fork(max_takeovers=)`` is taken as ``load_chat`` takes it; left out, the branch has its parent's limit."""
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, max_takeovers=1)
        limits = [chat, await chat.fork(), await chat.fork(max_takeovers=None), await chat.fork(max_takeovers=7)]
        assert [branch._behaviour.max_takeovers for branch in limits] == [1, 1, None, 7]  # shown nowhere


async def test_what_cannot_be_asked_anew_is_refused(engine: AsyncEngine) -> None:
    """A message that is no question here, words that are none, options of other calls: nothing is superseded."""
    async with scene(engine) as on:
        edit, again = any_of(on.chat.edit), any_of(on.chat.regenerate)
        strange = [on.other.messages[0], Message(role="user", parts=(TextPart(text="one"),))]
        await refused(
            engine,
            [
                *each(
                    "message",
                    [None, "0", 1.5, True, math.nan, b"", [0]],
                    "such as chat.messages",
                    lambda v: edit(v, "x"),
                ),
                *each(
                    "message", [-1, 1, 99, 10**30, on.chat.messages[1]], "positions are: 0, 2", lambda v: edit(v, "x")
                ),
                *each("message", strange, "take it from chat.messages", lambda v: edit(v, "x")),
                *each("content", [None, 5, b"x", {"role": "user"}], "a question is text", lambda v: edit(0, v)),
                *each("content", ["", " \n", []], "ask something", lambda v: edit(0, v)),
                *each("files", [5, object()], "give one of these", lambda v: edit(0, "x", files=v)),
                *each("files", [[b"x"], b"x", "x"], r"edit\(\) it with them", lambda v: again(files=v)),
                *each("model", ["gpt-5"], r"chat.with_model", lambda v: again(model=v)),
                *each("provider", ["openai"], r"chat.with_model", lambda v: edit(0, "x", provider=v)),
                *each("wait", [-1, "1", math.nan, math.inf, True], "number of seconds", lambda v: again(wait=v)),
                *each("on_limit", [1, "explode", None], "'return' or 'raise'", lambda v: again(on_limit=v)),
                *each("schema", ["City"], "give a class", lambda v: edit(0, "x", schema=v)),
                *each("key", [5, "", "k" * 256], "idempotency_key", lambda v: edit(0, "x", idempotency_key=v)),
                *each("temprature", [1], "did you mean temperature", lambda v: again(temprature=v)),
                *each("at", [1], "unknown option at", lambda v: again(at=v)),
            ],
        )
        empty = await create_chat(engine, on.llm)
        await refused(engine, [("regenerate", (empty.regenerate, "ask first")), ("edit", (lambda: edit(0, ""), "ask"))])


async def test_summaries_and_windows_that_cannot_be_meant_are_refused(engine: AsyncEngine) -> None:
    """Numbers that are none, words that say nothing, and nothing to summarise: the chat stays as it is."""
    async with scene(engine) as on:
        compact, history = on.chat.compact, on.chat.history
        no_place = (1.5, "1", math.nan, True, b"", [1], LONG, 10**30, -(10**30))
        await refused(
            engine,
            [
                *each(
                    "keep", [-1, 1.5, "1", None, True, math.nan, LONG], "keep is a number", lambda v: compact(keep=v)
                ),
                *each("keep", [2, 10**30], "keep fewer", lambda v: compact(keep=v)),
                *each("instructions", [5, b"x"], "instructions is a text", lambda v: compact(instructions=v)),
                *each("instructions", ["", " "], "instructions is empty", lambda v: compact(instructions=v)),
                *each("model", [5, b"x"], "model is a text", lambda v: compact(model=v)),
                *each("model", ["", LONG], "model is empty|at most 255", lambda v: compact(model=v)),
                *each("max_tokens", NO_COUNT, "at least 1", lambda v: compact(max_tokens=v)),
                *each("wait", [-1, "1", math.nan, math.inf, None], "number of seconds", lambda v: compact(wait=v)),
                *each("history_window", NO_COUNT, "at least 1", lambda v: on.chat.ask("x", history_window=v)),
                *each("history_window", NO_COUNT, "at least 1", lambda v: on.chat.update(history_window=v)),
                *each("history_window", NO_COUNT, "at least 1", lambda v: on.chat.with_settings(history_window=v)),
                *each("turns", NO_COUNT, "at least 1", lambda v: Window(turns=v)),
                *each("tokens", NO_COUNT, "at least 1", lambda v: Window(tokens=v)),
                *each("limit", [*NO_COUNT, None, 10**30], "give 1 or more", lambda v: history(limit=v)),
                *each("before", [*no_place, on.chat.messages[1]], r"\.position", lambda v: history(before=v)),
                *each("after", [*no_place, on.chat.messages[1]], r"\.position", lambda v: history(after=v)),
                *each(
                    "checkpoint",
                    [-1, "x", math.nan, True],
                    "number of seconds",
                    lambda v: on.chat.stream("x", checkpoint=v),
                ),
            ],
        )
        for wrong in ({"keeps": 1}, {"provider": "openai"}, {"temperature": 1}):
            with pytest.raises(TypeError, match="unexpected keyword"):
                await any_of(compact)(**wrong)
        assert await history(before=-1) == await history(after=99) == ()


async def test_turns_that_are_none_are_not_resumed(engine: AsyncEngine) -> None:
    """``resume(turn=)`` takes what ``interrupted_turns`` gave, and leaves every other turn as it is."""
    async with scene(engine) as on:
        listed = InterruptedTurn(
            chat_id=on.chat.id, owner="ann", turn_id=UNKNOWN, takeovers=0, lease_until=await moment(engine)
        )
        resume = any_of(on.chat.resume)
        await refused(
            engine,
            [
                *each(
                    "turn",
                    [5, "x", on.chat.id, InterruptedTurn, [listed]],
                    r"interrupted_turns\(\) gave",
                    lambda v: resume(turn=v),
                ),
                *each("turn", [listed], "interrupted", lambda v: resume(turn=v)),
                *each(
                    "unknown", [5, None, "perhaps", LONG], "'report', 'retry' or 'fail'", lambda v: resume(unknown=v)
                ),
                *each("turns", [1], "unknown option turns", lambda v: resume(turns=v)),
                *each(
                    "limit", [*NO_COUNT, None, 10**30], "give 1 or more", lambda v: interrupted_turns(engine, limit=v)
                ),
                *each("limit", [*NO_COUNT, None, 10**30], "give 1 or more", lambda v: list_chats(engine, limit=v)),
                *each(
                    "after",
                    [*NO_TEXT, "", "page 2", "\x00", "\ud800", LONG],
                    "after",
                    lambda v: list_chats(engine, after=v),
                ),
            ],
        )


async def moment(engine: AsyncEngine) -> Any:
    """Any time of the database's."""
    (chat,) = await list_chats(engine, owner="bob")
    return chat.updated_at


async def test_chats_of_an_application_are_checked_when_it_starts(engine: AsyncEngine) -> None:
    """What cannot be meant for all chats is refused where it is said, and ``delete`` tells nobody of others' chats."""
    async with scene(engine) as on:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"encrypt": 5}, r"encrypt \(did you mean encryption\?\)"),
            ({"owner": "ann"}, "unknown option owner"),
            ({"title": "x"}, "unknown option title"),
            ({"encryption": SECRET}, "encryption is an Encryption"),
            ({"records": 5}, r"define_records\(\) gave"),
            ({"persist": {"thinking": False}}, "persist is a Persistence"),
            ({"redact": asyncio.sleep}, "not async"),
            ({"tools": pay}, r"tools=\[...\]"),
        ]
        chats = Chats(engine, on.llm)
        await refused(
            engine,
            [
                *((repr(given), (partial(Chats, engine, on.llm, **given), says)) for given, says in wrong),
                *each("chat_id", [*NO_ID, None], "a UUID or its text", chats.delete),
                *each("owner", NO_TEXT, "owner is a text", lambda v: chats.delete(on.chat.id, owner=v)),
                *each("owner", [on.chat], "pass its owner", lambda v: chats.delete(on.chat.id, owner=v)),
                *each("limit", NO_COUNT, "give 1 or more", lambda v: chats.list(limit=v)),
                *each(
                    "database_timeout",
                    ["30", True, 0, math.nan, []],
                    "positive number",
                    lambda v: create_chat(engine, on.llm, database_timeout=v),
                ),
                *each(
                    "values", [5, "x", [1], {1: 2}], "a dict of values", lambda v: create_chat(engine, on.llm, values=v)
                ),
            ],
        )
        before = await rows(engine)
        for owner in ("bob", "Ann", "", None):
            assert not await chats.delete(on.chat.id, owner=owner)
        assert not await chats.delete(UNKNOWN, owner="ann")
        assert await rows(engine) == before
        assert await chats.delete(str(on.chat.id), owner="ann")
        gone = await load_chats_error(on)
        assert faults_of(gone, "there is no chat") == []


async def load_chats_error(on: Scene) -> Exception:
    """The error for a chat that was deleted."""
    with pytest.raises(ChatNotFoundError) as caught:
        await load_chat(on.engine, on.llm, on.chat.id, owner="ann")
    return caught.value


def of_a_chat(chat: Chat, call: str = "call_0") -> dict[str, Callable[[], object]]:
    """Every call that would write to a chat."""
    return {
        "ask": lambda: chat.ask("x"),
        "stream": lambda: chat.stream("x").reply(),
        "resume": chat.resume,
        "approve": lambda: chat.approve(call),
        "deny": lambda: chat.deny(call, "no"),
        "fork": chat.fork,
        "regenerate": chat.regenerate,
        "edit": lambda: chat.edit(0, "x"),
        "compact": lambda: chat.compact(keep=0),
        "add_message": lambda: chat.add_message("user", "x"),
        "update": lambda: chat.update(title="x"),
    }


async def test_a_chat_that_was_deleted_is_gone_for_every_call(engine: AsyncEngine) -> None:
    """An object of a chat that somebody has deleted meanwhile writes nothing, and says that there is no such chat."""
    async with scene(engine) as on:
        await (await load_chat(engine, on.llm, on.waiting.id, owner="ann")).delete()
        calls = {**of_a_chat(on.waiting), "history": on.waiting.history}
        await refused(engine, [(name, (call, "there is no chat.*check the id")) for name, call in calls.items()])
        assert not await on.waiting.delete()


async def test_sessions_that_cannot_be_committed_are_refused(engine: AsyncEngine) -> None:
    """Inside ``begin()`` or ``begin_nested()``, and on a closed session, nothing of a chat is written."""
    async with scene(engine) as on, AsyncSession(engine) as session:
        chat = await load_chat(session, on.llm, on.waiting.id, owner="ann", tools=[pay])
        calls = {**of_a_chat(chat), "delete": chat.delete}
        await session.rollback()
        await refused_all(engine, session.begin, calls, "leave the block first, pass the engine")
        await refused_all(engine, session.begin_nested, calls, r"begin_nested\(\).*pass the engine")
        await session.rollback()
        final = AsyncSession(engine, close_resets_only=False)
        chat = await load_chat(final, on.llm, on.waiting.id, owner="ann", tools=[pay])
        await final.close()
        await refused(engine, [(name, (call, "pass one that is open")) for name, call in of_a_chat(chat).items()])


async def refused_all(engine: AsyncEngine, block: Any, calls: dict[str, Callable[[], object]], says: str) -> None:
    """Each of these calls is refused inside such a block of a session."""
    for name, call in calls.items():
        async with block() as transaction:
            await refused(engine, [(name, (call, says))])
            await transaction.rollback()


async def test_a_closed_client_asks_nothing(engine: AsyncEngine) -> None:
    """After ``aclose`` whatever needs the model is refused before it writes; decisions and branches need none."""
    async with scene(engine) as on:
        await on.llm.aclose(grace=0)
        asking = ("ask", "stream", "regenerate", "edit", "compact", "resume")
        for chat in (on.chat, on.waiting):
            calls = of_a_chat(chat)
            await refused(engine, [(name, (calls[name], "make a new one with create_llm")) for name in asking])
        await on.waiting.approve(on.call)
        assert (await on.chat.fork()).messages == on.chat.messages


async def test_a_grace_that_is_none_does_not_begin_to_close(engine: AsyncEngine) -> None:
    """``aclose`` and ``close_soon`` refuse what is no time, and another thread: the client goes on."""
    async with SPEAKER.server(Says(text="on")) as server, SPEAKER.llm(server) as llm:
        graces = (-1, "10", math.nan, math.inf, True, None, b"")
        await refused(
            engine,
            [
                *each("grace", graces, "number of seconds not below 0", lambda v: llm.aclose(grace=v)),
                *each("grace", graces, "number of seconds not below 0", llm.close_soon),
                ("thread", (lambda: asyncio.to_thread(llm.close_soon), "in its own")),
            ],
        )
        assert (await (await create_chat(engine, llm)).ask("go")).content == "on"


def test_a_client_is_closed_in_an_event_loop() -> None:
    """Without any loop ``close_soon`` says where it belongs."""
    with pytest.raises(ConfigurationError, match="add_signal_handler") as caught:
        create_llm("openai", api_key="k-1").close_soon()
    assert faults_of(caught.value, "event loop") == []


async def test_tools_of_a_turn_do_not_touch_their_own_chat(engine: AsyncEngine) -> None:
    """Every call on the chat that a tool runs in is refused, its deletion too, and the turn goes on."""
    seen: dict[str, BaseException] = {}
    made: list[Chat] = []

    @tool
    async def meddle() -> str:
        """Call everything."""
        (chat,) = made
        calls = {**of_a_chat(chat), "delete": chat.delete}
        for allowed in ("fork", "update"):
            del calls[allowed]
        for name, call in calls.items():
            try:
                await call()  # type: ignore[misc]  # all of them are awaitable
            except Exception as error:  # noqa: BLE001 — what it is is looked at
                seen[name] = error
        return "done"

    async with SPEAKER.server(Says(calls=[FakeCall("meddle")]), Says(text="ok")) as server, SPEAKER.llm(server) as llm:
        made.append(await create_chat(engine, llm, tools=[meddle]))
        assert (await made[0].ask("go")).content == "ok"

    assert seen.keys() == of_a_chat(made[0]).keys() - {"fork", "update"} | {"delete"}
    assert {type(error) for error in seen.values()} == {ChatBusyError}
    assert [fault for error in seen.values() for fault in faults_of(error, "after the turn")] == []


async def test_a_session_of_a_call_that_is_over_is_refused(engine: AsyncEngine) -> None:
    """A context that outlived its call gives no session, and one without a chat says what to do instead."""
    kept: list[ToolContext] = []

    @tool
    async def keep(context: ToolContext) -> str:
        """Keep the context."""
        kept.append(context)
        return "kept"

    async with SPEAKER.server(Says(calls=[FakeCall("keep")]), Says(text="ok")) as server, SPEAKER.llm(server) as llm:
        await (await create_chat(engine, llm, tools=[keep])).ask("go")

    with pytest.raises(SessionStateError) as over:
        kept[0].session  # noqa: B018 — a property that is refused
    assert faults_of(over.value, "over") == []
    alone = ToolContext(chat_id=UNKNOWN, owner=None, call_id="c", idempotency_key="k")
    await refused(engine, [("alone", (lambda: alone.session, "open a session of your own"))])


async def test_older_tables_are_told_apart(engine: AsyncEngine) -> None:
    """Tables of an earlier revision, which know nothing of approvals, are an error that says how to upgrade them."""
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await downgrade(engine, revision="0001")
        await refused_plain(chat.approve("c"), r"migrate\(engine\).*nodellm-orm db upgrade")
        await refused_plain(chat.deny("c", "no"), r"migrate\(engine\).*nodellm-orm db upgrade")
        await refused_plain(interrupted_turns(engine, limit=0), "give 1 or more")  # which needs no table


async def refused_plain(asking: Coroutine[Any, Any, object], says: str) -> None:
    """A call whose error is as it should be, where the rows cannot be read."""
    with pytest.raises(NodeLLMError) as caught:
        await asking
    assert faults_of(caught.value, says) == []
