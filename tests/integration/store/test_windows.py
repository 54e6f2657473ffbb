"""Chats loaded under a window: whole turns from the end, in a constant number of queries that read no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from nodellm_orm.domain.messages import FinishReason, Message, user
from nodellm_orm.domain.parts import SummaryPart, TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.windows import EVERYTHING, Window, first_loaded, sent
from nodellm_orm.ports.entries import CallAnswered, CallFinished, HistorySuperseded, TurnEnded
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import (
    begin,
    closed,
    completed,
    head,
    question,
    result,
    with_call,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.states import Snapshot


def said(role: Any, text: str) -> Message:
    """A message of text."""
    return Message(role=role, parts=(TextPart(text=text),))


def dialogue(turns: int, *, words: str = "") -> list[Message]:
    """Questions and answers by turns."""
    return [m for n in range(turns) for m in (user(f"q{n}{words}"), said("assistant", f"a{n}{words}"))]


def summary(until: int) -> Message:
    """A summary."""
    return Message(
        role="assistant", parts=(SummaryPart(text="in short", until=until),), finish_reason=FinishReason.SUMMARY
    )


async def kept(journal: Journal, messages: Sequence[Message], **changes: Any) -> UUID:
    """A chat that begins with these messages."""
    made = await journal.create(head(**changes), [(new_id(), message) for message in messages])
    return made.head.id


def texts(snapshot: Snapshot) -> list[str]:
    """What is said in it."""
    return [message.content for message in snapshot.messages]


# ── how much is loaded ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_window_of_turns_loads_the_last_ones(journal: Journal) -> None:
    """Only they are there, with the ids, and the place where the next message goes is known all the same."""
    key = await kept(journal, dialogue(5))
    whole = await journal.load(key, "ada")
    part = await journal.load(key, "ada", window=Window(turns=2))
    assert texts(part) == ["q3", "a3", "q4", "a4"]
    assert part.message_ids == whole.message_ids[6:]
    assert (part.since, part.window, part.next_position, part.fence) == (6, Window(turns=2), 10, whole.fence)
    assert (whole.since, whole.window) == (0, EVERYTHING)


async def test_a_window_that_shows_everything_leaves_nothing_out(journal: Journal) -> None:
    """A chat of fewer turns is loaded from its beginning, and what was said before the first question is there."""
    key = await kept(journal, [said("assistant", "hello"), *dialogue(2)])
    part = await journal.load(key, "ada", window=Window(turns=3))
    assert (texts(part)[0], part.since) == ("hello", 0)
    part = await journal.load(key, "ada", window=Window(turns=2))
    assert (texts(part)[0], part.since) == ("q0", 1)
    empty = await kept(journal, [])
    part = await journal.load(empty, "ada", window=Window(turns=2, tokens=10))
    assert (part.messages, part.since) == ((), 0)


async def test_a_window_of_tokens_loads_what_fits(journal: Journal) -> None:
    """By the estimate, message by message, and the last turn however large it is."""
    key = await kept(journal, dialogue(6, words="x" * 38))  # 40 bytes, 14 tokens a message
    assert texts(await journal.load(key, "ada", window=Window(tokens=14 * 5)))[0].startswith("q3")
    assert texts(await journal.load(key, "ada", window=Window(tokens=14 * 5 - 1)))[0].startswith("q4")
    assert len(texts(await journal.load(key, "ada", window=Window(tokens=1)))) == 2
    assert len(texts(await journal.load(key, "ada", window=Window(tokens=14 * 5, turns=1)))) == 2


async def test_the_chats_own_window_is_taken_where_none_is_given(journal: Journal) -> None:
    """``None`` means what is stored with the chat; a chat without a window is loaded whole."""
    own = await kept(journal, dialogue(4), settings=Settings(history_window=Window(turns=1)))
    assert texts(await journal.load(own, "ada", window=None)) == ["q3", "a3"]
    assert len(texts(await journal.load(own, "ada"))) == 8
    assert len(texts(await journal.load(await kept(journal, dialogue(4)), "ada", window=None))) == 8


async def test_tool_pairs_come_whole(journal: Journal) -> None:
    """Calls and results of a turn are loaded with its question."""
    call = ToolCallPart(call_id="c1", name="look", arguments="{}")
    asked = Message(role="assistant", parts=(call,))
    answered = Message(role="tool", parts=(ToolResultPart(call_id="c1", name="look", content="seen"),))
    key = await kept(journal, [*dialogue(2), user("look"), asked, answered, said("assistant", "done")])
    assert texts(await journal.load(key, "ada", window=Window(turns=1))) == ["look", "", "seen", "done"]
    assert texts(await journal.load(key, "ada", window=Window(tokens=1))) == ["look", "", "seen", "done"]


async def test_superseded_messages_do_not_count(journal: Journal) -> None:
    """A turn whose question was superseded is none."""
    snapshot = await journal.create(head(), [(new_id(), message) for message in dialogue(4)])
    turn = await begin(journal, snapshot)
    await journal.record(turn.hold, (closed(turn.opened), TurnEnded(status="failed")))
    snapshot = await journal.load(snapshot.head.id, "ada")
    again = await begin(journal, snapshot)
    first = again.asked.message.position or 0
    instead = question(first + 1, "instead")
    entries = (closed(again.opened), HistorySuperseded(first=4), instead, TurnEnded(status="failed"))
    await journal.record(again.hold, entries)
    part = await journal.load(snapshot.head.id, "ada", window=Window(turns=2))
    assert texts(part) == ["q1", "a1", "instead"]


async def test_the_last_turn_is_loaded_whatever_was_added_since(journal: Journal) -> None:
    """Questions from elsewhere do not push it out: it can still be carried on, calls and all."""
    turn, asked, opened = await with_call(journal)
    finished = CallFinished(id=opened.id, status="succeeded", result="22")
    answered = result(2, opened.call)
    ended = TurnEnded(status="failed", error_type="ServerError")
    done = CallAnswered(id=opened.id, result_message_id=answered.id)
    await journal.record(turn.hold, (finished, answered, done, ended))
    snapshot = await journal.load(turn.hold.chat_id, "ada")
    for n in range(3):
        snapshot = await journal.append(snapshot.head, snapshot.fence, [(new_id(), user(f"more {n}"))])
    part = await journal.load(turn.hold.chat_id, "ada", window=Window(turns=1))
    assert part.message_ids[:3] == (turn.asked.id, asked.id, answered.id)
    assert len(part.messages) == 6
    assert part.last_turn is not None
    assert [call.call for call in part.last_turn.calls] == [opened.call]


async def test_appending_gives_the_chats_own_window(journal: Journal) -> None:
    """What comes back of a long chat is as much as is loaded of it."""
    key = await kept(journal, dialogue(4), settings=Settings(history_window=Window(turns=2)))
    snapshot = await journal.load(key, "ada", window=None)
    snapshot = await journal.append(snapshot.head, snapshot.fence, [(new_id(), user("more"))])
    assert texts(snapshot) == ["q3", "a3", "more"]


# ── summaries ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("window", [Window(turns=1), Window(tokens=1)])
async def test_the_last_summary_is_there_however_far_back(journal: Journal, window: Window) -> None:
    """It stands before the turns that are loaded; messages between them are left out."""
    messages = [*dialogue(2), summary(1), *dialogue(1), summary(3), *dialogue(5)]
    key = await kept(journal, messages, settings=Settings(compacted=True))
    part = await journal.load(key, "ada", window=window)
    assert texts(part) == ["in short", "q4", "a4"]
    assert [message.position for message in part.messages] == [7, 16, 17]
    assert part.since == 16
    whole = await journal.load(key, "ada")
    assert sent(part.messages, window) == sent(whole.messages, window)


async def test_a_summary_among_the_loaded_turns_is_not_there_twice(journal: Journal) -> None:
    """Where it stands behind the first turn that is loaded, it is one of their messages."""
    key = await kept(journal, [*dialogue(3), summary(1), *dialogue(1)], settings=Settings(compacted=True))
    part = await journal.load(key, "ada", window=Window(turns=2))
    assert texts(part) == ["q2", "a2", "in short", "q0", "a0"]


# ── for any chat ──────────────────────────────────────────────────────────────────────────────────────────────────────

MESSAGES = st.lists(
    st.builds(said, st.sampled_from(["user", "assistant", "system"]), st.text(max_size=30) | st.just("\0\ud800é" * 9)),
    max_size=12,
)
LIMITS = st.none() | st.integers(1, 6)
WINDOWS = st.builds(Window, turns=LIMITS, tokens=st.none() | st.integers(1, 120))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MESSAGES, WINDOWS)
async def test_a_part_is_what_the_pure_function_says(journal: Journal, messages: list[Message], window: Window) -> None:
    """Whatever is in it, a chat is loaded from the same message on in memory and in every database."""
    key = await kept(journal, messages)
    whole = await journal.load(key, "ada")
    first = first_loaded(whole.messages, window, None)
    part = await journal.load(key, "ada", window=window)
    assert part.messages == whole.messages[first:]
    assert part.since == first


# ── what it costs ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Read:
    """Queries of an engine, and the rows of messages that they have given."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.sync_engine
        self.queries = self.rows = 0
        event.listen(self._engine, "after_cursor_execute", self._executed)

    def _executed(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.queries += 1
        if ".parts" in statement:
            self.rows += len(cursor._rows)

    def stop(self) -> None:
        """Count no more."""
        event.remove(self._engine, "after_cursor_execute", self._executed)


@pytest.mark.parametrize("turns", [10, 300])
@pytest.mark.parametrize(
    ("window", "loaded", "read"),
    [
        (Window(turns=3), 6, 6),
        (Window(tokens=100), 8, 14),
        (Window(turns=5, tokens=100), 8, 10),
        (Window(turns=3, tokens=1000), 6, 6),
    ],
    ids=str,
)
async def test_loading_under_a_window_costs_the_same_however_long_the_chat(
    sql_journal: SqlJournal, tables: AsyncEngine, turns: int, window: Window, loaded: int, read: int
) -> None:
    """One query more than without a window, and the rows that are read are those of the turns in it.

    By tokens they may be twice as many: the database weighs no message by more than half of what it may be.
    """
    key = await kept(sql_journal, dialogue(turns, words="x" * 38))
    await completed(sql_journal, await sql_journal.load(key, "ada"))
    seen = Read(tables)
    part = await sql_journal.load(key, "ada", window=window)
    seen.stop()
    assert part.messages[-1].content == "Sunny."
    assert len(part.messages) == loaded
    assert seen.queries == 5
    assert seen.rows <= read


async def test_a_summary_far_back_is_one_query_more(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """It is looked for only where there has been one."""
    key = await kept(sql_journal, [*dialogue(2), summary(1), *dialogue(50)], settings=Settings(compacted=True))
    seen = Read(tables)
    part = await sql_journal.load(key, "ada", window=Window(turns=2))
    seen.stop()
    assert (len(part.messages), seen.queries, seen.rows) == (5, 4, 5)


async def test_encrypted_chats_are_loaded_under_a_window(tables: AsyncEngine) -> None:
    """A text that is encrypted is longer than it was, and is not taken for more than it is."""
    records = RECORDS.encrypted(Encryption(keys={"k1": bytes(range(32))}))
    journal = SqlJournal(open_access(tables, records), records)
    messages = [*dialogue(2), summary(1), *dialogue(30, words="x" * 300)]
    key = await kept(journal, messages, settings=Settings(compacted=True))
    whole = await journal.load(key, "ada")
    for window in (Window(turns=2), Window(tokens=500), Window(tokens=1)):
        part = await journal.load(key, "ada", window=window)
        assert len(part.messages) < len(whole.messages) / 2
        assert part.messages[0].content == "in short"
        assert sent(part.messages, window) == sent(whole.messages, window)
