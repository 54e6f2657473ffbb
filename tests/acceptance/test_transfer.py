"""Chats go into a file and come out of it: on every database, whatever is in them, and whatever happens to the file."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import signal
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import permutations
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Float, String, event, func, insert, select, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.util import await_only

from nodellm_orm import (
    ChatError,
    ChatNotFoundError,
    ConfigurationError,
    Encryption,
    EncryptionError,
    SchemaVersionError,
    StorageError,
    UnsupportedFeatureError,
    create_chat,
    define_records,
    export_chats,
    import_chats,
    load_chat,
    migrate,
    purge,
    tool,
    verify,
)
from nodellm_orm.testing import FakeCall
from nodellm_orm.transfer.layout import TABLES
from tests.acceptance import importer
from tests.acceptance.forks import status_of
from tests.acceptance.healthy import HOSTILE, OWNER, PNG, get_weather, healthy
from tests.acceptance.speakers import Says
from tests.acceptance.transfers import (
    SPEAKER,
    T,
    database,
    exported,
    long_chat,
    message_row,
    objects,
    resealed,
    rows_of,
    small,
    tiny_chats,
)
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.healthy import Healthy
    from tests.acceptance.victim import Where
    from tests.integration.databases import DatabaseKind

PAIRS = [
    pytest.param(*pair, marks=[getattr(pytest.mark, kind) for kind in pair if kind != "sqlite"], id="-".join(pair))
    for pair in permutations(("sqlite", "postgresql", "mysql"), 2)
]


@pytest.fixture
async def filled(engine: AsyncEngine) -> tuple[AsyncEngine, Healthy]:
    """Each database in turn, with chats of all kinds in it."""
    return engine, await healthy(engine)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database file with the tables in it."""
    async with database("sqlite", tmp_path) as engine:
        yield engine


# ── there and back ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_equal_bytes_and_equal_requests(source: DatabaseKind, target: DatabaseKind, tmp_path: Path) -> None:
    """What is exported, imported elsewhere and exported again is the same file; the next request is the same, too."""
    async with database(source, tmp_path) as here, database(target, tmp_path) as there:
        chats = await healthy(here)
        async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server) as llm:
            gone = await create_chat(here, llm)
            await gone.ask("and then deleted")
            await gone.delete()
        file = await exported(here)
        report = await import_chats(there, io.BytesIO(file))
        assert report.chats == chats.chats
        assert await exported(there) == file
        verified = await verify(there)
        assert verified.ok, verified.findings
        again = await import_chats(there, io.BytesIO(file))
        assert (again.chats, again.unchanged, again.requests) == (0, chats.chats, 0)
        assert await exported(there) == file
        sent = [await _next_request(engine, chats.full) for engine in (here, there)]
        assert sent[0] == sent[1]


async def _next_request(engine: AsyncEngine, chat_id: UUID) -> bytes:
    async with SPEAKER.server(Says(text="Yes.")) as server, SPEAKER.llm(server) as llm:
        chat = await load_chat(engine, llm, chat_id, owner=OWNER, tools=[get_weather])
        await chat.ask("Still there?")
        return server.requests[-1].body


async def test_every_row_survives(filled: tuple[AsyncEngine, Healthy], tmp_path: Path) -> None:
    """Each row of each table is there again with each value, but for the lease of whoever works on a chat."""
    engine, _ = filled
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(await exported(engine)))
        for table in (getattr(T, name) for name in TABLES):
            before, after = await rows_of(engine, table), await rows_of(there, table)
            local = {"lease_owner", "lease_until"} | ({"created_at"} if table is T.texts else set())
            for row in (*before, *after):
                for name in local:
                    row.pop(name, None)
                if row.get("status") == "running" and table is T.turns:
                    row["reason"] = "released"
            assert after == before, table.name


