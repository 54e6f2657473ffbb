"""What every journal does, in memory and on each database alike: methods, errors, entries, ownership, isolation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.messages import user
from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    ChatBusyError,
    ChatNotFoundError,
    ConfigurationError,
    SessionStateError,
    StaleChatError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.entries import (
    AttemptClosed,
    CallAnswered,
    CallFinished,
    CallStarted,
    MessageAdded,
    TurnEnded,
    TurnOpened,
)
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.ownership import Outdated, Repeated
from nodellm_orm.runtime.clock import new_id
from tests.integration.store.samples import (
    COST,
    ENDED,
    LEASE,
    USAGE,
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
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.entries import CallOpened
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.ports.statuses import TurnStatus


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


# ── create, load, update, append ──────────────────────────────────────────────────────────────────────────────────


async def test_a_created_chat_is_loaded_equal(journal: Journal) -> None:
    """A chat's head and first messages are read back equal, with times in UTC."""
    wanted = head()
    created = await journal.create(wanted, [(new_id(), user("one")), (new_id(), user("two"))])
    assert created == await journal.load(wanted.id, "ada")
    assert replace(created.head, created_at=None, updated_at=None) == wanted
    assert created.head.created_at is not None
    assert created.head.created_at.utcoffset() is not None
    assert [(m.position, m.content) for m in created.messages] == [(0, "one"), (1, "two")]
    assert (created.next_position, created.fence, created.last_turn) == (2, 0, None)


async def test_creating_twice_gives_the_same_chat(journal: Journal) -> None:
    """The second creation of an id returns the chat as it is and changes nothing."""
    first = await journal.create(head(), [(new_id(), user("one"))])
    again = await journal.create(replace(first.head, title="another"), [(new_id(), user("two"))])
    assert again == first


async def test_an_id_of_another_owner_looks_like_none(journal: Journal) -> None:
    """Creating a chat under an id that another owner has tells the same as loading it."""
    first = await journal.create(head("ada"))
    with pytest.raises(ChatNotFoundError) as creating:
        await journal.create(replace(first.head, owner="bob"))
    with pytest.raises(ChatNotFoundError) as loading:
        await journal.load(first.head.id, "bob")
    assert str(creating.value) == str(loading.value)


@pytest.mark.parametrize("owner", ["Ada", "ada ", "", None, "bob"])
async def test_only_the_exact_owner_finds_a_chat(journal: Journal, owner: str | None) -> None:
    """Case, spaces, the empty string and none are other owners, in every method."""
    snapshot = await journal.create(head("ada"))
    key = snapshot.head.id
    turn = await begin(journal, snapshot)
    stranger = replace(snapshot.head, owner=owner)
    for attempted in (
        journal.load(key, owner),
        journal.update(stranger),
        journal.append(stranger, 0, [(new_id(), user("x"))]),
        journal.history(key, owner, limit=1),
        journal.turn(key, owner, turn.turn_id),
        journal.totals(key, owner),
        journal.cancel(key, owner),
        journal.take_over(key, owner, turn.turn_id, worker="w", lease=LEASE),
        journal.begin(take(snapshot, owner=owner), TurnOpened(id=new_id(), settings="{}"), ()),
    ):
        with pytest.raises(ChatNotFoundError):
            await attempted
    with pytest.raises(StaleChatError):
        await journal.record(replace(turn.hold, owner=owner), (attempt(2),))


async def test_any_owner_finds_every_chat(journal: Journal) -> None:
    """Said aloud, chats of every owner are meant."""
    for owner in ("ada", None):
        snapshot = await journal.create(head(owner))
        assert await journal.load(snapshot.head.id, ANY_OWNER) == snapshot
        assert (await journal.totals(snapshot.head.id, ANY_OWNER)).requests == 0
        assert await journal.history(snapshot.head.id, ANY_OWNER, limit=1) == ()


async def test_a_saved_head_is_read_back_with_a_higher_version(journal: Journal) -> None:
    """Saving changes the head and its version, and nothing else."""
    snapshot = await journal.create(head())
    changed = replace(snapshot.head, title="new", instructions=(), metadata={"team": None})
    saved = await journal.update(changed)
    assert saved.version == 1
    assert saved == (await journal.load(saved.id, "ada")).head
    assert replace(saved, version=0, updated_at=None) == replace(changed, updated_at=None)


