"""A conversation: ask, stream, resume; an id, settings and a runtime, and nothing of its own beyond them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as altered
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, get_args, overload

from nodellm_orm.domain.codec import encode_parts
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.messages import Message, Role
from nodellm_orm.domain.parts import TextPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ChatBusyError, ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.hooks import Hooks
from nodellm_orm.runtime.identity import digest
from nodellm_orm.runtime.loop import Turn
from nodellm_orm.runtime.options import Options, check_choice, frozen_metadata, question, stored_schema
from nodellm_orm.runtime.plan import OnLimit, Plan, UnknownPolicy
from nodellm_orm.runtime.refusals import (
    refuse_key,
    refuse_params,
    refuse_seconds,
    refuse_text,
    refuse_unknown,
    refuse_word,
)
from nodellm_orm.runtime.stream import OnAbandon, ReplyStream
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.transport import check_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.ports.journal import ChatHead, ChatTotals, Journal
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.runtime.conversation import Conversation, HeadChange
    from nodellm_orm.runtime.drive import Drive, Mailbox
    from nodellm_orm.runtime.hooks import Hook
    from nodellm_orm.runtime.host import Host
    from nodellm_orm.runtime.options import Content, Thinks
    from nodellm_orm.runtime.plan import Durability
    from nodellm_orm.runtime.tools import ToolSource


class AskOptions(TypedDict, total=False):
    """What may be said about one question; each overrides the chat's own setting for this turn only."""

    files: Sequence[object]
    tools: Iterable[ToolSource] | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    thinking: Thinks | None
    temperature: float | None
    max_tokens: int | None
    max_tool_rounds: int | None
    max_cost: Decimal | float | str | None
    timeout: Timeout | float | None
    headers: Mapping[str, str] | None
    params: Mapping[str, object] | None
    idempotency_key: str | None
    wait: float
    on_limit: OnLimit
    abandon_pending: bool


T = TypeVar("T")

