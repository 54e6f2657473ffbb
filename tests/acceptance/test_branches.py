"""Branches of a chat, new answers in place and questions in other words: what is shown, sent, stored and counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import String, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

from nodellm_orm import ChatNotFoundError, ConfigurationError, Encryption, define_records, load_chat, tool
from nodellm_orm.models import AttachmentRecord, BlobRecord, ThinkingRecord
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.speakers import Says
from tests.acceptance.talks import Talk, calls, double, said, words
from tests.acceptance.test_counts import Counted
from tests.acceptance.validity import check_history, stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01"


async def of_chat(engine: AsyncEngine, record: Any, chat: Chat) -> Any:
    """How many rows of a table belong to a chat."""
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(record).where(record.chat_id == chat.id))


# ── fork ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_branch_goes_its_own_way(anywhere: AsyncEngine | None) -> None:
    """Both chats go on from the same messages, and neither sees what is said in the other; each pays for itself."""
    script = [Says(text=text) for text in ("A1", "A2", "B2", "A3", "C1")]
    async with Talk(anywhere, *script) as talk:
        chat = await talk.chat(instructions="Be brief.", metadata={"team": "blue"}, max_tokens=500)
        await chat.ask("Q1")
        await chat.ask("Q2")
        spent = await chat.usage()

        branch = await chat.fork(at=chat.messages[1])
        assert branch.id != chat.id
        assert (await branch.usage()).requests == 0
        assert (branch.instructions, branch.metadata, branch.model) == (chat.instructions, chat.metadata, chat.model)
        assert branch.messages == chat.messages[:2]
        await branch.ask("Q2b")
        assert words(talk.last) == ["Be brief.", "Q1", "A1", "Q2b"]
        assert talk.last["max_completion_tokens"] == 500
        await chat.ask("Q3")
        assert words(talk.last) == ["Be brief.", "Q1", "A1", "Q2", "A2", "Q3"]

        again = await branch.fork(at=0, title="Only the question")
        assert (await again.regenerate()).content == "C1"
        assert said(again.messages) == [("user", "Q1"), ("assistant", "C1")]
        assert said(await branch.history()) == said(branch.messages)
        assert (await branch.usage()).requests == (await again.usage()).requests == 1
        assert (await chat.usage()).requests == spent.requests + 1


async def test_rows_of_a_branch(engine: AsyncEngine) -> None:
    """Rows are copied with their ids and positions; files' contents are shared; ledger and turns are not copied."""
    thinking = [FakeThinking("hm", signature="c2ln")]
    script = [Says(calls=calls(1, 2), thinking=thinking), Says(text="2 and 4"), Says(text="on")]
    async with Talk(engine, *script, api="anthropic") as talk:
        chat = await talk.chat(tools=[double], owner="ada", title="Sums", thinking=2000, max_tokens=4000)
        await chat.ask("Double 1 and 2", files=PICTURE)
        branch = await chat.fork(title="Other sums")
        rows, copies = await stored(engine, chat.id), await stored(engine, branch.id)

        assert (copies.chat.parent_chat_id, copies.chat.fork_position) == (chat.id, 4)
        assert (copies.chat.owner, copies.chat.title, branch.title) == ("ada", "Other sums", "Other sums")
        own = {"chat_id", "turn_id"}
        for mine, theirs in ((copies.messages, rows.messages), (copies.calls, rows.calls)):
            assert [{k: v for k, v in vars(row).items() if k not in own and not k.startswith("_")} for row in mine] == [
                {k: v for k, v in vars(row).items() if k not in own and not k.startswith("_")} for row in theirs
            ]
        assert {message.turn_id for message in copies.messages} == {None}
        assert (len(copies.turns), len(copies.requests)) == (0, 0)
        for record in (ThinkingRecord, AttachmentRecord):
            assert await of_chat(engine, record, branch) == await of_chat(engine, record, chat) == 1
        async with AsyncSession(engine) as session:
            assert await session.scalar(select(func.count()).select_from(BlobRecord)) == 1

        loaded = await talk.elsewhere(branch, tools=[double])
        assert loaded.messages == branch.messages == chat.messages
        await loaded.ask("go on")
        (await stored(engine, branch.id)).check()


