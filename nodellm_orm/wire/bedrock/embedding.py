"""Embeddings on Bedrock: each maker's own form, sent as it is to the model; the form is in the model's profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.embeddings import Embedded
from nodellm_orm.domain.jsontext import Number
from nodellm_orm.errors import ProtocolError, UnsupportedFeatureError
from nodellm_orm.wire.bedrock.models import path_of
from nodellm_orm.wire.bedrock.parse import failure
from nodellm_orm.wire.bedrock.render import posted
from nodellm_orm.wire.embeddings import used
from nodellm_orm.wire.values import count_of, text_of
from nodellm_orm.wire.vectors import ADVICE, length_member, members_of, vectors_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.jsontext import JsonObject
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.ports.wire import EmbeddingRequest

_TOKENS: Final = "x-amzn-bedrock-input-token-count"
_NOVA: Final = "singleEmbeddingParams"
_FLOATS: Final = "float"


def embed_request(request: EmbeddingRequest) -> WireRequest:
    """The question for the vectors of some texts; of one text, but for Cohere's models.

    Args:
        request: what to ask; its ``params`` are members of the maker's own form, such as ``input_type``.

    Raises:
        UnsupportedFeatureError: it is not known which form the model takes, or its vectors have one length only.
        ConfigurationError: for what JSON does not have.
    """
    length, first = length_member(request), request.texts[0]
    members: Mapping[str, object]
    match request.profile.embedding_form:
        case "titan":
            members = {"inputText": first, **length, **request.params}
        case "titan_image":
            config = {"embeddingConfig": length} if length else {}
            members = {"inputText": first, **config, **request.params}
        case "nova":
            text = {"truncationMode": "NONE", "value": first}
            members = {
                "taskType": "SINGLE_EMBEDDING",
                _NOVA: {"embeddingPurpose": "GENERIC_INDEX", **length, "text": text, **request.params},
            }
        case "cohere":
            members = {"input_type": "search_document", **length, "texts": list(request.texts), **request.params}
        case _:
            msg = (
                f"it is not known in which form {request.model} takes texts for embeddings; say so with profiles="
                f'{{"{request.model[:20]}": {{"embedding_form": "titan", "embedding_batch": 1}}}} (or cohere, or nova)'
            )
            raise UnsupportedFeatureError(msg)
    return posted(path_of(request.model, "invoke"), members)


def embedded(body: bytes, headers: Mapping[str, str], request: EmbeddingRequest) -> Embedded:
    """The answer to it.

    Args:
        body: of the response.
        headers: of the response, names in lower case; the count of tokens is there.
        request: what was asked.

    Raises:
        ProtocolError: it is no answer to this request.
        ProviderError: it is an error after all.
    """
    members = members_of(body)
    found = _found(members)
    if found is None:
        if text_of(members.get("message")) or text_of(members.get("Message")):
            raise failure(None, headers, body)
        msg = f"the answer has no vectors; {ADVICE}"
        raise ProtocolError(msg)
    return Embedded(vectors=vectors_of(found, request), usage=used(count_of(Number(headers.get(_TOKENS, "")))))


def _found(members: JsonObject) -> list[object] | None:
    """What stands where each maker has its vectors."""
    if "embedding" in members:
        return [members["embedding"]]
    found = members.get("embeddings")
    if isinstance(found, dict):
        # By their kind: floats, unless the caller asked for others.
        found = found.get(_FLOATS, next(iter(found.values()), None))
    if not isinstance(found, list):
        return None
    return [item.get("embedding") if isinstance(item, dict) else item for item in found]
