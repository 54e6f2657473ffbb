"""Whatever comes without end, or packed, or nested: it is bounded, and what was before stays as it was."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import tracemalloc
import zipfile
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    ConfigurationError,
    NodeLLMError,
    ProviderError,
    RetryPolicy,
    create_chat,
    list_chats,
    load_chat,
    tool,
)
from nodellm_orm.testing import FakeCall, Stall, body_answer, sse_answer
from tests.acceptance.canaries import cells
from tests.acceptance.speakers import ALL_APIS, Fails, Says, Speaker
from tests.acceptance.talks import double
from tests.acceptance.validity import check, check_history

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, Reply
    from nodellm_orm.testing import LoopbackServer
    from tests.acceptance.speakers import Line

ONCE: Final = RetryPolicy(max_attempts=1)
SPEAKERS: Final = [Speaker(api) for api in ALL_APIS]
PACKAGE: Final = Path(__file__).parents[2] / "nodellm_orm"
one_database: Final = pytest.mark.parametrize("database_kind", ["sqlite"])


# ── rounds, cost, time ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("A55")
@pytest.mark.fault("E17")
@one_database
@pytest.mark.parametrize("bound", ["rounds", "fewer rounds", "cost", "time"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
async def test_a_model_that_calls_for_ever_is_ended(engine: AsyncEngine, speaker: Speaker, bound: str) -> None:
    """By the rounds of a turn, by its cost, or by a time limit of the caller's; the conversation can go on."""
    if (bound, speaker.api) == ("cost", "ollama"):
        pytest.skip("what runs at home costs nothing")
    stop = {"rounds": 9, "fewer rounds": 3, "cost": 1, "time": 2}[bound]
    script: list[Line] = [Says(calls=[FakeCall("double", {"x": number})], usage=(9, 9)) for number in range(stop)]
    if bound == "time":
        script.append([Stall()])
    async with speaker.server(*script, Says(text="All right.")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double])
        ended = await bounded(chat, bound, server)
        assert len(server.requests) == len(script)
        again = await load_chat(engine, llm, chat.id, tools=[double])
        assert (await again.ask("Enough", wait=30)).content == "All right."
    assert ended is None or ended.finish_reason == ("cost_limit" if bound == "cost" else "tool_limit")
    for request in server.requests:
        check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
    check_history(again.messages)


async def bounded(chat: Chat, bound: str, server: LoopbackServer) -> Reply[Any] | None:
    """The reply that a bound has ended; none where the caller left."""
    match bound:
        case "rounds":
            return await chat.ask("Go")
        case "fewer rounds":
            return await chat.ask("Go", max_tool_rounds=2)
        case "cost":
            return await chat.ask("Go", max_cost="0.000001")
        case _:
            asked = asyncio.create_task(chat.ask("Go"))
            await server.until_received(3)
            asked.cancel()
            await asyncio.wait({asked})
            return None


# ── depth ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

DEEP: Final = "[" * 100_000 + "]" * 100_000


