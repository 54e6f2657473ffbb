"""The Gemini ``generateContent`` format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.wire.gemini.embedding import embed_request, embedded
from nodellm_orm.wire.gemini.models import count_request, counted, list_request, listed
from nodellm_orm.wire.gemini.parse import failure, parse, request_id
from nodellm_orm.wire.gemini.render import dropped, render
from nodellm_orm.wire.gemini.stream import GeminiStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest, ModelRequest, RenderCache, StreamParser


class Gemini:
    """The wire format of Google's models; see `ports.wire.WireFormat`, `TokenCounter` and `ModelLister`."""

    name = "gemini"

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
        return GeminiStream(profile)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """See `WireFormat.failure`."""
        return failure(status, headers, body)

    def request_id(self, headers: Mapping[str, str]) -> str | None:
        """See `WireFormat.request_id`."""
        return request_id(headers)

    def count_request(self, request: ModelRequest) -> WireRequest:
        """See `TokenCounter.count_request`."""
        return count_request(request)

    def counted(self, body: bytes) -> int:
        """See `TokenCounter.counted`."""
        return counted(body)

    def list_request(self, after: str | None = None) -> WireRequest:
        """See `ModelLister.list_request`."""
        return list_request(after)

    def listed(self, body: bytes) -> tuple[tuple[ListedModel, ...], str | None]:
        """See `ModelLister.listed`."""
        return listed(body)

    def embed_request(self, request: EmbeddingRequest) -> WireRequest:
        """See `Embedder.embed_request`."""
        return embed_request(request)

    def embedded(self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
        """See `Embedder.embedded`."""
        del headers  # nothing of the answer is in them
        return embedded(body, request)
