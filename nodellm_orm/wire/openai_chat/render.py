"""Values to the bytes of a Chat Completions request.

What grows comes last: ``tools`` and ``messages`` end the body in that order, instructions first among the messages,
so that those of one request are a prefix of those of the next, which is what prompt caches rest on.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, dumps, encode
from nodellm_orm.domain.tools import NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.media import refuse_unreadable
from nodellm_orm.wire.openai import chosen_tool, max_tokens, offered, parallel, parameters_of
from nodellm_orm.wire.openai_chat.files import carrier
from nodellm_orm.wire.openai_chat.messages import wire_messages
from nodellm_orm.wire.openai_chat.structured import response_format
from nodellm_orm.wire.openai_chat.thinking import thinking_members, turned_off
from nodellm_orm.wire.schemas import is_closed

if TYPE_CHECKING:
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_PATH: Final = "/chat/completions"
_LAST: Final = ("tools", "messages")
_BREAKPOINT: Final = MappingProxyType({"type": "ephemeral"})


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, and for a new file that cannot reach it.
        AttachmentError: for a file whose bytes are not here.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    refuse_unreadable(request, carrier(request.profile))
    members, _ = _options(request)
    form, words = response_format(request)
    members |= {"response_format": form, "tools": _tools(request)}
    members["messages"] = [*_instructions(request, words), *wire_messages(request, cache)]
    members = {name: value for name, value in members.items() if value is not None} | dict(request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    ordered |= {name: members[name] for name in _LAST if name in members}
    try:
        body = encode(dumps(ordered))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    return WireRequest(
        path=_PATH,
        body=body,
        headers={"content-type": "application/json"},
        stream=request.stream,
    )


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer, and the settings that cannot be said."""
    settings, profile, left_out = request.settings, request.profile, set[str]()
    thinking, thinks = thinking_members(request, left_out)
    temperature = settings.temperature
    if temperature is not None and not (profile.sampling and (profile.sampling_with_thinking or not thinks)):
        left_out.add("temperature")
        temperature = None
    members: dict[str, object] = {
        "model": request.model,
        "stream": True if request.stream else None,
        "stream_options": {"include_usage": True} if request.stream and profile.stream_usage else None,
        profile.max_tokens_field: max_tokens(request),
        "temperature": temperature,
        **thinking,
        "tool_choice": _tool_choice(request, left_out),
        "parallel_tool_calls": parallel(request, left_out),
        # A breakpoint of the request's own moves with its end; one on the last message would change that message.
        "cache_control": _BREAKPOINT if settings.cache and profile.cache_points == "request" else None,
    }
    return members, left_out


def _tool_choice(request: ModelRequest, left_out: set[str]) -> object | None:
    wanted = chosen_tool(request, left_out, thinks_not=turned_off(request))
    if wanted is None or wanted in {NONE, REQUIRED}:
        return wanted
    return {"type": "function", "function": {"name": wanted}}


def _tools(request: ModelRequest) -> list[dict[str, object]] | None:
    strict = request.profile.structured == "json_schema"
    tools: list[dict[str, object]] = [
        {"type": "function", "function": _function(tool, strict=strict)} for tool in offered(request)
    ]
    if tools and request.settings.cache and request.profile.cache_points == "request" and not any(_told(request, None)):
        tools[-1]["cache_control"] = _BREAKPOINT
    return tools or None


def _function(tool: ToolSpec, *, strict: bool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = parameters_of(tool)
    if strict and tool.strict and is_closed(tool.parameters):
        function["strict"] = True
    return function


def _told(request: ModelRequest, words: str | None) -> list[str]:
    """The instructions that say something, and what else has to be said in words."""
    return [text for text in (*request.instructions, words or "") if text.strip()]


def _instructions(request: ModelRequest, words: str | None) -> list[dict[str, object]]:
    texts, profile = _told(request, words), request.profile
    if profile.one_system_message and texts:
        texts = ["\n\n".join(texts)]
    messages: list[dict[str, object]] = [{"role": profile.system_role, "content": text} for text in texts]
    if messages and request.settings.cache and profile.cache_points != "none":
        messages[-1]["content"] = [{"type": "text", "text": texts[-1], "cache_control": _BREAKPOINT}]
    return messages
