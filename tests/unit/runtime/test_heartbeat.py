"""The heartbeat: leases are renewed while a turn runs, and a turn whose lease is gone stops without a trace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm.chat import Chat
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import StaleChatError
from nodellm_orm.fluent import Behaviour
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.toolbox import Toolbox
from tests.unit.runtime.journals import WatchedJournal, keep_in, let_run
from tests.unit.runtime.scripted import ManualClock, ScriptedModel, head, says
from tests.unit.runtime.test_turns import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.ports.entries import AttemptClosed, Entry
    from nodellm_orm.ports.ownership import Hold

LEASE: Final = 60.0
QUARTER: Final = 15.0
AWAY: Final = ConnectionError("the database is away")


class Turn:
    """A question whose answer waits for the test, under a clock that stands still."""

    def __init__(self, *, lease: float = LEASE) -> None:
        self.clock = ManualClock()
        self.answer = asyncio.Event()
        self.world = World(self.answer, says("late"), lease=lease)
        self.journal = keep_in(WatchedJournal(self.clock), self.world, self.clock)

    async def begin(self) -> asyncio.Task[Reply[object]]:
        """Ask, until the model has been asked."""
        asking = asyncio.create_task(self.world.chat.ask("Hi"))
        await self.world.model.asked.wait()
        return asking

    async def beside(self, *kept: tuple[WatchedJournal, float]) -> list[asyncio.Task[Reply[object]]]:
        """Ask in chats of one client, each in a journal and with a lease of its own; no model answers."""
        self.world.model.script[:] = [asyncio.Event() for _ in kept]
        host = Host(self.world.engine, _One(self.world.model), "worker")
        asking: list[asyncio.Task[Reply[object]]] = []
        for journal, lease in kept:
            behaviour = Behaviour(toolbox=Toolbox(()), timeout=Timeout(), lease=lease)
            chat = Chat(host, journal, Conversation.of(journal.keep(head())), behaviour)
            asking.append(asyncio.create_task(chat.ask("Hi")))
            await let_run()
        return asking

    async def beat(self, seconds: float = QUARTER) -> None:
        """Let one beat happen, with all that follows at once."""
        async with asyncio.timeout(10):  # a heart of another pace would never lie down for so long
            await self.clock.until_asleep(seconds)
        self.clock.advance(seconds)
        await let_run()


def beating() -> list[str]:
    """The names of the tasks that keep leases alive."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if "lease" in name]


async def test_lease_is_renewed_every_quarter_of_its_life() -> None:
    """A turn that takes twice as long as its lease is renewed eight times, and is never up for others."""
    turn = Turn()
    asking = await turn.begin()

    for _ in range(8):
        await turn.beat()
        assert not (await turn.world.last()).expired
    turn.answer.set()

    assert (await asking).content == "late"
    assert [turn.journal.renewals.get_nowait() for _ in range(turn.journal.renewals.qsize())] == [None] * 8


async def test_heart_stops_when_nothing_is_to_be_kept_alive() -> None:
    """There is a task as long as a turn runs, and none when all have ended."""
    turn = Turn()
    asking = await turn.begin()
    assert beating() == ["heartbeat of leases"]

    turn.answer.set()
    await asking
    await let_run()

    assert beating() == []


@pytest.mark.fault("C64")
async def test_lost_lease_aborts_the_call_and_writes_nothing() -> None:
    """When a renewal finds that the chat is held no more, the call is aborted, its text in the error only."""
    turn = Turn()
    asking = await turn.begin()
    await (await turn.world.reloaded()).cancel()
    left = await turn.world.last()

    await turn.beat()
    with pytest.raises(StaleChatError, match="lease"):
        await asking

    assert await turn.world.last() == left
    assert [m.content for m in await turn.world.stored()] == ["Hi"]
    assert turn.world.model.script, "the model was never asked further"


@pytest.mark.fault("C60")
async def test_failing_renewal_is_made_again_at_the_next_beat() -> None:
    """A database that is away for less than a lease costs nothing."""
    turn = Turn()
    turn.journal.errors = [AWAY, AWAY, AWAY]
    asking = await turn.begin()

    for _ in range(8):
        await turn.beat()
    turn.answer.set()

    assert (await asking).content == "late"


