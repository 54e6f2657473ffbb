"""Any object with a ``complete`` method as a model: it is told a conversation in words, and answers as a whole.

It takes texts of user and assistant, one system text, and tools without a choice among them. So earlier calls and
results are told in words; a tool that is forced is offered alone, which is what forces it; and once a single tool has
answered, none is offered until the user speaks again, or the model would call it for ever.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from nodellm_orm.domain.events import Finished
from nodellm_orm.domain.jsontext import dumps, encode, loads
from nodellm_orm.domain.messages import Origin
from nodellm_orm.domain.parts import MediaPart, RefusalPart, TextPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import SCHEMA_IN_WORDS
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import (
    ConfigurationError,
    ProtocolError,
    ProviderError,
    ProviderTimeoutError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.llm import LLMMessage, LLMTool
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.runtime.foreign_answer import events_of
from nodellm_orm.runtime.prompted import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.messages import Completion, Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.model import OnEvent, Trace

API: Final = "llm_client"
"""What is stored with chats in place of a wire format."""
_PROFILE: Final = ModelProfile(sampling=False, parallel_tool_calls=False, structured="none", media=("text",))


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
        clock: says when an answer came.
    """

    client: LLMClient
    name: str
    clock: Clock

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
            UnsupportedFeatureError: a file is attached that is no text, or whose content is elsewhere.
            ConfigurationError: the forced tool is not among the request's tools.
        """
        del cache
        newest = request.messages[-1] if request.messages else None
        if newest is not None and newest.role == "user":
            for part in newest.parts:
                if isinstance(part, MediaPart) and (part.media != "text" or part.data is None):
                    msg = f"{self.origin.provider} is given texts only; use a provider of this package for files"
                    raise UnsupportedFeatureError(msg)
        _asked(request)
        settings = request.settings
        left_out = {
            "temperature": settings.temperature is not None,
            "thinking": settings.thinking is not None,
            "parallel_tool_calls": settings.parallel_tool_calls is not None and bool(request.tools),
            "tool_choice": settings.tool_choice == REQUIRED and len(request.tools) > 1,
            "cache": bool(settings.cache),
            "params": bool(request.params),
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
            ProviderError: it was cancelled, though nobody has cancelled the turn.
        """
        del cache, headers
        try:
            result = await self._result(request, timeout)
            events = events_of(result, provider=self.origin.provider, model=self.name)
        except ProviderError as error:
            error.provider = error.provider or self.origin.provider
            error.model = error.model or self.name
            raise
        trace.first_token = self.clock.monotonic()
        trace.eventful = True
        for event in events:
            trace.folded.add(event)
        for event in events:
            if request.stream and not isinstance(event, Finished):
                await on_event(event)
        return trace.folded.completion()

    async def _result(self, request: ModelRequest, timeout: Timeout) -> object:
        provider, limit = self.origin.provider, asyncio.timeout(timeout.total)
        try:
            async with limit:
                answering: object = self.client.complete(**_arguments(self.name, request))
                if not inspect.isawaitable(answering):
                    msg = f"{provider}.complete() gave {type(answering).__name__} at once; write it as `async def`"
                    raise ProtocolError(msg, retryable=False)
                return await answering
        except TimeoutError as error:
            if not limit.expired():
                raise
            msg = f"{provider} did not answer within {timeout.total} seconds; raise timeout=, or ask again"
            raise ProviderTimeoutError(msg) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Handed on as it is, it would look to the caller as if he himself had been cancelled.
            msg = f"something inside {provider}.complete() was cancelled, and not by this turn; ask again, or resume()"
            raise ProviderError(msg) from error


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _arguments(name: str, request: ModelRequest) -> dict[str, Any]:
    """The keyword arguments of ``complete``."""
    system = [text for text in request.instructions if text.strip()]
    system += [message.content for message in request.messages if message.role == "system"]
    if request.settings.schema is not None:
        system.append(SCHEMA_IN_WORDS + request.settings.schema)
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
        words = _words(message)
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if not words:
            continue
        if told and told[-1].role == role:
            told[-1] = LLMMessage(role=role, content=f"{told[-1].content}\n\n{words}")
        else:
            told.append(LLMMessage(role=role, content=words))
    return told


def _words(message: Message) -> str:
    """What a message says: the texts of a model are pieces of one text, those of a user stand each for itself."""
    pieces: list[str] = []
    goes_on = False
    for part in message.parts:
        said = _said(part)
        if said and goes_on and isinstance(part, TextPart):
            pieces[-1] += said
        elif said:
            pieces.append(said)
            goes_on = message.role == "assistant" and isinstance(part, TextPart)
    return "\n\n".join(piece for piece in pieces if piece.strip())


def _said(part: Part) -> str:
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
