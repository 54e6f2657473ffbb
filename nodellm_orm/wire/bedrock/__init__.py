"""The Converse format of Amazon Bedrock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.wire.bedrock.counting import count_request, counted
from nodellm_orm.wire.bedrock.embedding import embed_request, embedded
from nodellm_orm.wire.bedrock.parse import failure, parse, request_id
from nodellm_orm.wire.bedrock.render import dropped, render
from nodellm_orm.wire.bedrock.stream import BedrockStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest, ModelRequest, RenderCache, StreamParser


class Bedrock:
    """The wire format of all models on Amazon Bedrock; see `ports.wire.WireFormat` and `TokenCounter`.

    Which models there are is said by another host, Bedrock's control plane, and therefore not here.
    """

    name = "bedrock"

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
        return BedrockStream(profile)

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

    def embed_request(self, request: EmbeddingRequest) -> WireRequest:
        """See `Embedder.embed_request`."""
        return embed_request(request)

    def embedded(self, body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
        """See `Embedder.embedded`."""
        return embedded(body, headers, request)
