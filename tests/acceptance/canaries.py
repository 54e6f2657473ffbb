"""Looks for secrets wherever a program, a log or a stranger who reads the database could see them."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import inspect, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

_PACKAGE: Final = Path(__file__).parents[2] / "nodellm_orm"
_ATOMS: Final = (str, bytes, int, float, bool, type(None))
_PART: Final = 12
"""So much of a secret is a leak as well."""
_DEPTH: Final = 6


def spellings(secret: str) -> set[str]:
    """The secret as JSON, URLs, HTML, base64 and hexadecimal digits write it, its beginning and its end."""
    plain = secret.encode()
    forms = {secret, json.dumps(secret)[1:-1], secret.replace("/", "\\/"), html.escape(secret), quote(secret, safe="")}
    forms |= {quote(secret), plain.hex(), base64.b64encode(plain).decode().rstrip("=")}
    return forms | {secret[:_PART], secret[-_PART:]}


def spellings_of_key(key: bytes) -> set[str]:
    """Raw bytes of a key as base64 of either kind, as digits, and as Python and SQL show bytes."""
    ordinary, of_urls = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    parts = {ordinary[:_PART], ordinary[-_PART:], of_urls[:_PART], of_urls[-_PART:]}
    return {key.hex(), key.hex().upper(), repr(key)[2:-1], key.decode("latin-1")} | parts


def leaks(places: Iterable[tuple[str, str]], forms: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Which secret is where.

    Args:
        places: names of places, and the text that stands there.
        forms: names of secrets, and their spellings.
    """
    return [
        (secret, place)
        for place, said in places
        for secret, written in forms.items()
        if any(form in said for form in written)
    ]


def told_by(error: BaseException) -> Iterator[str]:
    """Everything that an error and its causes say to people, to logs and to whoever pickles it.

    Args:
        error: as caught; its causes, contexts, notes and the members of groups are looked at too.
    """
    yield "".join(traceback.format_exception(error))
    for link in _links(error):
        yield f"{link} {link!r} {link.args!r} {vars(link)!r} {getattr(link, '__notes__', ())!r}"
        yield from pickled(link)


def told_by_frames(error: BaseException) -> Iterator[str]:
    """The local variables of our own functions that an error passed through: tools that watch programs collect them.

    Args:
        error: as caught.
    """
    for link in _links(error):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
                yield repr(frame.f_locals)


def _links(error: BaseException) -> list[BaseException]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
    return seen


def told_by_object(value: object) -> Iterator[str]:
    """What an object of ours shows: as text, as a representation, in f-strings, in its members, pickled."""
    yield f"{value!s} {value!r} {value}"
    yield from members(value)
    yield from pickled(value)


def members(value: object, depth: int = _DEPTH) -> Iterator[str]:
    """Representations of the public members of an object of ours, and of theirs."""
    names = {*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())}
    if depth == 0 or isinstance(value, _ATOMS) or not type(value).__module__.startswith("nodellm_orm"):
        return
    for name in sorted(name for name in names if not name.startswith("_")):
        member: Any = getattr(value, name, None)
        yield f"{name}={member!r}"
        yield from members(member, depth - 1)


def pickled(value: object) -> Iterator[str]:
    """The object's pickle, or why it has none."""
    try:
        yield pickle.dumps(value).decode("latin-1")
    except Exception as error:  # noqa: BLE001 — whatever prevents it says so
        yield f"{error!r} {error.__cause__!r} {error.__context__!r}"


def logged(records: Iterable[logging.LogRecord]) -> Iterator[tuple[str, str]]:
    """What log records say, with all that handlers may add to it."""
    formatter = logging.Formatter("%(name)s %(message)s")
    for record in records:
        extra = {name: value for name, value in vars(record).items() if name != "exc_info"}
        yield f"log {record.name}", f"{formatter.format(record)} {extra!r}"


async def cells(engine: AsyncEngine) -> list[tuple[str, str]]:
    """Every column of every row of every table that there is, whoever made it, by SQL and as the driver gives it."""

    def read(connection: Connection) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        quoted = connection.dialect.identifier_preparer.quote
        for table in inspect(connection).get_table_names():
            rows = connection.execute(text(f"SELECT * FROM {quoted(table)}")).mappings()  # noqa: S608 — its own names
            for row in rows:
                found += [(f"{table}.{name}", _shown(value)) for name, value in row.items() if value is not None]
        return found

    async with engine.connect() as connection:
        return await connection.run_sync(read)


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) else repr(value)


def contents(folder: Path) -> list[tuple[str, str]]:
    """The bytes of the files in a folder: a SQLite file has more in it than its rows."""
    return [(file.name, file.read_bytes().decode("latin-1")) for file in folder.iterdir() if file.is_file()]
