"""Keys: kept where nothing prints them, checked before they are sent, taken out of any text that echoes them."""

from __future__ import annotations

import base64
import binascii
import hmac
import html
import re
from typing import TYPE_CHECKING, Final, NoReturn, SupportsIndex

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED: Final = "[redacted]"

_SHORTEST = 8
"""Shorter values (``ollama``, ``none``) are placeholders; blotting them out would only spoil messages."""

_LEAST_OF_A_PART = 12
"""Characters of a key that was cut off which tell enough of it."""

_SCHEME = re.compile(r"(?:bearer|basic)\s", re.IGNORECASE)
_QUOTED_OR_BLANK = frozenset("\"'` ")

_LOOKS_SECRET = re.compile(
    # A scheme and its credential. One without any digit is a word of a sentence: "bearer authentication".
    r"(\b(?i:bearer|basic)\s+)(?=[A-Za-z._~+/=-]*\d)[A-Za-z0-9._~+/=-]{8,}"
    # What the providers' keys begin with, and JSON web tokens.
    r"|\b(?:(?:sk|pk|rk|xai|gsk|ghp|hf)[-_]|AKIA|AIza)[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
    # A name and its value. A bare number is left alone: inside JSON its replacement would be a syntax error.
    r"|(\b(?i:api[-_]?key|(?:access|auth)[-_]?token|token|secret|password|passwd|authorization)\b[\"']?\s*[:=]\s*[\"']?)"
    r"(?!-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:[\s,;&}\]]|$))[^\s\"',;&{}\[\]\\]{8,}"
    # The credentials of a URL.
    r"|(?<=://)[^/\s@:\"]*:[^/\s@\"]+(?=@)"
)


class Secret:
    """A value that nothing shows: not ``repr``, not ``str``, not formatting, not pickling.

    Args:
        value: what must not be seen.

    Example:
        >>> Secret("sk-123")
        Secret('[redacted]')
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap a value."""
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        msg = "a key is never pickled; create the client in the process that uses it"
        raise ConfigurationError(msg)


def check_key(name: str, value: str) -> str:
    """The key without surrounding whitespace, fit for a header.

    Args:
        name: what the user set: an environment variable or an argument; the only thing a message shows.
        value: the key as given.

    Raises:
        ConfigurationError: when it is empty, begins with the word that goes before it in a header, or holds blanks,
            quotes, line breaks, control characters or anything beyond ASCII.
    """
    key = value.strip()
    if not key:
        msg = f"{name} is empty; set it to the provider's key"
        raise ConfigurationError(msg)
    if not (key.isascii() and key.isprintable()):
        msg = f"{name} holds a line break, a control character or a character beyond ASCII; copy the key again"
        raise ConfigurationError(msg)
    if _SCHEME.match(key):
        msg = f"{name} begins with the word that is put before a key when it is sent; set it to the key alone"
        raise ConfigurationError(msg)
    if not _QUOTED_OR_BLANK.isdisjoint(key):
        msg = f"{name} holds a blank or a quotation mark, which no key does; set it to the key alone"
        raise ConfigurationError(msg)
    return key


def redact(text: str, secrets: Iterable[Secret | str] = ()) -> str:
    """The text without the given secrets and without what looks like one; JSON stays JSON.

    Args:
        text: any text: a body, a message, a header.
        secrets: known values: keys, or whole header values such as ``Bearer …``.
    """
    for part in _parts(secrets):
        text = re.sub(_spelled(part), REDACTED, text)
    return _LOOKS_SECRET.sub(lambda found: f"{found[1] or found[2] or ''}{REDACTED}", text)


def redact_cut(text: str, secrets: Iterable[Secret | str]) -> str:
    """As `redact`, for a text that was cut where a secret may have stood: its beginning is taken out as well.

    Args:
        text: part of a body, or a message made of it.
        secrets: as for `redact`.
    """
    known = list(secrets)
    text = redact(text, known)
    for part in _parts(known):
        kept, at = list[str](), 0
        for found in re.finditer(_spelled(part[:_LEAST_OF_A_PART]), text):
            end = found.end()
            for character in part[_LEAST_OF_A_PART:]:
                if (further := re.compile(_spelled(character)).match(text, end)) is None:
                    break
                end = further.end()
            kept += [text[at : found.start()], REDACTED]
            at = end
        text = "".join([*kept, text[at:]])
    return text


def holds_secret(text: str, secrets: Iterable[Secret | str]) -> bool:
    """Whether one of the known values stands in the text.

    Args:
        text: any text.
        secrets: as for `redact`.
    """
    return any(re.search(_spelled(part), text) for part in _parts(secrets))


def _parts(secrets: Iterable[Secret | str]) -> list[str]:
    """What a body may repeat of the secrets, longest first."""
    parts: set[str] = set()
    for secret in secrets:
        value = secret.reveal() if isinstance(secret, Secret) else secret
        scheme, _, credential = value.partition(" ")
        parts |= {value, credential, _password(scheme, credential)}
    return sorted((part for part in parts if len(part) >= _SHORTEST), key=len, reverse=True)


def _spelled(part: str) -> str:
    """A pattern for the part as it stands, and as JSON (in JSON), URLs and HTML spell it."""
    return "".join(character if character.isalnum() else _spellings(character) for character in part)


def _spellings(character: str) -> str:
    code = ord(character)
    escaped = rf"\\*(?:{re.escape(character)}|u(?i:{code:04x}))"
    return rf"(?:{escaped}|%(?i:{code:02x})|{re.escape(html.escape(character))}|&#(?:x(?i:{code:x})|0*{code});)"


def _password(scheme: str, credential: str) -> str:
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credential, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
