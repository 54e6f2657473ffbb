"""What one model of one provider accepts: request shaping is per model generation, not per provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nodellm_orm.domain.parts import MEDIA_KINDS, MediaKind

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Capabilities and parameter names of a model, resolved by longest prefix and overridable by users.

    Parameters a model rejects are dropped with a warning, never sent.
    """

    sampling: bool = True
    """Accepts ``temperature`` and its kin."""
    sampling_with_thinking: bool = True
    """Accepts them also in a request that asks for thinking."""
    max_tokens_field: str = "max_tokens"
    default_max_tokens: int | None = None
    """Sent when the caller names none and the wire format demands one."""
    max_output_tokens: int | None = None
    """The model's own cap; a larger request is lowered to it."""
    system_role: Literal["system", "developer", "user"] = "system"
    tools: Literal["native", "prompted", "none"] = "native"
    """``prompted``: the server ignores native tools; one named tool a round is asked for through its schema."""
    forced_tool_choice: bool = True
    parallel_tool_calls: bool = True
    """Has a switch that turns parallel calls off."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """The switch there is for an answer in a given form; where it does not take the schema, words do."""
    thinking: Literal["none", "budget", "adaptive", "effort"] = "none"
    """How thinking is asked for: a token budget, an adaptive switch with effort, an effort word, or not at all."""
    thinking_off: Literal["omit", "disabled", "between_tools", "never"] = "omit"
    """How thinking is turned off: by saying nothing, by a word, or not at all (always on)."""
    efforts: tuple[Effort, ...] = ()
    thinking_min_budget: int = 1024
    thinking_replay: Literal["field", "none"] = "none"
    """Chat Completions dialects: whether earlier thinking goes back in the field it came in."""
    stream_usage: bool = True
    """Chat Completions dialects: accepts ``stream_options.include_usage``."""
    requires_finish: bool = True
    """A stream without its terminal marker is an interrupted one; look-alike servers may never send it."""
    think_tags: bool = False
    """Thinking may arrive as ``<think>…</think>`` at the start of the text."""
    stream_above: int | None = None
    """An answer that may have more tokens is asked for as a stream: a connection that is silent that long breaks."""
    context_window: int | None = None
    media: tuple[MediaKind, ...] = MEDIA_KINDS
    """Kinds of files it reads, as far as the wire format can carry them; of others it is told that they were there."""
