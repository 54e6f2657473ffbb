"""What the shell offers when Tab is pressed: ids of the newest chats, providers, words.

It is silent whatever happens, makes and changes nothing, and asks no provider. Titles are written by strangers, and
some shells evaluate what they are given as a description: all but letters, digits and a few signs is left out.
"""

import asyncio
import contextlib
import io
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import typer
from sqlalchemy import Select, create_engine, select

from nodellm_orm.cli.database import DEFAULT, RECORDS_VARIABLE, VARIABLE, missing
from nodellm_orm.cli.own import stored_records
from nodellm_orm.config import Environment
from nodellm_orm.domain.profile import EFFORTS
from nodellm_orm.providers.registry import provider_names
from nodellm_orm.store.define import Tables
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.guard import there

Offers = list[tuple[str, str]]
"""What may be typed, and what it is."""

_NEWEST: Final = 50
_DEADLINE: Final = 2.0
"""Seconds; a database that does not answer by then is as good as none."""
_TITLE: Final = 40
_HARMLESS: Final = re.compile(r"[^\w .,+/-]")
_WORD: Final = re.compile(r"[\w.:/@+-]+", re.ASCII)
"""What needs no quotes in any shell."""


def chat_ids(ctx: typer.Context, incomplete: str) -> Offers:
    """The newest chats of the database, and of the owner, that the command line names so far.

    Args:
        ctx: what was typed.
        incomplete: the beginning of the id.
    """
    return [(str(row.id), _about(row.title, row.created_at)) for row in _newest(ctx) if _begins(row.id, incomplete)]


def models(ctx: typer.Context, incomplete: str) -> Offers:
    """The models of the newest chats, with the provider that is named so far.

    Args:
        ctx: what was typed.
        incomplete: the beginning of the name.
    """
    provider = ctx.params.get("provider")
    found = {row.model: row.provider for row in _newest(ctx) if provider in {None, row.provider}}
    return [
        (model, _harmless(provider))
        for model, provider in sorted(found.items(), key=str)
        if isinstance(model, str) and _WORD.fullmatch(model) and _begins(model, incomplete)
    ]


def providers(incomplete: str) -> Offers:
    """The providers that there are.

    Args:
        incomplete: the beginning of the name.
    """
    return [(name, "") for name in provider_names() if _begins(name, incomplete)]


def thinking(incomplete: str) -> Offers:
    """How much a model may think.

    Args:
        incomplete: the beginning of the word.
    """
    return [(word, "") for word in EFFORTS if _begins(word, incomplete)]


def _begins(value: object, incomplete: str) -> bool:
    return str(value).startswith(incomplete)


def _about(title: object, created_at: datetime) -> str:
    return f"{_harmless(title)} {created_at:%Y-%m-%d}".strip()


def _harmless(text: object) -> str:
    # What is encrypted is no text.
    return " ".join(_HARMLESS.sub(" ", text).split())[:_TITLE] if isinstance(text, str) else ""


def _newest(ctx: typer.Context) -> Sequence[Any]:
    """Rows of the newest chats; none when anything is in the way."""
    given = ctx.params
    database = given.get("database") or given.get("url") or _variable(VARIABLE) or DEFAULT
    try:
        with _silence():
            tables = stored_records(given.get("records") or _variable(RECORDS_VARIABLE)).tables
            return _read(database, _statement(tables, given.get("owner")))
    except Exception:  # noqa: BLE001 — whatever is wrong, the person is typing: the command itself will say it
        return ()


def _variable(name: str) -> str | None:
    return Environment.of(os.environ).word(name)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def _statement(tables: Tables, owner: str | None) -> Select[Any]:
    chats = tables.chats.c
    newest = select(chats.id, chats.title, chats.created_at, chats.provider, chats.model).where(there(tables.chats))
    if owner is not None:
        newest = newest.where(chats.owner == owner)
    return newest.order_by(chats.created_at.desc(), chats.id.desc()).limit(_NEWEST)


def _read(database: str, statement: Select[Any]) -> Sequence[Any]:
    engine = make_engine(database, deadline=_DEADLINE)
    if engine.url.get_backend_name() == "sqlite":
        return () if missing(engine.url) else _read_file(str(engine.url.database), statement)
    return asyncio.run(_read_server(database, statement))


def _read_file(path: str, statement: Select[Any]) -> Sequence[Any]:
    def connect() -> sqlite3.Connection:
        address = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
        return sqlite3.connect(address, uri=True, timeout=_DEADLINE / 2)

    with create_engine("sqlite://", creator=connect).connect() as connection:
        found: Sequence[Any] = connection.execute(statement).all()
    return found


async def _read_server(database: str, statement: Select[Any]) -> Sequence[Any]:
    engine = make_engine(database, deadline=_DEADLINE)
    async with asyncio.timeout(_DEADLINE), engine.connect() as connection:
        found: Sequence[Any] = (await connection.execute(statement)).all()
    await engine.dispose()
    return found
