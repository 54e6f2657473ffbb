"""What a stored round becomes when it is carried on: which of its calls run, wait, are refused, or are told unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.errors import ToolError
from nodellm_orm.ports.approvals import approval_digest, listed, no_such_call
from nodellm_orm.ports.states import CallState, TurnState
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.rounds import restored_calls, settled, undecided, what_waits
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.runtime.tools import tool
from tests.unit.runtime.scripted import calls, says
from tests.unit.runtime.test_turns import World

if TYPE_CHECKING:
    from nodellm_orm.ports.statuses import CallStatus
    from nodellm_orm.runtime.plan import UnknownPolicy

ARGUMENTS: Final = '{"cents": 5}'
APPROVED: Final = approval_digest("pay", ARGUMENTS)


@tool(requires_approval=True)
def pay(cents: int) -> str:
    """Pay an amount."""
    return f"paid {cents}"


@tool(name="pay")
def free(cents: int) -> str:
    """Pay an amount, without asking anybody."""
    return f"paid {cents}"


@tool(name="pay", requires_approval=True, idempotent=True)
def again(cents: int) -> str:
    """Pay an amount once, however often it is asked for."""
    return f"paid {cents}"


def state(status: CallStatus, approved: str | None = None, **changes: Any) -> CallState:
    """A stored call."""
    asked = ToolCallPart(call_id="call_1", name="pay", arguments=ARGUMENTS)
    plain = CallState(id=new_id(), message_id=new_id(), position=0, call=asked, status=status)
    return replace(plain, approved_sha256=approved, decided_by="ada" if approved else None, **changes)


def restored(stored: CallState, *tools: Any, policy: UnknownPolicy = "report") -> tuple[str, str | None]:
    """Whether it runs or waits or has ended, and how; with whom it runs."""
    (call,) = restored_calls([stored], Toolbox(tools), policy)
    if call.outcome is not None:
        return call.outcome.status, None
    if call.waiting:
        return "waits", None
    return "runs", call.approved_by


@pytest.mark.parametrize("status", ["pending", "skipped"])
def test_an_approved_call_runs_and_knows_by_whom(status: CallStatus) -> None:
    """Also one that its turn passed over, and also where the tool does not need approval any more."""
    assert restored(state(status, APPROVED), pay) == ("runs", "ada")
    assert restored(state(status, APPROVED), free) == ("runs", "ada")


@pytest.mark.fault("E21")
@pytest.mark.parametrize("status", ["pending", "skipped", "unknown"])
@pytest.mark.parametrize("changes", [{"approved": approval_digest("pay", "{}")}, {"altered": True}])
@pytest.mark.parametrize("tools", [pay, free, again])
def test_a_changed_call_never_runs(status: CallStatus, changes: dict[str, Any], tools: Any) -> None:
    """Whatever the tool says of itself now; of one that may have run before nothing else is said."""
    stored = state(status, **{"approved": APPROVED, **changes})
    expected = "unknown" if status == "unknown" else "failed"

    assert restored(stored, tools, policy="retry") == (expected, None)


def test_without_approval_nothing_runs_that_needs_it() -> None:
    """A row that says that a call may run is not enough; a tool that needs no approval needs none."""
    assert restored(state("pending"), pay) == ("failed", None)
    assert restored(state("skipped"), pay) == ("failed", None)
    assert restored(state("unknown"), again, policy="retry") == ("unknown", None)
    assert restored(state("awaiting_approval"), pay) == ("waits", None)
    assert restored(state("awaiting_approval"), free) == ("waits", None)
    assert restored(state("pending"), free) == ("runs", None)


def test_an_approved_call_of_unknown_outcome_follows_the_policy() -> None:
    """It is reported, run again or a reason to stop, as any other."""
    stored = state("unknown", APPROVED)

    assert restored(stored, pay) == ("unknown", None)
    assert restored(stored, pay, policy="retry") == ("runs", "ada")
    assert restored(stored, again) == ("runs", "ada")
    with pytest.raises(ToolError, match="was running when its process stopped"):
        restored(stored, pay, policy="fail")


def test_a_round_is_settled_when_only_decisions_can_move_it() -> None:
    """Something waits, and nothing else is left to run, to report or to answer."""
    waits, done = state("awaiting_approval"), state("succeeded", result="x")

    assert settled([waits])
    assert settled([waits, done, state("denied", result="no"), state("skipped", result="cut off")])
    assert settled([waits, state("unknown", answered=True)])
    assert not settled([])
    assert not settled([done])
    assert not settled([state("awaiting_approval", answered=True)])
    for status in ("pending", "unknown", "running", "skipped"):
        assert not settled([waits, state(status)])


def test_a_question_is_refused_while_something_waits_or_waited() -> None:
    """A turn that was suspended for its limit is no way around a call that waits."""
    turn = TurnState(id=new_id(), position=0, status="suspended", reason="approval")

    assert undecided(turn)
    assert undecided(replace(turn, reason="tool_limit", calls=(state("awaiting_approval"),)))
    assert not undecided(replace(turn, reason="tool_limit", calls=(state("pending"),)))
    assert not undecided(replace(turn, status="failed"))
    assert not undecided(None)
    assert "call_1 (pay); approve()" in what_waits([state("awaiting_approval"), state("succeeded")])
    assert "decided on and not carried on yet: call_1 (pay); resume()" in what_waits([state("pending", APPROVED)])


def test_messages_name_only_so_many_calls() -> None:
    """Of a hundred calls ten are named, and of an id that cannot be one only its beginning."""
    assert listed((f"c{n}", "pay") for n in range(100)).endswith("c9 (pay) and 90 more")
    assert len(str(no_such_call(new_id(), "\x00" * 1000, ()))) < 400


async def test_a_question_under_a_limit_does_not_pass_over_what_waits() -> None:
    """A round with a call that waits and one over the limit is suspended for the limit; asking on names the first."""
    world = World(calls(("pay", ARGUMENTS), ("add", '{"a": 1, "b": 2}')), says("ok"), tools=(pay, _add()))
    reply = await world.chat.ask("go", max_tool_rounds=0)
    assert (reply.finish_reason, [call.status for call in reply.tool_calls]) == (
        "tool_limit",
        ["awaiting_approval", "pending"],
    )

    await world.chat.approve(world.chat.pending_approvals[0].call_id)

    resumed = await (await world.reloaded()).resume()
    assert (resumed.content, [call.result for call in resumed.tool_calls]) == ("ok", ["paid 5", "3"])


def _add() -> Any:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return add
