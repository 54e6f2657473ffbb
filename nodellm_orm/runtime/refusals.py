"""Refuses arguments that cannot be meant, each in one sentence that says what to give instead."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.jsontext import JsonTextError, dumps
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from nodellm_orm.ports.owners import Owner

_KEY_CHARS: Final = 255
_MOST_ROWS: Final = 2**31 - 1
"""More than this fits into no page, and not into the parameter of every driver."""


def refuse_unknown(
    given: Iterable[str], known: Collection[str], *, among: Collection[str] = (), what: str = "option"
) -> None:
    """Refuse names that do not exist, and tell the nearest that do.

    Args:
        given: names as the caller wrote them.
        known: names that exist.
        among: further names that the nearest one is looked for among.
        what: what they name, for the message.

    Raises:
        ConfigurationError: one of them is not known.

    Example:
        >>> refuse_unknown(["temprature"], ["max_tokens", "temperature"])
        Traceback (most recent call last):
        nodellm_orm.errors.ConfigurationError: unknown option temprature (did you mean temperature?); known are ...
    """
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    names = sorted({*known, *among})
    told = ", ".join(f"{name}{_nearest(name, names)}" for name in unknown)
    msg = f"unknown {what} {told}; known are {', '.join(names) or 'none'}"
    raise ConfigurationError(msg)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def refuse_word(name: str, value: object, words: Collection[str]) -> None:
    """Refuse a word that is none of those an argument takes.

    Args:
        name: the argument.
        value: as given.
        words: what it takes.

    Raises:
        ConfigurationError: for anything else.
    """
    if not isinstance(value, str) or value not in words:
        listed = [repr(word) for word in words]
        msg = f"{name} is {', '.join(listed[:-1])} or {listed[-1]}, not {value!r:.100}"
        raise ConfigurationError(msg)


def refuse_seconds(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuse what is no length of time.

    Args:
        name: the argument.
        value: as given.
        zero: whether it may be zero.

    Raises:
        ConfigurationError: it is negative, not a number at all, or zero where that says nothing.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        least = "not below 0" if zero else "above 0"
        msg = f"{name} is a number of seconds {least}, not {value!r:.100}"
        raise ConfigurationError(msg)


def refuse_count(name: str, value: object) -> None:
    """Refuse what is neither a whole number of at least 0 nor ``None``.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        msg = f"{name} is a whole number of at least 0, or None for no limit, not {value!r:.100}"
        raise ConfigurationError(msg)


def refuse_limit(name: str, value: object) -> None:
    """Refuse what is no number of rows.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it is no whole number, leaves no room, or is larger than any page.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_ROWS:
        msg = f"{name} is a whole number of at least 1, not {value!r:.100}; give 1 or more, up to {_MOST_ROWS}"
        raise ConfigurationError(msg)


def refuse_position(name: str, value: object) -> None:
    """Refuse what is neither a message's position nor ``None``.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not -_MOST_ROWS <= value <= _MOST_ROWS:
        msg = f"{name} is the position of a message, as chat.messages[-1].position, not {_named(value)}"
        raise ConfigurationError(msg)


def _named(value: object) -> str:
    return f"{value!r:.100}" if isinstance(value, int | float | str) else type(value).__name__


def refuse_switch(name: str, value: object) -> None:
    """Refuse what is neither ``True`` nor ``False``: the text "no" would count as a yes.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool):
        msg = f"{name} is True or False, not {value!r:.100}"
        raise ConfigurationError(msg)


def refuse_uncallable(name: str, value: object) -> None:
    """Refuse what is neither a function nor ``None``.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it cannot be called.
    """
    if value is not None and not callable(value):
        msg = f"{name} is a function that is called with what was done so far, not {type(value).__name__}"
        raise ConfigurationError(msg)


def refuse_text(name: str, value: object, *, empty: bool = False, limit: int | None = None) -> None:
    """Refuse what is neither a text nor ``None``.

    Args:
        name: the argument.
        value: as given.
        empty: whether it may say nothing.
        limit: characters at most.

    Raises:
        ConfigurationError: for anything else.
    """
    if value is None:
        return
    if not isinstance(value, str):
        told = isinstance(getattr(value, name, None), str)  # the call was given in place of its id
        remedy = f"pass its {name}" if told else "pass str(...) of it if that is what is meant"
        msg = f"{name} is a text, not {type(value).__name__}; {remedy}"
        raise ConfigurationError(msg)
    if not value.strip() and not empty:
        msg = f"{name} is empty; leave it out, or say something"
        raise ConfigurationError(msg)
    if limit is not None and len(value) > limit:
        msg = f"{name} has {len(value)} characters; use at most {limit}"
        raise ConfigurationError(msg)


def refuse_key(name: str, value: object, *, empty: bool = False) -> None:
    """Refuse what cannot be kept as an exact key: as `refuse_text`, within the length of a column.

    Args:
        name: the argument.
        value: as given.
        empty: whether it may say nothing.
    """
    refuse_text(name, value, empty=empty, limit=_KEY_CHARS)


def refuse_owner(owner: Owner, *, anybody: Owner = None) -> None:
    """Refuse what cannot be an owner.

    Args:
        owner: as given.
        anybody: what may stand for every owner here; ``None``: nothing may.

    Raises:
        ConfigurationError: it is neither a text nor ``None``.
    """
    if anybody is not None and owner is anybody:
        return
    refuse_key("owner", owner, empty=True)


def refuse_mapping(name: str, value: object) -> None:
    """Refuse what is neither a mapping of names to values nor ``None``.

    Args:
        name: the argument.
        value: as given.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None or (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        return
    msg = f'{name} is a dict of values by name, such as {{"user_id": 7}}, not {type(value).__name__}'
    raise ConfigurationError(msg)


def refuse_params(params: object) -> None:
    """Refuse raw members of a request that are no JSON.

    Args:
        params: as given.

    Raises:
        ConfigurationError: they are no mapping of names to JSON values.
    """
    if not isinstance(params, Mapping):
        msg = f'params is a dict of members of the request, such as {{"seed": 7}}, not {type(params).__name__}'
        raise ConfigurationError(msg)
    try:
        dumps(params)
    except JsonTextError as error:
        msg = f"params cannot be sent: {error}"
        raise ConfigurationError(msg) from error
