"""Models as their providers list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


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
