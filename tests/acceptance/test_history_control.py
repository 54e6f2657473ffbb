"""History control: windows of whole turns, summaries of what stays, pages, and chats that were left in the middle."""

from __future__ import annotations

import asyncio
import base64
import signal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    ChatBusyError,
    ChatError,
    ConfigurationError,
    FinishReason,
    Message,
    ProviderError,
    SummaryPart,
    Window,
    create_chat,
    load_chat,
    tool,
)
from nodellm_orm.testing import FakeCall, FakeThinking, LoopbackServer, Stall
from tests.acceptance.forks import PATIENCE
from tests.acceptance.speakers import EVERYWHERE, Fails, Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored
from tests.acceptance.victim import Death, Job
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, ModelRequest
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.speakers import Line

CHAT: Final = Speaker("openai_chat")
LEASE: Final = 1.0
INSTRUCTIONS: Final = "Be brief."


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


CALL: Final = FakeCall("double", {"x": 1}, "call_0")
"""A call whose id is the same each time, as small servers have it."""


def lines(*numbers: int) -> list[Says]:
    """Plain answers."""
    return [Says(text=f"answer {number}") for number in numbers]


def said(request: ReceivedRequest) -> list[str]:
    """What a request in Chat Completions holds, instructions left out."""
    body: Any = request.json()
    return [message["content"] for message in body["messages"] if message["role"] not in {"system", "developer"}]


async def asked(chat: Chat, *numbers: int) -> None:
    """Ask questions, one after the other."""
    for number in numbers:
        await chat.ask(f"question {number}")


def turns(*numbers: int) -> list[str]:
    """What was said in turns."""
    return [text for number in numbers for text in (f"question {number}", f"answer {number}")]


def working_turn(number: int) -> list[Says]:
    """A turn with a call and with thinking, where the provider thinks."""
    thinking = FakeThinking(f"hm {number}", base64.b64encode(b"signed %d" % number).decode())
    return [Says(calls=[CALL], thinking=[thinking], text=f"step {number}"), Says(text=f"answer {number}")]


# ── windows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_window_sends_the_last_whole_turns(engine: AsyncEngine) -> None:
    """The instructions and as many turns as the window has, the new question included; all of them stay in the rows."""
    async with CHAT.server(*lines(*range(5))) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions=INSTRUCTIONS, history_window=2)
        await asked(chat, *range(5))
        assert said(server.requests[0]) == ["question 0"]
        assert [said(request) for request in server.requests[1:]] == [
            [*turns(number), f"question {number + 1}"] for number in range(4)
        ]
        assert all(INSTRUCTIONS.encode() in request.body for request in server.requests)
        assert [message.content for message in await chat.history()] == turns(*range(5))


async def test_a_process_that_loaded_a_part_sends_the_same(engine: AsyncEngine) -> None:
    """The next request is byte for byte what a process sends that knows everything, for every kind of window."""
    windows = [Window(turns=3), Window(tokens=60), Window(turns=2, tokens=1000), Window(turns=9, tokens=30)]
    script = [*lines(*range(6)), *lines(6) * 2 * len(windows)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        first = await create_chat(engine, llm, instructions=INSTRUCTIONS)
        await asked(first, *range(6))
        for window in windows:
            whole = await (await load_chat(engine, llm, first.id)).fork()
            await whole.ask("question 6", history_window=window)
            part = await load_chat(engine, llm, (await first.fork()).id, history_window=window)
            assert len(part.messages) < 12
            assert part.messages == whole.messages[12 - len(part.messages) : 12]
            await part.ask("question 6")
            one, other = server.requests[-2:]
            assert one.body == other.body


async def test_a_stored_window_holds_in_every_process(engine: AsyncEngine) -> None:
    """It is kept with the chat; ``messages`` has what it shows and what was said since, ``history`` has everything."""
    async with CHAT.server(*lines(*range(6))) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1, 2, 3)
        await chat.update(history_window=Window(turns=2))
        again = await load_chat(engine, llm, chat.id)
        assert [message.content for message in again.messages] == turns(2, 3)
        await asked(again, 4)
        assert said(server.requests[-1]) == [*turns(3), "question 4"]
        assert [message.content for message in again.messages] == turns(2, 3, 4)
        assert [message.position for message in again.messages] == list(range(4, 10))
        assert [message.content for message in await again.history()] == turns(0, 1, 2, 3, 4)
        again.with_settings(history_window=Window())
        await asked(again, 5)
        assert said(server.requests[-1]) == [*turns(0, 1, 2, 3, 4), "question 5"]


