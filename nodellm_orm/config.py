"""The environment, read once: what the process was started with, as one immutable value."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER: Final = "NODELLM_PROVIDER"
"""Names the provider of a client that is created without one."""
MODEL: Final = "NODELLM_MODEL"
"""Names the model of a client that is created without one."""
LOCAL_MODEL: Final = "NODELLM_LOCAL_MODEL"
"""Path of the GGUF file that the provider ``local`` runs."""

ENCRYPTION_KEYS: Final = "NODELLM_ENCRYPTION_KEYS"
"""The keys that content is encrypted with, as ``name:base64,name:base64``, the first of them for what is written."""


class Environment:
    """A copy of the environment variables; shows their names only, for some of them are keys.

    Example:
        >>> environment = Environment.of({"NODELLM_PROVIDER": "openai", "NODELLM_MODEL": "gpt-5-mini"})
        >>> environment.provider, environment.model_for("openai"), environment.model_for("anthropic")
        ('openai', 'gpt-5-mini', None)
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        """Copy the variables.

        Args:
            values: name to value, for instance ``os.environ``.
        """
        self._values = MappingProxyType(dict(values))

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Environment:
        """The environment as it is now; later changes of the mapping do not reach it."""
        return cls(values)

    def get(self, name: str) -> str | None:
        """The value exactly as it is set; ``None`` when the variable is missing or empty."""
        return self._values.get(name) or None

    def word(self, name: str) -> str | None:
        """The value without the whitespace around it; ``None`` when nothing is left."""
        return (self._values.get(name) or "").strip() or None

    @property
    def provider(self) -> str | None:
        """The provider of a client that is created without one."""
        return self.word(PROVIDER)

    def model_for(self, provider: str) -> str | None:
        """The model of a client that is created without one.

        Args:
            provider: the client's provider. A model named beside another provider is not meant for it.
        """
        return self.word(MODEL) if self.provider in {None, provider} else None

    def __repr__(self) -> str:
        return f"Environment({len(self._values)} variables)"

    def __reduce__(self) -> NoReturn:
        msg = "an Environment holds keys and is not pickled; read it again where it is needed"
        raise ConfigurationError(msg)
