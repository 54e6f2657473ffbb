"""What a client reaches: its providers' endpoints, the connections to them, and the models behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.opening import check_names
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.registry import find_provider, provider_names
from nodellm_orm.runtime.fallback import Alternative
from nodellm_orm.runtime.foreign import API as FOREIGN
from nodellm_orm.runtime.model import HttpModel
from nodellm_orm.runtime.prompted import PromptedModel
from nodellm_orm.runtime.refusals import refuse_unknown
from nodellm_orm.wire.ratelimits import rate_limits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.config import Environment
    from nodellm_orm.domain.policies import Fallback
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.profiles import ProfileOverrides
    from nodellm_orm.runtime.breaker import Circuits
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.transport.pool import HttpPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """How a provider was asked for."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    api: str | None = None
    profiles: ProfileOverrides | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def resolve(self, provider: str, environment: Environment, model: str | None, named: frozenset[str]) -> Endpoint:
        """Where that provider is.

        Args:
            provider: its name.
            environment: has what was not given.
            model: that will be asked, where the address depends on it.
            named: options that are not the provider's own.

        Raises:
            ConfigurationError: the provider or an option is not known, or the key is missing or malformed.
        """
        row = find_provider(provider)
        refuse_unknown(self.options, row.option_names | named, what=f"{row.name} option")
        return resolve(
            row,
            environment=environment,
            model=model,
            api_key=self.api_key,
            base_url=self.base_url,
            api=self.api,
            profiles=self.profiles,
            options=self.options,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the clients that share their connections reach providers with."""

    pool: HttpPool
    environment: Environment
    clock: Clock
    circuits: Circuits | None
    named: frozenset[str]
    """Options of a client that are not its provider's own."""

    def resolve(self, given: Given, provider: str, model: str | None) -> Endpoint:
        """Where a provider is, see `Given.resolve`."""
        return given.resolve(provider, self.environment, model, self.named)


class Reach:
    """The endpoints of one client, each with its connections; made when they are first asked for.

    Args:
        means: what they are reached with.
        provider: the client's own.
        given: how it was asked for.
        model: the model that is asked when none is named.
        fallbacks: models that may be asked when another cannot answer.

    Raises:
        ConfigurationError: the provider, or one of a fallback, is not known or not configured.
    """

    def __init__(
        self, means: Means, provider: str, given: Given, *, model: str | None, fallbacks: Sequence[Fallback]
    ) -> None:
        """Resolve what is known now; nothing is connected."""
        self._means = means
        self._given = given
        self.endpoint = means.resolve(given, provider, model)
        """The client's own."""
        self._model = model
        self._transports: dict[tuple[str, str], tuple[Endpoint, Transport]] = {}
        self._fallbacks = tuple(self._reached(fallback) for fallback in fallbacks)

    @property
    def provider(self) -> str:
        """The client's own provider."""
        return self.endpoint.provider

    @property
    def named_model(self) -> str | None:
        """The model that the client was made with."""
        return self._model

    @property
    def default_model(self) -> str | None:
        """The model that is asked when none is named."""
        return self._model or self.endpoint.default_model

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask (see `ModelSource`).

        Raises:
            ConfigurationError: the provider is not known or not configured, or no model is named.
        """
        if api == FOREIGN:
            # Held with a client that is not here, under a name that may be nobody's: the client that is given answers.
            provider, api = provider if provider in provider_names() else None, None
        endpoint, transport = self.to(provider or self.provider, api)
        name = model or (self.default_model if endpoint.provider == self.provider else endpoint.default_model)
        if name is None:
            msg = f"no model is named, and {endpoint.provider} has no default; pass model="
            raise ConfigurationError(msg)
        return self._model_at(endpoint, transport, name)

    def _model_at(self, endpoint: Endpoint, transport: Transport, name: str) -> Model:
        origin, circuits = endpoint.origin(name), self._means.circuits
        reached = HttpModel(
            origin=origin,
            profile=endpoint.profile(name),
            wire=endpoint.wire,
            transport=transport,
            clock=self._means.clock,
            circuit=circuits.of(origin) if circuits is not None else None,
            limits_of=rate_limits_of,
        )
        return PromptedModel(reached) if reached.profile.tools == "prompted" else reached

    def to(self, provider: str, api: str | None = None) -> tuple[Endpoint, Transport]:
        """A provider's endpoint, and the connections to it.

        Args:
            provider: its name.
            api: the wire format; the provider's usual one, or that of the client's own provider, when omitted.

        Raises:
            ConfigurationError: the provider is not known or not configured.
        """
        own = provider == self.provider
        key = (provider, api or (self.endpoint.api if own else ""))
        if key not in self._transports:
            endpoint = self.endpoint if own and api in {None, self.endpoint.api} else self._resolved(provider, api)
            self._transports[key] = (endpoint, endpoint.transport(self._means.pool))
        return self._transports[key]

    def _resolved(self, provider: str, api: str | None) -> Endpoint:
        given = replace(self._given, api=api) if provider == self.provider else Given(api=api)
        return self._means.resolve(given, provider, None)

    def alternatives(self) -> tuple[Alternative, ...]:
        """The models that may be asked when another cannot answer."""
        return tuple(
            Alternative(model=self._model_at(endpoint, transport, name), on=fallback.on)
            for fallback, endpoint, transport, name in self._fallbacks
        )

    def _reached(self, fallback: Fallback) -> tuple[Fallback, Endpoint, Transport, str]:
        """Where a fallback is; whatever is wrong with it is said when the client is made.

        Raises:
            ConfigurationError: its provider is not known or not configured, or it has no model.
        """
        provider, model = fallback.provider or self.provider, fallback.model
        own = (fallback.api_key, fallback.base_url, fallback.options) == (None, None, {})
        check_names(provider, model=model, api_key=fallback.api_key, base_url=fallback.base_url, api=fallback.api)
        if own:
            endpoint, transport = self.to(provider, fallback.api)
        else:
            given = Given(
                api_key=fallback.api_key, base_url=fallback.base_url, api=fallback.api, options=fallback.options
            )
            endpoint = self._means.resolve(given, provider, model)
            transport = endpoint.transport(self._means.pool)
            self._transports[provider, f"fallback {len(self._transports)}"] = (endpoint, transport)
        name = model or endpoint.default_model
        if name is None:
            msg = f"the fallback to {provider} names no model, and {provider} has no default; name one"
            raise ConfigurationError(msg)
        return fallback, endpoint, transport, name

    async def aclose(self) -> None:
        """Close the connections that are this client's alone; those of the pool stay."""
        for _, transport in self._transports.values():
            await transport.aclose()
