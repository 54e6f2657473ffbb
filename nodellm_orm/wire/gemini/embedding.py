"""Embeddings of Gemini: each text is a request of its own inside a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from nodellm_orm.domain.embeddings import Embedded
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.embeddings import posted, used
from nodellm_orm.wire.gemini.parse import failure
from nodellm_orm.wire.gemini.render import resource_of
from nodellm_orm.wire.values import count_of
from nodellm_orm.wire.vectors import ADVICE, length_member, members_of, vectors_of, verbatim

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest


def embed_request(request: EmbeddingRequest) -> WireRequest:
    """The question for the vectors of some texts.

    Args:
        request: what to ask; its ``params`` are members of each text's own request, such as ``taskType``.

    Raises:
        UnsupportedFeatureError: the model's vectors have one length only, and another is asked for.
        ConfigurationError: for what JSON does not have.
    """
    resource = resource_of(request.model)
    shared = {**length_member(request), **request.params}
    collection, _, name = resource.partition("/")
    return posted(
        f"/{collection}/{quote(name, safe='')}:batchEmbedContents",
        {"requests": [{"model": resource, **shared, "content": {"parts": [{"text": text}]}} for text in request.texts]},
    )


def embedded(body: bytes, request: EmbeddingRequest) -> Embedded:
    """The answer to it.

    Args:
        body: of the response.
        request: what was asked.

    Raises:
        ProtocolError: it is no answer to this request.
        ProviderError: it is an error after all.
    """
    members = members_of(body)
    found = members.get("embeddings")
    if not isinstance(found, list):
        if members.get("error"):
            raise failure(None, {}, body)
        msg = f"the answer has no vectors; {ADVICE}"
        raise ProtocolError(msg)
    return Embedded(
        vectors=vectors_of([item.get("values") if isinstance(item, dict) else None for item in found], request),
        usage=used(count_of(verbatim(members.get("usageMetadata")).get("promptTokenCount"))),
    )