async def test_appended_messages_follow_the_others(journal: Journal) -> None:
    """Messages from elsewhere take the next positions, and outdate copies loaded before."""
    snapshot = await journal.create(head(), [(new_id(), user("one"))])
    after = await journal.append(snapshot.head, snapshot.fence, [(new_id(), user("two")), (new_id(), user("three"))])
    assert [(m.position, m.content) for m in after.messages] == [(0, "one"), (1, "two"), (2, "three")]
    assert after == await journal.load(snapshot.head.id, "ada")
    with pytest.raises(Outdated):
        await journal.append(snapshot.head, snapshot.fence, [(new_id(), user("four"))])
    with pytest.raises(Outdated):
        await begin(journal, snapshot)


@pytest.mark.parametrize("lease", [LEASE, ENDED])
async def test_nothing_is_appended_beside_a_turn(journal: Journal, lease: float) -> None:
    """While a turn holds the chat, even an interrupted one, messages from elsewhere are refused."""
    turn = await begun(journal, lease=lease)
    snapshot = await journal.load(turn.hold.chat_id, "ada")
    with pytest.raises(ChatBusyError) as caught:
        await journal.append(snapshot.head, snapshot.fence, [(new_id(), user("x"))])
    assert caught.value.turn_id == turn.turn_id


# ── begin ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_begun_turn_is_seen_by_others(journal: Journal) -> None:
    """The first point shows the question, the running turn and its open attempt."""
    snapshot = await journal.create(head())
    turn = await begin(journal, snapshot)
    seen = await journal.load(snapshot.head.id, "ada")
    last = seen.last_turn
    assert last is not None
    assert (last.id, last.status, last.position, last.first_position) == (turn.turn_id, "running", 0, 0)
    assert (last.settings, last.expired) == ('{"model":"gpt-5-mini"}', False)
    assert last.lease_until is not None
    assert [(a.id, a.status, a.attempt, a.provider) for a in last.attempts] == [
        (turn.opened.id, "started", 1, "openai")
    ]
    assert seen.messages == (turn.asked.message,)
    assert seen.message_ids == (turn.asked.id,)
    assert (seen.fence, turn.hold.fence) == (1, 1)
    assert turn.hold.labels == {"team": "blue", "size": 3}


async def test_a_held_chat_is_busy(journal: Journal) -> None:
    """A second turn is refused, and told who holds the chat and until when."""
    turn = await begun(journal)
    snapshot = await journal.load(turn.hold.chat_id, "ada")
    with pytest.raises(ChatBusyError) as caught:
        await begin(journal, snapshot, worker="w2")
    assert caught.value.turn_id == turn.turn_id
    assert caught.value.lease_until is not None
    assert await journal.load(turn.hold.chat_id, "ada") == snapshot


async def test_a_copy_that_lies_behind_is_outdated(journal: Journal) -> None:
    """After another turn, or a saved head, an old copy cannot begin a turn."""
    old = await journal.create(head())
    new = await completed(journal, old)
    with pytest.raises(Outdated):
        await begin(journal, old)
    await journal.update(new.head)
    with pytest.raises(Outdated):
        await begin(journal, new)
    assert (await journal.load(old.head.id, "ada")).messages == new.messages


async def test_a_turn_begun_at_a_wrong_place_is_outdated(journal: Journal) -> None:
    """A question whose position is not the next one means that the copy lies behind."""
    snapshot = await journal.create(head())
    with pytest.raises(Outdated):
        await begin(journal, replace(snapshot, next_position=3))
    assert (await journal.load(snapshot.head.id, "ada")).last_turn is None


async def test_positions_with_a_gap_are_a_mistake(journal: Journal) -> None:
    """Messages of one point that do not follow each other are refused, and nothing is written."""
    snapshot = await journal.create(head())
    turn = TurnOpened(id=new_id(), settings="{}")
    with pytest.raises(ValueError, match="do not follow"):
        await journal.begin(take(snapshot), turn, (question(0), question(2)))
    assert await journal.load(snapshot.head.id, "ada") == snapshot


async def test_a_changed_head_is_saved_with_the_turn(journal: Journal) -> None:
    """A head given to the first point is there afterwards, one version on."""
    snapshot = await journal.create(head())
    changed = replace(snapshot.head, model="other", settings=replace(snapshot.head.settings, temperature=None))
    turn = TurnOpened(id=new_id(), settings="{}")
    await journal.begin(take(snapshot, head=changed), turn, (question(0), attempt()))
    after = (await journal.load(snapshot.head.id, "ada")).head
    assert replace(after, updated_at=None) == replace(changed, version=1, updated_at=None)


