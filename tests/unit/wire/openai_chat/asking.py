"""Requests, bodies and streams that the tests of this format share."""

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
from nodellm_orm.wire.openai_chat import OpenAIChat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import RenderCache

WIRE = OpenAIChat()
HERE = Origin(provider="openai", api="openai_chat", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
ELSEWHERE = Origin(provider="deepseek", api="openai_chat", endpoint="https://api.deepseek.com", model="deepseek-flash")
PLAIN = ModelProfile()
TAGGED = ModelProfile(think_tags=True)
LENIENT = ModelProfile(requires_finish=False)
WEATHER = ToolSpec(
    name="get_weather",
    description="Tells the weather.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}',
)
DONE = b"data: [DONE]\n\n"


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text=text),))


def assistant(*parts: Part, origin: Origin | None = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def called(call_id: str, arguments: str = '{"city": "Oslo"}', name: str = "get_weather") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def result(call_id: str, content: str = "4 °C") -> Message:
    return Message(role="tool", parts=(ToolResultPart(call_id=call_id, name="get_weather", content=content),))


def asking(
    *messages: Message,
    profile: ModelProfile = PLAIN,
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


def body(message: object, *, finish: str | None = "stop", **members: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return encode(dumps({"id": "c1", "model": "m1", "choices": [choice], **members}))


def data(members: object) -> bytes:
    return b"data: " + encode(dumps(members)) + b"\n\n"


def chunk(delta: object, finish: str | None = None, **members: object) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return data({"id": "c1", "model": "m1", "choices": choices, **members})


def stop(finish: str = "stop") -> bytes:
    return chunk({}, finish)


def fed(pieces: Iterable[bytes], profile: ModelProfile = PLAIN) -> list[Event]:
    """All events of a stream."""
    parser = WIRE.stream(profile)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [*events, *parser.close()]


def folded(events: Iterable[Event]) -> Completion:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.completion()


def streamed(*pieces: bytes, profile: ModelProfile = PLAIN) -> Completion:
    """The answer that a stream of these pieces gives."""
    return folded(fed(pieces, profile))
