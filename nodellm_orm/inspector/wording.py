"""What pages show, as text: JSON laid out, long texts cut, addresses of other pages. Templates do the escaping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from nodellm_orm.domain.figures import age
from nodellm_orm.domain.jsontext import JsonTextError, Number, Pairs, dumps, loads_verbatim
from nodellm_orm.domain.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from nodellm_orm.store.details import MessageDetails

SHOWN: Final = 20_000
"""Characters of one text that a page shows."""
_SCREEN: Final = 3_000
"""Characters that are read without scrolling for long."""
_LINES: Final = 60
_INDENT: Final = "  "
_DEEPEST: Final = 20
"""Levels that are indented, so that depth cannot multiply the size."""


def harmless(value: object) -> object:
    """What a template is given to show: in a text, everything that changes the order or look of others is an escape.

    Args:
        value: any; markup of our own and what is no text stay as they are.
    """
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def cut(text: str) -> str:
    """The beginning of a text that is too long for a page.

    Args:
        text: any.
    """
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def is_cut(details: MessageDetails) -> bool:
    """Whether something of a message is too long for a page.

    Args:
        details: the message.
    """
    texts: list[str | None] = [
        details.message.content,
        details.message.refusal,
        *(trace.text for trace in details.thinking),
    ]
    for call in details.calls:
        texts += [call.arguments, call.result, call.error]
    return any(len(text or "") > SHOWN for text in texts)


def laid_out(text: str) -> str:
    """JSON on several lines, digit for digit and in its own order; what is no JSON stays as it is.

    Args:
        text: arguments of a call, for instance.

    Example:
        >>> print(laid_out('{"b":1.50,"a":[]}'))
        {
          "b": 1.50,
          "a": []
        }
    """
    if len(text) > SHOWN:
        return text
    try:
        value = loads_verbatim(text)
    except (JsonTextError, ValueError):
        return text
    return _written(value, "\n")


def _written(value: object, line: str) -> str:
    match value:
        case Number():
            return value.text
        case Pairs() if value:
            members = (f"{dumps(name)}: {_written(inner, _deeper(line))}" for name, inner in value)
            return _block("{}", members, line)
        case Pairs():
            return "{}"
        case list() if value:
            return _block("[]", (_written(inner, _deeper(line)) for inner in value), line)
        case _:
            return dumps(value)


def _block(ends: str, members: Iterable[str], line: str) -> str:
    deeper = _deeper(line)
    joined = f",{deeper}".join(members)
    return f"{ends[0]}{deeper}{joined}{line}{ends[1]}"


def _deeper(line: str) -> str:
    return line + _INDENT if len(line) <= _DEEPEST * len(_INDENT) else line


def exactly(cost: Decimal | None) -> str:
    """A cost with all its digits, as a tooltip."""
    return "unknown" if cost is None else f"{cost:f} US dollars"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago something was; nothing, when a date says more.

    Args:
        moment: when it was.
        now: the same clock's present.

    Example:
        >>> from datetime import datetime
        >>> ago(datetime(2026, 3, 1, 9), datetime(2026, 3, 1, 12)), ago(datetime(2026, 1, 1), datetime(2026, 3, 1))
        ('3 h ago', '')
    """
    passed = age(moment, now)
    return "just now" if passed == "now" else f"{passed} ago" if " " in passed else ""


def is_long(text: str) -> bool:
    """Whether a text is more than what one screen shows: it is given a box of its own to be scrolled in.

    Args:
        text: any.
    """
    return len(text) > _SCREEN or text.count("\n", 0, _SCREEN) > _LINES


def iso(moment: datetime) -> str:
    """A moment as programs read it."""
    return moment.isoformat()


def address(root: str, *path: object, **query: object) -> str:
    """The address of a page.

    Args:
        root: where the inspector is mounted.
        path: the rest, piece by piece.
        query: what is left out when it is ``None``.

    Example:
        >>> address("/inspect", "chats", "a/b", first=0, turn=None)
        '/inspect/chats/a%2Fb?first=0'
    """
    pieces = "/".join(quote(str(piece), safe="") for piece in path)
    given = urlencode({name: str(value) for name, value in query.items() if value is not None and value != ""})
    return f"{root}/{pieces}{'?' if given else ''}{given}"


def preview(metadata: Mapping[str, object]) -> str:
    """A chat's metadata on one line.

    Args:
        metadata: the chat's.
    """
    return ", ".join(f"{name}={value if isinstance(value, str) else dumps(value)}" for name, value in metadata.items())
