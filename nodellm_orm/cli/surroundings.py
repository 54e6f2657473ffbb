"""What a program finds around it: Python, packages, and the providers that the environment is set up for."""

from __future__ import annotations

import asyncio
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from nodellm_orm.config import ENCRYPTION_KEYS, MODEL, PROVIDER
from nodellm_orm.creating import create_llm
from nodellm_orm.errors import ConfigurationError, NodeLLMError
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.registry import find_provider, provider_names
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.upkeep.doctor.checks import error, ok, skipped, told_of, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.config import Environment
    from nodellm_orm.providers.row import ProviderRow
    from nodellm_orm.upkeep.doctor.checks import Check

_LEAST: Final = (3, 11)
_PACKAGES: Final = ("nodellm_orm", "sqlalchemy", "alembic", "httpx", "pydantic", "aiosqlite", "asyncpg", "aiomysql")
_STARTED: Final = "local"
"""The provider whose server this package starts itself."""


def check_machine() -> list[Check]:
    """Python, and the packages that matter."""
    found = platform.python_version()
    wanted = ".".join(map(str, _LEAST))
    python = (
        ok("python", found)
        if sys.version_info >= _LEAST
        else error("python", f"{found} is too old", f"use Python {wanted} or newer")
    )
    return [python, ok("packages", ", ".join(_installed()))]


def _installed() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def check_environment(environment: Environment) -> list[Check]:
    """Variables that are set, by their names: their values are looked at and never shown.

    Args:
        environment: of the process.
    """
    checks: list[Check] = []
    chosen = environment.provider
    if chosen is not None and chosen not in provider_names():
        checks.append(error("provider", f"{PROVIDER} names no provider", f"use one of {', '.join(provider_names())}"))
    elif chosen is None and environment.word(MODEL) is not None:
        checks.append(ok("provider", f"{MODEL} is set without {PROVIDER}: it holds for whichever provider is created"))
    if environment.word(ENCRYPTION_KEYS) is not None:
        checks.append(_encryption())
    providers = [_provider(row, environment) for row in configured(environment)]
    if not providers:
        remedy = "set a provider's key, such as OPENAI_API_KEY; or use the provider 'local', which needs none"
        checks.append(warning("providers", "no provider is set up in the environment", remedy))
    return [*checks, *providers]


def configured(environment: Environment) -> list[ProviderRow]:
    """The providers that the environment names, or has a key or an address of.

    Args:
        environment: of the process.
    """
    rows = [find_provider(name) for name in provider_names()]
    return [row for row in rows if row.name == environment.provider or any(map(environment.get, _variables(row)))]


def _variables(row: ProviderRow) -> list[str]:
    """What a provider may be set up with."""
    names = [*(rule.env for rule in row.keys), row.base_url_env]
    return [name for name in names if name is not None]


def _provider(row: ProviderRow, environment: Environment) -> Check:
    name = f"provider {row.name}"
    used = [variable for variable in _variables(row) if environment.get(variable)]
    try:
        resolve(row, environment=environment)
    except ConfigurationError as failure:
        return told_of(name, failure)
    return ok(name, f"set up by {', '.join(used)}" if used else f"named by {PROVIDER}, and needs no key")


def _encryption() -> Check:
    try:
        encryption = Encryption.from_environment()
    except NodeLLMError as failure:
        return told_of("encryption", failure)
    return ok("encryption", f"{len(encryption.key_names)} keys; what is written is encrypted with {encryption.current}")


async def check_online(environment: Environment, *, online: bool) -> list[Check]:
    """Whether each provider that is set up answers, and takes the key: its models are listed, which costs nothing.

    Args:
        environment: of the process.
        online: whether they may be asked at all.
    """
    rows = configured(environment)
    if not rows:
        return []
    if not online:
        return [skipped("online", "providers were not asked; --online asks each for its models")]
    return list(await asyncio.gather(*(_asked(row.name) for row in rows)))


async def _asked(provider: str) -> Check:
    name = f"online {provider}"
    if provider == _STARTED:
        return skipped(name, "it runs inside this process")
    try:
        async with create_llm(provider, timeout=15) as llm:
            models = await llm.list_models()
    except NodeLLMError as failure:
        return error(name, f"{type(failure).__name__}: {failure}", "see docs/errors.md for this class")
    return ok(name, f"it answers, and has {len(models)} models")
