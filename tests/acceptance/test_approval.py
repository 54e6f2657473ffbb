"""Approval: a call waits in the rows for a person, runs when he lets it, and only as it was when he did."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    ChatBusyError,
    ChatError,
    ChatNotFoundError,
    ConfigurationError,
    Encryption,
    StaleChatError,
    ToolContext,
    create_chat,
    load_chat,
    tool,
)
from nodellm_orm.models import ChatRecord, MessageRecord, ToolCallRecord
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import ALL_APIS, Says, Speaker
from tests.acceptance.validity import check, check_history, stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat, Reply
    from nodellm_orm.runtime.plan import Durability
    from nodellm_orm.runtime.tools import Tool

SPEAKER: Final = Speaker("openai_chat")
PAY: Final = FakeCall("pay", {"cents": 250})
LOOK: Final = FakeCall("look", {"at": "stock"})
SEND: Final = FakeCall("send", {"to": "ann"})
NEVER: Final = "Nothing is sent to Ann."
one_database: Final = pytest.mark.parametrize("database_kind", ["sqlite"])
"""What is tested does not depend on the database."""


@dataclass
class Shop:
    """Tools of which the first two need approval, and what they have done."""

    ran: list[str] = field(default_factory=list)
    approvers: list[str | None] = field(default_factory=list)

    @property
    def tools(self) -> list[Tool]:
        """As a process would offer them."""

        @tool(requires_approval=True)
        async def pay(cents: int, context: ToolContext) -> str:
            """Pay an amount."""
            self.ran.append(f"pay {cents}")
            self.approvers.append(context.approved_by)
            return f"paid {cents}"

        @tool(requires_approval=True)
        def send(to: str) -> str:
            """Send a parcel."""
            self.ran.append(f"send {to}")
            return f"sent to {to}"

        @tool
        def look(at: str) -> str:
            """Look at something."""
            self.ran.append(f"look {at}")
            return "three left"

        @tool
        async def spend(cents: int) -> str:
            """Spend an amount."""
            self.ran.append(f"spend {cents}")
            return f"spent {cents}"

        return [pay, send, look, spend]


@pytest.fixture
def shop() -> Shop:
    """A shop in which nothing has happened yet."""
    return Shop()


async def elsewhere(engine: AsyncEngine, llm: LLM, chat: Chat, shop: Shop) -> Chat:
    """The chat as another process loads it."""
    return await load_chat(engine, llm, chat.id, tools=shop.tools)


def called(reply: Reply[Any]) -> list[tuple[str, str, str | None]]:
    """Name, status and result of each call of a turn."""
    return [(call.name, call.status, call.result) for call in reply.tool_calls]


# ── from the question to the answer ───────────────────────────────────────────────────────────────────────────────────


async def test_a_call_waits_until_somebody_decides_in_whatever_process(engine: AsyncEngine, shop: Shop) -> None:
    """One process asks, one approves, one denies, one carries on: the tool runs once, and the rows say who let it."""
    script = (Says(text="A moment.", calls=[PAY, LOOK, SEND]), Says(text="Paid, not sent."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        reply = await chat.ask("Pay and send it")
        assert (reply.finish_reason, reply.content, shop.ran) == ("approval", "A moment.", ["look stock"])
        pay, look, send = reply.tool_calls
        assert called(reply) == [
            ("pay", "awaiting_approval", None),
            ("look", "succeeded", "three left"),
            ("send", "awaiting_approval", None),
        ]
        assert chat.pending_approvals == (pay, send)

        second, third = await elsewhere(engine, llm, chat, shop), await elsewhere(engine, llm, chat, shop)
        assert second.pending_approvals == (pay, send)
        approved = await second.approve(pay.call_id, by="ada")
        denied = await third.deny(send.call_id, NEVER, by="bea")
        assert (approved.status, denied.status, denied.result, denied.is_error) == ("pending", "denied", NEVER, True)
        assert [*second.pending_approvals, *third.pending_approvals] == [send, pay]
        assert (len(server.requests), shop.ran) == (1, ["look stock"])

        last = await elsewhere(engine, llm, chat, shop)
        assert last.pending_approvals == ()
        resumed = await last.resume()

    assert (resumed.content, resumed.finish_reason, resumed.turn_id) == ("Paid, not sent.", "stop", reply.turn_id)
    assert called(resumed) == [
        ("pay", "succeeded", "paid 250"),
        ("look", "succeeded", "three left"),
        ("send", "denied", NEVER),
    ]
    assert (shop.ran, shop.approvers) == (["look stock", "pay 250"], ["ada"])
    rows = await stored(engine, chat.id)
    rows.check()
    check_history(last.messages)
    assert [m.tool_results[0].content for m in last.messages if m.role == "tool"] == ["paid 250", "three left", NEVER]
    assert [(row.decided_by, row.decided_at is not None) for row in rows.calls] == [
        ("ada", True),
        (None, False),
        ("bea", True),
    ]
    assert [row.approved_sha256 is not None for row in rows.calls] == [True, False, False]
    assert look.call_id == rows.calls[1].call_id


@one_database
@pytest.mark.parametrize("speaker", [Speaker(api) for api in ALL_APIS], ids=str)
async def test_every_wire_format_takes_the_results_together(engine: AsyncEngine, speaker: Speaker, shop: Shop) -> None:
    """After the decisions each provider gets one request in which every call is answered, in the order of the calls."""
    script = (Says(text="A moment.", calls=[PAY, LOOK, SEND]), Says(text="Done."), Says(text="You are welcome."))
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        await chat.ask("Pay and send it")
        pay, send = chat.pending_approvals
        await chat.deny(send.call_id, NEVER)
        await chat.approve(pay.call_id)
        reply = await (await elsewhere(engine, llm, chat, shop)).resume()
        assert (reply.content, len(server.requests)) == ("Done.", 2)
        assert (await chat.ask("Thanks")).content == "You are welcome."
        for request in server.requests:
            check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
        sent = server.requests[1].body.decode()
        places = [sent.index(text) for text in ("paid 250", "three left", NEVER)]
        assert places == sorted(places)


@one_database
async def test_a_stream_ends_with_what_waits(engine: AsyncEngine, shop: Shop) -> None:
    """A streamed turn is suspended like any other, tells of the calls, and is carried on after the decisions."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(text="Paid.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        async with chat.stream("Pay") as stream:
            chunks = [chunk async for chunk in stream]
        assert [chunk.tool_call.status for chunk in chunks if chunk.tool_call] == ["awaiting_approval"]
        assert chunks[-1].finish_reason == "approval"
        assert (await stream.reply()).tool_calls == chat.pending_approvals
        await chat.approve(chat.pending_approvals[0].call_id)
        assert (await chat.resume()).content == "Paid."
    assert shop.ran == ["pay 250"]


