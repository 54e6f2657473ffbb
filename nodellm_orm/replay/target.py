"""Whom a replay asks, and with what: the recorded turn, and what its caller wants otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.neutral import ChatSource
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.replay.record import AskedWith


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be otherwise than it was."""

    source: ChatSource
    """Who answers."""
    model: str | None = None
    provider: str | None = None
    instructions: str | Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings by name."""

    def origin(self, asked: AskedWith, head: ChatHead) -> Origin:
        """Whom a turn asks: as recorded at the provider that was recorded, else the client's own model.

        Args:
            asked: what the recorded turn was asked with.
            head: of the recorded chat, where the turn says nothing.

        Raises:
            ConfigurationError: the provider is not known or not configured, or has no model of its own.
        """
        provider, model, api = asked.provider or head.provider, asked.model or head.model, asked.api or head.api
        if self.provider is not None:
            return self.source.model(self.provider, self.model, None).origin
        own = self.source.model(None, self.model or model, None).origin
        if own.provider == provider:
            return self.source.model(provider, self.model or model, api).origin
        return self.source.model(None, self.model, None).origin

    def texts(self, asked: AskedWith) -> tuple[str, ...]:
        """The instructions of a turn.

        Raises:
            ConfigurationError: those that were recorded are not stored any more.
        """
        if isinstance(self.instructions, str):
            return (self.instructions,)
        if self.instructions is not None:
            return tuple(self.instructions)
        texts = [named.text for named in asked.instructions if named.text is not None]
        if len(texts) < len(asked.instructions):
            msg = "the instructions that this chat was asked with are not stored any more; pass instructions="
            raise ConfigurationError(msg)
        return tuple(texts)

    def specs(self, asked: AskedWith, *, given: bool) -> tuple[ToolSpec, ...]:
        """The tools that were offered, where none are given in their place.

        Args:
            asked: what the recorded turn was asked with.
            given: whether there are others.

        Raises:
            ConfigurationError: what was told of them is not stored any more.
        """
        specs = () if given else asked.specs
        if specs is None:
            msg = "what the model was told of its tools is not stored any more; pass tools="
            raise ConfigurationError(msg)
        return specs

    def settings(self, recorded: Settings) -> Settings:
        """The settings of a turn.

        Args:
            recorded: those that it was asked with.
        """
        return Options(**self.options).over(recorded)

    def head(self, head: ChatHead, asked: AskedWith, recorded: ChatHead) -> ChatHead:
        """The new chat's head as one turn has it.

        Args:
            head: as it is.
            asked: what the recorded turn was asked with.
            recorded: the head of the recorded chat.
        """
        origin = self.origin(asked, recorded)
        settings = replace(self.settings(asked.settings), compacted=head.settings.compacted)
        return replace(
            head,
            provider=origin.provider,
            model=origin.model,
            api=origin.api,
            instructions=self.texts(asked),
            settings=settings,
        )

    def last_head(self, head: ChatHead, recorded: ChatHead) -> ChatHead:
        """The new chat's head as it is left behind: as the recorded one's, but for what is wanted otherwise.

        Args:
            head: as it is.
            recorded: of the recorded chat.
        """
        settings = replace(self.settings(recorded.settings), compacted=head.settings.compacted)
        texts = recorded.instructions if self.instructions is None else self.texts_given
        return replace(head, instructions=texts, settings=settings)

    @property
    def texts_given(self) -> tuple[str, ...]:
        """The instructions that were given."""
        given = self.instructions
        return (given,) if isinstance(given, str) else tuple(given or ())
