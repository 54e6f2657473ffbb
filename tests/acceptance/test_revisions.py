"""A new answer in place and a question in other words: what is shown, sent, stored, counted and carried on."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import (
    BadRequestError,
    ChatBusyError,
    ChatError,
    ConfigurationError,
    IdempotencyError,
    Message,
    tool,
    verify,
)
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.speakers import EVERYWHERE, Fails, Says, Speaker
from tests.acceptance.talks import Talk, calls, double, said, words
from tests.acceptance.test_counts import Counted
from tests.acceptance.validity import check_history, stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

# ── regenerate ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_answer_takes_the_old_ones_place(anywhere: AsyncEngine | None) -> None:
    """The question is asked again as it is, the old answer is out of the conversation, and both were paid for."""
    heard: list[Message] = []
    async with Talk(anywhere, *(Says(text=text) for text in ("A1", "old", "new", "A3"))) as talk:
        chat = (await talk.chat(instructions="Be brief.")).on_new_message(heard.append)
        first, old = await chat.ask("Q1"), await chat.ask("Q2")

        new = await chat.regenerate(max_tokens=77)

        assert (new.content, new.turn_id != old.turn_id) == ("new", True)
        assert heard[1] == heard[2]
        assert talk.last["max_completion_tokens"] == 77
        assert words(talk.last) == ["Be brief.", "Q1", "A1", "Q2"]
        conversation = [("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "new")]
        assert said(chat.messages) == said(await chat.history()) == conversation
        assert [message.position for message in chat.messages] == [0, 1, 2, 4]
        spent = await chat.usage()
        assert (spent.requests, spent.output_tokens) == (3, 21)
        costs = [reply.cost or Decimal(0) for reply in (first, old, new)]
        assert spent.cost == sum(costs) > 2 * max(costs)
        assert (await chat.resume()).content == "new"
        await chat.ask("Q3")
        assert words(talk.last) == ["Be brief.", "Q1", "A1", "Q2", "new", "Q3"]
        assert words(loads(chat.render().body.decode())) == [*words(talk.last), "A3"]


async def test_rows_of_a_superseded_answer(engine: AsyncEngine) -> None:
    """All of the old answer stays, its calls and results too, dated; the new turn has no question of its own."""
    script = [Says(calls=calls(1, 2)), Says(text="2 and 4"), Says(calls=calls(3)), Says(text="6")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[double])
        old = await chat.ask("go")
        new = await chat.regenerate()
        rows = await stored(engine, chat.id)
        rows.check()
        assert [row.superseded_at is None for row in rows.messages] == [True] + [False] * 4 + [True] * 3
        assert [row.turn_id for row in rows.messages] == [old.turn_id] * 5 + [new.turn_id] * 3
        assert [(turn.status, turn.position) for turn in rows.turns] == [("completed", 0), ("completed", 1)]
        assert len(rows.requests) == 4
        assert {call.status for call in rows.calls} == {"succeeded"}
        assert await (await talk.elsewhere(chat)).history() == chat.messages
        assert (await talk.elsewhere(chat)).messages == chat.messages


async def test_answers_are_replaced_again_and_again(anywhere: AsyncEngine | None) -> None:
    """Each new answer takes the place of the one before; positions go on without a gap."""
    async with Talk(anywhere, *(Says(text=f"A{n}") for n in range(5))) as talk:
        chat = await talk.chat()
        await chat.ask("Q")
        for number in range(1, 5):
            await chat.regenerate()
            assert said(chat.messages) == [("user", "Q"), ("assistant", f"A{number}")]
        assert [message.position for message in chat.messages] == [0, 5]


async def test_a_question_without_an_answer_is_answered(anywhere: AsyncEngine | None) -> None:
    """A question that was added, or whose turn failed, is asked as it stands; without any there is nothing to do."""
    async with Talk(anywhere, Fails(status=400), Says(text="A1"), Says(text="A2")) as talk:
        chat = await talk.chat()
        with pytest.raises(ChatError, match="no question"):
            await chat.regenerate()
        with pytest.raises(BadRequestError, match="something is wrong"):
            await chat.ask("Q1")
        assert (await chat.regenerate()).content == "A1"
        await chat.add_message("user", "Q2")
        assert (await chat.regenerate()).content == "A2"
        assert said(chat.messages) == [("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]


async def test_a_new_answer_that_fails_leaves_the_question(anywhere: AsyncEngine | None) -> None:
    """The old answer is superseded as the turn begins; when the model then fails, resume() asks again."""
    async with Talk(anywhere, Says(text="old"), Fails(status=400), Says(text="resumed")) as talk:
        chat = await talk.chat()
        await chat.ask("Q")
        with pytest.raises(BadRequestError):
            await chat.regenerate()
        assert said(chat.messages) == [("user", "Q")]
        assert (await chat.resume()).content == "resumed"
        assert said(chat.messages) == [("user", "Q"), ("assistant", "resumed")]


async def test_an_answer_from_elsewhere_closes_a_turn_that_failed(anywhere: AsyncEngine | None) -> None:
    """Behind an assistant's message that was added nobody is asked: resume() says so, and a new answer replaces it."""
    async with Talk(anywhere, Fails(status=400), Says(text="A1"), Fails(status=400), Says(text="A2")) as talk:
        chat = await talk.chat()
        with pytest.raises(BadRequestError):
            await chat.ask("Q1")
        await chat.add_message("assistant", "by hand")
        with pytest.raises(ChatError, match="nothing is left to answer"):
            await chat.resume()
        assert len(talk.server.requests) == 1
        assert (await chat.regenerate()).content == "A1"
        with pytest.raises(BadRequestError):
            await chat.ask("Q2")
        await chat.add_message("user", "Q2b")
        assert (await chat.resume()).content == "A2"
        assert words(talk.last) == ["Q1", "A1", "Q2", "Q2b"]


