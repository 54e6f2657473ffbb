"""Every recorded Chat Completions exchange, read by us and by a plain reader that shares no code with us."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    ProviderError,
    RateLimitError,
    StreamInterruptedError,
)
from nodellm_orm.wire.framing import SseDecoder
from tests.unit.wire.openai_chat.asking import HERE, PLAIN, WIRE, asking, fed, folded, sent
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion, Role

pytestmark = [pytest.mark.recordings, needs_recordings]

_PROVIDERS = ("openai", "azure", "deepseek", "openrouter", "mistral", "xai", "ollama", "bedrock")
_ALL = [found for provider in _PROVIDERS for found in interactions(provider, "/chat/completions")]
_BODIES = [found for found in _ALL if found.status == 200 and not found.streamed]
_STREAMS = [found for found in _ALL if found.status == 200 and found.streamed]
_FAILURES = [found for found in _ALL if found.status >= 400]
_SOUND = [found for found in _STREAMS if b'"error":' not in found.body]
_BROKEN = [found for found in _STREAMS if found not in _SOUND]
_CLASSES: dict[int, type[ProviderError]] = {400: BadRequestError, 401: AuthenticationError, 429: RateLimitError}
_REPLAYS = ModelProfile(thinking_replay="field")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says, as far as it can be compared."""

    text: str
    thinking: str
    calls: list[tuple[str, str, str]]
    finish: str | None
    prompt: int | None
    answer: int | None
    cached: int | None
    model: str


