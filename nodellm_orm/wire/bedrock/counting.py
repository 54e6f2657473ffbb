"""The question how many tokens a request has: answered for models themselves, not for inference profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.bedrock.models import foundation_model, path_of
from nodellm_orm.wire.bedrock.render import FIELDS, body_of, posted
from nodellm_orm.wire.values import count_of, object_of

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest

_COUNTED: Final = (FIELDS, "toolConfig", "system", "messages")
_ADVICE: Final = "check base_url and any proxy in between"


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
    try:
        count = count_of(object_of(loads_verbatim(body)).get("inputTokens"))
    except JsonTextError as error:
        msg = f"the answer cannot be read as JSON ({error}); {_ADVICE}"
        raise ProtocolError(msg) from error
    if count is None:
        msg = f"the answer has no count of tokens; {_ADVICE}"
        raise ProtocolError(msg)
    return count
