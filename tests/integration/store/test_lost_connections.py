"""A connection that breaks around a COMMIT: whatever the server has done, each point happens exactly once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.domain.messages import user
from nodellm_orm.errors import ChatError, StaleChatError, StorageError
from nodellm_orm.ports.approvals import Decision
from nodellm_orm.ports.entries import TurnEnded
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.proxy import wire_to
from tests.integration.store.samples import (
    ENDED,
    LEASE,
    answer,
    begin,
    begun,
    call,
    closed,
    completed,
    head,
    opened_call,
    with_call,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind
    from tests.integration.store.proxy import Cut, Wire


@pytest.fixture(
    scope="module", params=[pytest.param(k, marks=getattr(pytest.mark, k)) for k in ("postgresql", "mysql")]
)
def sql_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """The databases that are reached through a network."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture
async def wired(tables: AsyncEngine) -> AsyncIterator[tuple[Wire, AsyncEngine]]:
    """An engine whose connections go through a wire that can be cut."""
    async with wire_to(tables.url) as (wire, url):
        engine = create_async_engine(url, isolation_level="READ COMMITTED")
        yield wire, engine
        await engine.dispose()


@pytest.fixture
def wire(wired: tuple[Wire, AsyncEngine]) -> Wire:
    """The wire."""
    return wired[0]


@pytest.fixture
async def far(wired: tuple[Wire, AsyncEngine]) -> SqlJournal:
    """A journal at the other end of the wire, connected."""
    async with wired[1].connect() as connection:
        await connection.execute(text("SELECT 1"))
    return SqlJournal(open_access(wired[1], RECORDS), RECORDS)


@pytest.fixture
def hasty(wired: tuple[Wire, AsyncEngine]) -> SqlJournal:
    """The same, with little patience."""
    return SqlJournal(open_access(wired[1], RECORDS, deadline=0.5), RECORDS)


cuts = pytest.mark.parametrize(
    "cut",
    [
        pytest.param("before", marks=pytest.mark.fault("B01")),
        pytest.param("after", marks=pytest.mark.fault("B02")),
    ],
)


@cuts
async def test_a_turn_begins_once(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """The first point is found to be done, or done again; either way it is there once, and its hold is good."""
    snapshot = await far.create(head())
    wire.cut = cut
    turn = await begin(far, snapshot, key="k")
    assert wire.cuts == 1
    seen = await far.load(snapshot.head.id, "ada")
    assert (seen.fence, seen.next_position, seen.message_ids) == (1, 1, (turn.asked.id,))
    assert seen.last_turn is not None
    assert [a.id for a in seen.last_turn.attempts] == [turn.opened.id]
    await far.record(turn.hold, (answer(1),))


@cuts
async def test_a_point_is_written_once(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """Every later point likewise, and the next one goes on from it."""
    turn = await begun(far)
    wire.cut = cut
    hold = await far.record(turn.hold, (closed(turn.opened), said := answer(1)))
    assert (wire.cuts, hold.step) == (1, 2)
    await far.record(hold, (answer(2),))
    seen = await far.load(hold.chat_id, "ada")
    assert (seen.message_ids[1], seen.next_position) == (said.id, 3)
    assert (await far.totals(hold.chat_id, "ada")).requests == 1


@cuts
async def test_a_decision_is_made_once(far: SqlJournal, wire: Wire, sql_journal: SqlJournal, cut: Cut) -> None:
    """A decision whose commit was made stands, and is not another's; one that was not made may come too late."""
    turn = await begun(far)
    said = answer(1, asked := call())
    suspended = TurnEnded(status="suspended", reason="approval")
    waits = opened_call(said, asked, status="awaiting_approval")
    hold = await far.record(turn.hold, (closed(turn.opened), said, waits, suspended))

    async def another() -> None:
        with suppress(ChatError):
            await sql_journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, denial="no", by="bea"))

    wire.cut, wire.meanwhile = cut, another
    approved = Decision(call_id=asked.call_id, by="ada")
    if cut == "after":
        assert (await far.decide(hold.chat_id, "ada", approved)).decided_by == "ada"
    else:
        with pytest.raises(ChatError, match="was denied by bea"):
            await far.decide(hold.chat_id, "ada", approved)
    (state,) = (await far.turn(hold.chat_id, "ada", turn.turn_id)).calls
    assert (wire.cuts, state.status) == (1, "pending" if cut == "after" else "denied")


