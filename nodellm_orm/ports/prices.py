"""The price seam: what a request cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.usage import Usage


class PriceBook(Protocol):
    """Knows what models cost."""

    def cost(self, *, provider: str, model: str, usage: Usage, asked: str | None = None) -> Cost:
        """What the usage costs; every amount is ``None`` when the price is unknown, and none is ever negative.

        Args:
            provider: our name of the provider.
            model: the model that answered, as the provider names it.
            usage: what it used.
            asked: the model that was asked for, which servers do not always answer under.
        """
        ...
