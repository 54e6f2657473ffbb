"""Requests, conversations and answers that the tests of this format share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.wire.anthropic import Anthropic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import RenderCache, WireFormat

WIRE: WireFormat = Anthropic()
HERE = Origin(provider="anthropic", api="anthropic", endpoint="https://api.anthropic.com", model="claude-haiku-4-5")
ELSEWHERE = Origin(provider="openai", api="openai_chat", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text=text),))


def assistant(*parts: Part, origin: Origin = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def call(call_id: str = "toolu_1", arguments: str = '{"city":"Paris"}', name: str = "get_weather") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, wire_id=call_id, name=name, arguments=arguments)


def result(call_id: str = "toolu_1", content: str = "21 °C", *, is_error: bool = False) -> Message:
    part = ToolResultPart(call_id=call_id, name="get_weather", content=content, is_error=is_error)
    return Message(role="tool", parts=(part,))


def asking(
    *messages: Message,
    settings: Settings | None = None,
    profile: ModelProfile | None = None,
    instructions: Sequence[str] = (),
    tools: Sequence[ToolSpec] = (),
    stream: bool = False,
    params: Mapping[str, object] | None = None,
) -> ModelRequest:
    return ModelRequest(
        target=HERE,
        messages=messages or (user("Hi"),),
        instructions=tuple(instructions),
        tools=tuple(tools),
        settings=settings or Settings(),
        profile=profile or ModelProfile(),
        stream=stream,
        params=params or {},
    )


def sent(request: ModelRequest, cache: RenderCache | None = None) -> dict[str, Any]:
    """The body as the API reads it."""
    body: dict[str, Any] = json.loads(WIRE.render(request, cache).body)
    return body


def contents(request: ModelRequest) -> list[tuple[str, list[dict[str, Any]]]]:
    """Role and content of every message sent."""
    return [(message["role"], message["content"]) for message in sent(request)["messages"]]


def folded(pieces: Iterable[bytes], profile: ModelProfile | None = None) -> Completion:
    """What a whole stream says, fed in these pieces."""
    parser = WIRE.stream(profile or ModelProfile())
    whole = Accumulator()
    for piece in pieces:
        for event in parser.feed(piece):
            whole.add(event)
    for event in parser.close():
        whole.add(event)
    return whole.completion()


def fed(data: bytes) -> list[Event]:
    """The events of the beginning of a stream."""
    return WIRE.stream(ModelProfile()).feed(data)


def event(name: str, members: Mapping[str, object]) -> bytes:
    """One server-sent event, as the API writes it."""
    return b"event: " + name.encode() + b"\ndata: " + encode(dumps({"type": name, **members})) + b"\n\n"


def start(**members: object) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": []}
    return event("message_start", {"message": {**message, **members}})


def block(index: int, opening: Mapping[str, object], *deltas: Mapping[str, object]) -> bytes:
    """The events of one content block."""
    pieces = [event("content_block_start", {"index": index, "content_block": opening})]
    pieces += [event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
    return b"".join([*pieces, event("content_block_stop", {"index": index})])


def ending(stop_reason: str = "end_turn", **members: object) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None, **members}
    return event("message_delta", {"delta": delta, "usage": {"output_tokens": 7}}) + event("message_stop", {})


def body(*content: Mapping[str, object], stop_reason: str | None = "end_turn", **members: object) -> bytes:
    """A whole Messages response."""
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": content}
    return encode(dumps({**message, "stop_reason": stop_reason, "stop_sequence": None, **members}))
