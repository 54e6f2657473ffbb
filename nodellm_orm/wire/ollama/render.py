"""Values to the bytes of a request.

What grows comes last: ``tools`` and ``messages`` end the body in that order, instructions first among the messages,
so that those of one request are a prefix of those of the next, which is what the server's own prompt cache rests on.

Left to itself, the server drops the oldest messages of a conversation that is longer than the context it has loaded the
model with, and answers as if nothing had happened. ``truncate`` and ``shift`` are therefore switched off: too long a
conversation is an error, and an answer that runs out of room ends with the reason ``length``. How large that context is
can be said with ``params={"options": {"num_ctx": 32768}}``, or for all chats in the model's profile
(``context_window``); older servers ignore the switches and are short of memory all the same.

The caller's own members (``params``) win: one of the top level takes the place of ours, but those of ``options`` are
merged into ours, and names that belong there (``seed``, ``top_k`` …) are put there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.effort import effort_of, is_off, nearest_effort
from nodellm_orm.domain.jsontext import JsonTextError, RawJson, dumps, encode
from nodellm_orm.domain.tools import AUTO, NONE
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.media import refuse_unreadable
from nodellm_orm.wire.ollama.files import carries
from nodellm_orm.wire.ollama.messages import wire_messages
from nodellm_orm.wire.schemas import in_words, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.settings import ThinkingConfig
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_PATH: Final = "/api/chat"
_LAST: Final = ("tools", "messages")
_OPTIONS: Final = frozenset(
    {
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_last_n",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "use_mmap",
    }
)
"""Names that mean something among the ``options`` only; elsewhere the server ignores them."""
_CLOUD: Final = "https://ollama.com"


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, and for a file that would not reach it.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    refuse_unreadable(request, carries)
    members, _ = _options(request)
    members |= {"format": _format(request), "tools": _tools(request)}
    members["messages"] = [*_instructions(request), *wire_messages(request, cache)]
    members = _merged({name: value for name, value in members.items() if value is not None}, request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    ordered |= {name: members[name] for name in _LAST if name in members}
    try:
        body = encode(dumps(ordered))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    return WireRequest(path=_PATH, body=body, headers={"content-type": "application/json"}, stream=request.stream)


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer, and the settings that cannot be said."""
    settings, profile, left_out = request.settings, request.profile, set[str]()
    think = None if settings.thinking is None else _think(settings.thinking, request, left_out)
    temperature = settings.temperature
    if temperature is not None and not (profile.sampling and (profile.sampling_with_thinking or not think)):
        left_out.add("temperature")
        temperature = None
    if (settings.tool_choice or AUTO) not in {AUTO, NONE}:
        left_out.add("tool_choice")
    if settings.parallel_tool_calls is False and request.tools:
        left_out.add("parallel_tool_calls")
    options: dict[str, object] = {
        "num_ctx": profile.context_window,
        "num_predict": _max_tokens(request),
        "temperature": temperature,
    }
    return {
        "model": request.model,
        # Without a word about it, the server streams.
        "stream": request.stream,
        "think": think,
        "truncate": False,
        "shift": False,
        "options": {name: value for name, value in options.items() if value is not None} or None,
    }, left_out


def _max_tokens(request: ModelRequest) -> int | None:
    asked, cap = request.settings.max_tokens, request.profile.max_output_tokens
    return asked if asked is None or cap is None else min(asked, cap)


def _think(config: ThinkingConfig, request: ModelRequest, left_out: set[str]) -> bool | str | None:
    profile = request.profile
    if is_off(config):
        match profile.thinking_off:
            case "omit":
                return None
            case "disabled" | "between_tools":
                return False
            case "never":
                left_out.add("thinking")
                return nearest_effort("minimal", profile.efforts)
            case _:
                assert_never(profile.thinking_off)
    match profile.thinking:
        case "none":
            left_out.add("thinking")
            return None
        case "budget" | "adaptive":
            return True
        case "effort":
            effort = nearest_effort(effort_of(config) or "medium", profile.efforts)
            if effort is None:
                left_out.add("thinking")
            return effort
        case _:
            assert_never(profile.thinking)


def _uses_tools(request: ModelRequest) -> bool:
    """Whether the tools go along: there is no other way to say that none may be called."""
    return bool(request.tools) and request.settings.tool_choice != NONE


def _tools(request: ModelRequest) -> list[dict[str, object]] | None:
    if request.tools and request.profile.tools != "native":
        msg = f"{request.model} takes no tools in this format; ask without tools, or use a model that has them"
        raise UnsupportedFeatureError(msg)
    return [_tool(tool) for tool in request.tools] if _uses_tools(request) else None


def _tool(tool: ToolSpec) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    schema = parsed(tool.parameters)
    function["parameters"] = RawJson(tool.parameters) if "type" in schema else {"type": "object", **schema}
    return {"type": "function", "function": function}


def _form(request: ModelRequest) -> str:
    """The switch by which the form of the answer is asked for; a form would keep the model from calling tools."""
    if request.settings.schema is None or (_uses_tools(request) and not request.profile.structured_with_tools):
        return "none"
    return request.profile.structured


def _format(request: ModelRequest) -> object | None:
    schema = request.settings.schema
    if schema is None:
        return None
    parsed(schema)
    match _form(request):
        case "json_schema":
            return RawJson(schema)
        case "json_object":
            return "json"
        case _:
            return None


def _instructions(request: ModelRequest) -> list[dict[str, str]]:
    """One message: the templates of many models know no second one."""
    schema = request.settings.schema
    words = in_words(schema) if schema is not None and (_form(request) != "json_schema" or _is_cloud(request)) else ""
    texts = [text for text in (*request.instructions, words) if text.strip()]
    role = "user" if request.profile.system_role == "user" else "system"
    return [{"role": role, "content": "\n\n".join(texts)}] if texts else []


def _is_cloud(request: ModelRequest) -> bool:
    """Whether the model runs at Ollama's own place, which takes a form and does not hold the answer to it."""
    return request.model.endswith(("-cloud", ":cloud")) or request.target.endpoint.startswith(_CLOUD)


def _merged(members: dict[str, object], params: Mapping[str, object]) -> dict[str, object]:
    own = {name: value for name, value in params.items() if name not in _OPTIONS}
    options = {name: value for name, value in params.items() if name in _OPTIONS}
    ours, theirs = members.get("options", {}), own.get("options", {})
    if isinstance(ours, dict) and isinstance(theirs, dict) and (ours or theirs or options):
        own["options"] = {**ours, **options, **theirs}
    return {**members, **own}
