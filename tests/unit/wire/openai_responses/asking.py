"""Requests, bodies and streams that the tests of this format share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.wire.openai_responses import OpenAIResponses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import RenderCache

WIRE = OpenAIResponses()
HERE = Origin(provider="openai", api="openai_responses", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
ELSEWHERE = Origin(provider="azure", api="openai_responses", endpoint="https://a.example/openai/v1", model="gpt-5-mini")
REASONS = ModelProfile(
    sampling=False,
    system_role="developer",
    thinking="effort",
    thinking_off="disabled",
    efforts=("none", "low", "medium", "high"),
)
PLAIN = ModelProfile()
LENIENT = ModelProfile(requires_finish=False)
CLOSED = (
    '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
)  # fmt: skip
WEATHER = ToolSpec(name="get_weather", description="Tells the weather.", parameters=CLOSED)


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text=text),))


def assistant(*parts: Part, origin: Origin | None = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def said(text: str, wire_id: str | None = "msg_1", **extra: object) -> TextPart:
    """A text as it is parsed, with the id of its message."""
    members = {**({"id": wire_id} if wire_id else {}), **extra}
    return TextPart(text=text, extra=dumps(members) if members else None)


def thought(text: str = "", wire_id: str | None = "rs_1", signature: str | None = "gAAA1") -> ThinkingPart:
    """A reasoning item as it is parsed."""
    members: dict[str, object] = {"id": wire_id} if wire_id else {}
    members |= {"summary": [{"type": "summary_text", "text": text}]} if text else {}
    return ThinkingPart(text=text, signature=signature, redacted=not text, opaque=dumps(members) if members else None)


def called(call_id: str, wire_id: str | None = None, arguments: str = '{"city": "Oslo"}', **extra: object) -> Part:
    """A call as it is parsed, with the id of its item."""
    members = {**({"id": wire_id} if wire_id else {}), **extra}
    return ToolCallPart(
        call_id=call_id, name="get_weather", arguments=arguments, extra=dumps(members) if members else None
    )


def result(call_id: str, content: str = "4 °C") -> Message:
    return Message(role="tool", parts=(ToolResultPart(call_id=call_id, name="get_weather", content=content),))


def asking(
    *messages: Message,
    profile: ModelProfile = REASONS,
    settings: Settings | None = None,
    instructions: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    stream: bool = False,
    params: Mapping[str, object] | None = None,
    target: Origin = HERE,
) -> ModelRequest:
    return ModelRequest(
        target=target,
        messages=messages or (user("Hi"),),
        instructions=tuple(instructions),
        tools=tuple(tools),
        settings=settings or Settings(),
        profile=profile,
        stream=stream,
        params=params or {},
    )


def sent(request: ModelRequest, cache: RenderCache | None = None) -> dict[str, Any]:
    """The body that would be sent, parsed."""
    body: dict[str, Any] = json.loads(WIRE.render(request, cache).body)
    return body


def items(*messages: Message, **options: Any) -> list[dict[str, Any]]:
    """The input that would be sent."""
    found: list[dict[str, Any]] = sent(asking(*messages, **options))["input"]
    return found


def body(*output: object, status: str | None = "completed", **members: object) -> bytes:
    stated = {} if status is None else {"status": status}
    return encode(dumps({"id": "resp_1", "model": "m1", "output": output, **stated, **members}))


def parsed(*output: object, **members: Any) -> Completion:
    """What a body with these items says."""
    return WIRE.parse(body(*output, **members), PLAIN)


def message(*content: object, **members: object) -> dict[str, object]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content, **members}


def output_text(text: str, *annotations: object) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def reasoning(*summary: str, wire_id: str = "rs_1", **members: object) -> dict[str, object]:
    texts = [{"type": "summary_text", "text": text} for text in summary]
    return {"type": "reasoning", "id": wire_id, "summary": texts, **members}


def function_call(arguments: object = "{}", **members: object) -> dict[str, object]:
    own = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "status": "completed"}
    return {**own, "arguments": arguments, **members}


def custom_call(text: str = "SELECT 1", **members: object) -> dict[str, object]:
    own = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql"}
    return {**own, "input": text, **members}


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: ".encode() + encode(dumps({"type": kind, **members})) + b"\n\n"


def completed(*output: object, status: str = "completed", **members: object) -> bytes:
    response = {"id": "resp_1", "model": "m1", "status": status, "output": output, **members}
    return event(f"response.{status}", response=response)


def fed(pieces: Iterable[bytes], profile: ModelProfile = PLAIN) -> list[Event]:
    """All events of a stream."""
    parser = WIRE.stream(profile)
    events = [found for piece in pieces for found in parser.feed(piece)]
    return [*events, *parser.close()]


def folded(events: Iterable[Event]) -> Completion:
    accumulator = Accumulator()
    for found in events:
        accumulator.add(found)
    return accumulator.completion()


def streamed(*pieces: bytes, profile: ModelProfile = PLAIN) -> Completion:
    """The answer that a stream of these pieces gives."""
    return folded(fed(pieces, profile))
