"""Secrets are where they are used and nowhere else, whatever a chat has been through: rows, logs, errors, objects."""

from __future__ import annotations

import base64
import logging
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import ANY_OWNER, Encryption, RetryPolicy, load_chat, make_engine, migrate, purge, rotate_keys, verify
from nodellm_orm.testing import LoopbackServer
from nodellm_orm.upkeep.doctor.database import check_database
from tests.acceptance import canaries
from tests.acceptance.cli.shell import Shell
from tests.acceptance.secretive import (
    API_KEY,
    FORMS,
    GATEWAY,
    HELD,
    MASTER,
    NEXT_MASTER,
    PASSWORD,
    QUESTIONER,
    SCENES,
    SPEAKER,
    World,
    answering,
)
from tests.integration.databases import empty_database, server_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

ENCRYPTION: Final = Encryption(keys={"first": MASTER})
KEYS: Final = ",".join(
    f"{name}:{base64.b64encode(key).decode()}" for name, key in (("b", NEXT_MASTER), ("first", MASTER))
)
NEXT: Final = Encryption(keys={"b": NEXT_MASTER, "first": MASTER}, current="b")


@asynccontextmanager
async def guarded_database(kind: DatabaseKind, folder: Path) -> AsyncIterator[str]:
    """The URL of an empty database whose user has a password, where the database has users."""
    if kind == "sqlite":
        async with empty_database(kind, folder) as url:
            yield url
        return
    async with empty_database(kind, folder) as url:
        name = f"u{str(make_url(url).database)[-12:]}"
        database = make_url(url).database
        hosts = ("'%'", "localhost") if kind == "mysql" else ()
        made = [f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{PASSWORD}'"] if kind == "postgresql" else []
        made += [f"CREATE USER {name}@{host} IDENTIFIED BY '{PASSWORD}'" for host in hosts]
        made += [f"GRANT ALL ON {database}.* TO {name}@{host}" for host in hosts]
        await administered(url, *made)
        yield (
            server_url(kind)
            .set(username=name, password=PASSWORD, database=database)
            .render_as_string(hide_password=False)
        )
        gone = [f"REASSIGN OWNED BY {name} TO CURRENT_USER", f"DROP ROLE {name}"] if kind == "postgresql" else []
        await administered(url, *gone, *(f"DROP USER {name}@{host}" for host in hosts))


async def administered(url: str, *statements: str) -> None:
    """Run statements as the administrator, who logs nothing here."""
    engine = make_engine(url)
    for statement in statements:
        async with engine.begin() as connection:
            await connection.execute(text(statement.replace(":", "\\:")))
    await engine.dispose()


@pytest.mark.fault("E01")
@pytest.mark.fault("E25")
async def test_no_secret_is_shown_whatever_a_chat_goes_through(
    database_kind: DatabaseKind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Key, headers, password and encryption keys: in no cell, log record, error, representation, pickle or command.

    Tools, approval, branches, windows, summaries, streams, cancellation, every kind of error, with and without
    encryption, then verification, a look by `doctor`, a change of keys, and deletion.
    """
    async with guarded_database(database_kind, tmp_path) as url:
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, logger="sqlalchemy")
        engine = create_async_engine(url)  # a host's own: it logs the parameters of every statement
        lines: deque[Any] = deque()
        async with LoopbackServer(answering(lines)) as server:
            once = RetryPolicy(max_attempts=1)
            async with SPEAKER.llm(server, api_key=API_KEY, environ={}, retry=once) as llm:
                await migrate(engine)
                world = World(engine, llm, server, lines)
                for encryption in (None, ENCRYPTION):
                    world.encryption = encryption
                    for scene in SCENES:
                        await scene(world)
                        assert not lines, scene.__name__
                places = await canaries.cells(engine)
                await upkeep(world, engine, url, Shell.at(tmp_path))
                world.show(llm, vars(llm), engine, ENCRYPTION, NEXT)
                places += await canaries.cells(engine)
        await engine.dispose()
        places += canaries.contents(tmp_path)
    places += world.seen + list(canaries.logged(not_echoed(caplog.records)))
    assert sorted(set(canaries.leaks(places, FORMS))) == []
    assert sorted(set(canaries.leaks(world.frames, HELD))) == []
    check_that_there_was_something_to_find(world, places, url)


def not_echoed(records: list[logging.LogRecord]) -> list[logging.LogRecord]:
    """All but what httpcore tells of a response's head as it came, which a server here made of the request's."""
    return [record for record in records if "receive_response_headers" not in record.getMessage()]


async def upkeep(world: World, engine: AsyncEngine, url: str, shell: Shell) -> None:
    """Verification, doctor, commands, a change of keys, and deletion in the end."""
    world.show(await verify(engine, encryption=ENCRYPTION), await verify(engine), *await check_database(engine))
    world.show(*await check_database(url), await rotate_keys(engine, NEXT), await rotate_keys(engine, NEXT))
    variables = {"NODELLM_DATABASE_URL": url, "NODELLM_ENCRYPTION_KEYS": KEYS, "ANTHROPIC_API_KEY": API_KEY}
    user = shell.with_environment(**variables)
    async with engine.connect() as connection:
        ids = [str(key) for key in (await connection.scalars(text("SELECT id FROM llm_chats"))).all()]
    for command in (
        ("doctor",),
        ("doctor", "--json"),
        ("verify",),
        ("chats", "--json"),
        *(("show", ids[at], "--json") for at in (0, -1)),
        ("db", "check"),
        ("db", "upgrade"),
        ("rotate-keys",),
    ):
        done = await user.run(*command)
        assert "Traceback" not in done.err, done.err
        world.seen.append((f"nodellm-orm {command[0]}", done.out + done.err))
    chat = await load_chat(engine, world.llm, ids[0], owner=ANY_OWNER, encryption=NEXT)
    await chat.delete()
    world.show(chat, await purge(engine, owner="ada"))


def check_that_there_was_something_to_find(world: World, places: list[tuple[str, str]], url: str) -> None:
    """The secrets were used, the places were filled, and what is looked for would have been found."""
    sent = " ".join(str(dict(request.headers)) for request in world.server.requests)
    assert all(secret in sent for secret in (API_KEY, GATEWAY, QUESTIONER))
    assert url.startswith("sqlite") or make_url(url).password == PASSWORD
    assert any(place == "llm_messages.content" and "zebra" in said for place, said in places)
    assert any(place.startswith("log sqlalchemy.engine") for place, _ in places)
    assert any(place.startswith("log nodellm_orm") for place, _ in places)
    assert world.errors >= {
        "AuthenticationError",
        "BadRequestError",
        "ChatBusyError",
        "ChatNotFoundError",
        "ConfigurationError",
        "EncryptionError",
        "IdempotencyError",
        "ProtocolError",
        "SchemaValidationError",
        "SchemaVersionError",
        "StaleChatError",
        "StorageError",
        "StreamInterruptedError",
        "ToolLimitError",
    }
    for name, written in FORMS.items():
        for form in written:
            assert (name, "there") in canaries.leaks([("there", f"x {form} x")], FORMS)