async def test_a_running_turn_is_carried_on_where_it_is_imported(engine: AsyncEngine, tmp_path: Path) -> None:
    """A turn is exported while its worker has it: whoever imports it resumes it at once; the worker goes on as well."""
    files: list[bytes] = []

    @tool(idempotent=True)
    async def copy() -> str:
        """Copy the database, the first time."""
        if not files:
            files.append(await exported(engine))
        return "copied"

    script = Says(calls=[FakeCall("copy", {})]), Says(text="done here")
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[copy])
        assert (await chat.ask("Copy yourself")).content == "done here"
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(files[0]))
        report = await verify(there)
        assert report.ok, report.findings
        assert [note.rule for note in report.notes] == ["interrupted"]
        assert await exported(there) == files[0]
        async with SPEAKER.server(Says(text="done there")) as server, SPEAKER.llm(server) as llm:
            moved = await load_chat(there, llm, chat.id, tools=[copy])
            assert (await moved.resume()).content == "done there"


async def test_encrypted_chats_travel_in_plain_text(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """Encrypted content is refused without its key, exported decrypted with it, and encrypted under the target's."""
    one, two = (Encryption(keys={name: Encryption.generate_key()}) for name in ("one", "two"))
    async with database(database_kind, tmp_path) as here, database(database_kind, tmp_path) as there:
        async with SPEAKER.server(Says(text="secret answer")) as server, SPEAKER.llm(server) as llm:
            chat = await create_chat(here, llm, encryption=one, title="secret title")
            await chat.ask("secret question", files=[PNG])
        with pytest.raises(EncryptionError, match="pass encryption="):
            await exported(here)
        file = await exported(here, encryption=one)
        assert b"secret question" in file
        await import_chats(there, io.BytesIO(file), encryption=two)
        with pytest.raises(EncryptionError):
            await exported(there)
        assert await exported(there, encryption=two) == file
        again = await import_chats(there, io.BytesIO(file), encryption=two)
        assert again.unchanged == 1
        assert (await verify(there, encryption=two)).ok


async def test_another_owner(filled: tuple[AsyncEngine, Healthy], tmp_path: Path) -> None:
    """Chats can be imported for somebody else, files and ledger included, and are recognised when they come again."""
    engine, chats = filled
    file = await exported(engine)
    async with database("sqlite", tmp_path) as there:
        for expected in (chats.chats, 0):
            assert (await import_chats(there, io.BytesIO(file), owner="eve")).chats == expected
        for table in (T.chats, T.requests, T.blobs, T.texts):
            assert {row["owner"] for row in await rows_of(there, table)} == {"eve"}
        assert (await verify(there)).ok


class Numbers:
    """What a host adds to messages and chats."""

    weight: Mapped[float | None] = mapped_column(Float)
    tag: Mapped[str | None] = mapped_column(String(200))
    number: Mapped[int | None] = mapped_column(BigInteger)


class Base(DeclarativeBase):
    """A host's base."""


HOSTS = define_records(Base, prefix="own_", chat=Numbers)


async def test_columns_of_a_host(tmp_path: Path) -> None:
    """Further columns are exported by their names, imported where they are, and refused elsewhere with what to do."""
    extra = {"weight": 0.1, "tag": HOSTILE.replace("\x00", "").replace("\ud83d", ""), "number": 2**62 + 1}
    async with empty_database("sqlite", tmp_path) as one, empty_database("sqlite", tmp_path) as two:
        here, there = create_async_engine(one), create_async_engine(two)
        for engine in (here, there):
            await migrate(engine)
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
        async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
            await create_chat(here, llm, records=HOSTS, values=extra)
        file = await exported(here, records=HOSTS)
        with pytest.raises(StorageError, match=r"line 1 .* number, tag, weight; add them to your records"):
            await import_chats(there, io.BytesIO(file))
        await import_chats(there, io.BytesIO(file), records=HOSTS)
        assert await exported(there, records=HOSTS) == file
        assert extra.items() <= (await rows_of(there, HOSTS.tables.chats))[0].items()
        await here.dispose()
        await there.dispose()


# ── what is chosen ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_exported_can_be_chosen(filled: tuple[AsyncEngine, Healthy]) -> None:
    """By ids, by owner, and by when a chat was last used; ids that are not there are an error."""
    engine, chats = filled
    one = objects(await exported(engine, chats=[str(chats.full)]))
    assert [line["chats"]["id"] for line in one if "chats" in line] == [str(chats.full)]
    owned = objects(await exported(engine, owner=OWNER))
    assert {line["chats"]["owner"] for line in owned if "chats" in line} == {OWNER}
    assert await exported(engine, until=datetime(2020, 1, 1, tzinfo=UTC)) == await exported(engine, chats=[])
    assert await exported(engine, since=datetime(2020, 1, 1, tzinfo=UTC)) == await exported(engine)
    with pytest.raises(ChatNotFoundError):
        await exported(engine, chats=[chats.full], owner="bob")
    with pytest.raises(ChatNotFoundError):
        await exported(engine, chats=[UUID(int=7)])


async def test_the_ledger_outlives_its_chats(filled: tuple[AsyncEngine, Healthy], tmp_path: Path) -> None:
    """Rows of deleted chats are part of an export of everything; a chat that comes back finds its own."""
    engine, chats = filled
    before = await exported(engine)
    await purge(engine, older_than=timedelta(0), owner="bob")
    after = await exported(engine)
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(after))
        report = await import_chats(there, io.BytesIO(before))
        assert (report.chats, report.requests) == (1, 0)
        assert report.unchanged == chats.chats - 1
        assert await exported(there) == before


