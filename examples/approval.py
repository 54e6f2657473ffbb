"""A web backend in which a person decides before money is paid back: customers ask, the staff approve or deny.

    pip install fastapi uvicorn
    NODELLM_PROVIDER=openai OPENAI_API_KEY=... uvicorn --app-dir examples approval:app

A call of `refund` waits in the database, for a minute or a month, through every restart; any process can decide on it
and carry the answer on. Who calls is read from headers here; take it from your own authentication instead.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import BackgroundTasks, Body, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker

from nodellm_orm import (
    ANY_OWNER,
    Chat,
    ChatError,
    ChatNotFoundError,
    Chats,
    ToolContext,
    create_llm,
    make_engine,
    migrate,
    tool,
)
from nodellm_orm.models import ChatRecord, ToolCallRecord


@tool(requires_approval=True)
async def refund(order: int, cents: int, context: ToolContext) -> str:
    """Pay money back for an order.

    Args:
        order: number of the order.
        cents: how much.
        context: filled in by the library; the model never sees it.
    """
    return f"{cents} cents are paid back for order {order}, as {context.approved_by} allowed"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One engine and one client for the whole application."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:
        app.state.sessions = async_sessionmaker(engine)
        app.state.chats = Chats(engine, llm, tools=[refund])
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
Customer = Annotated[str, Header(alias="X-Customer", min_length=1)]
Clerk = Annotated[str, Header(alias="X-Clerk", min_length=1)]
Text = Annotated[str, Body(embed=True, min_length=1)]


@app.exception_handler(ChatError)
async def refused(_: Request, error: Exception) -> JSONResponse:
    """No such chat or call, or a decision that comes too late: the message says which, and what to do."""
    return JSONResponse({"detail": str(error)}, status_code=404 if isinstance(error, ChatNotFoundError) else 409)


@app.post("/chats", status_code=201)
async def create(request: Request, customer: Customer) -> dict[str, UUID]:
    """A new chat of this customer."""
    chat = await request.app.state.chats.create(owner=customer, instructions="Help customers of the shop.")
    return {"id": chat.id}


@app.post("/chats/{chat_id}/questions")
async def ask(request: Request, customer: Customer, chat_id: UUID, question: Text) -> dict[str, str]:
    """Ask; ``approval`` as the reason means that the answer comes when the staff have decided."""
    chat = await request.app.state.chats.load(chat_id, owner=customer)
    reply = await chat.ask(question)
    return {"answer": reply.content, "finish_reason": reply.finish_reason}


@app.get("/chats/{chat_id}")
async def read(request: Request, customer: Customer, chat_id: UUID) -> list[dict[str, str]]:
    """What was said in a chat."""
    chat = await request.app.state.chats.load(chat_id, owner=customer)
    return [{"role": message.role, "content": message.content} for message in chat.messages]


@app.get("/approvals")
async def waiting(request: Request, _: Clerk) -> list[dict[str, str]]:
    """Everything that waits for a decision, of all customers: the rows are ordinary tables."""
    calls = (
        select(ToolCallRecord, ChatRecord.owner)
        .join(ChatRecord, ChatRecord.id == ToolCallRecord.chat_id)
        .where(ToolCallRecord.status == "awaiting_approval")
        .order_by(ToolCallRecord.chat_id, ToolCallRecord.position)
    )
    async with request.app.state.sessions() as session:
        return [
            {
                "chat": str(call.chat_id),
                "call": call.call_id,
                "customer": str(owner),
                "tool": call.name,
                "arguments": call.arguments,
            }
            for call, owner in await session.execute(calls)
        ]


@app.post("/approvals/{chat_id}/{call_id}/approve", status_code=202)
async def approve(request: Request, tasks: BackgroundTasks, clerk: Clerk, chat_id: UUID, call_id: str) -> None:
    """Let a call run."""
    chat = await request.app.state.chats.load(chat_id, owner=ANY_OWNER)  # a clerk may see every customer's chats
    await chat.approve(call_id, by=clerk)
    carry_on(chat, tasks)


@app.post("/approvals/{chat_id}/{call_id}/deny", status_code=202)
async def deny(
    request: Request, tasks: BackgroundTasks, clerk: Clerk, chat_id: UUID, call_id: str, reason: Text
) -> None:
    """Refuse a call; the model reads the reason, and tells the customer."""
    chat = await request.app.state.chats.load(chat_id, owner=ANY_OWNER)
    await chat.deny(call_id, reason, by=clerk)
    carry_on(chat, tasks)


def carry_on(chat: Chat, tasks: BackgroundTasks) -> None:
    """Answer the customer once everything is decided; a worker of your own can do that as well, or later."""
    if not chat.pending_approvals:
        tasks.add_task(chat.resume)