@pytest.mark.parametrize("options", [{"files": b"x"}, {"model": "gpt-5"}, {"provider": "x"}, {"temperatur": 1}])
async def test_options_that_cannot_be_meant(anywhere: AsyncEngine | None, options: dict[str, Any]) -> None:
    """They are refused before anything is superseded."""
    async with Talk(anywhere, Says(text="A")) as talk:
        chat = await talk.chat()
        await chat.ask("Q")
        with pytest.raises(ConfigurationError):
            await chat.regenerate(**options)
        assert said(await chat.history()) == [("user", "Q"), ("assistant", "A")]


# ── edit ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("as_message", [True, False])
async def test_a_question_is_asked_in_other_words(anywhere: AsyncEngine | None, as_message: bool) -> None:  # noqa: FBT001
    """The question and everything after it are out of the conversation, and the new one is asked in their place."""
    async with Talk(anywhere, *(Says(text=f"A{n}") for n in range(5))) as talk:
        chat = await talk.chat(instructions="Be brief.")
        for number in range(3):
            await chat.ask(f"Q{number}")
        edited = await chat.edit(chat.messages[2] if as_message else 2, "Q1 in other words")
        assert edited.content == "A3"
        assert words(talk.last) == ["Be brief.", "Q0", "A0", "Q1 in other words"]
        assert [message.position for message in chat.messages] == [0, 1, 6, 7]
        await chat.edit(chat.messages[0], ["Q0", " in other words"])
        assert words(talk.last)[0] == "Be brief."
        assert len(talk.last["messages"]) == 2
        assert (await chat.usage()).requests == 5
        if anywhere is not None:
            (await stored(anywhere, chat.id)).check()


async def test_only_questions_of_this_chat_are_edited(anywhere: AsyncEngine | None) -> None:
    """Answers, superseded messages, positions that there are not and messages of other chats are refused."""
    async with Talk(anywhere, *(Says(text=f"A{n}") for n in range(3))) as talk:
        chat, other = await talk.chat(), await talk.chat(messages=[{"role": "user", "content": "elsewhere"}])
        await chat.ask("Q0")
        gone = chat.messages[0]
        await chat.edit(gone, "Q1")
        for wrong in (chat.messages[1], gone, 0, 3, 9, -1, other.messages[0]):
            with pytest.raises(ConfigurationError, match="positions are: 2"):
                await chat.edit(wrong, "x")
        for nothing in ("0", None, True, 1.0):
            with pytest.raises(ConfigurationError, match="Message of this chat or its position"):
                await chat.edit(nothing, "x")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ConfigurationError, match="empty"):
            await chat.edit(2, " ")
        assert said(chat.messages) == [("user", "Q1"), ("assistant", "A1")]