async def test_a_wider_window_for_one_question_loads_more(engine: AsyncEngine) -> None:
    """What lies before the part that was loaded is read when a question asks for it, and only then."""
    async with CHAT.server(*lines(*range(6))) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=1)
        await asked(chat, 0, 1, 2, 3)
        again = await load_chat(engine, llm, chat.id)
        assert len(again.messages) == 2
        with pytest.raises(ConfigurationError, match="only a part of the chat is loaded"):
            again.with_settings(history_window=4).render("question 4")
        again = await load_chat(engine, llm, chat.id)
        await again.ask("question 4", history_window=4)
        assert said(server.requests[-1]) == [*turns(1, 2, 3), "question 4"]
        await asked(again, 5)
        assert said(server.requests[-1]) == ["question 5"]


async def test_render_and_count_show_the_window() -> None:
    """What is shown, and counted, is what would be sent."""
    async with CHAT.server(*lines(0, 1, 2)) as server, CHAT.llm(server) as llm:
        chat = llm.chat(history_window=2)
        await asked(chat, 0, 1)
        shown = chat.render("question 2")
        await asked(chat, 2)
        assert shown.body == server.requests[-1].body


@pytest.mark.parametrize("speaker", EVERYWHERE, ids=str)
async def test_every_provider_accepts_a_window(engine: AsyncEngine, speaker: Speaker) -> None:
    """With calls whose ids repeat, thinking, and a process for each turn that has loaded two turns of the chat.

    No request has a call without its results, and the ids in the rows are unique.
    """
    rounds = [line for number in range(5) for line in working_turn(number)]
    async with speaker.server(*rounds) as server, speaker.llm(server) as llm:
        first = await create_chat(engine, llm, instructions=INSTRUCTIONS, history_window=2)
        for number in range(5):
            chat = await load_chat(engine, llm, first.id, tools=[double])
            assert (await chat.ask(f"question {number}")).content == f"answer {number}"
            assert len(chat.messages) <= 3 * 4
        for request in server.requests:
            check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
        check_history(await first.history())
        rows = await stored(engine, first.id)
        rows.check()
        assert len({call.call_id for call in rows.calls}) == 5
        assert {call.status for call in rows.calls} == {"succeeded"}


async def test_the_requests_of_one_turn_are_prefixes_of_each_other(engine: AsyncEngine) -> None:
    """However much a turn grows beyond its window of tokens, nothing is dropped while it is answered."""
    script = [*lines(0, 1), *[Says(text="thinking aloud " * 20, calls=[CALL])] * 3, *lines(2)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double], history_window=Window(tokens=25))
        await asked(chat, 0, 1, 2)
        bodies: list[Any] = [request.json()["messages"] for request in server.requests[2:]]
        assert bodies[0][0]["content"] == "question 1"
        assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(bodies))


async def test_a_failed_turn_is_carried_on_under_its_window(engine: AsyncEngine) -> None:
    """A process that loaded a part resumes it with the very request, also behind messages that were added since."""
    script: list[Line] = [*lines(0, 1, 2), Says(calls=[CALL]), Fails(status=400), *lines(3)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double], history_window=1)
        await asked(chat, 0, 1, 2)
        with pytest.raises(ProviderError):
            await chat.ask("question 3", history_window=2)
        again = await load_chat(engine, llm, chat.id, tools=[double])
        reply = await again.resume()
        assert reply.content == "answer 3"
        assert server.requests[-1].body == server.requests[-2].body
        assert said(server.requests[-1])[:2] == turns(2)


