"""What an address asks for: filters and places, read from its query and written into the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.browsing import STATES, ChatFilters

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.candidates import ChatState

FIELDS: Final = ("title", "state", "owner", "model", "provider", "metadata")
"""Names of the filters, as in the form."""
_LONGEST: Final = 500
_DIGITS: Final = 15


def given(query: QueryParams) -> dict[str, str]:
    """The filters as they were typed, empty ones left out.

    Args:
        query: of the address.

    Raises:
        ConfigurationError: one of them is too long to be meant.
    """
    found = {name: query[name].strip() for name in FIELDS if query.get(name, "").strip()}
    for name, text in found.items():
        if len(text) > _LONGEST:
            msg = f"{name} has {len(text)} characters; search for {_LONGEST} at most"
            raise ConfigurationError(msg)
    return found


def filters(typed: dict[str, str], owner: Owner) -> ChatFilters:
    """The filters as they are meant.

    Args:
        typed: what `given` found.
        owner: whose chats the inspector shows; a typed owner limits it only where it shows everybody's.

    Raises:
        ConfigurationError: one of them cannot be meant.
    """
    whose: Owner = typed.get("owner", ANY_OWNER) if owner is ANY_OWNER else owner
    state = typed.get("state")
    if state is not None and state not in STATES:
        msg = f"state={state!r:.80} is unknown; it is one of {', '.join(STATES)}"
        raise ConfigurationError(msg)
    return ChatFilters(
        owner=whose,
        model=typed.get("model"),
        provider=typed.get("provider"),
        title=typed.get("title"),
        metadata=_metadata(typed.get("metadata")),
        state=cast("ChatState | None", state),
    )


def _metadata(text: str | None) -> dict[str, JsonValue]:
    if text is None:
        return {}
    members: dict[str, JsonValue] = {}
    for piece in text.split(","):
        name, sign, value = piece.partition("=")
        if not sign or not name.strip():
            msg = f"metadata is searched for as name=value, several with commas between, not {text!r:.80}"
            raise ConfigurationError(msg)
        members[name.strip()] = _value(value.strip())
    return members


def _value(text: str) -> JsonValue:
    """JSON in quotation marks is what it says; anything else is a text, and stands for whatever it spells."""
    if text.startswith('"'):
        try:
            return loads(text)
        except JsonTextError:
            return text
    return text


def whole(query: QueryParams, name: str, *, otherwise: Any) -> Any:
    """A whole number in the query, from 0.

    Args:
        query: of the address.
        name: its name.
        otherwise: what stands for it when it is missing.

    Raises:
        ConfigurationError: it is none.
    """
    text = query.get(name, "").strip()
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS:
        msg = f"{name}={text!r:.40} is no whole number"
        raise ConfigurationError(msg)
    return int(text)
