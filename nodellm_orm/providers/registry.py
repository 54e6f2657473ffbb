"""The providers known by name: those of this package, and those that users add."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.addresses import address_of
from nodellm_orm.providers.azure import AZURE
from nodellm_orm.providers.bedrock import BEDROCK
from nodellm_orm.providers.deepseek import DEEPSEEK
from nodellm_orm.providers.gemini import GEMINI
from nodellm_orm.providers.local.row import LOCAL
from nodellm_orm.providers.mistral import MISTRAL
from nodellm_orm.providers.ollama import OLLAMA
from nodellm_orm.providers.openrouter import OPENROUTER
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.providers.rows import ANTHROPIC, DIALECTS, OPENAI, OPENAI_COMPATIBLE
from nodellm_orm.providers.xai import XAI
from nodellm_orm.transport import check_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.ports.wire import WireFormat
    from nodellm_orm.providers.profiles import ProfileOverrides

_BUILT_IN: Final = (
    OPENAI,
    ANTHROPIC,
    OPENAI_COMPATIBLE,
    GEMINI,
    DEEPSEEK,
    OPENROUTER,
    MISTRAL,
    XAI,
    AZURE,
    OLLAMA,
    BEDROCK,
    LOCAL,
)
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_BEARER: Final = "authorization"


class Registry:
    """Rows by name."""

    def __init__(self, rows: tuple[ProviderRow, ...] = _BUILT_IN) -> None:
        """Begin with some rows.

        Args:
            rows: known from the start.
        """
        self._rows = {row.name: row for row in rows}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, sorted."""
        return tuple(sorted(self._rows))

    def find(self, name: str) -> ProviderRow:
        """The row of a name.

        Raises:
            ConfigurationError: there is none; lists those there are and the nearest.
        """
        if (row := self._rows.get(name)) is not None:
            return row
        nearest = difflib.get_close_matches(name.lower().replace("-", "_"), self.names, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        msg = f"there is no provider {name!r}.{hint} Known are: {', '.join(self.names)}; register_provider adds one"
        raise ConfigurationError(msg)

    def add(self, row: ProviderRow, *, replace: bool = False) -> None:
        """Add a row.

        Args:
            row: the provider.
            replace: whether it may take the place of one with the same name.

        Raises:
            ConfigurationError: the name is malformed, or taken.
        """
        if not _NAME.fullmatch(row.name):
            msg = f"{row.name!r} cannot name a provider; use small letters, digits, - and _, a letter first"
            raise ConfigurationError(msg)
        if row.name in self._rows and not replace:
            msg = f"there is a provider {row.name!r} already; choose another name, or pass replace=True"
            raise ConfigurationError(msg)
        self._rows[row.name] = row


_REGISTRY: Final = Registry()


def find_provider(name: str) -> ProviderRow:
    """The provider of a name, in this process.

    Raises:
        ConfigurationError: there is none; lists those there are and the nearest.
    """
    return _REGISTRY.find(name)


def provider_names() -> tuple[str, ...]:
    """The names of all providers of this process, sorted."""
    return _REGISTRY.names


def register_provider(
    name: str,
    *,
    api: str | WireFormat = "openai_chat",
    base_url: str | None = None,
    base_url_env: str | None = None,
    api_key_env: str | None = None,
    api_key_header: str = _BEARER,
    key_required: bool | None = None,
    default_model: str | None = None,
    embedding_model: str | None = None,
    headers: Mapping[str, str] | None = None,
    profiles: ProfileOverrides | None = None,
    replace: bool = False,
) -> ProviderRow:
    """Add a provider under a name that ``create_llm`` then takes, for this process.

    Args:
        name: small letters, digits, ``-`` and ``_``.
        api: the wire format it speaks, ``openai_chat`` or ``anthropic``; or a `WireFormat` of your own.
        base_url: its address, as its official SDK takes it; without one, ``create_llm`` has to be given it.
        base_url_env: environment variable that overrides the address.
        api_key_env: environment variable that holds the key.
        api_key_header: header that carries the key: ``authorization`` (as ``Bearer <key>``), or any other (bare).
        key_required: whether a missing key is an error; by default it is one when ``api_key_env`` is given.
        default_model: used by chats that name no model.
        embedding_model: used by ``llm.embed`` when it names no model.
        headers: sent with every request.
        profiles: what its models accept, where it differs from the defaults of the wire format: prefix of a model's
            name → the fields of `ModelProfile` that differ. The prefix ``""`` is every model.
        replace: whether it may take the place of a provider of the same name.

    Returns:
        The row.

    Raises:
        ConfigurationError: the name is malformed or taken, or another argument is malformed.

    Example:
        >>> row = register_provider(
        ...     "groq",
        ...     base_url="https://api.groq.com/openai/v1",
        ...     api_key_env="GROQ_API_KEY",
        ...     default_model="openai/gpt-oss-20b",
        ...     profiles={"": {"requires_finish": True}},
        ... )
        >>> llm = create_llm("groq")  # doctest: +SKIP
    """
    (header,) = check_headers({api_key_header: ""})
    if base_url is not None:
        address_of(base_url, source="base_url")
    row = ProviderRow(
        name=name,
        dialects=(_dialect(api, profiles or {}),),
        base_url=base_url,
        base_url_env=base_url_env,
        keys=(KeyRule(env=api_key_env, header=header, scheme="Bearer" if header == _BEARER else None),),
        key_required=api_key_env is not None if key_required is None else key_required,
        default_model=default_model,
        embedding_model=embedding_model,
        headers=MappingProxyType(check_headers(headers or {})),
    )
    _REGISTRY.add(row, replace=replace)
    return row


def _dialect(api: str | WireFormat, profiles: ProfileOverrides) -> Dialect:
    if not isinstance(api, str):
        return Dialect(wire=api, profiles=ProfileTable(otherwise=TOLERANT).overridden(profiles))
    for name, dialect in DIALECTS.items():
        if api in {name, dialect.alias}:
            return replace(dialect, profiles=dialect.profiles.overridden(profiles))
    msg = f"there is no wire format {api!r}; known are {', '.join(DIALECTS)}, or give a WireFormat of your own"
    raise ConfigurationError(msg)
