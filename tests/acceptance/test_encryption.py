"""With encryption, nothing that was said stands readable in the database, and what cannot be opened goes nowhere."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import Text, func, select, text, type_coerce, update

from nodellm_orm import (
    ANY_OWNER,
    Chats,
    Encryption,
    EncryptionError,
    NodeLLMError,
    TamperedValueError,
    create_chat,
    list_chats,
    load_chat,
    rotate_keys,
    tool,
)
from nodellm_orm.store.details import read_details
from nodellm_orm.store.glances import read_glances
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.sealing import CONTENT
from nodellm_orm.testing import FakeCall, FakeThinking, LoopbackServer
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

KEY: Final = Encryption.generate_key()
ENCRYPTION: Final = Encryption(keys={"2026-11": KEY}, allow_plaintext=False)
CANARY: Final = "zebrafinch"
"""In everything that is said, with a word of its own behind it."""


class Form(BaseModel):
    """zebrafinch-schema."""

    colour: str = Field(description="zebrafinch-description")


@tool
async def look_up(query: str) -> str:
    """zebrafinch-tool."""
    if "fail" in query:
        msg = "zebrafinch-toolerror"
        raise RuntimeError(msg)
    return f"zebrafinch-result of {query}"


SCRIPT: Final = (
    Says(
        thinking=[FakeThinking("zebrafinch-thinking", signature="emVicmFmaW5jaA==")],
        calls=[
            FakeCall("look_up", {"query": "zebrafinch-argument"}),
            FakeCall("look_up", {"query": "zebrafinch-fail"}),
        ],
    ),
    Says(text='{"colour": "zebrafinch-answer"}'),
    Says(text='{"colour": "zebrafinch-second"}', finish="zebrafinch-stop"),
    Fails(status=400, message="zebrafinch-error"),
)
LINES: Final = tuple(Says(text=f"zebrafinch {number}") for number in range(3))


@dataclass(frozen=True, slots=True)
class Told:
    """A chat in which everything was said, and the database it is in."""

    engine: AsyncEngine
    chat: Chat
    server: LoopbackServer
    llm: Any


@pytest.fixture
async def told(engine: AsyncEngine) -> AsyncIterator[Told]:
    """A chat with the canary in every place that content can be in."""
    speaker = Speaker("anthropic")
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        chat = await create_chat(
            engine,
            llm,
            title="zebrafinch-title",
            instructions="zebrafinch-instructions",
            owner="ada",
            tools=[look_up],
            schema=Form,
            encryption=ENCRYPTION,
        )
        await chat.ask("zebrafinch-question", files=[("zebrafinch-name.txt", b"zebrafinch-bytes")], thinking=2000)
        link = "https://zebrafinch.example/picture.png"
        await chat.ask(["zebrafinch-picture", link_to(link)], tools=[])
        with pytest.raises(NodeLLMError):
            await chat.ask("zebrafinch-last")
        yield Told(engine, chat, server, llm)


def link_to(url: str) -> Any:
    from nodellm_orm import MediaPart  # noqa: PLC0415 — a part that only this needs

    return MediaPart(media="image", media_type="image/png", url=url)


async def cells(engine: AsyncEngine) -> list[tuple[str, str, object]]:
    """Every value of every row, as the driver gives it."""
    found: list[tuple[str, str, object]] = []
    async with engine.connect() as connection:
        for table in RECORDS.tables:
            rows = (await connection.execute(text(f"SELECT * FROM {table.name}"))).mappings()  # noqa: S608 — our names
            found += [(table.name, name, value) for row in rows for name, value in row.items() if value is not None]
    return found


@pytest.mark.fault("E15")
async def test_no_word_stands_readable_in_the_database(told: Told) -> None:
    """Questions, answers, thinking, arguments, results, errors, files, titles, instructions, schemas: none."""
    values = await cells(told.engine)
    filled = {(table, column) for table, column, _ in values}
    assert {(f"llm_{table}", column) for table, columns in CONTENT.items() for column in columns} <= filled | {
        ("llm_thinking", "opaque")
    }
    spelled = [CANARY, CANARY.encode().hex(), base64.b64encode(CANARY.encode()).decode()[:12]]
    for table, column, value in values:
        shown = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        assert not any(word in shown for word in spelled), f"{table}.{column}"
    database = told.engine.url.database
    if told.engine.dialect.name == "sqlite" and database:
        for path in Path(database).parent.glob(f"{Path(database).name}*"):
            assert CANARY.encode() not in path.read_bytes()


async def test_another_process_reads_and_goes_on(told: Told) -> None:
    """With the key, another process has the chat as it was, and sends it on byte for byte."""
    chats = Chats(told.engine, told.llm, encryption=ENCRYPTION, tools=[look_up])
    other = await chats.load(told.chat.id, owner="ada")
    assert other.messages == told.chat.messages
    assert other.render("next") == told.chat.render("next")
    assert [chat.title for chat in await chats.list(owner="ada")] == ["zebrafinch-title"]
    records = RECORDS.encrypted(ENCRYPTION)
    details = await read_details(told.engine, told.chat.id, owner="ada", records=records)
    assert {call.arguments for call in details.calls} >= {'{"query":"zebrafinch-argument"}'}
    assert details.turns[-1].error_message
    glances = await read_glances(told.engine, [told.chat.id], owner=ANY_OWNER, records=records)
    assert glances.by_chat[told.chat.id].opening == "zebrafinch-question"


@pytest.mark.fault("E15")
@pytest.mark.parametrize(
    "encryption",
    [None, Encryption(keys={"2025-11": KEY}), Encryption(keys={"2026-11": Encryption.generate_key()})],
    ids=["no key", "another name", "another key"],
)
async def test_without_the_key_nothing_is_read_or_sent(
    told: Told, encryption: Encryption | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing or wrong key is an error that names it; no request is made, and no word or cipher is shown."""
    caplog.set_level(logging.DEBUG)
    sent = len(told.server.requests)
    records = RECORDS if encryption is None else RECORDS.encrypted(encryption)
    for attempted in (
        load_chat(told.engine, told.llm, told.chat.id, owner="ada", encryption=encryption),
        list_chats(told.engine, owner="ada", encryption=encryption),
        read_details(told.engine, told.chat.id, owner="ada", records=records),
        read_glances(told.engine, [told.chat.id], owner="ada", records=records),
    ):
        with pytest.raises(EncryptionError, match=r"key (named )?'2026-11'") as caught:
            await attempted
        assert CANARY not in str(caught.value)
        assert len(str(caught.value)) < 300
    assert len(told.server.requests) == sent
    assert CANARY not in caplog.text


