"""How a chat behaves: its settings, tools and hooks, changed by methods that each return the chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as altered
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.runtime.conversation import SURPRISES, changed_all_the_time
from nodellm_orm.runtime.hooks import Hooks
from nodellm_orm.runtime.options import Options, frozen_metadata
from nodellm_orm.runtime.refusals import refuse_key, refuse_params, refuse_text, refuse_unknown
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.transport import check_headers

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.conversation import Conversation, HeadChange
    from nodellm_orm.runtime.hooks import Hook
    from nodellm_orm.runtime.host import Host
    from nodellm_orm.runtime.plan import Durability
    from nodellm_orm.runtime.tools import ToolSource

OPTION_NAMES = frozenset(Options.__dataclass_fields__)
"""Settings as callers name them."""


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
    max_takeovers: int | None = None
    durability: Durability = "step"


class Fluent:
    """The settings of a chat; what belongs to the chat is saved with its next turn, changed fields only.

    Args:
        host: runs the turns.
        journal: where the chat is kept.
        conversation: the chat as this process knows it.
        behaviour: what it does in this process.
    """

    def __init__(self, host: Host, journal: Journal, conversation: Conversation, behaviour: Behaviour) -> None:
        """Keep the parts."""
        self._host = host
        self._journal = journal
        self._chat = conversation
        self._behaviour = behaviour

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
        refuse_unknown(options, OPTION_NAMES, what="setting")
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
        return MappingProxyType(dict(self._chat.wanted.metadata))

    async def _save(self) -> None:
        await self._journal.settle()
        # Applied to what is stored by now: fields that another process changed meanwhile stay as it left them.
        for _ in range(SURPRISES):
            head = self._chat.head
            self._chat.head = (await self._journal.load(head.id, head.owner, window=self._chat.window)).head
            changes = tuple(self._chat.changes)
            try:
                self._chat.saved(await self._journal.update(self._chat.wanted), changes)
            except Outdated:
                continue
            return
        raise changed_all_the_time(self._chat.head.id)

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


F = TypeVar("F", bound=Fluent)


def overridden(
    chat: F, *, provider: str | None, model: str | None, instructions: str | None, settings: Mapping[str, Any]
) -> F:
    """A chat that was loaded or branched, with what its caller wants otherwise from the next turn on.

    Args:
        chat: it.
        provider: its provider; without ``model``, the provider's default model is asked.
        model: its model.
        instructions: in place of the stored ones.
        settings: as `create_chat` takes them.
    """
    if provider is not None:
        chat.with_provider(provider, model=model)
    elif model is not None:
        chat.with_model(model)
    if instructions is not None:
        chat.with_instructions(instructions, replace=True)
    return chat.with_settings(**settings) if settings else chat
