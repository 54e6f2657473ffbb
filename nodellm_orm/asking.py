"""Asking: how turns are started, carried on and ended; `Chat` builds on it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, get_args, overload

from nodellm_orm.domain.pages import InterruptedTurn
from nodellm_orm.errors import ChatBusyError, ConfigurationError
from nodellm_orm.planning import AskOptions, Planning
from nodellm_orm.runtime.attachments import file_list
from nodellm_orm.runtime.loop import Turn
from nodellm_orm.runtime.nesting import within
from nodellm_orm.runtime.plan import Planner, UnknownPolicy
from nodellm_orm.runtime.refusals import refuse_seconds, refuse_word
from nodellm_orm.runtime.stream import OnAbandon, ReplyStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from uuid import UUID

    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.fluent import Behaviour
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.drive import Drive, Mailbox
    from nodellm_orm.runtime.host import Host
    from nodellm_orm.runtime.options import Content

T = TypeVar("T")


class Asking(Planning):
    """The turns of a chat: one at a time, each driven by a task of its own."""

    def __init__(self, host: Host, journal: Journal, conversation: Conversation, behaviour: Behaviour) -> None:
        """Wire the parts together; users call `create_chat` and its kin."""
        super().__init__(host, journal, conversation, behaviour)
        self._last: weakref.ref[Drive] | None = None
        self._stream: weakref.ref[ReplyStream[Any]] | None = None
        self._turnstile = threading.Lock()

    @property
    def id(self) -> UUID:
        """The chat's id."""
        return self._chat.head.id

    @property
    def owner(self) -> str | None:
        """Whose chat it is."""
        return self._chat.head.owner

    @property
    def _drive(self) -> Drive | None:
        """The last turn of this object while it runs: the host keeps it as long, and an idle chat keeps none."""
        return self._last() if self._last is not None else None

    @overload
    async def ask(self, content: Content, *, schema: type[T], **options: Unpack[AskOptions]) -> Reply[T]: ...
    @overload
    async def ask(self, content: Content, *, schema: object = None, **options: Unpack[AskOptions]) -> Reply[Any]: ...
    async def ask(self, content: Content, *, schema: object = None, **options: Unpack[AskOptions]) -> Reply[Any]:
        """Ask, run the tools that the model calls, and give its final answer: one turn.

        Args:
            content: text, or a list of texts and parts.
            schema: form of the answer: a pydantic model, a dataclass, another type, or a JSON Schema as a dict;
                the answer is then also in ``reply.parsed``.
            options: ``files`` (one or several: bytes, ``(name, bytes)``, open files, data URLs, `MediaPart` values;
                paths and URLs as the client's `AttachmentPolicy` allows), ``tools`` (in place of the chat's),
                ``tool_choice``, ``parallel_tool_calls``, ``thinking``,
                ``temperature``, ``max_tokens``, ``max_tool_rounds``, ``max_cost`` (US dollars), ``history_window``
                (turns, or a `Window`), ``timeout`` (seconds in total, or a `Timeout`), ``headers``, ``params`` (raw
                members of the request), ``idempotency_key``,
                ``wait`` (seconds to wait for a busy chat), ``on_limit`` (``return`` or ``raise``) and
                ``abandon_pending`` (go on although calls wait for approval).

        Raises:
            AttachmentError: a file cannot be had or is not allowed; the chat is as it was.
            ChatBusyError: another turn of this chat is running.
            ProviderError: the model could not answer; the question is kept.
            SchemaValidationError: the answer does not fit ``schema``; it is kept too.
            StorageError: the database failed; the error carries what could not be saved.
        """
        planner = await self._question(content, schema, options, stream=False)()
        drive = await self._run(planner, Turn.run, heard=False, wait=options.get("wait", 0))
        return await awaited(drive)

    @overload
    def stream(
        self,
        content: Content,
        *,
        schema: type[T],
        on_abandon: OnAbandon = "cancel",
        checkpoint: float | None = None,
        **options: Unpack[AskOptions],
    ) -> ReplyStream[T]: ...
    @overload
    def stream(
        self,
        content: Content,
        *,
        schema: object = None,
        on_abandon: OnAbandon = "cancel",
        checkpoint: float | None = None,
        **options: Unpack[AskOptions],
    ) -> ReplyStream[Any]: ...
    def stream(
        self,
        content: Content,
        *,
        schema: object = None,
        on_abandon: OnAbandon = "cancel",
        checkpoint: float | None = None,
        **options: Unpack[AskOptions],
    ) -> ReplyStream[Any]:
        """Ask, and give the answer as it arrives; the same turn as `ask`, and the same reply in the end.

        Args:
            content: as for `ask`.
            schema: as for `ask`.
            on_abandon: what becomes of the turn when its consumer leaves: ``cancel`` stores the text so far,
                ``finish`` lets the answer complete.
            checkpoint: seconds after which the growing text is stored again, so that it survives a killed process and
                another one can show it; without it the text is stored with the answer.
            options: as for `ask`.
        """
        refuse_word("on_abandon", on_abandon, get_args(OnAbandon))
        if checkpoint is not None:
            refuse_seconds("checkpoint", checkpoint, zero=True)
        planned = self._question(content, schema, options, stream=True, checkpoint=checkpoint)
        wait = options.get("wait", 0)

        async def start(stream: ReplyStream[Any]) -> Drive:
            drive = await self._run(await planned(), Turn.run, heard=True, wait=wait)
            self._stream = weakref.ref(stream)
            return drive

        return ReplyStream(start, on_abandon)

    async def resume(
        self,
        *,
        turn: InterruptedTurn | None = None,
        unknown: UnknownPolicy = "report",
        schema: object = None,
        **options: Unpack[AskOptions],
    ) -> Reply[Any]:
        """Carry on the last turn unless it is completed; nothing stored is asked for, or run, again.

        Args:
            turn: of `interrupted_turns`: carry on this one only, and only while it is interrupted. A worker gives it,
                so that it does not take up what another one, or a person, has ended since it was listed.
            unknown: what to do with a call that was running when its process stopped: ``report`` tells the model,
                ``retry`` runs it again, ``fail`` raises. Calls of idempotent tools are run again.
            schema: as for `ask`.
            options: as for `ask`.

        Raises:
            ChatError: the chat has no turn yet, or it was taken over ``max_takeovers`` times and is failed now.
            ChatBusyError: another worker still holds the turn (``wait=`` waits for it); or ``turn`` is given, and it is
                not interrupted any more.
            TurnInterruptedError: the client was closed before the turn had ended.
        """
        refuse_word("unknown", unknown, get_args(UnknownPolicy))
        if file_list(options.get("files")):
            msg = "files belong to a question, and resume() carries on the one that is stored; ask with them"
            raise ConfigurationError(msg)
        if turn is not None and not isinstance(turn, InterruptedTurn):
            msg = f"turn is what interrupted_turns() gave, not {type(turn).__name__}; without it the last turn is meant"
            raise ConfigurationError(msg)
        interrupted = None if turn is None else turn.turn_id
        planner = self._planner((), schema, options, stream=False, unknown=unknown, interrupted=interrupted)
        drive = await self._run(planner, Turn.resume, heard=False, wait=options.get("wait", 0))
        return await awaited(drive)

    async def cancel(self) -> bool:
        """End the running turn of this chat, also one in another process; what had arrived here is stored.

        A question of this object that still waits for the chat is withdrawn instead: it raises `ChatBusyError`.

        Returns:
            Whether a turn was running, and has ended with this.
        """
        drive = self._drive
        if drive is not None and not drive.over:
            await drive.stopped(self._host.engine.clock)
            return drive.turn.begun
        self._chat.stale = True
        return await self._journal.cancel(self.id, self.owner)

    async def _run(
        self,
        planner: Planner,
        work: Callable[[Turn], Coroutine[Any, Any, Reply[Any]]],
        *,
        heard: bool,
        wait: float,
    ) -> Drive:
        deadline = self._host.engine.clock.monotonic() + wait
        await self._quiet(deadline)
        await self._journal.settle()

        def turn_of(mailbox: Mailbox) -> Turn:
            return Turn(self._host.engine, self._journal, self._chat, planner, mailbox.put, deadline=deadline)

        while True:
            await self._quiet(deadline)  # somebody else may have been faster while we settled
            with self._turnstile:  # threads may ask at the same moment
                if (last := self._drive) is None or last.over:
                    self._stream = None
                    drive = self._host.drive(turn_of, work, self._journal, heard=heard)
                    self._last = weakref.ref(drive)
                    return drive

    async def _quiet(self, deadline: float, *, take_leave: bool = True) -> None:
        """Wait for a turn of this very object that its consumer has left; any other one keeps the chat busy.

        Args:
            deadline: until when to wait, on the engine's clock.
            take_leave: whether asking says that a stream which the same task has stopped reading was left.
        """
        drive = self._drive
        if drive is not None and drive.abandoned:
            self._last, self._chat.stale = None, True
        if drive is None or drive.over:
            return
        if drive.elsewhere or within(drive.turn.id):
            raise self._occupied(drive)
        stream = self._stream() if self._stream is not None else None
        if take_leave and stream is not None and stream.left:
            stream.abandon()
        await asyncio.sleep(0)  # a stream that was dropped a moment ago says so through the loop
        left = deadline - self._host.engine.clock.monotonic()
        if drive.turn.stopping or drive.mailbox.dropped or await drive.settled_within(left):
            await drive.settled()
            return
        raise self._occupied(drive)

    def _occupied(self, drive: Drive) -> ChatBusyError:
        if drive.elsewhere:
            what = "answering a question in another thread; load it there with load_chat()"
        elif within(drive.turn.id):
            what = (
                "answering the question that this code is part of; a tool cannot ask or delete its own chat, do that "
                "after the turn"
            )
        else:
            what = "answering another question in this process; await that one first, or pass wait=seconds"
        return ChatBusyError(f"chat {self.id} is {what}", turn_id=drive.turn.id)


async def awaited(drive: Drive) -> Reply[Any]:
    """The reply of a turn whose caller, when cancelled, takes the turn with him.

    Args:
        drive: the turn under way.
    """
    try:
        return await drive.reply()
    except BaseException:
        drive.stop()
        raise
