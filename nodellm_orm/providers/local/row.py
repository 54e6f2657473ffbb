"""The row of ``local``: no key, no address; a model file instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from nodellm_orm.config import LOCAL_MODEL
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.local.server import CONTEXT_WINDOW, ServerOptions, require_engine
from nodellm_orm.providers.local.transport import ENDPOINT, LocalTransport
from nodellm_orm.providers.local.weights import Weights
from nodellm_orm.providers.profiles import ProfileTable
from nodellm_orm.providers.row import Dialect, Place, ProviderRow
from nodellm_orm.wire.openai_chat import UnlistedChat

if TYPE_CHECKING:
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.row import Inquiry
    from nodellm_orm.transport import HttpPool

_PROFILE: Final = ModelProfile(
    tools="prompted",
    parallel_tool_calls=False,
    think_tags=True,
    context_window=CONTEXT_WINDOW,
    embedding_dimensions=None,
)
_BASE_URL: Final = "local runs its model in this process and has no base_url; for a server use openai_compatible"


def locate(inquiry: Inquiry) -> Place:
    """Make sure that a model can be run, as far as that can be told without running it.

    Args:
        inquiry: the client's model, its options ``threads`` and ``context_window``, and the environment.

    Raises:
        UnsupportedFeatureError: the extra ``local`` is not installed.
        ConfigurationError: there is no model file, or an option is malformed.
    """
    if inquiry.base_url is not None:
        raise ConfigurationError(_BASE_URL)
    require_engine()
    weights = Weights(path=inquiry.environment.word(LOCAL_MODEL))
    weights.file(inquiry.model or weights.default_model)
    options = ServerOptions(
        threads=_count(inquiry, "threads"), context_window=_count(inquiry, "context_window") or CONTEXT_WINDOW
    )
    return Place(
        base_url=ENDPOINT,
        default_model=weights.default_model,
        embedding_model=inquiry.model or weights.default_model,
        options={"weights": weights, "server": options},
    )


def connect(endpoint: Endpoint, pool: HttpPool) -> LocalTransport:
    """A transport that starts the model when it is first asked.

    Args:
        endpoint: what `locate` found.
        pool: the client's connections, which have no part in it.
    """
    del pool
    return LocalTransport(
        weights=cast(Weights, endpoint.options["weights"]),
        options=cast(ServerOptions, endpoint.options["server"]),
    )


def _count(inquiry: Inquiry, name: str) -> int | None:
    value = inquiry.options.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        msg = f"{name}={value!r} is not a number of 1 or more"
        raise ConfigurationError(msg)
    return value


LOCAL: Final = ProviderRow(
    name="local",
    dialects=(Dialect(wire=UnlistedChat(), profiles=ProfileTable(otherwise=_PROFILE), alias="chat"),),
    key_required=False,
    options=frozenset({"threads", "context_window"}),
    locate=locate,
    connect=connect,
)