async def test_files_and_forms_go_with_an_edit(anywhere: AsyncEngine | None) -> None:
    """An edited question takes the options of ask()."""
    async with Talk(anywhere, Says(text="A"), Says(text='{"x": 4}')) as talk:
        chat = await talk.chat()
        await chat.ask("Q")
        reply = await chat.edit(0, "Q1", files=b"\x89PNG\r\n\x1a\n", schema={"type": "object", "title": "X"})
        assert reply.parsed == {"x": 4}
        assert "image_url" in str(talk.last["messages"])


# ── several processes ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_object_that_lies_behind_notices(engine: AsyncEngine) -> None:
    """What another process has superseded is not sent; what it has asked can be edited and answered anew."""
    async with Talk(engine, *(Says(text=f"A{n}") for n in range(6))) as talk:
        chat = await talk.chat()
        await chat.ask("Q0")
        other = await talk.elsewhere(chat)
        await other.regenerate()
        await chat.ask("Q1")
        assert words(talk.last) == ["Q0", "A1", "Q1"]
        await other.regenerate()
        assert words(talk.last) == ["Q0", "A1", "Q1"]
        await chat.ask("Q2")
        await other.edit(6, "Q2 again")
        assert words(talk.last) == ["Q0", "A1", "Q1", "A3", "Q2 again"]
        await chat.resume()
        assert said(chat.messages) == said(other.messages)
        (await stored(engine, chat.id)).check()


async def test_only_one_turn_at_a_time(engine: AsyncEngine) -> None:
    """While a question is being answered, nothing is regenerated or edited; afterwards it is."""
    running, go_on = asyncio.Event(), asyncio.Event()

    @tool
    async def wait_for(x: int) -> int:
        """Wait."""
        running.set()
        await go_on.wait()
        return x

    script = [Says(calls=[FakeCall("wait_for", {"x": 1}, "w")]), Says(text="A"), Says(text="new")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[wait_for])
        asking = asyncio.create_task(chat.ask("Q"))
        await running.wait()
        other = await talk.elsewhere(chat)
        for attempted in (chat.regenerate(), chat.edit(0, "x"), other.regenerate(), other.edit(0, "x")):
            with pytest.raises(ChatBusyError):
                await attempted
        waiting = asyncio.create_task(other.regenerate(wait=60))
        go_on.set()
        assert [(await asking).content, (await waiting).content] == ["A", "new"]
        (await stored(engine, chat.id)).check()


async def test_call_ids_of_superseded_answers_stay_taken(engine: AsyncEngine) -> None:
    """A provider that numbers the calls of each answer does so again: the new call gets an id of its own."""
    script = [Says(calls=calls(1)), Says(text="2"), Says(calls=calls(1)), Says(text="again 2")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[double])
        await chat.ask("go")
        other = await talk.elsewhere(chat, tools=[double])
        assert (await other.regenerate()).content == "again 2"
        rows = await stored(engine, chat.id)
        assert len({call.call_id for call in rows.calls}) == 2
        rows.check()


# ── repeated and broken off ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_repeated_revision_gives_its_reply(anywhere: AsyncEngine | None) -> None:
    """The same key gives the stored reply, superseded or not; a key is good for one kind of request only."""
    async with Talk(anywhere, *(Says(text=f"A{n}") for n in range(5))) as talk:
        chat = await talk.chat()
        first = await chat.ask("Q", idempotency_key="ask")
        new = await chat.regenerate(idempotency_key="again")
        assert (await chat.regenerate(idempotency_key="again")).turn_id == new.turn_id
        edited = await chat.edit(0, "Q1", idempotency_key="edit")
        assert await chat.edit(0, "Q1", idempotency_key="edit") == edited
        assert len(talk.server.requests) == 3
        for key, reply in (("ask", first), ("again", new)):
            asked = chat.ask("Q", idempotency_key=key) if key == "ask" else chat.regenerate(idempotency_key=key)
            repeated = await asked
            assert (repeated.content, repeated.turn_id, repeated.cost) == (reply.content, reply.turn_id, reply.cost)
        for wrong in (
            chat.regenerate(idempotency_key="ask"),
            chat.ask("Q1", idempotency_key="edit"),
            chat.edit(0, "Q2", idempotency_key="edit"),
            chat.edit(3, "Q1", idempotency_key="edit"),
        ):
            with pytest.raises(IdempotencyError):
                await wrong
        assert len(talk.server.requests) == 3


