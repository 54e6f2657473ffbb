"""From a row, a few options and the environment to an endpoint: everything a client needs to talk to a provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.domain.messages import Origin
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.wire import Embedder
from nodellm_orm.providers.addresses import address_of
from nodellm_orm.providers.row import Inquiry, KeyRule, Place
from nodellm_orm.transport import HttpTransport, Secret, check_headers, check_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.config import Environment
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.ports.wire import WireFormat
    from nodellm_orm.providers.profiles import ProfileOverrides, ProfileTable
    from nodellm_orm.providers.row import Connect, Dialect, HeaderOption, ProviderRow
    from nodellm_orm.transport import HttpPool
    from nodellm_orm.transport.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A provider as one client reaches it; its ``repr`` shows no key."""

    provider: str
    api: str
    """Name of the wire format, as stored with chats."""
    wire: WireFormat
    profiles: ProfileTable
    base_url: str
    """Without key and query: the scope in which the provider's opaque state is valid."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    secret_headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    query: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    default_model: str | None = None
    embedding_model: str | None = None
    """The model that makes vectors of texts when none is named."""
    embeds: bool = True
    """Whether there are embeddings here."""
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """What the provider's own ``connect`` has to know."""
    connect: Connect | None = None

    def profile(self, model: str) -> ModelProfile:
        """What a model accepts here."""
        return self.profiles.find(model)

    def origin(self, model: str) -> Origin:
        """Where answers of a model come from."""
        return Origin(provider=self.provider, api=self.api, endpoint=self.base_url, model=model)

    def transport(self, pool: HttpPool) -> Transport:
        """A transport to this endpoint.

        Args:
            pool: the client's connections.
        """
        if self.connect is not None:
            return self.connect(self, pool)
        return HttpTransport(
            self.base_url,
            secret_headers={**self.headers, **_revealed(self.secret_headers)},
            query=_revealed(self.query),
            pool=pool,
        )


def _revealed(secrets: Mapping[str, Secret]) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in secrets.items()}


def resolve(
    row: ProviderRow,
    *,
    environment: Environment,
    api_key: str | None = None,
    base_url: str | None = None,
    api: str | None = None,
    model: str | None = None,
    profiles: ProfileOverrides | None = None,
    options: Mapping[str, object] | None = None,
) -> Endpoint:
    """Find out where a provider is and how it is spoken to; nothing is sent.

    Args:
        row: the provider.
        environment: where keys and addresses come from that are not given.
        api_key: the key; otherwise that of the environment.
        base_url: the address, as the provider's official SDK takes it (OpenAI: with ``/v1``; Anthropic: without).
        api: the wire format by its name or its short name; otherwise the row's default.
        model: the client's model, where it has one.
        profiles: the user's own profiles, by prefix of a model's name.
        options: the provider's own options.

    Raises:
        ConfigurationError: a key or an address is missing or malformed, or an option does not exist.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    if unknown := sorted(given.keys() - row.option_names):
        known = ", ".join(sorted(row.option_names)) or "none"
        msg = f"{row.name} has no option {', '.join(unknown)}; its own options are: {known}"
        raise ConfigurationError(msg)
    dialect = _dialect(row, api)
    inquiry = Inquiry(
        row=row,
        environment=environment,
        api_key=api_key,
        base_url=base_url,
        model=model,
        api=dialect.wire.name,
        options=given,
    )
    place = (row.locate or located)(inquiry)
    return Endpoint(
        provider=row.name,
        api=dialect.wire.name,
        wire=dialect.wire,
        profiles=dialect.profiles.overridden(profiles or {}),
        base_url=place.base_url,
        headers=place.headers,
        secret_headers=place.secret_headers,
        query=place.query,
        default_model=place.default_model or row.default_model,
        embedding_model=place.embedding_model or row.embedding_model,
        embeds=row.embeds and isinstance(dialect.wire, Embedder),
        options=MappingProxyType(dict(given if place.options is None else place.options)),
        connect=row.connect,
    )


def located(inquiry: Inquiry) -> Place:
    """The place that a row's own facts give.

    Args:
        inquiry: the row, what was given, and the environment.

    Raises:
        ConfigurationError: the key or the address is missing or malformed.
    """
    row = inquiry.row
    where = address(inquiry)
    return Place(
        base_url=where.endpoint,
        query=where.query,
        headers=MappingProxyType({**row.headers, **_option_headers(inquiry)}),
        secret_headers=MappingProxyType(key_of(inquiry)),
    )


def address(inquiry: Inquiry) -> Address:
    """The given base URL, else that of the environment, else the row's own.

    Raises:
        ConfigurationError: there is none, or it is malformed.
    """
    row = inquiry.row
    if inquiry.base_url is not None:
        return address_of(inquiry.base_url, source="base_url")
    if row.base_url_env and (text := inquiry.environment.word(row.base_url_env)):
        return address_of(text, source=row.base_url_env)
    if row.base_url is None:
        variable = f", or set {row.base_url_env}" if row.base_url_env else ""
        msg = f"{row.name} needs to know its server: pass base_url, for instance http://localhost:8000/v1{variable}"
        raise ConfigurationError(msg)
    return address_of(row.base_url, source="base_url")


def key_of(inquiry: Inquiry) -> dict[str, Secret]:
    """The one header that carries the key, or none where no key is needed.

    Raises:
        ConfigurationError: a key is needed and there is none, or it is malformed; names where it was looked for.
    """
    row = inquiry.row
    if inquiry.api_key:
        return _header(row.keys[0] if row.keys else KeyRule(), "api_key", inquiry.api_key)
    # An empty key that was given says that there is none; another one must not take its place.
    for rule in row.keys if inquiry.api_key is None else ():
        if rule.env and (value := inquiry.environment.get(rule.env)):
            return _header(rule, rule.env, value)
    if not row.key_required:
        return {}
    variables = " or ".join(rule.env for rule in row.keys if rule.env)
    msg = f"no API key for {row.name}: " + (f"set {variables}, or pass api_key" if variables else "pass api_key")
    raise ConfigurationError(msg)


def _header(rule: KeyRule, name: str, value: str) -> dict[str, Secret]:
    if "\n" in value or "\r" in value:
        # Also at the end, where it is the mark of a key read from a file with something else in it.
        msg = f"{name} holds a line break; set it to the key alone"
        raise ConfigurationError(msg)
    key = check_key(name, value)
    return {rule.header: Secret(f"{rule.scheme} {key}" if rule.scheme else key)}


def _option_headers(inquiry: Inquiry) -> dict[str, str]:
    headers: dict[str, str] = {}
    for option in inquiry.row.header_options:
        name, value = _option_value(inquiry, option)
        if value:
            try:
                headers |= check_headers({option.header: value})
            except ConfigurationError as error:
                msg = f"{name}: {error}"
                raise ConfigurationError(msg) from None
    return headers


def _option_value(inquiry: Inquiry, option: HeaderOption) -> tuple[str, str | None]:
    """The name that a user knows it by, and the value."""
    given = inquiry.options.get(option.option)
    if given is not None:
        return option.option, str(given)
    return (option.env, inquiry.environment.word(option.env)) if option.env else ("", None)


def _dialect(row: ProviderRow, api: str | None) -> Dialect:
    if api is None:
        return row.dialects[0]
    for dialect in row.dialects:
        if api in {dialect.wire.name, dialect.alias}:
            return dialect
    known = ", ".join(dialect.alias or dialect.wire.name for dialect in row.dialects)
    msg = f"{row.name} does not speak api={api!r}; it speaks: {known}"
    raise ConfigurationError(msg)
