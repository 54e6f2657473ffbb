"""A budget of thinking tokens beside the tokens of the answer, within what a model may give in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.effort import budget_of

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.settings import ThinkingConfig


def fitted_budget(
    config: ThinkingConfig, profile: ModelProfile, *, asked: int | None, answer: int
) -> tuple[int, int] | None:
    """The tokens of thinking and answer together, and those of the thinking.

    Thinking counts toward the whole. Where the caller names no limit, or a budget that leaves no room in it, the budget
    comes on top of the answer's tokens; where the model's own cap forbids that, it gives way.

    Args:
        config: how much thinking is asked for.
        profile: the model's least budget and its cap.
        asked: the caller's own limit, if there is one.
        answer: tokens that the answer may have.

    Returns:
        ``None`` when there is no room for both.
    """
    budget = max(budget_of(config), profile.thinking_min_budget)
    within = asked is not None and budget < answer
    total, cap = answer if within else budget + max(answer, 1), profile.max_output_tokens
    if cap is not None and total > cap:
        total = cap
        budget = min(budget, max(cap - min(answer, cap // 2), profile.thinking_min_budget))
    return (total, budget) if budget < total else None