@cuts
async def test_the_end_of_a_turn_is_written_once(
    far: SqlJournal, wire: Wire, sql_journal: SqlJournal, cut: Cut
) -> None:
    """Even when another turn has begun before the first worker looks, it learns that its own had ended."""
    turn = await begun(far)

    async def another() -> None:
        if cut == "after":
            await begin(sql_journal, await sql_journal.load(turn.hold.chat_id, "ada"), worker="w2")

    wire.cut, wire.meanwhile = cut, another
    await far.record(turn.hold, (closed(turn.opened), answer(1), TurnEnded(status="completed")))
    state = await far.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (wire.cuts, state.status) == (1, "completed")


async def test_a_chat_that_was_lost_meanwhile_is_stale(far: SqlJournal, wire: Wire, sql_journal: SqlJournal) -> None:
    """When another worker takes over while the connection is down, nothing is written a second time."""
    turn, _, _ = await with_call(far, lease=ENDED)

    async def another() -> None:
        await sql_journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)

    wire.cut, wire.meanwhile = "before", another
    with pytest.raises(StaleChatError):
        await far.record(turn.hold, (answer(2),))
    assert (await far.load(turn.hold.chat_id, "ada")).next_position == 2


@cuts
async def test_a_turn_is_taken_over_once(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """A take-over whose outcome was unknown counts once."""
    turn, _, _ = await with_call(far, lease=ENDED)
    wire.cut = cut
    hold = await far.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    assert (wire.cuts, hold.fence) == (1, 2)
    assert (await far.turn(hold.chat_id, "ada", hold.turn_id)).takeovers == 1
    await far.record(hold, (answer(2),))


@cuts
async def test_cancelling_tells_the_truth(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """A cancellation whose outcome was unknown says that a turn was running."""
    turn = await begun(far)
    wire.cut = cut
    assert await far.cancel(turn.hold.chat_id, "ada")
    assert wire.cuts == 1
    assert (await far.turn(turn.hold.chat_id, "ada", turn.turn_id)).status == "cancelled"


@cuts
async def test_deleting_tells_the_truth(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """A deletion whose outcome was unknown says that there was a chat."""
    snapshot = await far.create(head())
    wire.cut = cut
    assert await far.delete(snapshot.head.id, "ada")
    assert wire.cuts == 1
    assert not await far.delete(snapshot.head.id, "ada")


@cuts
async def test_chats_are_created_saved_and_extended_once(far: SqlJournal, wire: Wire, cut: Cut) -> None:
    """Outside a turn nothing is doubled either."""
    wire.cut = cut
    made = await far.create(head(), [(new_id(), user("one"))])
    wire.cut = cut
    after = await far.append(made.head, made.fence, [(new_id(), user("two"))])
    wire.cut = cut
    await far.update(after.head)
    assert wire.cuts == 3
    seen = await far.load(made.head.id, "ada")
    assert [message.content for message in seen.messages] == ["one", "two"]


@pytest.mark.fault("B03")
async def test_a_commit_whose_answer_never_comes_is_looked_up(far: SqlJournal, hasty: SqlJournal, wire: Wire) -> None:
    """After the deadline the rows tell that the point has been written."""
    turn = await begun(far)
    wire.cut = "mute"
    hold = await hasty.record(turn.hold, (closed(turn.opened), answer(1)))
    assert (wire.cuts, hold.step) == (1, 2)
    await far.record(hold, (answer(2),))


@pytest.mark.fault("B03")
async def test_a_commit_that_never_arrives_is_a_storage_error(far: SqlJournal, hasty: SqlJournal, wire: Wire) -> None:
    """After the deadline the rows tell that it has not; the error says so, and the hold is still good."""
    turn = await begun(far)
    before = await far.load(turn.hold.chat_id, "ada")
    wire.cut = "swallow"
    with pytest.raises(StorageError, match="did not answer"):
        await hasty.record(turn.hold, (answer(1),))
    assert wire.cuts == 1
    assert (await far.load(turn.hold.chat_id, "ada")).messages == before.messages
    await far.record(turn.hold, (answer(1),))


@pytest.mark.fault("B04")
async def test_connections_that_were_killed_while_idle_are_replaced(
    far: SqlJournal, wired: tuple[Wire, AsyncEngine], tables: AsyncEngine
) -> None:
    """A pooled connection that the server has ended meanwhile is not noticed by the caller."""
    snapshot = await far.create(head())
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}[tables.dialect.name]
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}[tables.dialect.name]
    async with wired[1].connect() as connection:
        number = int((await connection.exec_driver_sql(ask)).scalar_one())
    async with tables.connect() as connection:
        await connection.exec_driver_sql(kill.format(number))
    assert (await completed(far, snapshot)).next_position == 2
