"""One scale for how much a model thinks: words where a model takes words, tokens where it takes tokens."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.profile import EFFORTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nodellm_orm.domain.profile import Effort
    from nodellm_orm.domain.settings import ThinkingConfig

EFFORT_BUDGETS: Final[Mapping[Effort, int]] = MappingProxyType(
    {"none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 65536}
)
"""Thinking tokens that each word stands for."""


def is_off(config: ThinkingConfig) -> bool:
    """Whether the caller asks for no thinking at all."""
    return config.effort == "none" or (config.effort is None and config.budget is not None and config.budget <= 0)


def effort_of(config: ThinkingConfig) -> Effort | None:
    """The word that a setting asks for; a budget gives the first word that allows at least as much."""
    if config.effort is not None or config.budget is None:
        return config.effort
    budget = config.budget
    return next((word for word in EFFORTS if EFFORT_BUDGETS[word] >= budget), EFFORTS[-1])


def budget_of(config: ThinkingConfig) -> int:
    """The thinking tokens that a setting asks for; ``medium`` when it names neither tokens nor a word."""
    return config.budget if config.budget is not None else EFFORT_BUDGETS[config.effort or "medium"]


def nearest_effort(wanted: Effort, accepted: Collection[Effort]) -> Effort | None:
    """The first accepted word at or above the one wanted, else the highest accepted one.

    Args:
        wanted: the word asked for.
        accepted: the words a model takes, in any order.

    Returns:
        A word other than ``none``, or ``None`` when the model takes no words.

    Example:
        >>> nearest_effort("xhigh", ("low", "medium", "high", "max"))
        'max'
    """
    words = [word for word in EFFORTS if word in accepted and word != "none"]
    above = [word for word in words if EFFORTS.index(word) >= EFFORTS.index(wanted)]
    return next(iter(above or words[-1:]), None)
