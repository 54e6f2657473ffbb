"""How many statements and commits each durable point is: a turn's price in round trips, which must not creep up."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from nodellm_orm.domain.messages import user
from nodellm_orm.ports.entries import CallAnswered, CallFinished, TurnEnded, TurnOpened
from nodellm_orm.runtime.clock import new_id
from tests.integration.store.samples import (
    answer,
    attempt,
    begin,
    begun,
    call,
    closed,
    completed,
    head,
    opened_call,
    question,
    result,
    take,
    with_call,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.store.journal import SqlJournal


class Seen:
    """What went over the wire."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.commits = 0


def outermost(statement: str) -> str:
    """A statement without what is in brackets."""
    shorter = re.sub(r"\([^()]*\)", "", statement)
    return statement if shorter == statement else outermost(shorter)


@contextmanager
def watched(engine: AsyncEngine) -> Iterator[Seen]:
    """Statements, as verb and table, and commits."""
    seen = Seen()

    def executing(_c: object, _cursor: object, statement: str, *_: object) -> None:
        words = outermost(statement).split()
        verb = words[0]
        table = words[words.index("FROM") + 1] if verb == "SELECT" else words[2 if verb == "INSERT" else 1]
        seen.statements.append(f"{verb} {table.removeprefix('llm_')}")

    def committing(_: Connection) -> None:
        seen.commits += 1

    event.listen(engine.sync_engine, "before_cursor_execute", executing)
    event.listen(engine.sync_engine, "commit", committing)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", executing)
        event.remove(engine.sync_engine, "commit", committing)


