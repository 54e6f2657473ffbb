"""How thinking is asked for, and told of in short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.effort import effort_of, is_off, nearest_effort

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import Effort
    from nodellm_orm.ports.wire import ModelRequest

_OFF: Final = "none"


def reasoning(request: ModelRequest, left_out: set[str]) -> tuple[dict[str, object] | None, bool]:
    """The member ``reasoning``, and whether the model is asked to think.

    Args:
        request: what is to be sent.
        left_out: takes the word ``thinking`` where the wish cannot be said.
    """
    config, profile = request.settings.thinking, request.profile
    if config is None:
        return None, False
    if not is_off(config):
        return _asked(request, effort_of(config) or "medium", left_out)
    if profile.thinking_off == "never":
        left_out.add("thinking")
        asked, thinks = _asked(request, "minimal", left_out)
        return ({"effort": asked["effort"]} if asked else None), thinks
    return ({"effort": _OFF} if _has_word(request) else None), False


def turned_off(request: ModelRequest) -> bool:
    """Whether a model that thinks by itself has been told not to.

    Args:
        request: what is to be sent.
    """
    config = request.settings.thinking
    return config is not None and is_off(config) and request.profile.thinking_off != "never"


def may_sample(request: ModelRequest, *, thinks: bool) -> bool:
    """Whether the model takes ``temperature``: most refuse it while they think.

    Args:
        request: what is to be sent.
        thinks: the model is asked to think.
    """
    profile = request.profile
    if profile.sampling:
        return profile.sampling_with_thinking or not thinks
    return turned_off(request) and _has_word(request)


def _has_word(request: ModelRequest) -> bool:
    """Whether thinking is turned off by a word; where not, a model does not think unless it is asked to."""
    profile = request.profile
    return profile.thinking == "effort" and profile.thinking_off == "disabled" and _OFF in profile.efforts


def _asked(request: ModelRequest, wanted: Effort, left_out: set[str]) -> tuple[dict[str, object] | None, bool]:
    profile = request.profile
    effort = nearest_effort(wanted, profile.efforts) if profile.thinking == "effort" else None
    if effort is None:
        left_out.add("thinking")
        return None, False
    summary = {"summary": "auto"} if profile.thinking_summaries else {}
    return {"effort": effort, **summary}, True
