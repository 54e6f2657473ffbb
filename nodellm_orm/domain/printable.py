r"""Text that a stranger wrote, made harmless for a terminal or a page.

Stored text may hold escape sequences that clear a screen, rewrite a title or hide a line, and characters that change
the order in which others are shown. All of them are shown as escapes.
"""

from __future__ import annotations

from typing import Final
from unicodedata import category

_KEPT: Final = frozenset("\n\t\u200c\u200d")
"""Line ends and tabs, and the joiners that emoji and several scripts are written with."""


def printable(text: str) -> str:
    r"""The text with every character that a terminal might obey shown as an escape.

    Args:
        text: any text; line ends and tabs stay.

    Example:
        >>> printable("\x1b[2Jgone")
        '\\x1b[2Jgone'
    """
    text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT or c.isprintable() or category(c) == "Zs" else _escaped(c) for c in text)


def one_line(text: str, limit: int | None = None) -> str:
    """The text on one line, harmless, and cut where it is longer than allowed.

    Args:
        text: any text.
        limit: characters.

    Example:
        >>> one_line("a  b c and so on", limit=7)
        'a b c …'
    """
    line = " ".join(printable(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 — the widths of the escapes
