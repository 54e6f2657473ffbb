"""Google's Gemini API with a developer's key."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nodellm_orm.providers.endpoint import located
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.gemini import Gemini

if TYPE_CHECKING:
    from nodellm_orm.providers.row import Inquiry, Place

_HEADER: Final = "x-goog-api-key"
_HOST: Final = "generativelanguage.googleapis.com"
_VERSION: Final = "v1beta"
_VERSIONED: Final = re.compile(r"/v[0-9]+\w*$")


def _located(inquiry: Inquiry) -> Place:
    """The place of the row; Google's own clients take their address without the version, which is added here.

    An address that is given elsewhere is taken as it is: a gateway may have its own idea of versions.
    """
    place = located(inquiry)
    by_google = inquiry.base_url is None or urlsplit(place.base_url).hostname == _HOST
    if by_google and not _VERSIONED.search(place.base_url):
        return replace(place, base_url=f"{place.base_url}/{_VERSION}")
    return place


GEMINI: Final = ProviderRow(
    name="gemini",
    dialects=(Dialect(wire=Gemini(), profiles=GEMINI_PROFILES),),
    base_url=f"https://{_HOST}/{_VERSION}",
    base_url_env="GOOGLE_GEMINI_BASE_URL",
    keys=(
        KeyRule(env="GOOGLE_API_KEY", header=_HEADER, scheme=None),
        KeyRule(env="GEMINI_API_KEY", header=_HEADER, scheme=None),
    ),
    default_model="gemini-3.5-flash",
    embedding_model="gemini-embedding-2",
    locate=_located,
)
