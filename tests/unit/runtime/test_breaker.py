"""The circuit breaker: when it opens, what it lets through, and that nothing wedges it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Final, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from nodellm_orm.domain.policies import CircuitBreaker
from nodellm_orm.errors import (
    BadRequestError,
    CircuitOpenError,
    ConfigurationError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.runtime.breaker import Circuit, Circuits
from tests.unit.runtime.scripted import ORIGIN, ManualClock

Passing: TypeAlias = "AbstractContextManager[None]"

POLICY: Final = CircuitBreaker(failures=3, within=60.0, open_for=30.0)
BAD: Final = OverloadedError("busy", status=529)


def send(circuit: Circuit, outcome: BaseException | None = None) -> None:
    """One request and what comes of it."""
    if outcome is None:
        with circuit.passing(ORIGIN):
            return
    with suppress(type(outcome)), circuit.passing(ORIGIN):
        raise outcome


def state(circuit: Circuit) -> str:
    """Its state as of now."""
    return circuit.state


def opened(clock: ManualClock, policy: CircuitBreaker = POLICY) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(policy, clock)
    for _ in range(policy.failures):
        send(circuit, BAD)
    return circuit


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("busy", status=529),
        ServerError("broken", status=500),
        ProviderTimeoutError("late"),
        ProviderConnectionError("gone"),
        StreamInterruptedError("cut", status=200),
    ],
)
def test_failures_in_a_row_open_it(error: ProviderError) -> None:
    """The last of so many failures in a row opens the circuit: nothing more is sent, and the error says how long."""
    clock = ManualClock()
    circuit = Circuit(POLICY, clock)

    send(circuit, error)
    send(circuit, error)
    assert state(circuit) == "closed"
    send(circuit, error)

    assert state(circuit) == "open"
    clock.advance(10)
    with pytest.raises(CircuitOpenError, match="scripted/m-1 failed too often") as caught, circuit.passing(ORIGIN):
        pytest.fail("nothing may be sent")
    assert (caught.value.retry_after, caught.value.provider, caught.value.retryable) == (20.0, "scripted", False)


@pytest.mark.parametrize("heard", [None, RateLimitError("slow down", status=429), BadRequestError("no", status=400)])
def test_answer_ends_the_row(heard: Exception | None) -> None:
    """An answer between failures ends their row, also one that refuses: the endpoint is well."""
    circuit = Circuit(POLICY, ManualClock())

    for outcome in (BAD, BAD, heard, BAD, BAD):
        send(circuit, outcome)

    assert state(circuit) == "closed"


@pytest.mark.parametrize("silent", [asyncio.CancelledError(), ConfigurationError("no"), ProtocolError("html")])
def test_what_says_nothing_of_the_endpoint_changes_nothing(silent: BaseException) -> None:
    """A cancelled request, or one that was never sent, is neither a failure nor the end of a row."""
    circuit = Circuit(POLICY, ManualClock())

    for outcome in (silent, BAD, silent, BAD, silent):
        send(circuit, outcome)
    assert state(circuit) == "closed"
    send(circuit, BAD)

    assert state(circuit) == "open"


def test_failures_far_apart_do_not_open_it() -> None:
    """Failures count together only if they happen within the time that the policy names."""
    clock = ManualClock()
    circuit = Circuit(POLICY, clock)

    for _ in range(9):
        send(circuit, BAD)
        clock.advance(31)

    assert state(circuit) == "closed"


def test_probe_that_is_answered_closes_it() -> None:
    """After its time one request is let through; its answer closes the circuit, and the count begins anew."""
    clock = ManualClock()
    circuit = opened(clock)

    clock.advance(30)
    assert state(circuit) == "half-open"
    send(circuit)

    assert state(circuit) == "closed"
    send(circuit, BAD)
    send(circuit, BAD)
    assert state(circuit) == "closed"


def test_probe_that_fails_opens_it_for_another_while() -> None:
    """One failure is enough when the circuit is half-open, and the time counts from it."""
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(30)

    probe = circuit.passing(ORIGIN)
    probe.__enter__()
    clock.advance(5)
    with suppress(OverloadedError):
        probe.__exit__(OverloadedError, BAD, None)

    assert state(circuit) == "open"
    clock.advance(29)
    with pytest.raises(CircuitOpenError) as caught, circuit.passing(ORIGIN):
        pytest.fail("nothing may be sent")
    assert caught.value.retry_after == 1.0


async def test_only_one_of_many_at_once_is_the_probe() -> None:
    """Of many requests that come when the time has passed one is sent, and the others are refused at once."""
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(30)
    answer, sent = asyncio.Event(), 0

    async def ask() -> None:
        nonlocal sent
        with circuit.passing(ORIGIN):
            sent += 1
            await answer.wait()

    asking = [asyncio.create_task(ask()) for _ in range(20)]
    await asyncio.sleep(0)
    answer.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)

    assert sent == 1
    assert [type(outcome) for outcome in outcomes].count(CircuitOpenError) == 19
    assert state(circuit) == "closed"


async def test_cancelled_probe_makes_room_for_the_next() -> None:
    """A probe that is cancelled says nothing: the next request may be the probe at once."""
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(30)

    async def ask() -> None:
        with circuit.passing(ORIGIN):
            await asyncio.Event().wait()

    probe = asyncio.create_task(ask())
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    send(circuit)

    assert state(circuit) == "closed"


def test_probe_of_which_nothing_is_heard_does_not_wedge_it() -> None:
    """A probe that never ends holds the circuit for one more while, then another is let through."""
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(30)
    lost = circuit.passing(ORIGIN)
    lost.__enter__()

    clock.advance(29)
    with pytest.raises(CircuitOpenError), circuit.passing(ORIGIN):
        pytest.fail("nothing may be sent")
    clock.advance(1)
    send(circuit)

    assert state(circuit) == "closed"
    with suppress(OverloadedError):
        lost.__exit__(OverloadedError, BAD, None)
    assert state(circuit) == "closed"


def test_cancelled_probe_makes_no_room_beside_a_later_one() -> None:
    """When a lost probe is cancelled after all, the one that was sent in its place is still the only one."""
    clock = ManualClock()
    circuit = opened(clock)
    clock.advance(30)
    lost, later = circuit.passing(ORIGIN), circuit.passing(ORIGIN)
    lost.__enter__()
    clock.advance(30)
    later.__enter__()

    with suppress(asyncio.CancelledError):
        lost.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)

    with pytest.raises(CircuitOpenError), circuit.passing(ORIGIN):
        pytest.fail("nothing may be sent")
    later.__exit__(None, None, None)
    assert state(circuit) == "closed"


def test_results_of_another_time_change_nothing() -> None:
    """What was sent before the circuit opened neither closes it nor keeps it open."""
    clock = ManualClock()
    circuit = Circuit(POLICY, clock)
    early = [circuit.passing(ORIGIN) for _ in range(2)]
    for passing in early:
        passing.__enter__()
    for _ in range(3):
        send(circuit, BAD)

    early[0].__exit__(None, None, None)
    assert state(circuit) == "open"
    clock.advance(20)
    with suppress(OverloadedError):
        early[1].__exit__(OverloadedError, BAD, None)
    clock.advance(10)

    assert state(circuit) == "half-open"


def test_circuits_are_those_of_a_model_at_an_endpoint() -> None:
    """The wire format makes no difference; provider, address and model do."""
    circuits = Circuits(POLICY, ManualClock())

    assert circuits.of(ORIGIN) is circuits.of(replace(ORIGIN, api="another"))
    for other in (
        replace(ORIGIN, provider="another"),
        replace(ORIGIN, endpoint="there"),
        replace(ORIGIN, model="m-2"),
    ):
        assert circuits.of(ORIGIN) is not circuits.of(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"failures": True},
        {"failures": 1.5},
        {"within": 0},
        {"open_for": -1},
        {"open_for": float("inf")},
    ],
)
def test_policy_refuses_what_could_never_open_or_never_close(wrong: dict[str, float]) -> None:
    """A policy that cannot be kept is a configuration error that names the number."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        CircuitBreaker(**wrong)  # type: ignore[arg-type]


