"""A foreign client as a model: what it is asked, and what becomes of whatever it gives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.events import PartReceived
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import Completion, FinishReason, Message, Origin, user
from nodellm_orm.domain.parts import MediaPart, RefusalPart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    ConfigurationError,
    ProtocolError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMToolCall, LLMUsage
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.foreign import ForeignModel
from nodellm_orm.runtime.model import Trace
from tests.unit.runtime.scripted import ManualClock

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event

ORIGIN = Origin(provider="Gateway", api="llm_client", endpoint="Gateway", model="m-1")
A = ToolSpec(name="a", description="Does a.", parameters='{"type":"object"}')
B = ToolSpec(name="b", description="Does b.", parameters='{"type":"object"}')
CALLED = Message(
    role="assistant",
    parts=(TextPart(text="One moment."), ToolCallPart(call_id="c1", name="a", arguments='{"n": 1.50}')),
)
ANSWERED = Message(role="tool", parts=(ToolResultPart(call_id="c1", name="a", content="done"),))
FAILED = Message(role="tool", parts=(ToolResultPart(call_id="c2", name="a", content="no", is_error=True),))


@dataclass
class Gateway:
    """Gives what it was made with, or raises it."""

    gives: Any = field(default_factory=lambda: LLMCompleteResult(text="Hi"))
    asked: list[dict[str, Any]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, **question: Any) -> Any:
        """The answer."""
        self.asked.append(question)
        self.called.set()
        if isinstance(self.gives, BaseException):
            raise self.gives
        if isinstance(self.gives, asyncio.Event):
            await self.gives.wait()
        return self.gives


@dataclass
class Sent:
    """All that came of one attempt."""

    completion: Completion
    trace: Trace
    seen: list[Event]


def request(*messages: Message, **changes: Any) -> ModelRequest:
    """A request with messages, by default a single question."""
    model = ForeignModel(Gateway(), "m-1", ManualClock())
    plain = ModelRequest(
        target=model.origin, messages=messages or (user("Hello"),), settings=Settings(), profile=model.profile
    )
    return replace(plain, **changes)


async def send(client: Any, asked: ModelRequest | None = None, timeout: Timeout | None = None) -> Sent:
    """One attempt."""
    seen: list[Event] = []
    trace = Trace(0.0)

    async def hear(event: Event) -> None:
        seen.append(event)

    model = ForeignModel(client, "m-1", ManualClock())
    completion = await model.send(
        asked or request(), cache=None, timeout=timeout or Timeout(), headers={}, trace=trace, on_event=hear
    )
    return Sent(completion, trace, seen)


async def told(*messages: Message, **changes: Any) -> dict[str, Any]:
    """What the client is asked."""
    client = Gateway()
    await send(client, request(*messages, **changes))
    return client.asked[0]


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_question_is_told_in_the_words_of_the_interface() -> None:
    """Model, messages, instructions and limit arrive as keyword arguments; what there is none of is ``None``."""
    assert await told() == {
        "model": "m-1",
        "messages": [LLMMessage(role="user", content="Hello")],
        "system": None,
        "tools": None,
        "max_tokens": None,
    }
    asked = await told(instructions=("A.", " ", "B."), settings=Settings(max_tokens=9, schema='{"type":"object"}'))
    assert asked["max_tokens"] == 9
    assert asked["system"].startswith("A.\n\nB.\n\nAnswer with one JSON object")
    assert asked["system"].endswith('{"type":"object"}')


async def test_calls_and_results_are_lines_of_assistant_and_user() -> None:
    """The assistant's line names tool and arguments as received, the user's line after it carries the result."""
    asked = await told(user("Do it."), CALLED, ANSWERED, FAILED, user("And?"))
    assert asked["messages"] == [
        LLMMessage(role="user", content="Do it."),
        LLMMessage(role="assistant", content='One moment.\nCalling the tool a with {"n": 1.50}.'),
        LLMMessage(role="user", content="The tool a returned: done\nThe tool a failed: no\n\nAnd?"),
    ]


async def test_pieces_of_an_answer_are_one_text_and_those_of_a_question_are_not() -> None:
    """A cited answer comes in many blocks; a question of several texts keeps them apart."""
    pieces = (TextPart(text="The sky"), ThinkingPart(text="hm"), TextPart(text=" is"), TextPart(text=" blue."))
    asked = await told(
        Message(role="user", parts=(TextPart(text="One."), TextPart(text="Two."))),
        Message(role="assistant", parts=pieces),
        user("Why?"),
    )
    assert [message.content for message in asked["messages"]] == ["One.\n\nTwo.", "The sky is blue.", "Why?"]


async def test_a_broken_off_answer_is_its_text_and_a_refusal_its_words() -> None:
    """A call that was cut off was never made; a message without any words is left out."""
    broken = replace(CALLED, status="partial")
    refused = Message(role="assistant", parts=(RefusalPart(text="I will not."),))
    silent = Message(role="assistant", parts=(ThinkingPart(text="hm"),))
    asked = await told(user("1"), broken, user("2"), refused, user("3"), silent, user("4"))
    assert [message.content for message in asked["messages"]] == ["1", "One moment.", "2", "I will not.", "3\n\n4"]


async def test_instructions_in_the_middle_join_the_others() -> None:
    """A system message of the history has no role of its own in the interface."""
    middle = Message(role="system", parts=(TextPart(text="Be kind."),))
    asked = await told(user("1"), middle, user("2"), instructions=("Be brief.",))
    assert asked["system"] == "Be brief.\n\nBe kind."
    assert asked["messages"] == [LLMMessage(role="user", content="1\n\n2")]


_TEXT = st.text(alphabet="ab \n", max_size=4)
_MESSAGES = st.lists(
    st.one_of(
        st.builds(user, _TEXT),
        st.builds(lambda text: Message(role="assistant", parts=(TextPart(text=text),)), _TEXT),
        st.builds(lambda text: Message(role="system", parts=(TextPart(text=text),)), _TEXT),
        st.sampled_from([CALLED, ANSWERED, FAILED, replace(CALLED, status="partial")]),
    ),
    max_size=8,
)


@given(_MESSAGES)
def test_any_history_alternates(messages: list[Message]) -> None:
    """Whatever happened in a chat, user and assistant are told by turns, and nobody says nothing."""
    sent = loads(ForeignModel(Gateway(), "m-1", ManualClock()).render(request(user("x"), *messages)).body)
    assert isinstance(sent, dict)
    turns: Any = sent["messages"]
    roles = [turn["role"] for turn in turns]
    assert set(roles) <= {"user", "assistant"}
    assert all(one != other for one, other in pairwise(roles))
    assert all(turn["content"].strip() for turn in turns)


@pytest.mark.parametrize(
    ("choice", "tools", "history", "offered"),
    [
        (None, (A,), (), ["a"]),
        (None, (A,), (CALLED, ANSWERED), None),
        (None, (A,), (CALLED, ANSWERED, user("again")), ["a"]),
        (None, (A, B), (CALLED, ANSWERED), ["a", "b"]),
        ("auto", (A, B), (), ["a", "b"]),
        ("required", (A,), (), ["a"]),
        ("required", (A, B), (), ["a", "b"]),
        ("b", (A, B), (), ["b"]),
        ("none", (A, B), (), None),
        (None, (), (), None),
    ],
)
async def test_a_tool_offered_alone_is_forced_until_it_has_answered(
    choice: str | None, tools: tuple[ToolSpec, ...], history: tuple[Message, ...], offered: list[str] | None
) -> None:
    """A forced tool is offered alone; a single one not again before the user speaks; of several all stay."""
    asked = await told(user("x"), *history, tools=tools, settings=Settings(tool_choice=choice))
    names = [tool.name for tool in asked["tools"]] if asked["tools"] is not None else None
    assert names == offered


def test_what_the_interface_cannot_say_is_named() -> None:
    """Settings without a place in it are left out by name; a choice among tools that are not there is refused."""
    model = ForeignModel(Gateway(), "m-1", ManualClock())
    settings = Settings(
        temperature=0.5,
        thinking=ThinkingConfig(effort="low"),
        parallel_tool_calls=False,
        tool_choice="required",
        cache=True,
    )
    dropped = model.check(request(tools=(A, B), settings=settings, params={"seed": 1}), None)
    assert dropped == ("cache", "parallel_tool_calls", "params", "temperature", "thinking", "tool_choice")
    assert model.check(request(settings=Settings(max_tokens=3)), None) == ()
    with pytest.raises(ConfigurationError, match="tool_choice='c'"):
        model.check(request(tools=(A,), settings=Settings(tool_choice="c")), None)


@pytest.mark.parametrize(
    "part",
    [
        MediaPart(media="image", media_type="image/png", data=b"x"),
        MediaPart(media="text", media_type="text/plain", url="https://example.com/a.txt"),
    ],
    ids=["image", "linked text"],
)
async def test_a_file_it_cannot_be_given_is_refused_when_new_and_named_when_old(part: MediaPart) -> None:
    """In the newest question it is an error before anything is sent; of an earlier one it is told that it was there."""
    model = ForeignModel(Gateway(), "m-1", ManualClock())
    question = Message(role="user", parts=(part, TextPart(text="What is it?")))
    with pytest.raises(UnsupportedFeatureError, match="texts only"):
        model.check(request(question), None)
    asked = await told(question, CALLED, user("?"))
    assert "not shown" in asked["messages"][0].content


async def test_a_text_file_is_its_words() -> None:
    """A text goes along under its name, apart from the question."""
    notes = MediaPart(media="text", media_type="text/plain", name="n.txt", data=b"the words")
    asked = await told(Message(role="user", parts=(notes, TextPart(text="Read it."))))
    assert asked["messages"][0].content == '<file name="n.txt">\nthe words\n</file>\n\nRead it.'


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_becomes_parts() -> None:
    """Text, calls, usage and the word for the end are those of the result; nothing is told where nobody listens."""
    call = LLMToolCall(name="a", input={"n": 1, "s": "é"})
    result = LLMCompleteResult(
        text="One moment.",
        tool_calls=(call,),
        usage=LLMUsage(input_tokens=3, output_tokens=2),
        stop_reason="end_turn",
    )
    sent = await send(Gateway(result))
    assert [part for part in sent.completion.parts if isinstance(part, TextPart)] == [TextPart(text="One moment.")]
    assert [(called.name, called.arguments) for called in sent.completion.tool_calls] == [("a", '{"n":1,"s":"é"}')]
    assert sent.completion.usage == Usage(input_tokens=3, output_tokens=2)
    assert (sent.completion.finish_reason, sent.completion.raw_finish_reason) == (FinishReason.TOOL_CALL, "end_turn")
    assert sent.trace.first_token == 1000.0
    assert sent.seen == []


async def test_a_stream_hears_the_answer_in_one_piece() -> None:
    """One event carries the whole text, and the answer is that of the unstreamed request."""
    client = Gateway(LLMCompleteResult(text="All of it."))
    sent = await send(client, request(stream=True))
    assert [event.part for event in sent.seen if isinstance(event, PartReceived)] == [TextPart(text="All of it.")]
    assert sent.completion == (await send(client)).completion


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (None, FinishReason.STOP),
        ("stop", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("end_turn", FinishReason.STOP),
        ("completed", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("max_output_tokens", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("error", FinishReason.ERROR),
        ("pause_turn", FinishReason.UNKNOWN),
        ("because", FinishReason.UNKNOWN),
    ],
)
async def test_known_words_for_the_end_are_understood(word: str | None, reason: FinishReason) -> None:
    """The words of the providers have their meaning, in any case; the word itself is kept."""
    sent = await send(Gateway(LLMCompleteResult(text="x", stop_reason=word)))
    assert (sent.completion.finish_reason, sent.completion.raw_finish_reason) == (reason, word)


async def test_usage_that_was_not_reported_is_unknown() -> None:
    """No usage is no counts, not zeros; an object with the attributes of a result is one."""
    assert (await send(Gateway())).completion.usage == Usage()
    lookalike = SimpleNamespace(text="x", usage=SimpleNamespace(input_tokens=4, output_tokens=None))
    assert (await send(Gateway(lookalike))).completion.usage == Usage(input_tokens=4)


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        42,
        {"text": "x"},
        SimpleNamespace(text=b"x"),
        SimpleNamespace(text="x", tool_calls={"name": "a"}),
        SimpleNamespace(text="x", tool_calls=[{"name": "a", "input": {}}]),
        SimpleNamespace(text="x", tool_calls=[SimpleNamespace(name="", input={})]),
        SimpleNamespace(text="x", tool_calls=[SimpleNamespace(name="a", input='{"n": 1}')]),
        SimpleNamespace(text="x", tool_calls=[SimpleNamespace(name="a", input={1: "n"})]),
        SimpleNamespace(text="x", tool_calls=[SimpleNamespace(name="a", input={"n": {1, 2}})]),
        SimpleNamespace(text="x", usage={"input_tokens": 1, "output_tokens": 2}),
        SimpleNamespace(text="x", usage=LLMUsage(input_tokens=True, output_tokens=2)),
        SimpleNamespace(text="x", usage=LLMUsage(input_tokens=10**30, output_tokens=2)),
        SimpleNamespace(text="x", stop_reason=["stop"]),
    ],
    ids=repr,
)
async def test_nonsense_is_a_typed_error(nonsense: object) -> None:
    """It names the client, the model and what has to be returned, and is not worth another try."""
    with pytest.raises(ProtocolError, match=r"Gateway\.complete\(\) gave .*LLMCompleteResult") as caught:
        await send(Gateway(nonsense))
    assert (caught.value.provider, caught.value.model, caught.value.retryable) == ("Gateway", "m-1", False)


async def test_a_method_that_is_not_async_is_named() -> None:
    """An answer given at once says how to write the method."""
    client = SimpleNamespace(provider="Hasty", complete=lambda **_: LLMCompleteResult(text="x"))
    with pytest.raises(ProtocolError, match="async def"):
        await send(client)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [LookupError("theirs"), TimeoutError("theirs")], ids=repr)
async def test_foreign_errors_pass_as_they_are(error: Exception) -> None:
    """An error of somebody else's is raised unchanged, their own time limit among them."""
    with pytest.raises(type(error), match="theirs") as caught:
        await send(Gateway(error))
    assert caught.value is error


async def test_errors_of_ours_are_told_whose_they_are() -> None:
    """A provider's error keeps what it says, and is given what it does not say."""
    bare, named = RateLimitError("slow down", status=429), RateLimitError("slow down", provider="p", model="n")
    for error, expected in ((bare, ("Gateway", "m-1")), (named, ("p", "n"))):
        with pytest.raises(RateLimitError) as caught:
            await send(Gateway(error))
        assert (caught.value.provider, caught.value.model) == expected


async def test_silence_ends_at_the_time_limit() -> None:
    """A client that never answers is a timeout of ours."""
    with pytest.raises(ProviderTimeoutError, match="did not answer within"):
        await send(Gateway(asyncio.Event()), timeout=Timeout(total=0.001))


async def test_a_cancellation_inside_the_client_is_no_cancellation_of_its_caller() -> None:
    """What was cancelled within is an error; a task that is itself cancelled ends as cancelled."""
    with pytest.raises(ProviderError, match="inside Gateway"):
        await send(Gateway(asyncio.CancelledError()))
    client = Gateway(asyncio.Event())
    task = asyncio.create_task(send(client))
    await client.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
