"""Every example is run as a user runs it: a process of its own, an environment, a server to talk to."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import create_chat, create_llm, make_engine, migrate
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
from tests.acceptance.cli.shell import Shell, lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fastapi import FastAPI
    from sqlalchemy import Select

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Finished

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
ANN: Final = {"X-User": "ann"}
BOB: Final = {"X-User": "bob"}


def said(text: str, *, stream: bool = False) -> Answer:
    """An answer in words."""
    return sse_answer(openai_chat_stream(text)) if stream else json_answer(openai_chat_body(text))


def called(name: str, *, stream: bool = False, **arguments: object) -> Answer:
    """An answer that calls a tool."""
    calls = [FakeCall(name, arguments)]
    return (
        sse_answer(openai_chat_stream(tool_calls=calls)) if stream else json_answer(openai_chat_body(tool_calls=calls))
    )


def settings_for(server: LoopbackServer, **more: str) -> dict[str, str]:
    """The environment of somebody who has configured a provider."""
    return {
        "NODELLM_PROVIDER": "openai_compatible",
        "NODELLM_MODEL": "gpt-5-mini",
        "OPENAI_COMPATIBLE_BASE_URL": server.url,
        **more,
    }


async def run(name: str, folder: Path, server: LoopbackServer) -> Finished:
    """Run an example to its end."""
    shell = Shell.at(folder, **settings_for(server))
    return await shell.program(sys.executable, str(EXAMPLES / name))


async def selected(folder: Path, statement: Select[*tuple[Any, ...]], file: str = "chats.db") -> list[tuple[Any, ...]]:
    """Rows as another program reads them."""
    engine = make_engine(f"sqlite:///{folder / file}")
    async with AsyncSession(engine) as session:
        found = [tuple(row) for row in await session.execute(statement)]
    await engine.dispose()
    return found


async def turns(folder: Path) -> list[str]:
    """Status of every turn, in order."""
    return [row[0] for row in await selected(folder, select(TurnRecord.status).order_by(TurnRecord.id))]


async def messages(folder: Path) -> list[tuple[Any, ...]]:
    """Role, text and status of every message, in order."""
    columns = select(MessageRecord.role, MessageRecord.content, MessageRecord.status)
    return await selected(folder, columns.order_by(MessageRecord.position))


async def test_quickstart_keeps_a_conversation(tmp_path: Path) -> None:
    """Two questions and two answers are printed and stored."""
    async with LoopbackServer([said("A loop of events."), said("Loop.")]) as server:
        done = await run("quickstart.py", tmp_path, server)
    assert (done.code, done.err) == (0, "")
    assert "A loop of events." in done.out
    assert "4 messages, 2 requests" in done.out
    assert await turns(tmp_path) == ["completed", "completed"]


async def test_tools_forces_one_and_leaves_the_others_to_the_model(tmp_path: Path) -> None:
    """The named tool is asked for in the request, its result reaches the model, and the chat goes on."""
    answers = [
        *(called("price_of", drink="espresso"), said("2.50 euros.")),
        *(called("order", drink="espresso"), said("Here you are.")),
        said("An espresso."),
    ]
    async with LoopbackServer(answers) as server:
        done = await run("tools.py", tmp_path, server)
    assert (done.code, done.err) == (0, "")
    assert 'price_of({"drink":"espresso"}) -> 2.5' in done.out
    assert server.requests[0].json()["tool_choice"] == {"type": "function", "function": {"name": "price_of"}}
    assert await turns(tmp_path) == ["completed"] * 3


async def test_streaming_leaves_an_answer_and_goes_on(tmp_path: Path) -> None:
    """The answer that was left is stored as far as it went, and the next question is answered."""
    answers = [
        said("Rows in a table", stream=True),
        sse_answer([*openai_chat_stream("Once upon a time " * 30, usage=None)[:-2], Stall()]),
        said("You are welcome."),
    ]
    async with LoopbackServer(answers) as server:
        done = await run("streaming.py", tmp_path, server)
    assert (done.code, done.err) == (0, "")
    assert "Rows in a table\n(stop, 7 tokens)" in done.out
    assert await turns(tmp_path) == ["completed", "cancelled", "completed"]
    assert [status for *_, status in await messages(tmp_path)] == [*["complete"] * 3, "partial", *["complete"] * 2]


async def test_resume_finishes_what_a_killed_process_left(tmp_path: Path) -> None:
    """After a SIGKILL in mid-turn, the worker finds the turn once its lease has ended, and answers it."""
    async with LoopbackServer([(Stall(),), said("Answered after all.")]) as server:
        shell = Shell.at(tmp_path, **settings_for(server))
        victim = await replace(shell, anew=True).start(sys.executable, str(EXAMPLES / "quickstart.py"))
        await server.until_received(1)
        victim.send_signal(signal.SIGKILL)
        await victim.communicate()
        engine = make_engine(f"sqlite:///{tmp_path / 'chats.db'}")
        async with engine.begin() as connection:
            await connection.execute(update(ChatRecord).values(lease_until=ChatRecord.created_at))
        await engine.dispose()
        done = await run("resume.py", tmp_path, server)
        again = await run("resume.py", tmp_path, server)
    assert (done.code, done.err) == (0, "")
    assert "1 interrupted" in done.out
    assert "Answered after all." in done.out
    assert again.out == "0 interrupted\n"
    assert await turns(tmp_path) == ["completed"]


async def strand(folder: Path, count: int) -> None:
    """Chats whose worker died while it waited for its first answer: as many rows as a killed process would leave."""
    async with LoopbackServer([(Stall(),)] * count) as server:
        engine = make_engine(f"sqlite:///{folder / 'chats.db'}")
        await migrate(engine)
        llm = create_llm("openai_compatible", model="gpt-5-mini", base_url=server.url)
        chats = [await create_chat(engine, llm, owner=f"owner {number % 3}") for number in range(count)]
        asking = [asyncio.create_task(chat.ask(f"Question {number}")) for number, chat in enumerate(chats)]
        await server.until_received(count)
        await llm.aclose(grace=0)
        await asyncio.gather(*asking, return_exceptions=True)
        await engine.dispose()


@pytest.mark.fault("C55")
async def test_workers_side_by_side_do_nothing_twice(tmp_path: Path) -> None:
    """Three workers carry on twenty interrupted turns, each turn by one of them, and end when told to."""
    count, workers = 20, 3
    await strand(tmp_path, count)
    asked: Counter[str] = Counter()

    async def answer(request: ReceivedRequest) -> Answer:
        body: Any = request.json()
        asked[body["messages"][-1]["content"]] += 1
        return said("Answered after all.")

    async with LoopbackServer(answer) as server:
        shell = Shell.at(tmp_path, **settings_for(server, WORKER_PAUSE="0.1"))
        running = [await shell.start(sys.executable, str(EXAMPLES / "worker.py")) for _ in range(workers)]
        async with asyncio.timeout(60):
            while (await turns(tmp_path)).count("completed") < count:  # noqa: ASYNC110 — it is the database that knows
                await asyncio.sleep(0.1)
        for process in running:
            process.send_signal(signal.SIGTERM)
        told = [await asyncio.wait_for(process.communicate(), 60) for process in running]

    assert [(process.returncode, err) for process, (_, err) in zip(running, told, strict=True)] == [(0, b"")] * workers
    assert asked == Counter({f"Question {number}": 1 for number in range(count)})
    assert sum(out.count(b"Answered after all.") for out, _ in told) == count
    assert await selected(tmp_path, select(func.sum(TurnRecord.takeovers))) == [(0,)]


@pytest.mark.fault("C44")
async def test_a_worker_that_is_told_to_end_leaves_its_turn_to_the_next(tmp_path: Path) -> None:
    """On SIGTERM a worker waits its grace for the answer, then leaves; the next worker has the turn at once."""
    await strand(tmp_path, 1)
    async with LoopbackServer([(Stall(),), said("Answered after all.")]) as server:
        shell = Shell.at(tmp_path, **settings_for(server, WORKER_PAUSE="0.1"))
        first = await shell.start(sys.executable, str(EXAMPLES / "worker.py"))
        await server.until_received(1)
        first.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(first.communicate(), 60)
        done = await run("resume.py", tmp_path, server)
    assert (first.returncode, err) == (0, b"")
    assert b"the client was closed while turn" in out
    assert "1 interrupted" in done.out
    assert "Answered after all." in done.out


async def test_demo_holds_a_conversation_in_two_processes(tmp_path: Path) -> None:
    """The tool runs, rows and cost are printed, a second process carries on, and running it again starts afresh."""
    answers = [
        called("get_weather", stream=True, city="Paris"),
        said("It is sunny.", stream=True),
        said("No umbrella.", stream=True),
    ]
    async with LoopbackServer([*answers, *answers]) as server:
        await run("demo.py", tmp_path, server)
        done = await run("demo.py", tmp_path, server)
    assert (done.code, done.err) == (0, "")
    for told in (
        "openai_compatible/gpt-5-mini (NODELLM_PROVIDER names it)",
        "llm_messages",
        "3 requests",
        "demo worked",
    ):
        assert told in done.out
    ((chat_id,),) = await selected(tmp_path, select(ChatRecord.id), "demo/chats.db")
    assert f"show {chat_id} -d sqlite:///demo/chats.db" in done.out
    last = server.requests[-1].json()["messages"]
    assert isinstance(last, list)
    assert len(last) == 6  # instructions, the four messages that the first process left, and the question


@pytest.mark.parametrize(
    "answers",
    [
        [json_answer(openai_error("no"), status=400)],
        [said("I do not need a tool.", stream=True)],
        [called("get_weather", stream=True, city="Paris"), said("Sunny.", stream=True), *[json_answer({}, status=400)]],
    ],
    ids=["refused", "without the tool", "second process refused"],
)
async def test_a_demo_that_fails_says_so(tmp_path: Path, answers: Sequence[Answer]) -> None:
    """Whatever goes wrong, the exit code is not 0, and one line says what it was."""
    async with LoopbackServer(answers) as server:
        done = await run("demo.py", tmp_path, server)
    assert done.code == 1
    assert lines(done.err)[-1].startswith("The demo failed: ")
    assert "Traceback" not in done.err
    assert "demo worked" not in done.out


# ── the web backend ───────────────────────────────────────────────────────────────────────────────────────────────


def load_app(name: str) -> FastAPI:
    """The application, imported as uvicorn imports it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app: FastAPI = module.app
    return app


