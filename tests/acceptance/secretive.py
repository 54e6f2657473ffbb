"""A client and a database with secrets, and what chats go through with them: everything that is shown is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from nodellm_orm import (
    Encryption,
    NodeLLMError,
    Window,
    create_chat,
    interrupted_turns,
    list_chats,
    load_chat,
    make_engine,
    tool,
)
from nodellm_orm.models import ChatRecord
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    Reset,
    Stall,
    body_answer,
    json_answer,
    sse_answer,
    text_answer,
)
from tests.acceptance import canaries
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, LoopbackServer, ReceivedRequest
    from tests.acceptance.speakers import Line

    Script: TypeAlias = Line | Callable[[ReceivedRequest], Answer]

API_KEY: Final = "zq9Canary/of+every=provider~77"
GATEWAY: Final = "vq5Header/canary+of=the_chat~11"
QUESTIONER: Final = "tq3Header/canary+of=one_question~22"
PASSWORD: Final = "wp4Canary/of@the:database+44"
MASTER: Final = bytes(range(0x80, 0xA0))
NEXT_MASTER: Final = bytes(range(0xC0, 0xE0))
SPEAKER: Final = Speaker("anthropic")
HEADERS: Final = {"x-gateway-token": GATEWAY}
FORMS: Final = {
    "the API key": canaries.spellings(API_KEY),
    "a header of the chat": canaries.spellings(GATEWAY),
    "a header of a question": canaries.spellings(QUESTIONER),
    "the database's password": canaries.spellings(PASSWORD),
    "the encryption key": canaries.spellings_of_key(MASTER),
    "the next encryption key": canaries.spellings_of_key(NEXT_MASTER),
}
HELD: Final = {name: FORMS[name] for name in FORMS if "header" not in name}
"""What our own functions hold in a form that shows nothing; headers are the caller's mapping, as he passed it."""
_STORY: Final = "Once upon a time"
_NOWHERE: Final = f"{quote(PASSWORD, safe='')}@127.0.0.1:1/app"


class Form(BaseModel):
    """A colour."""

    colour: str


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


@tool
async def connect(host: str) -> str:
    """Connect to a database, which says too much when it fails."""
    msg = f"cannot reach {host} at postgresql://app:{_NOWHERE}"
    raise ConnectionError(msg)


@tool(requires_approval=True)
async def pay(cents: int) -> str:
    """Pay an amount."""
    return f"paid {cents}"


TOOLS: Final = (look_up, connect, pay)
LOOK: Final = FakeCall("look_up", {"word": "zebra"})
PAY: Final = FakeCall("pay", {"cents": 250})
THOUGHT: Final = (FakeThinking("I think", signature="c2ln"),)


@dataclass
class World:
    """A client with secrets, a database with secrets, and everything that was shown so far."""

    engine: AsyncEngine
    llm: LLM
    server: LoopbackServer
    lines: deque[Script]
    encryption: Encryption | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    frames: list[tuple[str, str]] = field(default_factory=list)
    errors: set[str] = field(default_factory=set)

    def says(self, *lines: Script) -> None:
        """What the model says next."""
        self.lines.extend(lines)

    async def chat(self, **options: Any) -> Chat:
        """A new chat with secret headers."""
        given = {"tools": TOOLS, "headers": HEADERS, "encryption": self.encryption, "owner": "ada", **options}
        return await create_chat(self.engine, self.llm, **given)

    async def again(self, chat: Chat, **options: Any) -> Chat:
        """The chat as another process loads it."""
        given = {"tools": TOOLS, "headers": HEADERS, "encryption": self.encryption, "owner": "ada", **options}
        return await load_chat(self.engine, self.llm, chat.id, **given)

    def show(self, *values: object) -> None:
        """Keep what objects show."""
        for value in values:
            self.seen += [(type(value).__name__, said) for said in canaries.told_by_object(value)]

    async def fails(self, attempt: Awaitable[object], *, echoed: bool = False) -> None:
        """Keep what an error tells, and its local variables unless a server repeated secrets in what is read there."""
        with pytest.raises(NodeLLMError) as caught:
            self.show(await attempt)
        self.tell(caught.value)
        if not echoed:
            name = f"frames of {type(caught.value).__name__}"
            self.frames += [(name, said) for said in canaries.told_by_frames(caught.value)]

    def tell(self, error: NodeLLMError) -> None:
        """Keep what an error tells."""
        self.errors.add(type(error).__name__)
        self.seen += [(type(error).__name__, said) for said in canaries.told_by(error)]


