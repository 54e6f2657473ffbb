"""Questions about models: how many tokens a request has, and which models there are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.anthropic.render import VERSIONED, body_of, posted
from nodellm_orm.wire.listing import count_in, items_of, members_of
from nodellm_orm.wire.values import count_of, text_of

if TYPE_CHECKING:
    from nodellm_orm.ports.wire import ModelRequest

_COUNT_PATH: Final = "/v1/messages/count_tokens"
_LIST_PATH: Final = "/v1/models"
_PAGE: Final = 1000
_COUNTED: Final = frozenset(
    {"model", "thinking", "output_config", "tool_choice", "cache_control", "context_management", "mcp_servers"}
    | {"tools", "system", "messages"}
)
"""Members that have tokens, or change how many there are; the question refuses any other."""


def count_request(request: ModelRequest) -> WireRequest:
    """The question how many tokens a request has.

    Args:
        request: what would be sent.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: as for `render`.
    """
    body = {name: value for name, value in body_of(request, None).items() if name in _COUNTED}
    return posted(request, _COUNT_PATH, body)


def counted(body: bytes) -> int:
    """The answer to it.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is something else.
    """
    return count_in(body, "input_tokens")


def list_request(after: str | None = None) -> WireRequest:
    """The question for a page of models.

    Args:
        after: the last model of the page before.
    """
    query = {"limit": str(_PAGE), **({"after_id": after} if after is not None else {})}
    return WireRequest(method="GET", path=f"{_LIST_PATH}?{urlencode(query)}", body=b"", headers=VERSIONED)


def listed(body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
    """The models of a page, and what the next page is asked for with.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is no list of models.
    """
    members = members_of(body)
    models = (_model(item) for item in items_of(members, "data"))
    following = text_of(members.get("last_id")) if members.get("has_more") is True else ""
    return tuple(model for model in models if model is not None), following or None


def _model(members: dict[str, object]) -> ListedModel | None:
    name = text_of(members.get("id"))
    if not name:
        return None
    return ListedModel(
        id=name,
        name=text_of(members.get("display_name")) or None,
        created=_moment(text_of(members.get("created_at"))),
        context_window=count_of(members.get("max_input_tokens")),
        max_output_tokens=count_of(members.get("max_tokens")),
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