WRITE: Any = export_chats
READ: Any = import_chats


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda engine: WRITE(engine, io.StringIO()), id="text"),
        pytest.param(lambda engine: READ(engine, io.StringIO("x")), id="text-in"),
        pytest.param(lambda engine: WRITE(engine, 7), id="number"),
        pytest.param(lambda engine: WRITE(engine, "/nowhere/at/all"), id="folder"),
        pytest.param(lambda engine: READ(engine, "/nowhere/at/all"), id="missing"),
        pytest.param(lambda engine: WRITE(engine, io.BytesIO(), format="csv"), id="format"),
        pytest.param(lambda engine: WRITE(engine, io.BytesIO(), format="parquet"), id="parquet"),
        pytest.param(lambda engine: WRITE(engine, io.BytesIO(), chats=["7"]), id="ids"),
        pytest.param(lambda engine: WRITE(engine, io.BytesIO(), since=datetime(2026, 1, 1)), id="naive"),  # noqa: DTZ001 — that is the mistake
        pytest.param(
            lambda engine: WRITE(engine, io.BytesIO(), since=datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))),
            id="outside of the calendar",
        ),
        pytest.param(lambda engine: READ(engine, io.BytesIO(), on_conflict="merge"), id="conflict"),
        pytest.param(lambda engine: READ(engine, io.BytesIO(), owner=7), id="owner"),
    ],
)
async def test_arguments_that_cannot_be_meant(call: Callable[[AsyncEngine], Any], sqlite: AsyncEngine) -> None:
    """Each is refused in our own words, before anything happens."""
    with pytest.raises(ConfigurationError):
        await call(sqlite)


