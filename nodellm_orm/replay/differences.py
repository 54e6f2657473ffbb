"""Where two texts differ, in few words: the lines that changed, and in JSON the values that did."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.jsontext import JsonTextError, Number, Pairs, dumps, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN: Final = 80
"""Characters of a text that are shown, around the place where it differs."""
_AHEAD: Final = 24
"""Characters of them that come before it."""
_INLINE: Final = 34
"""A text up to this long stands on one line with the other."""
_PLACES: Final = 3
"""Places of one text, or values of one JSON document, that are shown."""
_COMPARED: Final = 2000
"""Lines that are matched with each other; of longer texts only the first difference is shown."""


def differences(name: str, was: str | None, now: str | None) -> list[str]:
    """How a text differs from the expected one: only what changed, with a little around it.

    Args:
        name: what the text is.
        was: the expected one; ``None``: none was expected.
        now: the one that came; ``None``: none came.

    Example:
        >>> differences("result", '{"price":{"amount":120}}', '{"price":{"amount":125}}')
        ['result at /price/amount: expected 120, got 125']
    """
    if was is None or now is None:
        return [told(name, _whole(was), _whole(now))]
    values = _values(was, now)
    if values:
        return _few([told(f"{name} at {place or '/'}", _value(one), _value(two)) for place, one, two in values])
    places = list(_places(was, now))
    return _few([told(f"{name}{place}", before, after) for place, before, after in places])


def differences_of(name: str, was: object, now: object) -> list[str]:
    """How a value differs from the expected one; see `differences`.

    Args:
        name: what it is.
        was: the expected one, text or any other JSON value; ``None``: none was expected.
        now: the one that came.
    """
    if all(value is None or isinstance(value, str | dict | list) for value in (was, now)):
        return differences(name, _text(was), _text(now))
    return [told(name, *("nothing" if value is None else dumps(value) for value in (was, now)))]


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)


def told(name: str, was: str, now: str) -> str:
    """One difference in words.

    Args:
        name: what differs.
        was: as it was expected.
        now: as it came.
    """
    if max(len(was), len(now)) <= _INLINE + 2:
        return f"{name}: expected {was}, got {now}"
    # One above the other: what is the same ends in the same column.
    return f"{name}:\n    expected {was}\n    got      {now}"


def _few(found: list[str]) -> list[str]:
    more = len(found) - _PLACES
    return found if more <= 0 else [*found[:_PLACES], f"… and {more} more of it"]


def _whole(text: str | None) -> str:
    return "nothing" if text is None else shown(text)


def shown(text: str, limit: int = _SHOWN) -> str:
    """A text as it is quoted, cut where it is long.

    Args:
        text: any.
        limit: characters.
    """
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}…"


# ── lines ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _places(was: str, now: str) -> Iterator[tuple[str, str, str]]:
    """The places where two texts differ, and both texts around them."""
    one, two = was.splitlines(keepends=True), now.splitlines(keepends=True)
    many = max(len(one), len(two)) > 1
    for start, end, first, last in _hunks(one, two):
        before, after = "".join(one[start:end]), "".join(two[first:last])
        at = len(_common(before, after))
        cut = f", from character {at + 1}" if max(len(before), len(after)) > _SHOWN else ""
        place = f", line {start + 1 + before[:at].count(chr(10))}" if many else cut
        yield place, _around(before, at), _around(after, at)


def _hunks(one: Sequence[str], two: Sequence[str]) -> list[tuple[int, int, int, int]]:
    if max(len(one), len(two)) > _COMPARED:
        return [(0, len(one), 0, len(two))]
    codes = SequenceMatcher(None, one, two, autojunk=False).get_opcodes()
    return [(start, end, first, last) for kind, start, end, first, last in codes if kind != "equal"]


def _common(one: str, two: str) -> str:
    """What both begin with."""
    short = min(len(one), len(two))
    return one[: next((at for at in range(short) if one[at] != two[at]), short)]


def _around(text: str, at: int) -> str:
    if not text:
        return "nothing"
    begin = 0 if len(text) <= _SHOWN else max(at - _AHEAD, 0)
    piece = text[begin : begin + _SHOWN]
    return f"{'…' if begin else ''}{piece!r}{'…' if begin + _SHOWN < len(text) else ''}"


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MISSING: Final = object()


def _values(was: str, now: str) -> list[tuple[str, Any, Any]]:
    """The values that differ in two JSON documents by their pointers (RFC 6901); none where one text is no document."""
    if not (was.lstrip()[:1] in {"{", "["} and now.lstrip()[:1] in {"{", "["}):
        return []
    try:
        return list(_differing("", loads_verbatim(was), loads_verbatim(now)))
    except JsonTextError:
        return []


def _differing(place: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, Pairs) and isinstance(now, Pairs):
        one, two = dict(was), dict(now)
        for name in dict.fromkeys([*one, *two]):
            inner = f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
            yield from _differing(inner, one.get(name, _MISSING), two.get(name, _MISSING))
    elif isinstance(was, list) and isinstance(now, list):
        for index, (old, new) in enumerate(zip_longest(was, now, fillvalue=_MISSING)):
            yield from _differing(f"{place}/{index}", old, new)
    elif type(was) is not type(now) or was != now:
        yield place, was, now


def _value(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = value.text if isinstance(value, Number) else dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
