"""Any object with a ``complete`` method as a model: it is told a conversation in words, and answers as a whole.

It takes texts of user and assistant, one system text, and tools without a choice among them. So earlier calls and
results are told in words; a tool that is forced is offered alone, which is what forces it; and once a single tool has
answered, none is offered until the user speaks again, or the model would call it for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeAlias

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.jsontext import JsonTextError, dumps, encode, loads
from nodellm_orm.domain.messages import FinishReason, Message, Origin
from nodellm_orm.domain.parts import MediaPart, RefusalPart, TextPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    ConfigurationError,
    ProtocolError,
    ProviderError,
    ProviderTimeoutError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.llm import LLMMessage, LLMTool
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.runtime.prompted import as_text

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.model import OnEvent, Trace

Wrong: TypeAlias = Callable[[str], NoReturn]
"""Raises what is to be said of a result that is not one."""

API: Final = "llm_client"
"""What is stored with chats in place of a wire format."""
_PROFILE: Final = ModelProfile(sampling=False, parallel_tool_calls=False, structured="none", media=("text",))
_REASONS: Final = {
    "stop": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALL,
    "tool_use": FinishReason.TOOL_CALL,
    "content_filter": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
}


def provider_of(client: object) -> str:
    """What is stored as the provider of a foreign client: its own ``provider``, or the name of its class."""
    named = getattr(client, "provider", None)
    return named if isinstance(named, str) and named else type(client).__name__


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A `Model` over a foreign client.

    Args:
        client: anything with an async ``complete``.
        name: the model it is asked for.
    """

    client: LLMClient
    name: str

    @property
    def origin(self) -> Origin:
        """The client stands for provider and endpoint alike."""
        provider = provider_of(self.client)
        return Origin(provider=provider, api=API, endpoint=provider, model=self.name)

    @property
    def profile(self) -> ModelProfile:
        """What the interface can say."""
        return _PROFILE

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Refuse what the interface cannot say; name what it leaves out.

        Raises:
            UnsupportedFeatureError: a file is attached that is no text.
            ConfigurationError: the forced tool is not among the request's tools.
        """
        del cache
        newest = request.messages[-1] if request.messages else None
        if newest is not None and newest.role == "user":
            for part in newest.parts:
                if isinstance(part, MediaPart) and part.media != "text":
                    msg = f"{self.origin.provider} is given texts only; use a provider of this package for files"
                    raise UnsupportedFeatureError(msg)
        _asked(request)
        settings = request.settings
        left_out = {
            "temperature": settings.temperature is not None,
            "thinking": settings.thinking is not None,
            "parallel_tool_calls": settings.parallel_tool_calls is not None and bool(request.tools),
            "tool_choice": settings.tool_choice == REQUIRED and len(request.tools) > 1,
        }
        return tuple(sorted(name for name, given in left_out.items() if given))

    def render(self, request: ModelRequest) -> WireRequest:
        """What ``complete`` would be given, as JSON."""
        asked = _arguments(self.name, request)
        tools = asked["tools"] or ()
        body = {
            "model": asked["model"],
            "system": asked["system"],
            "max_tokens": asked["max_tokens"],
            "tools": [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.input_schema)}
                for tool in tools
            ],
            "messages": [{"role": message.role, "content": message.content} for message in asked["messages"]],
        }
        return WireRequest(path="/complete", body=encode(dumps(body)), stream=False)

    async def send(
        self,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: OnEvent,
    ) -> Completion:
        """Ask once; a stream gets the answer in one piece.

        Raises:
            ProviderTimeoutError: it took longer than ``timeout.total``.
            ProtocolError: what it gave is not an `LLMCompleteResult`.
        """
        del cache, headers
        limit = asyncio.timeout(timeout.total)
        try:
            async with limit:
                result = await self.client.complete(**_arguments(self.name, request))
        except TimeoutError as error:
            if not limit.expired():
                raise
            msg = f"{self.origin.provider} did not answer within {timeout.total} seconds; raise timeout=, or ask again"
            raise ProviderTimeoutError(msg, provider=self.origin.provider, model=self.name) from error
        except ProviderError as error:
            error.provider = error.provider or self.origin.provider
            error.model = error.model or self.name
            raise
        events = _events(self.name, _read(result, provider_of(self.client)))
        folded = Accumulator()
        trace.eventful = True
        for event in events:
            folded.add(event)
            trace.folded.add(event)
            if request.stream and not isinstance(event, Finished):
                await on_event(event)
        return folded.completion()


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _arguments(name: str, request: ModelRequest) -> dict[str, Any]:
    """The keyword arguments of ``complete``."""
    system = [text for text in request.instructions if text.strip()]
    system += [message.content for message in request.messages if message.role == "system"]
    if request.settings.schema is not None:
        system.append(
            "Answer with one JSON object that fits this JSON Schema, and with nothing else:\n" + request.settings.schema
        )
    tools = [_tool(spec) for spec in _asked(request)]
    return {
        "model": name,
        "messages": _told(request.messages),
        "system": "\n\n".join(system) or None,
        "tools": tools or None,
        "max_tokens": request.settings.max_tokens,
    }


def _asked(request: ModelRequest) -> tuple[ToolSpec, ...]:
    """The tools that are offered now: of a forced one only itself, and none that has answered its force."""
    choice = request.settings.tool_choice or AUTO
    if choice == NONE or not request.tools:
        return ()
    if choice not in {AUTO, REQUIRED}:
        named = tuple(spec for spec in request.tools if spec.name == choice)
        if not named:
            msg = f"tool_choice={choice!r} is not among the tools; offer it, or choose another"
            raise ConfigurationError(msg)
        return named
    return () if len(request.tools) == 1 and _answered(request.messages) else request.tools


def _answered(messages: Sequence[Message]) -> bool:
    """Whether a tool has answered since the user spoke last."""
    for message in reversed(messages):
        if message.role == "tool":
            return True
        if message.role == "user":
            return False
    return False


def _tool(spec: ToolSpec) -> LLMTool:
    schema = loads(spec.parameters)
    if not isinstance(schema, dict):
        msg = f"the parameters of {spec.name} are no JSON Schema of an object"
        raise ConfigurationError(msg)
    return LLMTool(name=spec.name, description=spec.description, input_schema=schema)


def _told(messages: Sequence[Message]) -> list[LLMMessage]:
    """The conversation in words, user and assistant by turns."""
    told: list[LLMMessage] = []
    for message in as_text([message for message in messages if message.role != "system"]):
        words = "\n\n".join(text for part in message.parts if (text := _words(part)).strip())
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if not words:
            continue
        if told and told[-1].role == role:
            told[-1] = LLMMessage(role=role, content=f"{told[-1].content}\n\n{words}")
        else:
            told.append(LLMMessage(role=role, content=words))
    return told


def _words(part: object) -> str:
    match part:
        case TextPart(text=text):
            return text
        case MediaPart(media="text", data=bytes(data), name=name):
            words = data.decode("utf-8", errors="replace")
            return f'<file name="{name}">\n{words}\n</file>' if name else words
        case MediaPart(media=media, name=name, media_type=media_type):
            return f"[{' '.join(filter(None, (media, name, f'({media_type})')))}: not shown]"
        case RefusalPart(text=text):
            return text
        case _:
            return ""


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    text: str
    calls: tuple[tuple[str, str], ...]
    usage: Usage
    stop_reason: str | None


def _read(result: object, provider: str) -> _Result:
    """What a foreign client gave, once it is known to be what it should be."""

    def wrong(what: str) -> NoReturn:
        msg = f"{provider}.complete() gave {what}; it has to return LLMCompleteResult(text=..., tool_calls=..., ...)"
        raise ProtocolError(msg, provider=provider, retryable=False)

    text, stop = getattr(result, "text", None), getattr(result, "stop_reason", None)
    if not isinstance(text, str):
        wrong(f"{type(result).__name__} without a text" if result is not None else "None")
    if stop is not None and not isinstance(stop, str):
        wrong(f"a stop_reason that is {type(stop).__name__}")
    calls = getattr(result, "tool_calls", None)
    if calls is not None and (isinstance(calls, str | Mapping) or not isinstance(calls, Sequence)):
        wrong(f"tool_calls that are {type(calls).__name__}")
    return _Result(
        text=text,
        calls=tuple(_call(call, wrong) for call in calls or ()),
        usage=_usage(getattr(result, "usage", None), wrong),
        stop_reason=stop,
    )


def _call(call: object, wrong: Wrong) -> tuple[str, str]:
    name, given = getattr(call, "name", None), getattr(call, "input", None)
    if not isinstance(name, str) or not name or not isinstance(given, Mapping):
        wrong("a tool call without a name, or whose input is no mapping")
    try:
        return name, dumps(dict(given))
    except (JsonTextError, TypeError, ValueError):
        wrong(f"a call of {name!r:.100} whose input is not JSON")


def _usage(usage: object, wrong: Wrong) -> Usage:
    if usage is None:
        return Usage()
    counts = [getattr(usage, name, None) for name in ("input_tokens", "output_tokens")]
    for count in counts:
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            wrong("a usage whose counts are no whole numbers from 0 on")
    return Usage(input_tokens=counts[0], output_tokens=counts[1])


def _events(model: str, result: _Result) -> list[Event]:
    events: list[Event] = [ResponseStarted(model=model)]
    if result.text:
        events.append(PartReceived(index="text", part=TextPart(text=result.text)))
    for place, (name, arguments) in enumerate(result.calls):
        part = ToolCallPart(call_id="", name=name, arguments=arguments)
        events.append(PartReceived(index=place, part=part))
    word = result.stop_reason
    reason = FinishReason.STOP if word is None else _REASONS.get(word, FinishReason.UNKNOWN)
    return [*events, UsageReported(usage=result.usage), Finished(reason=reason, raw=word)]