@pytest.mark.fault("E15")
@pytest.mark.parametrize(("table", "column"), [("messages", "parts"), ("tool_calls", "result")])
async def test_exchanged_values_are_noticed(told: Told, table: str, column: str) -> None:
    """Somebody who writes to the database exchanges two rows' values: an explicit error, not a wrong answer."""
    rows = getattr(RECORDS.tables, table)
    async with told.engine.begin() as connection:
        raw = type_coerce(rows.c[column], Text())
        found = (await connection.execute(select(rows.c.id, raw).where(raw.is_not(None)).limit(2))).all()
        for (key, _), (_, value) in zip(found, reversed(found), strict=True):
            await connection.execute(update(rows).where(rows.c.id == key).values({column: type_coerce(value, Text())}))
    with pytest.raises(
        TamperedValueError, match=f"column '{column}' of row .* in table '{table}' was changed"
    ) as caught:
        await read_details(told.engine, told.chat.id, owner="ada", records=RECORDS.encrypted(ENCRYPTION))
    assert caught.value.details["table"] == table
    UUID(str(caught.value.details["id"]))


@pytest.mark.fault("E15")
async def test_a_chat_of_another_owner_does_not_open(told: Told) -> None:
    """Rows that were given to another owner in the database are refused, and files as well."""
    chats = RECORDS.tables.chats
    async with told.engine.begin() as connection:
        await connection.execute(update(chats).values(owner="mallory"))
    with pytest.raises(TamperedValueError, match="given another owner"):
        await load_chat(told.engine, told.llm, told.chat.id, owner="mallory", encryption=ENCRYPTION)


async def test_encryption_is_switched_on_for_a_chat_that_is_there(engine: AsyncEngine) -> None:
    """Rows from before are read beside encrypted ones, and encrypted by a rotation while the chat goes on."""
    speaker = Speaker("anthropic")
    async with speaker.server(*LINES) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, title="zebrafinch")
        await chat.ask("zebrafinch?")
        reading = Encryption(keys={"2026-11": KEY})
        chat = await load_chat(engine, llm, chat.id, encryption=reading)
        await chat.ask("and zebrafinch?")
        async with engine.connect() as connection:
            messages = RECORDS.tables.messages
            starts = func.substr(type_coerce(messages.c.content, Text()), 1, 4)
            found = list(await connection.scalars(select(starts).order_by(messages.c.position)))
        assert [start == "\ufdd0s1:" for start in found] == [False, False, True, True]
        report = await rotate_keys(engine, reading)
        assert report.left == 0
        await chat.ask("still zebrafinch?")
        again = await load_chat(engine, llm, chat.id, encryption=ENCRYPTION)
    assert again.messages == chat.messages
    assert CANARY not in str([value for _, _, value in await cells(engine)])
