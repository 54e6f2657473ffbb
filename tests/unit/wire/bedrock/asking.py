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
from nodellm_orm.testing import bedrock_event
from nodellm_orm.wire.bedrock import Bedrock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.messages import Completion, MessageStatus
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import RenderCache

WIRE = Bedrock()
ENDPOINT = "https://bedrock-runtime.us-east-1.amazonaws.com"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HERE = Origin(provider="bedrock", api="bedrock", endpoint=ENDPOINT, model=CLAUDE)
ELSEWHERE = Origin(provider="openai", api="openai_chat", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
WEATHER = ToolSpec(
    name="get_weather",
    description="The weather in a city.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts))


def assistant(*parts: Part, origin: Origin = HERE, status: MessageStatus = "complete") -> Message:
    return Message(role="assistant", parts=parts, origin=origin, status=status)


def call(call_id: str = "tooluse_1", arguments: str = '{"city":"Paris"}', name: str = "get_weather") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, wire_id=call_id, name=name, arguments=arguments)


def result(call_id: str = "tooluse_1", content: str = "21 °C", *, is_error: bool = False) -> Message:
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
    target: Origin = HERE,
) -> ModelRequest:
    return ModelRequest(
        target=target,
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


def read(pieces: Iterable[bytes], profile: ModelProfile | None = None) -> Completion:
    """What a whole stream says, fed in these pieces."""
    parser = WIRE.stream(profile or ModelProfile())
    whole = Accumulator()
    for piece in pieces:
        for event in parser.feed(piece):
            whole.add(event)
    for event in parser.close():
        whole.add(event)
    return whole.completion()


def body(*content: Mapping[str, object], stop: str | None = "end_turn", **members: object) -> bytes:
    """A whole response."""
    message = {"role": "assistant", "content": content}
    usage = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
    return encode(dumps({"output": {"message": message}, "stopReason": stop, "usage": usage, **members}))


def block(index: int, *deltas: Mapping[str, object], start: Mapping[str, object] | None = None) -> list[bytes]:
    """The events of one content block; only some kinds have a start."""
    opening = (
        [] if start is None else [bedrock_event("contentBlockStart", {"contentBlockIndex": index, "start": start})]
    )
    pieces = [bedrock_event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
    return [*opening, *pieces, bedrock_event("contentBlockStop", {"contentBlockIndex": index})]


def stream(*blocks: list[bytes], stop: str = "end_turn", usage: Mapping[str, object] | None = None) -> list[bytes]:
    """The events of a whole stream."""
    counts = usage or {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
    return [
        bedrock_event("messageStart", {"role": "assistant"}),
        *(event for events in blocks for event in events),
        bedrock_event("messageStop", {"stopReason": stop}),
        bedrock_event("metadata", {"usage": counts, "metrics": {"latencyMs": 3}}),
    ]