async def test_a_repeated_key_gives_an_answer_that_is_not_loaded(engine: AsyncEngine) -> None:
    """The reply of a turn that lies before the window is the one that was given."""
    async with CHAT.server(*lines(0, 1, 2)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=1)
        reply = await chat.ask("question 0", idempotency_key="k0")
        await asked(chat, 1, 2)
        again = await load_chat(engine, llm, chat.id)
        assert len(again.messages) == 2
        repeated = await again.ask("question 0", idempotency_key="k0")
        assert (repeated.turn_id, repeated.content, repeated.message) == (reply.turn_id, reply.content, reply.message)


async def test_messages_that_are_not_loaded_are_edited_and_answered_anew(engine: AsyncEngine) -> None:
    """A question before the window is found; what is sent then reaches as far back as the window says."""
    async with CHAT.server(*lines(0, 1, 2, 3, 9)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=2)
        await asked(chat, 0, 1, 2, 3)
        again = await load_chat(engine, llm, chat.id)
        await again.edit(4, "question 9")
        assert said(server.requests[-1]) == [*turns(1), "question 9"]
        assert [message.content for message in await again.history()] == turns(0, 1, 9)


@pytest.mark.parametrize("window", [0, -1, True, "2", 1.5])
async def test_what_is_no_window_is_refused(window: object) -> None:
    """Before anything is stored or sent, with what it may be."""
    async with CHAT.server() as server, CHAT.llm(server) as llm:
        with pytest.raises(ConfigurationError, match="history_window is a whole number of at least 1"):
            llm.chat(history_window=window)


# ── pages, and chats left in the middle ───────────────────────────────────────────────────────────────────────────────


async def test_history_is_read_in_pages_both_ways(engine: AsyncEngine) -> None:
    """Forward and backward by position every message comes once, whatever the window, and a summary among them."""
    async with CHAT.server(*lines(*range(5)), Says(text="in short")) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=1)
        await asked(chat, *range(5))
        await chat.compact()
        contents = [*turns(*range(5)), "in short"]
        forward: list[Message] = []
        while page := await chat.history(limit=3, after=forward[-1].position if forward else None):
            forward += page
        backward: list[Message] = []
        place = 11
        while page := await chat.history(limit=4, before=place):
            backward = [*page, *backward]
            place = page[0].position or 0
        assert [message.content for message in forward] == contents
        assert forward == backward


async def test_a_question_closes_an_interrupted_turn_and_deletes_nothing(
    engine: AsyncEngine, database: str, tmp_path: Path
) -> None:
    """Every row of the turn whose process was killed stays; its calls get results that say what is known."""
    calls = [FakeCall("charge", {"cents": 1}, "call_0"), FakeCall("post", {"text": "x"}, "call_1")]
    async with CHAT.server(*lines(0), Says(calls=calls), *lines(2)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=2)
        await asked(chat, 0)
        job = Job(
            database=database,
            chat=chat.id,
            api="openai_chat",
            url=server.url,
            effects=tmp_path / "effects",
            lease=LEASE,
            question="question 1",
            dies=Death(where="after effect", number=1),
        )
        async with working(job) as worker:
            worker.go()
            assert await worker.ended() == -signal.SIGKILL
        before = await stored(engine, chat.id)
        again = await load_chat(engine, llm, chat.id)
        await again.ask("question 2", wait=PATIENCE)
        check(server.requests[-1].json(), "openai_chat")
        after = await stored(engine, chat.id)
        after.check()
        check_history(await again.history())
        assert [row.parts for row in after.messages[: len(before.messages)]] == [row.parts for row in before.messages]
        assert {row.id for row in before.requests} < {row.id for row in after.requests}
        assert [row.id for row in after.calls] == [row.id for row in before.calls]
        assert {row.status for row in after.calls} <= {"succeeded", "unknown", "skipped"}
        assert all(row.result_message_id is not None for row in after.calls)


# ── compaction ────────────────────────────────────────────────────────────────────────────────────────────────────────


def summary_first(request: ReceivedRequest, text: str) -> list[str]:
    """What a request holds behind the summary that it begins with."""
    first, *rest = said(request)
    assert f"<summary>\n{text}\n</summary>" in first
    return rest


