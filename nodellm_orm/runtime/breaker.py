"""The circuit breaker: a model that failed too often just now is not asked for a while.

==========  ====================================================================================================
closed      everything is sent; failures in a row are counted, and enough of them within a while open the circuit
open        nothing is sent until its time has passed
half-open   one request is sent as a probe: an answer closes the circuit, a failure opens it for another while
==========  ====================================================================================================

A circuit is that of one model at one endpoint, not of the endpoint as a whole: providers run out of capacity model by
model, and the fallback to another model of the same provider has to stay open.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from nodellm_orm.errors import (
    CircuitOpenError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    ServerError,
    StreamInterruptedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.domain.policies import CircuitBreaker
    from nodellm_orm.ports.ambient import Clock

CircuitState = Literal["closed", "open", "half-open"]

FAILURES: Final[tuple[type[ProviderError], ...]] = (
    OverloadedError,
    ServerError,
    ProviderTimeoutError,
    ProviderConnectionError,
    StreamInterruptedError,
)
"""What counts. A rate limit does not: the endpoint is well, and says itself how long to wait."""


@dataclass(frozen=True, slots=True)
class _Passage:
    """One request that was let through."""

    era: int
    probe: int | None = None
    """Its number among the probes, when it is one."""


class Circuit:
    """The state of one model at one endpoint, shared by everybody who asks it, in whatever thread.

    What a request says that was sent before the circuit opened or closed is of another time, and changes nothing. A
    probe whose end is never heard of, for its event loop is gone, holds the circuit no longer than a failed one would.

    Args:
        policy: how many failures open it, and for how long.
        clock: tells the time.
    """

    def __init__(self, policy: CircuitBreaker, clock: Clock) -> None:
        """Begin closed."""
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._era = 0
        self._failed: deque[float] = deque(maxlen=policy.failures)
        """When the last failures in a row happened, while the circuit is closed."""
        self._until: float | None = None
        """When the next request may be sent; ``None`` while the circuit is closed."""
        self._probes = 0
        self._probing: int | None = None

    @property
    def state(self) -> CircuitState:
        """As of now; half-open from the moment at which a probe may be sent."""
        with self._lock:
            if self._until is None:
                return "closed"
            probing = self._probing is not None or self._clock.monotonic() >= self._until
            return "half-open" if probing else "open"

    @contextmanager
    def passing(self, origin: Origin) -> Iterator[None]:
        """Around one request: refuses it, or learns from what comes of it.

        Args:
            origin: named in the error.

        Raises:
            CircuitOpenError: the circuit is open; nothing may be sent.
        """
        passage = self._enter(origin)
        try:
            yield
        except ProviderError as error:
            self._leave(passage, failed=isinstance(error, FAILURES), heard=not isinstance(error, ProtocolError))
            raise
        except BaseException:
            self._leave(passage, failed=False, heard=False)  # cancelled, or never sent: says nothing
            raise
        else:
            self._leave(passage, failed=False, heard=True)

    def _enter(self, origin: Origin) -> _Passage:
        with self._lock:
            if self._until is None:
                return _Passage(self._era)
            now = self._clock.monotonic()
            if now < self._until:
                raise _refused(origin, self._until - now)
            self._until = now + self._policy.open_for
            self._probes += 1
            self._probing = self._probes
            return _Passage(self._era, self._probes)

    def _leave(self, passage: _Passage, *, failed: bool, heard: bool) -> None:
        with self._lock:
            if passage.era != self._era:
                return
            now = self._clock.monotonic()
            if passage.probe is None:
                self._count(now, failed=failed, heard=heard)
            elif failed:
                self._until, self._probing = now + self._policy.open_for, None
            elif heard:
                self._turn(None)
            elif passage.probe == self._probing:
                self._until, self._probing = now, None  # the next one may try at once

    def _count(self, now: float, *, failed: bool, heard: bool) -> None:
        if failed:
            self._failed.append(now)
            if len(self._failed) == self._policy.failures and now - self._failed[0] <= self._policy.within:
                self._turn(now + self._policy.open_for)
        elif heard:
            self._failed.clear()

    def _turn(self, until: float | None) -> None:
        self._era += 1
        self._failed.clear()
        self._until, self._probing = until, None


class Circuits:
    """The circuits of a client, and of all clients made from it.

    Args:
        policy: of all of them.
        clock: tells the time.
    """

    def __init__(self, policy: CircuitBreaker, clock: Clock) -> None:
        """Begin with none."""
        self._policy = policy
        self._clock = clock
        self._circuits: dict[tuple[str, str, str], Circuit] = {}

    def of(self, origin: Origin) -> Circuit:
        """The circuit of a model at an endpoint, whatever wire format it is spoken to in.

        Args:
            origin: the model.
        """
        key = (origin.provider, origin.endpoint, origin.model)
        found = self._circuits.get(key)
        return found if found is not None else self._circuits.setdefault(key, Circuit(self._policy, self._clock))


def _refused(origin: Origin, wait: float) -> CircuitOpenError:
    msg = (
        f"{origin.provider}/{origin.model} failed too often just now, and nothing was sent; ask again in "
        f"{wait:.0f} s, or give create_llm(fallback=[...]) another model"
    )
    return CircuitOpenError(msg, provider=origin.provider, model=origin.model, retry_after=wait)