async def test_a_turn_left_open_is_closed_as_its_place_is_taken(engine: AsyncEngine) -> None:
    """Open calls of a suspended turn get their results and are superseded with it: no request ever shows them."""
    script = [Says(calls=calls(1, 2)), Says(text="new"), Says(calls=calls(3)), Says(text="edited")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[double], max_tool_rounds=0)
        await chat.ask("Q")
        assert (await chat.regenerate()).content == "new"
        assert words(talk.last) == ["Q"]
        await chat.ask("Q2")
        assert (await chat.edit(chat.messages[-2], "Q3")).content == "edited"
        assert words(talk.last) == ["Q", "new", "Q3"]
        rows = await stored(engine, chat.id)
        assert {(call.status, call.result_message_id is not None) for call in rows.calls} == {("skipped", True)}
        assert [m.position for m in rows.messages] == list(range(rows.chat.next_position))
        check_history(chat.messages)


async def test_what_is_stored_agrees_with_itself(engine: AsyncEngine) -> None:
    """After new answers, edits and branches, in chats with open calls and files too, the integrity report is empty."""
    answers = [Says(calls=calls(1, 2)), Says(text="a"), Says(calls=calls(1, 2)), Says(text="b"), Says(calls=calls(3))]
    script = [*answers, Says(text="edited"), Says(calls=calls(4)), Says(text="new"), Says(text="on")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[double])
        await chat.ask("Q")
        await chat.regenerate()
        await chat.ask("Q2", max_tool_rounds=0)
        branch = await chat.fork()
        await branch.fork(at=0)
        await chat.edit(0, "Q again")
        await chat.ask("Q3", max_tool_rounds=0)
        await chat.regenerate()
        await branch.ask("on", files=b"some text")
        await branch.fork()
        report = await verify(engine)
        assert (report.chats, report.findings, report.notes) == (4, (), ())


async def test_calls_that_wait_for_approval_are_not_dropped_silently(engine: AsyncEngine) -> None:
    """As with ask(), pending approvals have to be given up explicitly."""

    @tool(requires_approval=True)
    def pay(x: int) -> int:
        """Pay."""
        return x

    async with Talk(engine, Says(calls=[FakeCall("pay", {"x": 1}, "p")]), Says(text="new")) as talk:
        chat = await talk.chat(tools=[pay])
        assert (await chat.ask("Q")).finish_reason == "approval"
        for attempted in (chat.regenerate(), chat.edit(0, "Q1")):
            with pytest.raises(ChatBusyError):
                await attempted
        branch = await chat.fork()
        assert [message.role for message in branch.messages] == ["user", "assistant", "tool"]
        assert (await chat.regenerate(abandon_pending=True)).content == "new"


async def test_a_cancelled_new_answer_is_carried_on(engine: AsyncEngine) -> None:
    """A turn without a question of its own that was left is resumed by another object from its rows."""
    entered = asyncio.Event()

    @tool(idempotent=True)
    async def hang(x: int) -> int:
        """Hang the first time."""
        if not entered.is_set():
            entered.set()
            await asyncio.Event().wait()
        return x

    script = [Says(text="old"), Says(calls=[FakeCall("hang", {"x": 1}, "h")]), Says(text="new"), Says(text="on")]
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[hang])
        await chat.ask("Q")
        asking = asyncio.create_task(chat.regenerate())
        await entered.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        other = await talk.elsewhere(chat, tools=[hang])
        assert (await other.resume(wait=60)).content == "new"
        await chat.ask("Q2")
        roles = [message.role for message in chat.messages]
        assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
        check_history(chat.messages)
        (await stored(engine, chat.id)).check()


# ── the wire ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def conversation(speaker: Speaker, script: list[Says]) -> list[tuple[str, bytes]]:
    """The requests of a chat in which nothing was taken back."""
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = llm.chat(tools=[double], instructions="Be brief.")
        for question in ("Double 2", "Double 5", "done?"):
            await chat.ask(question)
        return [(request.path, request.body) for request in server.requests]


