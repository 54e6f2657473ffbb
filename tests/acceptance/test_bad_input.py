"""Bad input: an error that says what to do, before anything is written or sent; or kept and given back unchanged."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import socket
import traceback
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import nodellm_orm
from nodellm_orm import (
    ANY_OWNER,
    AuthenticationError,
    BadRequestError,
    ChatNotFoundError,
    Chats,
    ConfigurationError,
    Message,
    NodeLLMError,
    Price,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    RetryPolicy,
    SchemaVersionError,
    SessionStateError,
    StorageError,
    StreamInterruptedError,
    TextPart,
    Timeout,
    create_chat,
    create_llm,
    interrupted_turns,
    list_chats,
    load_chat,
    migrate,
    tool,
)
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.parts import ToolCallPart, ToolResultPart
from nodellm_orm.models import Base, ChatRecord, MessageRecord, RequestRecord, TurnRecord
from nodellm_orm.testing import FakeCall, LoopbackServer, Reset, body_answer, sse_answer, text_answer
from tests.acceptance.speakers import KEY, Fails, Says, Speaker
from tests.acceptance.validity import check
from tests.integration.databases import empty_database, migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from tests.acceptance.speakers import Line

OPENAI = Speaker("openai_chat")
ONCE = RetryPolicy(max_attempts=1)
UNKNOWN = UUID("01890000-0000-7000-8000-000000000000")
_PACKAGE = Path(nodellm_orm.__file__).parent

CANARY = "canary.7Qw3rTz9LmX2bVn5"
"""A key that does not look like one."""

HOSTILE = {
    "nul": "a\x00b\x00",
    "lone surrogates": "\ud800 then \udfff\ud83d",
    "escape's own mark": "\ufdd0 \ufdd00000 \ufdd0\ufdd0",
    "emoji": "🜚👩‍👩‍👧‍👦 \U0010ffff",
    "spaces": "  k \u00a0\u2028\u2029\ufeff ",
    "quotes": "'); DROP TABLE llm_chats; -- \\ \" %s :x ${y} \r\n\t\x1b[2J\x7f",
    "a megabyte": "é" * 2**20,
}


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with the tables in it, where it does not matter which."""
    async with migrated_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


@pytest.fixture
async def llm() -> AsyncIterator[LLM]:
    """A client of a server that answers nothing: whatever reaches it fails the test."""
    async with OPENAI.server() as server, OPENAI.llm(server) as llm:
        yield llm
        assert server.requests == []


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


@tool(name="double")
def another(x: int) -> int:
    """Also double a number."""
    return x + x


async def count(engine: AsyncEngine, record: Any) -> int:
    """Rows of a table."""
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(record)) or 0


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────────

GIVEN: dict[str, Any] = {"api_key": "k-1"}
CLIENTS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {"environ": {}}, r"pass one, as in create_llm\('openai'\), or set NODELLM_PROVIDER"),
    (("openai",), {"environ": {}}, "set OPENAI_API_KEY, or pass api_key"),
    (("anthropic",), {"environ": {}}, "set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, or pass api_key"),
    (("openai",), {"api_key": "", "environ": {}}, "set OPENAI_API_KEY, or pass api_key"),
    (("openai",), {"api_key": b"k"}, "api_key is a text, not bytes"),
    (("opnai",), GIVEN, "Did you mean 'openai'"),
    (("Anthropic ",), GIVEN, "Did you mean 'anthropic'"),
    ((7,), GIVEN, "provider is a text, not int"),
    (("openai",), {**GIVEN, "organisation": "x"}, r"organisation \(did you mean organization\?\)"),
    (("openai",), {**GIVEN, "bas_url": "x"}, r"bas_url \(did you mean base_url\?\)"),
    (("openai",), {**GIVEN, "base_url": "localhost:8000"}, "give one like https://host/v1"),
    (("openai",), {**GIVEN, "base_url": "http://me:pw@host/v1"}, "give the key as api_key"),
    (("openai",), {**GIVEN, "base_url": "http://host/v1\r\nX: y"}, "give one URL without any"),
    (("openai",), {**GIVEN, "api": "grpc"}, "it speaks: responses, chat"),
    (("openai",), {**GIVEN, "timeout": -1}, r"Timeout\(total=\) is a number of seconds above 0"),
    (("openai",), {**GIVEN, "timeout": math.nan}, "seconds above 0, or None for no limit"),
    (("openai",), {**GIVEN, "timeout": {"total": 1}}, "seconds above 0, or None for no limit"),
    (("openai",), {**GIVEN, "attachments": {"paths": True}}, r"attachments is an AttachmentPolicy\(paths="),
    (("openai",), {**GIVEN, "retry": 3}, r"retry is a RetryPolicy\(max_attempts=...\)"),
    (("openai",), {**GIVEN, "prices": {"m": 2}}, r"Price\(input=1, output=2\)"),
    (("openai",), {**GIVEN, "model": ""}, "model is empty; leave it out"),
    (("openai",), {**GIVEN, "http_client": httpx.Client}, "http_client is an httpx.AsyncClient"),
    (("openai_compatible",), GIVEN, "pass base_url, for instance http://localhost:8000/v1"),
]