async def test_each_of_two_branches_is_deleted_alone(engine: AsyncEngine) -> None:
    """A branch outlives its parent, files included, and a parent its branches."""
    script = [Says(text="one"), Says(text="of the child"), Says(text="of the parent")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat()
        await chat.ask("Look", files=PICTURE)
        child, other = await chat.fork(), await chat.fork()
        await other.delete()
        await chat.ask("still there?")
        await chat.delete()
        loaded = await talk.elsewhere(child)
        assert (await loaded.ask("and you?")).content == "of the parent"
        assert "image_url" in str(talk.last["messages"][0])
        with pytest.raises(ChatNotFoundError):
            await chat.fork()


async def test_a_branch_may_be_asked_another_way(anywhere: AsyncEngine | None) -> None:
    """What is said with fork() holds for the branch and is stored with it; the parent's settings stay."""
    async with Talk(anywhere, Says(text="A"), Says(text="B"), Says(calls=calls(4)), Says(text="8")) as talk:
        chat = await talk.chat(instructions="Be brief.", metadata={"team": "blue"})
        await chat.ask("Q")
        branch = await chat.fork(
            model="gpt-5", instructions="Be long.", max_tokens=100, metadata={"team": "red"}, tools=[double]
        )
        assert (branch.model, branch.instructions, branch.metadata) == ("gpt-5", "Be long.", {"team": "red"})
        assert (chat.model, chat.instructions, chat.metadata) == ("gpt-5-mini", "Be brief.", {"team": "blue"})
        await branch.fork(params={"seed": 7}, headers={"x-branch": "1"}, timeout=9)
        if anywhere is not None:
            branch = await talk.elsewhere(branch, tools=[double])
        await branch.ask("Q2")
        assert (talk.last["model"], words(talk.last)[0]) == ("gpt-5", "Be long.")
        assert (await branch.ask("Q3")).content == "8"
        for wrong in ({"temperatur": 1}, {"model": ""}, {"temperature": 9}, {"timeout": -1}, {"provider": "nobody"}):
            with pytest.raises(ConfigurationError):
                await chat.fork(**wrong)
        with pytest.raises(ConfigurationError, match="Message of this chat or its position"):
            await chat.fork(at="the end")  # type: ignore[arg-type]  # that is the point


async def test_changes_that_are_not_saved_yet_hold_for_a_branch(anywhere: AsyncEngine | None) -> None:
    """A branch is of the chat as this object has it; the changes are stored with it, and later with the chat."""
    async with Talk(anywhere, Says(text="A"), Says(text="B")) as talk:
        chat = (await talk.chat()).with_instructions("Be kind.").with_tools(double)
        branch = await chat.fork()
        await branch.ask("Q")
        assert words(talk.last) == ["Be kind.", "Q"]
        assert talk.last["tools"]
        assert chat.instructions == "Be kind."


async def test_forking_under_an_id_is_safe_to_repeat(engine: AsyncEngine) -> None:
    """The same id gives the same branch, however far it and its parent have come; another chat's id is refused."""
    async with Talk(engine, *(Says(text=text) for text in "ABCD")) as talk:
        chat, key = await talk.chat(owner="ada"), new_id()
        await chat.ask("Q1")
        branch = await chat.fork(at=1, id=key)
        await branch.ask("Q2")
        await chat.edit(0, "Q0")
        same = await chat.fork(at=1, id=str(key))
        assert (same.id, same.messages) == (key, branch.messages)
        at_once = await asyncio.gather(*(chat.fork(id=talk_id) for talk_id in [new_id()] * 3))
        assert len({made.id for made in at_once}) == 1
        with pytest.raises(ConfigurationError, match="no branch of chat"):
            await branch.fork(id=chat.id)
        stranger = await talk.chat(owner="bob")
        with pytest.raises(ChatNotFoundError):
            await chat.fork(id=stranger.id)


async def test_another_owners_chat_cannot_be_forked(engine: AsyncEngine) -> None:
    """It is not found, and a branch is found by its parent's owner only."""
    async with Talk(engine, Says(text="A")) as talk:
        chat = await talk.chat(owner="ada")
        await chat.ask("Q")
        branch = await chat.fork()
        assert branch.owner == "ada"
        for owner in ("bob", None):
            for other in (chat, branch):
                with pytest.raises(ChatNotFoundError):
                    await load_chat(engine, talk.llm, other.id, owner=owner)


async def test_a_tool_conversation_is_forked_at_every_position(anywhere: AsyncEngine | None) -> None:
    """Between a call and its last result a fork is refused, and the error names the places around; all others work."""
    turn = [Says(calls=calls(1, 2)), Says(calls=calls(3)), Says(text="done")]
    async with Talk(anywhere, *turn, *(Says(text=f"on {n}") for n in range(6))) as talk:
        chat = await talk.chat(tools=[double])
        await chat.ask("go")
        roles = [message.role for message in chat.messages]
        assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
        refused = {1: r"fork at 0.*or at 3", 2: r"fork at 0.*or at 3", 4: r"fork at 3.*or at 5"}
        for position in range(len(roles)):
            if position in refused:
                with pytest.raises(ConfigurationError, match=refused[position]):
                    await chat.fork(at=position)
                continue
            branch = await chat.fork(at=position)
            assert branch.messages == chat.messages[: position + 1]
            await branch.ask("go on")
            check_history(branch.messages)
        for wrong in (-1, 7, 99):
            with pytest.raises(ConfigurationError, match="from 0 to 6"):
                await chat.fork(at=wrong)
        strange = await talk.chat(messages=[{"role": "user", "content": "another"}])
        with pytest.raises(ConfigurationError, match="none as it is now"):
            await chat.fork(at=strange.messages[0])


async def test_calls_that_wait_are_closed_in_the_branch(engine: AsyncEngine) -> None:
    """A branch of a suspended chat says that its calls were not run; the chat itself can still run them."""
    async with Talk(engine, Says(calls=calls(1)), Says(text="in the branch"), Says(text="two")) as talk:
        chat = await talk.chat(tools=[double], max_tool_rounds=0)
        assert (await chat.ask("go")).finish_reason == "tool_limit"
        branch = await chat.fork()
        assert [message.role for message in branch.messages] == ["user", "assistant", "tool"]
        assert "was not run" in branch.messages[2].content
        [row] = (await stored(engine, branch.id)).calls
        assert (row.status, row.result_message_id is not None) == ("skipped", True)
        await branch.ask("never mind")
        check_history(branch.messages)
        assert (await chat.resume(max_tool_rounds=1)).content == "two"
        assert chat.messages[2].content == "2"


async def test_a_chat_is_forked_while_it_answers(engine: AsyncEngine) -> None:
    """A turn that runs is neither waited for nor disturbed: the branch has what is complete."""
    running, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def wait_for(x: int) -> int:
        """Wait."""
        running.set()
        await go_on.wait()
        return x

    script = [Says(text="A1"), Says(calls=[FakeCall("wait_for", {"x": 1}, "w")]), Says(text="B2"), Says(text="A2")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[wait_for])
        await chat.ask("Q1")
        asking = asyncio.create_task(chat.ask("Q2"))
        await running.wait()
        branch = await chat.fork()
        assert said(branch.messages) == [("user", "Q1"), ("assistant", "A1"), ("user", "Q2")]
        other = await (await talk.elsewhere(chat)).fork(at=1)
        assert len(other.messages) == 2
        with pytest.raises(ConfigurationError, match="fork at 2"):
            await chat.fork(at=3)
        assert (await branch.regenerate()).content == "B2"
        go_on.set()
        assert (await asking).content == "A2"
        assert len(chat.messages) == 6
        for each in (chat, branch):
            (await stored(engine, each.id)).check()


async def test_an_answer_that_grows_is_not_in_a_branch(engine: AsyncEngine) -> None:
    """What a stream has stored so far is no answer yet; of a stream that was left, the text is part of the branch."""
    async with Talk(engine, Says(text="A1"), Says(text="A2")) as talk:
        chat = await talk.chat()
        async with chat.stream("Q1", checkpoint=0) as stream:
            async for _ in stream:
                branch = await chat.fork()
                assert all(message.status == "complete" for message in branch.messages)
        assert len((await chat.fork()).messages) == 2


async def test_columns_of_the_host_are_copied(database: str) -> None:
    """A branch has what the host has added to its parent and the messages."""

    class Tenant:
        tenant: Mapped[str | None] = mapped_column(String(40), default=None)

    class Rated:
        rating: Mapped[int | None] = mapped_column(default=None)

    records = define_records(prefix="mine_", chat=Tenant, message=Rated)
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.run_sync(records.metadata.create_all)
    tables = records.tables
    async with Talk(engine, Says(text="A")) as talk:
        chat = await talk.chat(records=records, values={"tenant": "blue"})
        await chat.ask("Q")
        async with engine.begin() as connection:
            await connection.execute(update(tables.messages).values(rating=5))
        branch = await chat.fork()
        async with engine.connect() as connection:
            tenants = await connection.execute(select(tables.chats.c.tenant).where(tables.chats.c.id == branch.id))
            rated = select(tables.messages.c.rating).where(tables.messages.c.chat_id == branch.id)
            assert (tenants.scalar_one(), list(await connection.scalars(rated))) == ("blue", [5, 5])
    await engine.dispose()


async def test_an_encrypted_chat_is_forked_without_its_key_being_used(engine: AsyncEngine) -> None:
    """The copies are the same encrypted values, and readable in the branch; another key opens neither."""
    encryption = Encryption(keys={"a": Encryption.generate_key()})
    async with Talk(engine, Says(calls=calls(1)), Says(text="2"), Says(text="on")) as talk:
        chat = await talk.chat(tools=[double], encryption=encryption)
        await chat.ask("Q")
        branch = await chat.fork(title="secret")
        loaded = await talk.elsewhere(branch, tools=[double], encryption=encryption)
        assert (loaded.title, loaded.messages) == ("secret", chat.messages)
        rows, copies = await stored(engine, chat.id), await stored(engine, branch.id)
        assert [vars(row)["content"] for row in copies.messages] == [vars(row)["content"] for row in rows.messages]
        await loaded.ask("go on")


@pytest.mark.parametrize("length", [2, 200])
async def test_statements_of_a_fork_do_not_depend_on_the_length(engine: AsyncEngine, length: int) -> None:
    """One INSERT for the chat and one a table of its content; nothing is updated, and one commit."""
    history = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(length)]
    async with Talk(engine) as talk:
        chat = await talk.chat(messages=history)
        counted = Counted(engine)
        branch = await chat.fork()
        assert counted.take() == {"SELECT": 6, "INSERT": 5, "COMMIT": 1}
        assert len(branch.messages) == length