@pytest.mark.parametrize("status", ["running", "completed", "failed"])
async def test_a_repeated_key_gives_the_first_turn(journal: Journal, status: TurnStatus) -> None:
    """A key that was used in the chat tells its turn, before busy and outdated are looked for, and writes nothing."""
    old = await journal.create(head())
    turn = await begin(journal, old, key="k")
    if status != "running":
        await journal.record(turn.hold, (closed(turn.opened), answer(1), TurnEnded(status=status)))
    before = await journal.load(old.head.id, "ada")
    with pytest.raises(Repeated) as caught:
        await begin(journal, old, key="k")
    assert caught.value.turn == before.last_turn
    assert (caught.value.turn.request_hash, caught.value.turn.status) == ("k", status)
    assert await journal.load(old.head.id, "ada") == before


async def test_a_key_belongs_to_its_chat(journal: Journal) -> None:
    """The same key in another chat, or in other case, is another key."""
    first = await journal.create(head())
    await begin(journal, first, key="k")
    await begin(journal, await journal.create(head()), key="k")
    second = await completed(journal, await journal.create(head()))
    after = await begin(journal, second, key="K")
    assert after.hold.fence == 2


async def test_texts_may_be_given_again_and_again(journal: Journal) -> None:
    """Instructions and schemas that are stored already do not stand in a turn's way."""
    for owner in ("ada", "ada", "bob", None):
        snapshot = await journal.create(head(owner))
        turn = TurnOpened(id=new_id(), settings="{}", texts=("Be brief.", "Be brief.", '{"type":"object"}'))
        hold = await journal.begin(take(snapshot), turn, (question(0), attempt()))
        assert hold.step == 1


# ── record ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plain_turn_is_completed(journal: Journal) -> None:
    """The answer, the attempt's money and the end of the turn are read back equal, and the chat is free."""
    turn = await begun(journal)
    said = answer(1)
    after = await journal.record(
        turn.hold,
        (replace(closed(turn.opened), message_id=said.id), said, TurnEnded(status="completed", reason="stop")),
    )
    assert (after.fence, after.step) == (1, 2)
    seen = await journal.load(turn.hold.chat_id, "ada")
    assert seen.messages == (turn.asked.message, said.message)
    last = seen.last_turn
    assert last is not None
    assert (last.status, last.reason, last.lease_until, last.expired) == ("completed", "stop", None, False)
    (made,) = last.attempts
    assert (made.status, made.request_id, made.model, made.message_id) == ("ok", "req_1", "gpt-5-mini-2026", said.id)
    assert (made.usage, made.cost) == (USAGE, Decimal("0.001234567891"))
    assert (await completed(journal, seen)).next_position == 4


async def test_every_kind_of_part_is_read_back_equal(journal: Journal) -> None:
    """Messages are lossless."""
    turn = await begun(journal)
    parts = (
        ThinkingPart(text="t", signature="s", field="reasoning"),
        ThinkingPart(redacted=True, opaque='{"type":"redacted_thinking","data":"x"}'),
        TextPart(text="x", extra='{"citations":[1.50]}'),
        RefusalPart(text="no"),
        OpaquePart(payload='{"b":1,"a":2}'),
        replace(call(), truncated=True, extra='{"x":1}'),
    )
    said = answer(1)
    said = replace(said, message=replace(said.message, parts=parts, status="partial"))
    await journal.record(turn.hold, (said,))
    assert (await journal.load(turn.hold.chat_id, "ada")).messages[1] == said.message


async def test_calls_go_through_their_life(journal: Journal) -> None:
    """Calls are opened, started, finished and answered, each with what is known of it."""
    turn = await begun(journal)
    asked = [call("a"), call("b"), call("c")]
    said = answer(1, *asked)
    opened = [
        opened_call(said, asked[0], 0, "running"),
        opened_call(said, asked[1], 1, "pending"),
        opened_call(said, asked[2], 2, "awaiting_approval"),
    ]
    hold = await journal.record(turn.hold, (closed(turn.opened), said, *opened))
    hold = await journal.record(hold, (CallStarted(id=opened[1].id),))
    hold = await journal.record(hold, (CallFinished(id=opened[0].id, status="succeeded", result="22"),))
    await journal.record(
        hold,
        (
            CallFinished(id=opened[1].id, status="failed", result="no", error="boom"),
            *(answered := result(2, asked[0]), CallAnswered(id=opened[0].id, result_message_id=answered.id)),
        ),
    )
    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert [(c.call, c.status, c.result, c.error, c.attempts, c.answered) for c in state.calls] == [
        (asked[0], "succeeded", "22", None, 1, True),
        (asked[1], "failed", "no", "boom", 1, False),
        (asked[2], "awaiting_approval", None, None, 0, False),
    ]
    assert [(c.id, c.message_id, c.position) for c in state.calls] == [
        (o.id, said.id, place) for place, o in enumerate(opened)
    ]
    assert state == (await journal.load(turn.hold.chat_id, "ada")).last_turn


