"""Bodies that providers answer with, made from a few words: the same arguments always give the same bytes.

Example:
    >>> from nodellm_orm.testing import json_answer, sse_answer
    >>> spoken = json_answer(openai_chat_body("It is 21 °C."))
    >>> called = sse_answer(anthropic_stream(tool_calls=[FakeCall("get_weather", {"city": "Paris"})]))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from nodellm_orm.domain.jsontext import dumps, encode, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue

_PIECE = 5
"""Characters a delta, so that even short texts arrive in several."""


@dataclass(frozen=True, slots=True)
class FakeCall:
    """A tool call the model makes.

    Args:
        name: the tool.
        arguments: its arguments; a string is sent as it stands, valid JSON or not.
        id: the call's id; derived from its place in the answer when empty.
    """

    name: str
    arguments: Mapping[str, object] | str = field(default_factory=dict)
    id: str = ""

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return self.arguments if isinstance(self.arguments, str) else dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class FakeThinking:
    """A block of thinking.

    Args:
        text: what is thought; may be empty, as with omitted thinking.
        signature: the provider's signature of it.
    """

    text: str
    signature: str = "c2lnbmF0dXJl"


def openai_chat_body(
    text: str | None = None,
    *,
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] | None = (11, 7),
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
    finish_reason: str | None = None,
    refusal: str | None = None,
    model: str = "gpt-5-mini",
    id: str = "chatcmpl-1",  # noqa: A002 — the field's own name
) -> JsonObject:
    """A Chat Completions response.

    Args:
        text: the answer.
        tool_calls: calls the model makes.
        usage: prompt and completion tokens; ``None`` leaves usage out.
        cached_tokens: of the prompt tokens, those read from the cache.
        reasoning_tokens: of the completion tokens, those spent on reasoning.
        finish_reason: ``stop`` or ``tool_calls`` when not given.
        refusal: the refusal, in place of an answer.
        model: model that answered.
        id: the response's id.
    """
    message: JsonObject = {"role": "assistant", "content": text, "refusal": refusal}
    if tool_calls:
        message["tool_calls"] = [_openai_call(call, index) for index, call in enumerate(tool_calls)]
    body: JsonObject = {
        "id": id,
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason or _openai_reason(tool_calls)}],
    }
    if usage is not None:
        body["usage"] = _openai_usage(usage, cached_tokens, reasoning_tokens)
    return body


def openai_chat_stream(
    text: str | None = None,
    *,
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] | None = (11, 7),
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
    finish_reason: str | None = None,
    interleaved: bool = False,
    model: str = "gpt-5-mini",
    id: str = "chatcmpl-1",  # noqa: A002 — the field's own name
) -> list[bytes]:
    """The same response as a stream: one event an item, the terminal marker last.

    Args:
        text: the answer, sent in pieces.
        tool_calls: calls the model makes, their arguments sent in pieces.
        usage: prompt and completion tokens, in a last event of their own; ``None`` leaves it out.
        cached_tokens: of the prompt tokens, those read from the cache.
        reasoning_tokens: of the completion tokens, those spent on reasoning.
        finish_reason: ``stop`` or ``tool_calls`` when not given.
        interleaved: sends the pieces of several calls in turn.
        model: model that answers.
        id: the response's id.
    """

    def event(delta: JsonObject, reason: str | None = None) -> bytes:
        return _data(_chunk(id, model, [{"index": 0, "delta": delta, "finish_reason": reason}]))

    events = [event({"role": "assistant", "content": "" if text is not None else None, "refusal": None})]
    events += [event({"content": piece}) for piece in _pieces(text or "")]
    events += [event({"tool_calls": [fragment]}) for fragment in _openai_fragments(tool_calls, interleaved=interleaved)]
    events.append(event({}, finish_reason or _openai_reason(tool_calls)))
    if usage is not None:
        last = _chunk(id, model, [])
        last["usage"] = _openai_usage(usage, cached_tokens, reasoning_tokens)
        events.append(_data(last))
    return [*events, b"data: [DONE]\n\n"]


def openai_error(
    message: str,
    *,
    type: str = "invalid_request_error",  # noqa: A002 — the field's own name
    code: str | None = None,
) -> JsonObject:
    """An error body of OpenAI and its lookalikes.

    Args:
        message: what the provider says.
        type: the class of error.
        code: its code, such as ``insufficient_quota``.
    """
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def anthropic_body(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cache_read: int = 0,
    cache_write: int = 0,
    stop_reason: str | None = None,
    model: str = "claude-haiku-4-5",
    id: str = "msg_1",  # noqa: A002 — the field's own name
) -> JsonObject:
    """A Messages response.

    Args:
        text: the answer.
        thinking: blocks of thinking, before the answer.
        tool_calls: calls the model makes, after the answer; their arguments must be JSON.
        usage: input tokens without cached ones, and output tokens.
        cache_read: input tokens read from the cache.
        cache_write: input tokens written to the cache.
        stop_reason: ``end_turn`` or ``tool_use`` when not given.
        model: model that answered.
        id: the message's id.
    """
    content: list[JsonValue] = [
        {"type": "thinking", "thinking": block.text, "signature": block.signature} for block in thinking
    ]
    if text is not None:
        content.append({"type": "text", "text": text})
    content += [
        {
            "type": "tool_use",
            "id": call.id or f"toolu_{index}",
            "name": call.name,
            "input": cast("JsonValue", loads_verbatim(call.text)),
        }
        for index, call in enumerate(tool_calls)
    ]
    body = _anthropic_message(id, model, usage, cache_read, cache_write)
    return {**body, "content": content, "stop_reason": stop_reason or _anthropic_reason(tool_calls)}


def anthropic_stream(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cache_read: int = 0,
    cache_write: int = 0,
    stop_reason: str | None = None,
    pings: bool = True,
    model: str = "claude-haiku-4-5",
    id: str = "msg_1",  # noqa: A002 — the field's own name
) -> list[bytes]:
    """The same response as a stream: one event an item, ``message_stop`` last.

    Args:
        text: the answer, sent in pieces.
        thinking: blocks of thinking, each followed by its signature.
        tool_calls: calls the model makes, their arguments sent in pieces.
        usage: input tokens without cached ones, and output tokens.
        cache_read: input tokens read from the cache.
        cache_write: input tokens written to the cache.
        stop_reason: ``end_turn`` or ``tool_use`` when not given.
        pings: sends a ping after the start, as the provider does.
        model: model that answers.
        id: the message's id.
    """
    message = _anthropic_message(id, model, (usage[0], 1), cache_read, cache_write)
    events = [_event("message_start", {"message": message})]
    if pings:
        events.append(_event("ping", {}))
    for index, (start, deltas) in enumerate(_anthropic_blocks(text, thinking, tool_calls)):
        events.append(_event("content_block_start", {"index": index, "content_block": start}))
        events += [_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        events.append(_event("content_block_stop", {"index": index}))
    ending = {"stop_reason": stop_reason or _anthropic_reason(tool_calls), "stop_sequence": None}
    events.append(_event("message_delta", {"delta": ending, "usage": {"output_tokens": usage[1]}}))
    return [*events, _event("message_stop", {})]


def anthropic_error(message: str, *, type: str = "invalid_request_error") -> JsonObject:  # noqa: A002 — as above
    """An error body of Anthropic.

    Args:
        message: what the provider says.
        type: the class of error, such as ``overloaded_error``.
    """
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _data(value: object) -> bytes:
    return b"data: " + encode(dumps(value)) + b"\n\n"


def _event(name: str, members: Mapping[str, object]) -> bytes:
    return b"event: " + name.encode() + b"\n" + _data({"type": name, **members})


def _chunk(id_: str, model: str, choices: list[JsonObject]) -> JsonObject:
    return {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": model,
        "choices": [*choices],
        "usage": None,
    }


def _openai_reason(tool_calls: Sequence[FakeCall]) -> str:
    return "tool_calls" if tool_calls else "stop"


def _openai_call(call: FakeCall, index: int) -> JsonObject:
    return {
        "id": call.id or f"call_{index}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.text},
    }


def _openai_fragments(tool_calls: Sequence[FakeCall], *, interleaved: bool) -> list[JsonObject]:
    queues: list[list[JsonObject]] = []
    for index, call in enumerate(tool_calls):
        opening = _openai_call(FakeCall(call.name, "", call.id), index)
        queues.append([{"index": index, **opening}])
        queues[-1] += [{"index": index, "function": {"arguments": piece}} for piece in _pieces(call.text)]
    if not interleaved:
        return [fragment for queue in queues for fragment in queue]
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _openai_usage(usage: tuple[int, int], cached: int, reasoning: int) -> JsonObject:
    return {
        "prompt_tokens": usage[0],
        "completion_tokens": usage[1],
        "total_tokens": sum(usage),
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _anthropic_reason(tool_calls: Sequence[FakeCall]) -> str:
    return "tool_use" if tool_calls else "end_turn"


def _anthropic_message(id_: str, model: str, usage: tuple[int, int], cache_read: int, cache_write: int) -> JsonObject:
    return {
        "id": id_,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage[0],
            "cache_creation_input_tokens": cache_write,
            "cache_read_input_tokens": cache_read,
            "output_tokens": usage[1],
        },
    }


def _anthropic_blocks(
    text: str | None, thinking: Sequence[FakeThinking], tool_calls: Sequence[FakeCall]
) -> Iterator[tuple[JsonObject, list[JsonObject]]]:
    for block in thinking:
        deltas: list[JsonObject] = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block.text)]
        deltas.append({"type": "signature_delta", "signature": block.signature})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if text is not None:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
    for index, call in enumerate(tool_calls):
        fragments = ["", *_pieces(call.text)]
        start: JsonObject = {
            "type": "tool_use",
            "id": call.id or f"toolu_{index}",
            "name": call.name,
            "input": {},
        }
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in fragments]