async def test_a_path_appears_when_it_is_complete(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """An export that fails leaves the file of that name as it was, and nothing beside it."""
    await healthy(sqlite)
    path = tmp_path / "files" / "chats.jsonl"
    path.parent.mkdir()
    report = await export_chats(sqlite, path)
    whole = path.read_bytes()
    assert report.size == len(whole)

    def stop(_: object) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await export_chats(sqlite, path, progress=stop)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 — hidden ones too


# ── hostile values ────────────────────────────────────────────────────────────────────────────────────────────────

_TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from([HOSTILE, "\ud83d\ude00", "\ufdd00000", "\u2028\x7f"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 — bounds are naive
_AMOUNTS = st.decimals(-1000, 1000, places=12) | st.none()
_COUNTS = st.integers(-(2**63) + 1, 2**63 - 1)
_ROWS = st.fixed_dictionaries(
    {
        "chat": st.fixed_dictionaries(
            {"owner": st.none() | _TEXTS, "title": st.none() | _TEXTS, "metadata": st.dictionaries(_TEXTS, _JSON)}
        ),
        "message": st.fixed_dictionaries({"content": _TEXTS, "parts": _TEXTS, "created_at": _MOMENTS}),
        "request": st.fixed_dictionaries(
            {"cost": _AMOUNTS, "input_tokens": _COUNTS, "request_id": _TEXTS, "labels": st.dictionaries(_TEXTS, _JSON)}
        ),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
async def test_whatever_is_stored_survives(engine: AsyncEngine, tmp_path: Path, rows: dict[str, Any]) -> None:
    """Text with NUL, surrogates and marks, digits of any length, times and amounts: all read back equal elsewhere."""
    chat_id, now = UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)
    chat = {"id": chat_id, "next_position": 1, "created_at": now, "updated_at": now, **rows["chat"]}
    message = {"chat_id": chat_id, "position": 0, "id": UUID(int=2), "role": "user", "status": "complete"}
    request = {"id": UUID(int=3), "operation": "chat", "provider": "p", "requested_model": "m", "status": "ok"}
    request |= {"attempt": 1, "created_at": now, "owner": rows["chat"]["owner"]}
    async with engine.begin() as connection:
        for table in reversed(list(T)):
            await connection.execute(table.delete())
        await connection.execute(insert(T.chats), chat)
        await connection.execute(insert(T.messages), message | rows["message"])
        await connection.execute(insert(T.requests), request | rows["request"] | {"chat_id": chat_id})
    file = await exported(engine)
    file.decode("utf-8")
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(file))
        for table in (T.chats, T.messages, T.requests):
            assert await rows_of(there, table) == await rows_of(engine, table)
        assert await exported(there) == file


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _damages(lines: list[bytes], number: int) -> list[tuple[str, list[bytes], int]]:
    """What can happen to a line, and the line at which it has to be noticed, both from 0."""
    line, last = lines[number], number == len(lines) - 1
    middle = len(line) // 2
    flipped = line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]
    damages = [
        ("flipped", [*lines[:number], flipped, *lines[number + 1 :]], number),
        ("cut", [*lines[:number], line[:middle]], number),
        ("ends", lines[:number], number),
        ("emptied", [*lines[:number], b"\n", *lines[number + 1 :]], number),
        ("doubled", [*lines[: number + 1], line, *lines[number + 1 :]], number + 1),
    ]
    if not last:
        swapped = [*lines[:number], lines[number + 1], line, *lines[number + 2 :]]
        damages += [("left out", [*lines[:number], *lines[number + 1 :]], number), ("swapped", swapped, number)]
    return damages


async def test_every_damage_is_noticed_at_its_line(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Whatever happens to a line: the error names it, the chats before it are there whole, and nothing of others."""
    file = await small(sqlite)
    lines = file.splitlines(keepends=True)
    ends = [place for place, line in enumerate(lines) if line.startswith(b'{"end_of_chat"')]
    furthest = 0
    async with database("sqlite", tmp_path) as there:
        for number in range(len(lines)):
            for name, damaged, noticed in _damages(lines, number):
                with pytest.raises(StorageError, match=rf"^line {noticed + 1} of the file") as caught:
                    await import_chats(there, io.BytesIO(b"".join(damaged)))
                assert caught.value.details["line"] == noticed + 1, name
                furthest = max(furthest, noticed)
                assert (await verify(there)).chats == sum(end < furthest for end in ends)
        await import_chats(there, io.BytesIO(file))
        assert await exported(there) == file


def _changed(name: str, whole: Any = None, **changes: Any) -> Callable[[list[dict[str, Any]]], int]:
    def change(lines: list[dict[str, Any]]) -> int:
        place = next(place for place, line in enumerate(lines) if name in line)
        lines[place] = {name: {**lines[place][name], **changes} if whole is None else whole}
        return place

    return change


def _removed(name: str, column: str) -> Callable[[list[dict[str, Any]]], int]:
    def change(lines: list[dict[str, Any]]) -> int:
        place = next(place for place, line in enumerate(lines) if name in line)
        lines[place][name].pop(column)
        return place

    return change


def _put(line: dict[str, Any], before: str) -> Callable[[list[dict[str, Any]]], int]:
    def change(lines: list[dict[str, Any]]) -> int:
        place = next(place for place, each in enumerate(lines) if before in each)
        lines.insert(place, line)
        return place

    return change


def _head(**changes: Any) -> Callable[[list[dict[str, Any]]], int]:
    def change(lines: list[dict[str, Any]]) -> int:
        lines[0] |= changes
        return 0

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(_head(version=2), "upgrade nodellm_orm", id="newer"),
        pytest.param(_head(version=0), "no version that this package knows", id="older"),
        pytest.param(_head(nodellm_orm="recipes"), "not the first line", id="foreign"),
        pytest.param(_head(columns={"chats": ["id"]}), "does not name the columns", id="tables"),
        pytest.param(_put({"dreams": {}}, "end_of_chat"), "'dreams' has no place in a chat", id="unknown-table"),
        pytest.param(_put({"dreams": {}}, "end"), "'dreams' has no place here", id="unknown-line"),
        pytest.param(_changed("messages", mood="sad"), "column 'mood' of messages is not among", id="unknown-column"),
        pytest.param(_changed("messages", role="wizard"), "role of messages is none of", id="unknown-word"),
        pytest.param(_changed("messages", position="0"), "position of messages is not a whole number", id="type"),
        pytest.param(_changed("messages", position=2**63), "not a whole number of 64 bits", id="too-large"),
        pytest.param(_changed("messages", content=7), "content of messages is not a string", id="no-text"),
        pytest.param(_changed("messages", created_at="2026-01-01"), "is not a time in UTC", id="time"),
        pytest.param(_changed("messages", id="x"), "id of messages is no UUID", id="id"),
        pytest.param(_changed("messages", chat_id=str(UUID(int=9))), "belongs to another chat", id="elsewhere"),
        pytest.param(_changed("messages", model="m" * 300), "longer than 255", id="long"),
        pytest.param(_changed("chats", metadata="[]"), "not the text of a JSON object", id="labels"),
        pytest.param(_changed("chats", metadata='{"a": 1}'), "not written the way", id="spaces"),
        pytest.param(_changed("requests", cost="1e3"), "not written the way", id="spelling"),
        pytest.param(_changed("requests", cost="NaN"), "not a decimal number", id="nan"),
        pytest.param(_changed("requests", cost="0.0000000000001"), "not an amount", id="fraction"),
        pytest.param(_removed("messages", "content"), "content of messages is missing", id="missing"),
        pytest.param(_changed("blobs", owner="eve"), "another owner", id="owner"),
        pytest.param(_changed("blobs", size=1), "not as long as", id="size"),
        pytest.param(_changed("blobs", size=-1), "negative", id="negative"),
        pytest.param(_changed("data", "x"), "data is not base64", id="no-base64"),
        pytest.param(_changed("messages", position=1), "position is 1, and 0 comes next", id="gap"),
        pytest.param(_changed("messages", position=10**400), "not a whole number of 64 bits", id="digits"),
        pytest.param(_changed("requests", cost="1" + "0" * 400), "not an amount", id="cost"),
        pytest.param(_changed("chats", metadata="[" * 9999), "not the text of a JSON value", id="nesting"),
        pytest.param(_changed("chats", metadata='{"a":1e400}'), "not the text of a JSON|not written the way", id="inf"),
        pytest.param(_changed("chats", metadata='{"a":NaN}'), "not the text of a JSON value", id="constant"),
        pytest.param(_changed("chats", metadata='{"a":1,"a":2}'), "not written the way", id="repeated"),
        pytest.param(_changed("chats", [[]] * 3), "chats is not followed by an object", id="list"),
        pytest.param(_changed("chats", owner={"a": 1}), "owner of chats is not a string", id="object"),
        pytest.param(_changed("messages", created_at=None), "created_at of messages is not a string", id="null"),
        pytest.param(_changed("end_of_chat", sha256="0" * 64), "not what this line says", id="digest"),
        pytest.param(_changed("end", rows={"chats": 1}), "not what this line says", id="totals"),
    ],
)
async def test_what_is_not_understood_is_refused(
    change: Callable[[list[dict[str, Any]]], int], reason: str, sqlite: AsyncEngine, tmp_path: Path
) -> None:
    """Lines whose sums are right and that are not what they have to be: line and reason are told."""
    lines = objects(await small(sqlite))
    place = change(lines)
    async with database("sqlite", tmp_path) as there:
        with pytest.raises(StorageError, match=reason) as caught:
            await import_chats(there, io.BytesIO(resealed(lines)))
        noticed = caught.value.details["line"]
        assert noticed in {place + 1, place + 2}  # bytes of a file are in the line behind its own
        assert isinstance(caught.value, SchemaVersionError) == (reason == "upgrade nodellm_orm")
        assert (await verify(there)).chats in {0, 2}


async def test_a_stored_chat_with_something_else_in_it(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Another conversation under the same id is an error that names it, or stays as it is when that is asked for."""
    file = await small(sqlite)
    first = UUID(next(line["chats"]["id"] for line in objects(file) if "chats" in line))
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(file))
        async with there.begin() as connection:
            await connection.execute(update(T.messages).where(T.messages.c.chat_id == first).values(content="forged"))
        with pytest.raises(ChatError, match=str(first)):
            await import_chats(there, io.BytesIO(file))
        report = await import_chats(there, io.BytesIO(file), on_conflict="skip")
        assert (report.kept, report.unchanged, report.chats) == ((first,), 1, 0)
        async with there.connect() as connection:
            stored = await connection.scalars(select(T.messages.c.content).where(T.messages.c.chat_id == first))
            assert set(stored) == {"forged"}


async def test_a_ledger_row_with_something_else_in_it(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """A row that was paid for is never overwritten: the chat that brings another one is an error, or leaves it."""
    file = await small(sqlite)
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(file))
        await purge(there, owner=OWNER)  # its ledger rows lead to nobody any more
        with pytest.raises(ChatError, match=r"chat .* \(lines 2 to .*request .* is in llm_requests already"):
            await import_chats(there, io.BytesIO(file))
        assert (await verify(there)).chats == 0
        report = await import_chats(there, io.BytesIO(file), on_conflict="skip")
        assert (report.chats, report.requests, report.kept_requests) == (2, 0, 2)


async def test_a_file_may_come_through_a_pipe(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """What cannot be rewound is read all the same, and what is compressed says what to do."""
    file = await small(sqlite)
    read, write = os.pipe()
    async with database("sqlite", tmp_path) as there:
        with open(read, "rb", buffering=0) as source, open(write, "wb") as sink:  # noqa: ASYNC230, PTH123 — of a pipe

            def feed() -> None:
                sink.write(file)
                sink.close()

            _, report = await asyncio.gather(asyncio.to_thread(feed), import_chats(there, source))
        assert report.chats == 2
        with pytest.raises(StorageError, match=r"gzip\.open"):
            await import_chats(there, io.BytesIO(gzip.compress(file)))


async def test_a_damaged_content_is_not_exported_as_if_it_were_whole(sqlite: AsyncEngine) -> None:
    """Bytes that are not what their digest says end the export; those that are missing are counted."""
    await small(sqlite)
    async with sqlite.begin() as connection:
        await connection.execute(update(T.blobs).values(data=b"rotten"))
    with pytest.raises(StorageError, match="is damaged"):
        await exported(sqlite)
    async with sqlite.begin() as connection:
        await connection.execute(T.blobs.delete())
    assert (await export_chats(sqlite, io.BytesIO())).missing == 2


@pytest.mark.parametrize("where", ["before commit", "after commit"])
@pytest.mark.parametrize("number", [1, 3])
async def test_a_killed_import_leaves_whole_chats(
    database_kind: DatabaseKind, where: Where, number: int, tmp_path: Path
) -> None:
    """Killed at a commit, an import has written whole chats only, many at a time, and the next one brings the rest."""
    path = tmp_path / "chats.jsonl"
    async with database("sqlite", tmp_path) as here, database(database_kind, tmp_path) as there:
        await tiny_chats(here, 500)
        await healthy(here)
        await export_chats(here, path)
        url = there.url.render_as_string(hide_password=False)
        assert await status_of(importer.main, url, str(path), where, number) == -signal.SIGKILL
        report = await verify(there)
        assert report.ok, report.findings
        assert report.chats == [0, 250, 500, 508][number - (where == "before commit")]
        assert (await import_chats(there, path)).unchanged == report.chats
        assert await exported(there) == path.read_bytes()


async def test_two_imports_at_once(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """Two imports of the same file at the same time make each chat once."""
    async with database("sqlite", tmp_path) as here, database(database_kind, tmp_path) as there:
        chats = await healthy(here)
        file = await exported(here)
        reports = await asyncio.gather(*(import_chats(there, io.BytesIO(file)) for _ in range(2)))
        assert sum(report.chats for report in reports) == chats.chats
        assert all(report.chats + report.unchanged == chats.chats for report in reports)
        assert await exported(there) == file


async def test_a_chat_that_is_written_in_is_exported_in_one_piece(engine: AsyncEngine) -> None:
    """Messages that are committed while a chat is read are all in its file, or none of them is."""
    chat_id = await long_chat(engine, 600)
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    other = create_async_engine(engine.url)
    written = 0

    async def write() -> None:
        async with other.begin() as connection:
            row = message_row(chat_id, 600 + written)
            await connection.execute(update(T.chats).values(next_position=601 + written, step=1 + written))
            await connection.execute(insert(T.messages), row)

    def between(_c: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal written
        if "llm_messages" in statement and written < 3:
            await_only(write())
            written += 1

    event.listen(engine.sync_engine, "before_cursor_execute", between)
    lines = objects(await exported(engine))
    await other.dispose()
    assert written == 3
    [chat] = [line["chats"] for line in lines if "chats" in line]
    assert chat["next_position"] == 600
    assert sum("messages" in line for line in lines) == 600


# ── length ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_long_chat_is_read_and_written_by_the_page(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """No query gives, and no statement takes, more than a page of a chat of 100,000 messages; the bytes are equal."""
    length = 100_000
    await long_chat(sqlite, length)
    async with database("sqlite", tmp_path) as there:
        sent: list[int] = []
        limits: list[int] = []

        def watch(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:  # noqa: FBT001 — SQLAlchemy calls it
            if statement.startswith("INSERT"):
                sent.append(len(parameters) if many else 1)
            if "_messages" in statement and "LIMIT" in statement:
                limits.append(parameters[-2])

        for engine in (sqlite, there):
            event.listen(engine.sync_engine, "before_cursor_execute", watch)
        path = tmp_path / "long.jsonl"
        assert (await export_chats(sqlite, path)).messages == length
        assert len(limits) == length // 250 + 1
        assert set(limits) == {250}
        assert (await import_chats(there, path)).messages == length
        assert max(sent) == 250
        again = tmp_path / "again.jsonl"
        await export_chats(there, again)
        assert again.read_bytes() == path.read_bytes()


async def test_progress_is_told(filled: tuple[AsyncEngine, Healthy], tmp_path: Path) -> None:
    """Whoever shows an export or import is told after each chat, and how many there are where that is known."""
    engine, chats = filled
    told: list[tuple[str, int, int | None]] = []
    await export_chats(
        engine, tmp_path / "x", progress=lambda state: told.append((state.stage, state.chats, state.total))
    )
    assert told[: chats.chats] == [("chats", number, chats.chats) for number in range(1, chats.chats + 1)]
    assert told[-1][0] == "ledger"
    told.clear()
    async with database("sqlite", tmp_path) as there:
        await import_chats(
            there, tmp_path / "x", progress=lambda state: told.append((state.stage, state.chats, state.total))
        )
    assert told == [("chats", number, None) for number in range(1, chats.chats + 1)]


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tables_for_analysis(filled: tuple[AsyncEngine, Healthy], tmp_path: Path) -> None:
    """Messages and ledger are in Parquet with exact amounts, times in UTC, and a column for the owner."""
    parquet = pytest.importorskip("pyarrow.parquet")
    engine, _ = filled
    report = await export_chats(engine, tmp_path / "analysis", format="parquet")
    messages = parquet.read_table(tmp_path / "analysis" / "messages.parquet").to_pylist()
    ledger = parquet.read_table(tmp_path / "analysis" / "ledger.parquet").to_pylist()
    assert (len(messages), len(ledger)) == (report.messages, report.requests)
    async with engine.connect() as connection:
        spent = await connection.scalar(select(func.sum(T.requests.c.cost)))
        assert len(messages) == await connection.scalar(select(func.count()).select_from(T.messages))
    assert sum((row["cost"] or Decimal(0) for row in ledger), Decimal(0)) == spent
    assert {row["owner"] for row in messages} == {None, OWNER, "bob"}
    assert all(row["created_at"].utcoffset() == timedelta(0) for row in messages)


async def test_parquet_without_its_extra(sqlite: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedFeatureError, match=r"nodellm_orm\[parquet\]"):
        await export_chats(sqlite, tmp_path / "analysis", format="parquet")
