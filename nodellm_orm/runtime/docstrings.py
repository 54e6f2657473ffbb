"""What a docstring says about a function and about each of its arguments (Google, NumPy and Sphinx style)."""

from __future__ import annotations

import inspect
import re

_GOOGLE = re.compile(r"(args|arguments|parameters|params):\s*", re.IGNORECASE)
_NUMPY = re.compile(r"(other )?parameters\s*", re.IGNORECASE)
_UNDERLINE = re.compile(r"-{3,}\s*")
_GOOGLE_ENTRY = re.compile(r"(?P<name>\*{0,2}\w+)\s*(\(.*?\))?\s*:\s*(?P<text>.*)")
_NUMPY_ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(\s*,\s*\*{0,2}\w+)*)\s*(:.*)?")
_SPHINX = re.compile(r":(param|parameter|arg|argument|type)\s+([^:]*\s)?(?P<name>\*{0,2}\w+):\s*(?P<text>.*)")


def read(docstring: str | None) -> tuple[str, dict[str, str]]:
    r"""Split a docstring into its description and the descriptions of the arguments.

    Args:
        docstring: as written, or ``None``.

    Returns:
        Everything but the section about arguments, and each argument's own words on one line.

    Example:
        >>> read("Add.\n\nArgs:\n    a: the first number")
        ('Add.', {'a': 'the first number'})
    """
    lines = inspect.cleandoc(docstring or "").splitlines()
    kept: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        if _GOOGLE.fullmatch(line) and _end(lines, at + 1) > at + 1:
            at = _entries(lines, at + 1, _GOOGLE_ENTRY, found)
        elif _NUMPY.fullmatch(line) and at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1]):
            at = _numpy(lines, at + 2, found)
        elif match := _SPHINX.fullmatch(line):
            end = _end(lines, at + 1)
            if not match[1].startswith("type"):
                found[match["name"].lstrip("*")] = _joined([match["text"], *lines[at + 1 : end]])
            at = end
        else:
            kept.append(line)
            at += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), found


def _indented(lines: list[str], at: int) -> bool:
    return at < len(lines) and lines[at].startswith((" ", "\t"))


def _end(lines: list[str], at: int) -> int:
    """Where the indented block that starts here ends; blank lines inside it belong to it."""
    end = at
    for index in range(at, len(lines)):
        if _indented(lines, index):
            end = index + 1
        elif lines[index].strip():
            break
    return end


def _entries(lines: list[str], at: int, entry: re.Pattern[str], found: dict[str, str]) -> int:
    """Read a block of ``name (type): text`` entries; deeper lines continue the one above."""
    end = _end(lines, at)
    block = inspect.cleandoc("\n" + "\n".join(lines[at:end])).splitlines()
    name = ""
    for line in block:
        match = None if line.startswith(" ") else entry.fullmatch(line)
        if match:
            name = match["name"].lstrip("*")
            found[name] = match["text"].strip()
        elif name:
            found[name] = _joined([found[name], line])
    return end


def _numpy(lines: list[str], at: int, found: dict[str, str]) -> int:
    """Read NumPy entries: the name on a line of its own, the text indented below it."""
    while at < len(lines):
        match = _NUMPY_ENTRY.fullmatch(lines[at])
        next_section = at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1])
        if match is None or next_section:
            break
        end = _end(lines, at + 1)
        # One entry may name several arguments: ``x, y : float``.
        said = _joined(lines[at + 1 : end])
        found.update({name.strip().lstrip("*"): said for name in match["names"].split(",")})
        at = end
        while at < len(lines) and not lines[at].strip():
            at += 1
    return at


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())