async def test_a_retried_attempt_leaves_two_rows(journal: Journal) -> None:
    """A failed attempt is closed and the next one opened in one point; both are counted."""
    turn = await begun(journal)
    failed = AttemptClosed(id=turn.opened.id, status="failed", http_status=529, error_type="OverloadedError")
    second = attempt(2)
    hold = await journal.record(turn.hold, (failed, second))
    await journal.record(hold, (closed(second), answer(1), TurnEnded(status="completed")))
    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert [(a.id, a.status, a.attempt, a.cost) for a in state.attempts] == [
        (turn.opened.id, "failed", 1, None),
        (second.id, "ok", 2, COST.total),
    ]
    totals = await journal.totals(turn.hold.chat_id, "ada")
    assert (totals.requests, totals.failures, totals.unpriced) == (2, 1, 1)


@pytest.mark.parametrize("status", ["suspended", "failed", "cancelled", "completed"])
async def test_an_ended_turn_frees_the_chat(journal: Journal, status: TurnStatus) -> None:
    """However a turn ends, its hold is good for nothing more and the next turn can begin."""
    turn = await begun(journal)
    ended = TurnEnded(status=status, reason="r", error_type="E", error_message="m")
    hold = await journal.record(turn.hold, (closed(turn.opened), ended))
    with pytest.raises(StaleChatError):
        await journal.record(hold, (attempt(2),))
    seen = await journal.load(turn.hold.chat_id, "ada")
    last = seen.last_turn
    assert last is not None
    assert (last.status, last.reason, last.error_type, last.error_message) == (status, "r", "E", "m")
    assert (await begin(journal, seen)).hold.fence == 2


async def test_a_hold_is_good_for_one_point(journal: Journal) -> None:
    """The same hold used twice writes once."""
    turn = await begun(journal)
    await journal.record(turn.hold, (answer(1),))
    with pytest.raises(StaleChatError):
        await journal.record(turn.hold, (answer(2),))
    assert (await journal.load(turn.hold.chat_id, "ada")).next_position == 2


@pytest.mark.parametrize("position", [0, 2, None])
async def test_a_message_at_a_wrong_position_is_a_mistake(journal: Journal, position: int | None) -> None:
    """A position that is taken, leaves a gap or is missing is refused, and nothing is written."""
    turn = await begun(journal)
    before = await journal.load(turn.hold.chat_id, "ada")
    said = answer(1)
    misplaced = replace(said, message=replace(said.message, position=position))
    with pytest.raises(ValueError, match="position"):
        await journal.record(turn.hold, (misplaced,))
    assert replace(before, last_turn=None) == replace(
        await journal.load(turn.hold.chat_id, "ada"), last_turn=None, head=before.head
    )


@pytest.mark.parametrize("change", ["worker", "fence", "turn_id", "step", "chat_id"])
async def test_a_hold_of_somebody_else_writes_nothing(journal: Journal, change: str) -> None:
    """Worker, fence, turn, step and chat must all be right."""
    turn = await begun(journal)
    wrong = {"worker": "w2", "fence": 7, "turn_id": new_id(), "step": 7, "chat_id": new_id()}[change]
    hold: Hold = replace(turn.hold, **{change: wrong})  # type: ignore[arg-type]  # one wrong member at a time
    before = await journal.load(turn.hold.chat_id, "ada")
    with pytest.raises(StaleChatError):
        await journal.record(hold, (answer(1),))
    assert (await journal.load(turn.hold.chat_id, "ada")).messages == before.messages


async def test_an_ended_lease_that_nobody_took_is_still_good(journal: Journal) -> None:
    """A worker that comes late, but before anybody else, carries on."""
    turn = await begun(journal, lease=ENDED)
    hold = await journal.record(replace(turn.hold, lease=LEASE), (answer(1),))
    state = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert (state.status, state.expired) == ("running", False)