def _plain_reading(body: dict[str, Any]) -> Reading:
    choice = body["choices"][0]
    message = choice["message"]
    content = message.get("content") or ""
    items: list[dict[str, Any]] = content if isinstance(content, list) else [{"type": "text", "text": content}]
    inner = [piece["text"] for item in items if item["type"] == "thinking" for piece in item["thinking"]]
    fields = [message.get("reasoning_content"), message.get("reasoning"), "".join(inner)]
    usage = body.get("usage") or {}
    # Of one recording (audio at Mistral) the prompt is larger than what is called so.
    prompt = usage["total_tokens"] - usage["completion_tokens"] if usage else None
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens", usage.get("num_cached_tokens")))
    return Reading(
        text="".join(item["text"] for item in items if item["type"] == "text"),
        thinking=next((words for words in fields if words), ""),
        calls=[
            (call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or []
        ],
        finish=choice["finish_reason"],
        prompt=prompt,
        answer=usage.get("completion_tokens"),
        # Grok on Azure claims to have cached more than it was sent, which means nothing.
        cached=cached if cached is None or cached <= prompt else None,
        model=body["model"],
    )


def _joined(stream: bytes) -> dict[str, Any]:
    """The unstreamed body that a recorded stream amounts to."""
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n") if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    message: dict[str, Any] = {"content": "", "reasoning": ""}
    calls: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {"choices": [{"message": message, "finish_reason": None}], "model": ""}
    for chunk in chunks:
        whole["model"] = chunk.get("model") or whole["model"]
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        for choice in chunk["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning"] += delta.get("reasoning") or delta.get("reasoning_content") or ""
            whole["choices"][0]["finish_reason"] = choice.get("finish_reason") or whole["choices"][0]["finish_reason"]
            for call in delta.get("tool_calls") or []:
                known = calls.setdefault(call["index"], {"id": "", "function": {"name": "", "arguments": ""}})
                known["id"] += call.get("id") or ""
                known["function"]["name"] += call["function"].get("name") or ""
                known["function"]["arguments"] += call["function"].get("arguments") or ""
    message["tool_calls"] = list(calls.values())
    return whole


def _our_reading(completion: Completion) -> Reading:
    return Reading(
        text=completion.text,
        thinking="".join(part.text for part in completion.parts if isinstance(part, ThinkingPart)),
        calls=[(call.wire_id or "", call.name, call.arguments) for call in completion.tool_calls],
        finish=completion.raw_finish_reason,
        prompt=completion.usage.input_tokens,
        answer=completion.usage.output_tokens,
        cached=completion.usage.cached_tokens,
        model=completion.model or "",
    )


def test_something_was_recorded() -> None:
    """The tests below have bodies, streams, failures and broken streams to work on."""
    assert all((_BODIES, _SOUND, _FAILURES, _BROKEN))


@pytest.mark.parametrize("recorded", _BODIES, ids=str)
def test_bodies_say_to_us_what_they_say(recorded: Interaction) -> None:
    """Text, thinking, calls, finish reason, tokens and model are those of the recorded body."""
    assert _our_reading(WIRE.parse(recorded.body, ModelProfile())) == _plain_reading(json.loads(recorded.body))


@pytest.mark.parametrize("recorded", _BODIES, ids=str)
def test_reported_costs_keep_their_digits(recorded: Interaction) -> None:
    """The cost is the decimal that the body writes; without one it is unknown."""
    usage = json.loads(recorded.body, parse_float=str, parse_int=str).get("usage") or {}
    reported = WIRE.parse(recorded.body, ModelProfile()).usage.reported_cost
    assert (None if reported is None else float(reported)) == (float(usage["cost"]) if "cost" in usage else None)


@pytest.mark.parametrize("recorded", _BODIES, ids=str)
def test_calls_outrank_the_stated_finish_reason(recorded: Interaction) -> None:
    """An answer with calls in it finishes with them, and no other does."""
    completion = WIRE.parse(recorded.body, ModelProfile())
    assert (completion.finish_reason == "tool_call") == bool(completion.tool_calls)


@pytest.mark.parametrize("recorded", _SOUND, ids=str)
def test_streams_say_to_us_what_they_say(recorded: Interaction) -> None:
    """A stream folds to the text, thinking, calls, finish reason, tokens and model of its chunks."""
    assert _our_reading(folded(fed([recorded.body]))) == _plain_reading(_joined(recorded.body))


@pytest.mark.parametrize("recorded", _SOUND, ids=str)
def test_streams_fed_byte_by_byte_give_the_same_events(recorded: Interaction) -> None:
    """Single bytes give the very events that the whole body gives."""
    pieces = [recorded.body[at : at + 1] for at in range(len(recorded.body))]
    assert fed(pieces) == fed([recorded.body])


@pytest.mark.parametrize("recorded", _STREAMS, ids=str)
def test_framing_is_the_same_for_every_cut_in_two(recorded: Interaction) -> None:
    """Cut at any of its first 4096 bytes, the stream gives the same server events."""
    head = recorded.body[:4096]
    whole = SseDecoder().feed(head)
    for at in range(len(head)):
        decoder = SseDecoder()
        assert decoder.feed(head[:at]) + decoder.feed(head[at:]) == whole


@pytest.mark.parametrize("recorded", _SOUND, ids=str)
def test_answers_are_the_same_for_every_cut_in_two(recorded: Interaction) -> None:
    """Cut at any of its first 4096 bytes, the stream gives the same events."""
    head = recorded.body[:4096]
    whole = WIRE.stream(PLAIN).feed(head)
    for at in range(len(head)):
        parser = WIRE.stream(PLAIN)
        assert parser.feed(head[:at]) + parser.feed(head[at:]) == whole


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_are_the_same_for_every_cut(data: st.DataObject) -> None:
    """Any cut of any recorded stream gives the same events."""
    recorded = data.draw(st.sampled_from(_SOUND))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(recorded.body)), max_size=12)))
    bounds = [0, *cuts, len(recorded.body)]
    assert fed(recorded.body[a:b] for a, b in pairwise(bounds)) == fed([recorded.body])


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_interrupted_stream_is_never_taken_for_an_answer(data: st.DataObject) -> None:
    """Cut off anywhere, a stream is an error, unless the model had finished; then its text is complete."""
    recorded = data.draw(st.sampled_from(_SOUND))
    end = data.draw(st.integers(0, len(recorded.body)))
    whole = folded(fed([recorded.body]))
    try:
        cut = folded(fed([recorded.body[:end]]))
    except StreamInterruptedError:
        assert end < len(recorded.body)
    else:
        assert (cut.text, cut.tool_calls) == (whole.text, whole.tool_calls)


