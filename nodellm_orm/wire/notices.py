"""The words of an error body, whatever its shape, and without anything that looks like a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.domain.jsontext import JsonObject, JsonValue

_SHOWN_CHARS: Final = 2000
_READ_CHARS: Final = 8000
"""What is shown of an error is far shorter; what is never shown need not be searched for keys."""
_MAX_NESTING: Final = 4
_LISTED: Final = 5
_ERROR_NAMES: Final = ("error", "errors")
_MESSAGE_NAMES: Final = ("message", "msg", "detail", "error_description", "reason", "title")
_KIND_NAMES: Final = ("type", "status", "__type")
_CODE_NAMES: Final = ("code", "status_code")
HTML_PAGE: Final = "an HTML page"
"""How the words for a page begin, which a provider's own API never sends."""
_HTML: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_TITLE: Final = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)

_SECRET: Final = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[^\s\"',;]+"
    r"|\b(?:sk|pk|rk|xai|gsk|ghp|key)[-_][-_A-Za-z0-9*.]{6,}|\b(?:AKIA|AIza)[-_A-Za-z0-9]{8,}"
    r"|(?<![\w*-])[\w-]*\*{2,}[\w*-]*"
    r"|(?<=://)[^/\s@]*:[^/\s@]*(?=@)"
)
_NAMED_SECRET: Final = re.compile(
    r"(?P<name>\b(?:x-)?(?:api[-_ ]?key|access[-_ ]?key|token|secret|password|authorization)\b"
    r"(?:\s+(?:provided|given|is|was|you provided))?[\"']?\s*[:=]\s*[\"'`]?)(?P<value>[^\s\"'`,;]+)",
    re.IGNORECASE,
)
_LONG_WORD: Final = re.compile(r"\b(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{16,}\b")
_HIDDEN: Final = "[redacted]"


def error_members(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, type and code of an error body.

    Args:
        body: JSON of any shape, HTML, text, nothing or rubbish.

    Returns:
        The message, empty where there is none; the provider's ``type`` and ``code`` where it gives any.
    """
    try:
        value = loads(body)
    except JsonTextError:
        try:
            # Some gateways write error bodies in another encoding; only letters beyond ASCII are lost then.
            value = loads(body.decode("utf-8", "replace"))
        except JsonTextError:
            return _plain(body), None, None
    return members_of(value)


def members_of(value: JsonValue) -> tuple[str, str | None, str | None]:
    """Message, type and code of an error that has been parsed.

    Args:
        value: an error body, or the value of its member ``error``.
    """
    return _members(value, _MAX_NESTING)


def redacted(text: str, *, hide_words: bool = False) -> str:
    """The text without what looks like a key, a token or the password in a URL.

    Args:
        text: what a provider said.
        hide_words: hide every long word of letters and digits too; for errors about keys, whose form is not known.
    """
    text = _NAMED_SECRET.sub(rf"\g<name>{_HIDDEN}", text[:_READ_CHARS])
    text = _SECRET.sub(_HIDDEN, text)
    return _LONG_WORD.sub(_HIDDEN, text) if hide_words else text


def shown(text: str, limit: int) -> str:
    """The text, cut to a limit with a visible mark.

    Args:
        text: any text.
        limit: characters, the mark included.
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _members(value: JsonValue, depth: int) -> tuple[str, str | None, str | None]:
    if isinstance(value, list):
        # Gemini's compatible endpoint wraps the error in a list, and validators list all that does not fit.
        found = [_members(item, depth - 1) for item in value[:_LISTED]] if depth else []
        message = "; ".join(words for words, _, _ in found if words)
        return message, _first(kind for _, kind, _ in found), _first(code for _, _, code in found)
    if not isinstance(value, dict):
        return _scalar(value) or "", None, None
    message, kind, code = "", None, None
    for name in _ERROR_NAMES:
        if depth and value.get(name):
            message, kind, code = _members(value[name], depth - 1)
            break
    return (
        message or _message(value, depth),
        kind or _detail(value, "metadata", "error_type") or _detail(value, "innererror", "code") or _kind(value),
        code or _first(_scalar(value.get(name)) for name in _CODE_NAMES),
    )


def _message(value: JsonObject, depth: int) -> str:
    said = (_members(value[name], depth - 1)[0] for name in _MESSAGE_NAMES if depth and value.get(name))
    message = next((words for words in said if words), "")
    place = value.get("loc")
    if message and isinstance(place, list):
        message = f"{'.'.join(map(str, place))}: {message}"
    # OpenRouter's own words are always the same; what the model's host said stands beside them.
    raw = _detail(value, "metadata", "raw")
    message = f"{message}: {raw}" if raw else message
    filtered = ", ".join(_filtered(value))
    return f"{message} (filtered: {filtered})" if filtered else message


def _filtered(value: JsonObject) -> list[str]:
    """What Azure's content filter found, by category."""
    inner, several = value.get("innererror"), value.get("content_filters")
    listed = [item for item in several if isinstance(item, dict)] if isinstance(several, list) else []
    found = [item.get("content_filter_results") for item in listed]
    found += [inner.get("content_filter_result")] if isinstance(inner, dict) else []
    verdicts = (verdict for results in found if isinstance(results, dict) for verdict in results.items())
    return [name for name, verdict in verdicts if isinstance(verdict, dict) and verdict.get("filtered") is True]


def _kind(value: JsonObject) -> str | None:
    kind = _first(_scalar(value.get(name)) for name in _KIND_NAMES)
    return None if kind == "error" else kind


def _detail(value: JsonObject, name: str, member: str) -> str | None:
    inner = value.get(name)
    return _scalar(inner.get(member)) if isinstance(inner, dict) else None


def _scalar(value: JsonValue) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _first(found: Iterable[str | None]) -> str | None:
    return next((item for item in found if item), None)


def _plain(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if _HTML.match(text):
        heading = _TITLE.search(text[:_READ_CHARS])
        return f"{HTML_PAGE}{f' ({heading[2].strip()})' if heading else ''}"
    return "".join(c if c.isprintable() else " " for c in text[:_SHOWN_CHARS]).strip()