# ── the turn after an open one ────────────────────────────────────────────────────────────────────────────────────


def closing_of(opened: CallOpened, position: int) -> tuple[CallFinished, MessageAdded, CallAnswered]:
    answered = result(position, opened.call, "not known")
    return (
        CallFinished(id=opened.id, status="unknown", result="not known", error="closed by a new turn"),
        answered,
        CallAnswered(id=opened.id, result_message_id=answered.id),
    )


async def test_an_interrupted_turn_is_closed_by_the_next(journal: Journal) -> None:
    """The new turn takes the chat, the old one has failed, its attempts are unknown and its calls answered."""
    turn, _, opened = await with_call(journal, lease=ENDED)
    second = attempt(2)
    await journal.record(turn.hold, (second,))
    seen = await journal.load(turn.hold.chat_id, "ada")
    assert seen.last_turn is not None
    assert seen.last_turn.expired
    new = await begin(journal, seen, worker="w2", closing=closing_of(opened, 2))
    old = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (old.status, old.error_type, old.first_position) == ("failed", "Interrupted", 0)
    assert [a.status for a in old.attempts] == ["ok", "unknown"]
    assert [(c.status, c.result, c.answered) for c in old.calls] == [("unknown", "not known", True)]
    after = await journal.load(turn.hold.chat_id, "ada")
    assert after.last_turn is not None
    assert (after.last_turn.id, after.last_turn.first_position, after.last_turn.position) == (new.turn_id, 3, 1)
    assert [m.role for m in after.messages] == ["user", "assistant", "tool", "user"]
    with pytest.raises(StaleChatError):
        await journal.record(turn.hold, (answer(4),))


async def test_a_suspended_turn_is_closed_by_the_next(journal: Journal) -> None:
    """Calls of a suspended turn are answered in the same point; it stays suspended."""
    turn = await begun(journal)
    asked = call()
    said = answer(1, asked)
    opened = opened_call(said, asked, status="awaiting_approval")
    ended = TurnEnded(status="suspended", reason="approval")
    await journal.record(turn.hold, (closed(turn.opened), said, opened, ended))
    await begin(journal, await journal.load(turn.hold.chat_id, "ada"), closing=closing_of(opened, 2))
    old = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (old.status, old.reason, [c.answered for c in old.calls]) == ("suspended", "approval", [True])


async def test_a_call_that_finished_meanwhile_is_not_overwritten(journal: Journal) -> None:
    """A copy that believes a call to be open, when its result is stored already, is outdated."""
    turn, _, opened = await with_call(journal, lease=ENDED)
    seen = await journal.load(turn.hold.chat_id, "ada")
    await journal.record(turn.hold, (CallFinished(id=opened.id, status="succeeded", result="22"),))
    with pytest.raises(Outdated):
        await begin(journal, seen, closing=closing_of(opened, 2))
    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (state.status, state.calls[0].status, state.calls[0].result) == ("running", "succeeded", "22")


async def test_an_interrupted_turn_that_went_on_is_outdated(journal: Journal) -> None:
    """A copy loaded before the interrupted worker's last point cannot begin a turn."""
    turn = await begun(journal, lease=ENDED)
    seen = await journal.load(turn.hold.chat_id, "ada")
    await journal.record(turn.hold, (closed(turn.opened), answer(1)))
    with pytest.raises(Outdated):
        await begin(journal, seen)


async def test_a_workspace_that_is_not_used_holds_nothing(journal: Journal) -> None:
    """Every journal has room for a tool's session, or says that it has none; unused, it takes no floor."""
    floor = asyncio.Lock()
    workspace = journal.workspace(floor)
    await workspace.complete()
    await workspace.discard()
    assert (workspace.used, floor.locked()) == (False, False)
    with pytest.raises((UnsupportedFeatureError, SessionStateError), match=r"context\.session"):
        workspace.session.expunge_all()


# ── take over, cancel, renew ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_interrupted_turn_is_taken_over(journal: Journal) -> None:
    """The new worker holds the chat, what was in flight is unknown, and the old worker cannot write."""
    turn, _, _ = await with_call(journal, lease=ENDED)
    stopped = await journal.record(turn.hold, (attempt(2),))
    hold = await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    assert (hold.worker, hold.fence, hold.owner) == ("w2", 2, "ada")
    assert hold.labels == {"team": "blue", "size": 3}
    state = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert (state.status, state.takeovers, state.expired) == ("running", 1, False)
    assert [a.status for a in state.attempts] == ["ok", "unknown"]
    assert [(c.status, c.attempts) for c in state.calls] == [("unknown", 1)]
    with pytest.raises(StaleChatError):
        await journal.record(stopped, (answer(2),))
    assert (await journal.record(hold, (attempt(3),))).step == hold.step + 1