async def test_a_compaction_is_a_turn_whose_answer_is_a_summary(engine: AsyncEngine) -> None:
    """The model is asked behind everything but the turns to keep; ledger, turn and message are rows like any others."""
    async with (
        CHAT.server(*lines(0, 1, 2, 3), Says(text=" in short\n", usage=(90, 5))) as server,
        CHAT.llm(server) as llm,
    ):
        chat = await create_chat(engine, llm, instructions=INSTRUCTIONS, metadata={"team": "blue"}, owner="ada")
        await asked(chat, 0, 1, 2, 3)
        before = await stored(engine, chat.id)
        summary = await chat.compact(keep=2, max_tokens=300)
        assert summary.parts == (SummaryPart(text="in short", until=3),)
        assert (summary.role, summary.content, summary.position) == ("assistant", "in short", 8)
        assert summary.finish_reason is FinishReason.SUMMARY
        assert chat.messages[-1] == summary
        *conversation, words = said(server.requests[-1])
        assert conversation == turns(0, 1)
        assert "Summarise the conversation" in words
        body: Any = server.requests[-1].json()
        assert body["max_completion_tokens"] == 300

        after = await stored(engine, chat.id)
        after.check()
        assert after.messages[-1].content == "in short"
        assert [(row.content, row.parts, row.superseded_at) for row in after.messages[:-1]] == [
            (row.content, row.parts, None) for row in before.messages
        ]
        row = after.requests[-1]
        assert (row.operation, row.status, row.owner, row.labels) == ("compact", "ok", "ada", {"team": "blue"})
        assert (row.message_id, row.turn_id) == (after.messages[-1].id, after.turns[-1].id)
        assert (row.input_tokens, row.output_tokens, row.cost is not None) == (90, 5, True)
        assert {request.operation for request in after.requests[:-1]} == {"chat"}
        assert (await chat.usage()).requests == 5
        reply = await chat.resume()
        assert (reply.content, reply.message, reply.turn_id) == ("in short", summary, after.turns[-1].id)
        assert len(server.requests) == 5


async def test_the_summary_is_sent_first_and_requests_stay_prefixes(engine: AsyncEngine) -> None:
    """Then the turns that were kept, in this process and in any other; what is sent begins the same each time."""
    script = [*lines(0, 1, 2), Says(text="in short"), *lines(3, 4, 5)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions=INSTRUCTIONS)
        await asked(chat, 0, 1, 2)
        await chat.compact(keep=1)
        await asked(chat, 3, 4)
        again = await load_chat(engine, llm, chat.id)
        assert again.messages == chat.messages
        await asked(again, 5)
        assert [summary_first(request, "in short") for request in server.requests[-3:]] == [
            [*turns(2), "question 3"],
            [*turns(2, 3), "question 4"],
            [*turns(2, 3, 4), "question 5"],
        ]
        bodies = [request.body for request in server.requests[-3:]]
        assert all(later.startswith(earlier[:-2]) for earlier, later in pairwise(bodies))
        assert [m.content for m in await again.history()] == [*turns(0, 1, 2), "in short", *turns(3, 4, 5)]


async def test_compacting_again_includes_the_earlier_summary(engine: AsyncEngine) -> None:
    """The model reads it with what came after it, and only the new one is sent from then on."""
    script = [*lines(0, 1), Says(text="first"), *lines(2, 3), Says(text="second"), *lines(4)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1)
        await chat.compact(keep=1)
        await asked(chat, 2, 3)
        summary = await chat.compact(keep=1, instructions="What was said? In Latin.")
        assert summary_first(server.requests[-1], "first") == [*turns(1, 2), "What was said? In Latin."]
        assert summary.parts == (SummaryPart(text="second", until=6),)
        await asked(chat, 4)
        assert summary_first(server.requests[-1], "second") == [*turns(3), "question 4"]
        assert b"first" not in server.requests[-1].body