@asynccontextmanager
async def in_process(
    folder: Path, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, example: str = "fastapi_app"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, between start-up and shutdown."""
    database = f"sqlite:///{folder / 'chats.db'}"
    for name, value in settings_for(server, NODELLM_DATABASE_URL=database).items():
        monkeypatch.setenv(name, value)
    app = load_app(example)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def events(body: str) -> list[tuple[str, dict[str, str]]]:
    """Server-sent events, by name and data."""
    blocks = [block.split("\n") for block in body.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_the_backend_answers_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is answered piece by piece, then told to be done; the history and the page are there."""
    async with (
        LoopbackServer([said("Hello, Ann!", stream=True)]) as server,
        in_process(tmp_path, server, monkeypatch) as client,
    ):
        chat = (await client.post("/chats", headers=ANN)).json()["id"]
        response = await client.post(f"/chats/{chat}/questions", headers=ANN, json={"question": "Hello?"})
        history = await client.get(f"/chats/{chat}", headers=ANN)
        page = await client.get("/")
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(response.text)
    assert "".join(data["text"] for name, data in pieces if name == "message") == "Hello, Ann!"
    assert (last[0], last[1]["finish_reason"]) == ("done", "stop")
    assert history.json() == [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello, Ann!"},
    ]
    assert "<title>Chat</title>" in page.text


async def test_the_backend_keeps_users_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's chat is not found, whatever is done with it, and without a user nothing is done."""
    async with LoopbackServer() as server, in_process(tmp_path, server, monkeypatch) as client:
        chat = (await client.post("/chats", headers=ANN)).json()["id"]
        asked = await client.post(f"/chats/{chat}/questions", headers=BOB, json={"question": "Hello?"})
        read = await client.get(f"/chats/{chat}", headers=BOB)
        nobody = await client.get(f"/chats/{chat}")
    assert (asked.status_code, read.status_code, nobody.status_code) == (404, 404, 422)
    assert server.requests == []


async def test_the_backend_tells_a_failure_as_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that refuses ends the stream with an event that says so; the question is kept."""
    async with (
        LoopbackServer([json_answer(openai_error("not today"), status=400)]) as server,
        in_process(tmp_path, server, monkeypatch) as client,
    ):
        chat = (await client.post("/chats", headers=ANN)).json()["id"]
        response = await client.post(f"/chats/{chat}/questions", headers=ANN, json={"question": "Hello?"})
    ((name, data),) = events(response.text)
    assert name == "failed"
    assert "not today" in data["error"]
    assert await messages(tmp_path) == [("user", "Hello?", "complete")]


async def test_the_shop_s_staff_decides_across_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refund waits through a restart, is approved by a clerk and run once; another one is denied, and not run."""
    answers = [
        *(called("refund", order=7, cents=250), said("You get 2.50 euros.")),
        *(called("refund", order=8, cents=9900), said("That needs a phone call.")),
    ]
    customer, clerk = {"X-Customer": "ann"}, {"X-Clerk": "bea"}
    async with LoopbackServer(answers) as server:
        async with in_process(tmp_path, server, monkeypatch, "approval") as client:
            chat = (await client.post("/chats", headers=customer)).json()["id"]
            asking = {"question": "My money back!"}
            asked = await client.post(f"/chats/{chat}/questions", headers=customer, json=asking)
            assert asked.json()["finish_reason"] == "approval"
            refused = await client.post(f"/chats/{chat}/questions", headers=customer, json=asking)
            assert (refused.status_code, len(server.requests)) == (409, 1)
        async with in_process(tmp_path, server, monkeypatch, "approval") as client:
            (waiting,) = (await client.get("/approvals", headers=clerk)).json()
            assert (waiting["customer"], waiting["arguments"]) == ("ann", '{"order":7,"cents":250}')
            path = f"/approvals/{chat}/{waiting['call']}"
            assert (await client.post(f"{path}/approve")).status_code == 422
            assert (await client.post(f"/approvals/{chat}/none/approve", headers=clerk)).status_code == 404
            assert (await client.post(f"{path}/approve", headers=clerk)).status_code == 202
            late = await client.post(f"{path}/deny", headers=clerk, json={"reason": "Too much."})
            assert (late.status_code, "was approved by bea" in late.json()["detail"]) == (409, True)
            assert (await client.get("/approvals", headers=clerk)).json() == []
            again = {"question": "And for order 8?"}
            await client.post(f"/chats/{chat}/questions", headers=customer, json=again)
            (waiting,) = (await client.get("/approvals", headers=clerk)).json()
            path = f"/approvals/{chat}/{waiting['call']}"
            denied = await client.post(f"{path}/deny", headers=clerk, json={"reason": "Only by phone."})
            history = (await client.get(f"/chats/{chat}", headers=customer)).json()
    assert denied.status_code == 202
    assert [message["content"] for message in history if message["role"] == "tool"] == [
        "250 cents are paid back for order 7, as bea allowed",
        "Only by phone.",
    ]
    assert history[-1] == {"role": "assistant", "content": "That needs a phone call."}
    assert await turns(tmp_path) == ["completed", "completed"]


@pytest.mark.fault("C52")
async def test_a_browser_that_leaves_cancels_its_answer(tmp_path: Path) -> None:
    """Under uvicorn: the connection is closed in mid-stream; the provider is left, the text so far is kept."""
    stalled = sse_answer([*openai_chat_stream("It goes on and on", usage=None)[:-2], Stall()])
    async with LoopbackServer([stalled]) as server:
        shell = Shell.at(tmp_path, **settings_for(server))
        uvicorn = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app", "--port", "0")
        backend = await shell.start(sys.executable, *uvicorn)
        assert backend.stderr is not None
        while b"running on" not in (line := await backend.stderr.readline()):
            assert line, "uvicorn ended before it listened"
        url = line.decode().split("running on ", 1)[1].split()[0]
        async with httpx.AsyncClient(base_url=url, headers=ANN) as browser:
            chat = (await browser.post("/chats")).json()["id"]
            async with browser.stream("POST", f"/chats/{chat}/questions", json={"question": "A story"}) as response:
                seen = ""
                async for piece in response.aiter_text():
                    seen += piece
                    if seen.count("event: message") == 4:
                        break
        await server.until_interrupted()
        backend.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(backend.communicate(), 60)
    assert b"Traceback" not in err
    assert await turns(tmp_path) == ["cancelled"]
    assert await messages(tmp_path) == [("user", "A story", "complete"), ("assistant", "It goes on and on", "partial")]
