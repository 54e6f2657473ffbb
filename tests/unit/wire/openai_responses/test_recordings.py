"""Every recorded Responses exchange, read by us and by a plain reader that shares no code with us."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta
from nodellm_orm.domain.parts import OpaquePart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    ProtocolError,
    ProviderError,
    StreamInterruptedError,
)
from tests.unit.wire.openai_responses.asking import PLAIN, WIRE, fed, folded
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion

pytestmark = [pytest.mark.recordings, needs_recordings]

_PROVIDERS = ("openai", "azure", "xai", "openrouter", "bedrock", "deepseek", "anthropic", "mistral")
_ALL = [found for provider in _PROVIDERS for found in interactions(provider, "/responses")]
_ANSWERS = [found for found in _ALL if found.status == 200 and not found.streamed]
_QUEUED = [found for found in _ANSWERS if json.loads(found.body)["status"] == "queued"]
_BODIES = [found for found in _ANSWERS if found not in _QUEUED]
_STREAMS = [found for found in _ALL if found.status == 200 and found.streamed]
_USUAL_TIERS = {None, "auto", "default"}
_SMALL = 4096
_FAILURES = [found for found in _ALL if found.status >= 400]
_CLASSES: dict[int, type[ProviderError]] = {400: BadRequestError, 401: AuthenticationError}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says, as far as it can be compared."""

    kinds: list[str]
    texts: list[str]
    thinking: list[str]
    signatures: list[str | None]
    calls: list[tuple[str, str, str]]
    ids: list[str | None]
    others: list[Any]
    tier: str | None
    """Where it is not the usual one."""
    status: str
    tokens: tuple[int, int, int | None, int | None, int | None]
    model: str
    response_id: str


def _plain_reading(response: dict[str, Any]) -> Reading:
    output = response["output"]
    named = [item for item in output if item["type"] in {"message", "reasoning", "function_call"}]
    reasoning = [item for item in output if item["type"] == "reasoning"]
    usage = response["usage"]
    known = usage["input_tokens_details"]
    return Reading(
        kinds=[item["type"] for item in output for _ in (item["content"] if item["type"] == "message" else [0])],
        texts=[piece["text"] for item in output if item["type"] == "message" for piece in item["content"]],
        thinking=[
            "\n\n".join(piece["text"] for piece in (item["summary"] or item.get("content") or [])) for item in reasoning
        ],
        signatures=[item.get("encrypted_content") or None for item in reasoning],
        calls=[
            (item["call_id"], item["name"], item["arguments"]) for item in output if item["type"] == "function_call"
        ],
        ids=[item["id"] for item in named],
        others=[item for item in output if item not in named],
        tier=None if (tier := response.get("service_tier")) in _USUAL_TIERS else tier,
        status=response["status"],
        tokens=(
            usage["input_tokens"],
            usage["output_tokens"],
            known["cached_tokens"],
            known.get("cache_write_tokens"),
            usage["output_tokens_details"]["reasoning_tokens"],
        ),
        model=response["model"],
        response_id=response["id"],
    )


def _kind(part: object) -> str:
    """Of the item that a part was; empty for what stood beside the output."""
    match part:
        case TextPart():
            return "message"
        case ThinkingPart():
            return "reasoning"
        case ToolCallPart():
            return "function_call"
        case OpaquePart(payload=payload):
            return str(json.loads(payload).get("type", ""))
        case _:
            return "?"


def _id(part: object) -> str | None:
    match part:
        case TextPart(extra=extra) | ThinkingPart(opaque=extra) | ToolCallPart(extra=extra):
            found: str | None = json.loads(extra or "{}").get("id")
            return found
        case _:
            return None


def _our_reading(completion: Completion) -> Reading:
    opaque = [json.loads(part.payload) for part in completion.parts if isinstance(part, OpaquePart)]
    beside: dict[str, Any] = next((record for record in opaque if "type" not in record), {})
    parts = [part for part in completion.parts if _kind(part)]
    usage = completion.usage
    thoughts = [part for part in parts if isinstance(part, ThinkingPart)]
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    return Reading(
        kinds=[_kind(part) for part in parts],
        texts=[part.text for part in parts if isinstance(part, TextPart)],
        thinking=[part.text for part in thoughts],
        signatures=[part.signature for part in thoughts],
        calls=[(call.wire_id or "", call.name, call.arguments) for call in completion.tool_calls],
        ids=[_id(part) for part in parts if not isinstance(part, OpaquePart)],
        others=[item for item in opaque if item is not beside],
        tier=beside.get("service_tier"),
        status=completion.raw_finish_reason or "",
        tokens=(
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ),
        model=completion.model or "",
        response_id=completion.response_id or "",
    )


