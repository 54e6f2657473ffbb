"""What tests of files of chats share: databases, files and their lines, and chats written as rows."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import TextPart, create_chat, export_chats
from nodellm_orm.domain.codec import encode_parts
from nodellm_orm.store.records import RECORDS
from nodellm_orm.transfer.chatlines import end_of_chat
from nodellm_orm.transfer.exporting import end_of_file
from nodellm_orm.transfer.lines import Chain
from tests.acceptance.healthy import OWNER, PNG
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

SPEAKER: Final = Speaker("anthropic")
T: Final = RECORDS.tables


@asynccontextmanager
async def database(kind: DatabaseKind, folder: Path) -> AsyncIterator[AsyncEngine]:
    """An engine on a database with the tables in it."""
    async with migrated_database(kind, folder) as url:
        engine = create_async_engine(url)
        try:
            yield engine
        finally:
            await engine.dispose()


async def exported(engine: AsyncEngine, **options: Any) -> bytes:
    """A file of what is there."""
    file = io.BytesIO()
    await export_chats(engine, file, **options)
    return file.getvalue()


def objects(file: bytes) -> list[dict[str, Any]]:
    """The lines of a file without their sums."""
    return [{name: value for name, value in json.loads(line).items() if name != "sum"} for line in file.splitlines()]


def resealed(lines: list[dict[str, Any]], *, recounted: bool = False) -> bytes:
    """A file of these lines, with all sums right: what somebody makes who knows how.

    What the end of each chat says is as it was, or what it has to be now.
    """
    chain, out = Chain(), []
    counts, digest = Counter[str](), hashlib.sha256()
    for line in lines:
        body = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()
        kind = next(iter(line))
        if kind == "chats":
            counts, digest = Counter(), hashlib.sha256()
        if kind == "end" and "rows" in line["end"]:
            body = end_of_file(line["end"]["rows"], chain.digest)
        elif kind == "end_of_chat" and recounted:
            body = end_of_chat(UUID(line[kind]["id"]), counts, digest.hexdigest())
        elif kind not in {"texts", "blobs", "data"}:
            digest.update(body)
        counts[kind] += 1
        out.append(chain.closed(body))
    return b"".join(out)


async def rows_of(engine: AsyncEngine, table: Any) -> list[dict[str, Any]]:
    """All rows of a table, in the order of its key."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(table).order_by(*table.primary_key.columns))
        return [dict(row) for row in rows.mappings()]


async def small(engine: AsyncEngine) -> bytes:
    """A file of two chats of one owner, with the same file in both."""
    async with SPEAKER.server(Says(text="One."), Says(text="Two.")) as server, SPEAKER.llm(server) as llm:
        for number in range(2):
            chat = await create_chat(engine, llm, title=f"chat {number}", owner=OWNER)
            await chat.ask("?", files=[PNG])
    return await exported(engine)


def message_row(chat_id: UUID, place: int) -> dict[str, Any]:
    """A message of a chat."""
    return {
        "chat_id": chat_id,
        "position": place,
        "id": uuid5(chat_id, str(place)),
        "role": "assistant" if place % 2 else "user",
        "content": "text",
        "parts": encode_parts([TextPart(text="text")]),
        "status": "complete",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }


async def long_chat(engine: AsyncEngine, length: int) -> UUID:
    """A chat of so many messages, written as rows."""
    chat_id, now = UUID(int=7 << 96), datetime(2026, 1, 1, tzinfo=UTC)
    chat = {"id": chat_id, "owner": OWNER, "next_position": length, "created_at": now, "updated_at": now}
    rows = [message_row(chat_id, place) for place in range(length)]
    async with engine.begin() as connection:
        await connection.execute(insert(T.chats), chat)
        for start in range(0, length, 5000):
            await connection.execute(insert(T.messages), rows[start : start + 5000])
    return chat_id


async def tiny_chats(engine: AsyncEngine, count: int) -> list[UUID]:
    """Chats of a question each, written as rows; each fourth is another owner's."""
    ids, now = [UUID(int=(number + 1) << 64) for number in range(count)], datetime(2026, 1, 1, tzinfo=UTC)
    chats = [
        {"id": chat_id, "owner": f"owner {place % 4}", "next_position": 1, "created_at": now, "updated_at": now}
        for place, chat_id in enumerate(ids)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(T.chats), chats)
        await connection.execute(insert(T.messages), [message_row(chat_id, 0) for chat_id in ids])
    return ids