async def test_everything_can_be_compacted_and_a_window_put_behind_it(engine: AsyncEngine) -> None:
    """With ``keep=0`` the summary alone goes before the next question; it is sent, and loaded, whatever the window."""
    script = [*lines(0, 1), Says(text="in short"), *lines(2, 3, 4)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=1)
        await asked(chat, 0, 1)
        await chat.compact(keep=0)
        await asked(chat, 2, 3)
        assert summary_first(server.requests[-1], "in short") == ["question 3"]
        again = await load_chat(engine, llm, chat.id)
        assert [message.content for message in again.messages] == ["in short", *turns(3)]
        await asked(again, 4)
        assert summary_first(server.requests[-1], "in short") == ["question 4"]


async def test_a_chat_loaded_in_part_is_compacted_whole(engine: AsyncEngine) -> None:
    """What the window does not show is read first: the summary stands for all of it."""
    async with CHAT.server(*lines(0, 1, 2), Says(text="in short")) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, history_window=1)
        await asked(chat, 0, 1, 2)
        again = await load_chat(engine, llm, chat.id)
        assert len(again.messages) == 2
        await again.compact(keep=1)
        assert said(server.requests[-1])[:-1] == turns(0, 1)


async def test_another_model_may_summarise(engine: AsyncEngine) -> None:
    """It is named in the ledger and in the message; the chat's own model answers on."""
    async with CHAT.server(*lines(0, 1), Says(text="in short"), *lines(2)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1)
        summary = await chat.compact(keep=1, model="gpt-5")
        await asked(chat, 2)
        bodies: list[Any] = [request.json() for request in server.requests[-2:]]
        assert [body["model"] for body in bodies] == ["gpt-5", CHAT.model]
        assert summary.origin is not None
        assert summary.origin.model == "gpt-5"
        rows = await stored(engine, chat.id)
        assert [row.requested_model for row in rows.requests[-2:]] == ["gpt-5", CHAT.model]
        assert (rows.chat.model, chat.model) == (CHAT.model, CHAT.model)


async def test_a_chat_in_memory_is_compacted_in_the_same_way() -> None:
    """The same method, the same requests."""
    async with CHAT.server(*lines(0, 1), Says(text="in short"), *lines(2)) as server, CHAT.llm(server) as llm:
        chat = llm.chat()
        await asked(chat, 0, 1)
        assert (await chat.compact(keep=1)).content == "in short"
        await asked(chat, 2)
        assert summary_first(server.requests[-1], "in short") == [*turns(1), "question 2"]
        assert [message.content for message in await chat.history()] == [*turns(0, 1), "in short", *turns(2)]
        copy = llm.chat(messages=chat.messages)
        assert [m.content for m in copy.messages[1:]] == [*turns(1), *turns(2)]


@pytest.mark.parametrize("speaker", EVERYWHERE, ids=str)
async def test_every_provider_accepts_a_compaction(engine: AsyncEngine, speaker: Speaker) -> None:
    """With calls and thinking before it: the request for the summary, and those that begin with one."""
    turn = working_turn
    script = [*turn(0), *turn(1), Says(text="in short"), *turn(2), Says(text="shorter"), *turn(3)]
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions=INSTRUCTIONS, tools=[double], temperature=None)
        await asked(chat, 0, 1)
        assert (await chat.compact(keep=1)).content == "in short"
        await asked(chat, 2)
        assert (await chat.compact(keep=0)).content == "shorter"
        await asked(chat, 3)
        for request in server.requests:
            check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
        assert b"shorter" in server.requests[-1].body
        assert b"in short" not in server.requests[-1].body
        rows = await stored(engine, chat.id)
        rows.check()
        assert [row.operation for row in rows.requests].count("compact") == 2


