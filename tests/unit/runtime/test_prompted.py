"""Tools for models that have none: what goes out, and what comes of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.events import Finished, ResponseStarted, TextDelta, ThinkingDelta, UsageReported
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import Completion, FinishReason, Message, Origin, user
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError, StreamInterruptedError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.model import Trace
from nodellm_orm.runtime.prompted import PromptedModel, as_text, rewritten, with_tools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.ports.wire import RenderCache
    from nodellm_orm.runtime.model import OnEvent

ORIGIN = Origin(provider="local", api="openai_chat", endpoint="local", model="m")
PROFILE = ModelProfile(tools="prompted")
WEATHER = ToolSpec(
    name="get_weather",
    description="Current weather.",
    parameters='{"type":"object","properties":{"city":{"type":"string"},"limit":{"const":1.50}},"required":["city"]}',
)
SEARCH = ToolSpec(
    name="search",
    description="Search.",
    parameters=(
        '{"type":"object","properties":{"in":{"$ref":"#/$defs/Place"},"next":{"$ref":"#"}},'
        '"$defs":{"Place":{"enum":["web","files"]}}}'
    ),
)
USAGE = Usage(input_tokens=20, output_tokens=9)
QUESTION = user("Weather in Paris?")
CALL = ToolCallPart(call_id="c1", name="get_weather", arguments='{"city": "Paris"}')
CALLED = Message(role="assistant", parts=(TextPart(text="One moment."), CALL), origin=ORIGIN)
ANSWERED = Message(role="tool", parts=(ToolResultPart(call_id="c1", name="get_weather", content="18 C"),))


@dataclass
class Inner:
    """A model that gives its events, one after the other, and then perhaps fails."""

    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    origin: Origin = ORIGIN
    profile: ModelProfile = PROFILE
    requests: list[ModelRequest] = field(default_factory=list)
    caches: list[RenderCache | None] = field(default_factory=list)

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """One setting is always left out."""
        self.requests.append(request)
        self.caches.append(cache)
        return ("thinking",)

    def render(self, request: ModelRequest) -> WireRequest:
        """The number of tools and the schema are all there is to see."""
        return WireRequest(path=f"/{len(request.tools)}", body=(request.settings.schema or "").encode())

    async def send(
        self,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: OnEvent,
    ) -> Completion:
        """The events, told only where a stream was asked for."""
        del timeout, headers
        self.requests.append(request)
        self.caches.append(cache)
        trace.http_status, trace.request_id, trace.first_token = 200, "req-1", 2.0
        folded = Trace(0.0).folded
        for event in self.events:
            folded.add(event)
            if request.stream:
                trace.eventful = True
                trace.folded.add(event)
                await on_event(event)
        if self.error is not None:
            raise self.error
        return folded.completion()


def streamed(text: str, reason: FinishReason = FinishReason.STOP, *more: Event) -> list[Event]:
    """The events of an answer of text, a letter at a time."""
    return [
        ResponseStarted(model="m-1", response_id="r-1"),
        *more,
        *(TextDelta(index=0, text=letter) for letter in text),
        UsageReported(usage=USAGE),
        Finished(reason=reason, raw="raw"),
    ]


def asking(
    choice: str | None, *tools: ToolSpec, stream: bool = False, messages: tuple[Message, ...] = (QUESTION,)
) -> ModelRequest:
    """A request with a tool choice."""
    settings = Settings(tool_choice=choice, parallel_tool_calls=False, temperature=0.7)
    return ModelRequest(
        target=ORIGIN,
        messages=messages,
        instructions=("Be brief.",),
        tools=tools,
        settings=settings,
        profile=PROFILE,
        stream=stream,
    )


@dataclass
class Outcome:
    """All that came of one attempt."""

    completion: Completion | None
    trace: Trace
    seen: list[Event]


async def sent(inner: Inner, request: ModelRequest) -> Outcome:
    """Send a request to a model with prompted tools; errors are left to the caller to look for."""
    outcome = Outcome(None, Trace(1.0), [])

    async def see(event: Event) -> None:
        outcome.seen.append(event)

    try:
        outcome.completion = await PromptedModel(inner).send(
            request, cache={}, timeout=Timeout(), headers={}, trace=outcome.trace, on_event=see
        )
    except StreamInterruptedError:
        assert inner.error is not None
    return outcome


# ── what goes out ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("choice", ["get_weather", "required"])
def test_one_tool_is_asked_for_through_its_schema(choice: str) -> None:
    """A forced tool becomes the schema of the answer, byte for byte, and nothing is added to the instructions."""
    tools = (WEATHER,) if choice == "required" else (SEARCH, WEATHER)
    request = rewritten(asking(choice, *tools))
    assert request.tools == ()
    assert request.settings == Settings(schema=WEATHER.parameters, schema_name="get_weather", temperature=0)
    assert request.instructions == ("Be brief.",)
    assert request.messages == (QUESTION,)


def test_a_choice_of_tools_is_one_schema() -> None:
    """Several tools become variants of one answer, with their references pointing at their new place."""
    request = rewritten(asking("required", WEATHER, SEARCH))
    schema = request.settings.schema
    assert schema is not None
    assert '"limit":{"const":1.50}' in schema
    expected: object = {
        "anyOf": [
            {
                "type": "object",
                "properties": {"tool": {"const": name}, "arguments": {"$ref": f"#/$defs/{name}"}},
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
            for name in ("get_weather", "search")
        ],
        "$defs": {
            "get_weather": loads(WEATHER.parameters),
            "search": loads(
                '{"type":"object","properties":{"in":{"$ref":"#/$defs/search/$defs/Place"},'
                '"next":{"$ref":"#/$defs/search"}},"$defs":{"Place":{"enum":["web","files"]}}}'
            ),
        },
    }
    assert loads(schema) == expected


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_free_choice_goes_out_plain(choice: str | None) -> None:
    """Left to itself the model is asked for text, in the form and at the temperature that the caller wants."""
    asked = asking(choice, WEATHER)
    asked = replace(asked, settings=replace(asked.settings, schema='{"type":"object"}', schema_name="own"))
    request = rewritten(asked)
    assert request.tools == ()
    assert request.settings == Settings(schema='{"type":"object"}', schema_name="own", temperature=0.7)


def test_a_model_that_refuses_sampling_is_not_sent_a_temperature_of_ours() -> None:
    """The temperature of a forced call is for models that take one."""
    asked = asking("get_weather", WEATHER)
    asked = replace(asked, profile=replace(PROFILE, sampling=False), settings=Settings(tool_choice="get_weather"))
    assert rewritten(asked).settings.temperature is None


def test_a_tool_that_is_not_there_cannot_be_forced() -> None:
    """Forcing an unknown tool is refused before anything is written."""
    with pytest.raises(ConfigurationError, match=r"'paint' is not one of the tools given \(get_weather\)"):
        PromptedModel(Inner()).check(asking("paint", WEATHER), None)


def test_the_names_of_what_is_left_out() -> None:
    """Tools that the model will not be told of are named with the rest, unless the caller wants none called."""
    model = PromptedModel(Inner())
    assert model.check(asking("auto", WEATHER), None) == ("thinking", "tools")
    assert model.check(asking("none", WEATHER), None) == ("thinking",)
    assert model.check(asking("get_weather", WEATHER), None) == ("thinking",)
    assert model.check(asking(None), None) == ("thinking",)


def test_the_request_that_is_shown_is_the_one_that_is_sent() -> None:
    """Rendering shows the rewritten request."""
    shown = PromptedModel(Inner()).render(asking("get_weather", WEATHER))
    assert (shown.path, shown.body.decode()) == ("/0", WEATHER.parameters)


def test_calls_and_results_are_told_as_text() -> None:
    """The assistant's line names tool and arguments, the user's line carries the result; the rest stays."""
    thinking = ThinkingPart(text="hm")
    second = ToolCallPart(call_id="c2", name="search", arguments="{}")
    called = Message(role="assistant", parts=(thinking, TextPart(text="One moment. "), CALL, second), origin=ORIGIN)
    failed = Message(
        role="tool", parts=(ToolResultPart(call_id="c2", name="search", content="offline", is_error=True),)
    )
    told = as_text((QUESTION, called, ANSWERED, failed, user("And?")))
    assert told == (
        QUESTION,
        Message(
            role="assistant",
            origin=ORIGIN,
            parts=(
                thinking,
                TextPart(
                    text='One moment.\nCalling the tool get_weather with {"city": "Paris"}.\n'
                    "Calling the tool search with {}."
                ),
            ),
        ),
        user("The tool get_weather returned: 18 C\nThe tool search failed: offline"),
        user("And?"),
    )
    assert told[0] is QUESTION


def test_a_history_that_grows_keeps_its_beginning() -> None:
    """What was told of the earlier messages is told again in the same words."""
    before = as_text((QUESTION, CALLED, ANSWERED))
    after = as_text((QUESTION, CALLED, ANSWERED, Message(role="assistant", parts=(TextPart(text="18."),)), user("?")))
    assert after[: len(before)] == before


def test_a_broken_off_message_is_left_to_the_wire_format() -> None:
    """Of a partial message only its text is replayed, which every format does by itself."""
    partial = replace(CALLED, status="partial")
    assert as_text((QUESTION, partial)) == (QUESTION, partial)


async def test_retold_messages_stay_out_of_the_cache() -> None:
    """The cache of rendered messages is used only where no message is made anew for each request."""
    plain, retold = Inner(streamed("hi")), Inner(streamed("hi"))
    await sent(plain, asking(None))
    await sent(retold, asking(None, messages=(QUESTION, CALLED, ANSWERED)))
    assert plain.caches == [{}]
    assert retold.caches == [None]


# ── what comes back ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "tools", "text", "name", "arguments"),
    [
        ("get_weather", (WEATHER, SEARCH), ' {"city": "Oslo", "limit": 1.50}\n', "get_weather", None),
        ("required", (WEATHER,), '{"city":"Oslo"}', "get_weather", None),
        (
            "required",
            (WEATHER, SEARCH),
            '{"tool": "search", "arguments": {"in":"web","n":1.50}}',
            "search",
            '{"in":"web","n":1.50}',
        ),
    ],
)
async def test_the_answer_is_a_call(
    stream: bool,  # noqa: FBT001 — a parameter of the test
    choice: str,
    tools: tuple[ToolSpec, ...],
    text: str,
    name: str,
    arguments: str | None,
) -> None:
    """The text of the answer becomes the call, with the digits it was written with; streamed and unstreamed alike."""
    inner = Inner(streamed(text, FinishReason.STOP, ThinkingDelta(index="t", text="hm")))
    outcome = await sent(inner, asking(choice, *tools, stream=stream))
    assert outcome.completion == Completion(
        parts=(
            ThinkingPart(text="hm"),
            ToolCallPart(call_id="", name=name, arguments=arguments or text.strip()),
        ),
        finish_reason=FinishReason.TOOL_CALL,
        raw_finish_reason="raw",
        usage=USAGE,
        model="m-1",
        response_id="r-1",
    )
    assert inner.requests[0].stream is stream


@pytest.mark.parametrize(
    ("choice", "text"),
    [("get_weather", '{"city":"Oslo"}'), ("required", '{"tool":"search","arguments":{}}'), ("auto", "Sunny.")],
)
async def test_what_is_seen_is_what_is_returned(choice: str, text: str) -> None:
    """The events handed on, and those the trace keeps, fold to the completion that is returned."""
    outcome = await sent(Inner(streamed(text)), asking(choice, WEATHER, SEARCH, stream=True))
    refolded = Trace(0.0).folded
    for event in outcome.seen:
        refolded.add(event)
    assert outcome.completion is not None
    assert refolded.completion() == outcome.completion == outcome.trace.folded.completion()
    assert not any(isinstance(event, TextDelta) for event in outcome.seen) or choice == "auto"
    trace = outcome.trace
    assert (trace.http_status, trace.request_id, trace.first_token, trace.eventful) == (200, "req-1", 2.0, True)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
async def test_text_is_streamed_as_it_comes(choice: str | None) -> None:
    """Where no call is asked for, every piece is handed on at once."""
    events = streamed("Sunny.")
    outcome = await sent(Inner(events), asking(choice, WEATHER, stream=True))
    assert outcome.seen == events
    assert outcome.completion is not None
    assert outcome.completion.text == "Sunny."


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_cut_off_is_marked(stream: bool) -> None:  # noqa: FBT001 — a parameter of the test
    """Arguments that the length limit cut are a truncated call, which is never run."""
    inner = Inner(streamed('{"city": "Osl', FinishReason.LENGTH))
    outcome = await sent(inner, asking("get_weather", WEATHER, stream=stream))
    assert outcome.completion is not None
    assert outcome.completion.finish_reason is FinishReason.LENGTH
    (call,) = outcome.completion.tool_calls
    assert (call.arguments, call.truncated) == ('{"city": "Osl', True)


@pytest.mark.parametrize(
    "text", ['{"tool": "sear', "Sunny.", "[1]", '{"tool":"search"}', '{"tool":1,"arguments":{}}', ""]
)
async def test_an_answer_that_is_no_choice_stays_text(text: str) -> None:
    """Where the model's choice cannot be read, its words are its answer."""
    outcome = await sent(Inner(streamed(text)), asking("required", WEATHER, SEARCH))
    assert outcome.completion is not None
    assert (outcome.completion.tool_calls, outcome.completion.text) == ((), text)


