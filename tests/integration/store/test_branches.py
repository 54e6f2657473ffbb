"""What every journal does for branches: copies of messages, superseded history, turns found by their key."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import user
from nodellm_orm.domain.parts import MediaPart
from nodellm_orm.errors import ChatNotFoundError, ConfigurationError
from nodellm_orm.ports.branches import Cut
from nodellm_orm.ports.entries import CallAnswered, CallFinished, HistorySuperseded, TurnEnded, TurnOpened
from nodellm_orm.ports.ownership import Outdated, Repeated
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.conversation import answers
from nodellm_orm.runtime.memory.journal import MemoryJournal
from tests.integration.store.samples import (
    answer,
    attempt,
    begin,
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
    from uuid import UUID

    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.states import ChatHead, Snapshot


def cut(parent: Snapshot, last: int | None) -> Cut:
    """A cut of a chat as it was loaded."""
    return Cut(chat_id=parent.head.id, owner=parent.head.owner, last=last, fence=parent.fence, step=parent.step)


def branch(parent: Snapshot, last: int | None, **changes: object) -> ChatHead:
    """The head of a branch of it."""
    plain = replace(parent.head, id=new_id(), parent_chat_id=parent.head.id, fork_position=last, title="A branch")
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test's own choice


async def revised(journal: Journal, before: Snapshot, first: int) -> Snapshot:
    """A completed turn that takes the place of everything from a position on."""
    opened = attempt()
    turn = TurnOpened(id=new_id(), settings="{}", idempotency_key="again", request_hash="again")
    hold = await journal.begin(take(before), turn, (HistorySuperseded(first=first), opened))
    entries = (closed(opened), answer(before.next_position, text="Rain."), TurnEnded(status="completed"))
    await journal.record(hold, entries)
    return await journal.load(before.head.id, before.head.owner)


# ── forking ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_branch_begins_with_its_parents_messages(journal: Journal) -> None:
    """Messages keep ids, positions, parts and origins; the head is the branch's own, and no turn is copied."""
    parent = await completed(journal, await journal.create(head(), [(new_id(), user("one"))]))
    wanted = branch(parent, 2)

    made = await journal.fork(wanted, cut(parent, 2))

    assert made == await journal.load(wanted.id, "ada")
    assert (made.messages, made.message_ids) == (parent.messages, parent.message_ids)
    assert replace(made.head, created_at=None, updated_at=None) == replace(
        wanted, version=0, created_at=None, updated_at=None
    )
    assert (made.next_position, made.fence, made.step, made.last_turn) == (3, 0, 0, None)
    assert (await journal.totals(wanted.id, "ada")).requests == 0
    assert await journal.load(parent.head.id, "ada") == parent


@pytest.mark.parametrize("last", [None, 0, 1])
async def test_a_branch_ends_where_its_parent_is_cut(journal: Journal, last: int | None) -> None:
    """Nothing behind the cut is copied, and the next message takes the next position."""
    parent = await journal.create(head(), [(new_id(), user(text)) for text in ("one", "two", "three")])
    made = await journal.fork(branch(parent, last), cut(parent, last))
    count = 0 if last is None else last + 1
    assert (made.messages, made.next_position) == (parent.messages[:count], count)
    after = await journal.append(made.head, made.fence, [(new_id(), user("four"))])
    assert [message.position for message in after.messages] == list(range(count + 1))


async def test_a_branch_has_what_was_superseded_before_the_cut(journal: Journal) -> None:
    """Superseded messages are copied as such, so that positions have no gap; ids of their calls stay taken."""
    turn, message, opened = await with_call(journal)
    outcome = result(2, opened.call)
    finished = CallFinished(id=opened.id, status="succeeded", result="22 degrees")
    answered = CallAnswered(id=opened.id, result_message_id=outcome.id)
    entries = (finished, outcome, answered, answer(3), TurnEnded(status="completed", reason="stop"))
    await journal.record(turn.hold, entries)
    parent = await revised(journal, await journal.load(turn.hold.chat_id, "ada"), 1)
    assert [m.position for m in parent.messages] == [0, 4]
    assert parent.retired_call_ids == {opened.call.call_id}
    assert message.id not in parent.message_ids

    whole = await journal.fork(branch(parent, 4), cut(parent, 4))
    short = await journal.fork(branch(parent, 0), cut(parent, 0))

    assert ([m.position for m in whole.messages], whole.next_position) == ([0, 4], 5)
    assert whole.retired_call_ids == {opened.call.call_id}
    assert ([m.position for m in short.messages], short.next_position) == ([0], 1)
    assert short.retired_call_ids == frozenset()


async def test_calls_that_are_open_are_closed_in_the_branch_only(journal: Journal) -> None:
    """A branch of a chat whose call has no result gets one; the parent stays as it is."""
    turn, _, _ = await with_call(journal)
    await journal.record(turn.hold, (TurnEnded(status="suspended", reason="tool_limit"),))
    parent = await journal.load(turn.hold.chat_id, "ada")
    assert parent.last_turn is not None
    closing = answers(parent.last_turn.calls, 2, new_id)

    made = await journal.fork(branch(parent, 1), cut(parent, 1), closing)

    assert [(m.role, m.position) for m in made.messages] == [("user", 0), ("assistant", 1), ("tool", 2)]
    assert made == await journal.load(made.head.id, "ada")
    assert await journal.load(parent.head.id, "ada") == parent


