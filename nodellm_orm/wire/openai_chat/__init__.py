"""The OpenAI Chat Completions format, tolerant of the many servers that resemble it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.wire.embeddings import embed_request, embedded
from nodellm_orm.wire.listing import list_request, listed
from nodellm_orm.wire.openai import failure, request_id
from nodellm_orm.wire.openai_chat.parse import parse
from nodellm_orm.wire.openai_chat.render import dropped, render
from nodellm_orm.wire.openai_chat.stream import ChatStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest, ModelRequest, RenderCache, StreamParser


class UnlistedChat:
    """The wire format of Chat Completions, for a server that has no list of models; see `ports.wire.WireFormat`."""

    name = "openai_chat"

    def render(self, request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
        """See `WireFormat.render`."""
        return render(request, cache)

    def dropped(self, request: ModelRequest) -> tuple[str, ...]:
        """See `WireFormat.dropped`."""
        return dropped(request)

    def parse(self, body: bytes, profile: ModelProfile) -> Completion:
        """See `WireFormat.parse`."""
        return parse(body, profile)

    def stream(self, profile: ModelProfile) -> StreamParser:
        """See `WireFormat.stream`."""
        return ChatStream(profile)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """See `WireFormat.failure`."""
        return failure(status, headers, body)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """See `WireFormat.request_id`."""
        return request_id(headers)

    def embed_request(self, request: EmbeddingRequest) -> WireRequest:
        """See `Embedder.embed_request`."""
        return embed_request(request)

    def embedded(self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
        """See `Embedder.embedded`."""
        del headers  # nothing of the answer is in them
        return embedded(body, request, failure)


class OpenAIChat(UnlistedChat):
    """The wire format of Chat Completions; see `ports.wire.WireFormat` and `ports.wire.ModelLister`."""

    def list_request(self, after: str | None = None) -> WireRequest:  # noqa: ARG002 — part of the protocol
        """See `ModelLister.list_request`."""
        return list_request()

    def listed(self, body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
        """See `ModelLister.listed`."""
        return listed(body), None
