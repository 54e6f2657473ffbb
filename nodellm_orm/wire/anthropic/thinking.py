"""How much a request lets the model think, in the words its generation takes, and what that leaves for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.effort import effort_of, is_off, nearest_effort
from nodellm_orm.wire.anthropic.blocks import needs_thinking_first
from nodellm_orm.wire.budgets import fitted_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.profile import Effort, ModelProfile
    from nodellm_orm.domain.settings import ThinkingConfig
    from nodellm_orm.ports.wire import ModelRequest

FALLBACK_MAX_TOKENS: Final = 4096
"""Sent when neither the caller nor the model's profile names a number: the API demands one, every model takes this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPlan:
    """What a request says about thinking and length."""

    max_tokens: int
    thinking: Mapping[str, object] | None = None
    """The ``thinking`` member."""
    effort: Effort | None = None
    """``output_config.effort``."""
    thinks: bool = False
    """Thinking is switched on, and sampling parameters are therefore refused."""
    dropped: bool = False
    """What was asked for cannot be said to this model, or not in this request."""


def plan_thinking(request: ModelRequest, *, forced: bool) -> ThinkingPlan:
    """Decide what is said about thinking.

    Args:
        request: what is to be sent.
        forced: whether the request forces the model to call a tool.
    """
    config, profile, room = request.settings.thinking, request.profile, answer_room(request)
    if config is None:
        return ThinkingPlan(max_tokens=room)
    if is_off(config):
        return _off(profile, room)
    effort = nearest_effort(effort_of(config) or "medium", profile.efforts)
    match profile.thinking:
        case "none":
            return ThinkingPlan(max_tokens=room, dropped=True)
        case "effort":
            return ThinkingPlan(max_tokens=room, effort=effort, dropped=effort is None)
        case "adaptive":
            # Newer models hide the text of their thinking unless it is asked for; who sets thinking wants to read it.
            thinking = {"type": "adaptive", "display": "summarized"}
            named = config.effort is not None or config.budget is not None
            return ThinkingPlan(max_tokens=room, thinking=thinking, effort=effort if named else None, thinks=True)
        case "budget":
            if forced or needs_thinking_first(request):
                return ThinkingPlan(max_tokens=room, dropped=True)
            return _budget(config, profile, asked=request.settings.max_tokens, room=room)
        case _:
            assert_never(profile.thinking)


def answer_room(request: ModelRequest) -> int:
    """The ``max_tokens`` of a request that does not think."""
    profile = request.profile
    asked = request.settings.max_tokens
    if asked is None:
        asked = profile.default_max_tokens or FALLBACK_MAX_TOKENS
    return asked if profile.max_output_tokens is None else min(asked, profile.max_output_tokens)


def _off(profile: ModelProfile, room: int) -> ThinkingPlan:
    match profile.thinking_off:
        case "omit":
            return ThinkingPlan(max_tokens=room)
        case "disabled" | "between_tools" as word:
            return ThinkingPlan(max_tokens=room, thinking={"type": word})
        case "never":
            return ThinkingPlan(max_tokens=room, effort=nearest_effort("minimal", profile.efforts), dropped=True)
        case _:
            assert_never(profile.thinking_off)


def _budget(config: ThinkingConfig, profile: ModelProfile, *, asked: int | None, room: int) -> ThinkingPlan:
    fitted = fitted_budget(config, profile, asked=asked, answer=room)
    if fitted is None:
        return ThinkingPlan(max_tokens=room, dropped=True)
    total, budget = fitted
    return ThinkingPlan(max_tokens=total, thinking={"type": "enabled", "budget_tokens": budget}, thinks=True)
