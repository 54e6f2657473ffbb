"""Values to the bytes of a request.

What grows comes last: ``tools``, ``systemInstruction`` and ``contents`` end the body in that order, so that those of
one request are a prefix of those of the next, which is what prompt caches rest on.

The caller's own members (``params``) win: one of the top level takes the place of ours, but the members of a
``generationConfig`` or ``toolConfig`` are merged into ours, so that ``{"generationConfig": {"topK": 1}}`` leaves the
temperature where it was. Names in snake case are understood there as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from nodellm_orm.domain.jsontext import JsonTextError, dumps, encode
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.gemini.contents import contents
from nodellm_orm.wire.gemini.files import carrier
from nodellm_orm.wire.gemini.schema import known
from nodellm_orm.wire.gemini.thinking import plan_thinking
from nodellm_orm.wire.media import refuse_unreadable
from nodellm_orm.wire.schemas import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_LAST: Final = ("tools", "systemInstruction", "contents")
_MERGED: Final = ("generationConfig", "toolConfig")
_SNAKE: Final = {
    "generation_config": "generationConfig",
    "tool_config": "toolConfig",
    "system_instruction": "systemInstruction",
}
_AFTER_UNDERSCORE: Final = re.compile(r"_([a-z0-9])")
_COLLECTIONS: Final = ("models", "tunedModels")


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, and for a file that would not reach it.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return posted(request, method, body_of(request, cache))


def posted(request: ModelRequest, method: str, body: Mapping[str, object]) -> WireRequest:
    """A request to a method of the model.

    Args:
        request: says which model.
        method: its name, with its query.
        body: the members.

    Raises:
        ConfigurationError: for what JSON does not have.
    """
    try:
        written = encode(dumps(body))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    collection, name = _named(request.model)
    return WireRequest(
        path=f"/{collection}/{quote(name, safe='')}:{method}",
        body=written,
        headers={"content-type": "application/json"},
        stream=request.stream,
    )


def resource_of(model: str) -> str:
    """The name of a model as the API has it in a body.

    Args:
        model: its name, with or without ``models/`` before it.
    """
    return "/".join(_named(model))


def body_of(request: ModelRequest, cache: RenderCache | None) -> dict[str, object]:
    """The members of a request, in the order they are sent in.

    Args:
        request: what to ask.
        cache: messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: for a schema that is not a JSON object.
    """
    refuse_unreadable(request, carrier(request.profile))
    members, _ = _options(request)
    instructions = _instructions(request)
    by_user = request.profile.system_role == "user"
    members |= {
        "tools": _tools(request),
        "systemInstruction": {"parts": [{"text": text} for text in instructions]}
        if instructions and not by_user
        else None,
        "contents": contents(request, cache, instructions if by_user else ()),
    }
    members = _merged({name: value for name, value in members.items() if value is not None}, request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    return ordered | {name: members[name] for name in _LAST if name in members}


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _named(model: str) -> tuple[str, str]:
    collection, slash, name = model.partition("/")
    return (collection, name) if slash and collection in _COLLECTIONS else (_COLLECTIONS[0], model)


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer, and the settings that cannot be said."""
    settings, profile, left_out = request.settings, request.profile, set[str]()
    plan = plan_thinking(settings.thinking, profile)
    if plan.dropped:
        left_out.add("thinking")
    thinks = plan.config is not None and "includeThoughts" in plan.config
    temperature = settings.temperature
    if temperature is not None and not (profile.sampling and (profile.sampling_with_thinking or not thinks)):
        left_out.add("temperature")
        temperature = None
    if settings.parallel_tool_calls is False and request.tools:
        left_out.add("parallel_tool_calls")
    form = _form(request)
    config: dict[str, object] = {
        "maxOutputTokens": _max_tokens(request),
        "temperature": temperature,
        "thinkingConfig": plan.config,
        "responseMimeType": None if form == "none" else "application/json",
        "responseJsonSchema": known(settings.schema) if settings.schema is not None and form == "json_schema" else None,
    }
    config = {name: value for name, value in config.items() if value is not None}
    choice = _tool_choice(request, left_out)
    return {
        "generationConfig": config or None,
        "toolConfig": {"functionCallingConfig": choice} if choice is not None else None,
    }, left_out


def _max_tokens(request: ModelRequest) -> int | None:
    asked, cap = request.settings.max_tokens, request.profile.max_output_tokens
    return asked if asked is None or cap is None else min(asked, cap)


def _form(request: ModelRequest) -> str:
    """The switch by which the form of the answer is asked for; ``none`` where words do, or no form is asked for."""
    profile = request.profile
    if request.settings.schema is None or (request.tools and not profile.structured_with_tools):
        return "none"
    return profile.structured


def _instructions(request: ModelRequest) -> list[str]:
    schema = request.settings.schema
    words = in_words(schema) if schema is not None and _form(request) != "json_schema" else ""
    return [text for text in (*request.instructions, words) if text.strip()]


def _tool_choice(request: ModelRequest, left_out: set[str]) -> dict[str, object] | None:
    wanted = request.settings.tool_choice or AUTO
    if wanted == AUTO or (wanted == NONE and not request.tools):
        return None
    if wanted == NONE:
        return {"mode": "NONE"}
    if not (request.tools and request.profile.forced_tool_choice):
        left_out.add("tool_choice")
        return None
    return {"mode": "ANY"} if wanted == REQUIRED else {"mode": "ANY", "allowedFunctionNames": [wanted]}


def _tools(request: ModelRequest) -> list[dict[str, object]] | None:
    if not request.tools:
        return None
    if request.profile.tools != "native":
        msg = f"{request.model} takes no tools in this format; ask without tools, or use a model that has them"
        raise UnsupportedFeatureError(msg)
    declared: list[dict[str, object]] = []
    for tool in request.tools:
        description = {"description": tool.description} if tool.description else {}
        schema = known(tool.parameters)
        typed = schema if "type" in schema else {"type": "object", **schema}
        declared.append({"name": tool.name, **description, "parametersJsonSchema": typed})
    return [{"functionDeclarations": declared}]


def _merged(members: dict[str, object], params: Mapping[str, object]) -> dict[str, object]:
    own = {_SNAKE.get(name, name): value for name, value in params.items()}
    for name in _MERGED:
        ours, theirs = members.get(name), own.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            own[name] = {**ours, **{_AFTER_UNDERSCORE.sub(_upper, key): value for key, value in theirs.items()}}
    return {**members, **own}


def _upper(found: re.Match[str]) -> str:
    return found[1].upper()
