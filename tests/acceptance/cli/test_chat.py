"""The command `chat`, as a person or a script uses it."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import make_engine
from nodellm_orm.models import ChatRecord, MessageRecord, TurnRecord
from nodellm_orm.testing import (
    FakeCall,
    LoopbackServer,
    Stall,
    json_answer,
    openai_chat_body,
    openai_chat_stream,
    openai_error,
    sse_answer,
)
from tests.acceptance.cli.shell import COMMAND, lines

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Select

    from nodellm_orm.testing import Answer
    from tests.acceptance.cli.shell import Shell

KEY: Final = "sk-test-0123456789abcdef"
HOLDS_A_TOOL: Final = """
import asyncio, sys
from nodellm_orm import create_chat, create_llm, make_engine, migrate, tool

@tool
async def search_the_web(query: str) -> str:
    print("running", flush=True)
    await asyncio.sleep(600)

async def main():
    engine = make_engine("sqlite:///chats.db")
    await migrate(engine)
    async with create_llm() as llm:
        chat = await create_chat(engine, llm, tools=[search_the_web])
        print(chat.id, flush=True)
        await chat.ask("Look it up")

asyncio.run(main())
"""


def talking_to(shell: Shell, server: LoopbackServer) -> Shell:
    """The shell of somebody who has configured a provider."""
    return shell.with_environment(
        NODELLM_PROVIDER="openai_compatible",
        NODELLM_MODEL="gpt-5-mini",
        OPENAI_COMPATIBLE_BASE_URL=server.url,
        OPENAI_COMPATIBLE_API_KEY=KEY,
    )


def stalled(beginning: str) -> Answer:
    """An answer that stops in its middle and says nothing more."""
    events = openai_chat_stream(beginning, usage=None)
    return sse_answer([*events[:-2], Stall()])


async def selected(folder: Path, statement: Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as another program reads them."""
    engine = make_engine(f"sqlite:///{folder / 'chats.db'}")
    async with AsyncSession(engine) as session:
        found = [tuple(row) for row in await session.execute(statement)]
    await engine.dispose()
    return found


async def messages(folder: Path) -> list[tuple[Any, ...]]:
    """Role, text and status of every message, in order."""
    columns = select(MessageRecord.role, MessageRecord.content, MessageRecord.status)
    return await selected(folder, columns.order_by(MessageRecord.position))


async def turn_statuses(folder: Path) -> list[str]:
    """Status of every turn, in order."""
    return [row[0] for row in await selected(folder, select(TurnRecord.status).order_by(TurnRecord.position))]


async def the_chat(folder: Path) -> str:
    """Id of the only chat."""
    ((found,),) = await selected(folder, select(ChatRecord.id))
    return str(found)


async def let_leases_end(folder: Path) -> None:
    """Bring the moment forward at which a dead worker's chats may be taken over."""
    engine = make_engine(f"sqlite:///{folder / 'chats.db'}")
    async with engine.begin() as connection:
        await connection.execute(update(ChatRecord).values(lease_until=ChatRecord.created_at))
    await engine.dispose()


async def test_questions_from_a_pipe_are_answered_on_stdout_and_nothing_else_is(shell: Shell, tmp_path: Path) -> None:
    """Each line is a question, stdout holds the answers only, and stderr tells how to carry the chat on."""
    answers = [sse_answer(openai_chat_stream("Hello!")), sse_answer(openai_chat_stream("Four."))]
    async with LoopbackServer(answers) as server:
        done = await talking_to(shell, server).run("chat", stdin="Say hello\n\nWhat is 2+2?\n")
    assert (done.code, done.out) == (0, "Hello!\nFour.\n")
    assert done.err == f"carry on with: nodellm-orm chat --id {await the_chat(tmp_path)}\n"
    assert [request.json()["model"] for request in server.requests] == ["gpt-5-mini", "gpt-5-mini"]
    assert [role for role, _, _ in await messages(tmp_path)] == ["user", "assistant"] * 2


async def test_a_chat_is_carried_on_by_its_id_with_other_settings(shell: Shell, tmp_path: Path) -> None:
    """Another process sends what was said before, and the model, the instructions and the effort it was given."""
    answers = [sse_answer(openai_chat_stream("Noted.")), sse_answer(openai_chat_stream("Seven."))]
    async with LoopbackServer(answers) as server:
        user = talking_to(shell, server)
        await user.run("chat", "--owner", "ann", "--title", "Numbers", stdin="Remember 7\n")
        known = await the_chat(tmp_path)
        options = ("--model", "other", "--instructions", "Be brief.", "--thinking", "low", "--owner", "ann")
        done = await user.run("chat", "--id", known, *options, stdin="Which number?\n")
    assert (done.code, done.out) == (0, "Seven.\n")
    sent = server.requests[1].json()
    assert (sent["model"], sent["reasoning_effort"]) == ("other", "low")
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Remember 7"},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Which number?"},
    ]


