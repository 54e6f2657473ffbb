"""One chat object and several event loops: in threads, one after the other, and loops that are closed under a turn."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.errors import ChatBusyError, ConfigurationError
from tests.unit.runtime.scripted import says
from tests.unit.runtime.test_turns import World

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from typing import Any

    from nodellm_orm.domain.replies import Reply

THREADS = 8


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


class Elsewhere:
    """A question that is being answered in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.gate = asyncio.Event()
        self.world = World(self.gate, says("there"), says("here"))
        self.asking = asyncio.run_coroutine_threadsafe(self.world.chat.ask("there?"), loop)

    async def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def begun(self) -> None:
        """Until the model has been asked there."""
        await self(self.world.model.asked.wait())

    async def reply(self) -> Reply[object]:
        """Let the answer come."""
        self._loop.call_soon_threadsafe(self.gate.set)
        return await asyncio.wrap_future(self.asking)


@pytest.mark.fault("C65")
@pytest.mark.parametrize("wait", [0, 1e6])
async def test_object_that_is_busy_in_another_thread_is_refused(
    elsewhere: asyncio.AbstractEventLoop, wait: float
) -> None:
    """A chat object that answers in one thread is refused in another one at once, and usable there afterwards."""
    there = Elsewhere(elsewhere)
    await there.begun()

    with pytest.raises(ChatBusyError, match="another thread"):
        await there.world.chat.ask("here?", wait=wait)
    with pytest.raises(ChatBusyError, match="another thread"):
        await there.world.chat.add_message("user", "here?")

    assert (await there.reply()).content == "there"
    assert (await there.world.chat.ask("here?")).content == "here"
    assert [m.content for m in await there.world.stored()] == ["there?", "there", "here?", "here"]


@pytest.mark.fault("C65")
async def test_turn_in_another_thread_is_cancelled(elsewhere: asyncio.AbstractEventLoop) -> None:
    """``cancel`` ends the turn of the same object in another thread, whose caller gets a reply that says so."""
    there = Elsewhere(elsewhere)
    await there.begun()

    assert await there.world.chat.cancel()

    reply = await asyncio.wrap_future(there.asking)
    assert (reply.finish_reason, (await there.world.last()).status) == ("cancelled", "cancelled")


@pytest.mark.fault("C65")
async def test_stream_is_read_where_it_was_begun(elsewhere: asyncio.AbstractEventLoop) -> None:
    """The chunks of a stream cannot be read in another thread than the one it was begun in."""
    world = World(says("Hello"))
    stream = world.chat.stream("Hi")
    assert (await anext(stream)).content == "H"
    read = asyncio.run_coroutine_threadsafe(anext(stream), elsewhere)

    with pytest.raises(ConfigurationError, match="event loop"):
        await asyncio.wrap_future(read)

    assert "".join([chunk.content async for chunk in stream]) == "ello"


@pytest.mark.fault("C65")
def test_of_threads_that_ask_at_once_each_is_answered_or_refused() -> None:
    """Threads that ask one object at the same moment never run two turns at once; nothing is lost or mixed up."""
    rounds = 20
    world = World(*[says("yes")] * (THREADS * rounds))
    start = threading.Barrier(THREADS)

    def ask(number: int) -> list[str]:
        async def all_rounds() -> list[str]:
            answered = []
            for round_ in range(rounds):
                start.wait()
                try:
                    await world.chat.ask(f"{number} in {round_}")
                except ChatBusyError:
                    continue
                answered.append(f"{number} in {round_}")
            return answered

        return asyncio.run(all_rounds())

    with ThreadPoolExecutor(THREADS) as threads:
        answered = {words for found in threads.map(ask, range(THREADS)) for words in found}

    stored = asyncio.run(world.stored())
    assert [m.role for m in stored] == ["user", "assistant"] * len(answered)
    assert {m.content for m in stored[::2]} == answered
    assert answered
    assert len(world.model.requests) == len(answered)


@pytest.mark.fault("C53")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("then", ["ask", "resume", "cancel"])
def test_loop_that_is_closed_under_a_turn_leaves_it_interrupted(then: str) -> None:
    """A loop that is closed without a word holds up no later one: the object goes on when the lease is over."""
    world = World(asyncio.Event(), says("later"), lease=0.05)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # the loop reports tasks that are destroyed with it
    asking = loop.create_task(world.chat.ask("Hi"))
    loop.run_until_complete(world.model.asked.wait())
    loop.close()

    async def go_on() -> object:
        match then:
            case "ask":
                return (await world.chat.ask("Still there?", wait=30)).content
            case "resume":
                return (await world.chat.resume(wait=30)).content
            case _:
                return await world.chat.cancel()

    assert asyncio.run(go_on()) == (True if then == "cancel" else "later")
    statuses = {"ask": ["failed", "completed"], "resume": ["completed"], "cancel": ["cancelled"]}
    kept = world.journal._chats[world.head.id].turns.values()
    assert [turn.state.status for turn in kept] == statuses[then]
    del asking


def test_one_object_serves_loops_one_after_the_other() -> None:
    """A chat that was used in one loop can be used in the next."""
    world = World(says("one"), says("two"))
    assert asyncio.run(world.chat.ask("1?")).content == "one"
    assert asyncio.run(world.chat.ask("2?")).content == "two"
