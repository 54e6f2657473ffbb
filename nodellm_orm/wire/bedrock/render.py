"""Values to the bytes of a Converse request.

What grows comes last: ``toolConfig`` with its tools at its end, ``system`` and ``messages`` end the body in that order,
so that those of one request are a prefix of those of the next, which is what prompt caches rest on. For the same reason
the marks up to which a prompt is cached stand behind the tools and the instructions and not behind the last message,
where each request would take away what the one before it had said.

The caller's own members (``params``) win: one of the top level takes the place of ours, but the members of an
``inferenceConfig``, ``toolConfig``, ``outputConfig`` or ``additionalModelRequestFields`` are merged into ours, and
tools (a ``systemTool``) are added to ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, RawJson, dumps, encode
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.bedrock.blocks import tool_name
from nodellm_orm.wire.bedrock.files import carrier
from nodellm_orm.wire.bedrock.models import path_of
from nodellm_orm.wire.bedrock.thinking import plan_thinking
from nodellm_orm.wire.bedrock.turns import turns
from nodellm_orm.wire.constrained import closed
from nodellm_orm.wire.media import refuse_unreadable
from nodellm_orm.wire.schemas import in_words, parsed

if TYPE_CHECKING:
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

FIELDS: Final = "additionalModelRequestFields"
_LAST: Final = ("toolConfig", "system", "messages")
_MERGED: Final = ("inferenceConfig", FIELDS, "outputConfig", "toolConfig")
_POINT: Final[Mapping[str, object]] = {"cachePoint": {"type": "default"}}
_GONE: Final = "This tool is not available any more; do not call it."
_ANSWER: Final = "answer"


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: blocks of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, and for a file that would not reach it.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    return posted(
        path_of(request.model, "converse-stream" if request.stream else "converse"),
        body_of(request, cache),
        stream=request.stream,
    )


def posted(path: str, body: Mapping[str, object], *, stream: bool = False) -> WireRequest:
    """A request with a JSON body.

    Args:
        path: where to.
        body: the members.
        stream: whether a stream is asked for.

    Raises:
        ConfigurationError: for what JSON does not have.
    """
    try:
        written = encode(dumps(body))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    return WireRequest(path=path, body=written, headers={"content-type": "application/json"}, stream=stream)


def body_of(request: ModelRequest, cache: RenderCache | None) -> dict[str, object]:
    """The members of a request, in the order they are sent in.

    Args:
        request: what to ask.
        cache: blocks of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: for a schema that is not a JSON object.
    """
    refuse_unreadable(request, carrier(request.profile))
    members, _ = _options(request)
    instructions = _instructions(request)
    by_user = request.profile.system_role == "user"
    members["system"] = None if by_user else _system(request, instructions)
    members["messages"] = turns(request, cache, instructions if by_user else ())
    members = _merged({name: value for name, value in members.items() if value is not None}, request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    return ordered | {name: members[name] for name in _LAST if name in members}


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer and with which tools, and the settings that cannot be said."""
    settings, profile, left_out = request.settings, request.profile, set[str]()
    choice = _tool_choice(request, left_out)
    plan = plan_thinking(request, forced=choice is not None)
    if plan.dropped:
        left_out.add("thinking")
    if plan.max_tokens is None and settings.max_tokens is not None:
        left_out.add("max_tokens")
    temperature = settings.temperature
    silenced = plan.thinks and (profile.thinking in {"budget", "adaptive"} or not profile.sampling_with_thinking)
    if temperature is not None and (silenced or not profile.sampling):
        left_out.add("temperature")
        temperature = None
    if settings.parallel_tool_calls is False and request.tools:
        left_out.add("parallel_tool_calls")
    if settings.cache and profile.cache_points == "none":
        left_out.add("cache")
    tools = _tool_config(request, choice, left_out)
    inference: dict[str, object] = {"maxTokens": plan.max_tokens, "temperature": temperature}
    fields = {**plan.fields}
    if tools is not None and _refuses_calls(request) and profile.tool_choice_none:
        fields["tool_choice"] = {"type": "none"}
    return {
        "inferenceConfig": {name: value for name, value in inference.items() if value is not None} or None,
        FIELDS: fields or None,
        "outputConfig": _output_config(request),
        "toolConfig": tools,
    }, left_out