@pytest.mark.parametrize(("given", "named", "remedy"), CLIENTS)
def test_client_that_cannot_be_meant_is_refused_at_once(given: Any, named: Any, remedy: str) -> None:
    """What is missing or malformed is said when the client is created, with the remedy."""
    with pytest.raises(ConfigurationError, match=remedy):
        create_llm(*given, **named)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("where", ["api_key", "OPENAI_API_KEY"])
@pytest.mark.parametrize("key", [f"{CANARY}\n", f"{CANARY}\r\nX-Evil: 1", f"{CANARY}é", f"{CANARY}\x00"])
def test_malformed_key_is_refused_by_name_and_never_shown(where: str, key: str) -> None:
    """A key with a line break or a character that cannot be sent is refused at creation; the error shows its name."""
    named: dict[str, Any] = {"api_key": key} if where == "api_key" else {"environ": {where: key}}
    with pytest.raises(ConfigurationError, match=where) as caught:
        create_llm("openai", **named)

    assert "copy the key again" in str(caught.value) or "set it to the key alone" in str(caught.value)
    assert CANARY not in told(caught.value, frames=False)  # it is their own argument


@pytest.mark.parametrize("wrong", [{"total": 0}, {"idle": -1.0}, {"tool": math.nan}, {"connect": "5"}, {"tool": True}])
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    """A time limit is a number of seconds above zero or ``None``; a policy has no negative numbers."""
    with pytest.raises(ConfigurationError, match="above 0, or None for no limit"):
        Timeout(**wrong)
    with pytest.raises(ConfigurationError, match="at least 0"):
        RetryPolicy(base_ms=-1)


# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def wrong_sessions() -> Iterator[tuple[object, str]]:
    """What people give as a session by mistake, and what they are told."""
    engine = create_engine("sqlite://")
    yield engine, "create_async_engine"
    yield Session(engine), "create_async_engine, async_sessionmaker"
    yield sessionmaker(engine), "async_sessionmaker"
    yield "sqlite+aiosqlite:///chats.db", r"make_engine\(url\)"
    yield None, "pass an AsyncEngine, an async_sessionmaker or an AsyncSession"
    yield AsyncSession(), r"make it with async_sessionmaker\(engine\)"
    engine.dispose()


async def test_what_is_no_session_is_refused_with_the_remedy(llm: LLM) -> None:
    """A sync engine or session, a URL and an unbound session are refused, in every function that takes a session."""
    for session, remedy in wrong_sessions():
        wrong: Any = session
        for asking in (
            create_chat(wrong, llm),
            load_chat(wrong, llm, UNKNOWN),
            list_chats(wrong),
            interrupted_turns(wrong),
            Chats(wrong, llm).create(),
        ):
            with pytest.raises(ConfigurationError, match=remedy):
                await asking


async def test_swapped_or_foreign_arguments_are_refused(sqlite: AsyncEngine, llm: LLM) -> None:
    """An ``llm`` that is none is refused with the words that make one."""
    for wrong in (None, "openai", sqlite, type(llm)):
        client: Any = wrong
        with pytest.raises(ConfigurationError, match=r"create_llm\(\)"):
            await create_chat(sqlite, client)
    swapped: Any = (llm, sqlite)
    with pytest.raises(ConfigurationError, match=r"create_llm\(\), or an object .*, not AsyncEngine"):
        await create_chat(*swapped)


