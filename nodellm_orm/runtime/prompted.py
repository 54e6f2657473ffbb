"""Tools for models whose server ignores native ones: a call is asked for as a structured answer.

Such a model calls the tool it is told to, and no other: left to itself (``tool_choice`` ``auto``) it gives plain text.

==========================  =====================================================================================
``tool_choice``             what goes out, always without ``tools``
==========================  =====================================================================================
a tool's name               the schema of its arguments as the schema of the answer, temperature 0
``required``, one tool      the same
``required``, several       one schema for all: ``{"tool": <name>, "arguments": …}``, temperature 0
``auto``, ``none``          the plain request
==========================  =====================================================================================

Earlier calls and their results go out as text, in words that small models understand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, loads_verbatim
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.parts import TextPart, ToolCallPart
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.runtime.inquiry import Countable
from nodellm_orm.runtime.model import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.parts import Part, ToolResultPart
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.model import Model, OnEvent

_CHOICE: Final = "tool_call"
"""Name of the schema that lets the model choose among tools."""
_AS_THEY_ARE: Final = frozenset({FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.PAUSE})


@dataclass(frozen=True, slots=True)
class PromptedModel:
    """A model with prompted tools, over any wire format that has structured answers.

    Args:
        inner: the model behind it, which never sees a tool.
    """

    inner: Model

    @property
    def origin(self) -> Origin:
        """Provider, wire format, endpoint and model."""
        return self.inner.origin

    @property
    def profile(self) -> ModelProfile:
        """What it accepts."""
        return self.inner.profile

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Refuse what cannot be sent; name what will be left out: ``tools`` too, where the model may answer in text.

        Raises:
            ConfigurationError: the forced tool is not among the request's tools.
        """
        left_out = self.inner.check(rewritten(request), _usable(request, cache))
        unused = request.tools and not _asked(request) and request.settings.tool_choice != NONE
        return (*left_out, "tools") if unused else left_out

    async def count(self, request: ModelRequest, *, engine: Engine, timeout: Timeout) -> int:
        """The tokens of the request that goes out (see `Countable`)."""
        if not isinstance(self.inner, Countable):
            msg = f"{self.origin.provider} does not count tokens ahead; ask, and read reply.usage"
            raise UnsupportedFeatureError(msg)
        return await self.inner.count(rewritten(request), engine=engine, timeout=timeout)

    def render(self, request: ModelRequest) -> WireRequest:
        """The exact request that would be sent, without host and key."""
        return self.inner.render(rewritten(request))

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
        """Make one attempt; where a call is asked for, the answer is held back until it is whole.

        Raises:
            ProviderError: when it fails; ``trace`` keeps what had arrived.
        """
        plain, usable = rewritten(request), _usable(request, cache)
        asked = _asked(request)
        if not asked:
            return await self.inner.send(
                plain, cache=usable, timeout=timeout, headers=headers, trace=trace, on_event=on_event
            )
        within = Trace(trace.began)
        try:
            answer = await self.inner.send(
                plain, cache=usable, timeout=timeout, headers=headers, trace=within, on_event=_hold_back
            )
        except BaseException:
            if within.eventful:
                _retell(within.folded.completion(complete=False), asked, trace)
            raise
        finally:
            trace.http_status, trace.request_id = within.http_status, within.request_id
            trace.rate_limits = within.rate_limits
            trace.first_token = within.first_token
        if not request.stream:
            return _fold(_events(answer, asked)).completion()
        for event in _retell(answer, asked, trace):
            await on_event(event)
        return trace.folded.completion()


def with_tools(model: Model) -> Model:
    """The model, with prompted tools where its profile says that it needs them."""
    return PromptedModel(model) if model.profile.tools == "prompted" else model


# ── the request ───────────────────────────────────────────────────────────────────────────────────────────────────────


def rewritten(request: ModelRequest) -> ModelRequest:
    """The request that really goes out.

    Args:
        request: one with tools, a tool choice, and calls and results in its history.

    Raises:
        ConfigurationError: the forced tool is not among the request's tools.
    """
    settings = replace(request.settings, tool_choice=None, parallel_tool_calls=None)
    asked = _asked(request)
    if asked:
        only = asked[0] if len(asked) == 1 else None
        settings = replace(
            settings,
            schema=only.parameters if only else _choice_schema(asked),
            schema_name=only.name if only else _CHOICE,
            temperature=0 if request.profile.sampling else settings.temperature,
        )
    return replace(request, tools=(), settings=settings, messages=as_text(request.messages))


