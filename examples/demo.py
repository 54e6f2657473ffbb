"""A real conversation, its rows, and the same conversation carried on by a second process: `make demo`.

It talks to OpenAI or Anthropic when OPENAI_API_KEY or ANTHROPIC_API_KEY is set, and otherwise to a small model on this
machine, which needs no key. NODELLM_PROVIDER (and NODELLM_MODEL) choose any other.

    python examples/demo.py
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from nodellm_orm import Chat, NodeLLMError, Reply, create_chat, create_llm, load_chat, make_engine, migrate, tool
from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord, ToolCallRecord, TurnRecord

FOLDER = Path("demo")
FILE = FOLDER / "chats.db"
URL = f"sqlite:///{FILE.as_posix()}"

WIDE = {"content", "arguments", "result", "requested_model"}
"""Columns that may take several lines."""

console = Console(markup=False, highlight=False)


@tool(idempotent=True)
def get_weather(city: str) -> str:
    """Current weather of a city.

    Args:
        city: its name.
    """
    return f"The weather in {city} is sunny, 21 degrees, without wind."


def choose() -> tuple[str, str]:
    """The provider to talk to, and why it was chosen."""
    if provider := os.environ.get("NODELLM_PROVIDER"):
        return provider, "NODELLM_PROVIDER names it"
    for provider in ("openai", "anthropic"):
        if os.environ.get(f"{provider.upper()}_API_KEY"):
            return provider, f"{provider.upper()}_API_KEY is set"
    return "local", "no key is set; for another one set OPENAI_API_KEY or ANTHROPIC_API_KEY"


def make_sure(fact: bool, what: str) -> None:  # noqa: FBT001 — reads like a sentence
    """End the demo, unless it is so."""
    if not fact:
        sys.exit(f"The demo failed: {what}.")


def heading(text: str) -> None:
    """Begin a section."""
    console.print()
    console.rule(Text(text, style="bold"), align="left")


# ── the two processes ─────────────────────────────────────────────────────────────────────────────────────────────


async def begin() -> str:
    """Hold a conversation in this process, and give its id."""
    provider, reason = choose()
    engine = make_engine(URL)
    await migrate(engine)
    async with create_llm(provider) as llm:
        console.print(f"Talking to {provider}/{llm.default_model} ({reason}).")
        console.print(f"Everything is kept in {FILE}.")
        chat = await create_chat(
            engine,
            llm,
            instructions="Answer in one short sentence.",
            title="Demo",
            tools=[get_weather],
            max_tokens=100 if provider == "local" else None,  # small models go on and on
        )
        heading(f"1. A question with a tool (process {os.getpid()})")
        reply = await ask(chat, "What is the weather in Paris?", tool_choice="get_weather")
        make_sure({call.status for call in reply.tool_calls} == {"succeeded"}, "the tool did not run")
        make_sure(bool(reply.content), "the model said nothing")
    await engine.dispose()
    return str(chat.id)


async def go_on(chat_id: str) -> None:
    """Carry the conversation on in another process, which has nothing but the id and the database."""
    provider, _ = choose()
    engine = make_engine(URL)
    async with create_llm(provider) as llm:
        chat = await load_chat(engine, llm, chat_id, tools=[get_weather])
        heading(f"3. The same chat, from a second process ({os.getpid()})")
        known = len(chat.messages)
        console.print(f"It finds {known} messages, and asks on.", style="dim")
        await ask(chat, "Should I take an umbrella?", tool_choice="none")
        make_sure(len(chat.messages) == known + 2, "the second process did not add its question and an answer")
    await engine.dispose()


async def ask(chat: Chat, question: str, *, tool_choice: str) -> Reply[Any]:
    """Ask, and print the answer as it arrives."""
    console.print(f"> {question}", style="bold cyan")
    async with chat.stream(question, tool_choice=tool_choice) as stream:
        async for chunk in stream:
            if chunk.tool_call is not None:
                console.print(f"calls {chunk.tool_call.name}({chunk.tool_call.arguments})", style="magenta")
            if chunk.tool_result is not None:
                console.print(f"gets  {chunk.tool_result.content}", style="magenta")
            console.out(chunk.content, end="", highlight=False)
        console.print()
        return await stream.reply()


# ── what is in the database ───────────────────────────────────────────────────────────────────────────────────────


async def show_rows(chat_id: str) -> None:
    """Print the rows of the chat, read with plain SQLAlchemy."""
    engine = make_engine(URL)
    heading("2. Its rows, as any program with SQLAlchemy (or SQL) reads them")
    by_position = MessageRecord.position
    await table(engine, ChatRecord, ["title", "provider", "model", "next_position"], ChatRecord.id == chat_id)
    await table(engine, TurnRecord, ["position", "status", "reason"], TurnRecord.chat_id == chat_id)
    messages = ["position", "role", "content", "finish_reason"]
    rows = await table(engine, MessageRecord, messages, MessageRecord.chat_id == chat_id, order=by_position)
    calls = await table(
        engine, ToolCallRecord, ["name", "arguments", "status", "result"], ToolCallRecord.chat_id == chat_id
    )
    roles = [row.role for row in rows]
    make_sure(roles[:3] == ["user", "assistant", "tool"] and roles[-1] == "assistant", f"the messages are {roles}")
    make_sure(calls[0].result_message_id == rows[2].id, "the tool's result did not become a message")
    await engine.dispose()


async def show_costs(chat_id: str) -> None:
    """Print what every request took and cost, and make sure that the chat is whole."""
    engine = make_engine(URL)
    heading("4. What it cost, request by request")
    columns = ["requested_model", "status", "input_tokens", "output_tokens", "cost"]
    requests = await table(
        engine, RequestRecord, columns, RequestRecord.chat_id == chat_id, order=RequestRecord.created_at
    )
    known = [request.cost for request in requests if request.cost is not None]
    unpriced = len(requests) - len(known)
    console.print(f"{len(requests)} requests, ${_cell(sum(known))}{f', {unpriced} unpriced' if unpriced else ''}")
    async with AsyncSession(engine) as session:
        statuses = list(await session.scalars(select(TurnRecord.status).where(TurnRecord.chat_id == chat_id)))
        messages = select(MessageRecord.position).where(MessageRecord.chat_id == chat_id)
        positions = sorted(await session.scalars(messages))
    make_sure(statuses == ["completed", "completed"], f"the turns are {statuses}")
    make_sure(positions == list(range(len(positions))), f"the messages are at {positions}")
    make_sure(all(request.status == "ok" for request in requests), "a request is not ok")
    await engine.dispose()


async def table(
    engine: AsyncEngine, record: type[Any], columns: Sequence[str], condition: Any, *, order: Any = None
) -> Sequence[Any]:
    """Print some columns of some rows, and give the rows."""
    async with AsyncSession(engine) as session:
        rows = (await session.scalars(select(record).where(condition).order_by(order))).all()
    shown = Table(title=record.__tablename__, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column not in WIDE)
    for row in rows:
        shown.add_row(*(Text(_cell(getattr(row, column))) for column in columns))
    console.print(shown)
    return rows


def _cell(value: object) -> str:
    text = f"{value.normalize():f}" if isinstance(value, Decimal) else "" if value is None else str(value)
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def main() -> None:
    """Run the whole demo, or its second process."""
    if sys.argv[1:2] == ["go-on"]:
        asyncio.run(go_on(sys.argv[2]))
        return
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob(f"{FILE.name}*"):
        old.unlink()
    chat_id = asyncio.run(begin())
    asyncio.run(show_rows(chat_id))
    # Nothing but the id is handed on: what the second process knows, it knows from the database.
    second = subprocess.run([sys.executable, __file__, "go-on", chat_id], check=False)  # noqa: S603 — this very file
    make_sure(second.returncode == 0, "the second process could not carry the chat on")
    asyncio.run(show_costs(chat_id))
    command = Path(sys.executable).with_name("nodellm-orm")
    command = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    heading("The demo worked. Go on with:")
    console.print(f"{command} show {chat_id} -d {URL}", soft_wrap=True)
    console.print(f"{command} chat --id {chat_id} -d {URL}", soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except NodeLLMError as error:
        sys.exit(f"The demo failed: {error}")
    except KeyboardInterrupt:
        sys.exit("The demo was stopped.")
