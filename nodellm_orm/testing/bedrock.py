"""Bodies that Amazon Bedrock answers with, made from a few words: the same arguments always give the same bytes.

Example:
    >>> from nodellm_orm.testing import FakeCall, json_answer, sse_answer
    >>> spoken = json_answer(bedrock_body("It is 21 °C."))
    >>> called = sse_answer(
    ...     bedrock_stream(tool_calls=[FakeCall("get_weather", {"city": "Paris"})]), content_type=EVENT_STREAM
    ... )
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, cast

from nodellm_orm.domain.jsontext import dumps, encode, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue
    from nodellm_orm.testing.bodies import FakeCall, FakeThinking

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"
"""The type of a streamed answer."""
_PIECE = 5
"""Characters a delta, so that even short texts arrive in several."""
_TEXT = 7


def bedrock_body(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    stop_reason: str | None = None,
) -> JsonObject:
    """A ``Converse`` response.

    Args:
        text: the answer.
        thinking: blocks of thinking, before the answer; one without a text is redacted.
        tool_calls: calls the model makes, after the answer; their arguments must be JSON.
        usage: tokens of the prompt without cached ones, and of the answer.
        cache_read_tokens: tokens read from the cache, besides those of ``usage``.
        cache_write_tokens: tokens written to the cache, besides those of ``usage``.
        stop_reason: ``end_turn`` or ``tool_use`` when not given.
    """
    content: list[JsonValue] = [*_thoughts(thinking)]
    content += [] if text is None else [{"text": text}]
    content += [{"toolUse": {"input": _arguments(call), **_named(call, n)}} for n, call in enumerate(tool_calls)]
    message: JsonObject = {"content": content, "role": "assistant"}
    return {
        "metrics": {"latencyMs": 1},
        "output": {"message": message},
        "stopReason": stop_reason or ("tool_use" if tool_calls else "end_turn"),
        "usage": _counts(usage[0], usage[1], cache_read_tokens, cache_write_tokens),
    }


def bedrock_stream(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    stop_reason: str | None = None,
) -> list[bytes]:
    """The same response as a ``ConverseStream``: one frame an item, the reason to stop and the counts last.

    Args:
        text: the answer, sent in pieces.
        thinking: blocks of thinking; a signature is a piece of its own.
        tool_calls: calls the model makes, their arguments in pieces, valid JSON or not.
        usage: tokens of the prompt without cached ones, and of the answer.
        cache_read_tokens: tokens read from the cache, besides those of ``usage``.
        cache_write_tokens: tokens written to the cache, besides those of ``usage``.
        stop_reason: ``end_turn`` or ``tool_use`` when not given.
    """
    blocks: list[list[tuple[str, JsonObject]]] = [_thought_pieces(thought) for thought in thinking]
    if text is not None:
        blocks.append([("contentBlockDelta", {"delta": {"text": piece}}) for piece in _cut(text)])
    blocks += [_call_pieces(call, number) for number, call in enumerate(tool_calls)]
    frames = [bedrock_event("messageStart", {"role": "assistant"})]
    for index, block in enumerate(blocks):
        frames += [bedrock_event(name, {"contentBlockIndex": index, **members}) for name, members in block]
        frames.append(bedrock_event("contentBlockStop", {"contentBlockIndex": index}))
    frames.append(
        bedrock_event("messageStop", {"stopReason": stop_reason or ("tool_use" if tool_calls else "end_turn")})
    )
    counts = _counts(usage[0], usage[1], cache_read_tokens, cache_write_tokens)
    frames.append(bedrock_event("metadata", {"metrics": {"latencyMs": 1}, "usage": counts}))
    return frames


def bedrock_event(name: str, members: Mapping[str, object]) -> bytes:
    """One event of a stream as a frame.

    Args:
        name: of the event, such as ``contentBlockDelta``.
        members: of the event; the padding that the API adds is added here too.
    """
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return event_frame(headers, encode(dumps({**members, "p": "abcdef"[: len(name) % 6 + 1]})))


def bedrock_exception(name: str, message: str, **members: JsonValue) -> bytes:
    """An exception inside a stream as a frame.

    Args:
        name: such as ``throttlingException``.
        message: what the provider says.
        members: further members, such as ``originalStatusCode``.
    """
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return event_frame(headers, encode(dumps({"message": message, **members})))


def event_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame of an event stream with its two checksums.

    Args:
        headers: texts by name.
        payload: what it carries.
    """
    packed = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    sizes = struct.pack(">II", len(packed) + len(payload) + 16, len(packed))
    body = sizes + struct.pack(">I", zlib.crc32(sizes)) + packed + payload
    return body + struct.pack(">I", zlib.crc32(body))


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">BH", _TEXT, len(value)) + value


def _thoughts(thinking: Sequence[FakeThinking]) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    for thought in thinking:
        inner: JsonObject = {"reasoningText": {"signature": thought.signature, "text": thought.text}}
        blocks.append({"reasoningContent": inner if thought.text else {"redactedContent": thought.signature}})
    return blocks


def _thought_pieces(thought: FakeThinking) -> list[tuple[str, JsonObject]]:
    pieces: list[JsonObject] = [{"text": piece} for piece in _cut(thought.text)]
    pieces.append({"signature" if thought.text else "redactedContent": thought.signature})
    return [("contentBlockDelta", {"delta": {"reasoningContent": piece}}) for piece in pieces]


def _call_pieces(call: FakeCall, number: int) -> list[tuple[str, JsonObject]]:
    start: JsonObject = {"toolUse": _named(call, number)}
    pieces: list[JsonObject] = [{"delta": {"toolUse": {"input": piece}}} for piece in _cut(call.text)]
    return [("contentBlockStart", {"start": start}), *(("contentBlockDelta", piece) for piece in pieces)]


def _named(call: FakeCall, number: int) -> JsonObject:
    return {"name": call.name, "toolUseId": call.id or f"tooluse_{number}"}


def _arguments(call: FakeCall) -> JsonValue:
    return cast("JsonValue", loads_verbatim(call.text))


def _cut(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _counts(prompt: int, answer: int, read: int, written: int) -> JsonObject:
    """Token counts; the total has the cached ones in it, the prompt has not."""
    cached: JsonObject = {"cacheReadInputTokens": read, "cacheWriteInputTokens": written} if read or written else {}
    total = prompt + answer + read + written
    return {**cached, "inputTokens": prompt, "outputTokens": answer, "totalTokens": total}
