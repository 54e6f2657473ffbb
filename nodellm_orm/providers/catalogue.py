"""What is known of a model without asking its provider: its profile and its entry in the price list, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.catalogue import ModelInfo

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.providers.prices import GenaiPrices


def info_of(origin: Origin, profile: ModelProfile, prices: GenaiPrices) -> ModelInfo:
    """Profile and list together; where both name a window, the profile's holds, because users can change it.

    Args:
        origin: the model and its provider.
        profile: what it accepts.
        prices: the price list, with the user's own prices.
    """
    listing = prices.listing(origin.provider, origin.model)
    return ModelInfo(
        id=origin.model,
        provider=origin.provider,
        name=listing.name,
        context_window=profile.context_window or listing.context_window,
        max_output_tokens=profile.max_output_tokens,
        reads=profile.media,
        tools=profile.tools != "none",
        structured=profile.structured == "json_schema",
        thinks=profile.thinking != "none",
        price=listing.price,
        price_source=listing.source,
    )