@one_database
async def test_a_bare_stream_can_be_decided_on_at_its_last_chunk(engine: AsyncEngine, shop: Shop) -> None:
    """Whoever reads that the turn is suspended can decide at once, without leaving the loop first."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(text="Paid.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        async for chunk in chat.stream("Pay"):
            if chunk.finish_reason == "approval":
                await chat.approve(chat.pending_approvals[0].call_id)
        assert (await chat.resume()).content == "Paid."


async def test_a_chat_in_memory_is_approved_alike(shop: Shop) -> None:
    """Without a database calls wait, are decided on and run as with one."""
    script = (Says(calls=[PAY, SEND]), Says(text="Paid."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = llm.chat(tools=shop.tools)
        assert (await chat.ask("Pay")).finish_reason == "approval"
        pay, send = chat.pending_approvals
        await chat.approve(pay.call_id, by="ada")
        with pytest.raises(ChatError, match="was approved by ada"):
            await chat.deny(pay.call_id, NEVER)
        assert (await chat.resume()).finish_reason == "approval"
        assert (await chat.resume()).finish_reason == "approval"
        await chat.deny(send.call_id, NEVER)
        assert called(await chat.resume()) == [("pay", "succeeded", "paid 250"), ("send", "denied", NEVER)]
    assert (shop.ran, shop.approvers, len(server.requests)) == (["pay 250"], ["ada"], 2)


async def test_a_decision_is_made_with_the_request_s_own_session(engine: AsyncEngine, shop: Shop) -> None:
    """Given a session, its pending work is committed first, and the decision is a transaction of its own."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(text="Paid.")) as server, SPEAKER.llm(server) as llm:
        chat_id = (chat := await create_chat(engine, llm, tools=shop.tools)).id
        (call,) = (await chat.ask("Pay")).tool_calls
        async with AsyncSession(engine) as session:
            chat = await load_chat(session, llm, chat_id, tools=shop.tools)
            await chat.approve(call.call_id, by="ada")
        async with AsyncSession(engine) as session:
            assert await session.scalar(select(ToolCallRecord.decided_by)) == "ada"
        assert (await (await elsewhere(engine, llm, chat, shop)).resume()).content == "Paid."


