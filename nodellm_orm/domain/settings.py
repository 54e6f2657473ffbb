"""The settings of a chat and of one call, and how one overrides the other."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.jsontext import JsonText, JsonTextError, dumps, loads
from nodellm_orm.domain.money import exact
from nodellm_orm.domain.windows import Window
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingConfig:
    """How much a model should think.

    Args:
        effort: a word on the common scale ``none minimal low medium high xhigh max``.
        budget: thinking tokens; translated to an effort where a model knows no budgets, and the other way round.
    """

    effort: Effort | None = None
    budget: int | None = None


class _Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
"""Says that an option was not given, where ``None`` is a value of its own."""


SCHEMA_IN_WORDS: Final = "Answer with one JSON object that fits this JSON Schema, and with nothing else:\n"
"""Goes before the schema of a structured answer where a model has no switch for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a request that belongs to the chat; ``None`` leaves it to the provider."""

    temperature: float | None = None
    max_tokens: int | None = None
    thinking: ThinkingConfig | None = None
    schema: JsonText | None = None
    """JSON Schema of a structured answer."""
    schema_name: str | None = None
    tool_choice: str | None = None
    """``auto``, ``none``, ``required`` or a tool's name."""
    parallel_tool_calls: bool | None = None
    cache: bool | None = None
    max_tool_rounds: int = 8
    max_cost: Decimal | None = None
    history_window: Window | None = None
    compacted: bool = False
    """There may be a summary among the messages: it is looked for however far back it is."""

    def with_changes(self, **changes: Any) -> Settings:
        """These settings with every given option changed; `UNSET` leaves an option as it is.

        Raises:
            ConfigurationError: for an option that does not exist.
        """
        known = {f.name for f in fields(self)}
        if unknown := sorted(changes.keys() - known):
            msg = f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            raise ConfigurationError(msg)
        return replace(self, **{name: value for name, value in changes.items() if value is not UNSET})

    def to_json(self) -> JsonText:
        """The settings that differ from the defaults, as JSON text."""
        plain: dict[str, object] = {}
        default = Settings()
        for f in fields(self):
            value = getattr(self, f.name)
            if value == getattr(default, f.name):
                continue
            if isinstance(value, ThinkingConfig):
                value = {"effort": value.effort, "budget": value.budget}
            elif isinstance(value, Window):
                value = {"turns": value.turns, "tokens": value.tokens}
            plain[f.name] = str(value) if isinstance(value, Decimal) else value
        return dumps(plain)

    @classmethod
    def from_json(cls, text: JsonText) -> Settings:
        """Read what `to_json` wrote; options that this version does not know are left out.

        Raises:
            ConfigurationError: when the text is something else.
        """
        try:
            return cls(**_read(loads(text)))
        except (JsonTextError, TypeError, InvalidOperation) as error:
            msg = "stored settings are not what this package writes; set them again with chat.update(...)"
            raise ConfigurationError(msg) from error


def _read(data: object) -> dict[str, Any]:
    """The options known here; those that JSON has no type for become the values they were."""
    changes = _known(Settings, data)
    if changes.get("thinking") is not None:
        changes["thinking"] = ThinkingConfig(**_known(ThinkingConfig, changes["thinking"]))
    if changes.get("history_window") is not None:
        changes["history_window"] = _window(changes["history_window"])
    if changes.get("max_cost") is not None:
        changes["max_cost"] = exact(changes["max_cost"])
    return changes


def _window(data: object) -> Window:
    """A window as it was stored; by versions before this one as a number of turns."""
    return Window(**({"turns": data} if isinstance(data, int) else _known(Window, data)))


def _known(kind: type[Settings | ThinkingConfig | Window], data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        msg = f"{kind.__name__} is stored as a JSON object"
        raise TypeError(msg)
    return {f.name: data[f.name] for f in fields(kind) if f.name in data}
