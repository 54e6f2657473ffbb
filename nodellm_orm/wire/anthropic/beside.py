"""What an answer says beside its content, kept as a part that is never sent as content.

Such are the container in which the model's code ran, and the tier and speed the answer was made with where they are not
the standard ones. The part is an object with these members and without the ``type`` that every content block has.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs, dumps, loads_verbatim
from nodellm_orm.domain.parts import OpaquePart
from nodellm_orm.wire.anthropic.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.wire import ModelRequest

_CONTAINER: Final = "container"
_MADE_WITH: Final = ("service_tier", "speed")
_STANDARD: Final = "standard"


def said_beside(members: Mapping[str, object], usage: Mapping[str, object]) -> OpaquePart | None:
    """What there is to be kept of an answer beside its content.

    Args:
        members: of the message, or of the event that ends it.
        usage: the members of its ``usage`` so far.
    """
    kept: dict[str, object] = {}
    if isinstance(members.get(_CONTAINER), Pairs):
        kept[_CONTAINER] = members[_CONTAINER]
    kept |= {name: usage[name] for name in _MADE_WITH if (text_of(usage.get(name)) or _STANDARD) != _STANDARD}
    return OpaquePart(payload=dumps(kept)) if kept else None


def container_of(request: ModelRequest) -> str | None:
    """The container that the model's code goes on in, where the request goes on with an answer that it ran for.

    A later question begins with a new one: containers live for minutes, and a chat does not end then.

    Args:
        request: what is to be sent.
    """
    turn = takewhile(lambda message: message.role != "user", reversed(request.messages))
    return next((found for message in turn if (found := _container(message, request)) is not None), None)


def _container(message: Message, request: ModelRequest) -> str | None:
    if message.origin is None or not message.origin.shares_state_with(request.target):
        return None
    records = (object_of(loads_verbatim(part.payload)) for part in message.parts if isinstance(part, OpaquePart))
    found = (object_of(record.get(_CONTAINER)) for record in records if record and "type" not in record)
    return next((text_of(container.get("id")) for container in found if container), None)
