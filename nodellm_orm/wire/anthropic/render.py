"""Values to the bytes of a Messages request.

What grows comes last: ``tools``, ``system`` and ``messages`` end the body in that order, so that those of one request
are a prefix of those of the next, which is what prompt caches and the signatures of thinking rest on.

The API version sent is ``2023-06-01``. The only later one, ``2026-10-21``, adds nothing this format uses, refuses the
sampling parameters that older models still take, and is unknown to many gateways; models that refuse sampling on any
version are told apart by their profile. A caller's own header ``anthropic-version`` wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import RawJson, dumps, encode
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.anthropic.schema import closed
from nodellm_orm.wire.anthropic.thinking import plan_thinking
from nodellm_orm.wire.anthropic.turns import turns
from nodellm_orm.wire.schemas import in_words, parsed

if TYPE_CHECKING:
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.wire.anthropic.thinking import ThinkingPlan

API_VERSION: Final = "2023-06-01"
_PATH: Final = "/v1/messages"
_BREAKPOINT: Final = {"type": "ephemeral"}
_LAST: Final = ("tools", "system", "messages")


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: blocks of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none.
    """
    members, _ = _options(request)
    members |= {"tools": _tools(request), "system": _system(request)}
    members["messages"] = turns(request.messages, request.target, cache)
    members = {name: value for name, value in members.items() if value is not None} | dict(request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    ordered |= {name: members[name] for name in _LAST if name in members}
    return WireRequest(
        path=_PATH,
        body=encode(dumps(ordered)),
        headers={"content-type": "application/json", "anthropic-version": API_VERSION},
        stream=request.stream,
    )


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
        "cache_control": _BREAKPOINT if settings.cache else None,
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
    if request.settings.cache and not _instructions(request):
        tools[-1]["cache_control"] = _BREAKPOINT
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
    if blocks and request.settings.cache:
        # Tools and instructions are the same in every chat of an application: this one is read across chats.
        blocks[-1]["cache_control"] = _BREAKPOINT
    return blocks or None


def _instructions(request: ModelRequest) -> list[str]:
    schema = request.settings.schema
    words = in_words(schema) if schema is not None and request.profile.structured != "json_schema" else ""
    return [text for text in (*request.instructions, words) if text.strip()]
