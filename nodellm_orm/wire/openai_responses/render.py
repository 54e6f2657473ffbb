"""Values to the bytes of a Responses request.

The provider keeps nothing: the conversation is sent whole each time, with the encrypted form of what the model thought.
What grows comes last: ``tools`` and ``input`` end the body in that order, each instruction an item of its own at the
beginning, so that those of one request are a prefix of those of the next, which is what prompt caches rest on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import JsonTextError, RawJson, dumps, encode
from nodellm_orm.domain.tools import NONE, REQUIRED
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.media import refuse_unreadable
from nodellm_orm.wire.openai import chosen_tool, max_tokens, offered, parallel, parameters_of
from nodellm_orm.wire.openai_responses.files import carrier
from nodellm_orm.wire.openai_responses.history import input_items, system_item
from nodellm_orm.wire.openai_responses.thinking import may_sample, reasoning, turned_off
from nodellm_orm.wire.schemas import in_words, is_closed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_PATH: Final = "/responses"
_LAST: Final = ("tools", "input")
_INCLUDE: Final = ("reasoning.encrypted_content",)
_DEFAULT_NAME: Final = "answer"


def render(request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
    """Write a request; the same values always give the same bytes.

    Args:
        request: what to ask.
        cache: items of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: for tools with a model that has none, for a new file that cannot reach it, and for an
            answer made in the background that is not streamed.
        AttachmentError: for a file whose bytes are not here.
        ConfigurationError: for a schema that is not a JSON object, and for what JSON does not have.
    """
    return posted(_PATH, body_of(request, cache), stream=request.stream)


def body_of(request: ModelRequest, cache: RenderCache | None) -> dict[str, object]:
    """The members of the body, in their order.

    Args:
        request: what to ask.
        cache: items of messages rendered before, for this target.

    Raises:
        UnsupportedFeatureError: as for `render`.
        AttachmentError: as for `render`.
        ConfigurationError: for a schema that is not a JSON object.
    """
    refuse_unreadable(request, carrier(request.profile))
    if request.params.get("background") and not request.stream:
        msg = (
            "an answer that is made in the background would have to be fetched later, which is not done here; stream "
            "it, or leave background out of params"
        )
        raise UnsupportedFeatureError(msg)
    members, _ = _options(request)
    form, words = _form(request)
    members |= {"text": form, "tools": _tools(request)}
    members["input"] = [*_instructions(request, words), *input_items(request, cache)]
    members = {name: value for name, value in members.items() if value is not None} | dict(request.params)
    ordered = {name: value for name, value in members.items() if name not in _LAST}
    return ordered | {name: members[name] for name in _LAST if name in members}


def posted(path: str, body: Mapping[str, object], *, stream: bool = False) -> WireRequest:
    """A body on its way.

    Args:
        path: where to.
        body: its members.
        stream: whether the answer is to be streamed.

    Raises:
        ConfigurationError: for what JSON does not have.
    """
    try:
        text = encode(dumps(body))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params and temperature"
        raise ConfigurationError(msg) from error
    return WireRequest(path=path, body=text, headers={"content-type": "application/json"}, stream=stream)


def dropped(request: ModelRequest) -> tuple[str, ...]:
    """Names of the settings that are left out, in alphabetical order."""
    return tuple(sorted(_options(request)[1]))


def _options(request: ModelRequest) -> tuple[dict[str, object], set[str]]:
    """The members that say how to answer, and the settings that cannot be said."""
    settings, left_out = request.settings, set[str]()
    asked, thinks = reasoning(request, left_out)
    temperature = settings.temperature
    if temperature is not None and not may_sample(request, thinks=thinks):
        left_out.add("temperature")
        temperature = None
    members: dict[str, object] = {
        "model": request.model,
        "stream": True if request.stream else None,
        "store": False,
        "include": _INCLUDE,
        "max_output_tokens": max_tokens(request),
        "temperature": temperature,
        "reasoning": asked,
        "tool_choice": _tool_choice(request, left_out),
        "parallel_tool_calls": parallel(request, left_out),
    }
    return members, left_out


def _tool_choice(request: ModelRequest, left_out: set[str]) -> object | None:
    wanted = chosen_tool(request, left_out, thinks_not=turned_off(request))
    return wanted if wanted is None or wanted in {NONE, REQUIRED} else {"type": "function", "name": wanted}


def _tools(request: ModelRequest) -> list[dict[str, object]] | None:
    strict = request.profile.structured == "json_schema"
    return [_function(tool, strict=strict) for tool in offered(request)] or None


def _function(tool: ToolSpec, *, strict: bool) -> dict[str, object]:
    described = {"description": tool.description} if tool.description else {}
    return {
        "type": "function",
        "name": tool.name,
        **described,
        "parameters": parameters_of(tool),
        # Left out, it would mean yes.
        "strict": strict and tool.strict and is_closed(tool.parameters),
    }


def _form(request: ModelRequest) -> tuple[dict[str, object] | None, str | None]:
    """The member ``text``, and what the model has to be told in words besides."""
    schema = request.settings.schema
    if schema is None:
        return None, None
    match request.profile.structured:
        case "json_schema":
            form = {
                "type": "json_schema",
                "name": request.settings.schema_name or _DEFAULT_NAME,
                "strict": is_closed(schema),
                "schema": RawJson(schema),
            }
            return {"format": form}, None
        case "json_object":
            return {"format": {"type": "json_object"}}, in_words(schema)
        case "none":
            return None, in_words(schema)
        case _:
            assert_never(request.profile.structured)


def _instructions(request: ModelRequest, words: str | None) -> list[dict[str, object]]:
    texts = [text for text in (*request.instructions, words or "") if text.strip()]
    if request.profile.one_system_message and texts:
        texts = ["\n\n".join(texts)]
    return [system_item([text], request.profile) for text in texts]
