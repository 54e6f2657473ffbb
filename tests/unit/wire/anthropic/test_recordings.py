"""Recorded answers of the API, read a second time without the code under test and compared with what it reads."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, TextPart, ThinkingPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.anthropic.asking import HERE, WIRE, asking, assistant, contents, folded, user
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion

pytestmark = [needs_recordings, pytest.mark.recordings]

_ALL = interactions("anthropic", "/v1/messages")
_ANSWERS = [item for item in _ALL if item.status == 200]
_STREAMS = [item for item in _ANSWERS if item.streamed]
_FAILURES = [item for item in _ALL if item.status != 200]
_FOLLOWED = [pair for pair in pairwise(_ALL) if pair[0].scenario == pair[1].scenario and pair[0].status == 200]

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALL,
    "refusal": FinishReason.CONTENT_FILTER,
    "pause_turn": FinishReason.PAUSE,
}
_CLASSES: dict[str, type[errors.ProviderError]] = {
    "invalid_request_error": errors.BadRequestError,
    "authentication_error": errors.AuthenticationError,
    "billing_error": errors.QuotaExceededError,
    "permission_error": errors.PermissionDeniedError,
    "not_found_error": errors.ModelNotFoundError,
    "request_too_large": errors.BadRequestError,
    "rate_limit_error": errors.RateLimitError,
    "api_error": errors.ServerError,
    "timeout_error": errors.ProviderTimeoutError,
    "overloaded_error": errors.OverloadedError,
}
_KNOWN = {"text", "thinking", "redacted_thinking", "tool_use"}


def _message(item: Interaction) -> dict[str, Any]:
    """The answer as a body; a stream is put together by the rules of the API's documentation."""
    if not item.streamed:
        whole: dict[str, Any] = json.loads(item.body)
        return whole
    message: dict[str, Any] = {}
    for line in item.body.decode().splitlines():
        if line.startswith("data:"):
            _apply(message, json.loads(line.removeprefix("data:")))
    for block in message["content"]:
        if pieces := block.pop("pieces", ""):
            block["input"] = json.loads(pieces)
    return message


def _apply(message: dict[str, Any], event: dict[str, Any]) -> None:
    match event["type"]:
        case "message_start":
            message |= event["message"]
        case "content_block_start":
            message["content"].append(event["content_block"])
        case "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
        case "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] += delta["signature"]
                case "citations_delta":
                    block["citations"] = [*(block.get("citations") or []), delta["citation"]]
                case "input_json_delta":
                    block["pieces"] = block.get("pieces", "") + delta["partial_json"]


def _read(item: Interaction) -> Completion:
    return folded([item.body]) if item.streamed else WIRE.parse(item.body, ModelProfile())


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_the_parts_are_what_the_body_says(item: Interaction) -> None:
    """Text, citations, thinking, signatures, calls and server blocks are those of the recorded body, in its order."""
    blocks = [block for block in _message(item)["content"] if block["type"] != "text" or block["text"]]
    answer = _read(item)
    opaque = [json.loads(part.payload) for part in answer.parts if isinstance(part, OpaquePart)]
    records = [part for part in opaque if "type" not in part]
    assert len(answer.parts) - len(records) == len(blocks)
    assert [record.get("container") for record in records] == [c for c in [_message(item).get("container")] if c]
    assert answer.text == "".join(block["text"] for block in blocks if block["type"] == "text")
    assert [
        {"id": part.wire_id, "name": part.name, "input": json.loads(part.arguments), **json.loads(part.extra or "{}")}
        for part in answer.tool_calls
    ] == [{k: v for k, v in block.items() if k != "type"} for block in blocks if block["type"] == "tool_use"]
    assert [(part.text, part.signature) for part in answer.parts if isinstance(part, ThinkingPart)] == [
        (block["thinking"], block["signature"]) for block in blocks if block["type"] == "thinking"
    ]
    assert [part for part in opaque if "type" in part] == [block for block in blocks if block["type"] not in _KNOWN]
    assert [json.loads(part.extra or "{}").get("citations") for part in answer.parts if isinstance(part, TextPart)] == [
        block.get("citations") for block in blocks if block["type"] == "text"
    ]


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_finish_reason_usage_and_names_are_what_the_body_says(item: Interaction) -> None:
    """Why it stopped, what it cost in tokens, and which model answered are those of the recorded body."""
    message = _message(item)
    usage, answer = message["usage"], _read(item)
    assert answer.finish_reason == _REASONS[message["stop_reason"]]
    assert answer.raw_finish_reason == message["stop_reason"]
    assert (answer.model, answer.response_id) == (message["model"], message["id"])
    cached, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    assert answer.usage.input_tokens == usage["input_tokens"] + cached + written
    assert (answer.usage.cached_tokens, answer.usage.cache_write_tokens) == (cached, written)
    assert answer.usage.output_tokens == usage["output_tokens"]
    assert answer.usage.reasoning_tokens == usage.get("output_tokens_details", {}).get("thinking_tokens")
    others = dict(answer.usage.other_tokens)
    assert others.get("cache_write_1h_tokens", 0) == usage["cache_creation"]["ephemeral_1h_input_tokens"]
    searched = usage.get("server_tool_use") or {}
    assert others.get("web_searches", 0) == searched.get("web_search_requests", 0)
    assert others.get("web_fetches", 0) == searched.get("web_fetch_requests", 0)


