"""A model that says what a test tells it to, for tests of the loop that need no wire format."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.events import (
    Finished,
    RefusalDelta,
    ResponseStarted,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from nodellm_orm.domain.messages import Completion, FinishReason, Origin
from nodellm_orm.domain.money import Cost
from nodellm_orm.domain.parts import RefusalPart, TextPart, ToolCallPart
from nodellm_orm.domain.policies import RetryPolicy, Timeout
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.usage import Usage
from nodellm_orm.ports.states import ChatHead
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.exchange import Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.model import Trace

Step: TypeAlias = "Completion | Exception | asyncio.Event"
"""What comes of one attempt: an answer, an error, or silence until the event is set (then the next step)."""

ORIGIN = Origin(provider="scripted", api="script", endpoint="here", model="m-1")
USAGE = Usage(input_tokens=10, output_tokens=5)


def says(text: str, usage: Usage = USAGE, reason: FinishReason = FinishReason.STOP) -> Completion:
    """An answer of text."""
    return Completion(parts=(TextPart(text=text),), finish_reason=reason, usage=usage, model="m-1")


def calls(*wanted: tuple[str, str], text: str = "") -> Completion:
    """An answer that calls tools: name and JSON text of the arguments."""
    parts: list[Part] = [TextPart(text=text)] if text else []
    parts += [
        ToolCallPart(call_id="", wire_id=f"w{index}", name=name, arguments=arguments)
        for index, (name, arguments) in enumerate(wanted)
    ]
    return Completion(parts=tuple(parts), finish_reason=FinishReason.TOOL_CALL, usage=USAGE, model="m-1")


@dataclass
class ScriptedModel:
    """Gives one step an attempt, and remembers what it was asked."""

    script: list[Step]
    origin: Origin = ORIGIN
    profile: ModelProfile = field(default_factory=ModelProfile)
    requests: list[ModelRequest] = field(default_factory=list)
    pace: asyncio.Semaphore | None = None
    """One permit an event of a stream; without one the model falls silent."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Everything can be sent."""
        del request, cache
        return ()

    def render(self, request: ModelRequest) -> WireRequest:
        """Nothing is sent."""
        del request
        return WireRequest(path="/", body=b"")

    async def send(
        self,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: Callable[[Event], Awaitable[None]],
    ) -> Completion:
        """The next step of the script; streamed answers come in events."""
        del cache, timeout, headers
        self.requests.append(request)
        self.asked.set()
        step = self.script.pop(0)
        while isinstance(step, asyncio.Event):
            await step.wait()
            step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        trace.http_status = 200
        trace.request_id = f"req-{len(self.requests)}"
        if request.stream:
            for event in _events(step):
                trace.eventful = True
                trace.folded.add(event)
                await on_event(event)
                if self.pace is not None:
                    await self.pace.acquire()
            return trace.folded.completion()
        return step


def _events(completion: Completion) -> list[Event]:
    events: list[Event] = [ResponseStarted(model=completion.model)]
    for index, part in enumerate(completion.parts):
        match part:
            case TextPart(text=text):
                events += [TextDelta(index=index, text=letter) for letter in text]
            case RefusalPart(text=text):
                events += [RefusalDelta(index=index, text=letter) for letter in text]
            case ToolCallPart():
                events.append(
                    ToolCallDelta(index=index, wire_id=part.wire_id, name=part.name, arguments=part.arguments)
                )
            case _:
                msg = "the script cannot stream that part"
                raise AssertionError(msg)
    return [*events, UsageReported(usage=completion.usage), Finished(reason=completion.finish_reason)]


class ManualClock:
    """A clock that stands still until a test moves it on, and wakes whoever has slept long enough."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, float, asyncio.Event]] = []
        self._news = asyncio.Event()

    def monotonic(self) -> float:
        """The time it was set to."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait for the clock to be moved on."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = (self._now + seconds, seconds, asyncio.Event())
        self._sleepers.append(sleeper)
        self._news.set()
        try:
            await sleeper[2].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move on, and wake everybody who is due by then."""
        self._now += seconds
        for due, _, woken in self._sleepers:
            if due <= self._now:
                woken.set()

    async def until_asleep(self, seconds: float) -> None:
        """Wait until somebody has lain down for exactly so long."""
        while not any(asked == seconds and not woken.is_set() for _, asked, woken in self._sleepers):
            self._news.clear()
            await self._news.wait()


class OneDollar:
    """Every answer costs a dollar; an attempt of unknown usage costs nothing known."""

    def cost(self, *, provider: str, model: str, usage: Usage, asked: str | None = None) -> Cost:
        """A dollar."""
        del provider, model, usage, asked
        return Cost(total=Decimal(1), source="test")


def engine(retry: RetryPolicy | None = None) -> Engine:
    """An engine with a real clock, no delays between attempts, and known prices."""
    return Engine(
        clock=SystemClock(),
        new_id=new_id,
        chance=lambda: 0.0,
        prices=OneDollar(),
        retry=retry or RetryPolicy(),
        timeout=Timeout(),
    )


def head() -> ChatHead:
    """A chat with nothing said about it."""
    return ChatHead(id=new_id(), provider="scripted", model="m-1", api="script", settings=Settings())