async def test_files_are_found_in_a_branch(journal: Journal) -> None:
    """The bytes of a file are stored once, and read in both chats."""
    message = replace(user("Look"), parts=(*user("Look").parts, media_part(b"\x89PNG\r\n\x1a\n...")))
    parent = await journal.create(head(), [(new_id(), message)])
    made = await journal.fork(branch(parent, 0), cut(parent, 0))
    assert made.messages == parent.messages
    [_, picture] = made.messages[0].parts
    assert isinstance(picture, MediaPart)
    assert picture.data == b"\x89PNG\r\n\x1a\n..."


async def test_a_branch_is_forked_again_and_goes_its_own_way(journal: Journal) -> None:
    """A branch of a branch has the messages of both; what follows in one is not seen in the others."""
    parent = await completed(journal, await journal.create(head()))
    child = await completed(journal, await journal.fork(branch(parent, 1), cut(parent, 1)))
    grandchild = await journal.fork(branch(child, 2), cut(child, 2))
    assert grandchild.head.parent_chat_id == child.head.id
    assert grandchild.messages == child.messages[:3]
    assert (await journal.load(parent.head.id, "ada")).messages == parent.messages


@pytest.mark.parametrize(("fence", "step"), [(1, 0), (0, 1)])
async def test_a_parent_that_moved_on_is_outdated(journal: Journal, fence: int, step: int) -> None:
    """A place that was chosen in another state of the parent is not cut at, and nothing is left behind."""
    parent = await completed(journal, await journal.create(head()))
    wanted, there = branch(parent, 0), cut(parent, 0)
    with pytest.raises(Outdated):
        await journal.fork(wanted, replace(there, fence=there.fence + fence, step=there.step + step))
    with pytest.raises(ChatNotFoundError):
        await journal.load(wanted.id, "ada")
    assert (await journal.fork(wanted, there)).next_position == 1


async def test_a_running_parent_is_cut_as_it_is(journal: Journal) -> None:
    """A turn that holds the parent neither hinders a fork nor notices it."""
    turn, _, _ = await with_call(journal)
    parent = await journal.load(turn.hold.chat_id, "ada")
    made = await journal.fork(branch(parent, 0), cut(parent, 0))
    assert [m.content for m in made.messages] == ["What is the weather?"]
    await journal.record(turn.hold, (TurnEnded(status="failed"),))


async def test_forking_twice_under_an_id_gives_the_same_branch(journal: Journal) -> None:
    """The second time the branch is given as it is by now, whatever has become of its parent."""
    parent = await completed(journal, await journal.create(head()))
    wanted = branch(parent, 1)
    made = await journal.fork(wanted, cut(parent, 1))
    after = await journal.append(made.head, made.fence, [(new_id(), user("on"))])
    assert await journal.fork(replace(wanted, title="other"), cut(parent, 0)) == after


async def test_branches_made_at_once_under_an_id_are_one(journal: Journal) -> None:
    """Of several forks with one id at the same time, one makes the branch and all give it."""
    parent = await completed(journal, await journal.create(head()))
    wanted = branch(parent, 1)
    made = await asyncio.gather(*(journal.fork(wanted, cut(parent, 1)) for _ in range(4)))
    assert made == [made[0]] * 4


async def test_an_id_that_is_taken_is_refused(journal: Journal) -> None:
    """Another chat of the owner is said to be there; another owner's looks as if it were not."""
    parent = await completed(journal, await journal.create(head("ada")))
    own, strangers = await journal.create(head("ada")), await journal.create(head("bob"))
    with pytest.raises(ConfigurationError, match="no branch of chat"):
        await journal.fork(branch(parent, 1, id=own.head.id), cut(parent, 1))
    with pytest.raises(ChatNotFoundError):
        await journal.fork(branch(parent, 1, id=strangers.head.id), cut(parent, 1))


@pytest.mark.parametrize("owner", ["bob", "Ada", None])
async def test_another_owners_chat_is_not_forked(journal: Journal, owner: str | None) -> None:
    """It is not there, in the words in which a missing one is not there."""
    parent = await completed(journal, await journal.create(head("ada")))
    missing: UUID = new_id()
    with pytest.raises(ChatNotFoundError) as strange:
        await journal.fork(branch(parent, 1, owner=owner), replace(cut(parent, 1), owner=owner))
    with pytest.raises(ChatNotFoundError) as gone:
        await journal.fork(branch(parent, 1), replace(cut(parent, 1), chat_id=missing))
    assert str(strange.value) == str(gone.value).replace(str(missing), str(parent.head.id))


