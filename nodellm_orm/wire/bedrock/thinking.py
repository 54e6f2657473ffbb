"""How much a model is asked to think, and how long it may answer: each family has a member of its own for it.

These members go to the model as they are (``additionalModelRequestFields``), past what the API itself knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.effort import effort_of, is_off, nearest_effort
from nodellm_orm.wire.bedrock.blocks import needs_thinking_first
from nodellm_orm.wire.budgets import fitted_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.settings import ThinkingConfig
    from nodellm_orm.ports.wire import ModelRequest

FALLBACK_MAX_TOKENS: Final = 4096
"""What an answer may have beside a budget, when neither the caller nor the profile names a number."""
_SWITCHED: Final = "reasoningConfig"
"""Nova's member, which has a switch beside its effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPlan:
    """What a request says about thinking and length."""

    max_tokens: int | None
    fields: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Members for the model itself."""
    thinks: bool = False
    """Thinking is switched on."""
    dropped: bool = False
    """What was asked for cannot be said to this model, or not in this request."""


def plan_thinking(request: ModelRequest, *, forced: bool) -> ThinkingPlan:
    """Decide what is said about thinking.

    Args:
        request: what is to be sent.
        forced: whether the request forces the model to call a tool.
    """
    config, profile, room = request.settings.thinking, request.profile, _answer_room(request)
    if config is None:
        return ThinkingPlan(max_tokens=room)
    if is_off(config):
        return _off(profile, room)
    effort = nearest_effort(effort_of(config) or "medium", profile.efforts)
    match profile.thinking:
        case "none":
            return ThinkingPlan(max_tokens=room, dropped=True)
        case "effort":
            said = {} if effort is None else _effort(profile, effort)
            # Nova thinks as long as it wants at its highest effort, and refuses a limit then.
            free = _SWITCHED in said and effort == profile.efforts[-1]
            return ThinkingPlan(max_tokens=None if free else room, fields=said, thinks=bool(said), dropped=not said)
        case "adaptive":
            # Newer models hide the text of their thinking unless it is asked for; who sets thinking wants to read it.
            fields: dict[str, object] = {"thinking": {"type": "adaptive", "display": "summarized"}}
            named = config.effort is not None or config.budget is not None
            if named and effort is not None:
                fields["output_config"] = {"effort": effort}
            return ThinkingPlan(max_tokens=room, fields=fields, thinks=True)
        case "budget":
            if forced or needs_thinking_first(request):
                return ThinkingPlan(max_tokens=room, dropped=True)
            return _budget(config, profile, asked=request.settings.max_tokens, room=room)
        case _:
            assert_never(profile.thinking)


def _answer_room(request: ModelRequest) -> int | None:
    """The ``maxTokens`` of a request that does not think; without a number the model decides."""
    profile, asked = request.profile, request.settings.max_tokens
    if asked is None:
        asked = profile.default_max_tokens
    return asked if asked is None or profile.max_output_tokens is None else min(asked, profile.max_output_tokens)


def _off(profile: ModelProfile, room: int | None) -> ThinkingPlan:
    match profile.thinking_off:
        case "omit":
            return ThinkingPlan(max_tokens=room)
        case "disabled" | "between_tools" as word:
            said = _effort(profile, "none") if profile.thinking == "effort" else {"thinking": {"type": word}}
            return ThinkingPlan(max_tokens=room, fields=said)
        case "never":
            least = nearest_effort("minimal", profile.efforts)
            return ThinkingPlan(max_tokens=room, fields=_least(profile, least), dropped=True)
        case _:
            assert_never(profile.thinking_off)


def _least(profile: ModelProfile, effort: str | None) -> Mapping[str, object]:
    """The least thinking that a model takes which always thinks."""
    if effort is None:
        return {}
    return {"output_config": {"effort": effort}} if profile.thinking == "adaptive" else _effort(profile, effort)


def _effort(profile: ModelProfile, word: str) -> dict[str, object]:
    """The member for a word of effort; where its place has dots, objects inside each other."""
    first, _, inner = profile.effort_field.partition(".")
    if not inner:
        return {first: word}
    switch = {"type": "enabled"} if first == _SWITCHED else {}
    return {first: {**switch, inner: word}}


def _budget(config: ThinkingConfig, profile: ModelProfile, *, asked: int | None, room: int | None) -> ThinkingPlan:
    """A budget beside which there is room for the answer, as far as the model's own limit allows."""
    answer = FALLBACK_MAX_TOKENS if room is None else room
    fitted = fitted_budget(config, profile, asked=asked, answer=answer)
    if fitted is None:
        return ThinkingPlan(max_tokens=room, dropped=True)
    total, budget = fitted
    fields = {"thinking": {"type": "enabled", "budget_tokens": budget}}
    return ThinkingPlan(max_tokens=total, fields=fields, thinks=True)
