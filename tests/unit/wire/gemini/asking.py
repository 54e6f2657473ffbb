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
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from nodellm_orm.wire.gemini import Gemini

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import RenderCache

WIRE = Gemini()
MODEL = "gemini-3.5-flash"
HERE = Origin(provider="gemini", api="gemini", endpoint="https://generativelanguage.googleapis.com/v1beta", model=MODEL)
ELSEWHERE = Origin(provider="openai", api="openai_chat", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
PROFILE = GEMINI_PROFILES.find(MODEL)
OLDER = GEMINI_PROFILES.find("gemini-2.5-flash")
STAND_IN = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
SIGNED = '{"thoughtSignature":"c2ln"}'
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)


def user(text: str) -> Message:
    return Message(role="user", parts=(TextPart(text=text),))


def assistant(*parts: Part, origin: Origin | None = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def call(
    call_id: str = "call_1",
    arguments: str = '{"city":"Paris"}',
    name: str = "get_weather",
    *,
    wire_id: str | None = None,
    extra: str | None = SIGNED,
) -> ToolCallPart:
    return ToolCallPart(call_id=call_id, wire_id=wire_id, name=name, arguments=arguments, extra=extra)


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
    """The body as the API reads it."""
    body: dict[str, Any] = json.loads(WIRE.render(request, cache).body)
    return body


def contents(request: ModelRequest) -> list[tuple[str, list[dict[str, Any]]]]:
    """Role and parts of every content sent."""
    return [(content["role"], content["parts"]) for content in sent(request)["contents"]]


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


def fed(data: bytes) -> list[Event]:
    """The events of the beginning of a stream."""
    return WIRE.stream(PROFILE).feed(data)


def chunk(*parts: Mapping[str, object], finish: str | None = None, **members: object) -> bytes:
    """One chunk of a stream, as the API writes it; ``candidate`` holds further members of the candidate."""
    more = members.pop("candidate", {})
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    candidate |= more if isinstance(more, dict) else {}
    if finish is not None:
        candidate["finishReason"] = finish
    return framed({"candidates": [candidate], "modelVersion": MODEL, "responseId": "resp_1", **members})


def framed(value: object) -> bytes:
    """A value as one event."""
    return b"data: " + encode(dumps(value)) + b"\r\n\r\n"


def body(*parts: Mapping[str, object], finish: str | None = "STOP", **members: object) -> bytes:
    """A whole response."""
    return chunk(*parts, finish=finish, **members).removeprefix(b"data: ").strip()


def parsed(*parts: Mapping[str, object], finish: str | None = "STOP", **members: object) -> Completion:
    """A whole response, read."""
    return WIRE.parse(body(*parts, finish=finish, **members), PROFILE)