async def test_database_without_tables_names_the_command(database_kind: Any, tmp_path: Path, llm: LLM) -> None:
    """A database that was never migrated is told apart, with the function and the command that migrate it."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = create_async_engine(url)
        for asking in (create_chat(engine, llm), load_chat(engine, llm, UNKNOWN), list_chats(engine)):
            with pytest.raises(SchemaVersionError, match=r"await migrate\(engine\).*nodellm-orm db upgrade"):
                await asking
        await engine.dispose()


@pytest.mark.fault("B38")
async def test_closed_session_is_refused_and_an_ordinary_one_may_be_closed(sqlite: AsyncEngine) -> None:
    """A session closed for good is refused; the usual kind, which opens again, keeps working."""
    async with OPENAI.server(Says(text="ok")) as server, OPENAI.llm(server) as llm:
        final = AsyncSession(sqlite, close_resets_only=False)
        await final.close()
        with pytest.raises(SessionStateError, match="pass one that is open, or the engine"):
            await create_chat(final, llm)
        session = async_sessionmaker(sqlite)()
        chat = await create_chat(session, llm)
        await session.close()
        assert (await chat.ask("go")).content == "ok"


async def test_chat_outlives_the_pool_of_its_engine(engine: AsyncEngine) -> None:
    """After ``engine.dispose()`` the chat asks on over new connections."""
    async with OPENAI.server(Says(text="one"), Says(text="two")) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("a")
        await engine.dispose()
        assert (await chat.ask("b")).content == "two"
        assert [m.content for m in (await load_chat(engine, llm, chat.id)).messages] == ["a", "one", "b", "two"]


async def test_closed_client_says_so_before_anything_is_written(sqlite: AsyncEngine) -> None:
    """A client that was closed asks nothing any more; the chat is untouched and goes on with another client."""
    async with OPENAI.server(Says(text="ok")) as server:
        async with OPENAI.llm(server) as closed:
            chat = await create_chat(sqlite, closed)
        with pytest.raises(ConfigurationError, match=r"make a new one with create_llm\(\)"):
            await chat.ask("go")
        with pytest.raises(ConfigurationError, match=r"make a new one with create_llm\(\)"):
            await chat.stream("go").reply()
        with pytest.raises(ConfigurationError, match=r"make a new one with create_llm\(\)"):
            await closed.chat().ask("go")
        assert await count(sqlite, TurnRecord) == 0
        async with OPENAI.llm(server) as llm:
            assert (await (await load_chat(sqlite, llm, chat.id)).ask("go")).content == "ok"


# ── whose chat ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E10")
async def test_wrong_owner_looks_exactly_like_no_chat(engine: AsyncEngine, llm: LLM) -> None:
    """An unknown id and a wrong, missing or similar owner give the same error, and lists do not show the chat."""
    chat = await create_chat(engine, llm, owner="ann")
    with pytest.raises(ChatNotFoundError) as unknown:
        await load_chat(engine, llm, UNKNOWN, owner="ann")
    for owner in ("bob", None, "", "Ann", "ann ", "änn", "ann\x00", "%", "ann' OR '1'='1"):
        with pytest.raises(ChatNotFoundError) as wrong:
            await load_chat(engine, llm, chat.id, owner=owner)
        assert str(wrong.value).replace(str(chat.id), str(UNKNOWN)) == str(unknown.value)
        assert len(await list_chats(engine, owner=owner)) == 0
        with pytest.raises(ChatNotFoundError):
            await create_chat(engine, llm, id=chat.id, owner=owner)
    assert (await load_chat(engine, llm, str(chat.id), owner="ann")).id == chat.id
    assert (await load_chat(engine, llm, chat.id, owner=ANY_OWNER)).owner == "ann"


async def test_creating_a_chat_twice_gives_the_same_chat(engine: AsyncEngine) -> None:
    """``create_chat`` with the same id again, also at the same time, is the stored chat with its history."""
    async with OPENAI.server(Says(text="ok")) as server, OPENAI.llm(server) as llm:
        both = await asyncio.gather(*(create_chat(engine, llm, id=UNKNOWN, owner="ann") for _ in range(2)))
        await both[0].ask("go")
        again = await create_chat(engine, llm, id=str(UNKNOWN), owner="ann", instructions="Ignored: it exists.")

    assert {chat.id for chat in (*both, again)} == {UNKNOWN}
    assert ([m.content for m in again.messages], again.instructions) == (["go", "ok"], "")
    assert await count(engine, ChatRecord) == 1


@pytest.mark.parametrize("wrong", ["abc", "", 5, None, b"x", "01890000-0000-7000-8000-00000000000g"])
async def test_malformed_ids_are_refused(sqlite: AsyncEngine, llm: LLM, wrong: Any) -> None:
    """What is no UUID is refused by name, in loading and in creating."""
    with pytest.raises(ConfigurationError, match="a UUID or its text"):
        await load_chat(sqlite, llm, wrong)
    if wrong is not None:
        with pytest.raises(ConfigurationError, match="a UUID or its text"):
            await create_chat(sqlite, llm, id=wrong)


@pytest.mark.parametrize("owner", [5, UNKNOWN, b"ann", "x" * 256])
async def test_owner_that_cannot_be_kept_is_refused(sqlite: AsyncEngine, llm: LLM, owner: Any) -> None:
    """An owner is a text of at most 255 characters; other types are told how to become one."""
    remedy = "use at most 255" if isinstance(owner, str) else r"pass str\(...\)"
    for asking in (
        create_chat(sqlite, llm, owner=owner),
        load_chat(sqlite, llm, UNKNOWN, owner=owner),
        list_chats(sqlite, owner=owner),
    ):
        with pytest.raises(ConfigurationError, match=remedy):
            await asking
    anybody: Any = ANY_OWNER
    with pytest.raises(ConfigurationError, match="owner is a text"):
        await create_chat(sqlite, llm, owner=anybody)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────────

BOTH: list[tuple[dict[str, Any], str]] = [
    ({"temprature": 1}, r"temprature \(did you mean temperature\?\)"),
    ({"max_token": 1}, r"max_token \(did you mean max_tokens\?\)"),
    ({"max_tokens": -1}, "at least 1"),
    ({"max_tokens": 1.5}, "whole number"),
    ({"max_tool_rounds": -1}, "at least 0"),
    ({"max_cost": -1}, "an amount of US dollars"),
    ({"max_cost": math.nan}, "an amount of US dollars"),
    ({"temperature": math.nan}, "from 0 to 2"),
    ({"temperature": True}, "from 0 to 2"),
    ({"thinking": -5}, "a number of tokens, or True or False"),
    ({"thinking": "loud"}, "none, minimal, low, medium, high"),
    ({"parallel_tool_calls": "no"}, "True or False"),
    ({"tool_choice": "nobody"}, "neither auto, none, required nor the name of a tool"),
    ({"tool_choice": 5}, "auto, none, required or the name of a tool"),
    ({"schema": "City"}, "give a class, a type, or a JSON Schema as a dict"),
    ({"schema": {"enum": [math.nan]}}, "send a number, a string or null"),
    ({"timeout": -1}, "above 0, or None for no limit"),
    ({"headers": {"x-a": "v\r\nInjected: 1"}}, "'x-a' holds a line break"),
    ({"headers": {"x-a\r\nInjected": "1"}}, "use letters, digits and hyphens"),
    ({"headers": {"x-a": 1}}, "headers is a dict of texts"),
    ({"headers": ["x-a: 1"]}, "headers is a dict of texts"),
    ({"params": [1]}, "params is a dict of members"),
    ({"params": {"x": object()}}, "convert it to a string, number, list or dict"),
    ({"params": {"x": math.inf}}, "send a number, a string or null"),
    ({"tools": [5]}, "give a function, a Tool class or a Tool instance"),
    ({"tools": double}, r"write tools=\[...\]"),
    ({"tools": "double"}, r"write tools=\[...\]"),
    ({"tools": [int]}, "derive it from nodellm_orm.Tool"),
    ({"tools": [double, another]}, "give one of them another name"),
    ({"tools": [lambda: 1]}, r"@tool\(name=...\)"),
]
CREATING: list[tuple[dict[str, Any], str]] = [
    *BOTH,
    ({"instruction": "x"}, r"instruction \(did you mean instructions\?\)"),
    ({"instructions": 5}, "a text, or a list of texts"),
    ({"instructions": [5]}, "a text, or a list of texts"),
    ({"history_window": 0}, "at least 1"),
    ({"lease": -1}, "lease is a number of seconds above 0"),
    ({"lease": math.nan}, "lease is a number of seconds above 0"),
    ({"max_takeovers": -1}, "max_takeovers is a whole number of at least 0"),
    ({"max_takeovers": 1.5}, "max_takeovers is a whole number of at least 0"),
    ({"database_timeout": -1}, "leave it out or give one, such as 30.0"),
    ({"durability": "steps"}, "'step' or 'turn'"),
    ({"transactions": "mine"}, "'own' or 'caller'"),
    ({"transactions": "caller"}, "pass it as session"),
    ({"records": Base}, r"what define_records\(\) gave"),
    ({"model": 5}, r"model is a text, not int"),
    ({"model": " "}, "model is empty; leave it out"),
    ({"provider": "opnai"}, "Did you mean 'openai'"),
    ({"title": 5}, "title is a text"),
    ({"metadata": [1]}, "a dict of JSON values"),
    ({"metadata": {1: 2}}, "keys are strings"),
    ({"metadata": {"a": UNKNOWN}}, "convert it to a string, number, list or dict"),
    ({"metadata": {"a": math.nan}}, "send a number, a string or null"),
    ({"metadata": {"a": [{"b": math.inf}]}}, "send a number, a string or null"),
    ({"messages": "hi"}, '"content": …'),
    ({"messages": [{"role": "user"}]}, '"content": …'),
    ({"messages": [{"role": "user", "content": None}]}, "whose content is a text"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "system, user, assistant or tool"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}, "message 1 is empty"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "give Message values"),
]
ASKING: list[tuple[dict[str, Any], str]] = [
    *BOTH,
    ({"wait": -1}, "wait is a number of seconds not below 0"),
    ({"wait": math.nan}, "wait is a number of seconds not below 0"),
    ({"on_limit": "explode"}, "'return' or 'raise'"),
    ({"idempotency_key": 5}, r"pass str\(...\)"),
    ({"idempotency_key": ""}, "idempotency_key is empty"),
    ({"idempotency_key": "k" * 256}, "use at most 255"),
    ({"instructions": "x"}, "unknown option instructions"),
]


def named(cases: list[tuple[dict[str, Any], str]]) -> list[Any]:
    """The cases under readable names."""
    return [pytest.param(*case, id=f"{next(iter(case[0]))}-{number}") for number, case in enumerate(cases)]


@pytest.mark.parametrize(("wrong", "remedy"), named(CREATING))
async def test_chat_that_cannot_be_meant_is_not_created(
    sqlite: AsyncEngine, llm: LLM, wrong: dict[str, Any], remedy: str
) -> None:
    """An option that does not exist or cannot be meant is refused with the remedy, and nothing is written."""
    with pytest.raises(ConfigurationError, match=remedy):
        await create_chat(sqlite, llm, **wrong)

    assert await count(sqlite, ChatRecord) == 0


@pytest.mark.parametrize(("wrong", "remedy"), named(ASKING))
async def test_question_that_cannot_be_meant_is_not_asked(
    sqlite: AsyncEngine, llm: LLM, wrong: dict[str, Any], remedy: str
) -> None:
    """A wrong option of one question is refused by ``ask`` and ``stream`` alike, before a turn begins."""
    chat = await create_chat(sqlite, llm)
    with pytest.raises(ConfigurationError, match=remedy):
        await chat.ask("go", **wrong)
    with pytest.raises(ConfigurationError, match=remedy):
        chat.stream("go", **wrong)

    assert (await count(sqlite, TurnRecord), await count(sqlite, MessageRecord)) == (0, 0)


EMPTY = "ask something, or resume"
QUESTIONS: list[tuple[Any, str]] = [
    ("", EMPTY),
    (" \n\t", EMPTY),
    ([], EMPTY),
    ([TextPart(text="")], EMPTY),
    (None, "a question is text"),
    (b"bytes", "a question is text, .* not bytes"),
    (5, "a question is text"),
    ({"role": "user", "content": "x"}, "a question is text"),
    (["a", 5], "a question is text"),
    ([ToolResultPart(call_id="c", name="double", content="4")], "only ever written by a model"),
]


@pytest.mark.parametrize(("question", "remedy"), QUESTIONS)
async def test_empty_or_foreign_question_is_refused(sqlite: AsyncEngine, llm: LLM, question: Any, remedy: str) -> None:
    """A question says something, in text or parts; nothing else is sent or stored."""
    chat = await create_chat(sqlite, llm)
    for ask in (lambda: chat.ask(question), lambda: chat.add_message("user", question)):
        with pytest.raises(ConfigurationError, match=remedy):
            await ask()
    with pytest.raises(ConfigurationError, match=remedy):
        chat.stream(question)

    assert await count(sqlite, MessageRecord) == 0


async def test_fluent_changes_are_checked_when_they_are_made(sqlite: AsyncEngine, llm: LLM) -> None:
    """What cannot be meant is refused where it is said, not with the next turn, and leaves the chat as it was."""
    chat: Any = await create_chat(sqlite, llm, model="gpt-5-mini")
    wrong: list[tuple[Any, str]] = [
        (lambda: chat.with_model(5), "model is a text"),
        (lambda: chat.with_model(""), "model is empty"),
        (lambda: chat.with_provider("antropic"), "Did you mean 'anthropic'"),
        (lambda: chat.with_instructions(" "), "a text that says something"),
        (lambda: chat.with_temperature(9), "from 0 to 2"),
        (lambda: chat.with_max_tokens(0), "at least 1"),
        (lambda: chat.with_thinking(budget=1, effort="low"), "not both"),
        (lambda: chat.with_schema("City"), "give a class, a type, or a JSON Schema"),
        (lambda: chat.with_settings(temprature=1), r"did you mean temperature\?"),
        (lambda: chat.with_tools(5), "give a function, a Tool class or a Tool instance"),
        (lambda: chat.with_tools(double, another), "give one of them another name"),
        (lambda: chat.with_headers(x="a\nb"), "'x' holds a line break"),
        (lambda: chat.with_params(x=math.nan), "send a number, a string or null"),
        (lambda: chat.on_end_message("print"), "takes a function"),
        (lambda: chat.stream("go", on_abandon="forget"), "'cancel' or 'finish'"),
    ]
    for change, remedy in wrong:
        with pytest.raises(ConfigurationError, match=remedy):
            change()
    for asking, remedy in (
        (chat.update(temprature=1), "did you mean temperature"),
        (chat.update(title=5), "title is a text"),
        (chat.update_metadata(x=math.nan), "send a number, a string or null"),
        (chat.resume(unknown="perhaps"), "'report', 'retry' or 'fail'"),
        (chat.history(limit=0), "at least 1"),
        (chat.add_message("tool", "x"), "user, assistant or system"),
        (list_chats(sqlite, limit=-1), "give 1 or more"),
        (list_chats(sqlite, after="page 2"), "pass the `next` of the page before"),
        (list_chats(sqlite, metadata={"a": math.nan}), "send a number, a string or null"),
        (interrupted_turns(sqlite, limit=0), "give 1 or more"),
    ):
        with pytest.raises(ConfigurationError, match=remedy):
            await asking
    one: Any = double
    with pytest.raises(ConfigurationError, match=r"write tools=\[...\]"):
        Chats(sqlite, llm, tools=one)

    loaded = await load_chat(sqlite, llm, chat.id)
    assert (chat.model, loaded.model, dict(loaded.metadata), loaded.instructions) == (
        "gpt-5-mini",
        "gpt-5-mini",
        {},
        "",
    )


async def test_given_history_whose_calls_and_results_do_not_match_is_refused(sqlite: AsyncEngine, llm: LLM) -> None:
    """A history that no provider takes is refused with the place to mend; one that is whole is taken."""
    question = Message(role="user", parts=(TextPart(text="go"),))
    call = Message(role="assistant", parts=(ToolCallPart(call_id="c1", name="double", arguments='{"x":1}'),))
    result = Message(role="tool", parts=(ToolResultPart(call_id="c1", name="double", content="2"),))
    for history, remedy in (
        ([question, call], "c1; add tool messages with them, or leave the calls out"),
        ([question, call, question, result], "message 2 comes before the results of c1; put these first"),
        ([question, result], "message 1 answers c1, a call that was not made; leave it out"),
        ([Message(role="user", parts=())], "message 0 is empty; leave it out"),
    ):
        with pytest.raises(ConfigurationError, match=remedy):
            await create_chat(sqlite, llm, messages=history)
    assert await count(sqlite, ChatRecord) == 0

    chat = await create_chat(sqlite, llm, messages=[question, call, result])
    check(loads(chat.render("and?").body), "openai_chat")


async def test_misused_calls_fail_as_python_fails(sqlite: AsyncEngine, llm: LLM) -> None:
    """``await chat.stream(...)`` and ``async for … in chat.ask(...)`` are type errors; neither begins a turn."""
    chat = await create_chat(sqlite, llm)
    stream: Any = chat.stream("go")
    with pytest.raises(TypeError, match="ReplyStream"):
        await stream
    asking: Any = chat.ask("go")
    with pytest.raises(TypeError, match="async for"):
        async for _ in asking:
            pass
    asking.close()

    assert await count(sqlite, TurnRecord) == 0


async def test_huge_max_tokens_is_the_providers_to_refuse(sqlite: AsyncEngine, speaker: Speaker) -> None:
    """Any whole number is sent, within what is known of the model, and the provider's refusal is told as it is."""
    refusal = Fails(status=400, message="max_tokens is too large")
    async with speaker.server(refusal, Says(text="ok")) as server, speaker.llm(server) as llm:
        chat = await create_chat(sqlite, llm, max_tokens=10**30)
        with pytest.raises(BadRequestError, match="max_tokens is too large"):
            await chat.ask("go")
        loaded = await load_chat(sqlite, llm, chat.id)
        assert (await loaded.with_max_tokens(100).ask("again")).content == "ok"

    sent: Any = [request.json() for request in server.requests]
    names = {"max_tokens", "max_completion_tokens"}
    assert [next(body[name] for name in names if name in body) for body in sent][1] == 100