def answering(lines: deque[Script]) -> Callable[[ReceivedRequest], Awaitable[Answer]]:
    """A server that says what is next."""

    async def handle(request: ReceivedRequest) -> Answer:
        line = lines.popleft()
        if callable(line):
            return line(request)
        return SPEAKER.answer(line, stream=SPEAKER.streams(request))

    return handle


# ── what a careless server says ───────────────────────────────────────────────────────────────────────────────────────


def echoing(status: int) -> Callable[[ReceivedRequest], Answer]:
    """The whole request is repeated in an error."""

    def answer(request: ReceivedRequest) -> Answer:
        said = json.dumps({**request.headers, "path": request.path})
        return json_answer({"type": "error", "error": {"type": "x_error", "message": said}}, status=status)

    return answer


def echoing_page(request: ReceivedRequest) -> Answer:
    """A gateway's page that repeats the headers."""
    return text_answer(f"<html>{' '.join(request.headers.values())}</html>", content_type="text/html")


def echoing_stream(request: ReceivedRequest) -> Answer:
    """A stream that breaks off with an error that repeats the headers."""
    said = {"type": "error", "error": {"type": "overloaded_error", "message": " ".join(request.headers.values())}}
    return sse_answer([*begun(), b"event: error\ndata: " + json.dumps(said).encode() + b"\n\n"])


def echoing_headers(request: ReceivedRequest) -> Answer:
    """An ordinary answer whose headers repeat the request's."""
    headers = {"x-echo": request.headers["x-api-key"], "set-cookie": f"token={request.headers['x-gateway-token']}"}
    return json_answer(SPEAKER.body(Says(text="fine")), headers=headers)


def begun() -> list[bytes]:
    """The events of an answer until its text has begun."""
    events = SPEAKER.events(Says(text=_STORY))
    return events[: 1 + next(at for at, event in enumerate(events) if b"Once" in event)]


# ── the scenes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def tools_and_approval(world: World) -> None:
    """Tools that work, fail and wait; two decisions, the second made by another process."""
    chat = await world.chat(instructions="Be brief.", metadata={"team": "blue"}, title="Zebras")
    world.says(Says(thinking=THOUGHT, calls=[LOOK, FakeCall("connect", {"host": "db"})]), Says(text="A word."))
    questioner = {"x-question-secret": QUESTIONER}
    reply = await chat.ask("What is a zebra?", headers=questioner, files=[("a.txt", b"zebra")], thinking=2000)
    assert [call.status for call in reply.tool_calls] == ["succeeded", "failed"]
    world.says(Says(calls=[PAY, PAY]), Says(text="Paid."))
    world.show(reply, await chat.ask("Pay twice"))
    first, second = chat.pending_approvals
    approved = await chat.approve(first.call_id, by="ann")
    elsewhere = await world.again(chat)
    denied = await elsewhere.deny(second.call_id, "Too much.", by="bob")
    world.show(chat, elsewhere, first, approved, denied, await elsewhere.resume(), *elsewhere.messages)


async def branches_and_history(world: World) -> None:
    """Branches, new answers, edited questions, a summary, windows and pages."""
    chat = await world.chat(history_window=Window(turns=2))
    for number in range(3):
        world.says(Says(text=f"{_STORY} {number}"))
        world.show(await chat.ask(f"Tell me {number}"))
    branch = await chat.fork(at=1)
    world.says(Says(text="branch"), Says(text="again"), Says(text="edited"), Says(text="A story was told."))
    world.show(branch, await branch.ask("Elsewhere"), await chat.regenerate(), await chat.edit(2, "Other words"))
    world.show(await chat.compact(keep=1), *await chat.history(limit=5), await chat.usage(), chat.render("next"))
    await chat.update_metadata(team="red")
    world.show(await list_chats(world.engine, owner="ada", encryption=world.encryption), await world.again(chat))
    world.show(*await interrupted_turns(world.engine))