@pytest.mark.fault("E17")
@pytest.mark.parametrize("streamed", [False, True], ids=["ask", "stream"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
async def test_an_answer_that_is_nested_without_end_is_an_error(
    speaker: Speaker,
    streamed: bool,  # noqa: FBT001 — how it is asked
) -> None:
    """No recursion into what a server sends, in whatever place it is nested, and as the body of an error neither."""
    deep = f'{{"type":"message_start","message":{DEEP},"choices":{DEEP},"output":{DEEP}}}'.encode()
    answers: list[Line] = [
        sse_answer([b"data: " + deep + b"\n\n"]) if streamed else body_answer(deep, content_type="application/json"),
        body_answer(f'{{"error":{DEEP}}}'.encode(), status=400, content_type="application/json"),
    ]
    async with speaker.server(*answers, Says(text="fine")) as server, speaker.llm(server, retry=ONCE) as llm:
        chat = llm.chat()
        for _ in answers:
            with pytest.raises(ProviderError):
                await (chat.stream("Hi").reply() if streamed else chat.ask("Hi"))
        assert (await chat.ask("Now?")).content == "fine"


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.fault("E17")
@one_database
async def test_what_is_given_nested_without_end_is_refused(engine: AsyncEngine) -> None:
    """Metadata, parameters, filters and results of tools: an error of ours with the limit; nothing is written."""

    @tool
    def dig() -> Any:
        """Dig."""
        return nested(50_000)

    speaker = Speaker("openai_chat")
    script = (Says(calls=[FakeCall("dig", {})]), Says(text="Too deep."))
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        for attempt in (
            lambda: create_chat(engine, llm, metadata={"a": nested(50_000)}),
            lambda: create_chat(engine, llm, params={"a": nested(50_000)}),
            lambda: llm.chat().ask("Hi", params={"a": nested(50_000)}),
            lambda: list_chats(engine, metadata={"a": nested(50_000)}),
        ):
            with pytest.raises(ConfigurationError, match="nested more than 200"):
                await attempt()
        chat = await create_chat(engine, llm, tools=[dig])
        (call,) = (await chat.ask("Dig")).tool_calls
    assert (call.is_error, "nested more than 200" in str(call.result)) == (True, True)
    assert len((await list_chats(engine)).items) == 1


# ── what is packed ────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def bombs() -> dict[str, bytes]:
    """Small files that say they are enormous, or become it when somebody opens them."""
    zeros = zlib.compress(bytes(200_000_000), 9)
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("[Content_Types].xml", bytes(200_000_000))
    header = b"IHDR" + (2**31 - 1).to_bytes(4) * 2 + b"\x08\x06\x00\x00\x00"
    chunks = (header, b"IDAT" + zeros, b"IEND")
    png = b"".join((len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in chunks)
    pdf = b"%%PDF-1.7\n1 0 obj<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream endobj\n" % (len(zeros), zeros)
    svg = b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>'
    member = b"PK\x01\x02" + bytes(24) + b"\x01" + bytes(17) + b"a"  # an entry of the list, whose name is one letter
    listed = member * 300_000
    end = b"PK\x05\x06" + bytes(8) + len(listed).to_bytes(4, "little") + (30).to_bytes(4, "little") + bytes(2)
    many = b"PK\x03\x04" + bytes(26) + listed + end
    return {
        "many.docx": many,
        "a.png": b"\x89PNG\r\n\x1a\n" + png,
        "a.pdf": pdf,
        "a.docx": archive.getvalue(),
        "a.svg": svg,
    }


BOMBS: Final = ("many.docx", "a.png", "a.pdf", "a.docx", "a.svg")
NAMES_OF_MEMBERS: Final = PACKAGE / "domain" / "mediatypes.py"
"""Tells the kind of a document by the names in its archive."""
ROOM: Final = 30_000_000


@pytest.mark.fault("E05")
@one_database
@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_passed_on_or_refused_and_never_opened(engine: AsyncEngine, name: str) -> None:
    """An image, a document or an archive is bytes here: sent as it came, or refused by its kind; nothing unpacks it."""
    speaker = Speaker("anthropic")
    async with speaker.server(Says(text="Large.")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        bomb = bombs()[name]
        tracemalloc.start()
        try:
            await chat.ask("What is it?", files=[(name, bomb)])
            sent = server.requests[0].body
        except NodeLLMError as error:
            assert name in str(error)  # noqa: PT017 — one of two outcomes
            sent = b""
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        again = await load_chat(engine, llm, chat.id)
    assert peak < ROOM
    assert len(sent) < 4 * len(bomb) + 10_000
    assert len(again.messages) == (2 if sent else 0)


@pytest.mark.fault("E05")
def test_nothing_here_can_unpack_a_file() -> None:
    """No archive, image, document or XML library is imported; bodies of responses are unpacked in one bounded place."""
    imported: set[str] = set()
    unpacking: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith("testing/"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    imported |= {name.name.partition(".")[0] for name in names}
                case ast.ImportFrom(module=str(module)):
                    imported.add(module.partition(".")[0])
                case ast.Attribute(attr="decompress" | "decompressobj"):
                    unpacking.add(place)
                case _:
                    pass
    libraries = {"tarfile", "gzip", "bz2", "lzma", "PIL", "pypdf", "fitz", "xml", "lxml", "docx", "openpyxl"}
    assert imported & libraries == set()
    assert unpacking == {"transport/decoding.py"}
    assert [path for path in PACKAGE.rglob("*.py") if "zipfile" in path.read_text("utf-8")] == [NAMES_OF_MEMBERS]
    assert not re.search(
        r"\.(open|extract|extractall|read)\(", NAMES_OF_MEMBERS.read_text("utf-8").replace("super().read(size)", "")
    )


# ── what a request names ──────────────────────────────────────────────────────────────────────────────────────────────

NAMES: Final = ("team", "te%m", "te_m", "t.e", "$.team", "') OR 1=1 --", '"team"', "team\\", "тeam", "a\x00b")


@pytest.mark.fault("E12")
async def test_names_and_values_of_a_filter_are_values(engine: AsyncEngine) -> None:
    """The metadata that a list is filtered by may be a stranger's: each name and value finds itself, nothing else."""
    async with Speaker("openai_chat").server() as server, Speaker("openai_chat").llm(server) as llm:
        chats = [await create_chat(engine, llm, metadata={name: f"{name}%'"}, title=name) for name in NAMES]
        chats.append(await create_chat(engine, llm, metadata={"team": "blue"}))
    for name in NAMES:
        found = await list_chats(engine, metadata={name: f"{name}%'"})
        assert [summary.title for summary in found] == [name]
        assert (await list_chats(engine, metadata={name: "%"})).items == ()
    for cursor in ("", "' OR 1=1", "AAAA", "9" * 5000):
        with pytest.raises(ConfigurationError):
            await list_chats(engine, after=cursor)
    assert len((await list_chats(engine, limit=10**9)).items) == len(chats)


# ── what a response says besides ──────────────────────────────────────────────────────────────────────────────────────

HEADERS: Final = {
    "set-cookie": "session=cookie-canary; Path=/",
    "openai-organization": "organisation-canary",
    "anthropic-organization-id": "organisation-canary",
    "x-amzn-bedrock-account": "organisation-canary",
    "cf-ray": "organisation-canary",
    "x-request-id": "req_1",
}


@pytest.mark.fault("E19")
@one_database
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
async def test_headers_of_responses_are_not_stored(engine: AsyncEngine, speaker: Speaker) -> None:
    """Cookies and the account's names reach no row, of an answer nor of a failure; the request's id does."""
    whole = json.dumps(speaker.body(Says(text="Hello"))).encode()
    failed = json.dumps(speaker.error(Fails(status=400))).encode()
    answers = [
        body_answer(whole, headers=HEADERS, content_type="application/json"),
        body_answer(failed, headers=HEADERS, status=400, content_type="application/json"),
    ]
    async with speaker.server(*answers) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("Hi")
        with pytest.raises(ProviderError) as caught:
            await chat.ask("Hi")
    rows = await cells(engine)
    assert any(place == "llm_messages.content" and said == "Hello" for place, said in rows)
    assert [place for place, said in rows if "canary" in said] == []
    assert "canary" not in repr(vars(caught.value)) + str(caught.value)