# ── hostile text ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B16")
@pytest.mark.fault("B17")
@pytest.mark.fault("B19")
@pytest.mark.fault("B21")
@pytest.mark.parametrize("name", HOSTILE)
async def test_any_text_is_stored_and_read_back_equal(engine: AsyncEngine, name: str) -> None:
    """Questions, answers, instructions, titles, metadata, arguments and results of any text come back as they were."""
    text = HOSTILE[name]
    results: list[str] = []

    @tool
    def echo(said: str) -> str:
        """Say it again."""
        results.append(said)
        return said[:90_000]

    owner = text[:40]
    argument = text[:900_000]  # more than a million characters are not handed to a tool
    script = [Says(text=text, calls=[FakeCall("echo", {"said": argument})]), Says(text=text), Says(text="ok")]
    async with OPENAI.server(*script) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(
            engine,
            llm,
            instructions=text,
            tools=[echo],
            metadata={text[:50]: [text[:5000]]},
            owner=owner,
            title=text,
            messages=[{"role": "user", "content": text}, {"role": "assistant", "content": text}],
        )
        await chat.ask(text, idempotency_key=owner)
        loaded = await load_chat(engine, llm, chat.id, owner=owner, tools=[echo])
        again = await loaded.ask(text, idempotency_key=owner)
        await loaded.ask("more")

    assert (loaded.title, loaded.instructions, loaded.owner) == (text, text, owner)
    assert dict(loaded.metadata) == {text[:50]: [text[:5000]]}
    assert [m.content for m in loaded.messages[:4]] == [text] * 4
    assert loads(loaded.messages[3].tool_calls[0].arguments) == {"said": argument}
    if name == "lone surrogates":  # pydantic has no such strings: the model is told so
        assert (results, loaded.messages[4].tool_results[0].is_error) == ([], True)
    else:
        assert results == [argument]
        assert loaded.messages[4].content == text[:90_000]
    assert (again.content, loaded.messages[:6]) == (text, chat.messages)
    assert len(server.requests) == 3
    assert server.requests[2].body.startswith(server.requests[1].body.removesuffix(b"]}"))
    (summary,) = (await list_chats(engine, owner=owner, metadata={text[:50]: [text[:5000]]})).items
    assert summary.id == chat.id


