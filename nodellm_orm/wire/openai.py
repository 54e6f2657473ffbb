"""What both of OpenAI's protocols, and all that resemble them, have in common: tools, limits, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import RawJson
from nodellm_orm.domain.tools import AUTO, NONE
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.wire.failures import error_members, failure_of
from nodellm_orm.wire.schemas import parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.wire import ModelRequest

_ID_HEADERS: Final = ("x-request-id", "request-id", "apim-request-id", "x-kong-request-id", "x-amzn-requestid")


def max_tokens(request: ModelRequest) -> int | None:
    """The tokens an answer may have, lowered to the model's own cap; ``None`` leaves them to the model."""
    asked, cap = request.settings.max_tokens, request.profile.max_output_tokens
    return asked if asked is None or cap is None else min(asked, cap)


def chosen_tool(request: ModelRequest, left_out: set[str], *, thinks_not: bool) -> str | None:
    """The word of the tool choice, or the tool's name; ``None`` where nothing is said.

    Args:
        request: what is to be sent.
        left_out: gets the setting's name where the model cannot be told.
        thinks_not: whether thinking is turned off in this request, for models that take no force beside it.
    """
    wanted, profile = request.settings.tool_choice or AUTO, request.profile
    if wanted == AUTO or (wanted == NONE and not (request.tools and profile.tool_choice_none)):
        return None
    forces = profile.forced_tool_choice and (profile.forced_with_thinking or thinks_not)
    if wanted != NONE and not (request.tools and forces):
        left_out.add("tool_choice")
        return None
    return wanted


def parallel(request: ModelRequest, left_out: set[str]) -> bool | None:
    """Whether calls may be parallel; ``None`` where nothing is said.

    Args:
        request: what is to be sent.
        left_out: gets the setting's name where the model cannot be told.
    """
    wanted = request.settings.parallel_tool_calls
    if wanted is None or not request.tools or _withholds(request):
        return None
    if request.profile.parallel_tool_calls:
        return wanted
    if not wanted:
        left_out.add("parallel_tool_calls")
    return None


def offered(request: ModelRequest) -> tuple[ToolSpec, ...]:
    """The tools that go along: none to a model that is to call none and would not obey that.

    Raises:
        UnsupportedFeatureError: the model takes no tools.
    """
    if not request.tools or _withholds(request):
        return ()
    if request.profile.tools != "native":
        msg = f"{request.model} takes no tools in this format; ask without tools, or use a model that has them"
        raise UnsupportedFeatureError(msg)
    return request.tools


def _withholds(request: ModelRequest) -> bool:
    """Whether no tool is to be called by a model that would not obey that."""
    return request.settings.tool_choice == NONE and not request.profile.tool_choice_none


def parameters_of(tool: ToolSpec) -> object:
    """The schema of a tool's arguments as it is given, or as an object's where it does not say of what.

    Raises:
        ConfigurationError: it is not a JSON object.
    """
    schema = parsed(tool.parameters)
    return RawJson(tool.parameters) if "type" in schema else {"type": "object", **schema}


def failure(status: int | None, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that a response, or an error inside one, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the data of the event.
    """
    message, kind, code = error_members(body)
    return failure_of(
        status=status,
        message=message,
        kind=kind,
        code=code,
        headers=headers,
        body=body,
        request_id=request_id(headers),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request.

    Args:
        headers: of the response, names in lower case.
    """
    return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
