"""Bodies of OpenAI's Responses format, made from a few words: the same arguments always give the same bytes.

Example:
    >>> from nodellm_orm.testing import FakeCall, json_answer, sse_answer
    >>> spoken = json_answer(openai_responses_body("It is 21 °C."))
    >>> called = sse_answer(openai_responses_stream(tool_calls=[FakeCall("get_weather", {"city": "Paris"})]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from nodellm_orm.domain.jsontext import dumps, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue
    from nodellm_orm.testing.bodies import FakeCall, FakeThinking

_PIECE: Final = 5
"""Characters a delta, so that even short texts arrive in several."""
_PROVISIONAL: Final = "provisional"
"""What the encrypted form of a thought is until the thought has ended."""


def openai_responses_body(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] | None = (11, 7),
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
    incomplete: str | None = None,
    refusal: str | None = None,
    phase: str | None = None,
    further: Sequence[JsonObject] = (),
    model: str = "gpt-5-mini",
    id: str = "resp_1",  # noqa: A002 — the field's own name
) -> JsonObject:
    """A response.

    Args:
        text: the answer.
        thinking: reasoning items before everything else; the signature is their encrypted content.
        tool_calls: calls the model makes, after the answer.
        usage: input and output tokens; ``None`` leaves usage out.
        cached_tokens: of the input tokens, those read from the cache.
        reasoning_tokens: of the output tokens, those spent on reasoning.
        incomplete: why the answer breaks off, for instance ``max_output_tokens``.
        refusal: the refusal, in place of an answer.
        phase: of the answer, for instance ``final_answer``.
        further: items as they stand, between thinking and answer.
        model: model that answered.
        id: the response's id; those of its items are made from it.
    """
    name = id.removeprefix("resp_")
    body = _response(id, model, "incomplete" if incomplete else "completed")
    body["output"] = [
        *_thoughts(name, thinking),
        *further,
        *_message(name, text, refusal, phase),
        *_calls(name, tool_calls),
    ]
    body["incomplete_details"] = {"reason": incomplete} if incomplete else None
    if usage is not None:
        body["usage"] = _usage(usage, cached_tokens, reasoning_tokens)
    return body


def openai_responses_stream(
    text: str | None = None,
    *,
    thinking: Sequence[FakeThinking] = (),
    tool_calls: Sequence[FakeCall] = (),
    usage: tuple[int, int] | None = (11, 7),
    cached_tokens: int = 0,
    reasoning_tokens: int = 0,
    incomplete: str | None = None,
    refusal: str | None = None,
    phase: str | None = None,
    further: Sequence[JsonObject] = (),
    model: str = "gpt-5-mini",
    id: str = "resp_1",  # noqa: A002 — the field's own name
) -> list[bytes]:
    """The same response as a stream: one event an item, the one with the whole response last.

    Args:
        text: the answer, sent in pieces.
        thinking: reasoning items; the encrypted content is another one until they have ended.
        tool_calls: calls the model makes, their arguments sent in pieces.
        usage: input and output tokens; ``None`` leaves usage out.
        cached_tokens: of the input tokens, those read from the cache.
        reasoning_tokens: of the output tokens, those spent on reasoning.
        incomplete: why the answer breaks off.
        refusal: the refusal, in place of an answer, sent in pieces.
        phase: of the answer.
        further: items as they stand, each sent whole.
        model: model that answers.
        id: the response's id.
    """
    whole = openai_responses_body(
        text,
        thinking=thinking,
        tool_calls=tool_calls,
        usage=usage,
        cached_tokens=cached_tokens,
        reasoning_tokens=reasoning_tokens,
        incomplete=incomplete,
        refusal=refusal,
        phase=phase,
        further=further,
        model=model,
        id=id,
    )
    events: list[tuple[str, JsonObject]] = [
        (kind, {"response": _response(id, model, "in_progress")})
        for kind in ("response.created", "response.in_progress")
    ]
    for index, item in enumerate(cast("list[JsonObject]", whole["output"])):
        events.append(("response.output_item.added", {"output_index": index, "item": _begun(item)}))
        about: JsonObject = {"item_id": item.get("id"), "output_index": index}
        events += [(kind, {**about, **members}) for kind, members in _pieces_of(item)]
        events.append(("response.output_item.done", {"output_index": index, "item": item}))
    events.append((f"response.{whole['status']}", {"response": whole}))
    return [_event(kind, number, members) for number, (kind, members) in enumerate(events)]


def _thoughts(name: str, thinking: Sequence[FakeThinking]) -> list[JsonObject]:
    return [
        {
            "id": f"rs_{name}_{index}",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": thought.text}] if thought.text else [],
            "encrypted_content": thought.signature,
        }
        for index, thought in enumerate(thinking)
    ]


def _message(name: str, text: str | None, refusal: str | None, phase: str | None) -> list[JsonObject]:
    content: list[JsonValue] = []
    if text is not None:
        content.append({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
    if refusal is not None:
        content.append({"type": "refusal", "refusal": refusal})
    own: JsonObject = {"id": f"msg_{name}", "type": "message", "status": "completed", "content": content}
    return [{**own, "role": "assistant", **({"phase": phase} if phase else {})}] if content else []


def _calls(name: str, tool_calls: Sequence[FakeCall]) -> list[JsonObject]:
    return [
        {
            "id": f"fc_{name}_{index}",
            "type": "function_call",
            "status": "completed",
            "arguments": call.text,
            "call_id": call.id or f"call_{index}",
            "name": call.name,
        }
        for index, call in enumerate(tool_calls)
    ]


def _begun(item: JsonObject) -> JsonObject:
    """An item that has only begun."""
    match item["type"]:
        case "message":
            return {**item, "status": "in_progress", "content": []}
        case "reasoning":
            return {**item, "summary": [], "encrypted_content": _PROVISIONAL}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case _:
            return item


def _pieces_of(item: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    match item:
        case {"type": "message", "content": list(content)}:
            for index, part in enumerate(content):
                if isinstance(part, dict):
                    yield from _content_pieces(index, part)
        case {"type": "reasoning", "summary": list(summary)}:
            for index, part in enumerate(summary):
                if isinstance(part, dict):
                    place: JsonObject = {"summary_index": index}
                    whole = str(part["text"])
                    yield "response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}}
                    for piece in _pieces(whole):
                        yield "response.reasoning_summary_text.delta", {**place, "delta": piece}
                    yield "response.reasoning_summary_text.done", {**place, "text": whole}
                    yield "response.reasoning_summary_part.done", {**place, "part": part}
        case {"type": "function_call", "arguments": str(arguments)}:
            for piece in _pieces(arguments):
                yield "response.function_call_arguments.delta", {"delta": piece}
            yield "response.function_call_arguments.done", {"arguments": arguments}
        case _:
            pass


def _content_pieces(index: int, part: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    name = "text" if "text" in part else "refusal"
    kind = "response.output_text" if name == "text" else "response.refusal"
    place: JsonObject = {"content_index": index}
    whole = str(part[name])
    yield "response.content_part.added", {**place, "part": {**part, name: ""}}
    for piece in _pieces(whole):
        yield f"{kind}.delta", {**place, "delta": piece}
    yield f"{kind}.done", {**place, name: whole}
    yield "response.content_part.done", {**place, "part": part}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _event(kind: str, number: int, members: JsonObject) -> bytes:
    data = encode(dumps({"type": kind, "sequence_number": number, **members}))
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _response(id_: str, model: str, status: str) -> JsonObject:
    return {
        "id": id_,
        "object": "response",
        "created_at": 1_760_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
    }


def _usage(usage: tuple[int, int], cached: int, reasoning: int) -> JsonObject:
    return {
        "input_tokens": usage[0],
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": usage[1],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": sum(usage),
    }
