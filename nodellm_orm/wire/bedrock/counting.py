"""The question how many tokens a request has: answered for models themselves, not for inference profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.bedrock.models import foundation_model, path_of
from nodellm_orm.wire.bedrock.render import FIELDS, body_of, posted
from nodellm_orm.wire.listing import count_in

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest

_COUNTED: Final = (FIELDS, "toolConfig", "system", "messages")


def count_request(request: ModelRequest) -> WireRequest:
    """The question how many tokens a request has.

    Args:
        request: what would be sent.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: as for `render`.
    """
    body = body_of(request, None)
    converse = {name: body[name] for name in _COUNTED if name in body}
    return posted(path_of(foundation_model(request.model), "count-tokens"), {"input": {"converse": converse}})


def counted(body: bytes) -> int:
    """The answer to it.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is something else.
    """
    return count_in(body, "inputTokens")