async def test_a_plain_turn_is_two_points(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Its first point is one UPDATE and three INSERTs, its last the guard and one statement for each kind of row."""
    snapshot = await sql_journal.create(head())
    with watched(tables) as first:
        turn = await begin(sql_journal, snapshot)
    assert first.statements == ["UPDATE chats", "INSERT turns", "INSERT messages", "INSERT requests"]
    with watched(tables) as last:
        await sql_journal.record(turn.hold, (closed(turn.opened), answer(1), TurnEnded(status="completed")))
    assert last.statements == [
        "UPDATE chats",
        "INSERT messages",
        "INSERT thinking",
        "UPDATE requests",
        "UPDATE turns",
    ]
    assert (first.commits, last.commits) == (1, 1)


async def test_a_turn_with_tools_is_four_points(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """However many calls a round has, its points are the same few statements."""
    with watched(tables) as seen:
        turn = await begun(sql_journal)
        asked = [call(), call(), call()]
        said = answer(1, *asked)
        opened = [opened_call(said, part, place) for place, part in enumerate(asked)]
        before = len(seen.statements)
        hold = await sql_journal.record(turn.hold, (closed(turn.opened), said, *opened))
        response = seen.statements[before:]
        results = [result(2 + place, part) for place, part in enumerate(asked)]
        before, second = len(seen.statements), attempt()
        hold = await sql_journal.record(
            hold,
            (
                *(CallFinished(id=part.id, status="succeeded", result="22") for part in opened),
                *results,
                *(CallAnswered(id=o.id, result_message_id=r.id) for o, r in zip(opened, results, strict=True)),
                second,
            ),
        )
        round_ = seen.statements[before:]
        await sql_journal.record(hold, (closed(second), answer(5), TurnEnded(status="completed")))
    assert response == [
        "UPDATE chats",
        "INSERT messages",
        "INSERT thinking",
        "INSERT tool_calls",
        "UPDATE requests",
    ]
    assert round_ == [
        "UPDATE chats",
        "INSERT messages",
        "INSERT requests",
        "UPDATE tool_calls",
        "UPDATE tool_calls",
    ]
    # One more for creating the chat.
    assert seen.commits == 1 + 4


async def test_an_idempotency_key_costs_one_query(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A turn with a key looks for an earlier one, once it holds the chat."""
    snapshot = await sql_journal.create(head())
    with watched(tables) as seen:
        await begin(sql_journal, snapshot, key="k")
    assert seen.statements == ["UPDATE chats", "SELECT chats", "INSERT turns", "INSERT messages", "INSERT requests"]


async def test_texts_cost_one_statement_once(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Instructions and schemas are written with the first turn that refers to them, and then known to be there."""
    texts = tuple(f"text {new_id()}" for _ in range(3))
    inserts = []
    for owner in ("ada", "ada", "bob"):
        snapshot = await sql_journal.create(head(owner))
        with watched(tables) as seen:
            turn = TurnOpened(id=new_id(), settings="{}", texts=texts)
            await sql_journal.begin(take(snapshot), turn, (question(0), attempt()))
        inserts.append(seen.statements.count("INSERT texts"))
        assert len(seen.statements) == 4 + inserts[-1]
    assert inserts == [1, 0, 1]


async def test_a_text_whose_turn_was_refused_is_written_again(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Only what was committed is remembered."""
    snapshot = await sql_journal.create(head())
    turn = TurnOpened(id=new_id(), settings="{}", texts=(f"text {new_id()}",))
    with pytest.raises(ValueError, match="positions"):
        await sql_journal.begin(take(snapshot), turn, (question(0), question(7)))
    with watched(tables) as seen:
        await sql_journal.begin(take(snapshot), turn, (question(0), attempt()))
    assert "INSERT texts" in seen.statements


@pytest.mark.parametrize("turns", [1, 4])
async def test_loading_is_four_queries_however_long_the_chat(
    sql_journal: SqlJournal, tables: AsyncEngine, turns: int
) -> None:
    """Head and last turn, messages, calls, attempts; nothing is committed."""
    snapshot = await sql_journal.create(head())
    for _ in range(turns):
        snapshot = await completed(sql_journal, snapshot)
    with watched(tables) as seen:
        await sql_journal.load(snapshot.head.id, "ada")
    assert seen.statements == ["SELECT chats", "SELECT messages", "SELECT tool_calls", "SELECT requests"]
    assert seen.commits == 0


async def test_a_turn_costs_the_same_however_long_the_chat(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A turn on a chat of a hundred messages is as many statements as on an empty one."""
    snapshot = await sql_journal.create(head(), [(new_id(), user(str(n))) for n in range(100)])
    with watched(tables) as seen:
        turn = await begin(sql_journal, snapshot)
        await sql_journal.record(turn.hold, (closed(turn.opened), answer(101), TurnEnded(status="completed")))
    assert (len(seen.statements), seen.commits) == (9, 2)


async def test_many_leases_are_renewed_in_one_statement(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """One statement a process, not one a chat; one more only to find which hold was lost."""
    holds = [(await begun(sql_journal)).hold for _ in range(3)]
    with watched(tables) as seen:
        await sql_journal.renew(holds)
    assert (seen.statements, seen.commits) == (["UPDATE chats"], 1)
    with watched(tables) as seen:
        await sql_journal.renew([*holds, replace(holds[0], fence=9)])
    assert seen.statements == ["UPDATE chats", "SELECT chats"]


async def test_taking_over_and_cancelling_are_few_statements(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Each is one transaction that locks the chat first."""
    turn, _, _ = await with_call(sql_journal, lease=-1.0)
    with watched(tables) as seen:
        await sql_journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=60.0)
    assert seen.statements == [
        "UPDATE chats",
        "SELECT chats",
        "UPDATE turns",
        "UPDATE requests",
        "UPDATE tool_calls",
    ]
    with watched(tables) as other:
        await sql_journal.cancel(turn.hold.chat_id, "ada")
    assert other.statements == [
        "UPDATE chats",
        "SELECT turns",
        "UPDATE requests",
        "UPDATE tool_calls",
        "UPDATE turns",
    ]
    assert (seen.commits, other.commits) == (1, 1)


async def test_a_list_is_one_query(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A page of chats reads no messages and counts nothing."""
    owner = f"one query {new_id()}"
    for _ in range(3):
        await sql_journal.create(head(owner))
    with watched(tables) as seen:
        await sql_journal.summaries(owner, limit=2)
    assert seen.statements == ["SELECT chats"]
