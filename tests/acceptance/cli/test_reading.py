"""The commands `chats` and `show`: what is stored, as people and programs read it."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event

from nodellm_orm import (
    ANY_OWNER,
    BadRequestError,
    ChatNotFoundError,
    Price,
    RetryPolicy,
    create_chat,
    create_llm,
    make_engine,
    tool,
)
from nodellm_orm.store.details import read_details
from nodellm_orm.store.glances import read_glances
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    LoopbackServer,
    anthropic_body,
    anthropic_error,
    json_answer,
)
from tests.acceptance.cli.shell import lines
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from nodellm_orm.testing import Answer
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J[bold]no markup[/bold] \u202egnp.exe \x00 \ud800 end"
SAID: Final = json_answer(anthropic_body("It is sunny, 21 degrees."))


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"{city}: sunny, 21 degrees"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of a database with our tables, on a file and on a server."""
    kind: DatabaseKind = request.param
    async with migrated_database(kind, tmp_path) as url:
        yield url


@asynccontextmanager
async def chatting(url: str, answers: Sequence[Answer], **options: Any) -> AsyncIterator[tuple[AsyncEngine, Chat]]:
    """A chat with a server that gives these answers, held in this process."""
    engine = make_engine(url)
    try:
        async with (
            LoopbackServer(answers) as server,
            create_llm(
                "anthropic",
                api_key="test-key",
                base_url=server.url,
                retry=RetryPolicy(max_attempts=1),
                prices={"claude-haiku-4-5": Price(input=1, output=5)},
            ) as llm,
        ):
            yield engine, await create_chat(engine, llm, **options)
    finally:
        await engine.dispose()


async def weather_chat(url: str) -> str:
    """A chat with thinking, a tool, an answer, and a question that was refused; gives its id."""
    thinking = FakeThinking("I should look it up.")
    called = json_answer(anthropic_body(thinking=[thinking], tool_calls=[FakeCall("get_weather", {"city": "Paris"})]))
    refused = json_answer(anthropic_error("The prompt cannot be used"), status=400)
    options = {"owner": "ann", "tools": [get_weather], "instructions": "You know the weather."}
    async with chatting(url, [called, SAID, refused], **options) as (_, chat):
        await chat.ask("What is the weather in Paris?", thinking=1024, max_tokens=2048)
        with pytest.raises(BadRequestError):
            await chat.ask("And tomorrow?")
        return str(chat.id)


async def test_show_tells_everything_about_a_chat_in_80_columns(shell: Shell, database: str) -> None:
    """Messages, thinking, the call with arguments, result and duration, the error, tokens and cost are all there."""
    known = await weather_chat(database)
    done = await shell.run("show", known, "-d", database)
    assert (done.code, done.err) == (0, "")
    for said in (
        known,
        "owner ann",
        "You know the weather.",
        "What is the weather in Paris?",
        "I should look it up.",
        'get_weather({"city":"Paris"})',
        "succeeded",
        "Paris: sunny, 21 degrees",
        "It is sunny, 21 degrees.",
        "turn 2 · failed",
        "BadRequestError",
        "3 requests, cost $0.000092\n",
    ):
        assert said in done.out
    assert max(len(line) for line in lines(done.out)) <= 80


async def test_show_gives_programs_everything_as_json(shell: Shell, file: str) -> None:
    """The same as JSON: parts and arguments as they are stored, exact amounts as text."""
    known = await weather_chat(file)
    done = await shell.run("show", known, "--json", "-d", file)
    chat = json.loads(done.out)
    assert (chat["id"], chat["owner"], chat["instructions"]) == (known, "ann", ["You know the weather."])
    assert [turn["status"] for turn in chat["turns"]] == ["completed", "failed"]
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    (call,) = chat["messages"][1]["tool_calls"]
    assert (json.loads(call["arguments"]), call["status"]) == ({"city": "Paris"}, "succeeded")
    assert call["result"] == "Paris: sunny, 21 degrees"
    assert [trace["text"] for trace in chat["messages"][1]["thinking"]] == ["I should look it up."]
    assert [(request["status"], request["cost"]) for request in chat["requests"]] == [
        ("ok", "0.000046000000"),
        ("ok", "0.000046000000"),
        ("failed", None),
    ]


async def test_chats_lists_the_newest_first_with_what_they_are_about_and_cost(shell: Shell, database: str) -> None:
    """Each chat is there with its id, title or first words, model, messages and cost, within 80 columns."""
    first = await weather_chat(database)
    async with chatting(database, [], title="Nothing asked yet") as (_, chat):
        second = str(chat.id)
    done = await shell.run("chats", "-d", database)
    assert (done.code, done.err) == (0, "")
    header, *listed = lines(done.out)
    assert header.split() == ["Chat", "Model", "Mess.", "Cost", "Age"]
    assert listed[0].split() == [second, "claude-haiku-4-5", "0", "-", "now"]
    assert listed[1].strip() == "Nothing asked yet"
    assert listed[2].split() == [first, "claude-haiku-4-5", "5", "$0.000092", "now"]
    assert listed[3].strip() == "What is the weather in Paris?"
    assert max(len(line) for line in lines(done.out)) <= 80