async def test_somebody_elses_chat_is_not_found(shell: Shell, tmp_path: Path) -> None:
    """With a wrong owner a chat cannot be carried on, and nothing is sent."""
    async with LoopbackServer([sse_answer(openai_chat_stream("Noted."))]) as server:
        user = talking_to(shell, server)
        await user.run("chat", "--owner", "ann", stdin="Remember 7\n")
        done = await user.run("chat", "--id", await the_chat(tmp_path), "--owner", "bob", stdin="Which number?\n")
    assert (done.code, done.out, len(server.requests)) == (1, "", 1)
    assert "error: there is no chat" in done.err


async def test_a_refusing_provider_ends_the_command_with_one_line(shell: Shell, tmp_path: Path) -> None:
    """The exit code is 1, stderr has one line about it without the key, and the question is kept."""
    refusal = json_answer(openai_error(f"Incorrect API key provided: {KEY}"), status=401)
    async with LoopbackServer([refusal]) as server:
        done = await talking_to(shell, server).run("chat", stdin="Hello?\nNever asked\n")
    assert (done.code, done.out, len(server.requests)) == (1, "", 1)
    told = lines(done.err)
    assert len([line for line in told if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.err
    assert KEY not in done.err
    assert await messages(tmp_path) == [("user", "Hello?", "complete")]


async def test_without_a_provider_it_says_how_to_name_one(shell: Shell, tmp_path: Path) -> None:
    """Nothing is made or asked before provider and model are known."""
    done = await shell.run("chat", stdin="Hello?\n")
    assert done.code == 1
    assert "--provider" in done.err
    assert "NODELLM_PROVIDER" in done.err
    unknown = await shell.run("chat", "--provider", "openai_compatible", stdin="Hello?\n")
    assert unknown.code == 1
    assert not (tmp_path / "chats.db").exists()


async def test_a_file_that_is_there_already_is_not_touched_without_being_asked(shell: Shell, tmp_path: Path) -> None:
    """A database without our tables gets none by talking: the error names the command that makes them."""
    with closing(sqlite3.connect(tmp_path / "chats.db")) as theirs:
        theirs.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY)")
    async with LoopbackServer() as server:
        done = await talking_to(shell, server).run("chat", stdin="Hello?\n")
    assert (done.code, done.out, server.requests) == (1, "", [])
    assert "nodellm-orm db upgrade" in done.err
    assert await selected(tmp_path, select(text("name FROM sqlite_master"))) == [("customers",)]


@pytest.mark.fault("E18")
async def test_an_answer_cannot_command_the_terminal(shell: Shell) -> None:
    """Escape sequences, markup and characters that reorder a line are shown, not obeyed."""
    answer = "\x1b[2J\x1b]0;title\x07[red]no markup[/red] \u202egnp.exe 日本語 👩\u200d🚀"
    async with LoopbackServer([sse_answer(openai_chat_stream(answer))]) as server:
        done = await talking_to(shell, server).run("chat", stdin="Hello?\n")
    assert done.out == "\\x1b[2J\\x1b]0;title\\x07[red]no markup[/red] \\u202egnp.exe 日本語 👩\u200d🚀\n"


async def test_ctrl_c_cancels_the_answer_and_the_conversation_goes_on(shell: Shell, tmp_path: Path) -> None:
    """In a terminal: the text so far is kept, the next question is answered, and Ctrl-D tells how to carry on."""
    answers = [stalled("It goes on and on"), sse_answer(openai_chat_stream("Short."))]
    user = replace(shell, anew=True)
    async with LoopbackServer(answers) as server, talking_to(user, server).terminal("chat") as terminal:
        await terminal.until("a new chat with openai_compatible/gpt-5-mini")
        await terminal.until("> ")
        terminal.type("Tell me a long story\n")
        await terminal.until("on and on")
        terminal.interrupt()
        await terminal.until("cancelled; what had arrived is kept")
        await terminal.until("> ")
        terminal.type("A short one, then\n")
        await terminal.until("Short.")
        await terminal.until("tokens in")
        await terminal.until("> ")
        terminal.type("\x04")
        await terminal.until(f"carry on with: nodellm-orm chat --id {await the_chat(tmp_path)}")
        assert await terminal.ended() == 0
    assert await turn_statuses(tmp_path) == ["cancelled", "completed"]
    assert await messages(tmp_path) == [
        ("user", "Tell me a long story", "complete"),
        ("assistant", "It goes on and on", "partial"),
        ("user", "A short one, then", "complete"),
        ("assistant", "Short.", "complete"),
    ]


async def test_ctrl_c_stops_a_script_after_its_answer_so_far(shell: Shell, tmp_path: Path) -> None:
    """Questions from a pipe end with the cancelled one: exit code 130, the text kept, and how to carry on."""
    async with LoopbackServer([stalled("Half an")]) as server:
        process = await replace(talking_to(shell, server), anew=True).start(*COMMAND, "chat")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"A question\nAnother one\n")
        assert await process.stdout.readexactly(7) == b"Half an"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, len(server.requests)) == (130, b"\n", 1)
    assert b"carry on with: nodellm-orm chat --id" in err
    assert await turn_statuses(tmp_path) == ["cancelled"]
    assert (await messages(tmp_path))[1] == ("assistant", "Half an", "partial")