@pytest.mark.parametrize("status", ["suspended", "failed", "cancelled"])
async def test_an_unfinished_turn_is_taken_up_again(journal: Journal, status: TurnStatus) -> None:
    """The last turn, however it ended unless completed, runs again."""
    turn = await begun(journal)
    await journal.record(turn.hold, (closed(turn.opened), TurnEnded(status=status, reason="r", error_type="E")))
    hold = await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    state = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert (state.status, state.reason, state.error_type, state.takeovers) == ("running", None, None, 0)
    with pytest.raises(ChatBusyError):
        await begin(journal, await journal.load(hold.chat_id, "ada"))
    await journal.record(hold, (TurnEnded(status="completed"),))


async def test_a_live_turn_is_not_taken_over(journal: Journal) -> None:
    """While its lease lasts, a turn belongs to its worker."""
    turn = await begun(journal)
    with pytest.raises(ChatBusyError) as caught:
        await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    assert caught.value.turn_id == turn.turn_id
    await journal.record(turn.hold, (answer(1),))


async def test_only_the_last_unfinished_turn_is_taken_over(journal: Journal) -> None:
    """A completed turn, an earlier one and an unknown one mean that the copy lies behind, and nothing changes."""
    first = await completed(journal, await journal.create(head()))
    assert first.last_turn is not None
    for wrong in (first.last_turn.id, new_id()):
        with pytest.raises(Outdated):
            await journal.take_over(first.head.id, "ada", wrong, worker="w2", lease=LEASE)
    turn = await begin(journal, first)
    await journal.record(turn.hold, (TurnEnded(status="failed"),))
    later = await completed(journal, await journal.load(first.head.id, "ada"))
    with pytest.raises(Outdated):
        await journal.take_over(first.head.id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    assert await journal.load(first.head.id, "ada") == later


async def test_another_interrupted_turn_is_not_mistaken(journal: Journal) -> None:
    """Taking over an earlier turn does not take the interrupted one."""
    first = await completed(journal, await journal.create(head()))
    assert first.last_turn is not None
    turn = await begin(journal, first, lease=ENDED)
    with pytest.raises(Outdated):
        await journal.take_over(first.head.id, "ada", first.last_turn.id, worker="w2", lease=LEASE)
    await journal.record(turn.hold, (answer(3),))


@pytest.mark.parametrize("lease", [LEASE, ENDED])
async def test_a_running_turn_is_cancelled(journal: Journal, lease: float) -> None:
    """It ends whoever holds it, what was in flight is unknown, and its worker cannot write."""
    turn, _, _ = await with_call(journal, lease=lease)
    hold = await journal.record(turn.hold, (attempt(2),))
    assert await journal.cancel(hold.chat_id, "ada")
    seen = await journal.load(hold.chat_id, "ada")
    last = seen.last_turn
    assert last is not None
    assert (last.status, last.reason, last.error_type) == ("cancelled", "cancelled", "Cancelled")
    assert [a.status for a in last.attempts] == ["ok", "unknown"]
    assert [c.status for c in last.calls] == ["unknown"]
    with pytest.raises(StaleChatError):
        await journal.record(hold, (answer(2),))
    assert await journal.renew([hold]) == {hold.turn_id}
    assert not await journal.cancel(hold.chat_id, "ada")


async def test_nothing_runs_in_a_fresh_or_completed_chat(journal: Journal) -> None:
    """Cancelling where no turn runs says so and changes nothing."""
    snapshot = await journal.create(head())
    assert not await journal.cancel(snapshot.head.id, "ada")
    done = await completed(journal, snapshot)
    assert not await journal.cancel(snapshot.head.id, ANY_OWNER)
    assert await journal.load(snapshot.head.id, "ada") == done
    with pytest.raises(ChatNotFoundError):
        await journal.cancel(new_id(), "ada")


async def test_many_leases_are_renewed_at_once(journal: Journal) -> None:
    """Good holds live on, whatever their lengths; those that are gone are told."""
    good = [await begun(journal, lease=ENDED), await begun(journal, lease=ENDED), await begun(journal)]
    lost = await begun(journal, lease=ENDED)
    await journal.take_over(lost.hold.chat_id, "ada", lost.turn_id, worker="w2", lease=LEASE)
    gone = replace(good[0].hold, chat_id=new_id(), turn_id=new_id())
    holds = [replace(turn.hold, lease=LEASE + place) for place, turn in enumerate(good)]
    assert await journal.renew([*holds, lost.hold, gone]) == {lost.turn_id, gone.turn_id}
    for hold in holds:
        assert not (await journal.turn(hold.chat_id, "ada", hold.turn_id)).expired
        await journal.record(hold, (answer(1),))
    assert await journal.renew([]) == frozenset()


async def test_interrupted_turns_are_listed_oldest_first(journal: Journal) -> None:
    """Turns whose lease has ended are listed, of all owners, and no others."""
    oldest = await begun(journal, lease=-3000.0, owner="bob")
    newer = await begun(journal, lease=-2000.0)
    await begun(journal)
    taken = await begun(journal, lease=-4000.0)
    await journal.take_over(taken.hold.chat_id, "ada", taken.turn_id, worker="w2", lease=LEASE)
    first, second = await journal.interrupted(limit=2)
    assert (first.chat_id, first.turn_id, first.owner, first.takeovers) == (
        oldest.hold.chat_id,
        oldest.turn_id,
        "bob",
        0,
    )
    assert second.turn_id == newer.turn_id
    assert first.lease_until < second.lease_until
    with pytest.raises(ConfigurationError):
        await journal.interrupted(limit=0)


# ── pages, turns, sums ────────────────────────────────────────────────────────────────────────────────────────────


async def test_history_is_read_in_pages(journal: Journal) -> None:
    """Pages go forward from a place, backward before one, and always in position order."""
    messages = [(new_id(), user(str(number))) for number in range(5)]
    key = (await journal.create(head(), messages)).head.id
    assert texts(await journal.history(key, "ada", limit=2)) == ["0", "1"]
    assert texts(await journal.history(key, "ada", limit=2, after=1)) == ["2", "3"]
    assert texts(await journal.history(key, "ada", limit=2, before=4)) == ["2", "3"]
    assert texts(await journal.history(key, "ada", limit=9, after=0, before=3)) == ["1", "2"]
    assert await journal.history(key, "ada", limit=2, after=4) == ()
    with pytest.raises(ConfigurationError):
        await journal.history(key, "ada", limit=0)


async def test_a_turn_that_is_not_there_is_not_found(journal: Journal) -> None:
    """An unknown turn, and one of another chat, are not found."""
    turn, other = await begun(journal), await begun(journal)
    for wrong in (new_id(), other.turn_id):
        with pytest.raises(ChatNotFoundError):
            await journal.turn(turn.hold.chat_id, "ada", wrong)


async def test_chats_are_listed_newest_first_in_pages(journal: Journal) -> None:
    """Each chat of an owner is on exactly one page, newest first; the last page has no cursor."""
    owner = f"lister {new_id()}"
    made = [(await journal.create(head(owner, title=str(n)))).head for n in range(5)]
    seen, cursor = [], None
    while True:
        page = await journal.summaries(owner, limit=2, after=cursor)
        seen += list(page)
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len({chat.id for chat in seen}) == 5
    assert [chat.created_at for chat in seen] == sorted((h.created_at for h in made if h.created_at), reverse=True)
    assert {chat.id for chat in seen} == {h.id for h in made}
    summary = next(chat for chat in seen if chat.id == made[0].id)
    assert (summary.owner, summary.title, summary.provider, summary.model) == (owner, "0", "openai", "gpt-5-mini")
    assert (summary.metadata, summary.message_count, summary.running) == ({"team": "blue", "size": 3}, 0, False)


async def test_a_list_tells_what_runs(journal: Journal) -> None:
    """A chat is running while the lease of its turn lasts."""
    owner = f"runner {new_id()}"
    live, dead = await begun(journal, owner=owner), await begun(journal, owner=owner, lease=ENDED)
    idle = await journal.create(head(owner))
    running = {chat.id: (chat.running, chat.message_count) for chat in await journal.summaries(owner)}
    assert running == {
        live.hold.chat_id: (True, 1),
        dead.hold.chat_id: (False, 1),
        idle.head.id: (False, 0),
    }


async def test_lists_keep_owners_apart(journal: Journal) -> None:
    """Nobody's chats, one owner's and everybody's are three lists."""
    mine, nobodys = await journal.create(head(f"apart {new_id()}")), await journal.create(head(None))
    owned = {chat.id for chat in await journal.summaries(mine.head.owner, limit=1000)}
    unowned = {chat.id for chat in await journal.summaries(None, limit=1000)}
    everything = {chat.id for chat in await journal.summaries(ANY_OWNER, limit=1000)}
    assert owned == {mine.head.id}
    assert nobodys.head.id in unowned
    assert mine.head.id not in unowned
    assert owned | unowned <= everything


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, {"a", "b", "c"}),
        ({"team": "blue"}, {"a"}),
        ({"team": "Blue"}, set()),
        ({"team": 'x"\\%_\u00e9\x00'}, {"b"}),
        ({"n": 1}, {"a"}),
        ({"n": 1.0}, {"b"}),
        ({"n": True}, {"c"}),
        ({"none": None}, {"b"}),
        ({"deep": {"x": [1, "y"], "z": 0}}, {"c"}),
        ({"deep": {"x": [1, "y"]}}, set()),
        ({"team": "blue", "n": 2}, set()),
        ({"x": [1, "y"]}, set()),
    ],
)
async def test_lists_are_narrowed_by_metadata(journal: Journal, wanted: dict[str, object], matches: set[str]) -> None:
    """Members must be there with exactly the value that is asked for, whatever its type or characters."""
    owner = f"labels {new_id()}"
    for title, metadata in (
        ("a", {"team": "blue", "n": 1}),
        ("b", {"team": 'x"\\%_\u00e9\x00', "n": 1.0, "none": None}),
        ("c", {"n": True, "deep": {"z": 0, "x": [1, "y"]}}),
    ):
        await journal.create(head(owner, title=title, metadata=metadata))
    found = await journal.summaries(owner, metadata=wanted)  # type: ignore[arg-type]  # JSON values all of them
    assert {chat.title for chat in found} == matches