async def streams_and_cancellation(world: World) -> None:
    """A stream that is read, one that is left, a question whose task is cancelled, a turn that others cancel."""
    chat = await world.chat(lease=2.0)
    world.says(Says(text=_STORY, thinking=THOUGHT))
    stream = chat.stream("Stream it")
    async for chunk in stream:
        world.show(chunk)
    world.show(stream, await stream.reply())
    world.says(sse_answer([*begun(), Stall()]))
    async with chat.stream("Leave it", checkpoint=0.01) as left:
        async for _ in left:
            break
    world.show(left)
    for how in ("by its task", "by another process"):
        world.says([Stall()])
        asked = len(world.server.requests)
        question = asyncio.create_task(chat.ask(how))
        await world.server.until_received(asked + 1)
        await world.fails(chat.ask("Me too"))
        if how == "by its task":
            question.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await question
        else:
            await (await world.again(chat)).cancel()
            await world.fails(question)


async def errors_of_providers(world: World) -> None:
    """Servers that repeat what they were sent, in every place of an answer, and connections that break."""
    chat = await world.chat()
    for status in (400, 401, 403, 404, 429, 500):
        world.says(echoing(status))
        await world.fails(chat.ask(f"Status {status}", headers={"x-question-secret": QUESTIONER}), echoed=True)
    for line in (echoing_page, [Reset()], body_answer(b"", status=307, headers={"location": "http://a.example/"})):
        world.says(line)
        await world.fails(chat.ask("Odd"), echoed=line is echoing_page)
    world.says(echoing_stream, sse_answer([*begun(), Reset()]))
    for echoed in (True, False):
        await world.fails(chat.stream("Odd").reply(), echoed=echoed)
    world.says(echoing_headers)
    world.show(await chat.ask("Now?"), world.llm.model_info())


async def errors_of_callers(world: World) -> None:
    """Mistakes, limits and lost races; what is given is secret in part."""
    chat = await world.chat()
    world.says(Says(text="fine"), Says(text="no colour"), Says(calls=[LOOK]), Fails(status=400))
    world.show(await chat.ask("Key", idempotency_key="k"))
    await world.fails(chat.ask("Another", idempotency_key="k"))
    await world.fails(chat.ask("A form", schema=Form))
    await world.fails(chat.ask("Calls", max_tool_rounds=0, on_limit="raise"))
    await world.fails(chat.ask("Refused"))
    for wrong in (f"{QUESTIONER}\nx-injected: 1", f"{QUESTIONER}\x00", f"{QUESTIONER}\u200b"):
        await world.fails(chat.ask("Bad header", headers={"x-question-secret": wrong}))
    await world.fails(chat.ask("A file", files=["/etc/passwd"]))
    await world.fails(world.again(chat, owner="bob"))
    if world.encryption is not None:
        await world.fails(world.again(chat, encryption=Encryption(keys={"first": NEXT_MASTER})))

    async def lose(_: object) -> None:
        async with world.engine.begin() as connection:
            await connection.execute(update(ChatRecord).values(fence=ChatRecord.fence + 1))

    world.says(Says(text="too late"))
    await world.fails(chat.before_request(lose).ask("Whose?"))


async def errors_of_databases(world: World) -> None:
    """A server that is not there, tables that are not there, and a database that is gone."""
    for url in (f"postgresql://app:{_NOWHERE}", f"mysql://app:{_NOWHERE}", "sqlite:///:memory:"):
        useless = make_engine(url)
        await world.fails(create_chat(useless, world.llm, headers=HEADERS))
        await useless.dispose()
    with pytest.raises(NodeLLMError) as caught:
        make_engine(f"oracle://app:{_NOWHERE}")
    world.tell(caught.value)


SCENES: Final = (
    tools_and_approval,
    branches_and_history,
    streams_and_cancellation,
    errors_of_providers,
    errors_of_callers,
    errors_of_databases,
)
