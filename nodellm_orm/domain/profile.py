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
    structured_with_tools: bool = True
    """Takes the schema of an answer beside tools; where not, words ask for the form while there are tools."""
    thinking_max_budget: int | None = None
    """The largest budget it takes; a larger one is lowered to it."""
    call_signatures: bool = False
    """Gemini: refuses a call in the history without its signature; one made elsewhere goes with a stand-in."""
    fetches_urls: bool = True
    """Fetches a file from any public address; where not, only from the provider's own places."""
    searches_by_prompt: bool = False
    """A web search counts once for a prompt, however many queries it took."""
    thinking_member: Literal["reasoning_effort", "thinking", "reasoning", "prompt_mode"] = "reasoning_effort"
    """Chat Completions dialects: how thinking is asked for: by a word, with a switch beside it (DeepSeek), in an object
    of its own (OpenRouter), or as a mode (Mistral's models that always think)."""
    required_thinking: str | None = None
    """Chat Completions dialects: the member in which an answer with calls must carry its thinking, if only empty."""
    forced_with_thinking: bool = True
    """Takes a forced choice of tool also while it thinks; one that does not thinks unless thinking is turned off."""
    tool_choice_none: bool = True
    """Obeys a choice of no tool; where not, the tools themselves are left out."""
    one_system_message: bool = False
    """Takes one system message, the first of all; later ones are told in the user's place."""
    user_after_tool: bool = True
    """Takes a user's words directly after a tool's; where not, a word of the assistant goes between."""
    named_results: bool = False
    """Chat Completions dialects: a tool's result goes out with the tool's name."""
    call_id_length: int | None = None
    """Letters and digits that every id of a call has to have; other ids are mapped to such."""
    file_form: Literal["openai", "openrouter", "mistral"] = "openai"
    """Chat Completions dialects: whose form files in a request have."""
    cache_points: Literal["none", "instructions", "request"] = "none"
    """Chat Completions dialects: what is marked for caching when that is asked for; the rest caches by itself."""
    effort_field: str = "reasoning_effort"
    """Bedrock: the model's own member that takes the effort; a dot leads into an object."""
    documents_after_tool: bool = True
    """Bedrock: takes documents and films directly after a tool's result; where not, a word of the assistant goes
    between."""
    result_status: bool = True
    """Bedrock: takes the word that a tool failed; where not, only the result's own words say so."""
    thinking_summaries: bool = True
    """Responses: sums up what it thought, when it is asked to think."""
    embedding_batch: int = 96
    """Embeddings: texts that one request may have."""
    embedding_bytes: int = 300_000
    """Embeddings: bytes of UTF-8 that the texts of one request may have together; a longer text goes alone. No text has
    more tokens than bytes, so this keeps limits on tokens too."""
    embedding_dimensions: str | None = "dimensions"
    """Embeddings: the member that asks for the length of vectors; ``None`` where they have one length only."""
    embedding_base64: bool = False
    """Embeddings: asks for vectors as packed bytes, which are a third of the size of digits."""
    embedding_form: Literal["titan", "titan_image", "nova", "cohere", "none"] = "none"
    """Bedrock: the form in which an embedding model takes texts."""