# ── compactions that do not succeed ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("keep", "words"), [(2, "of 2 turns .* keep=2 keeps all"), (5, "keep=5 keeps all")])
async def test_with_nothing_to_compact_it_says_so(engine: AsyncEngine, keep: int, words: str) -> None:
    """Nothing is sent, nothing is written, and the chat goes on."""
    async with CHAT.server(*lines(0, 1, 2)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1)
        before = await stored(engine, chat.id)
        with pytest.raises(ChatError, match=words):
            await chat.compact(keep=keep)
        assert (await stored(engine, chat.id)).values() == before.values()
        await asked(chat, 2)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "wrong", [{"keep": -1}, {"keep": True}, {"keep": "2"}, {"instructions": ""}, {"max_tokens": 0}, {"model": 5}]
)
async def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is sent."""
    async with CHAT.server(*lines(0)) as server, CHAT.llm(server) as llm:
        chat = llm.chat()
        await asked(chat, 0)
        with pytest.raises(ConfigurationError):
            await chat.compact(**{"keep": 0, **wrong})
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("line", "error", "status"),
    [
        (Fails(status=400), "BadRequestError", "failed"),
        (Says(text="cut of", finish="length"), "ChatError", "ok"),
        (Says(text=""), "ChatError", "ok"),
        (Says(calls=[CALL]), "ChatError", "ok"),
        (Says(text="no", finish="content_filter"), "ChatError", "ok"),
    ],
    ids=["an error", "cut off", "empty", "a call", "filtered"],
)
async def test_a_compaction_that_fails_leaves_the_chat_as_it_was(
    engine: AsyncEngine, line: Says | Fails, error: str, status: str
) -> None:
    """No message is added and the whole history is sent on; what it cost is in the ledger; it can be tried again."""
    script = [*lines(0, 1), line, *lines(2), Says(text="in short"), *lines(3)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double])
        await asked(chat, 0, 1)
        with pytest.raises((ChatError, ProviderError)) as failure:
            await chat.compact(keep=1)
        assert type(failure.value).__name__ == error
        rows = await stored(engine, chat.id)
        assert [row.content for row in rows.messages] == turns(0, 1)
        assert (rows.turns[-1].status, rows.turns[-1].error_type) == ("failed", error)
        assert (rows.requests[-1].operation, rows.requests[-1].status) == ("compact", status)
        assert (rows.requests[-1].cost is not None) == (status == "ok")
        await asked(chat, 2)
        assert said(server.requests[-1]) == [*turns(0, 1), "question 2"]
        assert (await chat.compact(keep=1)).content == "in short"
        await asked(chat, 3)
        assert summary_first(server.requests[-1], "in short") == [*turns(2), "question 3"]


async def test_a_failed_compaction_can_be_resumed_as_it_was_asked(engine: AsyncEngine) -> None:
    """In another process, with the same model, words and limit, and for the same messages."""
    script: list[Line] = [*lines(0, 1, 2), Fails(status=400), Says(text="in short"), *lines(3)]
    async with CHAT.server(*script) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1, 2)
        with pytest.raises(ProviderError):
            await chat.compact(keep=1, instructions="Briefly, please.", model="gpt-5", max_tokens=99)
        again = await load_chat(engine, llm, chat.id, history_window=1)
        reply = await again.resume()
        assert reply.content == "in short"
        assert reply.message is not None
        assert reply.message.parts == (SummaryPart(text="in short", until=3),)
        assert server.requests[-1].body == server.requests[-2].body
        rows = await stored(engine, chat.id)
        assert [row.operation for row in rows.requests] == ["chat"] * 3 + ["compact"] * 2
        await asked(again, 3)
        assert summary_first(server.requests[-1], "in short") == ["question 3"]


async def test_a_copy_that_was_loaded_while_a_turn_ran_compacts_all_of_it(engine: AsyncEngine) -> None:
    """A compaction knows how far its chat is by then, although it brings no message of its own."""
    async with CHAT.server(*lines(0), Says(text="in short"), *lines(1)) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        copies: list[Chat] = []

        async def copied(request: ModelRequest) -> ModelRequest:
            copies.append(await load_chat(engine, llm, chat.id))
            return request

        await asked(chat.before_request(copied), 0)
        summary = await copies[0].compact(keep=0)
        assert (summary.content, summary.position) == ("in short", 2)
        assert said(server.requests[1])[:2] == turns(0)
        (await stored(engine, chat.id)).check()


@pytest.mark.parametrize("how", ["its caller is cancelled", "the chat is cancelled"])
async def test_a_compaction_that_is_cancelled_adds_no_message(engine: AsyncEngine, how: str) -> None:
    """Half a summary is none, the chat is free again, and whoever waits for a summary is told that there is none."""
    reached = asyncio.Event()
    script: Iterator[Answer] = iter([CHAT.answer(line, stream=False) for line in lines(0, 1)])

    async def handle(request: ReceivedRequest) -> Answer:
        if b"Summarise" in request.body:
            reached.set()
            return (Stall(),)
        return next(script, CHAT.answer(Says(text="answer 2"), stream=False))

    async with LoopbackServer(handle) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1)
        compacting = asyncio.create_task(chat.compact(keep=1))
        await reached.wait()
        with pytest.raises(ChatBusyError):
            await (await load_chat(engine, llm, chat.id)).ask("meanwhile")
        if how == "its caller is cancelled":
            compacting.cancel()
        else:
            assert await chat.cancel()
        with pytest.raises((asyncio.CancelledError, ChatError)) as told:
            await compacting
        assert (told.type is ChatError) == (how == "the chat is cancelled")
        await asked(chat, 2)
        assert said(server.requests[-1]) == [*turns(0, 1), "question 2"]
        rows = await stored(engine, chat.id)
        rows.check()
        assert [row.status for row in rows.turns] == ["completed", "completed", "cancelled", "completed"]
        assert [row.operation for row in rows.requests if row.status == "cancelled"] == ["compact"]


DEATHS: Final[Sequence[Death | None]] = (
    Death(where="before commit", number=1),
    Death(where="after commit", number=1),
    None,
    Death(where="before commit", number=2),
    Death(where="after commit", number=2),
)
"""Around the two commits of a compaction; ``None``: while the model is asked."""


@pytest.mark.parametrize("how", ["ask", "resume"])
@pytest.mark.parametrize("dies", DEATHS, ids=lambda d: "asking" if d is None else f"{d.where} {d.number}")
async def test_a_compaction_that_is_killed_is_closed_or_finished(
    engine: AsyncEngine, database: str, tmp_path: Path, dies: Death | None, how: str
) -> None:
    """A question sends everything as if it had not been asked for, unless it was done; ``resume`` finishes it."""
    killed: list[Any] = []

    async def handle(request: ReceivedRequest) -> Answer:
        check(request.json(), "openai_chat")
        words = last_words(request.json(), "openai_chat") or ""
        if "Summarise" not in words:
            return CHAT.answer(Says(text=words.replace("question", "answer")), stream=False)
        if dies is None and killed:
            killed.pop().send(signal.SIGKILL)
            return (Stall(),)
        return CHAT.answer(Says(text="in short"), stream=False)

    async with LoopbackServer(handle) as server, CHAT.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await asked(chat, 0, 1)
        job = Job(
            database=database,
            chat=chat.id,
            api="openai_chat",
            url=server.url,
            effects=tmp_path / "effects",
            lease=LEASE,
            does="compact",
            dies=dies,
        )
        async with working(job) as worker:
            killed.append(worker)
            worker.go()
            assert await worker.ended() == -signal.SIGKILL
        before = await stored(engine, chat.id)
        begun, done = len(before.turns) == 3, before.turns[-1].status == "completed" and len(before.turns) == 3
        assert [row.content for row in before.messages] == [*turns(0, 1), *(["in short"] if done else [])]
        again = await load_chat(engine, llm, chat.id)
        if how == "resume" and begun:
            reply = await again.resume(wait=PATIENCE)
            assert (reply.content, reply.turn_id) == ("in short", before.turns[-1].id)
            done = True
        await again.ask("question 2", wait=PATIENCE)
        if done:
            assert summary_first(server.requests[-1], "in short") == [*turns(1), "question 2"]
        else:
            assert said(server.requests[-1]) == [*turns(0, 1), "question 2"]
        after = await stored(engine, chat.id)
        after.check()
        assert [row.content for row in after.messages if row.content != "in short"] == turns(0, 1, 2)
        compactions = [row.status for row in after.requests if row.operation == "compact"]
        assert len(compactions) == sum("Summarise" in r.body.decode() for r in server.requests) or dies is not None
        assert compactions.count("ok") == int(done)
        assert set(compactions) <= {"ok", "unknown"}
