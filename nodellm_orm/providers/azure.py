"""Azure OpenAI: an endpoint of the user's own, whose models are deployments.

There are two kinds of addresses. The newer one is like OpenAI's, under ``/openai/v1``, and takes no version. The
classic one has a version in the query and the deployment in the path, so that the path depends on the model.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.endpoint import located
from nodellm_orm.providers.models_azure import AZURE_CHAT_PROFILES, AZURE_RESPONSES_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, Place, ProviderRow
from nodellm_orm.transport import Secret
from nodellm_orm.wire.openai_chat import OpenAIChat
from nodellm_orm.wire.openai_responses import UncountedResponses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import Transport, WireRequest, WireResponse
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.row import Inquiry
    from nodellm_orm.transport import HttpPool

_VERSION: Final = "api-version"
_VERSION_ENV: Final = "OPENAI_API_VERSION"
_UNVERSIONED: Final = frozenset({"v1", "latest", "preview"})
"""Versions that mean the newer address."""
_FIRST_WITH_RESPONSES: Final = "2025-03-01"
"""The first version of the classic address that has the Responses format."""
_RESPONSES: Final = UncountedResponses()
_OF_DEPLOYMENTS: Final = frozenset({"/chat/completions", "/embeddings"})
_DEPLOYMENTS: Final = "deployments"
_MODEL: Final = re.compile(rb'\{"model":("(?:[^"\\]|\\.)*")')


def locate(inquiry: Inquiry) -> Place:
    """The address of the resource, with what its kind of address needs.

    Args:
        inquiry: ``base_url`` or the option ``endpoint``, the option ``api_version``, and the environment.

    Raises:
        ConfigurationError: the key or the address is missing or malformed, or the format is not spoken there.
    """
    endpoint = inquiry.options.get("endpoint")
    if endpoint is not None and inquiry.base_url is not None:
        msg = "base_url and endpoint are the same thing; give one of them"
        raise ConfigurationError(msg)
    row = inquiry.row
    place = located(
        replace(
            inquiry,
            base_url=inquiry.base_url if endpoint is None else str(endpoint),
            # A token of Entra goes before the resource's key, as it does in Azure's own clients.
            row=row if inquiry.api_key is not None else replace(row, keys=row.keys[::-1]),
        )
    )
    version = _version(inquiry, place)
    if inquiry.api == _RESPONSES.name and not _has_responses(place, version):
        msg = 'this address has Chat Completions only: pass api="chat", or leave api_version and the path out'
        raise ConfigurationError(msg)
    return _addressed(place, version)


def _has_responses(place: Place, version: str | None) -> bool:
    path = urlsplit(place.base_url).path.rstrip("/")
    if path.endswith("/v1"):
        return True
    return not (path.endswith("/models") or f"/{_DEPLOYMENTS}/" in path or (version or "9") < _FIRST_WITH_RESPONSES)


def _version(inquiry: Inquiry, place: Place) -> str | None:
    """The version of the classic address; ``None`` for the newer one."""
    given = inquiry.options.get("api_version")
    stated = place.query.get(_VERSION)
    version = str(given) if given is not None else stated.reveal() if stated else inquiry.environment.word(_VERSION_ENV)
    return None if version in _UNVERSIONED else version


def _addressed(place: Place, version: str | None) -> Place:
    path = urlsplit(place.base_url).path.rstrip("/")
    query = {name: secret for name, secret in place.query.items() if name != _VERSION}
    if path.endswith("/v1") or (version is None and path in {"", "/openai"}):
        base = place.base_url if path.endswith("/v1") else f"{place.base_url.removesuffix('/openai')}/openai/v1"
        return replace(place, base_url=base, query=MappingProxyType(query), options={})
    if version is not None:
        query[_VERSION] = Secret(version)
    base, options = place.base_url, dict[str, object]()
    if path in {"", "/openai"}:
        base, options = f"{base.removesuffix('/openai')}/openai", {_DEPLOYMENTS: True}
    return replace(place, base_url=base, query=MappingProxyType(query), options=options)


def connect(endpoint: Endpoint, pool: HttpPool) -> Transport:
    """Plain HTTP; at a classic address with the deployment put into the path.

    Args:
        endpoint: what `locate` found.
        pool: the client's connections.
    """
    plain = replace(endpoint, connect=None).transport(pool)
    return DeploymentTransport(plain) if endpoint.options.get(_DEPLOYMENTS) else plain


class DeploymentTransport:
    """Sends each request to the deployment that its ``model`` names.

    Args:
        plain: sends to the resource.
    """

    def __init__(self, plain: Transport) -> None:
        """Keep; nothing is connected yet."""
        self._plain = plain

    @property
    def endpoint(self) -> str:
        """See `Transport.endpoint`."""
        return self._plain.endpoint

    def open(
        self, request: WireRequest, *, timeout: Timeout, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[WireResponse]:
        """See `Transport.open`."""
        if request.path in _OF_DEPLOYMENTS:
            path = f"/{_DEPLOYMENTS}/{quote(_model(request.body), safe='')}{request.path}"
            request = replace(request, path=path)
        return self._plain.open(request, timeout=timeout, headers=headers)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._plain.aclose()


def _model(body: bytes) -> str:
    """The member ``model``, which stands first: a long conversation is not read for it."""
    found = _MODEL.match(body)
    if found is not None:
        return str(loads(found[1]))
    members = loads(body)
    return str(members.get("model")) if isinstance(members, dict) else ""


AZURE: Final = ProviderRow(
    name="azure",
    dialects=(
        Dialect(wire=_RESPONSES, profiles=AZURE_RESPONSES_PROFILES, alias="responses"),
        Dialect(wire=OpenAIChat(), profiles=AZURE_CHAT_PROFILES, alias="chat"),
    ),
    base_url_env="AZURE_OPENAI_ENDPOINT",
    keys=(
        KeyRule(env="AZURE_OPENAI_API_KEY", header="api-key", scheme=None),
        KeyRule(env="AZURE_OPENAI_AD_TOKEN"),
    ),
    options=frozenset({"endpoint", "api_version"}),
    locate=locate,
    connect=connect,
)
