"""The question how many tokens a request has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.listing import count_in
from nodellm_orm.wire.openai_responses.render import body_of, posted

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest

_PATH: Final = "/responses/input_tokens"
_COUNTED: Final = frozenset(
    {"model", "instructions", "conversation", "previous_response_id", "truncation", "reasoning", "text"}
    | {"tool_choice", "parallel_tool_calls", "tools", "input"}
)
"""Members that have tokens, or change how many there are; the question refuses any other."""


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
    return count_in(body, "input_tokens")
