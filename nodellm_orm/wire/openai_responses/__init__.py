"""The OpenAI Responses format, and that of the servers that resemble it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.wire.embeddings import embed_request, embedded
from nodellm_orm.wire.listing import list_request, listed
from nodellm_orm.wire.openai import failure, request_id
from nodellm_orm.wire.openai_responses.counting import count_request, counted
from nodellm_orm.wire.openai_responses.parse import parse
from nodellm_orm.wire.openai_responses.render import dropped, render
from nodellm_orm.wire.openai_responses.stream import ResponsesStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest, ModelRequest, RenderCache, StreamParser


class UncountedResponses:
    """The wire format of Responses, for a server that does not count tokens ahead; see `ports.wire`."""

    name = "openai_responses"

    def render(self, request: ModelRequest, cache: RenderCache | None = None) -> WireRequest:
        """See `WireFormat.render`."""
        return render(request, cache)

    def dropped(self, request: ModelRequest) -> tuple[str, ...]:
        """See `WireFormat.dropped`."""
        return dropped(request)

    def parse(self, body: bytes, profile: ModelProfile) -> Completion:
        """See `WireFormat.parse`."""
        del profile  # one reading for all models
        return parse(body)

    def stream(self, profile: ModelProfile) -> StreamParser:
        """See `WireFormat.stream`."""
        return ResponsesStream(profile)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """See `WireFormat.failure`."""
        return failure(status, headers, body)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """See `WireFormat.request_id`."""
        return request_id(headers)

    def list_request(self, after: str | None = None) -> WireRequest:  # noqa: ARG002 — part of the protocol
        """See `ModelLister.list_request`."""
        return list_request()

    def listed(self, body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
        """See `ModelLister.listed`."""
        return listed(body), None

    def embed_request(self, request: EmbeddingRequest) -> WireRequest:
        """See `Embedder.embed_request`."""
        return embed_request(request)

    def embedded(self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
        """See `Embedder.embedded`."""
        del headers  # nothing of the answer is in them
        return embedded(body, request, failure)


class OpenAIResponses(UncountedResponses):
    """The wire format of Responses; see `ports.wire.WireFormat`, `TokenCounter` and `ModelLister`."""

    def count_request(self, request: ModelRequest) -> WireRequest:
        """See `TokenCounter.count_request`."""
        return count_request(request)

    def counted(self, body: bytes) -> int:
        """See `TokenCounter.counted`."""
        return counted(body)