@pytest.mark.fault("B31")
async def test_owners_and_keys_that_databases_confuse_are_told_apart(engine: AsyncEngine) -> None:
    """Case, accents, trailing spaces and the empty text tell owners and idempotency keys apart on every database."""
    keys = ["k", "K", "k ", "k  ", "ḱ", "k\x00", "\ud800", "\ufdd0d800"]
    script = [Says(text=f"answer {number}") for number in range(len(keys))]
    async with OPENAI.server(*script) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm)
        first = [(await chat.ask(f"question {key}", idempotency_key=key)).content for key in keys]
        again = [(await chat.ask(f"question {key}", idempotency_key=key)).content for key in keys]
        made = {owner: (await create_chat(engine, llm, owner=owner)).id for owner in ["", *keys]}
        found = {owner: [c.id for c in await list_chats(engine, owner=owner)] for owner in made}

    assert first == again == [f"answer {number}" for number in range(len(keys))]
    assert found == {owner: [key] for owner, key in made.items()}
    assert [c.id for c in await list_chats(engine)] == [chat.id]


@pytest.mark.fault("B24")
@pytest.mark.parametrize(
    "arguments", ['{"x": NaN}', '{"x": Infinity}', '{"x": -Infinity}', '{"x": 1e999}', "[1]", '{"x": ', "\x00"]
)
async def test_arguments_that_are_no_json_object_are_told_to_the_model(engine: AsyncEngine, arguments: str) -> None:
    """Arguments with NaN, of another shape or cut off are kept as received, answered with an error, and not run."""
    ran: list[float] = []

    @tool
    def take(x: float) -> str:
        """Take a number."""
        ran.append(x)
        return "taken"

    call = FakeCall("take", arguments, "call_1")
    async with OPENAI.server(Says(calls=[call]), Says(text="sorry")) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[take])
        reply = await chat.ask("go")
        loaded = await load_chat(engine, llm, chat.id)

    (made,) = reply.tool_calls
    assert (made.status, made.is_error, ran, made.arguments) == ("failed", True, [], arguments)
    assert loaded.messages[1].tool_calls[0].arguments == arguments
    check(server.requests[1].json(), "openai_chat")


