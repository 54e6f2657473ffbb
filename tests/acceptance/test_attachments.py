"""Files of a question: stored once by their content, and sent again from there, in any process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, func, select, text

from nodellm_orm import (
    AttachmentError,
    AttachmentPolicy,
    ConfigurationError,
    IdempotencyError,
    MediaPart,
    Message,
    StorageError,
    TextPart,
    create_chat,
    create_llm,
    load_chat,
)
from nodellm_orm.models import AttachmentRecord, BlobRecord, ChatRecord, MessageRecord, TurnRecord
from nodellm_orm.testing import LoopbackServer, body_answer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.test_counts import Counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, Completion, ModelRequest
    from tests.integration.databases import DatabaseKind

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8
NOTES = "# Grüße\n".encode()
NEXT = "And now?"
SPEAKER = Speaker("openai_chat")


def sha(data: bytes) -> str:
    """Digest of a content."""
    return hashlib.sha256(data).hexdigest()


def contents(messages: Sequence[Message]) -> list[tuple[str | None, bytes | None]]:
    """Names and contents of the files in messages, in order."""
    return [(p.name, p.data) for message in messages for p in message.parts if isinstance(p, MediaPart)]


def listening(chat: Chat) -> list[ModelRequest]:
    """The requests that a chat makes from now on, as the wire format is given them."""
    heard: list[ModelRequest] = []
    chat.before_request(lambda request: heard.append(request) or request)  # type: ignore[func-returns-value]
    return heard


async def rows(engine: AsyncEngine, *columns: Any, order: Any = None) -> list[tuple[Any, ...]]:
    """Rows of a table."""
    statement = select(*columns)
    async with engine.connect() as connection:
        found = await connection.execute(statement if order is None else statement.order_by(order))
        return [tuple(row) for row in found]


async def count(engine: AsyncEngine, record: Any) -> int:
    """Number of rows of a table."""
    return (await rows(engine, func.count(record.chat_id if hasattr(record, "chat_id") else record.sha256)))[0][0]  # type: ignore[no-any-return]


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_become_rows(engine: AsyncEngine) -> None:
    """Each file of a question is a row of its own, its bytes one of another table, and the message names it."""
    async with SPEAKER.server(Says(text="a cat")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, owner="ada")
        link = MediaPart(media="image", media_type="image/png", url="https://example.com/a.png")
        await chat.ask("What is this?", files=[("cat.png", PNG), ("notes.md", NOTES), link])

    message_id, parts = (await rows(engine, MessageRecord.id, MessageRecord.parts, order=MessageRecord.position))[0]
    found = await rows(
        engine,
        *(AttachmentRecord.message_id, AttachmentRecord.position, AttachmentRecord.kind, AttachmentRecord.media_type),
        *(AttachmentRecord.name, AttachmentRecord.size, AttachmentRecord.sha256, AttachmentRecord.url),
        order=AttachmentRecord.position,
    )
    assert found == [
        (message_id, 0, "image", "image/png", "cat.png", len(PNG), sha(PNG), None),
        (message_id, 1, "text", "text/markdown", "notes.md", len(NOTES), sha(NOTES), None),
        (message_id, 2, "image", "image/png", None, None, None, "https://example.com/a.png"),
    ]
    blobs = await rows(engine, BlobRecord.owner, BlobRecord.sha256, BlobRecord.size, BlobRecord.data)
    assert sorted(blobs) == sorted(("ada", sha(data), len(data), data) for data in (PNG, NOTES))
    assert sha(PNG) in parts
    assert len(parts) < 1000
    assert [type(part) for part in chat.messages[0].parts] == [MediaPart, MediaPart, MediaPart, TextPart]


async def test_content_is_kept_once_an_owner(engine: AsyncEngine) -> None:
    """The same bytes, under any name and in any chat, are one row an owner; nobody is an owner of his own."""
    async with SPEAKER.server(*[Says(text="a")] * 5) as server, SPEAKER.llm(server) as llm:
        for owner in ("ada", "ada", "bob", None):
            chat = await create_chat(engine, llm, owner=owner)
            await chat.ask("go", files=[("a.png", PNG), ("b.png", PNG)])
            if owner is None:
                await chat.ask("again", files=PNG)

    owners = [row[0] for row in await rows(engine, BlobRecord.owner)]
    assert sorted(owners, key=str) == [None, "ada", "bob"]
    assert await count(engine, AttachmentRecord) == 9


async def test_workers_that_store_the_same_content_at_once(engine: AsyncEngine) -> None:
    """Several turns that bring the same files, in any order, all succeed, and each content is there once."""
    files = [bytes([n]) * 5000 + b"\xff\xd8\xff" for n in range(4)]
    parts = [MediaPart(media="image", media_type="image/png", data=data) for data in files]
    async with SPEAKER.server(*[Says(text="a")] * 6) as server, SPEAKER.llm(server) as llm:
        chats = [await create_chat(engine, llm, owner="ada") for _ in range(6)]
        asked = [chat.ask("go", files=parts[n % 4 :] + parts[: n % 4]) for n, chat in enumerate(chats)]
        await asyncio.gather(*asked)

    assert await count(engine, BlobRecord) == 4
    assert await count(engine, AttachmentRecord) == 24


async def test_files_of_other_messages_are_kept_too(engine: AsyncEngine) -> None:
    """Files of a chat's first messages, of added ones, and those that a model made are stored and come back."""
    drawn = MediaPart(media="image", media_type="image/webp", name="drawn.webp", data=b"RIFF----WEBPdrawn")

    def draw(completion: Completion) -> Completion:
        return replace(completion, parts=(*completion.parts, drawn))

    first = Message(role="user", parts=(MediaPart(media="image", media_type="image/png", name="1", data=PNG),))
    async with SPEAKER.server(Says(text="here you are")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, messages=[first, {"role": "assistant", "content": "nice"}])
        await chat.add_message("user", [MediaPart(media="text", media_type="text/plain", name="2", data=NOTES), "see"])
        chat.after_response(draw)
        reply = await chat.ask("Draw it")
        loaded = await load_chat(engine, llm, chat.id)

    expected = [("1", PNG), ("2", NOTES), ("drawn.webp", drawn.data)]
    assert contents(loaded.messages) == contents(chat.messages) == expected
    assert loaded.messages == chat.messages
    assert reply.message is not None
    assert loaded.messages[-1].parts[-1] == replace(drawn, sha256=sha(drawn.data or b""))
    assert sorted(row[0] for row in await rows(engine, AttachmentRecord.name)) == ["1", "2", "drawn.webp"]