async def test_a_narrowed_list_has_full_pages(journal: Journal) -> None:
    """Pages of a list narrowed by metadata are as long as asked for, and end where the matches end."""
    owner = f"narrow {new_id()}"
    for number in range(6):
        await journal.create(head(owner, title=str(number), metadata={"even": number % 2 == 0}))
    first = await journal.summaries(owner, metadata={"even": True}, limit=2)
    assert len(first) == 2
    second = await journal.summaries(owner, metadata={"even": True}, limit=2, after=first.next)
    assert (len(second), second.next) == (1, None)
    assert {chat.title for chat in (*first, *second)} == {"0", "2", "4"}


@pytest.mark.parametrize("cursor", ["", "nonsense", "MjAyNg==", "\u00e9"])
async def test_what_is_no_cursor_is_refused(journal: Journal, cursor: str) -> None:
    """A page is asked for with the cursor of the page before, or not at all."""
    with pytest.raises(ConfigurationError):
        await journal.summaries("ada", after=cursor)
    with pytest.raises(ConfigurationError):
        await journal.summaries("ada", limit=0)


async def test_totals_are_exact(journal: Journal) -> None:
    """Ten times ten cents is a dollar; unknown counts stay unknown, unknown prices are counted."""
    turn = await begun(journal)
    hold, opened = turn.hold, turn.opened
    cost = replace(COST, total=Decimal("0.1"), source="user")
    usage = Usage(input_tokens=2**40, output_tokens=1, other_tokens={"web_searches": 2})
    for number in range(10):
        following = attempt(number + 2)
        hold = await journal.record(hold, (closed(opened, usage=usage, cost=cost), following))
        opened = following
    await journal.record(hold, (closed(opened, usage=Usage(output_tokens=5), cost=UNKNOWN_COST),))
    totals = await journal.totals(hold.chat_id, "ada")
    assert (totals.cost, totals.requests, totals.unpriced, totals.failures) == (Decimal(1), 11, 1, 0)
    assert totals.usage == Usage(input_tokens=10 * 2**40, output_tokens=15, other_tokens={"web_searches": 20})


async def test_totals_of_nothing_are_unknown(journal: Journal) -> None:
    """Without a request nothing is known, and nothing is free."""
    snapshot = await journal.create(head())
    totals = await journal.totals(snapshot.head.id, "ada")
    assert (totals.requests, totals.cost, totals.usage) == (0, None, Usage())


async def test_journals_of_the_same_tables_know_each_other(journal: Journal) -> None:
    """A journal tells which tables it writes to, and settles where it was given no session."""
    assert hash(journal.database) == hash(journal.database)
    assert journal.concurrent
    await journal.settle()
