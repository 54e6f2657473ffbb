"""Bodies that an Ollama server answers with, made from a few words: the same arguments always give the same bytes.

Example:
    >>> from nodellm_orm.testing import FakeCall, json_answer, sse_answer
    >>> spoken = json_answer(ollama_body("It is 21 °C."))
    >>> called = sse_answer(
    ...     ollama_stream(tool_calls=[FakeCall("get_weather", {"city": "Paris"})]), content_type="application/x-ndjson"
    ... )
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nodellm_orm.domain.jsontext import dumps, encode, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue
    from nodellm_orm.testing.bodies import FakeCall

_PIECE = 5
"""Characters a line, so that even short texts arrive in several."""
_CREATED = "2026-10-21T12:00:00.000000Z"


def ollama_body(
    text: str = "",
    *,
    thinking: str = "",
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int | None, int | None] = (11, 7),
    done_reason: str | None = "stop",
    call_ids: bool = True,
    model: str = "qwen3:8b",
) -> JsonObject:
    """A response of ``/api/chat``.

    Args:
        text: the answer.
        thinking: what the model thought.
        tool_calls: calls the model makes; their arguments must be JSON.
        usage: tokens of prompt and answer; ``None`` leaves one out, as servers do with a prompt they had in memory.
        done_reason: why the model stopped; calls have no word of their own.
        call_ids: whether calls have ids, as newer servers give them.
        model: model that answered.
    """
    message: JsonObject = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if tool_calls:
        message["tool_calls"] = [_call(call, index, call_ids=call_ids) for index, call in enumerate(tool_calls)]
    return _chunk(model, message, _ending(usage, done_reason))


def ollama_stream(
    text: str = "",
    *,
    thinking: str = "",
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int | None, int | None] = (11, 7),
    done_reason: str | None = "stop",
    call_ids: bool = True,
    model: str = "qwen3:8b",
) -> list[bytes]:
    """The same response as a stream: one line an item, the one that says ``done`` last.

    Args:
        text: the answer, sent in pieces.
        thinking: what the model thought, sent in pieces before the answer.
        tool_calls: calls the model makes, each whole in a line of its own.
        usage: tokens of prompt and answer.
        done_reason: why the model stopped.
        call_ids: whether calls have ids.
        model: model that answers.
    """
    said: list[JsonObject] = [{"content": "", "thinking": piece} for piece in _pieces(thinking)]
    said += [{"content": piece} for piece in _pieces(text)]
    said += [
        {"content": "", "tool_calls": [_call(call, index, call_ids=call_ids)]} for index, call in enumerate(tool_calls)
    ]
    lines = [_chunk(model, {"role": "assistant", **members}, {"done": False}) for members in said]
    lines.append(_chunk(model, {"role": "assistant", "content": ""}, _ending(usage, done_reason)))
    return [encode(dumps(line)) + b"\n" for line in lines]


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _chunk(model: str, message: JsonObject, ending: JsonObject) -> JsonObject:
    return {"model": model, "created_at": _CREATED, "message": message, **ending}


def _ending(usage: tuple[int | None, int | None], done_reason: str | None) -> JsonObject:
    ending: JsonObject = {
        "done": True,
        "done_reason": done_reason,
        "total_duration": 4_883_583_458,
        "load_duration": 1_334_875,
        "prompt_eval_count": usage[0],
        "prompt_eval_duration": 342_546_000,
        "eval_count": usage[1],
        "eval_duration": 4_535_599_000,
    }
    return {name: value for name, value in ending.items() if value is not None}


def _call(call: FakeCall, index: int, *, call_ids: bool) -> JsonObject:
    arguments = cast("JsonValue", loads_verbatim(call.text))
    function: JsonObject = {"index": index, "name": call.name, "arguments": arguments}
    return {"id": call.id or f"call_{index}", "function": function} if call_ids else {"function": function}
