"""Values to the bytes of a Messages request.

What grows comes last: ``tools``, ``system`` and ``messages`` end the body in that order, so that those of one request
are a prefix of those of the next, which is what prompt caches and the signatures of thinking rest on.

The API version sent is ``2023-06-01``. The only later one, ``2026-10-21``, adds nothing this format uses, refuses the
sampling parameters that older models still take, and is unknown to many gateways; models that refuse sampling on any
version are told apart by their profile. A caller's own header ``anthropic-version`` wins.

A ``cache_control`` among the caller's own members (``params``) takes the place of every breakpoint set here, so that
one with an hour to live is not preceded by one with five minutes, which the API refuses.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, RawJson, dumps, encode
from nodellm_orm.domain.parts import MediaPart
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.anthropic.beside import container_of
from nodellm_orm.wire.anthropic.blocks import is_given
from nodellm_orm.wire.anthropic.files import carrier
from nodellm_orm.wire.anthropic.thinking import plan_thinking
from nodellm_orm.wire.anthropic.turns import turns
from nodellm_orm.wire.constrained import closed
from nodellm_orm.wire.media import given_parts, refuse_unreadable
from nodellm_orm.wire.schemas import in_words, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.wire.anthropic.thinking import ThinkingPlan

VERSIONED: Final = MappingProxyType({"anthropic-version": "2023-06-01"})
_FILES_BETA: Final = "files-api-2025-04-14"
_PATH: Final = "/v1/messages"
_BREAKPOINT: Final[Mapping[str, object]] = MappingProxyType({"type": "ephemeral"})
_LAST: Final = ("tools", "system", "messages")


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: blocks of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, and for a file that would not reach it.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    return posted(request, _PATH, body_of(request, cache), stream=request.stream)


def posted(request: ModelRequest, path: str, body: Mapping[str, object], *, stream: bool = False) -> WireRequest:
    """A request with a body.

    Args:
        request: says whether files of the provider's own are named, which it wants to be told.
        path: where to.
        body: the members.
        stream: whether events are asked for.

    Raises:
        ConfigurationError: for what JSON does not have.
    """
    try:
        written = encode(dumps(body))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    uploaded = any(
        isinstance(part, MediaPart) and part.file_id
        for message in request.messages
        for part in given_parts(message, request)
    )
    beta = {"anthropic-beta": _FILES_BETA} if uploaded else {}
    return WireRequest(
        path=path, body=written, headers={"content-type": "application/json", **VERSIONED, **beta}, stream=stream
    )


def body_of(request: ModelRequest, cache: RenderCache | None) -> dict[str, object]:
    """The members of a request, in the order they are sent in.

    Args:
        request: what to ask.
        cache: blocks of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: for a schema that is not a JSON object.
    """
    refuse_unreadable(request, carrier(request.profile), is_given)
    members, _ = _options(request)
    members |= {"tools": _tools(request), "system": _system(request)}
    members["messages"] = turns(request, cache)
    members = {name: value for name, value in members.items() if value is not None} | dict(request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    return ordered | {name: members[name] for name in _LAST if name in members}


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer, and the settings that cannot be said."""
    settings, left_out = request.settings, set[str]()
    choice = _tool_choice(request, left_out)
    plan = plan_thinking(request, forced=choice is not None and choice["type"] in {"any", "tool"})
    if plan.dropped:
        left_out.add("thinking")
    temperature = settings.temperature
    if temperature is not None and (plan.thinks or not request.profile.sampling):
        left_out.add("temperature")
        temperature = None
    members: dict[str, object] = {
        "model": request.model,
        "max_tokens": plan.max_tokens,
        "stream": True if request.stream else None,
        "temperature": temperature,
        "thinking": plan.thinking,
        "output_config": _output_config(request, plan),
        "tool_choice": choice,
        # A breakpoint of the request's own moves with its end; one on the last message would change that message.
        "cache_control": _breakpoint(request),
        "container": container_of(request),
    }
    return members, left_out


def _output_config(request: ModelRequest, plan: ThinkingPlan) -> dict[str, object] | None:
    config: dict[str, object] = {}
    if plan.effort is not None:
        config["effort"] = plan.effort
    if request.settings.schema is not None and request.profile.structured == "json_schema":
        config["format"] = {"type": "json_schema", "schema": closed(request.settings.schema)}
    return config or None


def _tool_choice(request: ModelRequest, left_out: set[str]) -> dict[str, object] | None:
    settings, profile = request.settings, request.profile
    wanted = settings.tool_choice or AUTO
    forces = wanted not in {AUTO, NONE}
    if not request.tools:
        if forces:
            left_out.add("tool_choice")
        return None
    if forces and not profile.forced_tool_choice:
        left_out.add("tool_choice")
        wanted, forces = AUTO, False
    kinds = {AUTO: "auto", NONE: "none", REQUIRED: "any"}
    choice: dict[str, object] = {"type": kinds[wanted]} if wanted in kinds else {"type": "tool", "name": wanted}
    if settings.parallel_tool_calls is False and wanted != NONE:
        if profile.parallel_tool_calls:
            choice["disable_parallel_tool_use"] = True
        else:
            left_out.add("parallel_tool_calls")
    return None if choice == {"type": "auto"} else choice


def _tools(request: ModelRequest) -> list[dict[str, object]] | None:
    if not request.tools:
        return None
    if request.profile.tools != "native":
        msg = f"{request.model} takes no tools in this format; ask without tools, or use a model that has them"
        raise UnsupportedFeatureError(msg)
    strict = request.profile.structured == "json_schema"
    tools = [_tool(tool, strict=strict and tool.strict) for tool in request.tools]
    if (mark := _breakpoint(request)) is not None and not _instructions(request):
        tools[-1]["cache_control"] = mark
    return tools


def _tool(tool: ToolSpec, *, strict: bool) -> dict[str, object]:
    rendered: dict[str, object] = {"name": tool.name}
    if tool.description:
        rendered["description"] = tool.description
    if strict:
        return {**rendered, "strict": True, "input_schema": closed(tool.parameters)}
    schema = parsed(tool.parameters)
    typed = RawJson(tool.parameters) if "type" in schema else {"type": "object", **schema}
    return {**rendered, "input_schema": typed}


def _system(request: ModelRequest) -> list[dict[str, object]] | None:
    blocks: list[dict[str, object]] = [{"type": "text", "text": text} for text in _instructions(request)]
    if blocks and (mark := _breakpoint(request)) is not None:
        # Tools and instructions are the same in every chat of an application: this one is read across chats.
        blocks[-1]["cache_control"] = mark
    return blocks or None


def _breakpoint(request: ModelRequest) -> object | None:
    """What marks the end of something that is cached, where caching is asked for."""
    return (request.params.get("cache_control") or _BREAKPOINT) if request.settings.cache else None


def _instructions(request: ModelRequest) -> list[str]:
    schema = request.settings.schema
    words = in_words(schema) if schema is not None and request.profile.structured != "json_schema" else ""
    return [text for text in (*request.instructions, words) if text.strip()]