@pytest.mark.fault("C59")
@pytest.mark.fault("C60")
async def test_turn_is_given_up_when_its_whole_lease_passed_without_a_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database that is away longer than the lease ends the turn: somebody else may have taken the chat (C59, C60)."""
    turn = Turn()
    turn.journal.errors = [AWAY] * 9
    asking = await turn.begin()

    for _ in range(4):
        await turn.beat()
    assert not asking.done()
    await turn.beat()

    with pytest.raises(StaleChatError):
        await asking
    assert "the database is away" in caplog.text


@pytest.mark.fault("C59")
@pytest.mark.fault("C60")
async def test_hanging_renewal_is_not_made_twice_and_ends_the_turn_in_time() -> None:
    """A renewal that hangs is waited for, not repeated; the turn is given up when its lease has passed (C59, C60)."""
    turn = Turn()
    turn.journal.hang = asyncio.Event()
    asking = await turn.begin()

    for _ in range(4):
        await turn.beat()
    assert beating().count("renewal of leases") == 1
    assert not asking.done()
    await turn.beat()

    with pytest.raises(StaleChatError):
        await asking
    turn.journal.hang.set()
    await let_run()
    assert beating() == []


async def test_hanging_database_does_not_starve_another() -> None:
    """Chats of one client in two databases: while one database hangs, leases in the other are renewed."""
    turn = Turn()
    hanging, well = WatchedJournal(turn.clock), WatchedJournal(turn.clock)
    hanging.hang = asyncio.Event()
    asking = await turn.beside((hanging, LEASE), (well, LEASE))

    await turn.beat()
    await turn.beat()

    assert (hanging.renewals.qsize(), well.renewals.qsize()) == (0, 2)
    hanging.hang.set()
    await _ended(asking)


async def test_shortest_lease_sets_the_pace_and_one_statement_renews_all() -> None:
    """A turn with a short lease makes the heart beat faster at once; a beat is one renewal, however many the turns."""
    turn = Turn()
    asking = await turn.beside((turn.journal, LEASE), (turn.journal, 8.0))

    await turn.beat(2.0)

    assert turn.journal.renewals.qsize() == 1
    await _ended(asking)


async def test_blocked_event_loop_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A beat that comes far too late says that the event loop was blocked."""
    turn = Turn()
    asking = await turn.begin()
    await turn.clock.until_asleep(QUARTER)

    turn.clock.advance(QUARTER * 2 + 1)
    await let_run()
    turn.answer.set()
    await asking

    assert "the event loop was blocked for 16.0 s" in caplog.text


async def _ended(asking: list[asyncio.Task[Reply[object]]]) -> None:
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


class _One:
    """A source of one model."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def model(self, provider: str | None, model: str | None, api: str | None) -> ScriptedModel:
        """The one there is."""
        del provider, model, api
        return self._model


class AccountingJournal(WatchedJournal):
    """Somebody else has the chat when the answer is to be recorded, and the ledger takes its time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.accounting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """The hold is no longer good."""
        del hold, entries, again
        msg = "this worker no longer holds the chat"
        raise StaleChatError(msg)

    async def account(self, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
        """As the journal does, late."""
        self.accounting.set()
        await self.go_on.wait()
        await super().account(hold, closed)


async def test_turn_that_hears_twice_that_its_chat_is_lost_says_so_once() -> None:
    """The heartbeat may notice while the turn is already ending for the same reason: its caller is told the reason."""
    turn = Turn()
    turn.journal = journal = keep_in(AccountingJournal(turn.clock), turn.world, turn.clock)
    asking = await turn.begin()
    turn.answer.set()
    await journal.accounting.wait()
    drive = turn.world.chat._drive
    assert drive is not None

    drive.lose()
    await let_run()
    journal.go_on.set()

    with pytest.raises(StaleChatError, match="no longer holds") as caught:
        await asking
    assert caught.value.reply is not None
    assert str(caught.value.reply) == "late"
