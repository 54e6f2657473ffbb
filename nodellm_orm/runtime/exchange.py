"""One model call as the ledger sees it: attempts, each a row written before it is sent, until one is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ProviderError
from nodellm_orm.ports.journal import AttemptClosed, AttemptOpened
from nodellm_orm.runtime.model import Trace
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.policies import RetryPolicy, Timeout
    from nodellm_orm.ports.ambient import Clock, IdSource
    from nodellm_orm.ports.journal import AttemptStatus, Entry
    from nodellm_orm.ports.prices import PriceBook
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.model import Model


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


class Attempts:
    """The attempts of one turn: opens them, times them, prices them, repeats them."""

    def __init__(
        self,
        engine: Engine,
        write: Callable[..., Awaitable[None]],
        *,
        timeout: Timeout,
        headers: Mapping[str, str],
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            engine: clock, ids, prices and policies.
            write: writes one durable point of entries.
            timeout: limits of each attempt.
            headers: the caller's own headers.
        """
        self._engine = engine
        self._write = write
        self._timeout = timeout
        self._headers = headers
        self._open: AttemptOpened | None = None
        self._trace: Trace | None = None
        self._answer: Answer | None = None

    def open(self, model: Model, attempt: int = 1) -> AttemptOpened:
        """The entry for an attempt about to be made; it has to be written before `run`."""
        return AttemptOpened(
            id=self._engine.new_id(),
            provider=model.origin.provider,
            requested_model=model.origin.model,
            attempt=attempt,
        )

    async def run(
        self,
        model: Model,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        on_event: Callable[[Event], Awaitable[bool]],
    ) -> Answer:
        """Make the open attempt, and further ones while the policy allows it.

        Args:
            model: where to send it.
            request: what to send.
            cache: rendered messages of this chat and target.
            on_event: hands an event to the consumer; says whether the consumer has been given anything.

        Raises:
            ProviderError: the last attempt's error; `closing` has its ledger entry.
        """
        delivered = False

        async def hand_on(event: Event) -> None:
            nonlocal delivered
            delivered = await on_event(event) or delivered

        while True:
            if self._open is None:
                msg = "an attempt is opened before it is run"
                raise AssertionError(msg)
            self._trace = trace = Trace(self._engine.clock.monotonic())
            try:
                completion = await model.send(
                    request,
                    cache=cache,
                    timeout=self._timeout,
                    headers=self._headers,
                    trace=trace,
                    on_event=hand_on,
                )
            except ProviderError as error:
                delay = delay_before_next(
                    self._engine.retry,
                    error,
                    attempt=self._open.attempt,
                    delivered=delivered,
                    chance=self._engine.chance(),
                )
                if delay is None:
                    raise
                failed = self.closing("failed", error)
                following = self.open(model, self._open.attempt + 1)
                await self._write(*([failed] if failed else []), following)
                await self._engine.clock.sleep(delay)
            else:
                self._answer = Answer(completion, self._close("ok", completion.usage, model=completion.model))
                return self._answer

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

        An attempt that was answered was answered, whatever became of the turn afterwards.

        Args:
            status: what became of it otherwise.
            error: what ended it.
        """
        if self._open is None:
            return None
        if self._answer is not None:
            return self._answer.closed
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

    def committed(self, entries: Iterable[Entry]) -> None:
        """Take note of entries that are now durable: attempts that were opened or closed."""
        for entry in entries:
            match entry:
                case AttemptOpened():
                    self._open, self._trace, self._answer = entry, None, None
                case AttemptClosed() if self._open is not None and entry.id == self._open.id:
                    self._open = self._trace = self._answer = None
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
