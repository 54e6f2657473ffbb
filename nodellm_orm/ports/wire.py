"""The wire format seam: values to request bytes, response bytes to values. Pure: no IO, no clock, no randomness."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from nodellm_orm.domain.jsontext import JsonText
from nodellm_orm.domain.messages import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest

RenderCache: TypeAlias = MutableMapping[int, tuple[Message, tuple[JsonText, ...]]]
"""``id(message)`` → the message (kept alive, so that its id stays its own) and what it renders to.

One cache belongs to one wire format and one target `Origin`; a turn on a long chat then serialises only what is new.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model, before it has become bytes."""

    target: Origin
    """Provider, wire format, endpoint and model it is meant for: decides which opaque state may go along."""
    messages: tuple[Message, ...]
    """User, assistant and tool messages in order; every call in them is answered before the next assistant message."""
    instructions: tuple[str, ...] = ()
    """System texts in order; all of them reach the model."""
    tools: tuple[ToolSpec, ...] = ()
    settings: Settings
    profile: ModelProfile
    stream: bool = False
    params: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Raw members merged into the body last: the caller's own words win."""

    @property
    def model(self) -> str:
        """The model asked for."""
        return self.target.model


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One question for the vectors of some texts, before it has become bytes."""

    texts: tuple[str, ...]
    """No more of them than the profile allows in one request, and at least one."""
    model: str
    profile: ModelProfile
    dimensions: int | None = None
    """The length that vectors should have; ``None`` leaves it to the model."""
    params: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Raw members of the request: the caller's own words win."""


class StreamParser(Protocol):
    """Reads one streamed response; any cut of the bytes gives the same events."""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes.

        Raises:
            ProviderError: the stream carried an error event; its class is what the event's type stands for.
            ProtocolError: the bytes are not this protocol.
        """
        ...

    def close(self) -> list[Event]:
        """The body has ended.

        Raises:
            StreamInterruptedError: when the terminal marker has not been seen.
        """
        ...


class WireFormat(Protocol):
    """One provider protocol."""

    @property
    def name(self) -> str:
        """Its name, as stored with chats (``openai_chat``, ``anthropic`` …)."""
        ...

    def render(self, request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
        """Write a request; the same values always give the same bytes.

        Raises:
            UnsupportedFeatureError: when the request asks for what this format or model cannot do.
        """
        ...

    def dropped(self, request: ModelRequest) -> tuple[str, ...]:
        """Names of the settings that this model rejects and `render` leaves out."""
        ...

    def parse(self, body: bytes, profile: ModelProfile) -> Completion:
        """Read a whole body of a successful response; gives what `stream` would have added up to.

        Args:
            body: as received.
            profile: of the model that was asked.

        Raises:
            ProtocolError: when it is not this protocol; a `ProviderError` when it is an error after all.
        """
        ...

    def stream(self, profile: ModelProfile) -> StreamParser:
        """A parser for one streamed response."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The error that an unsuccessful response stands for, with request id and retry hint."""
        ...

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """The provider's own id of the request, from the response's headers."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """A wire format whose provider counts the tokens of a request before it is sent."""

    def count_request(self, request: ModelRequest) -> WireRequest:
        """The question how many tokens a request has.

        Raises:
            UnsupportedFeatureError: as for `WireFormat.render`.
        """
        ...

    def counted(self, body: bytes) -> int:
        """The answer to it.

        Raises:
            ProtocolError: when it is something else.
        """
        ...


@runtime_checkable
class ModelLister(Protocol):
    """A wire format whose provider says which models it has."""

    def list_request(self, after: str | None = None) -> WireRequest:
        """The question for a page of models.

        Args:
            after: the ``next`` of the page before.
        """
        ...

    def listed(self, body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
        """The models of a page, and what the next page is asked for with.

        Raises:
            ProtocolError: when it is no list of models.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """A wire format whose provider turns texts into vectors."""

    def embed_request(self, request: EmbeddingRequest) -> WireRequest:
        """The question for the vectors of some texts.

        Raises:
            UnsupportedFeatureError: when it asks for what this format or model cannot do.
        """
        ...

    def embedded(self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
        """The answer to it: a vector for each text, in their order.

        Args:
            body: of a successful response.
            headers: of that response, names in lower case.
            request: what was asked.

        Raises:
            ProtocolError: when it is something else; a `ProviderError` when it is an error after all.
        """
        ...
