"""Where the commands write: results to stdout, everything that is said about them to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from nodellm_orm.domain.printable import one_line


def results() -> Console:
    """The console for what a command was asked for; nothing in a text is taken for markup."""
    return Console(markup=False, emoji=False, highlight=False)


def remarks() -> Console:
    """The console for everything else."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def complain(error: BaseException) -> None:
    """Say in one line what went wrong.

    Args:
        error: its message says what to do next.
    """
    said = one_line(str(error)) or type(error).__name__
    remarks().print(Text("error: ", style="bold red").append(said, style="not bold default"), soft_wrap=True)


def never_fail_to_print() -> None:
    """Show what a terminal's encoding has no sign for as an escape, and read what is not text as signs for it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
