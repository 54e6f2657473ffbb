"""Other ways a conversation could have gone: a branch of its own, a new answer in place, a question in other words."""

from __future__ import annotations

from dataclasses import replace as altered
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, overload

from nodellm_orm.asking import Asking, awaited
from nodellm_orm.errors import ChatNotFoundError, ConfigurationError
from nodellm_orm.fluent import OPTION_NAMES, overridden
from nodellm_orm.opening import behaviour_of, check_names
from nodellm_orm.ports.branches import branch_of
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.runtime.attachments import file_list
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.conversation import SURPRISES, Conversation, changed_all_the_time
from nodellm_orm.runtime.loop import Turn
from nodellm_orm.runtime.options import frozen_metadata
from nodellm_orm.runtime.refusals import refuse_text, refuse_unknown
from nodellm_orm.runtime.revision import Revision, checked_place, cut_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.fluent import Behaviour
    from nodellm_orm.planning import AskOptions
    from nodellm_orm.ports.states import ChatHead, Snapshot
    from nodellm_orm.runtime.options import Content
    from nodellm_orm.runtime.plan import Planner
    from nodellm_orm.runtime.revision import Place
    from nodellm_orm.runtime.tools import ToolSource

T = TypeVar("T")

_BEHAVIOUR: Final = ("timeout", "headers", "params", "lease", "max_takeovers", "durability")
"""What a chat does in this process, by the names that `load_chat` has for it."""
_HEAD: Final = ("provider", "model", "instructions")
_OVERRIDES: Final = OPTION_NAMES | {*_BEHAVIOUR, *_HEAD}


