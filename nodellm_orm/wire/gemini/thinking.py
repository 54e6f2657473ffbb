"""How much a model is asked to think: in tokens up to generation 2.5, in levels from generation 3 on."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.effort import budget_of, effort_of, is_off, nearest_effort

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.profile import Effort, ModelProfile
    from nodellm_orm.domain.settings import ThinkingConfig

_AS_NEEDED: Final = -1
"""The budget that leaves it to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPlan:
    """What a request says about thinking."""

    config: Mapping[str, object] | None = None
    """The member ``thinkingConfig``."""
    dropped: bool = False
    """What was asked for cannot be said to this model."""


def plan_thinking(config: ThinkingConfig | None, profile: ModelProfile) -> ThinkingPlan:
    """Decide what is said about thinking; who sets it wants to read the thoughts, who does not gets none.

    Args:
        config: the setting; a budget of -1 leaves it to the model, as no budget and no effort do.
        profile: what the model takes.
    """
    if config is None:
        return ThinkingPlan()
    free = config.effort is None and config.budget in {None, _AS_NEEDED}
    if not free and is_off(config):
        return _off(profile)
    match profile.thinking:
        case "none":
            return ThinkingPlan(dropped=True)
        case "budget":
            return _shown(thinkingBudget=_AS_NEEDED if free else _within(budget_of(config), profile))
        case "effort" | "adaptive":
            if free:
                return _shown()
            level = nearest_effort(effort_of(config) or "medium", profile.efforts)
            return ThinkingPlan(dropped=True) if level is None else _shown(thinkingLevel=_level(level))
        case _:
            assert_never(profile.thinking)


def _off(profile: ModelProfile) -> ThinkingPlan:
    match profile.thinking_off:
        case "omit":
            return ThinkingPlan()
        case "disabled" | "between_tools":
            return ThinkingPlan(config=MappingProxyType({"thinkingBudget": 0}))
        case "never":
            return ThinkingPlan(config=_least(profile), dropped=True)
        case _:
            assert_never(profile.thinking_off)


def _least(profile: ModelProfile) -> Mapping[str, object] | None:
    """The least thinking that a model takes which always thinks."""
    if profile.thinking == "budget":
        return MappingProxyType({"thinkingBudget": profile.thinking_min_budget})
    level = nearest_effort("minimal", profile.efforts)
    return None if level is None else MappingProxyType({"thinkingLevel": _level(level)})


def _within(budget: int, profile: ModelProfile) -> int:
    budget = max(budget, profile.thinking_min_budget)
    return budget if profile.thinking_max_budget is None else min(budget, profile.thinking_max_budget)


def _level(effort: Effort) -> str:
    return effort.upper()


def _shown(**said: object) -> ThinkingPlan:
    return ThinkingPlan(config=MappingProxyType({**said, "includeThoughts": True}))