@pytest.mark.parametrize("recorded", _BROKEN, ids=str)
def test_errors_inside_recorded_streams_are_raised_after_what_came_before(recorded: Interaction) -> None:
    """The deltas are given, then the error that the stream carries."""
    parser = WIRE.stream(PLAIN)
    events = parser.feed(recorded.body)
    assert events
    with pytest.raises(ProviderError, match=r"HTTP 400"):
        parser.close()


@pytest.mark.parametrize("recorded", _FAILURES, ids=str)
def test_recorded_failures_have_the_class_of_their_status(recorded: Interaction) -> None:
    """The class is that of the status, and the message quotes the provider and names a remedy."""
    error = WIRE.failure(recorded.status, recorded.headers, recorded.body)
    assert type(error) is _CLASSES[recorded.status]
    assert error.status == recorded.status
    said = json.loads(recorded.body)["error"]["message"]
    assert said[:20] in str(error)
    assert "; " in str(error)


def _history(recorded: list[dict[str, Any]], answers: dict[int, Completion]) -> list[Message]:
    """Recorded messages as ours; an assistant's is the answer that we parsed, not what the other client made of it."""
    history: list[Message] = []
    for place, message in enumerate(recorded):
        if place in answers:
            history.append(Message(role="assistant", parts=answers[place].parts, origin=HERE))
        elif message["role"] == "tool":
            result = ToolResultPart(call_id=message["tool_call_id"], name="", content=message["content"])
            history.append(Message(role="tool", parts=(result,)))
        else:
            role: Role = "user" if message["role"] == "user" else "system"
            history.append(Message(role=role, parts=(TextPart(text=message["content"]),)))
    return history


def _comparable(message: dict[str, Any]) -> dict[str, Any]:
    """The members that matter; clients write an absent text in three ways and set blanks as they like."""
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(item.get("text", "") for item in content if item["type"] == "text")
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
        for call in message.get("tool_calls") or []
    ]
    details = message.get("reasoning_details")
    return {
        "role": message["role"].replace("developer", "system"),
        "content": content.strip(),
        "calls": calls,
        "id": message.get("tool_call_id"),
        "details": details,
    }


def _conversations() -> list[tuple[str, list[dict[str, Any]], dict[int, Completion]]]:
    """Recorded requests that carry answers recorded before them: name, messages, and the answers by their place."""
    found = []
    scenarios: dict[str, list[Interaction]] = {}
    for recorded in _BODIES + _SOUND:
        scenarios.setdefault(recorded.scenario, []).append(recorded)
    for exchanges in scenarios.values():
        answers: dict[int, Completion] = {}
        for before, after in pairwise(sorted(exchanges, key=lambda exchange: exchange.id)):
            sent_before, sent_after = (before.request or {})["messages"], (after.request or {})["messages"]
            place = len(sent_before)
            if len(sent_after) <= place or sent_after[:place] != sent_before:
                break
            answers[place] = folded(fed([before.body])) if before.streamed else WIRE.parse(before.body, ModelProfile())
            texts_only = all(isinstance(message.get("content"), str | None) for message in sent_after)
            known = all(at in answers for at, message in enumerate(sent_after) if message["role"] == "assistant")
            if texts_only and known and sent_after[place]["role"] == "assistant":
                found.append((after.id, sent_after, dict(answers)))
    return found


_CONVERSATIONS = _conversations()


def test_recorded_conversations_were_found() -> None:
    """The test below has conversations of several requests, with tools and without, to work on."""
    assert len(_CONVERSATIONS) > 20


@pytest.mark.parametrize(("name", "recorded", "answers"), _CONVERSATIONS, ids=[name for name, *_ in _CONVERSATIONS])
def test_parsed_history_goes_back_as_other_clients_sent_it(
    name: str, recorded: list[dict[str, Any]], answers: dict[int, Completion]
) -> None:
    """Answers that we parsed are sent back with the texts, ids and arguments of the recorded next request."""
    ours = sent(asking(*_history(recorded, answers), profile=_REPLAYS))["messages"]
    assert [_comparable(message) for message in ours] == [_comparable(message) for message in recorded], name
