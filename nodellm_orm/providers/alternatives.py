"""What ``fallback=`` may hold, as values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.policies import Fallback
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.registry import provider_names

if TYPE_CHECKING:
    FallbackSource: TypeAlias = Fallback | str | tuple[str, str]
    """A model of the client's own provider, a pair of provider and model, or all that can be said of one."""


def fallbacks_of(given: FallbackSource | Iterable[FallbackSource]) -> tuple[Fallback, ...]:
    """The fallbacks that a client was given, in order.

    Args:
        given: one or several; a pair stands in a list, so that it is not taken for two models.

    Raises:
        ConfigurationError: one of them cannot be meant.
    """
    if isinstance(given, str | Fallback):
        given = [given]
    if not isinstance(given, Iterable):
        msg = f"fallback is a list of models, such as ['gpt-5-mini'], not {type(given).__name__}"
        raise ConfigurationError(msg)
    fallbacks = tuple(Fallback.of(entry) for entry in given)
    for fallback in fallbacks:
        if fallback.provider is None and fallback.model in provider_names():
            msg = (
                f"fallback {fallback.model!r} is the name of a provider, and a text alone names a model of the "
                f"client's own; write fallback=[({fallback.model!r}, 'its-model')]"
            )
            raise ConfigurationError(msg)
    return fallbacks
