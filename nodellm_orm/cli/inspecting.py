"""The command `inspect`: the stored chats as a web page, for whoever has the address it prints."""

import asyncio
import contextlib
import socket
import sys
import webbrowser
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.owners import ANY_OWNER

if TYPE_CHECKING:
    from starlette.applications import Starlette

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_ANY: Final = ("", "0.0.0.0", "::")  # noqa: S104 — recognised, not bound to
_PORT: Final = 8765

EXAMPLES: Final = """
Examples:

  nodellm-orm inspect

  nodellm-orm inspect --port 0 --no-browser -d postgresql://app@localhost/app
"""


def inspect(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 takes any that is free.")
    ] = _PORT,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; others than loopback are seen by others.")
    ] = _LOOPBACK[0],
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name it may be called by; may be repeated."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    owner: Owner = None,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Show the chats in a web browser; nothing can be changed there.

    The address that is printed contains a token, and works until the command ends (Ctrl-C).
    """
    if host in _ANY and not allow_host:
        msg = f"--host {host or repr(host)} listens on every address; say by --allow-host which names it answers to"
        raise ConfigurationError(msg)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            _inspect(database, records, host, port, names=tuple(allow_host or ()), browser=not no_browser, owner=owner)
        )


async def _inspect(
    database: str,
    records: str | None,
    host: str,
    port: int,
    *,
    names: tuple[str, ...],
    browser: bool,
    owner: str | None,
) -> None:
    try:
        from nodellm_orm.inspector import create_inspector  # noqa: PLC0415 — an extra that may be missing
        from nodellm_orm.inspector.serving import serve  # noqa: PLC0415 — an extra that may be missing
    except ModuleNotFoundError as error:
        msg = f"the inspector needs {error.name}: pip install 'nodellm_orm[inspector]'"
        raise UnsupportedFeatureError(msg) from error
    async with opened(database, records) as (engine, stored):
        app: Starlette = create_inspector(
            engine,
            records=stored,
            owner=ANY_OWNER if owner is None else owner,
            allowed_hosts=(*_LOOPBACK, *(() if host in _ANY else (host,)), *names),
        )
        with _listening(host, port) as listener:
            address = _address(listener, names[0] if host in _ANY else host, app.state.token)
            results().out(address, highlight=False)
            sys.stdout.flush()
            remarks().print("Ctrl-C ends it.", style="dim")
            if host not in _LOOPBACK:
                remarks().print("Whoever can reach this address and knows the token reads all of it.", style="yellow")
            if browser and sys.stdout.isatty():
                webbrowser.open(address)
            await serve(app, listener)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that the port is known before the address is printed.

    Raises:
        ConfigurationError: the address is not to be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = error.strerror or type(error).__name__
        msg = f"cannot listen on {host} port {port}: {reason}; choose others by --host and --port (0: any free one)"
        raise ConfigurationError(msg) from error
    return listener


def _address(listener: socket.socket, name: str, token: str) -> str:
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listener.getsockname()[1]}/?token={token}"
