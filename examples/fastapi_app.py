"""A web backend: chats of signed-in users, answers as server-sent events, a page to try it.

    pip install fastapi uvicorn
    NODELLM_PROVIDER=openai OPENAI_API_KEY=... uvicorn --app-dir examples fastapi_app:app

Then open http://127.0.0.1:8000. Who calls is read from a header here; take it from your own authentication instead.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import Body, Depends, FastAPI, Header, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from nodellm_orm import Chat, ChatNotFoundError, NodeLLMError, create_chat, create_llm, load_chat, make_engine, migrate


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One engine and one client for the whole application."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:  # on shutdown, turns under way are given time to end
        app.state.llm, app.state.sessions = llm, async_sessionmaker(engine, expire_on_commit=False)
        yield
    await engine.dispose()


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The session of one request, as an application has it anyway."""
    async with request.app.state.sessions() as session:
        yield session


app = FastAPI(lifespan=lifespan)
Session = Annotated[AsyncSession, Depends(get_session)]
User = Annotated[str, Header(alias="X-User", min_length=1)]
Question = Annotated[str, Body(embed=True, min_length=1)]


@app.exception_handler(ChatNotFoundError)
async def not_found(_: Request, error: Exception) -> JSONResponse:
    """No such chat, or somebody else's: nobody can tell which."""
    return JSONResponse({"detail": str(error)}, status_code=404)


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(Path(__file__).with_suffix(".html"))


@app.post("/chats", status_code=201)
async def create(request: Request, session: Session, user: User) -> dict[str, UUID]:
    """A new chat of this user."""
    chat = await create_chat(session, request.app.state.llm, owner=user, instructions="Answer briefly.")
    return {"id": chat.id}


@app.get("/chats/{chat_id}")
async def read(request: Request, session: Session, user: User, chat_id: UUID) -> list[dict[str, str]]:
    """What was said in a chat."""
    chat = await load_chat(session, request.app.state.llm, chat_id, owner=user)
    return [{"role": message.role, "content": message.content} for message in chat.messages]


@app.post("/chats/{chat_id}/questions")
async def ask(request: Request, session: Session, user: User, chat_id: UUID, question: Question) -> StreamingResponse:
    """Ask, and answer as it arrives; a browser that leaves cancels the answer, and its text so far is kept."""
    chat = await load_chat(session, request.app.state.llm, chat_id, owner=user)
    return StreamingResponse(events(chat, question), media_type="text/event-stream")


async def events(chat: Chat, question: str) -> AsyncIterator[str]:
    """The answer as server-sent events: `message` with more text, then `done` or `failed`."""
    try:
        async with chat.stream(question) as stream:
            async for chunk in stream:
                if chunk.content:
                    yield event("message", {"text": chunk.content})
        reply = await stream.reply()
        yield event("done", {"finish_reason": reply.finish_reason, "cost": str(reply.cost)})
    except NodeLLMError as error:
        yield event("failed", {"error": str(error)})


def event(name: str, data: dict[str, str]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
