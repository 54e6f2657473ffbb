"""Questions about models: the list of OpenAI and its look-alikes, and how any provider's answer is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.values import count_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADVICE: Final = "check base_url and any proxy in between"
_WINDOWS: Final = ("context_length", "max_context_length", "max_model_len", "context_window", "max_input_tokens")
"""What OpenRouter, Mistral, vLLM and others call it."""
_CAPS: Final = ("max_completion_tokens", "max_output_tokens")
_LATEST: Final = 253_402_300_799
"""The last second that a date can be."""


def list_request() -> WireRequest:
    """The question for the models; all of them come at once."""
    return WireRequest(method="GET", path="/models", body=b"")


def listed(body: bytes) -> tuple[ListedModel, ...]:
    """The models of an answer.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is no list of models.
    """
    value = _document(body)
    # Some servers send the list without an object around it.
    items = value if isinstance(value, list) else object_of(value).get("data")
    if not isinstance(items, list):
        msg = f"the answer is no list of models; {_ADVICE}"
        raise ProtocolError(msg)
    models = (_model(object_of(item)) for item in items)
    return tuple(model for model in models if model is not None)


def members_of(body: bytes) -> dict[str, object]:
    """The members of an answer; none where it is JSON, but no object.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is no JSON.
    """
    return object_of(_document(body))


def items_of(members: Mapping[str, object], name: str) -> list[dict[str, object]]:
    """The models of an answer, each by its members.

    Args:
        members: of the answer.
        name: of the member that lists them.

    Raises:
        ProtocolError: when it is no list of models.
    """
    items = members.get(name)
    if not isinstance(items, list):
        msg = f"the answer is no list of models; {_ADVICE}"
        raise ProtocolError(msg)
    return [object_of(item) for item in items]


def count_in(body: bytes, name: str) -> int:
    """How many tokens an answer says that a request has.

    Args:
        body: of the response.
        name: of the member that says so.

    Raises:
        ProtocolError: when it is something else.
    """
    count = count_of(members_of(body).get(name))
    if count is None:
        msg = f"the answer has no count of tokens; {_ADVICE}"
        raise ProtocolError(msg)
    return count


def _document(body: bytes) -> object:
    try:
        return loads_verbatim(body)
    except JsonTextError as error:
        msg = f"the answer cannot be read as JSON ({error}); {_ADVICE}"
        raise ProtocolError(msg) from error


def _model(members: Mapping[str, object]) -> ListedModel | None:
    name = text_of(members.get("id"))
    if not name:
        return None
    upstream = object_of(members.get("top_provider"))
    label = text_of(members.get("name")) or text_of(members.get("display_name"))
    return ListedModel(
        id=name,
        name=label if label and label != name else None,
        created=_moment(count_of(members.get("created"))),
        owned_by=text_of(members.get("owned_by")) or None,
        context_window=_first(members, _WINDOWS) or _first(upstream, _WINDOWS),
        max_output_tokens=_first(upstream, _CAPS) or _first(members, _CAPS),
    )


def _first(members: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := count_of(members.get(name)))), None)


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds and seconds <= _LATEST else None
