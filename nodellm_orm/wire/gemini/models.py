"""Questions about models: how many tokens a request has, and which models there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.gemini.render import body_of, posted, resource_of
from nodellm_orm.wire.listing import count_in, items_of, members_of
from nodellm_orm.wire.values import count_of, text_of

if TYPE_CHECKING:
    from nodellm_orm.ports.wire import ModelRequest

_PAGE: Final = 1000
_PREFIX: Final = "models/"


def count_request(request: ModelRequest) -> WireRequest:
    """The question how many tokens a request has.

    Args:
        request: what would be sent.

    Raises:
        UnsupportedFeatureError: as for `render`.
        ConfigurationError: as for `render`.
    """
    whole = {"model": resource_of(request.model), **body_of(request, None)}
    asked = posted(request, "countTokens", {"generateContentRequest": whole})
    return WireRequest(path=asked.path, body=asked.body, headers=asked.headers)


def counted(body: bytes) -> int:
    """The answer to it.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is something else.
    """
    return count_in(body, "totalTokens")


def list_request(after: str | None = None) -> WireRequest:
    """The question for a page of models.

    Args:
        after: the ``next`` of the page before.
    """
    query = {"pageSize": str(_PAGE), **({"pageToken": after} if after is not None else {})}
    return WireRequest(method="GET", path=f"/models?{urlencode(query)}", body=b"")


def listed(body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
    """The models of a page, and what the next page is asked for with.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is no list of models.
    """
    members = members_of(body)
    models = (_model(item) for item in items_of(members, "models"))
    return tuple(model for model in models if model is not None), text_of(members.get("nextPageToken")) or None


def _model(members: dict[str, object]) -> ListedModel | None:
    name = text_of(members.get("name")).removeprefix(_PREFIX)
    if not name:
        return None
    return ListedModel(
        id=name,
        name=text_of(members.get("displayName")) or None,
        context_window=count_of(members.get("inputTokenLimit")),
        max_output_tokens=count_of(members.get("outputTokenLimit")),
    )
