"""Bodies that Gemini answers with, made from a few words: the same arguments always give the same bytes.

Example:
    >>> from nodellm_orm.testing import FakeCall, json_answer, sse_answer
    >>> spoken = json_answer(gemini_body("It is 21 °C."))
    >>> called = sse_answer(gemini_stream(tool_calls=[FakeCall("get_weather", {"city": "Paris"})]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nodellm_orm.domain.jsontext import dumps, encode, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue
    from nodellm_orm.testing.bodies import FakeCall, FakeThinking

_PIECE = 5
"""Characters a chunk, so that even short texts arrive in several."""


def gemini_body(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cached_tokens: int = 0,
    thought_tokens: int = 0,
    finish_reason: str = "STOP",
    call_ids: bool = True,
    model: str = "gemini-3.5-flash",
    id: str = "resp_1",  # noqa: A002 — the field's own name
) -> JsonObject:
    """A ``generateContent`` response.

    Args:
        text: the answer.
        thinking: thoughts, before the answer; the signature of the last one is on the part that follows them.
        tool_calls: calls the model makes, after the answer; their arguments must be JSON.
        usage: tokens of the prompt, and of the answer without thoughts.
        cached_tokens: of the tokens of the prompt, those read from the cache.
        thought_tokens: tokens spent on thoughts.
        finish_reason: why the model stopped; calls have no word of their own.
        call_ids: whether calls have ids, as from generation 3 on.
        model: model that answered.
        id: the response's id.
    """
    parts = [*_thoughts(thinking), *_signed(_said(text, tool_calls, call_ids=call_ids), thinking)]
    candidate: JsonObject = {"content": {"parts": [*parts], "role": "model"}, "finishReason": finish_reason, "index": 0}
    counts = _counts(usage[0], usage[1], cached_tokens, thought_tokens)
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": id}


def gemini_stream(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] = (11, 7),
    cached_tokens: int = 0,
    thought_tokens: int = 0,
    finish_reason: str = "STOP",
    call_ids: bool = True,
    model: str = "gemini-3.5-flash",
    id: str = "resp_1",  # noqa: A002 — the field's own name
) -> list[bytes]:
    """The same response as a stream: one event an item, the one with the reason to stop last.

    Args:
        text: the answer, sent in pieces.
        thinking: thoughts, each in pieces; the signature of the last one is on the first call, or else on an empty
            text at the end.
        tool_calls: calls the model makes, each whole.
        usage: tokens of the prompt, and of the answer without thoughts.
        cached_tokens: of the tokens of the prompt, those read from the cache.
        thought_tokens: tokens spent on thoughts.
        finish_reason: why the model stopped.
        call_ids: whether calls have ids, as from generation 3 on.
        model: model that answers.
        id: the response's id.
    """
    pieces: list[JsonObject] = [{**part, "text": piece} for part in _thoughts(thinking) for piece in _cut(part)]
    pieces += [{"text": piece} for piece in _cut({"text": text or ""})]
    ending = _said(None, tool_calls, call_ids=call_ids) or [{"text": ""}]
    pieces += _signed(ending, thinking)
    events: list[bytes] = []
    for number, part in enumerate(pieces, 1):
        last = number == len(pieces)
        candidate: JsonObject = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if last:
            candidate["finishReason"] = finish_reason
        counts = _counts(usage[0], usage[1] if last else 0, cached_tokens, thought_tokens)
        chunk = {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": id}
        events.append(b"data: " + encode(dumps(chunk)) + b"\r\n\r\n")
    return events


def gemini_error(
    message: str, *, code: int = 400, status: str = "INVALID_ARGUMENT", details: Sequence[JsonObject] = ()
) -> JsonObject:
    """An error body of Google's APIs.

    Args:
        message: what the provider says.
        code: the HTTP status once more.
        status: its class, such as ``RESOURCE_EXHAUSTED``.
        details: objects with an ``@type``, such as a ``RetryInfo``.
    """
    error: JsonObject = {"code": code, "message": message, "status": status}
    return {"error": {**error, "details": [*details]} if details else error}


def _thoughts(thinking: Sequence[FakeThinking]) -> list[JsonObject]:
    return [{"text": thought.text, "thought": True} for thought in thinking if thought.text]


def _said(text: str | None, tool_calls: Sequence[FakeCall], *, call_ids: bool) -> list[JsonObject]:
    parts: list[JsonObject] = [] if text is None else [{"text": text}]
    for index, call in enumerate(tool_calls):
        named: JsonObject = {"name": call.name, "args": cast("JsonValue", loads_verbatim(call.text))}
        if call_ids:
            named["id"] = call.id or f"call_{index}"
        parts.append({"functionCall": named})
    return parts


def _signed(parts: list[JsonObject], thinking: Sequence[FakeThinking]) -> list[JsonObject]:
    """The parts with the signature on the first call, or else on the first of them."""
    if not thinking or not parts:
        return parts
    place = next((at for at, part in enumerate(parts) if "functionCall" in part), 0)
    signed: JsonObject = {**parts[place], "thoughtSignature": thinking[-1].signature}
    return [*parts[:place], signed, *parts[place + 1 :]]


def _cut(part: JsonObject) -> list[str]:
    text = str(part["text"])
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _counts(prompt: int, answer: int, cached: int, thoughts: int) -> JsonObject:
    """Token counts; the API leaves out those that are zero."""
    counts: JsonObject = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": answer,
        "cachedContentTokenCount": cached,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + answer + thoughts,
    }
    details: JsonObject = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}]}
    return {name: count for name, count in counts.items() if count} | details