async def test_chats_comes_in_pages_that_miss_nothing(shell: Shell, file: str) -> None:
    """The cursor that a page tells leads to the next one, to the end; an owner sees only his own."""
    known = []
    for owner in ("ann", "bob", "ann"):
        async with chatting(file, [], owner=owner) as (_, chat):
            known.append(str(chat.id))
    user = shell.with_environment(NODELLM_DATABASE_URL=file)
    page = json.loads((await user.run("chats", "--limit", "2", "--json")).out)
    assert [chat["id"] for chat in page["chats"]] == [known[2], known[1]]
    rest = await user.run("chats", "--limit", "2", "--after", page["next"], "--json")
    assert [chat["id"] for chat in json.loads(rest.out)["chats"]] == [known[0]]
    assert json.loads(rest.out)["next"] is None
    owned = await user.run("chats", "--owner", "ann", "--json")
    assert [chat["id"] for chat in json.loads(owned.out)["chats"]] == [known[2], known[0]]


async def test_another_owners_chat_looks_like_none(shell: Shell, file: str) -> None:
    """With a wrong owner, `show` says the same as for a chat that is not there."""
    known = await weather_chat(file)
    done = await shell.run("show", known, "--owner", "bob", "-d", file)
    assert (done.code, done.out) == (1, "")
    assert lines(done.err) == [line for line in lines(done.err) if line.startswith(f"error: there is no chat {known}")]


@pytest.mark.fault("E18")
async def test_stored_text_cannot_command_the_terminal(shell: Shell, database: str) -> None:
    """Titles, questions, answers, tool names, arguments and results are shown with their escapes; JSON keeps them."""
    answers = [
        json_answer(
            anthropic_body(thinking=[FakeThinking(HOSTILE)], tool_calls=[FakeCall(HOSTILE, {HOSTILE: HOSTILE})])
        ),
        json_answer(anthropic_body(HOSTILE)),
    ]
    async with chatting(database, answers, title=HOSTILE, owner=HOSTILE, instructions=HOSTILE) as (_, chat):
        await chat.ask(HOSTILE)
        known = str(chat.id)
    listed = await shell.run("chats", "-d", database)
    shown = await shell.run("show", known, "-d", database)
    exact = await shell.run("show", known, "--json", "-d", database)
    for done in (listed, shown, exact):
        assert done.code == 0
        assert all(character == "\n" or character.isprintable() for character in done.out)
    assert "[bold]no markup[/bold]" in shown.out
    assert "\\u202egnp.exe" in shown.out
    stored = json.loads(exact.out)
    assert (stored["title"], stored["owner"], stored["messages"][-1]["content"]) == (HOSTILE, HOSTILE, HOSTILE)


async def test_a_database_that_is_not_there_is_not_made_by_looking(shell: Shell, tmp_path: Path) -> None:
    """A mistyped file name is an error, not an empty database."""
    done = await shell.run("chats", "-d", "sqlite:///typo.db")
    assert (done.code, done.out) == (1, "")
    assert "there is no database file typo.db" in done.err
    assert os.listdir(tmp_path) == []  # noqa: PTH208 — a list of names is what is asked for


async def test_reading_a_chat_takes_the_same_number_of_queries_however_long_it_is(database: str) -> None:
    """Three turns are read with as many statements as one, and a list with as many as one chat."""
    counts, turns = [], []
    async with chatting(database, [SAID] * 3) as (engine, chat):
        executed: list[str] = []

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def count(*arguments: Any) -> None:
            executed.append(arguments[2])

        for _ in range(3):
            await chat.ask("What is the weather?")
            executed.clear()
            details = await read_details(engine, chat.id)
            await read_glances(engine, [chat.id])
            counts.append(len(executed))
            turns.append(len(details.turns))
    assert turns == [1, 2, 3]
    assert counts == [9, 9, 9]


async def test_details_are_for_the_owner(database: str) -> None:
    """A wrong owner, also nobody, finds no details; glances leave the chat out."""
    async with chatting(database, [SAID], owner="ann") as (engine, chat):
        await chat.ask("What is the weather?")
        for owner in ("bob", None):
            with pytest.raises(ChatNotFoundError):
                await read_details(engine, chat.id, owner=owner)
            assert (await read_glances(engine, [chat.id], owner=owner)).by_chat[chat.id].opening == ""
        assert (await read_details(engine, chat.id, owner="ann")).head.owner == "ann"
        glances = await read_glances(engine, [chat.id], owner=ANY_OWNER)
    assert glances.by_chat[chat.id].opening == "What is the weather?"
