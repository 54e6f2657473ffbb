"""A conversation: ask, stream, resume; an id, settings and a runtime, and nothing of its own beyond them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.approving import Approving
from nodellm_orm.branching import Branching
from nodellm_orm.compacting import Compacting
from nodellm_orm.domain.messages import Message, Role, asked_of
from nodellm_orm.domain.windows import sent
from nodellm_orm.errors import ChatBusyError, ConfigurationError, UnsupportedFeatureError
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.ports.refused import chat_busy
from nodellm_orm.runtime.conversation import SURPRISES, changed_all_the_time
from nodellm_orm.runtime.inquiry import Countable
from nodellm_orm.runtime.nesting import within
from nodellm_orm.runtime.options import question
from nodellm_orm.runtime.refusals import refuse_limit, refuse_position
from nodellm_orm.runtime.requests import model_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.states import ChatTotals
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.runtime.options import Content
    from nodellm_orm.runtime.plan import Plan


class Chat(Approving, Branching, Compacting):
    """A conversation that is kept in a database, or in memory.

    Made by `create_chat`, `load_chat`, `Chats` or ``llm.chat()``. One turn at a time: a second question while one is
    being answered raises `ChatBusyError` before anything is sent.

    Example:
        >>> chat = await create_chat(engine, llm, model="gpt-5-mini", instructions="Answer briefly.")
        >>> reply = await chat.ask("What is an event loop?")
        >>> print(reply.content, reply.cost)
    """

    def __repr__(self) -> str:
        """Id and model, and no content."""
        head = self._chat.wanted
        return f"<Chat {head.id} {head.provider or 'default'}/{head.model or 'default'}>"

    # ── what it is ────────────────────────────────────────────────────────────────────────────────────────────────

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
        """User, assistant and tool messages in order, as this process knows them; superseded ones are left out.

        A chat that was loaded with a ``history_window`` begins with the turns that this window shows.
        """
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
        refuse_limit("limit", limit)
        refuse_position("before", before)
        refuse_position("after", after)
        return await self._journal.history(self.id, self.owner, limit=limit, before=before, after=after)

    async def usage(self) -> ChatTotals:
        """Tokens, cost, requests and failures of the whole chat, from the ledger."""
        return await self._journal.totals(self.id, self.owner)

    async def delete(self) -> bool:
        """Delete the chat with everything that was said in it; the ledger keeps what it has cost.

        A turn under way does not hold it up: one of this object is stopped first, and one elsewhere ends with
        `StaleChatError`, which carries its answer. A deletion that was broken off is finished by the next one.

        Returns:
            Whether there was still something to delete.

        Raises:
            ChatError: rows of your own tables refer to the chat; it is as it was.
            ChatBusyError: a tool or hook of the chat's own turn asks for it; delete the chat after the turn.
        """
        drive = self._drive
        if drive is not None and not drive.over:
            if within(drive.turn.id):  # stopping the turn would stop this very call, and nothing would be deleted
                raise self._occupied(drive)
            drive.stop()
            await drive.settled()
        await self._journal.settle()
        self._chat.stale = True
        return await self._journal.delete(self.id, self.owner)

    # ── beside turns ──────────────────────────────────────────────────────────────────────────────────────────────────

    def render(self, content: Content | None = None, *, schema: object = None, stream: bool = False) -> WireRequest:
        """The exact request that the next question would send; it holds no key.

        Args:
            content: the question; without one, the conversation as it stands.
            schema: as for `ask`.
            stream: as `stream` would send it.
        """
        plan, request = self._request(content, schema, stream=stream)
        return plan.model.render(request)

    async def count_tokens(self, content: Content | None = None, *, schema: object = None) -> int:
        """The tokens of the request that the next question would send, as its provider counts them; nothing is stored.

        Args:
            content: the question; without one, the conversation as it stands.
            schema: as for `ask`.

        Raises:
            UnsupportedFeatureError: the provider does not count ahead.
            ProviderError: it did not answer.
        """
        plan, request = self._request(content, schema, stream=False)
        if not isinstance(plan.model, Countable):
            msg = f"{plan.model.origin.provider} does not count tokens ahead; ask, and read reply.usage"
            raise UnsupportedFeatureError(msg)
        return await plan.model.count(request, engine=self._host.engine, timeout=plan.timeout)

    def _request(self, content: Content | None, schema: object, *, stream: bool) -> tuple[Plan, ModelRequest]:
        """What the next question would be sent with."""
        parts = question(content) if content is not None else ()
        plan = self._planner(parts, schema, {}, stream=stream)(self._chat.wanted, None)
        asked = [asked_of(plan.model.origin, parts)] if parts else []
        closed = self._chat.closing_messages(self._host.engine.new_id) if parts else []
        messages = [*self._chat.messages, *closed, *asked]
        if not self._chat.covers(plan.reach):
            msg = "only a part of the chat is loaded, and its history_window is wider now; load it with that, or ask"
            raise ConfigurationError(msg)
        window = plan.settings.history_window
        return plan, model_request(plan, sent(messages, window), plan.settings.tool_choice)

    async def add_message(self, role: Role, content: Content) -> Message:
        """Add a message from elsewhere to the history, without asking.

        Args:
            role: ``user``, ``assistant`` or ``system``.
            content: text or parts, `MediaPart` among them.

        Raises:
            AttachmentError: a file among the parts has no content, or too much.
            ChatBusyError: a turn is running, or calls of the last one still have no results.
        """
        if role not in {"user", "assistant", "system"}:
            msg = f"role is user, assistant or system, not {role!r}; results of tools come from the tools"
            raise ConfigurationError(msg)
        parts = await self._host.files.attach(question(content), ())
        await self._quiet(0, take_leave=False)
        await self._journal.settle()
        for _ in range(SURPRISES):
            self._chat.refresh(await self._journal.load(self.id, self.owner, window=self._chat.window))
            last = self._chat.last_turn
            if last is not None and any(not call.answered for call in last.calls):
                # No provider takes anything between a call and its result.
                msg = "calls of the last turn have no results yet; resume() it, or ask, before a message is added"
                raise ChatBusyError(msg, turn_id=last.id)
            if last is not None and last.status == "running":  # no fence grows when it ends, whatever it leaves open
                raise chat_busy(self.id, last.id, last.lease_until)
            message = Message(role=role, parts=parts, position=self._chat.next_position)
            added = [(self._host.engine.new_id(), message)]
            try:
                self._chat.refresh(await self._journal.append(self._chat.head, self._chat.fence, added))
            except Outdated:
                continue
            return message
        raise changed_all_the_time(self.id)