@pytest.mark.fault("B24")
@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {1: 2, "1": 3}, object(), b"\xff"])
async def test_results_without_json_form_are_an_error_for_the_model(engine: AsyncEngine, value: object) -> None:
    """A result that JSON has no form for becomes a readable error on row and wire; the turn goes on."""

    @tool
    def give() -> object:
        """Give something."""
        return value

    async with OPENAI.server(Says(calls=[FakeCall("give")]), Says(text="ok")) as server, OPENAI.llm(server) as llm:
        reply = await (await create_chat(engine, llm, tools=[give])).ask("go")

    (made,) = reply.tool_calls
    assert (made.status, made.is_error, reply.content) == ("failed", True, "ok")
    assert "The tool ran, but" in str(made.result)


@pytest.mark.fault("B25")
async def test_numbers_beyond_64_bits_are_kept_where_they_are_text(engine: AsyncEngine) -> None:
    """Large numbers and long fractions in arguments and metadata keep all their digits."""
    big = 2**80 + 1
    arguments = f'{{"x":{big},"y":0.1000000000000000055511151231257827}}'
    call = FakeCall("double", arguments)
    async with OPENAI.server(Says(calls=[call]), Says(text="ok")) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm, metadata={"big": big, "small": -(2**63) - 1}, tools=[double])
        await chat.ask("go")
        loaded = await load_chat(engine, llm, chat.id)

    assert dict(loaded.metadata) == {"big": big, "small": -(2**63) - 1}
    assert loaded.messages[1].tool_calls[0].arguments == arguments


