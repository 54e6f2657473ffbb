"""What is not to be stored is not stored, and what is to be redacted is redacted first; the ledger is complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import func, select, text

from nodellm_orm import (
    ChatError,
    Chats,
    ConfigurationError,
    Persistence,
    StorageError,
    create_chat,
    list_chats,
    load_chat,
    tool,
    verify,
)
from nodellm_orm.ports.keeping import RESULT_NOT_KEPT
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

CARD: Final = "4929-1234-5678-9012"
SCRIPT: Final = (
    Says(
        thinking=[FakeThinking(f"heron-thinking {CARD}")],
        calls=[FakeCall("pay", {"card": f"heron-argument {CARD}"})],
    ),
    Says(text=f"heron-answer {CARD}"),
    Says(text="heron-second"),
    Says(text="heron-third"),
)
CONTENT_FREE: Final = Persistence(content=False)


@tool
async def pay(card: str) -> str:
    """Pay with a card."""
    return f"heron-result {card}"


def hidden(said: str) -> str:
    """Without the numbers of cards."""
    return re.sub(r"\d{4}-\d{4}-\d{4}-\d{4}", "[card]", said)


async def words_in(engine: AsyncEngine, pattern: str) -> set[tuple[str, str]]:
    """Columns in which something is found."""
    found: set[tuple[str, str]] = set()
    async with engine.connect() as connection:
        for table in RECORDS.tables:
            rows = (await connection.execute(text(f"SELECT * FROM {table.name}"))).mappings()  # noqa: S608 — our names
            for row in rows:
                found |= {(table.name, name) for name, value in row.items() if re.search(pattern, str(value))}
    return found


async def count(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as connection:
        names = ("turns", "messages", "tool_calls", "requests", "thinking", "attachments", "blobs")
        tables = {name: getattr(RECORDS.tables, name) for name in names}
        return {
            name: await connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in tables.items()
        }


async def test_without_content_only_the_frame_is_stored(engine: AsyncEngine, speaker: Speaker) -> None:
    """Nothing that was said is in the rows; who spoke, what was called and what it cost is."""
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[pay], persist=CONTENT_FREE)
        reply = await chat.ask("heron-question", files=[("heron.txt", b"heron-bytes")])
        assert reply.content == f"heron-answer {CARD}"
        # The same object remembers what was said.
        await chat.ask("heron-more")
        last = server.requests[-1].json()["messages"]
        assert "heron-question" in str(last)
        assert "heron-result" in str(last)

        assert await words_in(engine, r"heron|\b4929\b") == set()  # a port may end with these digits
        rows = await count(engine)
        assert {name: rows[name] for name in ("turns", "messages", "tool_calls", "requests")} == {
            "turns": 2,
            "messages": 6,
            "tool_calls": 1,
            "requests": 3,
        }
        assert [rows[name] for name in ("thinking", "attachments", "blobs")] == [0, 0, 0]
        assert (await chat.usage()).requests == 3

        other = await load_chat(engine, llm, chat.id, tools=[pay])
        assert [(message.role, message.content, message.kept) for message in other.messages] == [
            ("user", "", False),
            ("assistant", "", False),
            ("tool", "", False),
            ("assistant", "", False),
            ("user", "", False),
            ("assistant", "", False),
        ]
        sent = len(server.requests)
        for attempted in (other.ask("go on"), other.resume()):
            with pytest.raises(ChatError, match="was not stored"):
                await attempted
        assert len(server.requests) == sent
        assert (await count(engine))["turns"] == 2


async def test_a_failed_turn_without_content_is_carried_on_by_the_object_that_asked(engine: AsyncEngine) -> None:
    """The object remembers its question, so it can resume; another process cannot."""
    speaker = Speaker("anthropic")
    async with speaker.server(Fails(status=400), Says(text="yes")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, persist=CONTENT_FREE)
        with pytest.raises(Exception, match="wrong"):
            await chat.ask("heron?")
        other = await load_chat(engine, llm, chat.id)
        with pytest.raises(ChatError, match="was not stored"):
            await other.resume()
        assert (await chat.resume()).content == "yes"
        assert "heron?" in str(server.requests[-1].json())


async def test_thinking_and_results_are_left_out_alone(engine: AsyncEngine) -> None:
    """Without thinking and results, the chat goes on from its rows, and the model is told what it does not see."""
    speaker = Speaker("anthropic")
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        chats = Chats(engine, llm, tools=[pay], persist=Persistence(thinking=False, tool_results=False))
        chat = await chats.create()
        await chat.ask("heron-question")
        assert chat.messages[1].thinking == f"heron-thinking {CARD}"
        assert "heron-result" in str(server.requests[1].json())
        assert await words_in(engine, "heron-(thinking|result)") == set()
        other = await chats.load(chat.id)
        assert await words_in(engine, "heron-(question|answer)")
        await other.ask("and now?")
        assert RESULT_NOT_KEPT in str(server.requests[-1].json())
        assert (await count(engine))["thinking"] == 0


async def test_texts_are_redacted_before_they_are_written(engine: AsyncEngine, speaker: Speaker) -> None:
    """The provider and the running chat have the words, the rows have what the function made of them."""
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        chat = await create_chat(
            engine, llm, title=f"Card {CARD}", instructions=f"His card is {CARD}.", tools=[pay], redact=hidden
        )
        reply = await chat.ask(f"heron-question {CARD}", files=[(f"{CARD}.txt", b"a file")])
        assert reply.content == f"heron-answer {CARD}"
        assert CARD in server.requests[0].body.decode()
        assert f"His card is {CARD}." in server.requests[1].body.decode()
        assert await words_in(engine, CARD) == set()
        redacted = {column for _, column in await words_in(engine, r"\[card\]")}
        assert redacted >= {"title", "instructions", "content", "parts", "arguments", "result", "name"}

        other = await load_chat(engine, llm, chat.id, tools=[pay])
        assert [page.title for page in await list_chats(engine)] == ["Card [card]"]
        await other.ask("and now?")
        assert CARD not in server.requests[-1].body.decode()
        assert "heron-answer [card]" in server.requests[-1].body.decode()
        assert (await verify(engine, chat.id)).ok


async def test_a_call_with_redacted_arguments_is_never_run_from_its_row(engine: AsyncEngine) -> None:
    """Another process that carries the turn on does not run the tool with other arguments than the model's."""
    ran: list[str] = []

    @tool(requires_approval=True)
    async def transfer(card: str) -> str:
        """Transfer money."""
        ran.append(card)
        return "done"

    speaker = Speaker("anthropic")
    script = (Says(calls=[FakeCall("transfer", {"card": CARD})]), Says(text="It was not run."))
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[transfer], redact=hidden)
        reply = await chat.ask("Transfer!")
        assert reply.finish_reason == "approval"
        other = await load_chat(engine, llm, chat.id, tools=[transfer])
        await other.approve(reply.tool_calls[0].call_id)
        await other.resume()
    assert ran == []


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: None], ids=["raises", "gives no text"])
async def test_what_cannot_be_redacted_is_not_written(engine: AsyncEngine, broken: Any) -> None:
    """A function that fails is a storage error, and nothing is written or sent."""
    speaker = Speaker("anthropic")
    async with speaker.server(Says(text="never")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, redact=broken)
        with pytest.raises(StorageError, match="nothing was written"):
            await chat.ask("heron-question")
        assert server.requests == []
        assert await words_in(engine, "heron") == set()
        assert (await count(engine))["turns"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"persist": {"content": False}}, "persist is a Persistence"),
        ({"persist": False}, "persist is a Persistence"),
        ({"redact": "secret"}, "redact is a function"),
        ({"encryption": "secret"}, "encryption is an Encryption"),
    ],
)
async def test_mistaken_options_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """What cannot be meant is an error before anything is written."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 — never connected

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'none.db'}")
    speaker = Speaker("anthropic")
    async with speaker.server() as server, speaker.llm(server) as llm:
        with pytest.raises(ConfigurationError, match=said):
            await create_chat(engine, llm, **options)
    await engine.dispose()