async def test_a_filtered_answer_stays_as_it_is() -> None:
    """What a filter stopped is no call."""
    outcome = await sent(
        Inner(streamed('{"city":', FinishReason.CONTENT_FILTER)), asking("get_weather", WEATHER, stream=True)
    )
    assert outcome.completion is not None
    assert (outcome.completion.tool_calls, outcome.completion.finish_reason) == ((), FinishReason.CONTENT_FILTER)


async def test_a_stream_that_breaks_leaves_a_truncated_call() -> None:
    """What had arrived is kept in the trace, with what it used, and nothing was handed on."""
    inner = Inner(streamed('{"city": "Osl')[:-1], StreamInterruptedError("broken"))
    outcome = await sent(inner, asking("get_weather", WEATHER, stream=True))
    partial = outcome.trace.folded.completion(complete=False)
    assert outcome.completion is None
    assert outcome.seen == []
    assert outcome.trace.eventful
    assert (outcome.trace.http_status, outcome.trace.request_id) == (200, "req-1")
    assert partial.usage == USAGE
    assert partial.parts == (ToolCallPart(call_id="", name="get_weather", arguments='{"city": "Osl', truncated=True),)


async def test_an_attempt_that_fails_before_its_answer_leaves_nothing() -> None:
    """Without any event there is no partial answer."""
    inner = Inner([], StreamInterruptedError("broken"))
    outcome = await sent(inner, asking("get_weather", WEATHER, stream=True))
    assert (outcome.trace.eventful, outcome.trace.http_status) == (False, 200)


def test_only_models_that_need_it_are_wrapped() -> None:
    """A model with native tools stays as it is."""
    native = Inner(profile=ModelProfile())
    assert with_tools(native) is native
    prompted = with_tools(Inner())
    assert isinstance(prompted, PromptedModel)
    assert (prompted.origin, prompted.profile) == (ORIGIN, PROFILE)