async def test_turn_with_files_costs_two_statements_more(engine: AsyncEngine) -> None:
    """Files cost a turn one insert for their rows and one for their bytes, and loading one query, however many."""
    async with SPEAKER.server(*[Says(text="a")] * 3) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("first")
        counted = Counted(engine)
        await chat.ask("go", files=[PNG, NOTES, b"three"])
        assert counted.take() == {"INSERT": 6, "UPDATE": 4, "COMMIT": 2}

        await chat.ask("without")
        assert counted.take() == {"INSERT": 4, "UPDATE": 4, "COMMIT": 2}

        await load_chat(engine, llm, chat.id)
        assert counted.take() == {"SELECT": 5}
        await chat.history(limit=3)
        assert counted.take() == {"SELECT": 2}
        await chat.history(limit=1)
        assert counted.take() == {"SELECT": 1}


# ── replay ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_are_replayed_from_the_rows(engine: AsyncEngine, speaker: Speaker, tmp_path: Path) -> None:
    """A new process sends the same bytes as the old one, although the file and the server are gone."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    async with speaker.server(*[Says(text="a")] * 3) as server, LoopbackServer([body_answer(NOTES)]) as web:
        policy = AttachmentPolicy(paths=tmp_path, urls="fetch", private_addresses=True, ports=[web.port])
        async with speaker.llm(server, attachments=policy) as llm:
            chat = await create_chat(engine, llm, owner="ada")
            await chat.ask("What are these?", files=[path, f"{web.url}/notes.md"])
            path.unlink()
            await chat.ask("Really?")
            wanted = chat.render(NEXT)
        assert len(web.requests) == 1

        async with speaker.llm(server) as llm:
            loaded = await load_chat(engine, llm, chat.id, owner="ada")
            requests = listening(loaded)
            assert loaded.render(NEXT) == wanted
            await loaded.ask(NEXT)

    assert server.requests[-1].body == wanted.body
    assert contents(requests[0].messages) == [("cat.png", PNG), ("notes.md", NOTES)]
    assert contents(await loaded.history(limit=1, after=-1)) == [("cat.png", PNG), ("notes.md", NOTES)]


async def test_missing_content_does_not_prevent_loading(engine: AsyncEngine) -> None:
    """A chat whose contents were deleted loads; its files are named as before, without their bytes."""
    async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("go", files=[("cat.png", PNG), ("notes.md", NOTES)])
        async with engine.begin() as connection:
            await connection.execute(delete(BlobRecord).where(BlobRecord.sha256 == sha(PNG)))
        loaded = await load_chat(engine, llm, chat.id)

    assert loaded.messages == chat.messages
    assert contents(loaded.messages) == [("cat.png", None), ("notes.md", NOTES)]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
async def test_bytes_are_in_the_request_while_they_are_stored(engine: AsyncEngine, provider: str) -> None:
    """The request holds the stored bytes, from any process the same; without them asking is an error of ours."""
    first = [Message(role="user", parts=(MediaPart(media="image", media_type="image/png", name="cat.png", data=PNG),))]
    async with create_llm(provider, api_key="k", base_url="http://127.0.0.1:9") as llm:
        chat = await create_chat(engine, llm, messages=[*first, {"role": "assistant", "content": "a cat"}])
        wanted = chat.render(NEXT).body
        assert base64.b64encode(PNG) in wanted
        assert (await load_chat(engine, llm, chat.id)).render(NEXT).body == wanted

        async with engine.begin() as connection:
            await connection.execute(delete(BlobRecord))
        loaded = await load_chat(engine, llm, chat.id)
        with pytest.raises(AttachmentError, match=r"cat\.png .* is not stored any more"):
            await loaded.ask(NEXT)
        assert await count(engine, TurnRecord) == 0


async def test_chat_in_memory_does_the_same(speaker: Speaker) -> None:
    """A chat without a database replays its files and refuses what one with a database refuses."""
    async with speaker.server(Says(text="a"), Says(text="b")) as server, speaker.llm(server) as llm:
        chat = llm.chat()
        requests = listening(chat)
        with pytest.raises(AttachmentError, match="paths"):
            await chat.ask("go", files="cat.png")
        await chat.ask("", files=PNG)
        await chat.ask(["And", MediaPart(media="text", media_type="text/plain", data=NOTES)])

    assert [contents(request.messages) for request in requests] == [[(None, PNG)], [(None, PNG), (None, NOTES)]]
    assert [type(part) for part in chat.messages[0].parts] == [MediaPart]
    assert contents(await chat.history()) == [(None, PNG), (None, NOTES)]


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refused_file_leaves_the_chat_as_it_was(engine: AsyncEngine, tmp_path: Path) -> None:
    """Nothing is written, sent or spent for a file that cannot be had; the next question works."""
    (tmp_path / "a.txt").write_bytes(b"secret")
    refused: list[Any] = [
        str(tmp_path / "a.txt"),
        "https://example.com/a.png",
        b"",
        b"\x00\x01",
        b"x" * 101,
        MediaPart(media="image", media_type="image/png"),
        7,
    ]
    policy = AttachmentPolicy(max_bytes=100)
    async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server, attachments=policy) as llm:
        chat = await create_chat(engine, llm)
        for file in refused:
            with pytest.raises(AttachmentError):
                await chat.ask("go", files=[b"good", file])
            stream = chat.stream("go", files=[file])
            with pytest.raises(AttachmentError):
                async for _ in stream:
                    pass
            with pytest.raises(AttachmentError):
                await stream.reply()
        assert [
            await count(engine, record) for record in (MessageRecord, TurnRecord, AttachmentRecord, BlobRecord)
        ] == [0] * 4
        assert (chat.messages, server.requests) == ((), [])

        await chat.ask("go", files=[b"good"])
    assert await count(engine, AttachmentRecord) == 1


async def test_stream_reads_its_files_when_it_begins(engine: AsyncEngine, tmp_path: Path) -> None:
    """A stream that is never read reads no file; one that is has its files in the same rows as a question."""
    path = tmp_path / "a.png"
    policy = AttachmentPolicy(paths=[tmp_path])
    async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server, attachments=policy) as llm:
        chat = await create_chat(engine, llm)
        chat.stream("never", files=path)
        stream = chat.stream("go", files=path)
        path.write_bytes(PNG)
        async for _ in stream:
            pass

    assert contents(chat.messages) == [("a.png", PNG)]
    assert await rows(engine, AttachmentRecord.size) == [(len(PNG),)]


async def test_options_are_checked_before_a_file_is_read(engine: AsyncEngine) -> None:
    """A wrong option is told although the file is wrong, too; files cannot be added to a stored question."""
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        with pytest.raises(ConfigurationError, match="temperature"):
            await chat.ask("go", files="missing.png", temperature=7)
        with pytest.raises(ConfigurationError, match="temperature"):
            chat.stream("go", files="missing.png", temperature=7)
        with pytest.raises(ConfigurationError, match="the question is empty"):
            await chat.ask(" ", files=[])
        with pytest.raises(ConfigurationError, match="files belong to a question"):
            await chat.resume(files=[PNG])


@pytest.mark.parametrize("where", ["messages", "added", "asked"])
async def test_part_without_content_is_refused(engine: AsyncEngine, where: str) -> None:
    """A file that only names a digest, as those of a chat whose contents were deleted, is refused everywhere."""
    hollow = MediaPart(media="image", media_type="image/png", sha256=sha(PNG))
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "messages": lambda: create_chat(engine, llm, messages=[Message(role="user", parts=(hollow,))]),
            "added": lambda: chat.add_message("user", hollow),
            "asked": lambda: chat.ask(["see", hollow]),
        }
        with pytest.raises(AttachmentError, match="has neither"):
            await ways[where]()
    assert await rows(engine, func.count(ChatRecord.id)) == [(1,)]
    assert await count(engine, MessageRecord) == 0


async def test_key_covers_the_contents(engine: AsyncEngine) -> None:
    """The same question with the same files under one key is one turn; other bytes are another request."""
    async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        first = await chat.ask("go", files=[("a.png", PNG)], idempotency_key="k")
        again = await chat.ask("go", files=[("a.png", bytearray(PNG))], idempotency_key="k")
        assert again == first
        for files in ([("a.png", PNG + b"x")], [], [("a.png", PNG), NOTES]):
            with pytest.raises(IdempotencyError):
                await chat.ask("go", files=files, idempotency_key="k")
    assert len(server.requests) == 1
    assert await count(engine, BlobRecord) == 1


async def test_other_clients_may_have_other_policies(tmp_path: Path) -> None:
    """A client made from another one keeps its policy, unless it is given one of its own."""
    (tmp_path / "a.png").write_bytes(PNG)
    async with (
        SPEAKER.server(Says(text="a")) as server,
        SPEAKER.llm(server, attachments=AttachmentPolicy(paths=tmp_path)) as llm,
    ):
        options: Any = {"base_url": f"{server.url}/v1", "api_key": "k", "model": "m"}
        same = llm.with_provider("openai_compatible", **options)
        strict = llm.with_provider("openai_compatible", attachments=AttachmentPolicy(), **options)
        await same.chat().ask("go", files=tmp_path / "a.png")
        with pytest.raises(AttachmentError):
            await strict.chat().ask("go", files=tmp_path / "a.png")
        with pytest.raises(ConfigurationError, match="attachments is an AttachmentPolicy"):
            llm.with_provider("openai_compatible", attachments="all", **options)  # type: ignore[arg-type]


async def test_file_over_the_packet_is_refused_before_it_is_paid_for(
    engine: AsyncEngine, database_kind: DatabaseKind
) -> None:
    """A content that MySQL would not accept is a clear error before the provider is called, and the chat goes on."""
    if database_kind != "mysql":
        pytest.skip("other databases have no such limit")
    async with engine.connect() as connection:
        limit = int(await connection.scalar(text("SELECT @@max_allowed_packet")) or 0)
    policy = AttachmentPolicy(max_bytes=limit * 2, max_total_bytes=limit * 2)
    async with SPEAKER.server(Says(text="a")) as server, SPEAKER.llm(server, attachments=policy) as llm:
        chat = await create_chat(engine, llm)
        with pytest.raises(StorageError, match="raise max_allowed_packet"):
            await chat.ask("go", files=("large.txt", b"x" * limit))
        assert (server.requests, await count(engine, MessageRecord)) == ([], 0)
        await chat.ask("go", files=("fits.txt", b"x" * (limit // 2 - 100_000)))
    assert await count(engine, BlobRecord) == 1
