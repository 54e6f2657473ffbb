"""`create_llm`: what a client is made of, checked before there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx

from nodellm_orm.config import Environment
from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.domain.money import Price
from nodellm_orm.domain.policies import CircuitBreaker, RetryPolicy, Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.llm import LLM, Shared, refuse_policy
from nodellm_orm.opening import check_names, names_of
from nodellm_orm.providers.alternatives import fallbacks_of
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.reach import Given, Means, Reach
from nodellm_orm.runtime.breaker import Circuits
from nodellm_orm.runtime.clock import SystemClock
from nodellm_orm.transport.pool import HttpPool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nodellm_orm.providers.alternatives import FallbackSource
    from nodellm_orm.providers.profiles import ProfileOverrides


def create_llm(
    provider: str | None = None,
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    api: str | None = None,
    timeout: Timeout | float | None = None,
    retry: RetryPolicy | None = None,
    prices: Mapping[str, Price] | None = None,
    profiles: ProfileOverrides | None = None,
    attachments: AttachmentPolicy | None = None,
    fallback: FallbackSource | Iterable[FallbackSource] = (),
    breaker: CircuitBreaker | None = None,
    http_client: httpx.AsyncClient | None = None,
    environ: Mapping[str, str] | None = None,
    **provider_options: Any,
) -> LLM:
    """A client of one provider.

    Args:
        provider: its name; from ``NODELLM_PROVIDER`` when omitted.
        model: the model asked when none is named; from ``NODELLM_MODEL`` when both are omitted.
        api_key: its key; from the provider's environment variable when omitted.
        base_url: its address, as its official SDK takes it (OpenAI: with ``/v1``; Anthropic: without).
        api: the wire format, where a provider speaks several.
        timeout: limits, or seconds in total.
        retry: when an attempt is repeated.
        prices: US dollars per million tokens, by model; they win over the list that comes with the package.
        profiles: what models accept, by prefix of their names.
        attachments: what ``files=`` may name; by default no path is read and no URL fetched.
        fallback: models that are asked, in order, when the one before cannot answer: names of this provider's models,
            pairs ``("anthropic", "claude-haiku-4-5")``, or `Fallback` values.
        breaker: leaves a model alone for a while when it keeps failing; by default none is.
        http_client: an httpx client to use; it is not closed by us.
        environ: in place of ``os.environ``.
        provider_options: options of that provider.

    Raises:
        ConfigurationError: the provider, or one of a fallback, is not known, or its key is missing or malformed;
            names the variable.
    """
    environment = Environment.of(os.environ if environ is None else environ)
    name = provider or environment.provider
    if name is None:
        msg = "no provider is named: pass one, as in create_llm('openai'), or set NODELLM_PROVIDER"
        raise ConfigurationError(msg)
    _refuse_wrong(retry, http_client, prices, breaker)
    refuse_policy(attachments)
    fallbacks = fallbacks_of(fallback)
    check_names(name, model=model, api_key=api_key, base_url=base_url, api=api)
    given = Given(api_key=api_key, base_url=base_url, api=api, profiles=profiles, options=provider_options)
    clock = SystemClock()
    means = Means(
        pool=HttpPool(http_client),
        environment=environment,
        clock=clock,
        circuits=Circuits(breaker, clock) if breaker is not None else None,
        named=names_of(create_llm),
    )
    reach = Reach(means, name, given, model=model or environment.model_for(name), fallbacks=fallbacks)
    shared = Shared(
        means=means,
        prices=GenaiPrices(prices or {}),
        timeout=Timeout.of(timeout),
        retry=retry or RetryPolicy(),
        attachments=attachments or AttachmentPolicy(),
    )
    return LLM(shared, reach, owns_pool=True)


def _refuse_wrong(retry: object, http_client: object, prices: Mapping[str, Price] | None, breaker: object) -> None:
    """Refuse values that are not of their kind, before anything is made with them."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        msg = f"retry is a RetryPolicy(max_attempts=...), not {retry!r:.100}"
        raise ConfigurationError(msg)
    if http_client is not None and not isinstance(http_client, httpx.AsyncClient):
        msg = f"http_client is an httpx.AsyncClient, not {type(http_client).__name__}"
        raise ConfigurationError(msg)
    if any(not isinstance(price, Price) for price in (prices or {}).values()):
        msg = 'prices are Price values by model, such as {"my-model": Price(input=1, output=2)}'
        raise ConfigurationError(msg)
    if breaker is not None and not isinstance(breaker, CircuitBreaker):
        msg = f"breaker is a CircuitBreaker(failures=...), not {breaker!r:.100}"
        raise ConfigurationError(msg)
