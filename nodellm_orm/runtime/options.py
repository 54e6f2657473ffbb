"""What a caller may say about a chat or one question, in the words of the API, as settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias

from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.media import checked_files
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.profile import EFFORTS
from nodellm_orm.domain.settings import UNSET, Settings, ThinkingConfig
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.domain.windows import Window
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.structured import StructuredSchema

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import Part

Thinks: TypeAlias = ThinkingConfig | str | int | bool
"""A word (``"low"``), a number of tokens, ``True`` (the model's own measure), ``False``, or both as a config."""
Content: TypeAlias = "str | Part | Sequence[str | Part]"
"""What is asked: text, or parts in order."""

_PARTS = (TextPart, ThinkingPart, ToolCallPart, ToolResultPart, RefusalPart, SummaryPart, OpaquePart)
_ASKABLE = (TextPart, MediaPart, OpaquePart)
_MAX_TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options as a caller gave them; ``None`` says nothing."""

    temperature: float | None = None
    max_tokens: int | None = None
    thinking: Thinks | None = None
    schema: object = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    cache: bool | None = None
    max_tool_rounds: int | None = None
    max_cost: Decimal | float | str | None = None
    history_window: int | Window | None = None

    def over(self, settings: Settings) -> Settings:
        """The settings with every option that was given in its place.

        Raises:
            ConfigurationError: for a value that cannot be meant.
        """
        form = None if self.schema is None else StructuredSchema.of(self.schema)
        return settings.with_changes(
            temperature=_given(self.temperature, _temperature),
            max_tokens=_given(self.max_tokens, _positive("max_tokens")),
            thinking=_given(self.thinking, thinking_config),
            schema=UNSET if form is None else form.schema,
            schema_name=UNSET if form is None else form.name,
            tool_choice=_given(self.tool_choice, _choice),
            parallel_tool_calls=_given(self.parallel_tool_calls, _switch("parallel_tool_calls")),
            cache=_given(self.cache, _switch("cache")),
            max_tool_rounds=_given(self.max_tool_rounds, _not_negative("max_tool_rounds")),
            max_cost=_given(self.max_cost, _money),
            history_window=_given(self.history_window, _window),
        )


def _given(value: Any, read: Any) -> Any:
    return UNSET if value is None else read(value)


def _temperature(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TEMPERATURE:
        msg = f"temperature is a number from 0 to 2, not {value!r:.100}"
        raise ConfigurationError(msg)
    return float(value)


def _choice(value: str) -> str:
    if not isinstance(value, str):
        msg = f"tool_choice is auto, none, required or the name of a tool, not {value!r:.100}"
        raise ConfigurationError(msg)
    return value


def _switch(name: str) -> Any:
    def read(value: bool) -> bool:  # noqa: FBT001 — the value of an option
        if not isinstance(value, bool):
            msg = f"{name} is True or False, not {value!r:.100}"
            raise ConfigurationError(msg)
        return value

    return read


def _positive(name: str) -> Any:
    def read(value: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name} is a whole number of at least 1, not {value!r:.100}"
            raise ConfigurationError(msg)
        return value

    return read


def _window(value: int | Window) -> Window:
    return value if isinstance(value, Window) else Window(turns=_positive("history_window")(value))


def _not_negative(name: str) -> Any:
    def read(value: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            msg = f"{name} is a whole number of at least 0, not {value!r:.100}"
            raise ConfigurationError(msg)
        return value

    return read


def _money(value: Decimal | float | str) -> Decimal:
    try:
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        msg = f"max_cost is an amount of US dollars, not {value!r:.100}"
        raise ConfigurationError(msg)
    return amount


def thinking_config(value: Thinks) -> ThinkingConfig:
    """What ``thinking=`` means.

    Args:
        value: see `Thinks`.

    Raises:
        ConfigurationError: for anything else.
    """
    match value:
        case ThinkingConfig():
            return value
        case True:
            return ThinkingConfig()
        case False:
            return ThinkingConfig(effort="none")
        case int() if value >= 0:
            return ThinkingConfig(budget=value)
        case str():
            for effort in EFFORTS:
                if effort == value:
                    return ThinkingConfig(effort=effort)
        case _:
            pass
    msg = f"thinking is one of {', '.join(EFFORTS)}, a number of tokens, or True or False; not {value!r:.100}"
    raise ConfigurationError(msg)


def check_choice(choice: str | None, names: Sequence[str]) -> None:
    """Refuse a tool choice that names no tool.

    Args:
        choice: the choice, or ``None``.
        names: the tools that are offered.

    Raises:
        ConfigurationError: it is neither a word of ours nor a tool's name.
    """
    if choice is None or choice in {AUTO, NONE, REQUIRED, *names}:
        return
    offered = ", ".join(names) or "no tools are offered"
    msg = f"tool_choice {choice!r:.100} is neither auto, none, required nor the name of a tool ({offered})"
    raise ConfigurationError(msg)


def question(content: Content, *, files: bool = False) -> tuple[Part, ...]:
    """A user's message.

    Args:
        content: text or parts.
        files: whether files go along: then it may say nothing itself.

    Raises:
        ConfigurationError: for anything else, and for nothing at all.
        AttachmentError: a file among the parts has no content.
    """
    if isinstance(content, str | bytes) or not isinstance(content, Sequence):
        return question([content], files=files)
    items: Sequence[object] = content
    parts: list[Part] = []
    for item in items:
        if isinstance(item, str):
            parts.append(TextPart(text=item))
        elif isinstance(item, _ASKABLE):
            parts.append(item)
        else:
            kind = type(item).__name__
            hint = "; that part is only ever written by a model" if isinstance(item, _PARTS) else ""
            msg = f"a question is text, or a list of texts, TextParts and MediaParts, not {kind}{hint}"
            raise ConfigurationError(msg)
    if not any(not isinstance(part, TextPart) or part.text.strip() for part in parts):
        if files:
            return ()
        msg = "the question is empty; ask something, or resume() to carry on the last turn"
        raise ConfigurationError(msg)
    return checked_files(parts)


def stored_schema(settings: Settings) -> StructuredSchema | None:
    """The form of the answer that a chat's stored settings ask for.

    Args:
        settings: as stored.
    """
    if settings.schema is None:
        return None
    schema = loads(settings.schema)
    named = {"title": settings.schema_name, **schema} if isinstance(schema, dict) and settings.schema_name else schema
    return StructuredSchema.of(named)


def frozen_metadata(metadata: Mapping[str, object] | None) -> dict[str, Any]:
    """A chat's metadata as JSON values, so that what is kept is what was given.

    Args:
        metadata: a mapping of strings to JSON values.

    Raises:
        ConfigurationError: for anything else.
    """
    if metadata is None:
        return {}
    try:
        value = loads(dumps(metadata)) if isinstance(metadata, Mapping) else None
    except ValueError as error:
        msg = f"metadata cannot be stored: {error}"
        raise ConfigurationError(msg) from error
    if not isinstance(value, dict):
        msg = f"metadata is a dict of JSON values, not {type(metadata).__name__}"
        raise ConfigurationError(msg)
    return value
