"""The question how many tokens a request has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.openai_responses.render import body_of, posted
from nodellm_orm.wire.values import count_of, object_of

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest

_PATH: Final = "/responses/input_tokens"
_COUNTED: Final = frozenset(
    {"model", "instructions", "conversation", "previous_response_id", "truncation", "reasoning", "text"}
    | {"tool_choice", "parallel_tool_calls", "tools", "input"}
)
"""Members that have tokens, or change how many there are; the question refuses any other."""
_ADVICE: Final = "check base_url and any proxy in between"


def count_request(request: ModelRequest) -> WireRequest:
    """The question how many tokens a request has.

    Args:
        request: what would be sent.

    Raises:
        UnsupportedFeatureError: as for `render`.
        AttachmentError: as for `render`.
        ConfigurationError: as for `render`.
    """
    return posted(_PATH, {name: value for name, value in body_of(request, None).items() if name in _COUNTED})


def counted(body: bytes) -> int:
    """The answer to it.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is something else.
    """
    try:
        members = object_of(loads_verbatim(body))
    except JsonTextError as error:
        msg = f"the answer cannot be read as JSON ({error}); {_ADVICE}"
        raise ProtocolError(msg) from error
    count = count_of(members.get("input_tokens"))
    if count is None:
        msg = f"the answer has no count of tokens; {_ADVICE}"
        raise ProtocolError(msg)
    return count
