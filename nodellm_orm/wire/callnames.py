"""Names of tools that models call: a model may call what was never offered, by a name that no provider takes back."""

from __future__ import annotations

import re
from typing import Final

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_CHARS: Final = 64


def legal_name(name: str) -> str:
    """The name that a call goes back with in formats that take letters, digits, ``_`` and ``-``, up to 64 of them.

    Args:
        name: as the model, or another one, gave it; that of a tool which was offered stays as it is.

    Example:
        >>> legal_name("get_weather"), legal_name("multi_tool_use.parallel"), legal_name("")
        ('get_weather', 'multi_tool_use_parallel', '_')
    """
    return _ILLEGAL.sub("_", name)[:_CHARS] or "_"