class Branching(Asking):
    """The branches of a chat, and turns that take the place of earlier ones; nothing is ever deleted for them."""

    async def fork(
        self,
        at: Place | None = None,
        *,
        title: str | None = None,
        metadata: Mapping[str, object] | None = None,
        tools: Iterable[ToolSource] | None = None,
        id: UUID | str | None = None,  # noqa: A002 — the name `create_chat` has for it
        **overrides: Any,
    ) -> Self:
        """A branch: a new chat of the same owner that begins with this one's messages, and goes its own way from there.

        The messages are copied within the database, files' contents are shared, and each of the two can be continued,
        forked again and deleted without the other. What was paid for stays in this chat's ledger. A turn that runs here
        is not disturbed: the branch ends with the last message that is complete. Calls that a turn has left open here
        are closed in the branch, with results that say so.

        Args:
            at: the last message of the branch, or its position; the end of the chat when omitted. A branch that ends
                with a question is answered by its `regenerate`.
            title: a title for people, in place of this chat's.
            metadata: the host's own JSON, in place of this chat's.
            tools: what the model may call, in place of this chat's.
            id: a UUID, to make a repeated call harmless.
            overrides: as for `load_chat`, each in place of this chat's own: ``model``, ``provider``, ``instructions``,
                ``timeout`` (seconds in total, or a `Timeout`), ``headers``, ``params``, ``lease`` (seconds),
                ``max_takeovers``, ``durability``, and settings such as ``temperature``; those that belong to a chat are
                stored.

        Raises:
            ConfigurationError: there is no such message, or it lies between a call and its last result; the error names
                the nearest places that are possible. Or an option cannot be meant, or another chat has the id.
            ChatNotFoundError: this chat is gone.

        Example:
            >>> branch = await chat.fork(at=chat.messages[3], model="gpt-5")
            >>> reply = await branch.ask("And if it rains?")
        """
        place = None if at is None else checked_place("at", at)
        refuse_text("title", title, empty=True)
        given = None if metadata is None else frozen_metadata(metadata)
        branch = self._sibling(self._chat.head, tools, overrides)
        chat_id = self._host.engine.new_id() if id is None else chat_id_of(id)
        await self._journal.settle()
        before = None if id is None else await self._branch(chat_id)
        if before is not None:
            branch._chat = Conversation.of(before)  # noqa: SLF001 — of the same class
            return branch
        for _ in range(SURPRISES):
            parent = await self._journal.load(self.id, self.owner)
            cut, closing = cut_at(parent, place, self._host.engine.new_id)
            branch = self._sibling(parent.head, tools, overrides)
            head = altered(
                branch._chat.wanted,  # noqa: SLF001 — of the same class
                id=chat_id,
                parent_chat_id=self.id,
                fork_position=cut.last,
            )
            try:
                snapshot = await self._journal.fork(_told(head, title, given), cut, closing)
            except Outdated:
                continue
            branch._chat = Conversation.of(snapshot)  # noqa: SLF001 — of the same class
            return branch
        raise changed_all_the_time(self.id)

    async def _branch(self, chat_id: UUID) -> Snapshot | None:
        """The branch of that id, if it was made before."""
        try:
            return branch_of(await self._journal.load(chat_id, self.owner, window=None), self.id)
        except ChatNotFoundError:
            return None

    def _sibling(self, head: ChatHead, tools: Iterable[ToolSource] | None, overrides: Mapping[str, Any]) -> Self:
        """A chat like this one but for the overrides, of which nothing is stored yet.

        Args:
            head: this chat's, as stored.
            tools: in place of this chat's.
            overrides: as given.
        """
        refuse_unknown(overrides, _OVERRIDES, among={"at", "title", "metadata", "tools", "id"})
        settings = {name: value for name, value in overrides.items() if name in OPTION_NAMES}
        conversation = Conversation.of_head(head)
        conversation.changes = list(self._chat.changes)
        chat = type(self)(self._host, self._journal, conversation, self._behaviour_with(tools, overrides, settings))
        provider, model, instructions = (overrides.get(name) for name in _HEAD)
        check_names(provider, model=model)
        return overridden(chat, provider=provider, model=model, instructions=instructions, settings=settings)

    def _behaviour_with(
        self, tools: Iterable[ToolSource] | None, overrides: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Behaviour:
        own = self._behaviour
        changed = {name: overrides[name] for name in _BEHAVIOUR if overrides.get(name) is not None}
        if "max_takeovers" in overrides:  # None says something there: no limit
            changed["max_takeovers"] = overrides["max_takeovers"]
        given: dict[str, Any] = {name: changed.get(name, getattr(own, name)) for name in _BEHAVIOUR}
        offered = own.toolbox.tools if tools is None else tools
        made, _ = behaviour_of(own.timeout, tools=offered, options=settings, **given)
        return altered(made, hooks=own.hooks, schema=made.schema or own.schema)

    # ── in place ──────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def regenerate(self, *, schema: type[T], **options: Unpack[AskOptions]) -> Reply[T]: ...
    @overload
    async def regenerate(self, *, schema: object = None, **options: Unpack[AskOptions]) -> Reply[Any]: ...
    async def regenerate(self, *, schema: object = None, **options: Unpack[AskOptions]) -> Reply[Any]:
        """A new answer to the last question, in place of the one that there is.

        The old answer, with its calls and their results, is superseded as the new turn begins: it stays in the rows,
        and its cost in the ledger and in `usage`, but it is not shown and not sent any more. If the model then cannot
        answer, the question stands without an answer, and `resume` or `regenerate` asks it again. A question that was
        added with `add_message`, or that ends a branch, is answered for the first time.

        Args:
            schema: as for `ask`.
            options: as for `ask`, without ``files``; another model is asked with ``with_model()``.

        Raises:
            ChatError: the chat has no question yet.
            ChatBusyError: another turn of this chat is running, or calls of the last one wait for approval.
            ProviderError: the model could not answer.
        """
        _refuse_model(options)
        if file_list(options.get("files")):
            msg = "files belong to a question, and regenerate() asks the one that is stored; edit() it with them"
            raise ConfigurationError(msg)
        planner = self._planner((), schema, options, stream=False, revision=Revision())
        return await self._revise(planner, options)

    @overload
    async def edit(
        self, message: Place, content: Content, *, schema: type[T], **options: Unpack[AskOptions]
    ) -> Reply[T]: ...
    @overload
    async def edit(
        self, message: Place, content: Content, *, schema: object = None, **options: Unpack[AskOptions]
    ) -> Reply[Any]: ...
    async def edit(
        self, message: Place, content: Content, *, schema: object = None, **options: Unpack[AskOptions]
    ) -> Reply[Any]:
        """Ask a question in other words, in place of what was asked and of everything that came after it.

        All that is superseded as the new turn begins, and kept as `regenerate` keeps it; `fork` first to go on with
        both.

        Args:
            message: a user's message of this chat, or its position.
            content: what is asked in its place.
            schema: as for `ask`.
            options: as for `ask`.

        Raises:
            ConfigurationError: there is no such message, or it is not a user's.
            ChatBusyError: another turn of this chat is running, or calls of the last one wait for approval.
            ProviderError: the model could not answer; the new question is kept.

        Example:
            >>> reply = await chat.edit(chat.messages[0], "What is an event loop, in one sentence?")
        """
        _refuse_model(options)
        revision = Revision(edited=checked_place("message", message))
        planner = await self._question(content, schema, options, stream=False, revision=revision)()
        return await self._revise(planner, options)

    async def _revise(self, planner: Planner, options: AskOptions) -> Reply[Any]:
        return await awaited(await self._run(planner, Turn.run, heard=False, wait=options.get("wait", 0)))


def _told(head: ChatHead, title: str | None, metadata: Mapping[str, Any] | None) -> ChatHead:
    """The head of a branch, with what was said about it."""
    named = head if title is None else altered(head, title=title)
    return named if metadata is None else altered(named, metadata=metadata)


def _refuse_model(options: Mapping[str, Any]) -> None:
    """A model belongs to the chat: a turn that is carried on later must know it from the rows."""
    if named := sorted({"model", "provider"} & options.keys()):
        words = " and ".join(named)
        msg = f"{words} cannot be said for one turn; chat.with_model(name, provider=...) changes the chat's"
        raise ConfigurationError(msg)