@pytest.mark.fault("B27")
async def test_absurd_token_counts_do_not_cost_the_answer(engine: AsyncEngine) -> None:
    """A server that reports counts beyond any integer column still has its answer stored and returned."""
    script = [Says(text="paid for", usage=(2**63 - 1, 2**62)), Says(text="also", usage=(10**30, -5)), Says(text="ok")]
    async with OPENAI.server(*script) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm)
        assert [(await chat.ask("go")).content for _ in script] == ["paid for", "also", "ok"]
        assert (await load_chat(engine, llm, chat.id)).messages == chat.messages
        usage = await chat.usage()

    assert (usage.requests, usage.failures) == (3, 0)


@pytest.mark.fault("B22")
async def test_question_larger_than_a_packet_is_kept_or_refused_and_never_lost(engine: AsyncEngine) -> None:
    """17 MB of text are stored as they are, or refused before anything is sent with the setting that allows them."""
    text = "0123456789abcdef" * (17 * 2**16)
    async with OPENAI.server(Says(text="read"), Says(text="ok")) as server, OPENAI.llm(server) as llm:
        chat = await create_chat(engine, llm)
        try:
            await chat.ask(text)
        except StorageError as error:
            assert "max_allowed_packet" in str(error)  # noqa: PT017 — which of the two it is depends on the server
            assert (engine.dialect.name, server.requests) == ("mysql", [])
            assert await count(engine, MessageRecord) == 0
        else:
            (kept, _) = (await load_chat(engine, llm, chat.id)).messages
            assert kept.content == text
        assert (await (await load_chat(engine, llm, chat.id)).ask("short")).content in {"read", "ok"}


@pytest.mark.fault("B28")
async def test_costs_add_up_exactly_and_moments_have_a_zone(engine: AsyncEngine) -> None:
    """Ten times ten cents is one dollar on every database, and timestamps are aware, in UTC."""
    prices = {OPENAI.model: Price(input=Decimal(100_000), output=Decimal(0))}
    script = [Says(text="a", usage=(1, 0))] * 10
    async with OPENAI.server(*script) as server, OPENAI.llm(server, prices=prices) as llm:
        chat = await create_chat(engine, llm)
        costs = [(await chat.ask("go")).cost for _ in script]
        total = (await chat.usage()).cost
        async with engine.connect() as connection:
            summed = await connection.scalar(select(func.sum(RequestRecord.cost)))
            moments = (await connection.scalars(select(RequestRecord.created_at).order_by(RequestRecord.id))).all()

    assert costs == [Decimal("0.1")] * 10
    assert total == summed == Decimal(1)
    assert all(moment.utcoffset() == timedelta(0) for moment in moments)
    assert moments == sorted(moments)