def _form(request: ModelRequest) -> str:
    """The switch by which the form of the answer is asked for; ``none`` where words do, or no form is asked for."""
    profile = request.profile
    if request.settings.schema is None or (request.tools and not profile.structured_with_tools):
        return "none"
    return profile.structured


def _output_config(request: ModelRequest) -> dict[str, object] | None:
    schema = request.settings.schema
    if schema is None or _form(request) != "json_schema":
        return None
    described = {"schema": dumps(closed(schema)), "name": tool_name(request.settings.schema_name or _ANSWER)}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": described}}}


def _instructions(request: ModelRequest) -> list[str]:
    schema = request.settings.schema
    words = in_words(schema) if schema is not None and _form(request) != "json_schema" else ""
    return [text for text in (*request.instructions, words) if text.strip()]


def _system(request: ModelRequest, instructions: list[str]) -> list[object] | None:
    blocks: list[object] = [{"text": text} for text in instructions]
    if blocks and request.settings.cache and request.profile.cache_points != "none":
        blocks.append(_POINT)
    return blocks or None


def _tool_choice(request: ModelRequest, left_out: set[str]) -> dict[str, object] | None:
    """The choice where it forces a call; otherwise the model decides, or `_refuses_calls`."""
    wanted = request.settings.tool_choice or AUTO
    if wanted in {AUTO, NONE}:
        return None
    if not (request.tools and request.profile.forced_tool_choice):
        left_out.add("tool_choice")
        return None
    return {"any": {}} if wanted == REQUIRED else {"tool": {"name": tool_name(wanted)}}


def _refuses_calls(request: ModelRequest) -> bool:
    return not request.tools or request.settings.tool_choice == NONE


def _tool_config(
    request: ModelRequest, choice: dict[str, object] | None, left_out: set[str]
) -> dict[str, object] | None:
    """The tools, and also those that are called in the history: no request may have calls in it without any tools."""
    if request.tools and request.profile.tools != "native":
        msg = f"{request.model} takes no tools in this format; ask without tools, or use a model that has them"
        raise UnsupportedFeatureError(msg)
    called = _called(request)
    if _refuses_calls(request) and not (called or (request.tools and request.profile.tool_choice_none)):
        return None
    if request.tools and _refuses_calls(request) and not request.profile.tool_choice_none:
        left_out.add("tool_choice")
    strict = request.profile.structured == "json_schema"
    tools: list[object] = [_tool(tool, strict=strict and tool.strict) for tool in request.tools]
    tools += [] if tools else [_gone(name) for name in called]
    if request.settings.cache and request.profile.cache_points == "request" and not _instructions(request):
        tools.append(_POINT)
    return {**({} if choice is None else {"toolChoice": choice}), "tools": tools}


def _called(request: ModelRequest) -> list[str]:
    """Names of the tools that the history calls, in their order; a model without tools is told of calls in words."""
    if request.profile.tools == "none":
        return []
    calls = (call for message in request.messages if message.status == "complete" for call in message.tool_calls)
    return list(dict.fromkeys(tool_name(call.name) for call in calls))


def _gone(name: str) -> dict[str, object]:
    return {"toolSpec": {"name": name, "description": _GONE, "inputSchema": {"json": {"type": "object"}}}}


def _tool(tool: ToolSpec, *, strict: bool) -> dict[str, object]:
    described = {"description": tool.description} if tool.description else {}
    schema = parsed(tool.parameters)
    typed: object = RawJson(tool.parameters) if "type" in schema else {"type": "object", **schema}
    spec = {
        "name": tool_name(tool.name),
        **described,
        "inputSchema": {"json": closed(tool.parameters) if strict else typed},
    }
    return {"toolSpec": {**spec, "strict": True} if strict else spec}


def _merged(members: dict[str, object], params: Mapping[str, object]) -> dict[str, object]:
    own = dict(params)
    for name in _MERGED:
        ours, theirs = members.get(name), own.get(name)
        if not isinstance(ours, dict) or not isinstance(theirs, Mapping):
            continue
        own[name] = _with_tools(ours, theirs) if name == "toolConfig" else {**ours, **theirs}
    return {**members, **own}


def _with_tools(ours: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, object]:
    """Both tool configurations in one, the tools at its end and the caller's behind ours."""
    choice = {name: value for name, value in {**ours, **theirs}.items() if name != "tools"}
    tools = [tool for side in (ours, theirs) if isinstance(given := side.get("tools"), list | tuple) for tool in given]
    return {**choice, "tools": tools}
