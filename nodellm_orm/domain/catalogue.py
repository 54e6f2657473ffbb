"""Models as their providers list them, and as they are known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from nodellm_orm.domain.money import Price
    from nodellm_orm.domain.parts import MediaKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model that a provider says it has; ``None`` is what it does not say."""

    id: str
    """The name to ask it by."""
    name: str | None = None
    """Its name for people."""
    created: datetime | None = None
    owned_by: str | None = None
    context_window: int | None = None
    """Tokens of question and answer together."""
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of a model without asking anybody: from its profile and the price list."""

    id: str
    """The name that was asked about."""
    provider: str
    name: str | None = None
    """Its name for people; ``None`` when the list does not have the model."""
    context_window: int | None = None
    """Tokens of question and answer together."""
    max_output_tokens: int | None = None
    reads: tuple[MediaKind, ...] = ()
    """Kinds of files that may be given to it."""
    tools: bool = True
    structured: bool = True
    """Whether the provider itself holds answers to a schema; otherwise they are asked for in words."""
    thinks: bool = False
    """Whether it can be asked to think."""
    price: Price | None = None
    """US dollars per million tokens; ``None`` is unknown. Of one with tiers, the rates of a small request."""
    price_source: str | None = None