# ── servers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = "<!doctype html><title>Sign in</title><p>Please sign in to the proxy"
STRANGE: dict[str, tuple[Line, type[ProviderError], str]] = {
    "a page": (text_answer(PAGE, content_type="text/html"), ProtocolError, "base_url"),
    "nothing": (body_answer(b""), ProtocolError, "base_url"),
    "null": (body_answer(b"null", content_type="application/json"), ProtocolError, "base_url"),
    "a redirect": (
        body_answer(b"", status=307, headers={"location": "http://elsewhere.example/v1"}),
        ProviderError,
        "set base_url to the final address",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", STRANGE)
async def test_answer_that_is_none_is_an_error_with_the_remedy(
    sqlite: AsyncEngine,
    speaker: Speaker,
    name: str,
    stream: bool,  # noqa: FBT001 — a parameter of the test
) -> None:
    """HTML, an empty body, ``null`` and a redirect are errors that point at the address; the chat goes on after it."""
    line, kind, remedy = STRANGE[name]
    if stream and name == "nothing":
        kind, remedy = StreamInterruptedError, "ask again"
    async with speaker.server(line, Says(text="fine")) as server, speaker.llm(server, retry=ONCE) as llm:
        chat = await create_chat(sqlite, llm)
        with pytest.raises(kind, match=remedy) as caught:
            await (chat.stream("go").reply() if stream else chat.ask("go"))
        assert KEY not in told(caught.value)
        assert (await chat.ask("again")).content == "fine"

    assert [m.content for m in chat.messages] == ["go", "again", "fine"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_server_that_is_not_there_is_named_without_the_key(
    sqlite: AsyncEngine,
    stream: bool,  # noqa: FBT001 — a parameter of the test
) -> None:
    """A refused connection names host and port and what to check, and the question is kept."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with create_llm("openai", base_url=f"http://{host}/v1", api_key=CANARY, retry=ONCE) as llm:
            chat = await create_chat(sqlite, llm)
            with pytest.raises(ProviderConnectionError, match=f"{host}.*check base_url") as caught:
                await (chat.stream("go").reply() if stream else chat.ask("go"))

    assert CANARY not in told(caught.value)
    assert [m.content for m in (await load_chat(sqlite, llm, chat.id)).messages] == ["go"]


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def told(error: BaseException, *, frames: bool = True) -> str:
    """Everything that an error and its causes say, to people, to logs and to tools that collect tracebacks.

    Args:
        error: as caught.
        frames: with the local variables of our own functions that the error passed through.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        waiting += [link.__cause__, link.__context__]
    texts = [f"{link} {link!r} {link.args!r} {getattr(link, '__dict__', {})!r}" for link in seen]
    passed = [frame for link in seen for frame, _ in traceback.walk_tb(link.__traceback__)] if frames else []
    ours = [repr(frame.f_locals) for frame in passed if Path(frame.f_code.co_filename).is_relative_to(_PACKAGE)]
    return "\n".join([*texts, *ours, *traceback.format_exception(error)])


@pytest.mark.fault("E01")
async def test_key_is_nowhere_but_on_the_wire(
    tmp_path: Path, speaker: Speaker, caplog: pytest.LogCaptureFixture
) -> None:
    """The key occurs in no row, file, log record, error, representation or pickle, also when a server echoes it."""
    caplog.set_level(logging.DEBUG)
    events = speaker.events(Says(text="Hello, world"))
    script: list[Line] = [
        Says(text="ok"),
        Fails(status=401, message=f"Incorrect API key provided: {CANARY}", type="authentication_error"),
        Fails(status=400, message=f"header Authorization: Bearer {CANARY} is odd"),
        text_answer(f"<html>You sent x-api-key: {CANARY}</html>", content_type="text/html"),
        sse_answer([*events[:4], Reset()]),
        body_answer(b"", status=307, headers={"location": "http://elsewhere.example/"}),
    ]
    shown: list[str] = []
    async with empty_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        await migrate(engine)
        async with speaker.server(*script) as server, client(speaker, server) as llm:
            chat = await create_chat(engine, llm)
            stream = chat.stream("go")
            shown += [
                repr(await stream.reply()),
                repr(stream),
                repr(chat),
                repr(llm),
                repr(vars(llm)),
                repr(vars(chat)),
            ]
            shown.append(repr(chat.render("go")))
            for number in range(len(script) - 1):
                with pytest.raises(NodeLLMError) as caught:
                    await (chat.stream("go").reply() if number == 3 else chat.ask("go"))
                shown.append(told(caught.value))
                assert isinstance(caught.value, AuthenticationError) == (number == 0)
            with pytest.raises(TypeError, match=r"create_llm\(\)") as unpicklable:
                pickle.dumps(llm)
            shown.append(told(unpicklable.value))
        rows = [repr(row) for table in Base.metadata.sorted_tables for row in await everything(engine, table)]
        await engine.dispose()
        files = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir()))

    sent = {request.headers.get("authorization", request.headers.get("x-api-key")) for request in server.requests}
    assert sent == {f"Bearer {CANARY}" if speaker.api == "openai_chat" else CANARY}
    assert len(rows) > 10
    logged = [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
    assert logged != []
    assert [text for text in [*shown, *rows, *logged] if CANARY in text] == []
    assert CANARY.encode() not in files


def client(speaker: Speaker, server: LoopbackServer) -> LLM:
    """A client whose key is the canary."""
    address = {"openai_chat": f"{server.url}/v1", "anthropic": server.url}[speaker.api]
    provider = {"openai_chat": "openai", "anthropic": "anthropic"}[speaker.api]
    return create_llm(provider, api=speaker.api, base_url=address, api_key=CANARY, model=speaker.model, retry=ONCE)


async def everything(engine: AsyncEngine, table: Any) -> list[Any]:
    """All rows of a table."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(table))).all())