_OPTION_NAMES = frozenset(Options.__dataclass_fields__)
_ASK_NAMES = AskOptions.__optional_keys__ | {"schema"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a chat does in this process; none of it is stored."""

    toolbox: Toolbox
    timeout: Timeout
    hooks: Hooks = field(default_factory=Hooks)
    schema: StructuredSchema | None = None
    """The type behind the stored schema, when it was given in this process."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    params: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    lease: float = 60.0
    durability: Durability = "step"


class Chat:
    """A conversation that is kept in a database, or in memory.

    Made by `create_chat`, `load_chat`, `Chats` or ``llm.chat()``. One turn at a time: a second question while one is
    being answered raises `ChatBusyError` before anything is sent.

    Example:
        >>> chat = await create_chat(engine, llm, model="gpt-5-mini", instructions="Answer briefly.")
        >>> reply = await chat.ask("What is an event loop?")
        >>> print(reply.content, reply.cost)
    """

    def __init__(self, host: Host, journal: Journal, conversation: Conversation, behaviour: Behaviour) -> None:
        """Wire the parts together; users call `create_chat` and its kin."""
        self._host = host
        self._journal = journal
        self._chat = conversation
        self._behaviour = behaviour
        self._drive: Drive | None = None
        self._stream: weakref.ref[ReplyStream[Any]] | None = None

    def __repr__(self) -> str:
        """Id and model, and no content."""
        head = self._chat.wanted
        return f"<Chat {head.id} {head.provider or 'default'}/{head.model or 'default'}>"

    # ── what it is ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def id(self) -> UUID:
        """The chat's id."""
        return self._chat.head.id

    @property
    def owner(self) -> str | None:
        """Whose chat it is."""
        return self._chat.head.owner

    @property
    def title(self) -> str | None:
        """Its title for people."""
        return self._chat.wanted.title

    @property
    def model(self) -> str | None:
        """The model that the next turn asks."""
        return self._chat.wanted.model

    @property
    def provider(self) -> str | None:
        """The provider that the next turn asks."""
        return self._chat.wanted.provider

    @property
    def instructions(self) -> str:
        """The instructions, one paragraph after the other."""
        return "\n\n".join(self._chat.wanted.instructions)

    @property
    def metadata(self) -> Mapping[str, JsonValue]:
        """The host's own metadata; change it with `update_metadata`."""
        return MappingProxyType(dict(self._chat.wanted.metadata))

    @property
    def messages(self) -> tuple[Message, ...]:
        """User, assistant and tool messages in order, as this process knows them."""
        return tuple(self._chat.messages)

    async def history(
        self, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """A page of the stored messages in order.

        Args:
            limit: messages at most.
            before: only messages at positions below; the page then holds the last ones.
            after: only messages at positions above.
        """
        if limit < 1:
            msg = f"limit is at least 1, not {limit}"
            raise ConfigurationError(msg)
        return await self._journal.history(self.id, self.owner, limit=limit, before=before, after=after)

    async def usage(self) -> ChatTotals:
        """Tokens, cost, requests and failures of the whole chat, from the ledger."""
        return await self._journal.totals(self.id, self.owner)

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────

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
            options: ``tools`` (in place of the chat's), ``tool_choice``, ``parallel_tool_calls``, ``thinking``,
                ``temperature``, ``max_tokens``, ``max_tool_rounds``, ``max_cost`` (US dollars), ``timeout`` (seconds
                in total, or a `Timeout`), ``headers``, ``params`` (raw members of the request), ``idempotency_key``,
                ``wait`` (seconds to wait for a busy chat), ``on_limit`` (``return`` or ``raise``) and
                ``abandon_pending`` (go on although calls wait for approval).

        Raises:
            ChatBusyError: another turn of this chat is running.
            ProviderError: the model could not answer; the question is kept.
            SchemaValidationError: the answer does not fit ``schema``; it is kept too.
            StorageError: the database failed; the error carries what could not be saved.
        """
        planner = self._planner(question(content), schema, options, stream=False)
        drive = await self._run(planner, Turn.run, heard=False, wait=options.get("wait", 0))
        return await _awaited(drive)

    @overload
    def stream(
        self,
        content: Content,
        *,
        schema: type[T],
        on_abandon: OnAbandon = "cancel",
        **options: Unpack[AskOptions],
    ) -> ReplyStream[T]: ...
    @overload
    def stream(
        self,
        content: Content,
        *,
        schema: object = None,
        on_abandon: OnAbandon = "cancel",
        **options: Unpack[AskOptions],
    ) -> ReplyStream[Any]: ...
    def stream(
        self,
        content: Content,
        *,
        schema: object = None,
        on_abandon: OnAbandon = "cancel",
        **options: Unpack[AskOptions],
    ) -> ReplyStream[Any]:
        """Ask, and give the answer as it arrives; the same turn as `ask`, and the same reply in the end.

        Args:
            content: as for `ask`.
            schema: as for `ask`.
            on_abandon: what becomes of the turn when its consumer leaves: ``cancel`` stores the text so far,
                ``finish`` lets the answer complete.
            options: as for `ask`.
        """
        refuse_word("on_abandon", on_abandon, get_args(OnAbandon))
        planner = self._planner(question(content), schema, options, stream=True)
        wait = options.get("wait", 0)

        async def start(stream: ReplyStream[Any]) -> Drive:
            drive = await self._run(planner, Turn.run, heard=True, wait=wait)
            self._stream = weakref.ref(stream)
            return drive

        return ReplyStream(start, on_abandon)

    async def resume(
        self, *, unknown: UnknownPolicy = "report", schema: object = None, **options: Unpack[AskOptions]
    ) -> Reply[Any]:
        """Carry on the last turn unless it is completed; nothing stored is asked for, or run, again.

        Args:
            unknown: what to do with a call that was running when its process stopped: ``report`` tells the model,
                ``retry`` runs it again, ``fail`` raises. Calls of idempotent tools are run again.
            schema: as for `ask`.
            options: as for `ask`.

        Raises:
            ChatError: the chat has no turn yet.
            ChatBusyError: another worker still holds the turn (``wait=`` waits for it).
        """
        refuse_word("unknown", unknown, get_args(UnknownPolicy))
        planner = self._planner((), schema, options, stream=False, unknown=unknown)
        drive = await self._run(planner, Turn.resume, heard=False, wait=options.get("wait", 0))
        return await _awaited(drive)

    async def cancel(self) -> bool:
        """End the running turn of this chat, also one in another process; what had arrived here is stored.

        Returns:
            Whether a turn was running.
        """
        drive = self._drive
        if drive is not None and not drive.over:
            drive.stop()
            await drive.settled()
            return True
        self._chat.stale = True
        return await self._journal.cancel(self.id, self.owner)

    async def _run(
        self,
        planner: Callable[[ChatHead], Plan],
        work: Callable[[Turn], Coroutine[Any, Any, Reply[Any]]],
        *,
        heard: bool,
        wait: float,
    ) -> Drive:
        await self._quiet(wait)
        await self._journal.settle()

        def turn_of(mailbox: Mailbox) -> Turn:
            return Turn(self._host.engine, self._journal, self._chat, planner, mailbox.put)

        self._stream = None
        self._drive = self._host.drive(turn_of, work, self._journal, heard=heard)
        return self._drive

    async def _quiet(self, wait: float) -> None:
        """Wait for a turn of this very object that its consumer has left; any other one keeps the chat busy."""
        drive = self._drive
        if drive is None or drive.over:
            return
        stream = self._stream() if self._stream is not None else None
        if stream is not None and stream.left:
            stream.abandon()
        await asyncio.sleep(0)  # a stream that was dropped a moment ago says so through the loop
        if drive.turn.stopping or drive.mailbox.dropped or await drive.settled_within(wait):
            await drive.settled()
            return
        msg = (
            f"chat {self.id} is answering another question in this process; await that one first, or pass wait=seconds"
        )
        raise ChatBusyError(msg, turn_id=drive.turn.id)

    def _planner(
        self,
        parts: tuple[Part, ...],
        schema: object,
        options: AskOptions,
        *,
        stream: bool,
        unknown: UnknownPolicy = "report",
    ) -> Callable[[ChatHead], Plan]:
        """Checks what was given, and makes the plan once the chat's head is known."""
        _check_asked(options)
        if options.get("files"):
            msg = "files cannot be attached yet; put their text into the question"
            raise UnsupportedFeatureError(msg)
        chosen = Options(
            schema=schema,
            **{name: value for name, value in options.items() if name in _OPTION_NAMES},  # type: ignore[arg-type]
        )
        behaviour = self._behaviour
        own_tools, own_timeout = options.get("tools"), options.get("timeout")
        timeout = behaviour.timeout if own_timeout is None else Timeout.of(own_timeout)
        toolbox = behaviour.toolbox if own_tools is None else Toolbox(own_tools, timeout=timeout.tool)
        form = StructuredSchema.of(schema) if schema is not None else behaviour.schema
        params = {**behaviour.params, **(options.get("params") or {})}
        headers = {**behaviour.headers, **checked_headers(options.get("headers"))}
        key = options.get("idempotency_key")
        request_hash = None if key is None else _request_hash(parts, chosen, form, toolbox, params)

        def plan(head: ChatHead) -> Plan:
            settings = chosen.over(head.settings)
            check_choice(settings.tool_choice, [spec.name for spec in toolbox.specs])
            return Plan(
                model=self._host.models.model(head.provider, head.model, head.api),
                settings=settings,
                toolbox=toolbox,
                hooks=behaviour.hooks,
                worker=self._host.worker,
                lease=behaviour.lease,
                timeout=timeout,
                instructions=head.instructions,
                parts=parts,
                stream=stream,
                schema=form if form is not None else stored_schema(settings),
                headers=headers,
                params=params,
                idempotency_key=key,
                request_hash=request_hash,
                on_limit=options.get("on_limit", "return"),
                abandon_pending=options.get("abandon_pending", False),
                wait=options.get("wait", 0),
                unknown=unknown,
                durability=behaviour.durability,
            )

        plan(self._chat.wanted)  # whatever is wrong with the options is said here, before anything begins
        return plan

    def render(self, content: Content | None = None, *, schema: object = None, stream: bool = False) -> WireRequest:
        """The exact request that the next question would send; it holds no key.

        Args:
            content: the question; without one, the conversation as it stands.
            schema: as for `ask`.
            stream: as `stream` would send it.
        """
        parts = question(content) if content is not None else ()
        plan = self._planner(parts, schema, {}, stream=stream)(self._chat.wanted)
        asked = [Message(role="user", parts=parts)] if parts else []
        return plan.model.render(
            ModelRequest(
                target=plan.model.origin,
                messages=(*self._chat.messages, *asked),
                instructions=plan.instructions,
                tools=plan.toolbox.specs,
                settings=plan.settings,
                profile=plan.model.profile,
                stream=stream,
                params=plan.params,
            )
        )

    async def add_message(self, role: Role, content: Content) -> Message:
        """Add a message from elsewhere to the history, without asking.

        Args:
            role: ``user``, ``assistant`` or ``system``.
            content: text or parts.

        Raises:
            ChatBusyError: a turn is running, or calls of the last one still have no results.
        """
        if role not in {"user", "assistant", "system"}:
            msg = f"role is user, assistant or system, not {role!r}; results of tools come from the tools"
            raise ConfigurationError(msg)
        await self._quiet(0)
        await self._journal.settle()
        self._chat.refresh(await self._journal.load(self.id, self.owner))
        last = self._chat.last_turn
        if last is not None and any(not call.answered for call in last.calls):
            # No provider takes anything between a call and its result.
            msg = "calls of the last turn have no results yet; resume() it, or ask, before a message is added"
            raise ChatBusyError(msg, turn_id=last.id)
        message = Message(role=role, parts=question(content), position=self._chat.next_position)
        added = [(self._host.engine.new_id(), message)]
        self._chat.refresh(await self._journal.append(self._chat.head, self._chat.fence, added))
        return message

    # ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _change(self, change: HeadChange) -> Self:
        self._chat.changes.append(change)
        return self

    def with_settings(self, **options: Any) -> Self:
        """Change several settings at once.

        Args:
            options: as `create_chat` takes them.

        Raises:
            ConfigurationError: an option that does not exist or cannot be meant.
        """
        refuse_unknown(options, _OPTION_NAMES, what="setting")
        chosen = Options(**options)
        chosen.over(self._chat.wanted.settings)
        return self._change(lambda head: altered(head, settings=chosen.over(head.settings)))

    def with_model(self, model: str, *, provider: str | None = None) -> Self:
        """Ask another model from the next turn on.

        Args:
            model: its name.
            provider: its provider, when that changes too.
        """
        refuse_key("model", model)
        chat = self if provider is None else self.with_provider(provider)
        return chat._change(lambda head: altered(head, model=model))  # noqa: SLF001 — it is this object

    def with_provider(self, provider: str, *, model: str | None = None) -> Self:
        """Ask another provider from the next turn on.

        Args:
            provider: its name.
            model: the model there; the provider's default when omitted.
        """
        refuse_key("model", model)
        target = self._host.models.model(provider, model, None)
        return self._change(lambda head: altered(head, provider=provider, model=model, api=target.origin.api))

    def with_instructions(self, text: str, *, replace: bool = False) -> Self:
        """Tell the model how to behave, after what it was told before.

        Args:
            text: the instructions.
            replace: forget what it was told before.
        """
        if not isinstance(text, str) or not text.strip():
            msg = "instructions are a text that says something"
            raise ConfigurationError(msg)
        return self._change(lambda head: altered(head, instructions=(text,) if replace else (*head.instructions, text)))

    def with_temperature(self, temperature: float) -> Self:
        """Set the sampling temperature, 0 to 2."""
        return self.with_settings(temperature=temperature)

    def with_max_tokens(self, max_tokens: int) -> Self:
        """Bound the tokens of an answer."""
        return self.with_settings(max_tokens=max_tokens)

    def with_thinking(self, *, budget: int | None = None, effort: str | None = None) -> Self:
        """Say how much the model should think.

        Args:
            budget: tokens.
            effort: a word from ``none`` to ``max``; one of the two.
        """
        if budget is not None and effort is not None:
            msg = "give a thinking budget or an effort, not both"
            raise ConfigurationError(msg)
        return self.with_settings(
            thinking=True if budget is None and effort is None else budget if effort is None else effort
        )

    def with_tool_choice(self, choice: str) -> Self:
        """Let the model choose (``auto``), forbid or require tools, or name the one to call."""
        return self.with_settings(tool_choice=choice)

    def with_schema(self, schema: object) -> Self:
        """Ask for answers of a form; the type itself is known to this process only."""
        form = StructuredSchema.of(schema)
        self._behaviour = altered(self._behaviour, schema=form)
        return self.with_settings(schema=form)

    def with_tools(self, *tools: ToolSource) -> Self:
        """Offer further tools; they are not stored and belong to this process."""
        offered = (*self._behaviour.toolbox.tools, *tools)
        box = Toolbox(offered, timeout=self._behaviour.timeout.tool)
        self._behaviour = altered(self._behaviour, toolbox=box)
        return self

    def with_tool(self, tool: ToolSource) -> Self:
        """Offer a further tool."""
        return self.with_tools(tool)

    def with_headers(self, **headers: str) -> Self:
        """Send further headers; never stored."""
        added = checked_headers(headers)
        self._behaviour = altered(self._behaviour, headers={**self._behaviour.headers, **added})
        return self

    def with_params(self, **params: object) -> Self:
        """Send further raw members of the request; never stored."""
        refuse_params(params)
        self._behaviour = altered(self._behaviour, params={**self._behaviour.params, **params})
        return self

    async def update(
        self,
        *,
        title: str | None = None,
        model: str | None = None,
        instructions: str | None = None,
        metadata: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Self:
        """Save changes of the chat now rather than with its next turn.

        Args:
            title: a title for people.
            model: the model to ask from now on.
            instructions: in place of the earlier ones.
            metadata: in place of the earlier one.
            options: settings, as `create_chat` takes them.
        """
        refuse_text("title", title, empty=True)
        if title is not None:
            self._change(lambda head: altered(head, title=title))
        if model is not None:
            self.with_model(model)
        if instructions is not None:
            self.with_instructions(instructions, replace=True)
        if metadata is not None:
            given = frozen_metadata(metadata)
            self._change(lambda head: altered(head, metadata=given))
        if options:
            self.with_settings(**options)
        await self._save()
        return self

    async def update_metadata(self, **changes: object) -> Mapping[str, JsonValue]:
        """Change members of the metadata and save them now; ``None`` removes one.

        Args:
            changes: members by name.
        """
        given = frozen_metadata(changes)

        def change(head: ChatHead) -> ChatHead:
            merged = {**head.metadata, **given}
            return altered(head, metadata={name: value for name, value in merged.items() if value is not None})

        self._change(change)
        await self._save()
        return self.metadata

    async def _save(self) -> None:
        await self._journal.settle()
        # Applied to what is stored by now: fields that another process changed meanwhile stay as it left them.
        snapshot = await self._journal.load(self.id, self.owner)
        changes = tuple(self._chat.changes)
        self._chat.head = snapshot.head
        saved = await self._journal.update(self._chat.wanted)
        self._chat.saved(saved, changes)

    # ── hooks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hook(self, name: str, hook: Hook) -> Self:
        if not callable(hook):
            msg = f"{name} takes a function, not {type(hook).__name__}"
            raise ConfigurationError(msg)
        hooks = self._behaviour.hooks
        added = altered(hooks, **{name: (*getattr(hooks, name), hook)})
        self._behaviour = altered(self._behaviour, hooks=added)
        return self

    def on_new_message(self, hook: Hook) -> Self:
        """Call a function when an answer begins, with the `Message` it answers."""
        return self._hook("on_new_message", hook)

    def on_end_message(self, hook: Hook) -> Self:
        """Call a function when a message of the assistant was recorded, with the `Message`."""
        return self._hook("on_end_message", hook)

    def on_tool_call_start(self, hook: Hook) -> Self:
        """Call a function before a call runs, with the `ToolCall`."""
        return self._hook("on_tool_call_start", hook)

    def on_tool_call_end(self, hook: Hook) -> Self:
        """Call a function when a result was recorded, with the `ToolCall` and the `ToolResult`."""
        return self._hook("on_tool_call_end", hook)

    def on_tool_call_error(self, hook: Hook) -> Self:
        """Call a function when a call failed, with the `ToolCall` and the text of the error."""
        return self._hook("on_tool_call_error", hook)

    def before_request(self, hook: Hook) -> Self:
        """Call a function with every `ModelRequest`; what it returns is sent instead."""
        return self._hook("before_request", hook)

    def after_response(self, hook: Hook) -> Self:
        """Call a function with every `Completion` before it is recorded; what it returns takes its place."""
        return self._hook("after_response", hook)


def checked_headers(headers: object) -> dict[str, str]:
    """The caller's own headers, fit to be sent.

    Args:
        headers: as given.

    Raises:
        ConfigurationError: they are no mapping of texts, or cannot be sent; names the header, never its value.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or any(not isinstance(text, str) for pair in headers.items() for text in pair):
        msg = 'headers is a dict of texts, such as {"x-trace": "42"}; write it so'
        raise ConfigurationError(msg)
    return check_headers(headers)


def _check_asked(options: AskOptions) -> None:
    """Refuse what cannot be meant with one question, before anything begins."""
    refuse_unknown(options, _ASK_NAMES)
    refuse_seconds("wait", options.get("wait", 0), zero=True)
    refuse_word("on_limit", options.get("on_limit", "return"), get_args(OnLimit))
    refuse_key("idempotency_key", options.get("idempotency_key"))
    if (params := options.get("params")) is not None:
        refuse_params(params)


async def _awaited(drive: Drive) -> Reply[Any]:
    """The reply of a turn whose caller, when cancelled, takes the turn with him."""
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
) -> str:
    """Digest of what was asked under an idempotency key."""
    said = {
        name: str(value) for name in sorted(_OPTION_NAMES - {"schema"}) if (value := getattr(options, name)) is not None
    }
    asked = {
        "parts": loads(encode_parts(parts)),
        "options": said,
        "schema": form.schema if form is not None else None,
        "tools": [spec.name for spec in toolbox.specs],
        "params": {name: repr(value) for name, value in sorted(params.items())},
    }
    return digest(dumps(asked))


def opening_messages(messages: Iterable[Message | Mapping[str, str]]) -> list[Message]:
    """Messages that a new chat begins with.

    Args:
        messages: `Message` values, or dicts with ``role`` and ``content``.

    Raises:
        ConfigurationError: for anything else, for a message that says nothing, and where calls and results do not
            belong together: no provider would take such a history.
    """
    opened = [_opening(position, given) for position, given in enumerate(messages)]
    waiting: set[str] = set()
    for position, message in enumerate(opened):
        answered = {result.call_id for result in message.tool_results}
        if waiting and not answered:
            msg = f"message {position} comes before the results of {', '.join(sorted(waiting))}; put these first"
            raise ConfigurationError(msg)
        if answered - waiting:
            unasked = ", ".join(sorted(answered - waiting))
            msg = f"message {position} answers {unasked}, a call that was not made; leave it out"
            raise ConfigurationError(msg)
        waiting -= answered
        if message.status == "complete":
            waiting |= {call.call_id for call in message.tool_calls}
    if waiting:
        msg = (
            f"calls without results: {', '.join(sorted(waiting))}; add tool messages with them, or leave the calls out"
        )
        raise ConfigurationError(msg)
    return opened


def _opening(position: int, given: object) -> Message:
    if isinstance(given, Message):
        message = given
    elif isinstance(given, Mapping) and given.keys() == {"role", "content"} and isinstance(given["content"], str):
        role: Any = given["role"]
        message = Message(role=role, parts=(TextPart(text=given["content"]),) if given["content"].strip() else ())
    else:
        msg = 'messages are Message values or {"role": …, "content": …} dicts whose content is a text'
        raise ConfigurationError(msg)
    if message.role not in get_args(Role):
        msg = f"a message's role is system, user, assistant or tool, not {message.role!r}"
        raise ConfigurationError(msg)
    if not message.parts:
        msg = f"message {position} is empty; leave it out"
        raise ConfigurationError(msg)
    if (message.role == "tool") != bool(message.tool_results):
        msg = (
            f"message {position}: results of tools, and nothing else, have the role tool; give Message values for them"
        )
        raise ConfigurationError(msg)
    return altered(message, position=position)