@pytest.mark.parametrize("speaker", EVERYWHERE, ids=str)
async def test_superseded_messages_are_as_if_they_had_never_been(speaker: Speaker) -> None:
    """What is sent after regenerate, edit and fork is byte for byte what a chat sends that never had the rest."""
    thought = [FakeThinking("hm", signature="c2ln")]
    first = [Says(calls=calls(2), thinking=thought), Says(text="four")]
    second = [Says(calls=calls(5), thinking=thought), Says(text="ten")]
    gone, other, end = [Says(text="so", calls=calls(1)), Says(text="two")], Says(text="said"), Says(text="end")
    wanted = await conversation(speaker, [*first, *second, end])

    async with speaker.server(*gone, *first, other, *second, end) as server, speaker.llm(server) as llm:
        chat = llm.chat(tools=[double], instructions="Be brief.")
        await chat.ask("Double 2")
        await chat.regenerate()
        await chat.ask("what?")
        await chat.edit(chat.messages[-2], "Double 5")
        branch = await chat.fork()
        await branch.ask("done?")
        made = [(request.path, request.body) for request in server.requests]
        assert [*made[2:4], *made[5:]] == wanted

    async with speaker.server(*first, other, *second, end) as server, speaker.llm(server) as llm:
        chat = llm.chat(tools=[double], instructions="Be brief.")
        await chat.ask("Double 2")
        await chat.ask("what?")
        branch = await chat.fork(at=chat.messages[-3])
        await branch.ask("Double 5")
        await branch.ask("done?")
        made = [(request.path, request.body) for request in server.requests]
        assert [*made[:2], *made[3:]] == wanted


async def test_a_revised_chat_sends_the_same_from_every_process(engine: AsyncEngine, speaker: Speaker) -> None:
    """Loaded from its rows, a revised chat and a branch of it send byte for byte what the objects at hand send."""
    script = [Says(calls=calls(1)), Says(text="2"), Says(calls=calls(3)), Says(text="6")]
    async with Talk(engine, *script, api=speaker.api) as talk:
        chat = await talk.chat(tools=[double], instructions="Be brief.")
        await chat.ask("go")
        await chat.regenerate()
        for each in (chat, await chat.fork()):
            loaded = await talk.elsewhere(each, tools=[double])
            assert loaded.render("on") == each.render("on") == chat.render("on")


async def test_a_window_is_filled_from_before_the_edited_question(engine: AsyncEngine) -> None:
    """What was not loaded, because the window did not reach it, moves into the window when what follows it is gone."""
    history = [{"role": ("user", "assistant")[n % 2], "content": f"{'QA'[n % 2]}{n // 2}"} for n in range(20)]
    async with Talk(engine, Says(text="new"), Says(text="edited")) as talk:
        chat = await talk.chat(messages=history, history_window=2)
        loaded = await talk.elsewhere(chat)
        await loaded.regenerate()
        assert words(talk.last) == ["Q8", "A8", "Q9"]
        loaded = await talk.elsewhere(chat)
        await loaded.edit(8, "Q4 again")
        assert words(talk.last) == ["Q3", "A3", "Q4 again"]
        branch = await (await talk.elsewhere(chat)).fork(at=3)
        assert words(loads(branch.render("on").body.decode())) == ["Q1", "A1", "on"]


async def test_a_revision_costs_one_statement_more_than_a_question(engine: AsyncEngine) -> None:
    """However much is superseded, that is one UPDATE in the transaction that begins the turn; nothing is read."""
    history = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(200)]
    async with Talk(engine, *(Says(text=text) for text in "ABCD")) as talk:
        chat = await talk.chat(messages=history)
        await chat.ask("the first turn stores what it refers to")
        counted = Counted(engine)
        await chat.ask("go")
        asked = counted.take()
        await chat.regenerate()
        again = counted.take()
        await chat.edit(0, "from the beginning")
        assert (asked["INSERT"], asked["COMMIT"]) == (4, 2)
        assert again == {**asked, "INSERT": asked["INSERT"] - 1, "UPDATE": asked["UPDATE"] + 1}
        assert counted.take() == {**asked, "UPDATE": asked["UPDATE"] + 1}
        assert len(chat.messages) == 2