# ── superseding ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_history_is_superseded_with_the_turn_that_takes_its_place(journal: Journal) -> None:
    """Everything from a place on is no longer replayed or paged; what it has cost is still counted."""
    before = await completed(journal, await completed(journal, await journal.create(head())))
    after = await revised(journal, before, 1)
    assert [(m.position, m.content) for m in after.messages] == [(0, "What is the weather?"), (4, "Rain.")]
    assert await journal.history(after.head.id, "ada", limit=9) == after.messages
    assert (after.next_position, after.fence) == (5, before.fence + 1)
    assert (await journal.totals(after.head.id, "ada")).requests == 3


async def test_a_turn_without_a_question_begins_where_its_answer_will_be(journal: Journal) -> None:
    """The first position of a turn that answers anew is behind everything before it, however far it has come."""
    before = await completed(journal, await journal.create(head()))
    opened = attempt()
    turn = TurnOpened(id=new_id(), settings="{}")
    hold = await journal.begin(take(before), turn, (HistorySuperseded(first=1), opened))
    state = (await journal.load(before.head.id, "ada")).last_turn
    assert state is not None
    assert (state.id, state.first_position) == (hold.turn_id, 2)
    await journal.record(hold, (closed(opened), answer(2), TurnEnded(status="completed")))
    assert (await journal.turn(before.head.id, "ada", hold.turn_id)).first_position == 2


async def test_a_copy_that_was_loaded_while_a_turn_ran_is_outdated_by_its_next_point(journal: Journal) -> None:
    """It says no more what is stored, although no fence has grown and a turn without a message has no position."""
    turn = await begin(journal, await journal.create(head()))
    behind = await journal.load(turn.hold.chat_id, "ada")
    await journal.record(turn.hold, (closed(turn.opened), answer(1), TurnEnded(status="completed")))
    entries = (HistorySuperseded(first=1), attempt())
    with pytest.raises(Outdated):
        await journal.begin(take(behind), TurnOpened(id=new_id(), settings="{}"), entries)
    hold = await journal.begin(take(behind, step=behind.step + 1), TurnOpened(id=new_id(), settings="{}"), entries)
    assert hold.fence == behind.fence + 1


async def test_results_that_close_the_turn_before_are_superseded_with_it(journal: Journal) -> None:
    """Open calls of a turn whose place is taken get their results, and both are out of the conversation."""
    turn, _, _ = await with_call(journal)
    await journal.record(turn.hold, (TurnEnded(status="failed"),))
    before = await journal.load(turn.hold.chat_id, "ada")
    assert before.last_turn is not None
    closing = answers(before.last_turn.calls, 2, new_id)
    asked = question(3, "And tomorrow?")
    opened = TurnOpened(id=new_id(), settings="{}")
    await journal.begin(take(before), opened, (HistorySuperseded(first=0), asked, attempt()), closing=closing)
    after = await journal.load(before.head.id, "ada")
    assert [(m.position, m.content) for m in after.messages] == [(3, "And tomorrow?")]
    [closed_call] = (await journal.turn(before.head.id, "ada", turn.turn_id)).calls
    assert (closed_call.status, closed_call.answered) == ("unknown", True)


async def test_a_superseded_turn_still_tells_what_was_said_in_it(journal: Journal) -> None:
    """A turn that is read by itself brings its answer, also when that is out of the conversation."""
    before = await journal.create(head())
    turn = await begin(journal, before, key="first")
    said = answer(1)
    ended = TurnEnded(status="completed", reason="stop")
    await journal.record(turn.hold, (replace(closed(turn.opened), message_id=said.id), said, ended))
    after = await revised(journal, await journal.load(before.head.id, "ada"), 1)
    for state in (
        await journal.turn(after.head.id, "ada", turn.turn_id),
        await journal.turn_by_key(after.head.id, "ada", "first"),
    ):
        assert state is not None
        assert state.spoken == {said.id: said.message}
    with pytest.raises(Repeated) as repeated:
        await begin(journal, after, key="first")
    assert repeated.value.turn.spoken == {said.id: said.message}


async def test_a_key_finds_its_turn(journal: Journal) -> None:
    """A turn is found by the key it was begun with, in its chat only."""
    chat = await journal.create(head())
    turn = await begin(journal, chat, key="k")
    found = await journal.turn_by_key(chat.head.id, "ada", "k")
    assert found is not None
    assert found == await journal.turn(chat.head.id, "ada", turn.turn_id)
    assert await journal.turn_by_key(chat.head.id, "ada", "other") is None
    if not isinstance(journal, MemoryJournal):
        assert await journal.turn_by_key(chat.head.id, "bob", "k") is None


async def test_calls_of_a_branch_may_be_made_again_in_it(journal: Journal) -> None:
    """Call ids are unique in a chat, and a branch is a chat of its own."""
    turn, _, opened = await with_call(journal)
    parent = await journal.load(turn.hold.chat_id, "ada")
    made = await journal.fork(branch(parent, 0), cut(parent, 0))
    again = await begin(journal, made)
    asked = replace(call(), call_id=opened.call.call_id)
    message = answer(2, asked)
    await journal.record(again.hold, (closed(again.opened), message, opened_call(message, asked)))
    assert (await journal.load(made.head.id, "ada")).messages[-1].tool_calls == (asked,)
