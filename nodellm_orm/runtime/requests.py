"""What the model is asked with: one request, made of a plan and a conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodellm_orm.ports.wire import ModelRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.runtime.plan import Plan


def model_request(plan: Plan, messages: Sequence[Message], tool_choice: str | None) -> ModelRequest:
    """One call of the model.

    Args:
        plan: what the turn is asked with.
        messages: the conversation.
        tool_choice: as it is by now.
    """
    return ModelRequest(
        target=plan.model.origin,
        messages=tuple(messages),
        instructions=plan.instructions,
        tools=plan.toolbox.specs,
        settings=replace(plan.settings, tool_choice=tool_choice),
        profile=plan.model.profile,
        stream=plan.stream or is_long(plan.settings, plan.model.profile),
        params=plan.params,
    )


def is_long(settings: Settings, profile: ModelProfile) -> bool:
    """Whether an answer may take so long that it is asked for as a stream.

    Args:
        settings: of the request.
        profile: of the model.
    """
    asked = settings.max_tokens or profile.default_max_tokens
    return profile.stream_above is not None and asked is not None and asked > profile.stream_above