async def test_a_person_can_ask_for_help_and_stumble(shell: Shell, tmp_path: Path) -> None:
    """Commands, empty lines, Ctrl-C at the prompt and a failure leave the conversation where it is."""
    refusal = json_answer(openai_error("Overloaded, or so"), status=400)
    answers = [refusal, json_answer(openai_chat_body("Here I am."))]
    async with LoopbackServer(answers) as server, talking_to(shell, server).terminal("chat") as terminal:
        await terminal.until("> ")
        terminal.type("/help\n")
        await terminal.until("/resume carries on")
        terminal.type("/nonsense\n\n")
        await terminal.until("there is no such command")
        await terminal.until("> ")
        await terminal.interrupt_until("Ctrl-D leaves")
        terminal.type("Are you there?\n")
        await terminal.until("error: ")
        await terminal.until("> ")
        terminal.type("/resume\n")
        await terminal.until("Here I am.")
        terminal.type("/exit\n")
        assert await terminal.ended() == 0
    assert await turn_statuses(tmp_path) == ["completed"]
    assert [content for _, content, _ in await messages(tmp_path)] == ["Are you there?", "Here I am."]


async def test_a_turn_that_was_killed_is_carried_on_first(shell: Shell, tmp_path: Path) -> None:
    """After a SIGKILL in mid-answer, the next process answers the old question before it takes new ones."""
    answers = [stalled("Half an"), json_answer(openai_chat_body("An answer.")), sse_answer(openai_chat_stream("Yes."))]
    async with LoopbackServer(answers) as server:
        user = talking_to(shell, server)
        first = await user.start(*COMMAND, "chat")
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(b"The old question\n")
        assert await first.stdout.readexactly(7) == b"Half an"
        first.send_signal(signal.SIGKILL)
        await first.communicate()
        await let_leases_end(tmp_path)
        done = await user.run("chat", "--id", await the_chat(tmp_path), stdin="The new question\n")
    assert (done.code, done.out) == (0, "An answer.\nYes.\n")
    assert "interrupted" in done.err
    assert await turn_statuses(tmp_path) == ["completed", "completed"]


async def test_a_person_is_asked_before_a_killed_turn_is_carried_on(shell: Shell, tmp_path: Path) -> None:
    """In a terminal, a no leaves the turn to be carried on later, and new questions close it."""
    answers = [stalled("Half an"), sse_answer(openai_chat_stream("Yes."))]
    async with LoopbackServer(answers) as server:
        user = talking_to(shell, server)
        async with user.terminal("chat") as terminal:
            await terminal.until("> ")
            terminal.type("The old question\n")
            await terminal.until("Half an")
        await let_leases_end(tmp_path)
        async with user.terminal("chat", "--id", await the_chat(tmp_path)) as terminal:
            await terminal.until("Carry it on? [Y/n] ")
            terminal.type("n\n")
            await terminal.until("> ")
            terminal.type("The new question\n")
            await terminal.until("Yes.")
    assert len(server.requests) == 2
    assert (await turn_statuses(tmp_path))[0] == "failed"


async def test_a_turn_that_waits_for_a_tool_is_left_to_the_program_that_has_it(shell: Shell, tmp_path: Path) -> None:
    """The command has no tools: it names the one that is missing, runs nothing, and answers new questions."""
    called = json_answer(openai_chat_body(tool_calls=[FakeCall("search_the_web", {"query": "it"})]))
    async with LoopbackServer([called, sse_answer(openai_chat_stream("Without it."))]) as server:
        user = talking_to(shell, server)
        program = await user.start(sys.executable, "-c", HOLDS_A_TOOL)
        assert program.stdout is not None
        known = (await program.stdout.readline()).decode().strip()
        assert await program.stdout.readline() == b"running\n"
        program.send_signal(signal.SIGKILL)
        await program.communicate()
        await let_leases_end(tmp_path)
        done = await user.run("chat", "--id", known, stdin="And without looking?\n")
    assert (done.code, done.out) == (0, "Without it.\n")
    assert "search_the_web" in done.err
    assert [role for role, _, _ in await messages(tmp_path)] == ["user", "assistant", "tool", "user", "assistant"]
    assert len(server.requests) == 2