class CircuitMachine(RuleBasedStateMachine):
    """Any interleaving of requests, their ends and the passing of time, beside a model that is easy to believe.

    The model keeps a history and looks back on it, where the circuit keeps a state.
    """

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.circuit = Circuit(POLICY, self.clock)
        self.turned = 0
        """How often it has opened or closed."""
        self.open = False
        self.row: list[float] = []
        """Times of the failures since it closed, or since the last answer."""
        self.quiet_until = 0.0
        self.newest: Passing | None = None
        """The probe that was sent last, until something is heard of it."""

    @precondition(lambda self: not self.open or self.clock.monotonic() >= self.quiet_until)
    @rule(target=requests)
    def is_sent(self) -> tuple[Passing, int, bool]:
        """A request is let through: always while closed, as a probe while open and its time has passed."""
        passing = self.circuit.passing(ORIGIN)
        passing.__enter__()
        if self.open:
            self.quiet_until = self.clock.monotonic() + POLICY.open_for
            self.newest = passing
        return passing, self.turned, self.open

    @precondition(lambda self: self.open and self.clock.monotonic() < self.quiet_until)
    @rule()
    def is_refused(self) -> None:
        """A request is refused while it is open, and told exactly how long."""
        with pytest.raises(CircuitOpenError) as caught, self.circuit.passing(ORIGIN):
            pytest.fail("nothing may be sent")
        assert caught.value.retry_after == self.quiet_until - self.clock.monotonic()

    @rule(request=consumes(requests), outcome=st.sampled_from(["ok", "refused", "failed", "cancelled"]))
    def ends(self, request: tuple[Passing, int, bool], outcome: str) -> None:
        """Something comes of a request, in whatever order."""
        passing, turned, probe = request
        _leave(passing, outcome)
        if turned != self.turned:
            return
        now = self.clock.monotonic()
        if probe and outcome == "failed":
            self.quiet_until, self.newest = now + POLICY.open_for, None
        elif probe and outcome == "cancelled":
            self.quiet_until = now if passing is self.newest else self.quiet_until
            self.newest = None if passing is self.newest else self.newest
        elif probe:
            self.open, self.newest, self.row = False, None, []
            self.turned += 1
        elif outcome == "failed":
            self.row.append(now)
            if len(self.row) >= POLICY.failures and now - self.row[-POLICY.failures] <= POLICY.within:
                self.open, self.quiet_until, self.row = True, now + POLICY.open_for, []
                self.turned += 1
        elif outcome != "cancelled":
            self.row = []

    @rule(seconds=st.sampled_from([1.0, 15.0, 29.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody does anything for a while."""
        self.clock.advance(seconds)

    @invariant()
    def states_agree(self) -> None:
        """It is closed exactly when the model says so, and never shut longer than a policy's time."""
        assert (self.circuit.state == "closed") == (not self.open)
        assert not self.open or self.quiet_until <= self.clock.monotonic() + POLICY.open_for


def _leave(passing: Passing, outcome: str) -> None:
    errors: dict[str, BaseException] = {
        "failed": BAD,
        "refused": BadRequestError("no", status=400),
        "cancelled": asyncio.CancelledError(),
    }
    error = errors.get(outcome)
    if error is None:
        passing.__exit__(None, None, None)
        return
    with suppress(type(error)):
        passing.__exit__(type(error), error, None)


TestCircuitMachine = CircuitMachine.TestCase
