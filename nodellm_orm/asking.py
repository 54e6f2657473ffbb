"""Asking: what a question may say, and how turns are planned, started, carried on and ended; `Chat` builds on it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, get_args, overload

from nodellm_orm.domain.codec import encode_parts
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.pages import InterruptedTurn
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ChatBusyError, ConfigurationError
from nodellm_orm.fluent import OPTION_NAMES, Fluent, checked_headers
from nodellm_orm.runtime.attachments import file_list
from nodellm_orm.runtime.identity import digest
from nodellm_orm.runtime.loop import Turn
from nodellm_orm.runtime.nesting import within
from nodellm_orm.runtime.options import Options, check_choice, question, stored_schema
from nodellm_orm.runtime.plan import OnLimit, Plan, Planner, UnknownPolicy
from nodellm_orm.runtime.refusals import refuse_key, refuse_params, refuse_seconds, refuse_unknown, refuse_word
from nodellm_orm.runtime.stream import OnAbandon, ReplyStream
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.fluent import Behaviour
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.drive import Drive, Mailbox
    from nodellm_orm.runtime.host import Host
    from nodellm_orm.runtime.options import Content, Thinks
    from nodellm_orm.runtime.revision import Revision
    from nodellm_orm.runtime.tools import ToolSource


class AskOptions(TypedDict, total=False):
    """What may be said about one question; each overrides the chat's own setting for this turn only."""

    files: object
    """One file or a list of them: bytes, (name, bytes), open files, paths, data: and http URLs, `MediaPart`s."""
    tools: Iterable[ToolSource] | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    thinking: Thinks | None
    temperature: float | None
    max_tokens: int | None
    max_tool_rounds: int | None
    max_cost: Decimal | float | str | None
    history_window: int | Window | None
    timeout: Timeout | float | None
    headers: Mapping[str, str] | None
    params: Mapping[str, object] | None
    idempotency_key: str | None
    wait: float
    on_limit: OnLimit
    abandon_pending: bool


T = TypeVar("T")

_ASK_NAMES = AskOptions.__optional_keys__ | {"schema"}


class Asking(Fluent):
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
            what = "answering the question that this code is part of; a tool cannot ask its own chat, but another one"
        else:
            what = "answering another question in this process; await that one first, or pass wait=seconds"
        return ChatBusyError(f"chat {self.id} is {what}", turn_id=drive.turn.id)

    def _question(
        self,
        content: Content,
        schema: object,
        options: AskOptions,
        *,
        stream: bool,
        checkpoint: float | None = None,
        revision: Revision | None = None,
    ) -> Callable[[], Awaitable[Planner]]:
        """Checks a question and its options now; what it gives reads the files, and plans with them."""
        files = file_list(options.get("files"))
        asked = question(content, files=bool(files))
        planner = self._planner(asked, schema, options, stream=stream, checkpoint=checkpoint, revision=revision)

        async def attached() -> Planner:
            parts = await self._host.files.attach(asked, files)
            if not files:
                return planner
            return self._planner(parts, schema, options, stream=stream, checkpoint=checkpoint, revision=revision)

        return attached

    def _planner(
        self,
        parts: tuple[Part, ...],
        schema: object,
        options: AskOptions,
        *,
        stream: bool,
        unknown: UnknownPolicy = "report",
        interrupted: UUID | None = None,
        checkpoint: float | None = None,
        revision: Revision | None = None,
    ) -> Planner:
        """Checks what was given, and makes the plan once the chat's head is known."""
        _check_asked(options)
        if checkpoint is not None and self._behaviour.durability == "turn":
            msg = "checkpoint stores a growing answer as it comes, and durability='turn' stores at the end; choose one"
            raise ConfigurationError(msg)
        chosen = Options(
            schema=schema,
            **{name: value for name, value in options.items() if name in OPTION_NAMES},  # type: ignore[arg-type]
        )
        behaviour = self._behaviour
        own_tools, own_timeout = options.get("tools"), options.get("timeout")
        timeout = behaviour.timeout if own_timeout is None else Timeout.of(own_timeout)
        offered = behaviour.toolbox.tools if own_tools is None else own_tools
        changed = own_tools is not None or timeout.tool != behaviour.timeout.tool
        toolbox = Toolbox(offered, timeout=timeout.tool) if changed else behaviour.toolbox
        form = None if schema is None else StructuredSchema.of(schema)
        params = {**behaviour.params, **(options.get("params") or {})}
        headers = {**behaviour.headers, **checked_headers(options.get("headers"))}
        key = options.get("idempotency_key")
        request_hash = None if key is None else _request_hash(parts, chosen, form, toolbox, params, revision)

        def plan(head: ChatHead, asked: Settings | None) -> Plan:
            settings = chosen.over(asked or head.settings)
            check_choice(settings.tool_choice, [spec.name for spec in toolbox.specs])
            return Plan(
                model=self._host.models.model(head.provider, head.model, head.api),
                settings=settings,
                toolbox=toolbox,
                hooks=behaviour.hooks,
                worker=self._host.worker,
                lease=behaviour.lease,
                max_takeovers=behaviour.max_takeovers,
                timeout=timeout,
                alternatives=self._host.alternatives(),
                instructions=head.instructions,
                parts=parts,
                revision=revision,
                stream=stream,
                schema=form or _form(behaviour.schema, settings),
                headers=headers,
                params=params,
                idempotency_key=key,
                request_hash=request_hash,
                on_limit=options.get("on_limit", "return"),
                abandon_pending=options.get("abandon_pending", False),
                unknown=unknown,
                interrupted=interrupted,
                durability=behaviour.durability,
                checkpoint=checkpoint,
            )

        plan(self._chat.wanted, None)  # whatever is wrong with the options is said here, before anything begins
        return plan


def _check_asked(options: AskOptions) -> None:
    """Refuse what cannot be meant with one question, before anything begins."""
    refuse_unknown(options, _ASK_NAMES)
    refuse_seconds("wait", options.get("wait", 0), zero=True)
    refuse_word("on_limit", options.get("on_limit", "return"), get_args(OnLimit))
    refuse_key("idempotency_key", options.get("idempotency_key"))
    if (params := options.get("params")) is not None:
        refuse_params(params)


def _form(known: StructuredSchema | None, settings: Settings) -> StructuredSchema | None:
    """The form of the answer that the settings ask for: with its type, where that is known in this process."""
    if known is not None and known.schema == settings.schema:
        return known
    return stored_schema(settings)


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


def _request_hash(
    parts: tuple[Part, ...],
    options: Options,
    form: StructuredSchema | None,
    toolbox: Toolbox,
    params: Mapping[str, object],
    revision: Revision | None,
) -> str:
    """Digest of what was asked under an idempotency key."""
    said = {
        name: str(value) for name in sorted(OPTION_NAMES - {"schema"}) if (value := getattr(options, name)) is not None
    }
    asked = {
        "parts": loads(encode_parts(parts)),
        "options": said,
        "schema": form.schema if form is not None else None,
        "tools": [spec.name for spec in toolbox.specs],
        "params": {name: repr(value) for name, value in sorted(params.items())},
        **({} if revision is None else {"revision": revision.digested}),
    }
    return digest(dumps(asked))
