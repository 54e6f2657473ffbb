"""Other processes for tests, forked from a server that has imported everything once and has done nothing else.

Such a process is as good as a new interpreter wherever a test is not about the interpreter's own start. It has an
address space, descriptors and a process id of its own, and dies of a signal alone. The server has one thread, and has
never had an event loop, an engine, a client, a connection or an id: nothing of that kind can be shared, and no cache
holds anything but code that was imported. Python's random numbers are seeded anew in every fork. What a new interpreter
does with its surroundings is done here: arguments, environment, folder, standard streams, locale, time zone, and at the
end exit code, threads, exit handlers and a collection that tells of what was left open. It takes milliseconds instead
of a second.

Not as in a new interpreter: hashes of texts are those of the server, and a variable that is read while Python starts
says nothing (see `can_fork`).
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import locale
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from functools import partial
from multiprocessing import reduction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.context import ForkServerProcess

FORKS: Final = multiprocessing.get_context("forkserver")
PATIENCE: Final = 90.0
"""Seconds that a process is waited for, so that a test that goes wrong comes to an end."""
_PROGRAMS: Final = ("tests.acceptance.forks", "tests.acceptance.victim")
_DRIVERS: Final = ("aiosqlite", "asyncpg", "aiomysql", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql")
_COMMAND: Final = (
    "nodellm_orm.cli.app",
    *(f"nodellm_orm.cli.{entry.module}" for entry in COMMANDS.values()),  # each is imported when it is meant
    "typer.rich_utils",
    "rich.progress",
    "rich.table",
    "alembic.config",
    "readline",
)
_IMPORTED_LATE: Final = ("httpcore", "anyio._backends._asyncio", "genai_prices.data")
FORKS.set_forkserver_preload(["pytest", *_DRIVERS, *_IMPORTED_LATE, *_COMMAND, *_PROGRAMS])

_LANGUAGE: Final = "C.UTF-8"
_STRICT: Final = "error"


async def readable(descriptor: int) -> None:
    """Wait until there is something to read, or the other side is gone.

    Args:
        descriptor: an open file.

    Raises:
        TimeoutError: nothing happens.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(descriptor, arrived.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
    finally:
        loop.remove_reader(descriptor)


async def ended(process: ForkServerProcess) -> int:
    """Wait until a process is gone; its exit status, or the signal that it died of as a negative number."""
    if process.exitcode is None:
        await readable(process.sentinel)
        process.join()
    status = process.exitcode
    assert status is not None
    return status


async def status_of(function: Callable[..., None], *arguments: object) -> int:
    """Call a function in a process of its own; how that ended.

    Args:
        function: of a module that can be imported there.
        arguments: what it is given.
    """
    process = FORKS.Process(target=function, args=arguments, daemon=True)
    process.start()
    try:
        return await ended(process)
    finally:
        process.kill()
        process.join()
        process.close()


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def can_fork(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork does what a new process would: a module or a file, and nothing that is for Python's own start.

    Args:
        command: the program and its arguments.
        environment: the variables that it is run with.
    """
    program, what, *_ = [*command, "", ""]
    ours = program == sys.executable and (what == "-m" or what.endswith(".py"))
    told = {name for name in environment if name.startswith(("PYTHON", "LC_"))}
    warned = environment.get("PYTHONWARNINGS", _STRICT) == _STRICT
    return ours and told <= {"PYTHONWARNINGS"} and warned and environment.get("LANG") == _LANGUAGE


class Forked:
    """A program in a fork, as `asyncio.subprocess.Process` shows one.

    Args:
        process: it, once it was started.
    """

    stdin: asyncio.StreamWriter | None = None
    stdout: asyncio.StreamReader | None = None
    stderr: asyncio.StreamReader | None = None

    def __init__(self, process: ForkServerProcess) -> None:
        """Nothing is connected yet."""
        self._process = process
        self.closed: list[asyncio.Event] = []
        """One for each pipe that is read."""

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as it has."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait for its end."""
        return await ended(self._process)

    def send_signal(self, number: int) -> None:
        """Send it a signal.

        Raises:
            ProcessLookupError: it has ended.
        """
        pid = self._process.pid
        if pid is None or self._process.exitcode is not None:
            raise ProcessLookupError
        os.kill(pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def communicate(self, told: bytes = b"") -> tuple[bytes, bytes]:
        """Write to it, read everything that it writes, and wait for its end."""
        assert self.stdin is not None
        assert self.stdout is not None
        assert self.stderr is not None
        _, out, err = await asyncio.gather(_fed(self.stdin, told), self.stdout.read(), self.stderr.read())
        await asyncio.gather(self.wait(), *(event.wait() for event in self.closed))
        return out, err


async def _fed(stdin: asyncio.StreamWriter, told: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(told)
        await stdin.drain()
    stdin.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        await stdin.wait_closed()


async def piped(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Forked:
    """Run a program, its standard streams being pipes.

    Args:
        command: what `can_fork` accepts.
        folder: where it is run.
        environment: all that it is run with.
    """
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    ours_err, theirs_err = os.pipe()
    forked = on_streams(command, folder, environment, (theirs_in, theirs_out, theirs_err))
    for theirs in (theirs_in, theirs_out, theirs_err):
        os.close(theirs)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(ours_in, "wb", 0)
    )
    forked.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
    forked.stdout, forked.stderr = asyncio.StreamReader(), asyncio.StreamReader()
    for reader, ours in ((forked.stdout, ours_out), (forked.stderr, ours_err)):
        _, reading = await loop.connect_read_pipe(partial(_Reading, reader), os.fdopen(ours, "rb", 0))
        forked.closed.append(reading.closed)
    return forked


class _Reading(asyncio.StreamReaderProtocol):
    """Reads a pipe, and tells when it is closed."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.closed = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side is gone, and everything was read."""
        super().connection_lost(exc)
        self.closed.set()


def on_streams(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
    *,
    session: bool = False,
) -> Forked:
    """Run a program on open files.

    Args:
        command: what `can_fork` accepts.
        folder: where it is run.
        environment: all that it is run with.
        streams: its standard input, output and error.
        session: whether it leads a session of its own.
    """
    lent = tuple(map(_Lent, streams))
    arguments = (tuple(command[1:]), str(folder), dict(environment), lent)
    process = FORKS.Process(target=_run, args=arguments, kwargs={"session": session}, daemon=True)
    process.start()
    return Forked(process)


class _Lent:
    """An open file that goes along to the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        """How it is told to the process."""
        return _received, (reduction.DupFd(self._descriptor),)


def _received(descriptor: Any) -> int:
    number: int = descriptor.detach()
    return number


# ── in the fork ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _run(
    arguments: tuple[str, ...],
    folder: str,
    environment: dict[str, str],
    streams: tuple[int, int, int],
    *,
    session: bool,
) -> None:
    assert threading.active_count() == 1
    gc.freeze()  # what the server has imported is no business of this process's collections
    if session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    locale.setlocale(locale.LC_CTYPE, "")
    if "PYTHONWARNINGS" in environment:
        warnings.simplefilter(_STRICT)
    _stand_on(streams)
    try:
        _main(arguments)
    except SystemExit as left:
        if isinstance(left.code, str):
            sys.stderr.write(f"{left.code}\n")
            sys.exit(1)
        raise
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:  # what an interpreter does when it ends
        threading._shutdown()  # type: ignore[attr-defined]  # it has no public name
        atexit._run_exitfuncs()
        gc.collect()


def _stand_on(streams: tuple[int, int, int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    lines = 1 if os.isatty(1) else -1
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", lines, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)


def _main(arguments: tuple[str, ...]) -> None:
    what, *rest = arguments
    if what == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *rest]
        sys.path.insert(0, str(Path(what).parent))
        runpy.run_path(what, run_name="__main__")