def _asked(request: ModelRequest) -> tuple[ToolSpec, ...]:
    """The tools of which exactly one has to be called now; none when the model may answer in text."""
    choice = request.settings.tool_choice or AUTO
    if choice in {AUTO, NONE}:
        return ()
    if choice == REQUIRED:
        return request.tools
    named = tuple(tool for tool in request.tools if tool.name == choice)
    if not named:
        known = ", ".join(tool.name for tool in request.tools) or "none"
        msg = f"tool_choice={choice!r} is not one of the tools given ({known}); give the tool, or choose another"
        raise ConfigurationError(msg)
    return named


def _choice_schema(tools: Sequence[ToolSpec]) -> JsonText:
    variants: list[object] = []
    for tool in tools:
        properties = {"tool": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/{tool.name}"}}
        variants.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["tool", "arguments"],
                "additionalProperties": False,
            }
        )
    definitions = {tool.name: _moved(loads_verbatim(tool.parameters), f"#/$defs/{tool.name}") for tool in tools}
    return dumps({"anyOf": variants, "$defs": definitions})


def _moved(schema: object, place: str) -> object:
    """A schema that is no longer the root of its document: references into it start at its new place."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, Pairs):
        return schema
    return Pairs(
        (key, place + value.removeprefix("#"))
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else (key, _moved(value, place))
        for key, value in schema
    )


def as_text(messages: Sequence[Message]) -> tuple[Message, ...]:
    """A history in which calls and results are told in words; messages without any stay the same objects.

    The assistant's line names tool and arguments, the user's line that follows carries the result. The results of one
    round become one message, for some models insist on turns that alternate.

    Args:
        messages: user, assistant and tool messages in order.
    """
    told: list[Message] = []
    results: list[ToolResultPart] = []
    for message in messages:
        if message.role == "tool":
            results.extend(message.tool_results)
            continue
        if results:
            told.append(_told_results(results))
            results = []
        told.append(_told_calls(message))
    if results:
        told.append(_told_results(results))
    return tuple(told)


def _told_results(results: Sequence[ToolResultPart]) -> Message:
    lines = (f"The tool {r.name} {'failed' if r.is_error else 'returned'}: {r.content}" for r in results)
    return Message(role="user", parts=(TextPart(text="\n".join(lines)),))


def _told_calls(message: Message) -> Message:
    if not message.tool_calls or message.status == "partial":
        return message
    lines = [message.content.strip()] if message.content.strip() else []
    lines += [f"Calling the tool {call.name} with {call.arguments}." for call in message.tool_calls]
    kept: list[Part] = [part for part in message.parts if not isinstance(part, TextPart | ToolCallPart)]
    return replace(message, parts=(*kept, TextPart(text="\n".join(lines))))


def _usable(request: ModelRequest, cache: RenderCache | None) -> RenderCache | None:
    """The cache holds on to every message rendered: it is kept from those that are made anew for each request."""
    retold = any(message.role == "tool" or message.tool_calls for message in request.messages)
    return None if retold else cache


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _hold_back(event: Event) -> None:
    """The pieces of an answer that is going to be a call are nothing to show."""
    del event


def _retell(answer: Completion, asked: Sequence[ToolSpec], trace: Trace) -> list[Event]:
    events = _events(answer, asked)
    trace.eventful = True
    for event in events:
        trace.folded.add(event)
    return events


def _fold(events: Sequence[Event]) -> Accumulator:
    folded = Accumulator()
    for event in events:
        folded.add(event)
    return folded


def _events(answer: Completion, asked: Sequence[ToolSpec]) -> list[Event]:
    """The answer, told again with its text as a call."""
    parts = _with_call(answer, asked)
    return [
        ResponseStarted(model=answer.model, response_id=answer.response_id),
        *(PartReceived(index=index, part=part) for index, part in enumerate(parts)),
        UsageReported(usage=answer.usage),
        Finished(reason=answer.finish_reason, raw=answer.raw_finish_reason),
    ]


def _with_call(answer: Completion, asked: Sequence[ToolSpec]) -> tuple[Part, ...]:
    text = answer.text.strip()
    if not text or answer.finish_reason in _AS_THEY_ARE:
        return answer.parts
    call = _only_call(text, asked[0]) if len(asked) == 1 else _chosen_call(text)
    if call is None:
        return answer.parts
    return (*(part for part in answer.parts if not isinstance(part, TextPart)), call)


def _only_call(text: str, tool: ToolSpec) -> ToolCallPart:
    return ToolCallPart(call_id="", name=tool.name, arguments=text)


def _chosen_call(text: str) -> ToolCallPart | None:
    """The call that an answer to a choice stands for; ``None`` when it is cut off or is none."""
    try:
        members = loads_verbatim(text)
    except JsonTextError:
        return None
    found = dict(members) if isinstance(members, Pairs) else {}
    name = found.get("tool")
    if not isinstance(name, str) or "arguments" not in found:
        return None
    return ToolCallPart(call_id="", name=name, arguments=dumps(found["arguments"]))
