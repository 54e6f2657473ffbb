"""How encrypted values stand in columns: told apart from every plain one, and no text or bytes once they are read.

In a text column a sealed value is ``U+FDD0 s1:key:base64``: `escape` writes four hexadecimal digits behind that mark,
so that no plain text is stored with an ``s`` there. In a column of bytes it begins with `BYTES_MARK`; a file that
happens to begin so is recognised by its digest (see `Sealer.opened_value`).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from nodellm_orm.store.escaping import MARK

TEXT_MARK: Final = f"{MARK}s"
"""Begins every sealed text."""
BYTES_MARK: Final = b"\x89nodellm-sealed\n"
"""Begins every sealed value of bytes."""
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What may name a key."""
HEAD_CHARS: Final = 128
"""Characters or bytes from which on two sealed values differ: mark, name of the key and nonce lie before."""
_TEXT_FORM: Final = re.compile(rf"{TEXT_MARK}1:({KEY_ID.pattern}):([A-Za-z0-9+/]+=*)")
_BYTES_VERSION: Final = b"1"


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """An encrypted value as it stands in its column.

    It is no text and no bytes, and shows neither: what is read without its key can reach no model, screen or log.
    """

    raw: str | bytes

    @property
    def key(self) -> str | None:
        """Name of the key it is encrypted with; ``None`` when the value is damaged."""
        parsed = self.parsed()
        return None if parsed is None else parsed[0]

    def parsed(self) -> tuple[str, bytes] | None:
        """Name of the key and what is encrypted, ``None`` when the value has not the form it was written in."""
        return _parsed_text(self.raw) if isinstance(self.raw, str) else _parsed_bytes(self.raw)

    def __repr__(self) -> str:
        """The name of its key, and nothing of its content."""
        return f"<encrypted with key {self.key!r}>"


def sealed_text(key: str, data: bytes) -> Sealed:
    """A sealed value for a text column.

    Args:
        key: name of the key.
        data: what is encrypted.
    """
    return Sealed(f"{TEXT_MARK}1:{key}:{base64.b64encode(data).decode('ascii')}")


def sealed_bytes(key: str, data: bytes) -> Sealed:
    """A sealed value for a column of bytes.

    Args:
        key: name of the key.
        data: what is encrypted.
    """
    name = key.encode("ascii")
    return Sealed(b"".join((BYTES_MARK, _BYTES_VERSION, bytes((len(name),)), name, data)))


def _parsed_text(raw: str) -> tuple[str, bytes] | None:
    match = _TEXT_FORM.fullmatch(raw)
    if match is None:
        return None
    try:
        data = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return None
    # Bits that stand for nothing at the end are zero: each value has one form.
    rest = base64.b64encode(data[-(len(data) % 3 or 3) :]).decode("ascii")
    return (match[1], data) if match[2].endswith(rest) else None


def _parsed_bytes(raw: bytes) -> tuple[str, bytes] | None:
    start = len(BYTES_MARK) + 2
    version, length = raw[len(BYTES_MARK) : start - 1], raw[start - 1 : start]
    if version != _BYTES_VERSION or not length:
        return None
    name = raw[start : start + length[0]].decode("ascii", "replace")
    return (name, raw[start + length[0] :]) if KEY_ID.fullmatch(name) else None
