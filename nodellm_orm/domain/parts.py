"""The parts a message is made of, in the order the provider or the user gave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonText

MediaKind: TypeAlias = Literal["image", "audio", "video", "document", "text"]
MEDIA_KINDS: Final[tuple[MediaKind, ...]] = get_args(MediaKind)
NOT_STORED: Final[Any] = {"stored": False}
"""Metadata of a field that is no member of the stored part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """Text that a user, the model or the host wrote."""

    text: str
    extra: JsonText | None = None
    """Members the wire block had beyond its text (citations, annotations …); replayed to the same origin only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPart:
    """One trace of the model's thinking."""

    text: str = ""
    signature: str | None = None
    """The provider's proof that the trace is its own; valid only at its origin, byte for byte."""
    redacted: bool = False
    """The provider hid the text."""
    opaque: JsonText | None = None
    """The wire block verbatim where text and signature do not say it all (encrypted or structured reasoning)."""
    field: str | None = None
    """Name of the wire member it arrived in, where a dialect has several (``reasoning_content``, ``reasoning``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPart:
    """A call the model asks for."""

    call_id: str
    """Unique within the chat; what later results refer to and what is sent back on the wire."""
    name: str
    arguments: JsonText
    """The arguments exactly as received; not necessarily valid JSON."""
    wire_id: str | None = None
    """The id the provider gave, which may be missing, repeated or illegal elsewhere."""
    truncated: bool = False
    """The answer was cut off inside the arguments: such a call is never run."""
    extra: JsonText | None = None
    """Members the wire block had beyond these; replayed to the same origin only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResultPart:
    """What a call gave, as the model reads it."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalPart:
    """The model's words for why it will not answer."""

    text: str
    category: str | None = None
    """What the provider files it under, where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryPart:
    """A summary that stands for the beginning of a conversation: sent in its place, as a text.

    The messages themselves stay what and where they are.
    """

    text: str
    until: int
    """Position of the last message that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaquePart:
    """A block this version does not understand (a server-side tool, something new); kept and replayed verbatim.

    It goes back only to the provider and wire format it came from.
    """

    payload: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPart:
    """A file: an image, a recording, a film, a document or a text, given to a model or made by one.

    Its content is in ``data``, or where ``url`` or ``file_id`` say: exactly one of the three. The stored part names the
    bytes by their digest; they are kept once, apart from it.
    """

    media: MediaKind
    media_type: str
    """As in HTTP, for instance ``image/png``."""
    sha256: str | None = None
    """Digest of the bytes, in hexadecimal; ``None`` where the provider fetches or has them."""
    url: str | None = None
    """Where the provider itself fetches it."""
    file_id: str | None = None
    """The provider's own name for a file that was uploaded there."""
    name: str | None = None
    """File name, for people and for formats that want one."""
    detail: str | None = None
    """How closely to look (``low``, ``high``, ``auto``), where the provider has such a switch."""
    extra: JsonText | None = None
    """Members the wire block had beyond these; replayed to the same origin only."""
    data: bytes | None = field(default=None, repr=False, compare=False, metadata=NOT_STORED)
    """The bytes themselves, while they are in memory."""


Part: TypeAlias = (
    TextPart | ThinkingPart | ToolCallPart | ToolResultPart | RefusalPart | MediaPart | SummaryPart | OpaquePart
)
NOT_KEPT: Final = OpaquePart(payload='{"not_kept":true}')
"""Ends a message of which it was stored that it was said, and not what."""
