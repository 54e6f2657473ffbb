"""A program in a fork finds and leaves what it would as a new process, so that other tests may be quick with it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.acceptance.cli.shell import Shell
from tests.acceptance.forks import Forked

if TYPE_CHECKING:
    from pathlib import Path

FOUND: Final = """
import asyncio, atexit, json, locale, os, signal, sys, threading, time, warnings
streams = (sys.stdin, sys.stdout, sys.stderr)
print(json.dumps({
    "arguments": sys.argv,
    "name": __name__,
    "first place": sys.path[0],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "streams": [(s.fileno(), s.encoding, s.errors, s.line_buffering, s.isatty()) for s in streams],
    "text": locale.getpreferredencoding(False),
    "zone": time.tzname,
    "threads": threading.active_count(),
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)],
    "warnings": warnings.filters[0][0] if os.environ.get("PYTHONWARNINGS") else "",
    "told": sys.stdin.read(),
}))
"""
ENDINGS: Final = {
    "simply": "print('said')",
    "a number": "print('said'); raise SystemExit(3)",
    "a word": "print('said'); raise SystemExit('what went wrong')",
    "an exception": "print('said'); 1 / 0",
    "a handler": "import atexit; atexit.register(print, 'at the end'); print('said')",
    "a thread": "import threading, time; threading.Timer(0.05, print, ['later']).start(); print('said')",
    "a signal": "import os, signal; print('said', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "Ctrl-C": "import os, signal; print('said'); os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)",
    "a task": "import asyncio\nasync def never(): pass\nnever()\nprint('said')",
}


def both(folder: Path, program: str, **environment: str) -> tuple[Shell, Shell, str]:
    """A shell that forks, one that does not, and the program."""
    file = folder / "program.py"
    file.write_text(program)
    shell = Shell.at(folder, **environment)
    return shell, replace(shell, anew=True), str(file)


@pytest.mark.parametrize("environment", [{}, {"TZ": "Asia/Tokyo", "NO_COLOR": "1", "PYTHONWARNINGS": "error"}], ids=str)
async def test_a_fork_finds_what_a_new_process_finds(tmp_path: Path, environment: dict[str, str]) -> None:
    """Arguments, environment, folder, streams, encodings, time zone, signals, threads and warnings are the same."""
    shell, anew, file = both(tmp_path, FOUND, **environment)
    first = await shell.start(sys.executable, file)
    assert isinstance(first, Forked)
    await first.communicate()
    found: list[Any] = []
    for user in (shell, anew):
        done = await user.program(sys.executable, file, "one", "zwei ü", stdin="said\n")
        assert (done.code, done.err) == (0, "")
        found.append(json.loads(done.out))
    assert found[0] == found[1]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_fork_ends_as_a_new_process_ends(tmp_path: Path, ending: str) -> None:
    """Exit code or signal, and everything that was written, by handlers and threads as well."""
    shell, anew, file = both(tmp_path, ENDINGS[ending])
    forked, new = await asyncio.gather(*(user.program(sys.executable, file) for user in (shell, anew)))
    assert (forked.code, forked.out) == (new.code, new.out)
    assert [line for line in new.err.splitlines() if line not in forked.err] == []
    assert bool(forked.err) == bool(new.err)


async def test_what_only_a_new_process_can_read_is_started_anew(tmp_path: Path) -> None:
    """Another language, and whatever Python reads while it starts, are never left to a fork."""
    for environment in ({"LANG": "C"}, {"LC_ALL": "C"}, {"PYTHONUTF8": "0"}, {"PYTHONWARNINGS": "ignore"}):
        shell, _, file = both(tmp_path, "import time; time.sleep(60)", **environment)
        process = await shell.start(sys.executable, file)
        assert not isinstance(process, Forked)
        process.kill()
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
