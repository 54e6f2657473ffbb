"""The turn loop over the in-memory journal: what is asked, what is recorded, how turns end."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from nodellm_orm.chat import Chat
from nodellm_orm.domain.parts import TextPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    BadRequestError,
    ChatBusyError,
    ConfigurationError,
    IdempotencyError,
    LimitExceededError,
    OverloadedError,
    SchemaValidationError,
    StaleChatError,
    StreamInterruptedError,
    ToolError,
    ToolLimitError,
)
from nodellm_orm.fluent import Behaviour
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.hooks import Hooks
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.runtime.tools import ToolHalt, tool
from tests.unit.runtime.scripted import USAGE, ScriptedModel, calls, engine, head, says

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.states import TurnState
    from nodellm_orm.runtime.stream import ReplyStream
    from nodellm_orm.runtime.tools import ToolSource
    from tests.unit.runtime.scripted import Step


class World:
    """A chat in memory, the model behind it, and a way to look at its rows."""

    def __init__(self, *script: Step, tools: tuple[ToolSource, ...] = (), **behaviour: Any) -> None:
        self.model = ScriptedModel(list(script))
        self.engine = engine()
        self.journal = MemoryJournal(self.engine.clock)
        self.head = head()
        self.tools = tools
        self.behaviour = behaviour
        self.conversation = Conversation.of(self.journal.keep(self.head, []))
        self.chat = self.another(self.conversation)

    def another(self, conversation: Conversation, *tools: ToolSource) -> Chat:
        """A chat object of another process."""
        toolbox = Toolbox(tools or self.tools)
        source = _Source(self.model)
        behaviour = Behaviour(toolbox=toolbox, timeout=Timeout(), **self.behaviour)
        return Chat(Host(self.engine, source, f"worker-{id(source)}"), self.journal, conversation, behaviour)

    async def reloaded(self, *tools: ToolSource) -> Chat:
        """The chat as another process would load it."""
        return self.another(Conversation.of(await self.journal.load(self.head.id, None)), *tools)

    async def last(self) -> TurnState:
        """The rows of the last turn."""
        state = (await self.journal.load(self.head.id, None)).last_turn
        assert state is not None
        return state

    async def stored(self) -> tuple[Message, ...]:
        """The messages as stored."""
        return (await self.journal.load(self.head.id, None)).messages


class _Source:
    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def model(self, provider: str | None, model: str | None, api: str | None) -> ScriptedModel:
        """The one model there is."""
        del provider, api
        return replace_model(self._model, model)


def replace_model(model: ScriptedModel, name: str | None) -> ScriptedModel:
    """The same script under the name asked for."""
    model.origin = replace(model.origin, model=name or model.origin.model)
    return model


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def broken() -> None:
    """Fail."""
    msg = "no luck"
    raise ValueError(msg)


async def test_plain_turn_is_question_answer_and_one_priced_attempt() -> None:
    """A plain turn leaves two messages, one answered attempt with usage and cost, and a completed turn."""
    world = World(says("Hello"))

    reply = await world.chat.ask("Hi")

    assert (reply.content, reply.finish_reason, reply.cost, reply.usage) == ("Hello", "stop", Decimal(1), USAGE)
    assert [(m.role, m.content, m.position) for m in await world.stored()] == [
        ("user", "Hi", 0),
        ("assistant", "Hello", 1),
    ]
    turn = await world.last()
    assert (turn.status, turn.reason, [a.status for a in turn.attempts]) == ("completed", "stop", ["ok"])


async def test_tools_run_and_their_results_go_back_in_call_order() -> None:
    """Calls of a round run, a failing one becomes an error result, and the model is asked again with both."""
    world = World(calls(("broken", "{}"), ("add", '{"a": 1, "b": 2}')), says("3"), tools=(add, broken))

    reply = await world.chat.ask("1+2?")

    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "tool", "assistant"]
    results = [part for m in world.model.requests[1].messages for part in m.tool_results]
    assert [(r.name, r.is_error) for r in results] == [("broken", True), ("add", False)]
    assert "no luck" in results[0].content
    assert results[1].content == "3"
    assert [(c.name, c.status, c.result) for c in reply.tool_calls][1] == ("add", "succeeded", "3")
    assert reply.usage == USAGE + USAGE
    assert reply.cost == Decimal(2)


async def test_forced_choice_holds_until_the_tool_has_run() -> None:
    """A forced tool is asked for until it has run in the turn, then the model is free."""
    world = World(calls(("add", '{"a": 1, "b": 2}')), says("3"), tools=(add,))

    await world.chat.ask("1+2?", tool_choice="add")

    assert [r.settings.tool_choice for r in world.model.requests] == ["add", "auto"]


async def test_retry_is_a_row_of_its_own() -> None:
    """A failed attempt is closed in the ledger before the next is made."""
    world = World(OverloadedError("busy", status=529), says("ok"))

    reply = await world.chat.ask("Hi")

    assert reply.content == "ok"
    assert [(a.status, a.attempt) for a in (await world.last()).attempts] == [("failed", 1), ("ok", 2)]


async def test_refused_request_fails_the_turn_and_keeps_the_question() -> None:
    """An error that cannot be retried ends the turn as failed; the next question goes on from the same history."""
    world = World(BadRequestError("no", status=400), says("fine"))

    with pytest.raises(BadRequestError):
        await world.chat.ask("first")
    turn = await world.last()
    assert (turn.status, turn.error_type, [a.status for a in turn.attempts]) == (
        "failed",
        "BadRequestError",
        ["failed"],
    )
    await world.chat.ask("second")

    assert [m.content for m in await world.stored()] == ["first", "second", "fine"]


@pytest.mark.fault("A55")
async def test_tool_limit_suspends_and_resume_goes_on() -> None:
    """A round over the limit is not run; resuming runs it and lets the model finish."""
    call = ("add", '{"a": 1, "b": 2}')
    world = World(calls(call), calls(call), says("done"), tools=(add,))

    reply = await world.chat.ask("go", max_tool_rounds=1)
    assert reply.finish_reason == "tool_limit"
    turn = await world.last()
    assert (turn.status, turn.reason, [c.status for c in turn.calls]) == (
        "suspended",
        "tool_limit",
        ["succeeded", "pending"],
    )
    resumed = await (await world.reloaded()).resume()

    assert (resumed.content, resumed.turn_id) == ("done", reply.turn_id)
    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


@pytest.mark.fault("A55")
async def test_new_question_answers_what_a_suspended_turn_left_open() -> None:
    """Asking on instead of resuming gives every open call a stored result, so that history stays valid."""
    call = ("add", '{"a": 1, "b": 2}')
    world = World(calls(call), says("ok"), tools=(add,))
    await world.chat.ask("go", max_tool_rounds=0)

    await world.chat.ask("never mind")

    messages = await world.stored()
    assert [m.role for m in messages] == ["user", "assistant", "tool", "user", "assistant"]
    assert messages[2].tool_results[0].is_error
    assert world.model.requests[1].messages[2] == messages[2]


@pytest.mark.fault("A55")
async def test_limits_can_raise() -> None:
    """With ``on_limit="raise"`` a reached limit is an error, and the turn is suspended all the same."""
    call = ("add", '{"a": 1, "b": 2}')
    world = World(calls(call), calls(call), tools=(add,))

    with pytest.raises(ToolLimitError):
        await world.chat.ask("go", max_tool_rounds=0, on_limit="raise")
    with pytest.raises(LimitExceededError) as caught:
        await world.chat.ask("go", max_cost="0.5", on_limit="raise")

    assert (await world.last()).reason == "cost_limit"
    assert caught.value.reply is not None


async def test_halt_ends_the_turn_with_its_value() -> None:
    """A tool that halts ends the turn: the model is not asked again."""

    @tool
    def finish() -> None:
        """End."""
        raise ToolHalt({"order": 7})

    world = World(calls(("finish", "{}")), tools=(finish,))

    reply = await world.chat.ask("go")

    assert (reply.finish_reason, reply.value, reply.content) == ("halt", {"order": 7}, '{"order":7}')
    assert (await world.last()).status == "completed"


async def test_fatal_tool_error_fails_the_turn() -> None:
    """``ToolError(fatal=True)`` reaches the caller; the chat can go on."""

    @tool
    def explode() -> None:
        """Explode."""
        msg = "stop everything"
        raise ToolError(msg, fatal=True)

    world = World(calls(("explode", "{}")), says("ok"), tools=(explode,))

    with pytest.raises(ToolError, match="stop everything"):
        await world.chat.ask("go")
    assert (await world.last()).status == "failed"
    await world.chat.ask("again")

    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "user", "assistant"]


@pytest.mark.parametrize("stream", [False, True])
async def test_ids_of_calls_are_unique_in_the_chat(stream: bool) -> None:  # noqa: FBT001 — a parameter of the test
    """Ids that a provider repeats are replaced, so that every result finds its call."""
    call = ("add", '{"a": 1, "b": 2}')
    world = World(calls(call, call), calls(call), says("ok"), tools=(add,))

    if stream:
        async for _ in world.chat.stream("go"):
            pass
    else:
        await world.chat.ask("go")

    ids = [c.call_id for m in await world.stored() for c in m.tool_calls]
    assert len(set(ids)) == len(ids) == 3
    assert ids == [r.call_id for m in await world.stored() for r in m.tool_results]


async def test_stream_equals_ask() -> None:
    """The reply of a stream equals the reply of ``ask``, and its chunks add up to the content."""
    script = (calls(("add", '{"a": 1, "b": 2}'), text="Let me see. "), says("It is 3."))
    asked, streamed = World(*script, tools=(add,)), World(*script, tools=(add,))

    reply = await asked.chat.ask("1+2?")
    async with streamed.chat.stream("1+2?") as stream:
        chunks = [chunk async for chunk in stream]
    other = await stream.reply()

    def told(value: Any) -> Any:
        return replace(value, turn_id=reply.turn_id, message=value.message and replace(value.message))

    assert told(other) == told(reply)
    assert "".join(c.content for c in chunks) == "Let me see. It is 3."
    assert [c.tool_call.name for c in chunks if c.tool_call] == ["add"]
    assert [c.tool_result.content for c in chunks if c.tool_result] == ["3"]
    assert (chunks[-1].finish_reason, chunks[-1].usage) == ("stop", reply.usage)
    assert [m.parts for m in await asked.stored()] == [m.parts for m in await streamed.stored()]


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("how", ["break", "named", "exit", "fail", "cancel", "drop", "aclose"])
async def test_left_stream_is_cancelled_with_its_text(how: str, index: int) -> None:
    """However and whenever a consumer leaves, the text so far is stored and the next question works."""
    world = World(says("Hello"), says("later"))
    chat = world.chat
    # The model falls silent after the letter at the index.
    world.model.pace = asyncio.Semaphore(index + 1)

    await _leave(chat, how, index)
    left = await chat.history()
    await chat.ask("again")

    assert len(left) <= 2
    messages = await world.stored()
    assert [(m.content, m.status) for m in messages] == [
        ("Hi", "complete"),
        ("Hello"[: index + 1], "partial"),
        ("again", "complete"),
        ("later", "complete"),
    ]


async def _read(stream: ReplyStream[Any], until: int, reached: asyncio.Event | None = None) -> None:
    seen = 0
    async for chunk in stream:
        seen += bool(chunk.content)
        if seen > until:
            if reached is None:
                return
            reached.set()


async def _read_and_fail(stream: ReplyStream[Any], until: int) -> None:
    async with stream:
        await _read(stream, until)
        msg = "consumer"
        raise RuntimeError(msg)


async def _leave(chat: Chat, how: str, index: int) -> None:
    """Leave a stream after the letter at the index."""
    stream = chat.stream("Hi")
    match how:
        case "break":
            seen = 0
            async for chunk in chat.stream("Hi"):
                seen += bool(chunk.content)
                if seen > index:
                    break
        case "named":
            await _read(stream, index)
        case "exit":
            async with stream:
                await _read(stream, index)
        case "fail":
            with pytest.raises(RuntimeError, match="consumer"):
                await _read_and_fail(stream, index)
        case "cancel":
            reached = asyncio.Event()
            task = asyncio.create_task(_read(stream, index, reached))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        case "drop":
            await _read(stream, index)
            del stream
            gc.collect()
        case _:
            await _read(stream, index)
            await stream.aclose()


async def test_stream_that_is_never_read_begins_no_turn() -> None:
    """Creating a stream writes nothing."""
    world = World(says("never"))

    world.chat.stream("Hi")

    assert await world.stored() == ()


async def test_stream_left_before_its_first_chunk_leaves_no_assistant_message() -> None:
    """A stream left before anything arrived is a cancelled turn with the question alone."""
    world = World(asyncio.Event(), says("never"))

    async with world.chat.stream("Hi"):
        await world.model.asked.wait()
    await world.chat.cancel()

    turn = await world.last()
    assert (turn.status, [a.status for a in turn.attempts]) == ("cancelled", ["cancelled"])
    assert [m.role for m in await world.stored()] == ["user"]


async def test_abandoned_stream_can_finish_unheard() -> None:
    """With ``on_abandon="finish"`` the answer completes although nobody reads it."""
    world = World(says("Hello"), says("later"))

    async for _ in world.chat.stream("Hi", on_abandon="finish"):
        break
    await world.chat.ask("again", wait=5)

    assert [m.content for m in await world.stored()] == ["Hi", "Hello", "again", "later"]


async def test_cancelled_ask_leaves_a_cancelled_turn() -> None:
    """Cancelling the task that asks ends the turn; the next question works."""
    world = World(asyncio.Event(), says("never"), says("fine"))
    task = asyncio.create_task(world.chat.ask("Hi"))
    await world.model.asked.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.model.script.pop(0)
    reply = await world.chat.ask("again")

    assert reply.content == "fine"
    assert [m.content for m in await world.stored()] == ["Hi", "again", "fine"]


async def test_cancel_gives_the_asker_a_cancelled_reply() -> None:
    """``chat.cancel()`` ends the turn of another task, which gets a reply that says so."""
    world = World(asyncio.Event(), says("never"))
    task = asyncio.create_task(world.chat.ask("Hi"))
    await world.model.asked.wait()

    assert await world.chat.cancel()
    reply = await task

    assert reply.finish_reason == "cancelled"
    assert (await world.last()).status == "cancelled"


async def test_second_question_while_one_is_answered_is_refused_before_anything_is_sent() -> None:
    """The same chat object, and another one, are refused while a turn runs."""
    gate = asyncio.Event()
    world = World(gate, says("first"))
    task = asyncio.create_task(world.chat.ask("Hi"))
    await world.model.asked.wait()

    with pytest.raises(ChatBusyError) as mine:
        await world.chat.ask("me too")
    with pytest.raises(ChatBusyError) as other:
        await (await world.reloaded()).ask("me too")
    gate.set()
    await task

    assert len(world.model.requests) == 1
    assert mine.value.turn_id == other.value.turn_id
    assert other.value.lease_until is not None


@pytest.mark.fault("A54")
async def test_tool_that_asks_its_own_chat_is_refused_at_once() -> None:
    """A tool cannot ask the chat whose turn it is part of: busy, not a deadlock."""
    asked: list[type[BaseException]] = []

    @tool
    async def reentrant() -> str:
        """Ask again."""
        try:
            await world.chat.ask("inner")
        except ChatBusyError as error:
            asked.append(type(error))
        return "done"

    world = World(calls(("reentrant", "{}")), says("ok"), tools=(reentrant,))

    await world.chat.ask("outer")

    assert asked == [ChatBusyError]


async def test_waiting_for_a_busy_chat() -> None:
    """With ``wait=`` a question waits for the running turn, and sees its answer."""
    gate = asyncio.Event()
    world = World(gate, says("first"), says("second"))
    task = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    other = asyncio.create_task((await world.reloaded()).ask("two", wait=30))
    await asyncio.sleep(0)

    gate.set()
    await task
    await other

    assert [m.content for m in world.model.requests[1].messages] == ["one", "first", "two"]


async def test_object_that_lies_behind_sends_the_new_history() -> None:
    """When another process spoke meanwhile, the next turn sends what was said there, under the settings of then."""
    world = World(says("a"), says("b"), says("c"))
    mine, other = world.chat, await world.reloaded()
    await mine.ask("one")

    await other.ask("two")
    await other.with_instructions("Be brief.").update()
    await mine.ask("three")

    last = world.model.requests[-1]
    assert [m.content for m in last.messages] == ["one", "a", "two", "b", "three"]
    assert last.instructions == ("Be brief.",)


async def test_changes_are_saved_with_the_next_turn_field_by_field() -> None:
    """Changes made here are applied to what is stored by then: other fields stay as another process left them."""
    world = World(says("a"))
    mine, other = world.chat, await world.reloaded()
    mine.with_temperature(0.5)
    await other.update(title="Title", instructions="Be kind.")

    await mine.ask("one")

    stored = (await world.journal.load(world.head.id, None)).head
    assert (stored.title, stored.instructions, stored.settings.temperature) == ("Title", ("Be kind.",), 0.5)


async def test_lost_lease_aborts_the_call_and_writes_nothing() -> None:
    """A worker whose chat was taken away stops, and gets its text in the error."""
    world = World(asyncio.Event(), says("never"), lease=0.2)
    task = asyncio.create_task(world.chat.ask("Hi"))
    await world.model.asked.wait()
    other = await world.reloaded()

    assert await other.cancel()
    with pytest.raises(StaleChatError):
        await task

    assert [m.content for m in await world.stored()] == ["Hi"]


@pytest.mark.fault("C57")
@pytest.mark.fault("C58")
async def test_same_idempotency_key_gives_the_stored_reply() -> None:
    """Asking again under a key gives the stored reply without a call; another question is refused (C57, C58)."""
    world = World(says("once"))

    first = await world.chat.ask("Hi", idempotency_key="k")
    again = await (await world.reloaded()).ask("Hi", idempotency_key="k")
    with pytest.raises(IdempotencyError):
        await world.chat.ask("Other", idempotency_key="k")

    assert (again.content, again.turn_id, again.cost, again.usage) == (
        "once",
        first.turn_id,
        first.cost,
        first.usage,
    )
    assert len(world.model.requests) == 1


async def test_same_idempotency_key_resumes_a_failed_turn() -> None:
    """A failed turn is carried on under its key: the question is not stored twice."""
    world = World(BadRequestError("no", status=400), says("yes"))
    with pytest.raises(BadRequestError):
        await world.chat.ask("Hi", idempotency_key="k")

    reply = await world.chat.ask("Hi", idempotency_key="k")

    assert reply.content == "yes"
    assert [m.content for m in await world.stored()] == ["Hi", "yes"]


async def test_resume_of_a_completed_turn_is_its_reply() -> None:
    """There is nothing to resume: the last reply is given, and no request is made."""
    world = World(says("done"))
    await world.chat.ask("Hi")

    assert (await (await world.reloaded()).resume()).content == "done"
    assert len(world.model.requests) == 1


async def test_structured_answer_is_validated_and_kept_either_way() -> None:
    """An answer that fits is parsed; one that does not is an error that carries the text, and is stored."""
    world = World(says('{"value": 3}'), says("three"))

    assert (await world.chat.ask("?", schema=int)).parsed == 3
    with pytest.raises(SchemaValidationError) as caught:
        await world.chat.ask("?", schema=int)

    assert caught.value.text == "three"
    assert (await world.last()).status == "completed"


async def test_hooks_are_awaited_in_order_and_may_replace() -> None:
    """Hooks see frozen values at their points, in registration order; replacements are what is sent and stored."""
    told: list[str] = []

    async def begins(message: Message) -> None:
        told.append(f"new {message.content}")

    world = World(calls(("add", '{"a": 1, "b": 2}')), says("secret"), tools=(add,))
    chat = (
        world.chat.on_new_message(begins)
        .on_end_message(lambda message: told.append(f"end {message.role}"))
        .on_tool_call_start(lambda call: told.append(f"start {call.name}"))
        .on_tool_call_end(lambda call, result: told.append(f"{call.name} gave {result.content}"))
        .before_request(lambda request: replace(request, params={"seed": 1}))
        .after_response(
            lambda answer: replace(
                answer,
                parts=tuple(replace(p, text="public") if isinstance(p, TextPart) else p for p in answer.parts),
            )
        )
    )

    reply = await chat.ask("1+2?")

    assert told == ["new 1+2?", "end assistant", "start add", "add gave 3", "end assistant"]
    assert [dict(r.params) for r in world.model.requests] == [{"seed": 1}, {"seed": 1}]
    assert reply.content == "public"
    assert (await world.stored())[-1].content == "public"


async def test_failing_hook_fails_the_turn_and_frees_the_chat() -> None:
    """An exception in a hook reaches the caller; the turn is failed and the chat can go on."""
    world = World(says("a"), says("b"))

    def bad(_: object) -> None:
        msg = "hook"
        raise RuntimeError(msg)

    other = await world.reloaded()
    with pytest.raises(RuntimeError, match="hook"):
        await world.chat.on_new_message(bad).ask("one")
    await other.ask("two")

    assert [m.content for m in await world.stored()] == ["one", "two", "a"]


async def test_cancelled_stream_ends_for_its_reader_with_its_text() -> None:
    """The reader of a stream that is cancelled elsewhere gets its end, and a reply with the text so far."""
    world = World(says("Hello"))
    world.model.pace = asyncio.Semaphore(3)

    stream = world.chat.stream("Hi")
    async for chunk in stream:
        if chunk.content == "e":
            await world.chat.cancel()
    reply = await stream.reply()

    assert (reply.finish_reason, reply.content) == ("cancelled", "Hel")
    message = (await world.stored())[-1]
    assert (message.role, message.status, message.content) == ("assistant", "partial", "Hel")


async def test_unknown_options_are_refused_with_a_remedy() -> None:
    """Options that cannot be meant are refused before anything is written."""
    world = World()
    for wrong in (
        {"temperature": 9},
        {"max_tokens": 0},
        {"thinking": "loud"},
        {"tool_choice": "nobody"},
        {"max_cost": "much"},
    ):
        with pytest.raises(ConfigurationError):
            await world.chat.ask("Hi", **cast("Any", wrong))
    with pytest.raises(ConfigurationError):
        await world.chat.ask("")

    assert await world.stored() == ()


async def test_unpriced_answer_makes_the_cost_unknown_not_zero() -> None:
    """A reply without a known price has no cost."""
    world = World(says("free?", usage=Usage()))

    reply = await world.chat.ask("Hi")

    assert reply.cost is None


async def test_interrupted_stream_is_not_repeated_once_text_was_given() -> None:
    """Nothing is retried once the consumer has been given text."""
    world = World(StreamInterruptedError("cut"), says("whole"))

    async with world.chat.stream("Hi") as stream:
        chunks = [chunk.content async for chunk in stream]

    assert "".join(chunks) == "whole"
    assert [a.status for a in (await world.last()).attempts] == ["failed", "ok"]


async def test_turn_durability_writes_the_same_rows() -> None:
    """With durability ``turn`` the rows are the same in the end."""
    script = (calls(("add", '{"a": 1, "b": 2}')), says("3"))
    step, whole = World(*script, tools=(add,)), World(*script, tools=(add,), durability="turn")

    await step.chat.ask("1+2?")
    await whole.chat.ask("1+2?")

    assert [m.parts for m in await step.stored()] == [m.parts for m in await whole.stored()]
    assert (await whole.last()).status == "completed"
    assert [c.status for c in (await whole.last()).calls] == ["succeeded"]


@pytest.mark.fault("C53")
def test_end_of_the_loop_ends_the_turn() -> None:
    """A stream that is still open when ``asyncio.run`` ends leaves a cancelled turn with its text."""
    kept: list[Any] = []

    async def main() -> World:
        world = World(says("Hello"))
        world.model.pace = asyncio.Semaphore(1)
        stream = world.chat.stream("Hi")
        kept.append(stream)
        async for chunk in stream:
            if chunk.content:
                break
        return world

    world = asyncio.run(main())

    async def look() -> TurnState:
        return await world.last()

    turn = asyncio.run(look())
    assert turn.status == "cancelled"


def test_hooks_dataclass_lists_every_point() -> None:
    """Every hook that a chat offers has its place among the hooks."""
    assert all(callable(getattr(Chat, name)) for name in Hooks.__dataclass_fields__)


async def test_checkpoint_stores_the_growing_text() -> None:
    """With a checkpoint the text so far is a partial message before the answer ends, and the same message after."""
    world = World(says("Hello"))
    world.model.pace = asyncio.Semaphore(3)

    stream = world.chat.stream("Hi", checkpoint=0)
    async for chunk in stream:
        if chunk.content == "e":
            break
    growing = (await world.stored())[-1]
    await world.chat.cancel()

    assert (growing.status, growing.position) == ("partial", 1)
    assert "Hello".startswith(growing.content)
    messages = await world.stored()
    assert [(m.role, m.position) for m in messages] == [("user", 0), ("assistant", 1)]
    assert messages[1].content in {"He", "Hel"}


async def test_checkpointed_answer_ends_as_one_message() -> None:
    """An answer that was stored while it grew is one complete message in the end, calls included."""
    script = (calls(("add", '{"a": 1, "b": 2}'), text="Let me see."), says("It is 3."))
    world = World(*script, tools=(add,))

    async with world.chat.stream("1+2?", checkpoint=0) as stream:
        async for _ in stream:
            pass

    assert [(m.role, m.content, m.status, m.position) for m in await world.stored()] == [
        ("user", "1+2?", "complete", 0),
        ("assistant", "Let me see.", "complete", 1),
        ("tool", "3", "complete", 2),
        ("assistant", "It is 3.", "complete", 3),
    ]
    assert world.chat.messages == await world.stored()


async def test_resumed_turn_supersedes_its_broken_off_answer() -> None:
    """Resuming after a stream broke off asks again without the broken-off text, which stays in the rows only."""
    world = World(says("Hello"), says("Good day"))
    world.model.pace = asyncio.Semaphore(3)
    stream = world.chat.stream("Hi")
    async for chunk in stream:
        if chunk.content == "l":
            await world.chat.cancel()
    world.model.pace = None

    reply = await (await world.reloaded()).resume()

    assert reply.content == "Good day"
    assert [m.content for m in world.model.requests[-1].messages] == ["Hi"]
    assert [(m.content, m.position) for m in await world.stored()] == [("Hi", 0), ("Good day", 2)]
