"""Texts as vectors: what `LLM.embed` gives, and what one request of it brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

Vector: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The answer to one request for embeddings."""

    vectors: tuple[Vector, ...]
    """One a text, in the order of the texts."""
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    """The model that answered, where the answer names it."""
    answer_id: str | None = None
    """The provider's own id, where it stands in the answer and not in its headers."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Embeddings:
    """The vectors of some texts, in the order of the texts.

    Iterating, indexing and ``len`` are those of ``vectors``.

    Example:
        >>> found = Embeddings(vectors=((0.6, 0.8),), model="m", provider="openai", usage=Usage(input_tokens=2))
        >>> found.vector, found.dimensions, len(found)
        ((0.6, 0.8), 2, 1)
        >>> found
        <Embeddings of 1 text by openai/m: 2 dimensions>
    """

    vectors: tuple[Vector, ...]
    model: str
    """The model that answered, as the provider names it."""
    provider: str
    usage: Usage = field(default_factory=Usage)
    """Over all requests that it took."""
    cost: Decimal | None = None
    """US dollars over all of them; ``None`` when a price or a count is unknown, never 0."""
    request_ids: tuple[str, ...] = ()

    @property
    def vector(self) -> Vector:
        """The vector of the only text.

        Raises:
            ConfigurationError: there are several texts, or none.
        """
        if len(self.vectors) != 1:
            msg = f"there are {len(self.vectors)} vectors; read them from vectors, or by their index"
            raise ConfigurationError(msg)
        return self.vectors[0]

    @property
    def dimensions(self) -> int | None:
        """How many numbers each vector has; ``None`` when there is no vector."""
        return len(self.vectors[0]) if self.vectors else None

    def __len__(self) -> int:
        """How many texts there were."""
        return len(self.vectors)

    def __iter__(self) -> Iterator[Vector]:
        """The vectors, in the order of the texts."""
        return iter(self.vectors)

    def __getitem__(self, place: int) -> Vector:
        """The vector of the text at that place."""
        return self.vectors[place]

    def __repr__(self) -> str:
        """How many vectors of what length, without their numbers."""
        texts = "1 text" if len(self.vectors) == 1 else f"{len(self.vectors)} texts"
        length = f": {self.dimensions} dimensions" if self.vectors else ""
        return f"<Embeddings of {texts} by {self.provider}/{self.model}{length}>"
