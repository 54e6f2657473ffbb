"""How thinking is asked for, in the words of each dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from nodellm_orm.domain.effort import effort_of, is_off, nearest_effort

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import Effort, ModelProfile
    from nodellm_orm.domain.settings import ThinkingConfig
    from nodellm_orm.ports.wire import ModelRequest


def thinking_members(request: ModelRequest, left_out: set[str]) -> tuple[dict[str, object], bool]:
    """The members that ask for thinking or turn it off, and whether the model is asked to think.

    Args:
        request: what is to be sent.
        left_out: takes the word ``thinking`` where the wish cannot be said.
    """
    config, profile = request.settings.thinking, request.profile
    if config is None:
        return {}, False
    if not is_off(config):
        members = _on(config, profile)
    elif profile.thinking_off == "never":
        left_out.add("thinking")
        members = _least(profile)
    else:
        return _off(profile), False
    if not members:
        left_out.add("thinking")
    return members, bool(members)


def turned_off(request: ModelRequest) -> bool:
    """Whether a model that thinks by itself has been told not to.

    Args:
        request: what is to be sent.
    """
    config = request.settings.thinking
    return config is not None and is_off(config) and request.profile.thinking_off != "never"


def _on(config: ThinkingConfig, profile: ModelProfile) -> dict[str, object]:
    """Nothing where the model cannot be asked."""
    if profile.thinking_member == "prompt_mode":
        return {"prompt_mode": "reasoning"}
    if profile.thinking != "effort":
        return {}
    if profile.thinking_member == "reasoning" and config.effort is None:
        # Here tokens can be asked for as tokens, and thinking without saying how much.
        return {"reasoning": {"enabled": True} if config.budget is None else {"max_tokens": config.budget}}
    effort = nearest_effort(effort_of(config) or "medium", profile.efforts)
    return {} if effort is None else _said(effort, profile)


def _least(profile: ModelProfile) -> dict[str, object]:
    effort = nearest_effort("minimal", profile.efforts)
    return {} if effort is None else _said(effort, profile)


def _said(effort: Effort, profile: ModelProfile) -> dict[str, object]:
    match profile.thinking_member:
        case "reasoning_effort":
            return {"reasoning_effort": effort}
        case "thinking":
            return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
        case "reasoning":
            # Some routes want to be told both.
            return {"reasoning": {"enabled": True, "effort": effort}}
        case "prompt_mode":
            return {}
        case _:
            assert_never(profile.thinking_member)


def _off(profile: ModelProfile) -> dict[str, object]:
    if profile.thinking_off == "omit":
        return {}
    if profile.thinking_member == "reasoning":
        return {"reasoning": {"effort": "none"}}
    # OpenAI and Mistral have a word on the scale for it, DeepSeek and Z.ai a member of its own.
    return {"reasoning_effort": "none"} if "none" in profile.efforts else {"thinking": {"type": "disabled"}}
