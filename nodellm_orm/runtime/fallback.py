"""Whether another model is asked, which one, and with what: pure decisions; `dialogue` and `exchange` carry them out.

A turn that has moved to another model stays with it: what that model signed, and the ids it gave its calls, are of use
to itself alone, and the one before it has just failed. The next turn begins with the chat's own model again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.messages import Message, Origin
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A model that may be asked in place of another, and after which errors."""

    model: Model
    on: tuple[type[ProviderError], ...]


def detours(plan: Plan, error: ProviderError) -> Iterator[Plan]:
    """The plans with which a request may go on elsewhere, in the order in which they are to be tried.

    Args:
        plan: what the turn is asked with.
        error: why the model first asked could not answer.
    """
    for place, alternative in enumerate(plan.alternatives):
        if isinstance(error, alternative.on) and alternative.model.origin != plan.model.origin:
            yield _moved(plan, place)


def carried_on(plan: Plan, last: Message | None) -> Plan:
    """The plan for a turn that is carried on: with the model that has spoken in it, where it is still among them.

    A turn in which nobody has spoken begins with the chat's own model, whoever was asked last.

    Args:
        plan: what the turn would be asked with.
        last: the last whole answer of the turn.
    """
    spoke: Origin | None = last.origin if last is not None else None
    if spoke is None or spoke == plan.model.origin:
        return plan
    places = (place for place, other in enumerate(plan.alternatives) if other.model.origin == spoke)
    place = next(places, None)
    return plan if place is None else _moved(plan, place)


def _moved(plan: Plan, place: int) -> Plan:
    """The plan with another model; what was said in the words of one provider is not told to another.

    The caller's own headers may hold a key, and raw members of a request mean something in one wire format only.
    """
    model = plan.alternatives[place].model
    moved = replace(plan, model=model, alternatives=plan.alternatives[place + 1 :])
    if model.origin.shares_state_with(plan.model.origin):
        return moved
    return replace(moved, headers=MappingProxyType({}), params=MappingProxyType({}))


def name_of(origin: Origin) -> str:
    """A model as the log and the errors name it.

    Args:
        origin: the model.
    """
    return f"{origin.provider}/{origin.model}"
