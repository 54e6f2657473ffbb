"""One stored chat on its way to be asked again: what its replay has asked already, and step by step what is missing."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid5

from nodellm_orm.chat import Chat
from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.windows import is_summary, summarised, turns_of
from nodellm_orm.errors import (
    BadRequestError,
    ChatBusyError,
    ChatError,
    ConfigurationError,
    NodeLLMError,
    ProviderError,
    SchemaValidationError,
)
from nodellm_orm.opening import new_head, opening_messages
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.ports.refused import chat_busy
from nodellm_orm.replay.comparison import compared, key_for, replayed_by_key
from nodellm_orm.replay.llm import ReplayLLM
from nodellm_orm.replay.record import AskedWith, Compacted, Copied, Exchange
from nodellm_orm.replay.report import ReplayProgress
from nodellm_orm.replay.results import RecordedResults, ReplayToolbox
from nodellm_orm.replay.summary import SummarisedOnce, SummaryThere
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.fluent import Behaviour
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.replay.record import Record
    from nodellm_orm.replay.report import ReplayReport
    from nodellm_orm.replay.results import Results
    from nodellm_orm.replay.target import Wanted
    from nodellm_orm.runtime.toolbase import Tool

C = TypeVar("C", bound=Chat)

REPLAY_OF: Final = "replay_of"
"""Member of a replay's metadata that names the chat it is of: its ledger rows can be told from others by it."""
_OUTCOMES: Final = (BadRequestError, SchemaValidationError)
"""What a model makes of a question: the replay goes on with the next one."""
_PAUSE: Final = 0.1
"""Seconds before a chat is looked at again that is busy."""