@pytest.mark.parametrize("item", _FAILURES, ids=str)
def test_a_recorded_failure_is_of_its_class(item: Interaction) -> None:
    """A failed response becomes the class its type stands for, with the request id and the provider's words."""
    said = json.loads(item.body)
    error = WIRE.failure(item.status, item.headers, item.body)
    assert type(error) is _CLASSES[said["error"]["type"]]
    assert error.status == item.status
    assert error.request_id == item.headers.get("request-id", said["request_id"])
    assert said["error"]["message"] in str(error)
    assert not error.retryable


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_byte_by_byte(item: Interaction) -> None:
    """Fed one byte at a time, a stream gives the answer it gives when it comes whole."""
    assert folded(item.body[at : at + 1] for at in range(len(item.body))) == _read(item)


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_however_it_is_cut(item: Interaction) -> None:
    """Cut at random places, a stream gives the answer it gives when it comes whole."""
    chance, whole = random.Random(item.id), _read(item)  # noqa: S311 — the same cuts in every run
    for _ in range(20):
        cuts = sorted(chance.choices(range(len(item.body)), k=chance.randint(1, 40)))
        assert folded(item.body[a:b] for a, b in pairwise([0, *cuts, len(item.body)])) == whole


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_cut_in_two_anywhere(item: Interaction) -> None:
    """Cut in two at every offset of its first 4 KB, the beginning of a stream gives the same answer."""
    close = item.body.find(b"\n\n", 4096)
    beginning = item.body if close < 0 else item.body[: close + 2]

    def so_far(*pieces: bytes) -> Completion:
        parser, whole = WIRE.stream(ModelProfile()), Accumulator()
        for piece in pieces:
            for event in parser.feed(piece):
                whole.add(event)
        return whole.completion(complete=False)

    uncut = so_far(beginning)
    assert uncut.parts
    for at in range(min(4096, len(beginning))):
        assert so_far(beginning[:at], beginning[at:]) == uncut


def _without_blanks(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _replayed(first: Interaction, second: Interaction) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Blocks of an answer, as received and as the other client sent them back in its next request."""
    asked, followed = (first.request or {})["messages"], (second.request or {})["messages"]
    if len(followed) <= len(asked) or followed[len(asked)]["role"] != "assistant":
        return []
    theirs, received = followed[len(asked)]["content"], _without_blanks(_message(first)["content"])
    if isinstance(theirs, str) or [b["type"] for b in _without_blanks(theirs)] != [b["type"] for b in received]:
        return []
    return list(zip(received, _without_blanks(theirs), strict=True))


_REPLAYED = [(first, second) for first, second in _FOLLOWED if _replayed(first, second)]


@pytest.mark.parametrize(("first", "second"), _REPLAYED, ids=str)
def test_an_answer_goes_back_as_the_other_client_sent_it(first: Interaction, second: Interaction) -> None:
    """Every member that the recorded next request replays as it was received is replayed here with the same value."""
    answer = assistant(*_read(first).parts, origin=HERE)
    ours = _without_blanks(contents(asking(user("Hi"), answer))[1][1])
    compared = 0
    for (received, theirs), block in zip(_replayed(first, second), ours, strict=True):
        verbatim = {name: value for name, value in theirs.items() if name in received and received[name] == value}
        assert {name: block.get(name) for name in verbatim} == verbatim
        # Nothing is added or lost either: what goes back is what came.
        assert block == received
        compared += len(verbatim)
    assert compared > 1
