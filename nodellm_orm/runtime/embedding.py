"""Texts to vectors in as many requests as it takes: checked first, cut into batches, put together in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.embeddings import Embeddings
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.ports.prices import PriceBook
    from nodellm_orm.ports.wire import EmbeddingRequest
    from nodellm_orm.runtime.inquiry import Desk

_AT_ONCE: Final = 4
"""Requests that are under way at the same time: more would find a provider's rate limit rather than an end."""
_NAMED: Final = "embed"
"""What is in the names of most models that make vectors, and of no others."""


def checked_texts(texts: object) -> tuple[str, ...]:
    """The texts to embed.

    Args:
        texts: as given: one, or a sequence of them.

    Raises:
        ConfigurationError: one of them is empty, or is no text.
    """
    if isinstance(texts, str):
        given: tuple[object, ...] = (texts,)
    elif isinstance(texts, Sequence) and not isinstance(texts, bytes | bytearray | memoryview):
        given = tuple(texts)
    else:
        msg = f"texts is a text or a list of texts, not {type(texts).__name__}; list(...) makes one of an iterable"
        raise ConfigurationError(msg)
    checked = [text for text in given if isinstance(text, str) and text]
    if len(checked) != len(given):
        place = next(place for place, text in enumerate(given) if not isinstance(text, str) or not text)
        found = "is empty" if given[place] == "" else f"is no text but {type(given[place]).__name__}"
        msg = f"text {place} to embed {found}; no provider makes a vector of that, so leave it out"
        raise ConfigurationError(msg)
    return tuple(checked)


def checked_dimensions(dimensions: object) -> int | None:
    """The length that vectors should have.

    Args:
        dimensions: as given.

    Raises:
        ConfigurationError: it is neither a whole number from 1 on nor ``None``.
    """
    if dimensions is None or (isinstance(dimensions, int) and not isinstance(dimensions, bool) and dimensions > 0):
        return dimensions
    msg = f"dimensions is a whole number from 1 on, not {dimensions!r:.100}; leave it out for the model's own length"
    raise ConfigurationError(msg)


def chosen_model(named: str | None, *, own: str | None, default: str | None, provider: str) -> str:
    """The model that makes the vectors.

    Args:
        named: by the caller.
        own: the client's; it is meant where its name says that it makes vectors, and answers chats otherwise.
        default: the provider's.
        provider: its name.

    Raises:
        ConfigurationError: there is none.
    """
    if named is not None:
        return named
    if own is not None and _NAMED in own.lower():
        return own
    if default is None:
        msg = f"no model for embeddings is named, and {provider} has no default; pass model="
        raise ConfigurationError(msg)
    return default


def batches(request: EmbeddingRequest) -> Iterator[EmbeddingRequest]:
    """The same question in pieces that the model takes.

    Args:
        request: all of it.
    """
    most, room = request.profile.embedding_batch, request.profile.embedding_bytes
    batch: list[str] = []
    size = 0
    for text in request.texts:
        length = len(text.encode("utf-8", "replace"))
        if batch and (len(batch) >= most or size + length > room):
            yield replace(request, texts=tuple(batch))
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield replace(request, texts=tuple(batch))


async def embeddings_of(desk: Desk, request: EmbeddingRequest, prices: PriceBook) -> Embeddings:
    """The vectors of all texts.

    When one request fails for good, those under way are given up and nothing is returned.

    Args:
        desk: where to ask.
        request: all that is asked.
        prices: what models cost.

    Raises:
        UnsupportedFeatureError: the provider has no embeddings in this format, or the model not of that length.
        ProviderError: it did not answer.
    """
    answers = await _in_order(desk, list(batches(request)))
    costs = [
        prices.cost(
            provider=desk.provider, model=answer.model or request.model, usage=answer.usage, asked=request.model
        ).total
        for answer, _ in answers
    ]
    known = [cost for cost in costs if cost is not None]
    return Embeddings(
        vectors=tuple(vector for answer, _ in answers for vector in answer.vectors),
        model=next((answer.model for answer, _ in answers if answer.model), request.model),
        provider=desk.provider,
        usage=reduce(add, (answer.usage for answer, _ in answers), Usage()),
        cost=sum(known, start=Decimal(0)) if len(known) == len(costs) else None,
        request_ids=tuple(request_id for _, request_id in answers if request_id),
    )


async def _in_order(desk: Desk, requests: list[EmbeddingRequest]) -> list[tuple[Embedded, str | None]]:
    """The answers in the order of the requests, a few of which are under way at a time."""
    waiting = iter(enumerate(requests))
    answers: dict[int, tuple[Embedded, str | None]] = {}

    async def work() -> None:
        for place, request in waiting:
            answers[place] = await desk.embed(request)

    workers = [asyncio.create_task(work()) for _ in range(min(_AT_ONCE, len(requests)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [answers[place] for place in range(len(requests))]
