"""Errors as the command line says them: its own options, and no password."""

from __future__ import annotations

import re
from typing import Final

from nodellm_orm.domain.printable import one_line

_PASSWORD: Final = re.compile(r"(\w+://[^\s:/@]*):\S*@|([?&](?:password|passwd|pwd)=)[^\s&]*", re.IGNORECASE)
"""What a URL keeps secret: between the user and the last @, and in its options."""
_OPTIONS: Final = {
    "group_by": "by",
    "limit": "limit",
    "older_than": "older-than",
    "on_conflict": "on-conflict",
    "order_by": "order-by",
    "owner": "owner",
    "since": "since",
    "time_zone": "time-zone",
    "until": "until",
}
"""Arguments of functions that are options here."""
_OPTION: Final = re.compile(rf"(?<![\w-])({'|'.join(_OPTIONS)})=(?:\"(\w+)\")?")
_SENTENCES: Final = (
    ("after= is not a page's cursor", "--after is not a page's cursor"),
    ("pass the `next` of the page before, unchanged", "give what the page before tells, unchanged"),
    (
        "pass encryption=Encryption(keys={…}) with that key in it",
        "set NODELLM_ENCRYPTION_KEYS=name:key with that key in it",
    ),
    ("what export_chats() writes", "what nodellm-orm export writes"),
    ("open it with gzip.open(path, 'rb')", "try: gunzip -c FILE | nodellm-orm import -"),
    ("pass these as records=", "name these by --records"),
    ("pass records=", "name them by --records"),
    ("pass instructions=", "give --instructions"),
    ("pass tools=", "replay it in a program, with tools="),
    ("pass model=", "give --model"),
    ("pass values=", "begin it in your program, with values="),
    (", or allow more with database_timeout=", ""),
    ("wait for it (wait=seconds), cancel it", "wait for it, cancel it"),
    (", or `await migrate(engine)` at start-up", ""),
    ("`await migrate(engine)` or `nodellm-orm db upgrade`", "`nodellm-orm db upgrade`"),
    ("the chained error shows which one", "its code says why"),
    ("; register_provider adds one", ""),
)


def worded(error: BaseException | str) -> str:
    """An error on one line, in the words of the command line.

    Args:
        error: or what it says.

    Example:
        >>> worded("since=2026 is not before until=2025")
        '--since 2026 is not before --until 2025'
        >>> worded("no argument postgresql://me:secret@host/x")
        'no argument postgresql://me:***@host/x'
    """
    said = str(error)
    for ours, theirs in _SENTENCES:
        said = said.replace(ours, theirs)
    said = _OPTION.sub(lambda match: f"--{_OPTIONS[match[1]]} {match[2] or ''}", said)
    return one_line(_PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[1] else f"{match[2]}***", said))
