"""Which profile a model has: the longest prefix of its name that somebody described, the user's own words first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import ConfigurationError

ProfileOverrides: TypeAlias = Mapping[str, ModelProfile | Mapping[str, object]]
"""Prefix of a model's name → a whole profile, or the fields of it that differ."""

TOLERANT: Final = ModelProfile(
    thinking="effort", efforts=("low", "medium", "high"), requires_finish=False, think_tags=True
)
"""A model behind a server that resembles Chat Completions: nothing is sent that old servers do not know, unless the
caller asks for it, and nothing is demanded of the answer that look-alikes leave out."""

_FIELDS: Final = frozenset(f.name for f in fields(ModelProfile))
_FINE_TUNED: Final = "ft:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileTable:
    """The generations of one provider's models in one wire format.

    Example:
        >>> table = ProfileTable(prefixes={"m-2": ModelProfile(sampling=False)}, otherwise=ModelProfile())
        >>> table.find("m-2-large").sampling, table.find("m-1").sampling
        (False, True)
        >>> table.overridden({"m-2-large": {"sampling": True}}).find("M-2-Large").sampling
        True
    """

    prefixes: Mapping[str, ModelProfile] = field(default_factory=lambda: MappingProxyType({}))
    """Prefix of a model's name, in lower case → profile."""
    otherwise: ModelProfile
    """For models that no prefix describes."""
    overrides: tuple[ProfileOverrides, ...] = ()
    """The user's own, applied one after the other on top of the table; of each the longest prefix counts."""
    base: Callable[[str], str] | None = None
    """The name of the model behind a name that says more, such as where it runs: prefixes fit either of the two."""

    def find(self, model: str) -> ModelProfile:
        """The profile of a model.

        Args:
            model: its name, in any case; a fine-tuned model (``ft:…``) has the profile of the one it was made of.
        """
        name = model.lower().removeprefix(_FINE_TUNED)
        names = (name,) if self.base is None else (name, self.base(name))
        prefix = _longest(names, self.prefixes)
        profile = self.otherwise if prefix is None else self.prefixes[prefix]
        for layer in self.overrides:
            if (prefix := _longest(names, layer)) is not None:
                own = layer[prefix]
                profile = own if isinstance(own, ModelProfile) else _changed(profile, own)
        return profile

    def overridden(self, overrides: ProfileOverrides) -> ProfileTable:
        """The same table with the user's own profiles on top.

        Args:
            overrides: prefix → profile, or the fields that differ.

        Raises:
            ConfigurationError: for a field that profiles do not have.
        """
        for prefix, own in overrides.items():
            if not isinstance(own, ModelProfile) and (unknown := sorted(own.keys() - _FIELDS)):
                msg = (
                    f"the profile for {prefix!r} has no field {', '.join(unknown)}; known are "
                    f"{', '.join(sorted(_FIELDS))}"
                )
                raise ConfigurationError(msg)
        layer = MappingProxyType({prefix.lower(): own for prefix, own in overrides.items()})
        return replace(self, overrides=(*self.overrides, layer)) if layer else self


def _longest(names: tuple[str, ...], prefixes: Mapping[str, object]) -> str | None:
    fitting = (prefix for prefix in prefixes for name in names if name.startswith(prefix))
    return max(fitting, key=len, default=None)


def _changed(profile: ModelProfile, changes: Mapping[str, Any]) -> ModelProfile:
    return replace(profile, **changes)
