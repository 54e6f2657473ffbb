"""Embeddings of Ollama."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.embeddings import Embedded
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.embeddings import posted, used
from nodellm_orm.wire.ollama.parse import failure
from nodellm_orm.wire.values import count_of, text_of
from nodellm_orm.wire.vectors import ADVICE, length_member, members_of, vectors_of, verbatim

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest

_PATH: Final = "/api/embed"


def embed_request(request: EmbeddingRequest) -> WireRequest:
    """The question for the vectors of some texts.

    Args:
        request: what to ask.

    Raises:
        UnsupportedFeatureError: the model's vectors have one length only, and another is asked for.
        ConfigurationError: for what JSON does not have.
    """
    members = {"model": request.model, **length_member(request), "input": list(request.texts)}
    return posted(_PATH, {**members, **request.params})


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
        vectors=vectors_of(found, request),
        usage=used(count_of(verbatim({"count": members.get("prompt_eval_count")}).get("count"))),
        model=text_of(members.get("model")) or None,
    )
