"""Where the commands write: results to stdout, everything that is said about them to stderr."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

from nodellm_orm.cli.words import worded


def results() -> Console:
    """The console for what a command was asked for; nothing in a text is taken for markup."""
    return Console(markup=False, emoji=False, highlight=False)


def remarks() -> Console:
    """The console for everything else."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def complain(error: BaseException | str) -> None:
    """Say in one line what went wrong, without the password of any URL.

    Args:
        error: its message says what to do next.
    """
    said = worded(error) or type(error).__name__
    remarks().print(Text("error: ", style="bold red").append(said, style="not bold default"), soft_wrap=True)


def never_fail_to_print() -> None:
    """Show what a terminal's encoding has no sign for as an escape, and read what is not text as signs for it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")


def write_no_more() -> None:
    """Let what is still to be written go nowhere: stdout takes nothing more, and Python tries again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