def _joined(stream: bytes) -> dict[str, Any]:
    """The whole response at the end of a stream, each item in the form in which it ended."""
    lines = [line.removeprefix("data:").strip() for line in stream.decode().split("\n") if line.startswith("data:")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    ended = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    whole: dict[str, Any] = events[-1]["response"]
    return {**whole, "output": [ended.get(place, item) for place, item in enumerate(whole["output"])]}


def _heard(events: list[Event]) -> list[str]:
    """What a consumer hears of each text and each thought in pieces."""
    heard: dict[object, str] = {}
    for event in events:
        match event:
            case TextDelta() | ThinkingDelta():
                heard[event.index] = heard.get(event.index, "") + event.text
            case PartReceived(part=TextPart(text=text) | ThinkingPart(text=text)) if not heard.get(event.index):
                heard[event.index] = text
            case _:
                pass
    return [text for text in heard.values() if text]


def test_something_was_recorded() -> None:
    """The tests below have bodies, streams, failures and unfinished answers to work on."""
    assert all((_BODIES, _STREAMS, _FAILURES, _QUEUED))
    assert len(_BODIES) > 100


@pytest.mark.parametrize("recorded", _BODIES, ids=str)
def test_bodies_say_to_us_what_they_say(recorded: Interaction) -> None:
    """Items in their order, ids, texts, thinking, calls, status, tokens and model are those of the recorded body."""
    assert _our_reading(WIRE.parse(recorded.body, PLAIN)) == _plain_reading(json.loads(recorded.body))


@pytest.mark.parametrize("recorded", _BODIES + _STREAMS, ids=str)
def test_calls_are_why_an_answer_ends(recorded: Interaction) -> None:
    """An answer with calls in it finishes with them, and no other does."""
    completion = folded(fed([recorded.body])) if recorded.streamed else WIRE.parse(recorded.body, PLAIN)
    assert (completion.finish_reason == "tool_call") == bool(completion.tool_calls)


@pytest.mark.parametrize("recorded", _BODIES, ids=str)
def test_reported_costs_keep_their_digits(recorded: Interaction) -> None:
    """The ticks of xAI; otherwise the cost is unknown."""
    usage = json.loads(recorded.body)["usage"]
    reported = WIRE.parse(recorded.body, PLAIN).usage.reported_cost
    ticks = usage.get("cost_in_usd_ticks")
    assert (None if reported is None else reported * 10**10) == ticks


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_streams_say_to_us_what_they_say(recorded: Interaction) -> None:
    """A stream folds to its last event's response, with the items as they ended."""
    assert _our_reading(folded(fed([recorded.body]))) == _plain_reading(_joined(recorded.body))


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_streams_give_what_their_bodies_would_give(recorded: Interaction) -> None:
    """Part for part, with what stands beside them."""
    whole = json.dumps(_joined(recorded.body), ensure_ascii=False).encode()
    ours, theirs = folded(fed([recorded.body])), WIRE.parse(whole, PLAIN)
    if b'"logprob"' not in recorded.body:  # whose digits a plain reader does not keep
        assert ours == theirs
    assert _our_reading(ours) == _our_reading(theirs)


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_pieces_of_streams_say_everything_once(recorded: Interaction) -> None:
    """What is heard in pieces is the text in the end."""
    events = fed([recorded.body])
    parts = [part for part in folded(events).parts if isinstance(part, TextPart | ThinkingPart)]
    assert _heard(events) == [part.text for part in parts if part.text]


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_streams_fed_byte_by_byte_give_the_same_events(recorded: Interaction) -> None:
    """Single bytes give the very events that the whole body gives."""
    assert fed(recorded.body[at : at + 1] for at in range(len(recorded.body))) == fed([recorded.body])


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_streams_are_the_same_for_every_cut_in_two(recorded: Interaction) -> None:
    """Cut at any of its first 4096 bytes, the stream gives the same events."""
    head = recorded.body[:_SMALL]
    whole = WIRE.stream(PLAIN).feed(head)
    for at in range(len(head)):
        parser = WIRE.stream(PLAIN)
        assert parser.feed(head[:at]) + parser.feed(head[at:]) == whole


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_are_the_same_for_every_cut(data: st.DataObject) -> None:
    """Any cut of any recorded stream gives the same events."""
    recorded = data.draw(st.sampled_from(_STREAMS))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(recorded.body)), max_size=12)))
    bounds = [0, *cuts, len(recorded.body)]
    assert fed(recorded.body[a:b] for a, b in pairwise(bounds)) == fed([recorded.body])


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_interrupted_stream_is_never_taken_for_an_answer(data: st.DataObject) -> None:
    """Cut off anywhere, a stream is an error, unless its last event was whole."""
    recorded = data.draw(st.sampled_from(_STREAMS))
    end = data.draw(st.integers(0, len(recorded.body)))
    try:
        cut = folded(fed([recorded.body[:end]]))
    except StreamInterruptedError:
        assert end < len(recorded.body)
    else:
        assert cut == folded(fed([recorded.body]))


@pytest.mark.parametrize("recorded", _QUEUED, ids=str)
def test_answers_made_in_the_background_are_no_answers_yet(recorded: Interaction) -> None:
    """What to do instead is said."""
    with pytest.raises(ProtocolError, match="leave background out of params"):
        WIRE.parse(recorded.body, PLAIN)


@pytest.mark.parametrize("recorded", _FAILURES, ids=str)
def test_recorded_failures_have_the_class_of_their_status(recorded: Interaction) -> None:
    """The class is that of the status, and the message quotes the provider and names a remedy."""
    error = WIRE.failure(recorded.status, recorded.headers, recorded.body)
    assert type(error) is _CLASSES[recorded.status]
    assert error.status == recorded.status
    assert json.loads(recorded.body)["error"]["message"][:20] in str(error)
    assert "; " in str(error)
    assert error.request_id == recorded.headers.get("x-request-id")
