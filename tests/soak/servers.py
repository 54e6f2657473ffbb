"""Database servers of the soak's own, which may be killed and started again as often as it likes."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

PATIENCE: Final = 60.0
"""Seconds that a server is given to come up."""
_OTHERS: Final = {
    "postgresql": (
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2"
    ),
    "mysql": (
        "SELECT id FROM information_schema.processlist "
        "WHERE db = database() AND id <> connection_id() ORDER BY rand() LIMIT 2"
    ),
}


class Database(Protocol):
    """A database that the soak may do anything to."""

    url: str

    async def terminate_connections(self) -> int:
        """End some connections of others; how many."""
        ...

    async def restart(self) -> bool:
        """Kill the server and start it again; whether there is one."""
        ...


class SqliteFile:
    """A file: there is no server to be killed, and no connection to be ended from outside."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{folder / 'soak.db'}"

    async def terminate_connections(self) -> int:
        """See `Database`."""
        return 0

    async def restart(self) -> bool:
        """See `Database`."""
        return False


class OwnServer:
    """A server process on a free port of 127.0.0.1, with its data in a folder of its own.

    Args:
        kind: which database.
        folder: empty, for its data.
    """

    def __init__(self, kind: DatabaseKind, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._port = _free_port()
        self._user = _user(kind)
        self._process: subprocess.Popen[bytes] | None = None
        user, driver = ("postgres", "asyncpg") if kind == "postgresql" else ("root", "aiomysql")
        self.url = f"{kind}+{driver}://{user}@127.0.0.1:{self._port}/{'postgres' if kind == 'postgresql' else 'soak'}"

    def prepare(self) -> None:
        """Make an empty cluster."""
        data = self._folder / "data"
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        if self._kind == "postgresql":
            command = [_binary("initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"]
        else:
            command = [
                *(_binary("mariadb-install-db"), "--no-defaults", f"--datadir={data}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ]
        self._run(command)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(  # noqa: S603 — a fixed command
            command, cwd=self._folder, user=self._user, capture_output=True, check=False
        )
        if done.returncode:
            msg = f"{command[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}"
            raise RuntimeError(msg)

    async def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._spawn()
        await self._until_it_answers()

    def _spawn(self) -> None:
        data = str(self._folder / "data")
        if self._kind == "postgresql":
            settings = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": str(self._folder),
                "max_connections": "300",
                "fsync": "off",  # processes are killed here, not machines
            }
            options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            command = [_binary("postgres"), "-D", data, "-p", str(self._port), *options]
        else:
            command = [
                *(_binary("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={self._port}"),
                *("--bind-address=127.0.0.1", f"--socket={self._folder / 'socket'}", "--max-connections=300"),
                *("--skip-log-bin", "--innodb-flush-log-at-trx-commit=2"),
            ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 — a fixed command
                command, cwd=self._folder, user=self._user, stdout=log, stderr=log, start_new_session=True
            )

    async def _until_it_answers(self) -> None:
        admin = self.url if self._kind == "postgresql" else self.url.removesuffix("soak")
        engine = _engine(admin)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with suppress(Exception):
                        async with engine.connect() as connection:
                            await connection.execute(text("SELECT 1"))
                            if self._kind == "mysql":
                                await connection.execute(text("CREATE DATABASE IF NOT EXISTS soak"))
                        return
                    await asyncio.sleep(0.1)
        finally:
            await engine.dispose()

    async def terminate_connections(self) -> int:
        """See `Database`."""
        engine = _engine(self.url)
        try:
            async with engine.connect() as connection:
                found = [row[0] for row in await connection.execute(text(_OTHERS[self._kind]))]
                if self._kind == "mysql":
                    for number in found:
                        with suppress(Exception):  # it may be gone by itself
                            await connection.execute(text(f"KILL CONNECTION {int(number)}"))
                return len(found)
        finally:
            await engine.dispose()

    async def restart(self) -> bool:
        """See `Database`."""
        await self.stop()
        await self.start()
        return True

    async def stop(self) -> None:
        """Kill the server with all of its processes, so that it has no time to tidy up."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL if self._kind == "mysql" else signal.SIGQUIT)
            await asyncio.to_thread(self._process.wait)
            self._process = None


def _engine(url: str) -> AsyncEngine:
    return create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _user(kind: DatabaseKind) -> str | None:
    """PostgreSQL refuses to run as root, MariaDB wants to be told."""
    if os.geteuid() != 0:
        return None
    return "postgres" if kind == "postgresql" else "mysql"


def _binary(name: str) -> str:
    places = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin"]
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which(name, path=os.pathsep.join([*places, *map(str, reversed(versions))]))
    if found is None:
        raise FileNotFoundError(name)
    return found


def missing(kind: DatabaseKind) -> str | None:
    """The program that a server of the soak's own needs and that is not installed."""
    for name in {"sqlite": (), "postgresql": ("initdb", "postgres"), "mysql": ("mariadb-install-db", "mariadbd")}[kind]:
        try:
            _binary(name)
        except FileNotFoundError:
            return name
    return None


@asynccontextmanager
async def own_database(kind: DatabaseKind) -> AsyncIterator[Database]:
    """A database of a kind that nobody else uses, gone afterwards.

    Args:
        kind: which.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{secrets.token_hex(4)}-"))
    try:
        if kind == "sqlite":
            yield SqliteFile(folder)
            return
        server = OwnServer(kind, folder)
        server.prepare()
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
