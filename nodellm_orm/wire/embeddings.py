"""Embeddings as OpenAI has them, and the many servers that resemble it, whatever format their chats have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.embeddings import Embedded
from nodellm_orm.domain.jsontext import JsonTextError, dumps, encode
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError, ProtocolError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.wire.values import amount_of, count_of, text_of
from nodellm_orm.wire.vectors import ADVICE, length_member, members_of, vectors_of, verbatim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.wire import EmbeddingRequest

    Failure: TypeAlias = Callable[[int | None, Mapping[str, str], bytes], ProviderError]

PATH: Final = "/embeddings"


def embed_request(request: EmbeddingRequest) -> WireRequest:
    """The question for the vectors of some texts.

    Args:
        request: what to ask.

    Raises:
        UnsupportedFeatureError: the model's vectors have one length only, and another is asked for.
        ConfigurationError: for what JSON does not have.
    """
    members: dict[str, object] = {
        "model": request.model,
        **length_member(request),
        **({"encoding_format": "base64"} if request.profile.embedding_base64 else {}),
        "input": list(request.texts),
    }
    return posted(PATH, {**members, **request.params})


def posted(path: str, members: Mapping[str, object]) -> WireRequest:
    """A request with a JSON body.

    Args:
        path: where to.
        members: of the body.

    Raises:
        ConfigurationError: for what JSON does not have.
    """
    try:
        body = encode(dumps(members))
    except JsonTextError as error:
        msg = f"the request cannot be written as JSON: {error}; look at params"
        raise ConfigurationError(msg) from error
    return WireRequest(path=path, body=body, headers={"content-type": "application/json"})


def embedded(body: bytes, request: EmbeddingRequest, failure: Failure) -> Embedded:
    """The answer to it.

    Args:
        body: of the response.
        request: what was asked.
        failure: reads the error that an answer may be after all.

    Raises:
        ProtocolError: it is no answer to this request.
        ProviderError: it is an error after all.
    """
    members = members_of(body)
    data = members.get("data")
    if not isinstance(data, list):
        if any(members.get(name) for name in ("error", "detail", "message")):
            raise failure(None, {}, body)
        msg = f"the answer has no vectors; {ADVICE}, and whether the server has embeddings"
        raise ProtocolError(msg)
    items = [item if isinstance(item, dict) else {} for item in data]
    return Embedded(
        vectors=vectors_of([item.get("embedding") for item in _in_order(items)], request),
        usage=usage_of(members.get("usage")),
        model=text_of(members.get("model")) or None,
        answer_id=text_of(members.get("id")) or None,
    )


def _in_order(items: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
    """By ``index``; where no item has one, as they came.

    Raises:
        ProtocolError: the indices are not those of the items.
    """
    indices = [item.get("index") for item in items]
    if all(index is None for index in indices):
        return items
    placed = {index: item for index, item in zip(indices, items, strict=True) if isinstance(index, int)}
    if placed.keys() != set(range(len(items))):
        msg = f"the answer does not say which vector belongs to which text; {ADVICE}"
        raise ProtocolError(msg)
    return [placed[index] for index in range(len(items))]


def usage_of(value: object) -> Usage:
    """What a ``usage`` member states; a server that counts no tokens has not counted.

    Args:
        value: the member.
    """
    members = verbatim(value)
    return used(count_of(members.get("prompt_tokens")), cost=members.get("cost"))


def used(tokens: int | None, *, cost: object = None) -> Usage:
    """The usage of a request for embeddings: a vector is no tokens, so the answer has none.

    Args:
        tokens: of the texts; ``None`` or 0 where they are not known.
        cost: US dollars, where the provider says so, parsed verbatim.
    """
    known = Usage(input_tokens=tokens, output_tokens=0) if tokens else Usage()
    return replace(known, reported_cost=amount_of(cost))
