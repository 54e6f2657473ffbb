"""Many chats go through a transfer together, and each of them as if it were alone."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.util import await_only

from nodellm_orm import ChatError, StorageError, export_chats, import_chats
from nodellm_orm.domain.digests import digest_of, digest_of_text
from tests.acceptance.healthy import HOSTILE, OWNER, healthy
from tests.acceptance.transfers import T, database, exported, long_chat, message_row, objects, resealed, tiny_chats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Watch:
    """The statements that an engine sends, and its commits."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Begin with none."""
        self.statements: list[str] = []
        self.commits = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._statement)
        event.listen(engine.sync_engine, "commit", self._commit)

    def _statement(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements.append(statement)

    def _commit(self, *_: object) -> None:
        self.commits += 1


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database file with the tables in it."""
    async with database("sqlite", tmp_path) as engine:
        yield engine


async def with_contents(engine: AsyncEngine, count: int) -> None:
    """Tiny chats, each of an owner of its own, with a file and a text that all have, and ones that nobody else has."""
    ids = await tiny_chats(engine, count)
    owners = [None, "", *(f"{HOSTILE}{number}" for number in range(count - 2))]
    rows: dict[str, list[dict[str, Any]]] = {"turns": [], "attachments": [], "blobs": [], "texts": []}
    for number, (chat_id, owner) in enumerate(zip(ids, owners, strict=True)):
        texts = ["the same", f"text {number}"]
        blobs = [b"the same", b"file %d" % number]
        settings = json.dumps({"instructions": [digest_of_text(text) for text in texts]})
        turn = {"chat_id": chat_id, "id": UUID(int=number + 1), "position": 0, "status": "completed"}
        rows["turns"].append(turn | {"settings": settings, "started_at": NOW, "finished_at": NOW})
        rows["texts"] += [
            {"owner": owner, "sha256": digest_of_text(text), "text": text, "created_at": NOW} for text in texts
        ]
        for place, data in enumerate(blobs):
            file = {"sha256": digest_of(data), "size": len(data)}
            attachment = {
                "chat_id": chat_id,
                "id": UUID(int=2 * number + place + 1),
                "position": place,
                "kind": "document",
            }
            rows["attachments"].append(
                attachment | file | {"message_id": message_row(chat_id, 0)["id"], "media_type": "text/plain"}
            )
            rows["blobs"].append({"owner": owner, "data": data, **file, "created_at": NOW})
    async with engine.begin() as connection:
        for chat_id, owner in zip(ids, owners, strict=True):
            await connection.execute(update(T.chats).where(T.chats.c.id == chat_id).values(owner=owner))
        for name, values in rows.items():
            table = getattr(T, name)
            known = [{key: value for key, value in row.items() if key in table.c} for row in values]
            await connection.execute(insert(table), known)


async def test_tiny_chats_share_statements_and_transactions(engine: AsyncEngine, tmp_path: Path) -> None:
    """Three hundred chats with files and texts of their own take a few dozen statements, and nothing is lost."""
    await with_contents(engine, 300)
    async with database("sqlite", tmp_path) as there:
        read, written = Watch(engine), Watch(there)
        file = await exported(engine)
        assert len(read.statements) < 60
        report = await import_chats(there, io.BytesIO(file))
        assert (report.chats, report.attachments) == (300, 600)
        assert written.commits == 3
        assert len(written.statements) < 60
        written.statements.clear()
        assert (await import_chats(there, io.BytesIO(file))).unchanged == 300
        assert len(written.statements) < 70
        assert await exported(there) == file
    contents = [next(iter(line)) for line in objects(file)]
    assert contents.count("blobs") == contents.count("texts") == 600


async def test_a_file_does_not_tell_how_it_was_read(engine: AsyncEngine) -> None:
    """Chats that are exported together have the same lines as chats that are exported alone."""
    await healthy(engine)
    await tiny_chats(engine, 3)
    whole = objects(await exported(engine, owner=OWNER))
    ids = [line["chats"]["id"] for line in whole if "chats" in line]
    alone: list[dict[str, Any]] = []
    seen: set[str] = set()
    for chat_id in ids:
        for line in objects(await exported(engine, chats=[chat_id], owner=OWNER))[1:-1]:
            name, row = next(iter(line.items()))
            if name in {"texts", "blobs"} and row["sha256"] in seen:
                skipped = name == "blobs"
                continue
            skipped = name == "data" and skipped
            seen |= {row["sha256"]} if name in {"texts", "blobs"} else set()
            alone += [] if skipped else [line]
    requests = [line for line in whole[1:-1] if "requests" in line and "chat_id" not in line["requests"]]
    assert alone + requests == whole[1:-1]


async def test_chats_of_every_length_share_a_page(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """Where a page of rows ends within a chat, or with one, no row is lost and none comes twice."""
    lengths = [0, 1, 249, 250, 251, 500, 501, 1, 0, 248, 2, 260]
    ids = await tiny_chats(sqlite, len(lengths))
    async with sqlite.begin() as connection:
        for number, (chat_id, length) in enumerate(zip(ids, lengths, strict=True)):
            known = {"chat_id": chat_id, "owner": f"owner {number % 4}", "operation": "chat", "provider": "p"}
            known |= {"requested_model": "m", "status": "ok", "attempt": 1, "created_at": NOW}
            rows = [{"id": UUID(int=place * len(lengths) + number), **known} for place in range(1, length + 1)]
            if rows:
                await connection.execute(insert(T.requests), rows)
    file = await exported(sqlite)
    ends = [line["end_of_chat"] for line in objects(file) if "end_of_chat" in line]
    assert [end["rows"]["requests"] for end in ends] == lengths
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(file))
        assert await exported(there) == file


async def test_a_chat_that_cannot_be_written_is_refused_alone(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """The chats before it are there, it is named with its lines, and nothing of it or of those behind it is there."""
    ids = await tiny_chats(sqlite, 5)
    lines = objects(await exported(sqlite))
    third = next(place for place, line in enumerate(lines) if line.get("chats", {}).get("id") == str(ids[2]))
    row = {
        "chat_id": str(ids[2]),
        "position": 0,
        "status": "completed",
        "idempotency_key": "the same",
        "settings": "{}",
    }
    row |= {"takeovers": 0, "started_at": "2026-01-01T00:00:00.000000Z"}
    names = lines[0]["columns"]["turns"]
    twice = [
        {"turns": {name: full[name] for name in names if name in full}}
        for full in ({"id": str(UUID(int=number))} | row for number in (1, 2))
    ]
    lines[-1]["end"]["rows"]["turns"] = 2
    file = resealed([*lines[: third + 1], *twice, *lines[third + 1 :]], recounted=True)
    async with database("sqlite", tmp_path) as there:
        with pytest.raises(StorageError, match=str(ids[2])) as caught:
            await import_chats(there, io.BytesIO(file))
        assert f"lines {third + 1} to {third + 5}" in str(caught.value)
        async with there.connect() as connection:
            assert list(await connection.scalars(select(T.chats.c.id).order_by(T.chats.c.id))) == ids[:2]
            assert await connection.scalar(select(func.count()).select_from(T.messages)) == 2


async def test_a_conflict_in_the_middle(sqlite: AsyncEngine, tmp_path: Path) -> None:
    """What comes before a chat that is there and differs is imported; to go on behind it, it is skipped."""
    ids = await tiny_chats(sqlite, 6)
    file = await exported(sqlite)
    told: list[int] = []
    async with database("sqlite", tmp_path) as there:
        await import_chats(there, io.BytesIO(await exported(sqlite, chats=[ids[1], ids[3]])))
        async with there.begin() as connection:
            await connection.execute(update(T.messages).where(T.messages.c.chat_id == ids[3]).values(content="other"))
        with pytest.raises(ChatError, match=str(ids[3])):
            await import_chats(there, io.BytesIO(file), progress=lambda news: told.append(news.chats))
        async with there.connect() as connection:
            assert list(await connection.scalars(select(T.chats.c.id).order_by(T.chats.c.id))) == ids[:4]
        assert told == [1, 2, 3]
        report = await import_chats(there, io.BytesIO(file), on_conflict="skip")
        assert (report.chats, report.unchanged, report.kept) == (2, 3, (ids[3],))


async def test_chats_of_a_session_that_is_under_way_are_read_alone_when_they_change(engine: AsyncEngine) -> None:
    """Where there is no view of one moment, a group in which somebody writes is read again, chat by chat."""
    ids = await tiny_chats(engine, 3)
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    other = create_async_engine(engine.url)
    written = 0

    async def write() -> None:
        async with other.begin() as connection:
            values = {"next_position": 2, "step": 1}
            await connection.execute(update(T.chats).where(T.chats.c.id == ids[1]).values(values))
            await connection.execute(insert(T.messages), message_row(ids[1], 1))

    def between(_c: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal written
        if "FROM llm_messages" in statement and not written:
            written += 1
            await_only(write())

    async with engine.connect() as connection, AsyncSession(connection) as session:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await session.connection()
        event.listen(engine.sync_engine, "before_cursor_execute", between)
        file = io.BytesIO()
        await export_chats(session, file)
    await other.dispose()
    assert written == 1
    lines = objects(file.getvalue())
    for chat_id, length in zip(ids, (1, 2, 1), strict=True):
        (chat,) = [line["chats"] for line in lines if line.get("chats", {}).get("id") == str(chat_id)]
        said = [line for line in lines if line.get("messages", {}).get("chat_id") == str(chat_id)]
        assert chat["next_position"] == len(said) == length


async def test_tables_are_written_group_by_group(engine: AsyncEngine, tmp_path: Path) -> None:
    """Parquet has row groups of a bounded size, of many chats or a piece of one, with exact amounts and UTC."""
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    await tiny_chats(engine, 500)
    await long_chat(engine, 5600)
    watch = Watch(engine)
    report = await export_chats(engine, tmp_path / "tables", format="parquet")
    assert (report.chats, report.messages) == (501, 6100)
    assert len(watch.statements) < 40
    file = parquet.ParquetFile(tmp_path / "tables" / "messages.parquet")
    groups = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
    assert groups == [5000, 1100]
    assert len(set(file.read(["id"])["id"].to_pylist())) == 6100
    assert file.schema_arrow.field("created_at").type == arrow.timestamp("us", tz="UTC")
    ledger = parquet.read_schema(tmp_path / "tables" / "ledger.parquet")
    assert ledger.field("cost").type == arrow.decimal128(24, 12)
