"""Thinking that arrives in members of the message beside its text, under the names that servers give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import ThinkingDelta
from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.wire.openai_chat.growth import Growing
from nodellm_orm.wire.values import list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXT_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Where plain thinking may stand; servers that fill two of them say the same in both."""
DETAILS_FIELD: Final = "reasoning_details"
"""Where OpenRouter puts thinking with its signatures; the same text stands in ``reasoning`` once more."""
_KEY: Final = "reasoning"


class ReasoningReader:
    """Reads the thinking of one answer."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._details: list[Growing] = []
        self._open: dict[object, tuple[Growing, str]] = {}
        self._verbatim: list[object] = []

    def read(self, message: Mapping[str, object], *, whole: bool) -> Iterator[ThinkingDelta]:
        """The thinking in a message or in a fragment of one.

        Args:
            message: the members.
            whole: it is a whole message.
        """
        items = list_of(message.get(DETAILS_FIELD))
        if whole:
            self._verbatim = items
        else:
            for item in items:
                self._grow(item)
        text = "".join(text_of(object_of(item).get(name)) for item in items for name in ("text", "summary"))
        field = DETAILS_FIELD if items else None
        if not text:
            plain = ((name, text_of(message.get(name))) for name in TEXT_FIELDS)
            name, text = next(((name, words) for name, words in plain if words), (None, ""))
            field = field or name
        if field is not None:
            yield ThinkingDelta(index=_KEY, text=text, field=field)

    def close(self) -> Iterator[ThinkingDelta]:
        """The message has ended: its structured thinking is whole."""
        details = self._verbatim or [detail.result() for detail in self._details]
        if details:
            signatures = (text_of(object_of(detail).get("signature")) for detail in reversed(details))
            signature = next((words for words in signatures if words), None)
            yield ThinkingDelta(index=_KEY, signature=signature, field=DETAILS_FIELD, opaque=dumps(details))

    def _grow(self, item: object) -> None:
        members = object_of(item)
        # Some routes send text and its encrypted form under one index: the type tells them apart.
        key: object = (text_of(members.get("type")), members.get("index")) if members else len(self._details)
        detail, known = self._open.get(key, (None, ""))
        own = text_of(members.get("id"))
        if detail is None or (own and known and own != known):
            detail, known = Growing(), ""
            self._details.append(detail)
        self._open[key] = (detail, own or known)
        detail.grow(item)
