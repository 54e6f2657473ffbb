"""A user at a shell: runs the command as a process of its own, through pipes or in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tests.acceptance.forks import can_fork, on_streams, piped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from tests.acceptance.forks import Forked

COMMAND: Final = (sys.executable, "-m", "nodellm_orm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a process left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A folder, and the environment that commands are run with."""

    folder: Path
    environment: Mapping[str, str]
    anew: bool = False
    """Whether Python itself is started for each command, rather than forked where that makes no difference."""

    @classmethod
    def at(cls, folder: Path, **environment: str) -> Shell:
        """A shell in a folder, with nothing of the tests' own environment but the path to programs."""
        inherited = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "COLUMNS": "80"}
        return cls(folder=folder, environment={**inherited, "HOME": str(folder), **environment})

    def with_environment(self, **environment: str) -> Shell:
        """The same with further variables."""
        return replace(self, environment={**self.environment, **environment})

    async def run(self, *arguments: str, stdin: str | bytes = "") -> Finished:
        """Run `nodellm-orm` to its end."""
        return await self.program(*COMMAND, *arguments, stdin=stdin)

    async def program(self, *command: str, stdin: str | bytes = "") -> Finished:
        """Run any program to its end."""
        process = await self.start(*command)
        out, err = await process.communicate(stdin.encode() if isinstance(stdin, str) else stdin)
        return Finished(code=process.returncode or 0, out=out.decode(), err=err.decode())

    async def start(self, *command: str) -> asyncio.subprocess.Process | Forked:
        """Start a program, its streams being pipes."""
        if not self.anew and can_fork(command, self.environment):
            return await piped(command, self.folder, self.environment)
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env=dict(self.environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    @asynccontextmanager
    async def terminal(self, *arguments: str) -> AsyncIterator[Terminal]:
        """Run `nodellm-orm` in a terminal; what is still running on leaving the block is killed."""
        master, slave = pty.openpty()
        environment, command = {"TERM": "dumb", **self.environment}, (*COMMAND, *arguments)
        process: asyncio.subprocess.Process | Forked
        try:
            if not self.anew and can_fork(command, environment):
                process = on_streams(command, self.folder, environment, (slave, slave, slave), session=True)
            else:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=self.folder,
                    env=environment,
                    stdin=slave,
                    stdout=slave,
                    stderr=slave,
                    start_new_session=True,
                )
        finally:
            os.close(slave)
        terminal = Terminal(process, master)
        try:
            yield terminal
        finally:
            await terminal.close()


_AGAIN = 3.0
"""Seconds after which Ctrl-C is pressed again."""


class Terminal:
    """A terminal with one program in it."""

    def __init__(self, process: asyncio.subprocess.Process | Forked, master: int) -> None:
        """Begin to read what the program writes."""
        self.seen = ""
        self._process = process
        self._master = master
        self._unread = 0
        self._news = asyncio.Event()
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the program has closed its side
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.seen += data.decode(errors="replace")
        self._news.set()

    async def until(self, text: str) -> str:
        """Wait until the program has written a text, and give everything since the last call up to its end."""
        while (at := self.seen.find(text, self._unread)) < 0:
            self._news.clear()
            await self._news.wait()
        begin, self._unread = self._unread, at + len(text)
        return self.seen[begin : self._unread]

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    async def interrupt_until(self, text: str) -> str:
        """Press Ctrl-C at a question until the program writes a text, as `until` does.

        One that arrives in the moment before Python begins to wait for a key is noticed only with the next: a person
        presses it again.
        """
        while True:
            self.interrupt()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN):
                    return await self.until(text)

    async def ended(self) -> int:
        """Wait for the program's end, and give its exit code."""
        return await self._process.wait()

    async def close(self) -> None:
        """Kill the program if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


def lines(text: str) -> Sequence[str]:
    """The lines of a text that say something."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]
