"""A helpdesk with its own base, tables and Alembic, in which chats belong to users.

    alembic -c examples/host_app/alembic.ini upgrade head
    NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/host_app/app.py ask ada "Where is my order?"
    python examples/host_app/app.py report
    python examples/host_app/app.py leave ada

Tables are in host_models.py, the history of the schema in revisions/. HOST_DATABASE_URL names another database.
"""

import asyncio
import os
import sys

from host_models import RECORDS, ChatRecord, RequestRecord, User
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from nodellm_orm import Chats, create_llm, make_engine, purge


async def ask(session: AsyncSession, name: str, question: str) -> None:
    """Ask in the user's newest chat, or in a first one."""
    user = await session.scalar(select(User).where(User.name == name).options(selectinload(User.chats)))
    if user is None:
        session.add(user := User(name=name))
        await session.flush()  # it has an id now; the chat's creation commits it
        await session.refresh(user, ["chats"])
    async with create_llm() as llm:
        chats = Chats(session, llm, records=RECORDS)  # records= in every call, or once here
        if user.chats:
            chat = await chats.load(max(chat.id for chat in user.chats), owner=user.owner)
        else:
            chat = await chats.create(owner=user.owner, values={"user_id": user.id})
        print(await chat.ask(question))


async def report(session: AsyncSession) -> None:
    """What each user has, and has cost: users, chats and the ledger in one query."""
    rows = await session.execute(
        select(
            User.name,
            func.count(ChatRecord.id.distinct()),
            func.count(RequestRecord.id),
            func.sum(RequestRecord.cost),
        )
        .outerjoin(ChatRecord, ChatRecord.user_id == User.id)
        .outerjoin(RequestRecord, RequestRecord.chat_id == ChatRecord.id)
        .group_by(User.name)
        .order_by(User.name)
    )
    for name, chats, requests, cost in rows:
        print(f"{name}: {chats} chats, {requests} requests, {'unknown' if cost is None else cost.normalize()} dollars")
    requests, cost = (await session.execute(select(func.count(RequestRecord.id), func.sum(RequestRecord.cost)))).one()
    print(f"everybody, ever: {requests} requests, {'unknown' if cost is None else cost.normalize()} dollars")


async def leave(session: AsyncSession, name: str) -> None:
    """Erase a user: first his chats, through the library, then himself."""
    user = await session.scalar(select(User).where(User.name == name))
    if user is None:
        sys.exit(f"there is no user {name}")
    erased = await purge(session, owner=user.owner, records=RECORDS)
    await session.delete(user)
    await session.commit()
    print(f"{name} has left, and {erased.messages} messages with him; the ledger keeps what they have cost")


async def main(command: str, *words: str) -> None:
    """Run one command."""
    engine = make_engine(os.environ.get("HOST_DATABASE_URL", "sqlite:///helpdesk.db"))
    async with AsyncSession(engine, expire_on_commit=False) as session:
        match command, words:
            case "ask", (name, question):
                await ask(session, name, question)
            case "report", ():
                await report(session)
            case "leave", (name,):
                await leave(session, name)
            case _:
                sys.exit("usage: app.py ask NAME QUESTION | report | leave NAME")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["help"])))