@one_database
@pytest.mark.parametrize("durability", ["step", "turn"])
async def test_an_approved_call_does_not_run_again_when_its_worker_is_gone(
    engine: AsyncEngine, durability: Durability
) -> None:
    """Its row says that it runs before it does, however seldom the chat is written: the next worker reports it."""
    ran: list[str] = []

    @tool(requires_approval=True)
    async def pay(cents: int) -> str:
        """Pay an amount."""
        ran.append(f"pay {cents}")
        if len(ran) == 1:
            async with engine.begin() as connection:
                await connection.execute(update(ChatRecord).values(lease_until=datetime(2001, 1, 1, tzinfo=UTC)))
            other = await load_chat(engine, llm, chat.id, tools=[pay])
            assert (await other.resume()).content == "I do not know."
        return f"paid {cents}"

    # Who writes at the end only asks once more before he notices that he has lost the chat.
    script = (Says(calls=[PAY]), Says(text="I do not know."), Says(text="Paid."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[pay], durability=durability)
        await chat.ask("Pay.")
        await chat.approve(chat.pending_approvals[0].call_id)
        with pytest.raises(StaleChatError):
            await chat.resume()

    assert ran == ["pay 250"]
    rows = await stored(engine, chat.id)
    assert [call.status for call in rows.calls] == ["unknown"]


@one_database
async def test_an_encrypted_chat_is_approved_alike(engine: AsyncEngine, shop: Shop) -> None:
    """With encrypted rows the digest is of the plain arguments, and the reason of a denial is encrypted too."""
    encryption = Encryption(keys={"k": bytes(32)})
    async with SPEAKER.server(Says(calls=[PAY, SEND]), Says(text="Paid.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools, encryption=encryption)
        await chat.ask("Pay")
        chat = await load_chat(engine, llm, chat.id, tools=shop.tools, encryption=encryption)
        pay, send = chat.pending_approvals
        await chat.approve(pay.call_id, by="ada")
        await chat.deny(send.call_id, NEVER)
        async with engine.connect() as connection:
            raw = (await connection.exec_driver_sql("SELECT result FROM llm_tool_calls ORDER BY position")).all()
            assert raw[0][0] is None
            assert NEVER not in raw[1][0]
        chat = await load_chat(engine, llm, chat.id, tools=shop.tools, encryption=encryption)
        assert called(await chat.resume()) == [("pay", "succeeded", "paid 250"), ("send", "denied", NEVER)]


# ── nothing runs without a decision ───────────────────────────────────────────────────────────────────────────────────


async def test_without_a_new_decision_nothing_is_sent_run_or_written(engine: AsyncEngine, shop: Shop) -> None:
    """Resuming again and again gives the suspended reply from the rows, and leaves every row as it is."""
    async with SPEAKER.server(Says(calls=[PAY, LOOK])) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        first = await chat.ask("Pay")
        before = (await stored(engine, chat.id)).values()
        for resuming in (chat, await elsewhere(engine, llm, chat, shop), chat):
            assert await resuming.resume() == first
        assert (await stored(engine, chat.id)).values() == before
    assert (len(server.requests), shop.ran) == (1, ["look stock"])


async def test_decisions_one_after_the_other_run_one_after_the_other(engine: AsyncEngine, shop: Shop) -> None:
    """What is approved runs, and is recorded, while the rest of the round goes on waiting; the model is asked once."""
    async with SPEAKER.server(Says(calls=[PAY, SEND]), Says(text="Done.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        pay, send = (await chat.ask("Pay and send")).tool_calls
        await chat.approve(send.call_id)
        halfway = await (await elsewhere(engine, llm, chat, shop)).resume()
        assert (halfway.finish_reason, shop.ran) == ("approval", ["send ann"])
        assert called(halfway) == [("pay", "awaiting_approval", None), ("send", "succeeded", "sent to ann")]
        assert (await (await elsewhere(engine, llm, chat, shop)).resume()) == halfway
        rows = await stored(engine, chat.id)
        assert [(row.role, row.position) for row in rows.messages] == [("user", 0), ("assistant", 1)]
        assert [turn.status for turn in rows.turns] == ["suspended"]

        await chat.approve(pay.call_id)
        assert (await chat.resume()).content == "Done."
    assert (shop.ran, len(server.requests)) == (["send ann", "pay 250"], 2)
    results = [message.tool_results[0].content for message in chat.messages if message.role == "tool"]
    assert results == ["paid 250", "sent to ann"]


@one_database
async def test_a_tool_that_needs_approval_by_now_does_not_run_without(engine: AsyncEngine, shop: Shop) -> None:
    """A call that was left over before its tool needed approval is refused, and the model may ask for it again."""

    @tool(name="pay")
    async def free(cents: int) -> str:
        """Pay an amount."""
        shop.ran.append(f"free {cents}")
        return "paid"

    script = (Says(calls=[PAY]), Says(text="I shall ask."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[free])
        assert (await chat.ask("Pay", max_tool_rounds=0)).finish_reason == "tool_limit"
        reply = await (await elsewhere(engine, llm, chat, shop)).resume(max_tool_rounds=3)
    assert (reply.content, shop.ran) == ("I shall ask.", [])
    assert reply.tool_calls[0].status == "failed"
    assert "needs the approval of a person" in str(reply.tool_calls[0].result)


# ── bound to the arguments ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Edit:
    """What somebody changes by hand between the approval and the run."""

    row: bool
    message: bool
    old: str = '{"cents":250}'
    new: str = '{"cents":99999}'

    async def make(self, engine: AsyncEngine, chat_id: UUID) -> None:
        """Change it."""
        async with AsyncSession(engine) as session, session.begin():
            call = (await session.scalars(select(ToolCallRecord).where(ToolCallRecord.chat_id == chat_id))).one()
            said = select(MessageRecord).where(MessageRecord.chat_id == chat_id, MessageRecord.role == "assistant")
            message = (await session.scalars(said)).one()
            quoted = [text.replace('"', '\\"') for text in (self.old, self.new)]
            if self.row:
                call.name, call.arguments = (text.replace(self.old, self.new) for text in (call.name, call.arguments))
            if self.message:
                message.parts = message.parts.replace(quoted[0], quoted[1])

    @property
    def id(self) -> str:
        """For the names of tests."""
        return " and ".join(name for name in ("row", "message") if getattr(self, name)) + f" to {self.new}"


ARGUMENTS: Final = [Edit(row=row, message=message) for row, message in ((True, False), (False, True), (True, True))]
EDITS: Final = [
    *ARGUMENTS,
    Edit(row=True, message=True, new='{"cents": 250}'),
    Edit(row=True, message=True, old="pay", new="spend"),
]


@pytest.mark.fault("E21")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.id)
async def test_what_was_changed_after_its_approval_does_not_run(
    engine: AsyncEngine, shop: Shop, edit: Edit, caplog: pytest.LogCaptureFixture
) -> None:
    """Arguments or name edited between approval and resume: nothing runs; log, row and model say why."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(text="I see.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        (call,) = (await chat.ask("Pay")).tool_calls
        await chat.approve(call.call_id, by="ada")
        await edit.make(engine, chat.id)
        with caplog.at_level(logging.WARNING, "nodellm_orm"):
            reply = await (await elsewhere(engine, llm, chat, shop)).resume()

        assert (reply.content, reply.finish_reason, shop.ran) == ("I see.", "stop", [])
        assert "no longer the call that was approved" in server.requests[1].body.decode()
        assert f"call {call.call_id}" in caplog.text
        assert "changed after it was approved" in caplog.text
        (row,) = (await stored(engine, chat.id)).calls
        assert (row.status, row.attempts, row.decided_by) == ("failed", 0, "ada")
        assert "changed after it was approved" in str(row.error)


@one_database
@pytest.mark.fault("E21")
async def test_what_was_changed_is_recorded_while_others_wait(engine: AsyncEngine, shop: Shop) -> None:
    """A changed call has failed in the rows at once, while another one goes on waiting; it is not tried again."""
    async with SPEAKER.server(Says(calls=[PAY, SEND]), Says(text="Sent.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        pay, send = (await chat.ask("Pay")).tool_calls
        await chat.approve(pay.call_id)
        async with AsyncSession(engine) as session, session.begin():
            changed = update(ToolCallRecord).where(ToolCallRecord.call_id == pay.call_id)
            await session.execute(changed.values(arguments='{"cents":99999}'))
        errors: list[str] = []
        resuming = (await elsewhere(engine, llm, chat, shop)).on_tool_call_error(lambda _, error: errors.append(error))
        first = await resuming.resume()
        assert (first.finish_reason, [call.status for call in first.tool_calls]) == (
            "approval",
            ["failed", "awaiting_approval"],
        )
        assert len(errors) == 1
        before = (await stored(engine, chat.id)).values()
        assert (await resuming.resume()).finish_reason == "approval"
        assert (await stored(engine, chat.id)).values() == before
        await chat.approve(send.call_id)
        assert (await chat.resume()).content == "Sent."
    assert shop.ran == ["send ann"]


@one_database
@pytest.mark.fault("E21")
@pytest.mark.parametrize("row", [True, False])
async def test_what_does_not_agree_with_itself_cannot_be_approved(engine: AsyncEngine, shop: Shop, row: bool) -> None:  # noqa: FBT001 — a parameter of the test
    """Row and message that tell different arguments: nobody knows what he would approve, so he can only deny."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(text="I see.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        (call,) = (await chat.ask("Pay")).tool_calls
        await Edit(row=row, message=not row).make(engine, chat.id)
        with pytest.raises(ChatError, match=r"no longer say the same.*deny\(\) it"):
            await chat.approve(call.call_id)
        await chat.deny(call.call_id, NEVER)
        assert called(await chat.resume()) == [("pay", "denied", NEVER)]
    assert shop.ran == []


# ── who may decide, and on what ───────────────────────────────────────────────────────────────────────────────────────


@one_database
async def test_another_owner_s_chat_is_not_found(engine: AsyncEngine, shop: Shop) -> None:
    """A chat cannot be decided on by whoever cannot load it; a call of another chat is none of this one."""
    async with SPEAKER.server(Says(calls=[PAY]), Says(calls=[PAY])) as server, SPEAKER.llm(server) as llm:
        hers = await create_chat(engine, llm, tools=shop.tools, owner="ada")
        his = await create_chat(engine, llm, tools=shop.tools, owner="bob")
        await hers.ask("Pay")
        with pytest.raises(ChatNotFoundError):
            await load_chat(engine, llm, hers.id, owner="bob")
        with pytest.raises(ChatNotFoundError, match="no call of it waits"):
            await his.approve(hers.pending_approvals[0].call_id)
        assert hers.pending_approvals[0].status == "awaiting_approval"


@one_database
async def test_mistakes_are_told_in_our_words(engine: AsyncEngine, shop: Shop) -> None:
    """An unknown call, a decision that was made, and arguments that cannot be meant say what to do."""
    async with SPEAKER.server(Says(calls=[PAY, LOOK])) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        with pytest.raises(ChatNotFoundError, match="has no call 'none'; no call of it waits"):
            await chat.approve("none")
        pay, look = (await chat.ask("Pay")).tool_calls
        with pytest.raises(ChatNotFoundError, match=rf"these wait for a decision: {pay.call_id} \(pay\)"):
            await chat.approve("none")
        with pytest.raises(ChatError, match=r"does not wait for a decision \(it is succeeded\)"):
            await chat.deny(look.call_id, NEVER)
        for wrong in (
            chat.approve("x" * 256),
            chat.approve(""),
            chat.approve(None),  # type: ignore[arg-type]  # a mistake
            chat.approve(7),  # type: ignore[arg-type]  # a mistake
            chat.approve(pay.call_id, by="x" * 256),
            chat.approve(pay.call_id, by=""),
            chat.deny(pay.call_id, ""),
            chat.deny(pay.call_id, None),  # type: ignore[arg-type]  # a mistake
        ):
            with pytest.raises(ConfigurationError):
                await wrong
        assert chat.pending_approvals == (pay,)
        assert [row.decided_at for row in (await stored(engine, chat.id)).calls] == [None, None]


async def test_while_a_worker_resumes_the_chat_is_busy(engine: AsyncEngine, shop: Shop) -> None:
    """What is undecided stays so while an approved call runs; afterwards it is decided on as before."""
    running, done = asyncio.Event(), asyncio.Event()

    @tool(name="send", requires_approval=True)
    async def slow(to: str) -> str:
        """Send a parcel."""
        running.set()
        await done.wait()
        return f"sent to {to}"

    async with SPEAKER.server(Says(calls=[SEND, PAY]), Says(text="Done.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[slow, *shop.tools[::2]])
        send, pay = (await chat.ask("Pay and send")).tool_calls
        await chat.approve(send.call_id)
        other = await elsewhere(engine, llm, chat, shop)
        resuming = asyncio.create_task(chat.resume())
        await running.wait()
        for deciding in (chat, other):
            with pytest.raises(ChatBusyError):
                await deciding.approve(pay.call_id, by="too soon")
        assert (await other.approve(send.call_id)).status == "running"
        done.set()
        assert (await resuming).finish_reason == "approval"
        await other.approve(pay.call_id, by="ada")
        assert (await other.resume()).content == "Done."
    assert (shop.ran, shop.approvers) == (["pay 250"], ["ada"])


async def test_opposite_decisions_at_once_leave_one(engine: AsyncEngine, shop: Shop) -> None:
    """Approved and denied by many at the same time: one decision is made, and what follows is what it says."""
    script = [line for _ in range(4) for line in (Says(calls=[PAY]), Says(text="Done."))]
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        for _ in range(4):
            chat = await create_chat(engine, llm, tools=shop.tools)
            (call,) = (await chat.ask("Pay")).tool_calls
            chats = [await elsewhere(engine, llm, chat, shop) for _ in range(6)]
            outcomes = await asyncio.gather(
                *(deciding.approve(call.call_id, by=f"yes {n}") for n, deciding in enumerate(chats[::2])),
                *(deciding.deny(call.call_id, NEVER, by=f"no {n}") for n, deciding in enumerate(chats[1::2])),
                return_exceptions=True,
            )
            (row,) = (await stored(engine, chat.id)).calls
            word = "yes" if row.approved_sha256 is not None else "no"
            assert str(row.decided_by).startswith(word)
            failed = outcomes[3:] if word == "yes" else outcomes[:3]
            assert [type(outcome) for outcome in failed] == [ChatError] * 3
            assert {str(outcome).partition("; ")[0].count(f"by {row.decided_by} at") for outcome in failed} == {1}
            shop.ran.clear()
            assert (await chat.resume()).content == "Done."
            assert shop.ran == (["pay 250"] if word == "yes" else [])


# ── asking on instead ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("approved", "denied"), list(product((True, False), repeat=2)))
async def test_asking_on_is_refused_until_it_is_said_aloud(
    engine: AsyncEngine,
    shop: Shop,
    approved: bool,  # noqa: FBT001 — a parameter of the test
    denied: bool,  # noqa: FBT001 — a parameter of the test
) -> None:
    """Calls that wait, or are decided on and did not run, are named; with ``abandon_pending`` they are closed unrun."""
    async with SPEAKER.server(Says(calls=[PAY, SEND]), Says(text="Very well.")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        pay, send = (await chat.ask("Pay and send")).tool_calls
        if approved:
            await chat.approve(pay.call_id, by="ada")
        if denied:
            await chat.deny(send.call_id, NEVER, by="bea")
        asking = await elsewhere(engine, llm, chat, shop)
        waiting = [call for call, decided in ((pay, approved), (send, denied)) if not decided] or [pay, send]
        with pytest.raises(ChatBusyError) as caught:
            await asking.ask("Never mind")
        assert ", ".join(f"{call.call_id} ({call.name})" for call in waiting) in str(caught.value)
        assert "abandon_pending=True" in str(caught.value)
        assert len(server.requests) == 1

        assert (await asking.ask("Never mind", abandon_pending=True)).content == "Very well."
        check(server.requests[1].json(), SPEAKER.api)
    assert shop.ran == []
    rows = await stored(engine, chat.id)
    rows.check()
    assert [(row.status, row.decided_by) for row in rows.calls] == [
        ("skipped", "ada" if approved else None),
        ("denied", "bea") if denied else ("skipped", None),
    ]
    assert (NEVER in server.requests[1].body.decode()) == denied
    check_history(asking.messages)


async def test_an_object_that_lies_behind_asks_on(engine: AsyncEngine, shop: Shop) -> None:
    """A chat that others have decided on and carried on is not refused a question because of what it remembers."""
    script = (Says(calls=[PAY]), Says(text="Paid."), Says(text="You are welcome."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        (call,) = (await chat.ask("Pay")).tool_calls
        other = await elsewhere(engine, llm, chat, shop)
        await other.approve(call.call_id)
        await other.resume()
        assert list(chat.pending_approvals) == [call]
        assert (await chat.ask("Thanks")).content == "You are welcome."
        assert list(chat.pending_approvals) == []
        assert (await chat.approve(call.call_id, by="late")).status == "succeeded"


async def test_deciding_is_one_short_transaction(engine: AsyncEngine, shop: Shop) -> None:
    """A decision changes the row of its call and the chat's, and adds nothing anywhere."""
    async with SPEAKER.server(Says(calls=[PAY] * 2)) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=shop.tools)
        calls: Sequence[Any] = (await chat.ask("Pay")).tool_calls
        before = await stored(engine, chat.id)
        await chat.approve(calls[-1].call_id, by="ada")
        after = await stored(engine, chat.id)
        assert len(server.requests) == 1
    changed = {
        name
        for old, new in zip(before.values(), after.values(), strict=True)
        for name, value in new.items()
        if old[name] != value
    }
    assert changed == {"status", "decided_by", "decided_at", "approved_sha256", "fence", "step", "updated_at"} - (
        {"step"} if before.chat.step == after.chat.step else set()
    )
    assert (after.chat.active_turn_id, after.chat.lease_owner, after.chat.lease_until) == (None, None, None)
    async with AsyncSession(engine) as session:
        decided = select(func.count()).where(ToolCallRecord.decided_at.is_not(None))
        assert await session.scalar(decided) == 1