@dataclass(slots=True, kw_only=True)
class Replay:
    """One chat on its way to be asked again."""

    read: Callable[[UUID, Owner], Any]
    """Reads a chat as it is replayed."""
    journal: Journal
    original: Record
    wanted: Wanted
    behaviour: Behaviour
    tools: Sequence[Tool]
    results: Results
    approved: bool
    id: UUID
    wait: float
    told: Callable[[ReplayProgress], object]
    done: Record | None = None
    """What an earlier run has asked."""
    _chat: Conversation | None = None
    _recorded: RecordedResults | None = None
    _before: list[Message] = field(default_factory=list)
    """The recorded messages up to the step that is at."""

    async def opened(self, overrides: Mapping[str, Any]) -> Replay:
        """Make the new chat, or find the one that was broken off.

        Args:
            overrides: as given.

        Raises:
            ConfigurationError: the id is that of a chat which is no replay of this one, or of another replay.
        """
        recorded, messages = self.original.head, self._opening()
        first = self.original.exchanges[0].asked if self.original.exchanges else None
        snapshot = await self.journal.create(
            self._head(first, overrides), [(new_id(), message) for message in messages], values=overrides.get("values")
        )
        head = snapshot.head
        if head.parent_chat_id != recorded.id or head.fork_position is not None or REPLAY_OF not in head.metadata:
            msg = f"chat {self.id} is there already and no replay of chat {recorded.id}; choose another id, or none"
            raise ConfigurationError(msg)
        self._chat = Conversation.of(snapshot)
        if snapshot.last_turn is not None or snapshot.next_position > len(messages):
            self.done = await self.read(self.id, recorded.owner)
        self._recorded = RecordedResults(self.original, self.done.exchanges if self.done is not None else ())
        self._refuse_another()
        return self

    def _opening(self) -> list[Message]:
        return opening_messages(step.message for step in self.original.opening)

    def _head(self, first: AskedWith | None, overrides: Mapping[str, Any]) -> ChatHead:
        recorded, asked = self.original.head, first or AskedWith()
        given = overrides.get("metadata")
        metadata = {**(recorded.metadata if given is None else given), REPLAY_OF: str(recorded.id)}
        head = new_head(
            self.wanted.origin(asked, recorded),
            instructions=self.wanted.texts(asked) if first is not None else recorded.instructions,
            metadata=metadata,
            settings=Settings(),
            owner=recorded.owner,
            title=overrides.get("title", recorded.title),
            chat_id=self.id,
        )
        return replace(head, parent_chat_id=recorded.id)

    def _refuse_another(self) -> None:
        """Refuse to go on with a replay that has asked for something else."""
        again = {} if self.done is None else replayed_by_key(self.done)
        for exchange in self.original.exchanges:
            made = again.get(key_for(exchange))
            if made is None:
                continue
            origin = self.wanted.origin(exchange.asked, self.original.head)
            digests = [digest_of_text(text) for text in self.wanted.texts(exchange.asked)]
            told = [named.digest for named in made.asked.instructions]
            if (origin.provider, origin.model, digests) != (made.asked.provider, made.asked.model, told):
                msg = (
                    f"replay {self.id} was begun with another model or other instructions; go on with those, or "
                    "choose another id, or none"
                )
                raise ConfigurationError(msg)

    @property
    def chat(self) -> Conversation:
        """The new chat as this process knows it."""
        if self._chat is None:
            msg = "a replay is opened before it is run"
            raise AssertionError(msg)
        return self._chat

    async def run(self) -> None:
        """Ask what is missing.

        Raises:
            NodeLLMError: something stands in the way; what was asked is kept.
        """
        finished, opening, asked = self._finished(), len(self.original.opening), 0
        summaries = sum(is_summary(message) for message in self._opening())
        for number, step in enumerate(self.original.steps):
            match step:
                case Copied():
                    if number >= opening:
                        await self._copy(step)
                    self._before.append(step.message)
                case Compacted():
                    summaries += 1
                    await self._compact(step, summaries)
                    self._before.append(step.summary.message)
                case Exchange():
                    if key_for(step) not in finished:
                        await self._ask(step)
                    asked += 1
                    self._before += [step.question, *(said.message for said in step.said)]
                    await self._tell(asked)
        await self._leave()

    async def report(self, error: str | None = None) -> ReplayReport:
        """The comparison, as far as it went.

        Args:
            error: what it broke off with.
        """
        replay = await self.read(self.id, self.original.head.owner)
        return compared(self.original, replay, self.id, error=error)

    def _finished(self) -> frozenset[str]:
        """The keys of questions that are not asked again."""
        if self.done is None:
            return frozenset()
        again, last = replayed_by_key(self.done), self.done.turns[-1].id if self.done.turns else None
        outcomes = {kind.__name__ for kind in _all(_OUTCOMES)}
        finished: set[str] = set()
        for exchange in self.original.exchanges:
            made = again.get(key_for(exchange))
            if made is None or made.turn is None:
                continue
            turn, was = made.turn, exchange.turn.error_type if exchange.turn is not None else None
            same = turn.status == "failed" and (turn.error_type in outcomes or turn.error_type == was)
            if turn.status in {"completed", "suspended"} or same or turn.id != last:
                finished.add(key_for(exchange))
        return frozenset(finished)

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, exchange: Exchange) -> None:
        chat = self._as(exchange.asked, Chat)
        try:
            await chat.ask(list(exchange.question.parts), idempotency_key=key_for(exchange), wait=self.wait)
        except NodeLLMError as error:
            was = exchange.turn.error_type if exchange.turn is not None else None
            # What a player raises of a provider is in the record, and the record goes on after it.
            played = isinstance(error, ProviderError) and isinstance(self.wanted.source, ReplayLLM)
            if not isinstance(error, _OUTCOMES) and type(error).__name__ != was and not played:
                raise
            self.chat.stale = True

    async def _copy(self, step: Copied) -> None:
        """Add a message from elsewhere, once: its id is made of the recorded one's, whoever else replays the same."""
        role, plain = step.message.role, _copyable(step.message)
        if role == "tool" or not plain:
            return
        added, parts = uuid5(self.id, str(step.id)), await self.wanted.source.host.files.attach(plain, ())

        async def append() -> None:
            await self._refresh()
            if added in self.chat.message_ids:
                return
            _refuse_open(self.chat)
            message = Message(role=role, parts=parts, position=self.chat.next_position)
            self.chat.refresh(await self.journal.append(self.chat.head, self.chat.fence, [(added, message)]))

        await self._patiently(append)

    async def _compact(self, step: Compacted, summaries: int) -> None:
        """Have the summary made, once; see `SummarisedOnce`, for a compaction has no key."""
        asked, until = step.asked, step.asked.until
        _, rest = summarised(self._before)
        keep = sum((rest[start].position or 0) > (-1 if until is None else until) for start in turns_of(rest))
        limit = self.wanted.settings(asked.settings).max_tokens

        async def compact() -> None:
            await self._refresh()
            if sum(is_summary(message) for message in self.chat.messages) >= summaries:
                return
            chat = self._as(asked, SummarisedOnce)
            chat.summaries = summaries
            with suppress(SummaryThere):
                await chat.compact(keep=keep, instructions=asked.words, max_tokens=limit)

        await self._patiently(compact)

    async def _patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Do something as soon as the chat is free; another process may replay the same."""
        clock = self.wanted.source.host.engine.clock
        deadline = clock.monotonic() + self.wait
        while True:
            try:
                return await attempt()
            except Outdated:
                continue
            except ChatBusyError:
                if clock.monotonic() >= deadline:
                    raise
                await clock.sleep(_PAUSE)

    async def _refresh(self) -> None:
        self.chat.refresh(await self.journal.load(self.id, self.original.head.owner))

    def _as(self, asked: AskedWith, kind: type[C]) -> C:
        """The new chat with the head and the tools that a recorded turn had, but for what is wanted otherwise."""
        self._set(lambda head: self.wanted.head(head, asked, self.original.head))
        recorded = self._recorded
        if recorded is None:
            msg = "a replay is opened before it is run"
            raise AssertionError(msg)
        toolbox = ReplayToolbox(
            self.tools,
            self.wanted.specs(asked, given=bool(self.tools)),
            recorded,
            results=self.results,
            approved=self.approved,
            timeout=self.behaviour.timeout.tool,
        )
        behaviour = replace(self.behaviour, toolbox=toolbox)
        return kind(self.wanted.source.host, self.journal, self.chat, behaviour)

    def _set(self, change: Callable[[ChatHead], ChatHead]) -> bool:
        before = self.chat.wanted
        changed = change(before) != before
        if changed:
            self.chat.changes.append(change)
        return changed

    async def _leave(self) -> None:
        """The new chat keeps what belongs to it, and not what single questions were asked with."""
        if self._set(lambda head: self.wanted.last_head(head, self.original.head)):
            await Chat(self.wanted.source.host, self.journal, self.chat, self.behaviour).update()

    async def _tell(self, asked: int) -> None:
        exchanges = len(self.original.exchanges)
        outcome = self.told(ReplayProgress(chat_id=self.original.head.id, turn=asked, turns=exchanges))
        if inspect.isawaitable(outcome):
            await outcome


def _copyable(message: Message) -> tuple[Part, ...]:
    return tuple(part for part in message.parts if isinstance(part, TextPart | MediaPart | OpaquePart))


def _refuse_open(chat: Conversation) -> None:
    """Refuse to put a message where none can be: behind a turn that runs, or calls without results.

    Raises:
        ChatBusyError: a turn runs.
        ChatError: the last one has ended with calls that have no results.
    """
    last = chat.last_turn
    if last is None or (last.status != "running" and all(call.answered for call in last.calls)):
        return
    if last.status == "running":
        raise chat_busy(chat.head.id, last.id, last.lease_until)
    msg = (
        "the record has a message from elsewhere here, and in the replay the turn before it has ended with calls that "
        "have no results yet; raise max_tool_rounds="
    )
    raise ChatError(msg)


def _all(kinds: Iterable[type]) -> Iterable[type]:
    for kind in kinds:
        yield kind
        yield from _all(kind.__subclasses__())
