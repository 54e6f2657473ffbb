"""One model call as the ledger sees it: attempts, each a row written before it is sent, until one is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError, ProviderError
from nodellm_orm.ports.entries import AttemptClosed, AttemptOpened
from nodellm_orm.runtime.fallback import name_of
from nodellm_orm.runtime.model import Trace
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.policies import RetryPolicy, Timeout
    from nodellm_orm.domain.ratelimit import RateLimits
    from nodellm_orm.ports.ambient import Clock, IdSource
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.prices import PriceBook
    from nodellm_orm.ports.statuses import AttemptStatus
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What every turn of one client shares."""

    clock: Clock
    new_id: IdSource
    chance: Callable[[], float]
    """Random numbers from 0 to 1, for jitter."""
    prices: PriceBook
    retry: RetryPolicy
    timeout: Timeout


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer and the ledger entry that closes its attempt."""

    completion: Completion
    closed: AttemptClosed


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A request on its way to one model."""

    plan: Plan
    """What the turn is asked with there."""
    request: ModelRequest
    cache: RenderCache | None
    """Rendered messages of this chat and target."""


class Attempts:
    """The attempts of one turn: opens them, times them, prices them, repeats them, here or elsewhere."""

    def __init__(
        self,
        engine: Engine,
        write: Callable[..., Awaitable[None]],
        *,
        timeout: Timeout,
        operation: str = "chat",
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            engine: clock, ids, prices and policies.
            write: writes one durable point of entries.
            timeout: limits of each attempt.
            operation: what the ledger calls it.
        """
        self._operation = operation
        self._engine = engine
        self._write = write
        self._timeout = timeout
        self._open: AttemptOpened | None = None
        self._trace: Trace | None = None
        self._answer: Answer | None = None
        self._failure: ProviderError | ConfigurationError | None = None
        """What the open attempt has failed with, while it is decided what follows."""
        self._delivered = False
        """Whether the consumer has been given anything of the answer."""
        self.rate_limits: RateLimits | None = None
        """What the last response said of the provider's limits."""

    def open(self, model: Model, attempt: int = 1) -> AttemptOpened:
        """The entry for an attempt about to be made; it has to be written before `run`."""
        return AttemptOpened(
            id=self._engine.new_id(),
            provider=model.origin.provider,
            requested_model=model.origin.model,
            attempt=attempt,
            operation=self._operation,
        )

    async def run(
        self,
        leg: Leg,
        *,
        on_event: Callable[[Event], Awaitable[bool]],
        detour: Callable[[ProviderError], Awaitable[Leg | None]],
        moved: Callable[[Leg], None],
    ) -> Answer:
        """Make the open attempt, and further ones while the policy allows it; then go on elsewhere, if there is a way.

        Args:
            leg: where to send it, and what.
            on_event: hands an event to the consumer; says whether the consumer has been given anything.
            detour: the way on after the error of the model that was asked first; ``None`` when there is none left.
            moved: told of a way that is taken, once its attempt is in the rows.

        Raises:
            ProviderError: the last error of the model that was asked first, with notes on what became of the others,
                or that of the model whose answer broke off; `closing` has the ledger entry of the last attempt.
        """
        self._delivered = False
        told: ProviderError | None = None
        while True:
            try:
                return await self._persist(leg, on_event)
            except (ProviderError, ConfigurationError) as error:
                self._failure = error
                if told is None and isinstance(error, ProviderError):
                    told = error
                elif told is None or self._delivered:
                    raise
                else:
                    told.add_note(f"{name_of(leg.plan.model.origin)} was asked next: {type(error).__name__}: {error}")
                onward = None if self._delivered else await detour(told)
                if onward is None:
                    raise told from told.__cause__
                await self._follow(onward, error)
                moved(onward)
                leg = onward

    async def _persist(self, leg: Leg, on_event: Callable[[Event], Awaitable[bool]]) -> Answer:
        """Make the open attempt, and further ones at the same model while the policy allows it."""
        tries = 1
        while True:
            try:
                completion = await self._send(leg, on_event)
            except ProviderError as error:
                self._failure = error
                delay = delay_before_next(
                    self._engine.retry,
                    error,
                    attempt=tries,
                    delivered=self._delivered,
                    chance=self._engine.chance(),
                )
                if delay is None:
                    raise
                await self._follow(leg, error)
                await self._engine.clock.sleep(delay)
                tries += 1
            else:
                self._answer = Answer(completion, self._close("ok", completion.usage, model=completion.model))
                return self._answer

    async def _send(self, leg: Leg, on_event: Callable[[Event], Awaitable[bool]]) -> Completion:
        async def hand_on(event: Event) -> None:
            self._delivered = await on_event(event) or self._delivered

        if self._open is None:
            msg = "an attempt is opened before it is run"
            raise AssertionError(msg)
        self._trace = trace = Trace(self._engine.clock.monotonic())
        try:
            completion = await leg.plan.model.send(
                leg.request,
                cache=leg.cache,
                timeout=self._timeout,
                headers=leg.plan.headers,
                trace=trace,
                on_event=hand_on,
            )
        finally:
            if trace.http_status is not None:
                self.rate_limits = trace.rate_limits
        return replace(completion, rate_limits=trace.rate_limits)

    async def _follow(self, leg: Leg, error: BaseException) -> None:
        """Close the attempt that failed and open the one that follows it, in one point."""
        number = self._open.attempt if self._open is not None else 0
        failed = self.closing("failed", error)
        await self._write(*([failed] if failed else []), self.open(leg.plan.model, number + 1))

    @property
    def arrived(self) -> Completion | None:
        """What has arrived of the answer to the open attempt: all of it, or what there is."""
        if self._answer is not None:
            return self._answer.completion
        if self._trace is None or not self._trace.eventful:
            return None
        return self._trace.folded.completion(complete=False)

    def closing(self, status: AttemptStatus, error: BaseException | None = None) -> AttemptClosed | None:
        """The entry that closes the attempt still open, if there is one, with whatever it is known to have used.

        An attempt that was answered was answered, and one that failed has failed, whatever became of the turn
        afterwards.

        Args:
            status: what became of it otherwise.
            error: what ended it.
        """
        if self._open is None:
            return None
        if self._answer is not None:
            return self._answer.closed
        if self._failure is not None:
            status, error = "failed", self._failure
        name = "Cancelled" if status == "cancelled" else type(error).__name__ if error else None
        partial = self.arrived
        closed = self._close(
            status, partial.usage if partial else Usage(), model=partial.model if partial else None, error_type=name
        )
        if isinstance(error, ProviderError):
            closed = replace(
                closed,
                http_status=closed.http_status or error.status,
                request_id=closed.request_id or error.request_id,
            )
        return closed

    @property
    def known(self) -> AttemptClosed | None:
        """The entry that closes the attempt still open, if it is known what came of it, or a part of what it used."""
        closed = self.closing("cancelled")
        if closed is None or (closed.status == "cancelled" and closed.usage == Usage()):
            return None
        return closed

    def committed(self, entries: Iterable[Entry]) -> None:
        """Take note of entries that are now durable: attempts that were opened or closed."""
        for entry in entries:
            match entry:
                case AttemptOpened():
                    self._open, self._trace, self._answer, self._failure = entry, None, None, None
                case AttemptClosed() if self._open is not None and entry.id == self._open.id:
                    self._open = self._trace = self._answer = self._failure = None
                case _:
                    pass

    def _close(
        self, status: AttemptStatus, usage: Usage, *, model: str | None = None, error_type: str | None = None
    ) -> AttemptClosed:
        opened, trace = self._open, self._trace
        if opened is None:
            msg = "no attempt is open"
            raise AssertionError(msg)
        now = self._engine.clock.monotonic()
        return AttemptClosed(
            id=opened.id,
            status=status,
            http_status=trace.http_status if trace else None,
            error_type=error_type,
            request_id=trace.request_id if trace else None,
            model=model,
            latency_ms=round((now - trace.began) * 1000) if trace else None,
            first_token_ms=round((trace.first_token - trace.began) * 1000) if trace and trace.first_token else None,
            usage=usage,
            cost=self._cost(opened, model, usage),
        )

    def _cost(self, opened: AttemptOpened, model: str | None, usage: Usage) -> Cost:
        if usage == Usage():
            return UNKNOWN_COST
        asked = opened.requested_model
        return self._engine.prices.cost(provider=opened.provider, model=model or asked, asked=asked, usage=usage)
