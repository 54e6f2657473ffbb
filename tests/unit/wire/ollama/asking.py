"""Requests, conversations and answers that the tests of this format share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.providers.models_ollama import OLLAMA_PROFILES
from nodellm_orm.wire.ollama import Ollama

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import RenderCache

WIRE = Ollama()
MODEL = "some-model:8b"
HERE = Origin(provider="ollama", api="ollama", endpoint="http://localhost:11434", model=MODEL)
ELSEWHERE = Origin(provider="openai", api="openai_chat", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
PROFILE = OLLAMA_PROFILES.find(MODEL)
LEVELS = OLLAMA_PROFILES.find("gpt-oss:20b")
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts))


def assistant(*parts: Part, origin: Origin | None = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def call(call_id: str = "call_1", arguments: str = '{"city":"Paris"}', name: str = "get_weather") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def result(call_id: str = "call_1", content: str = "21 °C", *, is_error: bool = False) -> Message:
    part = ToolResultPart(call_id=call_id, name="get_weather", content=content, is_error=is_error)
    return Message(role="tool", parts=(part,))


def asking(
    *messages: Message,
    settings: Settings | None = None,
    profile: ModelProfile = PROFILE,
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
    """The body as the server reads it."""
    body: dict[str, Any] = json.loads(WIRE.render(request, cache).body)
    return body


def messages_of(request: ModelRequest) -> list[dict[str, Any]]:
    """The messages sent."""
    found: list[dict[str, Any]] = sent(request)["messages"]
    return found


def read(pieces: Iterable[bytes], profile: ModelProfile = PROFILE) -> Completion:
    """What a whole stream says, fed in these pieces."""
    parser = WIRE.stream(profile)
    whole = Accumulator()
    for piece in pieces:
        for event in parser.feed(piece):
            whole.add(event)
    for event in parser.close():
        whole.add(event)
    return whole.completion()


def line(message: Mapping[str, object] | None = None, **members: object) -> bytes:
    """One line of a stream, as the server writes it."""
    said = {} if message is None else {"message": {"role": "assistant", **message}}
    return encode(dumps({"model": MODEL, "created_at": "2026-10-21T12:00:00Z", **said, **members})) + b"\n"


def last(**members: object) -> bytes:
    """The line that ends a stream."""
    return line({"content": ""}, done=True, **{"done_reason": "stop", **members})


def parsed(message: Mapping[str, object] | None = None, **members: object) -> Completion:
    """A whole response, read."""
    return WIRE.parse(line(message, **{"done": True, "done_reason": "stop", **members}), PROFILE)
