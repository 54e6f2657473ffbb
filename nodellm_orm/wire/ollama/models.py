"""Which models a server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH: Final = "/api/tags"
_ADVICE: Final = "check base_url and any proxy in between"


def list_request() -> WireRequest:
    """The question for the models that have been pulled."""
    return WireRequest(method="GET", path=_PATH, body=b"")


def listed(body: bytes) -> tuple[ListedModel, ...]:
    """The models.

    Args:
        body: of the response.

    Raises:
        ProtocolError: when it is no list of models.
    """
    try:
        items = object_of(loads_verbatim(body)).get("models")
    except JsonTextError as error:
        msg = f"the answer cannot be read as JSON ({error}); {_ADVICE}"
        raise ProtocolError(msg) from error
    if not isinstance(items, list):
        msg = f"the answer is no list of models; {_ADVICE}"
        raise ProtocolError(msg)
    return tuple(_models(items))


def _models(items: list[object]) -> Iterator[ListedModel]:
    for members in map(object_of, items):
        name = text_of(members.get("model")) or text_of(members.get("name"))
        if name:
            yield ListedModel(id=name)
