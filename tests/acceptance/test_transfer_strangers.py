"""Files from strangers, and places that are no ordinary files: nothing is taken for what it is not."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, update

from nodellm_orm import ChatError, StorageError, export_chats, import_chats, verify
from nodellm_orm.transfer.named import PIECE, data_line
from tests.acceptance.transfers import T, database, exported, objects, resealed, rows_of, small, tiny_chats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database file with the tables in it."""
    async with database("sqlite", tmp_path) as engine:
        yield engine


# ── whole files ───────────────────────────────────────────────────────────────────────────────────────────────────

OTHERS: list[tuple[Callable[[bytes], bytes], int, str]] = [
    (lambda _: b"", 1, "the file is empty"),
    (lambda _: b"\n", 1, "not the first line"),
    (lambda _: b'{"id": 1, "title": "of another program"}\n', 1, "not the first line"),
    (lambda _: os.urandom(1000), 1, "not the first line"),
    (lambda _: b"x" * (3 << 20), 1, "not the first line"),
    (lambda _: b'{"nodellm_orm"' + b" " * (3 << 20), 1, "longer than 1048576 bytes"),
    (gzip.compress, 1, r"gzip\.open"),
    (bz2.compress, 1, r"bz2\.open"),
    (lzma.compress, 1, r"lzma\.open"),
    (lambda _: b"PK\x03\x04and so on", 1, "zip archive"),
    (lambda _: b"PAR1and so on", 1, "Parquet"),
    (lambda file: b"\xef\xbb\xbf" + file, 1, "byte order mark"),
    (lambda file: file.decode().encode("utf-16"), 1, "UTF-16"),
    (lambda file: file.replace(b"\n", b"\r\n"), 1, "CRLF"),
    (lambda file: file.replace(b"\n", b"\r"), 1, "ends before its last line"),
    (lambda file: file[:-1], -1, "ends before its last line"),
    (lambda file: file[: len(file) // 2], 0, "ends before its last line"),
    (lambda file: b"".join(file.splitlines(keepends=True)[:-1]), -1, "ends before its last line"),
    (lambda file: file + b"\n", -2, "sum is not right"),
    (lambda file: file + file, -2, "sum is not right"),
    (lambda file: b"".join(file.splitlines(keepends=True)[::-1]), 1, "not the first line"),
    (lambda file: file.replace(b'"version":1,', b'"version":1,"version":1,'), 1, "sum is not right"),
]


async def test_other_files(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """What was compressed, converted, cut, joined or never was ours is refused with its line and a reason."""
    file = await small(sqlite)
    ends = len(file.splitlines())
    async with database("sqlite", tmp_path) as there:
        for change, line, reason in OTHERS:
            with pytest.raises(StorageError, match=reason) as caught:
                await import_chats(there, io.BytesIO(change(file)))
            if line:
                assert caught.value.details["line"] == (line if line > 0 else ends - 1 - line)
            assert (await verify(there)).chats == (0 if line >= 0 else 2)
            async with there.begin() as connection:
                for table in (T.requests, T.messages, T.attachments, T.turns, T.blobs, T.texts, T.chats):
                    await connection.execute(table.delete())


async def test_a_first_line_in_another_spelling(sqlite: AsyncEngine) -> None:
    """The first line is as strict as all others: a member that comes twice is not read as one of both."""
    lines = objects(await small(sqlite))
    columns = lines[0]["columns"]
    for head in (
        {"nodellm_orm": "chats", "columns": columns, "version": 1},
        {"nodellm_orm": "chats", "version": 1.0, "columns": columns},
        {"nodellm_orm": "chats", "version": 1, "columns": columns, "more": 1},
    ):
        with pytest.raises(StorageError, match="line 1 "):
            await import_chats(sqlite, io.BytesIO(resealed([head, *lines[1:]])))


async def test_a_chat_that_could_not_be_carried_on(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """A next position that is taken or leaves a gap is refused at the chat's end; nothing of the chat is there."""
    lines = objects(await small(sqlite))
    lines[1]["chats"]["next_position"] = 7
    async with database("sqlite", tmp_path) as there:
        with pytest.raises(StorageError, match="has 2 messages, and says that 7 is the next position"):
            await import_chats(there, io.BytesIO(resealed(lines, recounted=True)))
        assert (await verify(there)).chats == 0


async def test_pieces_of_a_file_in_another_measure(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Bytes come in pieces of one size and in one spelling: others would come out of an export otherwise."""
    whole = objects(await small(sqlite))
    place = next(place for place, line in enumerate(whole) if "data" in line)
    data = whole[place]["data"]
    pieces = ([data[:8], data[8:]], ["", data], [data[:-4] + "AAA="], [data[:8] + "\n" + data[8:]])
    async with database("sqlite", tmp_path) as there:
        for other in pieces:
            lines = [*whole[:place], *({"data": piece} for piece in other), *whole[place + 1 :]]
            with pytest.raises(StorageError, match=rf"line {place + 1} .* data "):
                await import_chats(there, io.BytesIO(resealed(lines)))
    assert len(data_line(bytes(PIECE))) == (1 << 20) + len('{"data":""}')


async def test_an_amount_that_the_database_cannot_hold(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """What one database stores and another cannot is refused with the lines of its chat, which is not written."""
    lines = objects(await small(sqlite))
    row = next(line["requests"] for line in lines if "requests" in line)
    whole = row | {"cost": "999999999999.999999999999"}
    for line in lines:
        if line.get("requests") is row:
            line["requests"] = {name: whole[name] for name in lines[0]["columns"]["requests"] if name in whole}
    async with database("sqlite", tmp_path) as there:
        with pytest.raises(
            StorageError, match=r"lines 2 to \d+ of the file.* an amount of money is too large"
        ) as caught:
            await import_chats(there, io.BytesIO(resealed(lines, recounted=True)))
        assert caught.value.details["line"] == 2
        assert (await verify(there)).chats == 0


# ── whose it is ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{}, {"owner": "eve"}, {"owner": None}])
async def test_a_chat_of_somebody_else_stays_his(sqlite: AsyncEngine, tmp_path: Path, options: dict[str, Any]) -> None:
    """Under an id that another owner's chat has, nothing is written, read or told of that chat, skipped or not."""
    file = await small(sqlite)
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(file), owner="bob")
        async with there.begin() as connection:
            await connection.execute(update(T.chats).values(title="Bob's secret"))
        before = [await rows_of(there, table) for table in T if table.name != "llm_usage_stale"]
        with pytest.raises(ChatError, match="or for another owner") as caught:
            await import_chats(there, io.BytesIO(file), **options)
        assert "bob" not in str(caught.value).lower()
        report = await import_chats(there, io.BytesIO(file), on_conflict="skip", **options)
        assert (report.chats, len(report.kept), report.unchanged) == (0, 2, 0)
        async with there.connect() as connection:
            of_bob = await connection.scalar(select(func.count()).select_from(T.blobs).where(T.blobs.c.owner == "bob"))
        assert of_bob == 1
        after = [await rows_of(there, table) for table in T if table.name != "llm_usage_stale"]
        for old, new in zip(before, after, strict=True):
            assert [row for row in new if row in old] == old


async def test_addresses_and_names_are_only_words(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Whatever a file says where its attachments are, an import opens nothing, and gives the same words back."""
    secret = tmp_path / "secret.txt"
    secret.write_text("what nobody may read")
    lines = objects(await small(sqlite))
    for line in lines:
        if "attachments" in line:
            row = line["attachments"] | {"name": "../../../etc/passwd\x1b[2J", "url": secret.as_uri()}
            line["attachments"] = {name: row[name] for name in lines[0]["columns"]["attachments"] if name in row}
    file = resealed(lines, recounted=True)
    async with database("sqlite", tmp_path) as there:
        assert (await import_chats(there, io.BytesIO(file))).attachments == 2
        assert await exported(there) == file
        for table in T:
            assert "what nobody may read" not in str(await rows_of(there, table))


# ── where it is written ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_named_pipe_stays_one(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """What is no ordinary file is written to, and not put aside for one."""
    await tiny_chats(sqlite, 3)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    report = await export_chats(sqlite, pipe)
    os.set_blocking(reader, True)
    with open(reader, "rb") as file:  # noqa: ASYNC230, PTH123 — of a pipe
        read = await asyncio.to_thread(file.read)
    assert len(read) == report.size
    assert read == await exported(sqlite)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


async def test_a_link_and_permissions_stay(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """A new file is for its owner alone; one that is replaced keeps its permissions, and a link its target."""
    await tiny_chats(sqlite, 3)
    path, link = tmp_path / "chats.jsonl", tmp_path / "link"
    await export_chats(sqlite, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"")
    path.chmod(0o640)
    link.symlink_to(path)
    await export_chats(sqlite, link)
    assert link.is_symlink()
    assert path.read_bytes() == await exported(sqlite)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_an_export_that_is_cancelled_leaves_nothing(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Ctrl-C in the middle: no file of that name, and no part of one beside it."""
    await tiny_chats(sqlite, 600)
    folder = tmp_path / "files"
    folder.mkdir()

    def leave(_: object) -> None:
        task.cancel()

    task = asyncio.create_task(export_chats(sqlite, folder / "chats.jsonl", progress=leave))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(folder) == []  # noqa: PTH208 — hidden ones too


async def test_no_room(sqlite: AsyncEngine) -> None:
    """A full disk is told in our own words."""
    await tiny_chats(sqlite, 3)
    with (
        open("/dev/full", "wb", buffering=0) as full,  # noqa: ASYNC230, PTH123 — a device
        pytest.raises(StorageError, match="No space left on device"),
    ):
        await export_chats(sqlite, full)
