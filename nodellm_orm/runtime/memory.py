"""A journal that lives in memory: for chats that need no database, and the reference the databases are held to."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.money import add
from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import EVERYTHING, first_loaded, last_summary
from nodellm_orm.errors import ChatBusyError, ChatNotFoundError, ConfigurationError, StaleChatError
from nodellm_orm.ports.approvals import no_such_call, to_decide
from nodellm_orm.ports.branches import branch_of
from nodellm_orm.ports.entries import CallFinished, MessageAdded
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.ownership import Exhausted, Hold, Outdated, Repeated
from nodellm_orm.ports.states import ChatTotals, Snapshot, TurnState
from nodellm_orm.ports.statuses import EXHAUSTED, OPEN_CALLS, RELEASED
from nodellm_orm.ports.workspace import OWN_SESSION, NoWorkspace
from nodellm_orm.runtime.remembered import RememberedChat, RememberedTurn, moment

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.entries import AttemptClosed, Entry, TurnOpened
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.ownership import Take
    from nodellm_orm.ports.states import CallState, ChatHead
    from nodellm_orm.ports.workspace import Workspace

_MISSING: Final = object()
_NO_DATABASE: Final = (
    "context.session is not available in a chat in memory, which has no database; keep the chat in one with "
    f"create_chat(engine, llm), or {OWN_SESSION}"
)


class MemoryJournal:
    """Chats kept in this process only; leases run on the given clock.

    Args:
        clock: measures the leases and dates the chats.

    Example:
        >>> from nodellm_orm.runtime.clock import SystemClock
        >>> journal = MemoryJournal(SystemClock())
    """

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._chats: dict[UUID, RememberedChat] = {}

    @property
    def concurrent(self) -> bool:
        """See `Journal.concurrent`."""
        return True

    @property
    def database(self) -> Hashable:
        """See `Journal.database`."""
        return id(self)

    async def settle(self) -> None:
        """See `Journal.settle`; there is no session here."""

    async def create(
        self,
        head: ChatHead,
        messages: Sequence[tuple[UUID, Message]] = (),
        *,
        values: Mapping[str, object] | None = None,
    ) -> Snapshot:
        """See `Journal.create`."""
        if values:
            msg = "a chat in memory has no further columns; keep such values in its metadata"
            raise ConfigurationError(msg)
        return self.keep(head, messages)

    def keep(self, head: ChatHead, messages: Sequence[tuple[UUID, Message]] = ()) -> Snapshot:
        """As `create`, without an event loop: there is nothing to wait for.

        Args:
            head: the new chat.
            messages: what it begins with.
        """
        if head.id not in self._chats:
            now = moment(self._clock.monotonic())
            dated = replace(head, version=0, created_at=now, updated_at=now)
            self._chats[head.id] = RememberedChat(dated, _placed(messages, 0))
        return self._snapshot(self._find(head.id, head.owner))

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """See `Journal.load`."""
        return self._snapshot(self._find(chat_id, owner), window)

    def _find(self, chat_id: UUID, owner: Owner) -> RememberedChat:
        chat = self._chats.get(chat_id)
        if chat is None or (owner is not ANY_OWNER and chat.head.owner != owner):
            msg = f"there is no chat {chat_id} for this owner; check the id, and the owner it was created with"
            raise ChatNotFoundError(msg)
        return chat

    def _snapshot(self, chat: RememberedChat, window: Window | None = EVERYTHING) -> Snapshot:
        last, replayed = chat.last, chat.replayed
        window = window or chat.head.settings.history_window or EVERYTHING
        messages = [message for _, message in replayed]
        first = first_loaded(messages, window, last.state.first_position if last else None)
        summary = last_summary(messages)
        known = [
            *(replayed[summary : summary + 1] if summary is not None and summary < first else ()),
            *replayed[first:],
        ]
        return Snapshot(
            head=chat.head,
            messages=tuple(message for _, message in known),
            message_ids=tuple(key for key, _ in known),
            since=messages[first].position or 0 if first else 0,
            window=window,
            fence=chat.fence,
            next_position=len(chat.messages),
            last_turn=last.view(chat.lease_until, self._clock.monotonic()) if last else None,
            step=chat.step,
            retired_call_ids=chat.retired_call_ids,
        )

    def _busy(self, chat: RememberedChat) -> ChatBusyError:
        msg = (
            f"chat {chat.head.id} is running turn {chat.active}; wait for it (wait=seconds), cancel it, "
            "or ask again when its lease has ended"
        )
        return ChatBusyError(msg, turn_id=chat.active, lease_until=moment(chat.lease_until))

    def _expired(self, chat: RememberedChat) -> bool:
        return chat.lease_until < self._clock.monotonic()

    def _touch(self, chat: RememberedChat) -> None:
        chat.head = replace(chat.head, updated_at=moment(self._clock.monotonic()))

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        *,
        closing: Sequence[Entry] = (),
        again: bool = False,
    ) -> Hold:
        """See `Journal.begin`."""
        del again  # nothing is awaited here: a try that was broken off has not begun
        chat = self._find(take.chat_id, take.owner)
        self._refuse_repeated(chat, turn.idempotency_key)
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        first = _first_position([*closing, *entries])
        first = take.position if first is None else first
        if (chat.fence, chat.head.version) != (take.fence, take.version) or first not in {None, len(chat.messages)}:
            raise Outdated
        last = chat.last
        if closing:
            _refuse_closed(last, closing)
        if take.head is not None:
            chat.head = replace(take.head, version=take.version + 1, created_at=chat.head.created_at)
        if last is not None:
            if last.state.status == "running":
                last.interrupt()
                last.state = replace(
                    last.state, status="failed", reason=None, error_type="Interrupted", error_message=_STOPPED
                )
            chat.apply(last, closing)
        fresh = RememberedTurn(
            TurnState(
                id=turn.id,
                position=len(chat.turns),
                status="running",
                settings=turn.settings,
                first_position=len(chat.messages),
                idempotency_key=turn.idempotency_key,
                request_hash=turn.request_hash,
            )
        )
        chat.turns[turn.id] = fresh
        hold = self._hold(chat, turn.id, take.worker, take.lease, take.labels)
        chat.apply(fresh, entries)
        return hold

    def _refuse_repeated(self, chat: RememberedChat, key: str | None) -> None:
        before = None if key is None else self._with_key(chat, key)
        if before is not None:
            raise Repeated(before)

    def _with_key(self, chat: RememberedChat, key: str) -> TurnState | None:
        turns = (turn for turn in chat.turns.values() if turn.state.idempotency_key == key)
        return next((self._alone(chat, turn) for turn in turns), None)

    def _alone(self, chat: RememberedChat, turn: RememberedTurn) -> TurnState:
        """A turn that is read without its chat."""
        view = turn.view(chat.lease_until, self._clock.monotonic())
        made = {attempt.message_id for attempt in view.attempts}
        return replace(view, spoken={key: message for key, message in chat.messages if key in made})

    def _hold(
        self, chat: RememberedChat, turn_id: UUID, worker: str, lease: float, labels: Mapping[str, JsonValue]
    ) -> Hold:
        chat.fence += 1
        chat.step = 1
        chat.active, chat.worker = turn_id, worker
        chat.lease_until = self._clock.monotonic() + lease
        self._touch(chat)
        return Hold(
            chat_id=chat.head.id,
            owner=chat.head.owner,
            turn_id=turn_id,
            worker=worker,
            fence=chat.fence,
            step=chat.step,
            lease=lease,
            labels=labels,
        )

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """See `Journal.record`."""
        del again
        if hold.chat_id not in self._chats:
            msg = f"chat {hold.chat_id} was deleted while its turn ran; nothing was written, nor can it be carried on"
            raise StaleChatError(msg)
        chat = self._held(hold)
        if chat is None or (chat.head.owner, chat.step) != (hold.owner, hold.step):
            msg = (
                f"this worker no longer holds chat {hold.chat_id} (another has taken over, or the turn was ended); "
                "nothing was written; load the chat again to carry on from its rows"
            )
            raise StaleChatError(msg)
        first = _first_position(entries)
        if first not in {None, len(chat.messages)}:
            msg = f"position {first} is not the next one, {len(chat.messages)}"
            raise ValueError(msg)
        chat.lease_until = self._clock.monotonic() + hold.lease
        chat.step += 1
        self._touch(chat)
        chat.apply(chat.turns[hold.turn_id], entries)
        return replace(hold, step=chat.step)

    def workspace(self, floor: asyncio.Lock) -> Workspace:
        """See `Journal.workspace`; a chat in memory has none."""
        del floor
        return NoWorkspace(_NO_DATABASE)

    def _held(self, hold: Hold) -> RememberedChat | None:
        chat = self._chats.get(hold.chat_id)
        if chat is None or (chat.active, chat.fence, chat.worker) != (hold.turn_id, hold.fence, hold.worker):
            return None
        return chat

    async def take_over(
        self,
        chat_id: UUID,
        owner: str | None,
        turn_id: UUID,
        *,
        worker: str,
        lease: float,
        limit: int | None = None,
        interrupted: bool = False,
        again: bool = False,
    ) -> Hold:
        """See `Journal.take_over`."""
        del again
        chat = self._find(chat_id, owner)
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        last = chat.last
        if last is None or last.state.id != turn_id or last.state.status == "completed":
            raise Outdated
        if interrupted and last.state.status != "running":
            raise Outdated
        state = last.state
        deserted = state.status == "running" and state.reason != RELEASED
        last.interrupt()
        if deserted and limit is not None and state.takeovers >= limit:
            last.state = replace(state, status="failed", reason=None, error_type=EXHAUSTED, error_message=_DIED)
            chat.fence += 1
            chat.release()
            self._touch(chat)
            raise Exhausted(limit)
        last.state = replace(
            state,
            status="running",
            takeovers=state.takeovers + deserted,
            reason=None,
            error_type=None,
            error_message=None,
        )
        return self._hold(chat, turn_id, worker, lease, chat.head.metadata)

    async def cancel(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.cancel`."""
        chat = self._find(chat_id, owner)
        if chat.active is None:
            return False
        turn = chat.turns[chat.active]
        turn.interrupt()
        turn.state = replace(turn.state, status="cancelled", reason="cancelled", error_type="Cancelled")
        chat.fence += 1
        chat.release()
        self._touch(chat)
        return True

    async def account(self, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
        """See `Journal.account`; in memory the attempts of a chat go with it."""

    async def delete(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.delete`."""
        try:
            self._find(chat_id, owner)
        except ChatNotFoundError:
            return False
        del self._chats[chat_id]
        return True

    async def decide(self, chat_id: UUID, owner: Owner, decision: Decision) -> CallState:
        """See `Journal.decide`."""
        chat = self._find(chat_id, owner)
        call = chat.call(decision.call_id)
        if call is None:
            raise no_such_call(chat_id, decision.call_id, chat.waiting)
        if not to_decide(call, decision):
            return call
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        if chat.active is None:
            chat.fence, chat.step = chat.fence + 1, 0
        self._touch(chat)
        return chat.decide(call, decision, moment(self._clock.monotonic()))

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """See `Journal.renew`."""
        lost: set[UUID] = set()
        for hold in holds:
            chat = self._held(hold)
            if chat is None:
                lost.add(hold.turn_id)
            else:
                chat.lease_until = self._clock.monotonic() + hold.lease
        return frozenset(lost)

    # ── outside a turn ────────────────────────────────────────────────────────────────────────────────────────────

    async def update(self, head: ChatHead) -> ChatHead:
        """See `Journal.update`."""
        chat = self._find(head.id, head.owner)
        if head.version != chat.head.version:
            raise Outdated
        chat.head = replace(head, version=chat.head.version + 1, created_at=chat.head.created_at)
        self._touch(chat)
        return chat.head

    async def append(self, head: ChatHead, fence: int, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """See `Journal.append`."""
        chat = self._find(head.id, head.owner)
        if chat.active is not None:
            raise self._busy(chat)
        if chat.fence != fence:
            raise Outdated
        chat.fence += 1
        chat.messages.extend(_placed(messages, len(chat.messages)))
        self._touch(chat)
        return self._snapshot(chat, None)

    async def fork(self, head: ChatHead, cut: Cut, closing: Sequence[Entry] = ()) -> Snapshot:
        """See `Journal.fork`."""
        if head.id in self._chats:
            return branch_of(self._snapshot(self._find(head.id, head.owner), None), cut.chat_id)
        parent = self._find(cut.chat_id, cut.owner)
        if (parent.fence, parent.step) != (cut.fence, cut.step):
            raise Outdated
        kept = parent.messages[: cut.length]
        added = [(entry.id, entry.message) for entry in closing if isinstance(entry, MessageAdded)]
        now = moment(self._clock.monotonic())
        dated = replace(head, version=0, created_at=now, updated_at=now)
        branch = RememberedChat(dated, [*kept, *_placed(added, len(kept))])
        branch.superseded = parent.superseded & {key for key, _ in kept}
        self._chats[head.id] = branch
        return self._snapshot(branch, None)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def history(
        self, chat_id: UUID, owner: Owner, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """See `Journal.history`."""
        _check_limit(limit)
        chat = self._find(chat_id, owner)
        page = [
            message
            for position, (key, message) in enumerate(chat.messages)
            if (before is None or position < before)
            and (after is None or position > after)
            and key not in chat.superseded
        ]
        return tuple(page[-limit:] if before is not None and after is None else page[:limit])

    async def summaries(
        self,
        owner: Owner,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """See `Journal.summaries`; a cursor is the id of the last chat of a page."""
        _check_limit(limit)
        chats = sorted(self._chats.values(), key=lambda c: (self._summary(c).created_at, c.head.id), reverse=True)
        if after is not None:
            known = [str(chat.head.id) for chat in chats]
            if after not in known:
                msg = "after= is not a page's cursor; pass the `next` of the page before, unchanged"
                raise ConfigurationError(msg)
            chats = chats[known.index(after) + 1 :]
        wanted = metadata or {}
        items = [
            self._summary(chat)
            for chat in chats
            if (owner is ANY_OWNER or chat.head.owner == owner)
            and all(_same(chat.head.metadata.get(name, _MISSING), value) for name, value in wanted.items())
        ]
        page = tuple(items[:limit])
        return Page(items=page, next=str(page[-1].id) if len(items) > limit else None)

    def _summary(self, chat: RememberedChat) -> ChatSummary:
        head = chat.head
        return ChatSummary(
            id=head.id,
            owner=head.owner,
            title=head.title,
            provider=head.provider,
            model=head.model,
            metadata=MappingProxyType(dict(head.metadata)),
            message_count=len(chat.messages),
            running=chat.active is not None and not self._expired(chat),
            created_at=head.created_at or moment(0),
            updated_at=head.updated_at or moment(0),
        )

    async def interrupted(self, *, limit: int) -> tuple[InterruptedTurn, ...]:
        """See `Journal.interrupted`."""
        _check_limit(limit)
        expired = [chat for chat in self._chats.values() if chat.active is not None and self._expired(chat)]
        return tuple(
            InterruptedTurn(
                chat_id=chat.head.id,
                owner=chat.head.owner,
                turn_id=turn_id,
                takeovers=chat.turns[turn_id].state.takeovers,
                lease_until=moment(chat.lease_until),
            )
            for chat in sorted(expired, key=lambda c: (c.lease_until, c.head.id))[:limit]
            if (turn_id := chat.active) is not None
        )

    async def turn(self, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
        """See `Journal.turn`."""
        chat = self._find(chat_id, owner)
        if turn_id not in chat.turns:
            msg = f"there is no turn {turn_id} in a chat {chat_id} of this owner; check the ids and the owner"
            raise ChatNotFoundError(msg)
        return self._alone(chat, chat.turns[turn_id])

    async def turn_by_key(self, chat_id: UUID, owner: Owner, key: str) -> TurnState | None:
        """See `Journal.turn_by_key`."""
        return self._with_key(self._find(chat_id, owner), key)

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """See `Journal.totals`."""
        attempts = [a for turn in self._find(chat_id, owner).turns.values() for a in turn.attempts.values()]
        usage, cost = Usage(), None
        for attempt in attempts:
            usage, cost = usage + attempt.usage, add(cost, attempt.cost)
        return ChatTotals(
            requests=len(attempts),
            failures=sum(a.status == "failed" for a in attempts),
            unpriced=sum(a.cost is None for a in attempts),
            usage=usage,
            cost=cost,
        )


_STOPPED: Final = "its worker stopped, and a new turn was begun"
_DIED: Final = "its workers died again and again"


def _placed(messages: Sequence[tuple[UUID, Message]], first: int) -> list[tuple[UUID, Message]]:
    return [(key, replace(message, position=position)) for position, (key, message) in enumerate(messages, first)]


def _first_position(entries: Sequence[Entry]) -> int | None:
    """Where the messages among entries begin; they have to follow each other."""
    positions = [entry.message.position for entry in entries if isinstance(entry, MessageAdded)]
    if not positions:
        return None
    first = positions[0]
    if first is None or positions != list(range(first, first + len(positions))):
        msg = f"positions {positions} of the messages of one point do not follow each other"
        raise ValueError(msg)
    return first


def _refuse_closed(last: RememberedTurn | None, closing: Sequence[Entry]) -> None:
    """The last turn's calls have to be as open as the caller believes."""
    finished = [entry.id for entry in closing if isinstance(entry, CallFinished)]
    if last is None or any(key not in last.calls or last.calls[key].status not in OPEN_CALLS for key in finished):
        raise Outdated


def _same(left: object, right: object) -> bool:
    """Equal as JSON: ``1``, ``1.0`` and ``true`` differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    return type(left) is type(right) and left == right


def _check_limit(limit: int) -> None:
    if limit < 1:
        msg = f"limit={limit} leaves no room on a page; give 1 or more"
        raise ConfigurationError(msg)
