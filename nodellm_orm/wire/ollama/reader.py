"""One answer, whole or chunk by chunk, to events: a body is read as a stream of a single chunk."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.events import (
    Finished,
    PartReceived,
    ResponseStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.mediatypes import type_of
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import MediaPart, ThinkingPart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.tags import TagSplitter
from nodellm_orm.wire.values import count_of, list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.tags import Split

THINKING: Final = "thinking"
"""Where thinking stands in a message, and how it is marked."""
FUNCTION: Final = "function"
_TAGS: Final = "tags"
_REASONS: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    # The model was loaded or unloaded, and nothing was asked of it.
    "load": FinishReason.ERROR,
    "unload": FinishReason.ERROR,
}


class AnswerReader:
    """Reads one response."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether thinking may stand between tags in the text.
        """
        self._splitter = TagSplitter() if profile.think_tags else None
        self._texts = 0
        self._images = 0
        self._calls = 0
        self._started = ResponseStarted()
        self._answered = False
        self.begun = False
        """Whether a message has arrived, or word that there is none."""
        self.done = False
        """Whether the last chunk has come."""

    def read(self, members: Mapping[str, object]) -> Iterator[Event]:
        """The events of a chunk, or of a whole body.

        Args:
            members: parsed verbatim.
        """
        started = ResponseStarted(model=text_of(members.get("model")) or None)
        if started not in {self._started, ResponseStarted()}:
            self._started = started
            yield started
        message = members.get("message")
        if isinstance(message, Pairs):
            self.begun = True
            for event in self._message(object_of(message)):
                self._answered = True
                yield event
        if members.get("done") is True:
            self.begun = self.done = True
            yield from self._end(members)

    def close(self) -> Iterator[Event]:
        """The answer has ended, perhaps without saying so."""
        if not self.done:
            yield from self._end({})

    def _message(self, message: Mapping[str, object]) -> Iterator[Event]:
        if thought := text_of(message.get(THINKING)):
            yield from self._without_tags()
            yield ThinkingDelta(index=THINKING, text=thought, field=THINKING)
        if text := text_of(message.get("content")):
            split: Iterable[Split] = [("text", text)] if self._splitter is None else self._splitter.feed(text)
            yield from self._sorted(split)
        for item in list_of(message.get("images")):
            yield from self._image(text_of(item))
        for item in list_of(message.get("tool_calls")):
            yield from self._call(object_of(item))

    def _without_tags(self) -> Iterator[Event]:
        """Thinking has been found elsewhere, or the answer has ended: what is left in the text is text."""
        if self._splitter is not None:
            splitter, self._splitter = self._splitter, None
            yield from self._sorted(splitter.close())

    def _sorted(self, split: Iterable[Split]) -> Iterator[Event]:
        for kind, text in split:
            key = f"text:{self._texts}"
            match kind:
                case "text":
                    yield TextDelta(index=key, text=text)
                case "thinking":
                    yield ThinkingDelta(index=_TAGS, text=text)
                case "all_was_thinking":
                    if text:
                        yield PartReceived(index=key, part=ThinkingPart(text=text))
                    self._texts += 1
                case _:
                    assert_never(kind)

    def _image(self, packed: str) -> Iterator[Event]:
        try:
            data = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            return
        if data:
            part = MediaPart(media="image", media_type=type_of(data) or "image/png", data=data)
            yield PartReceived(index=f"image:{self._images}", part=part)
            self._images += 1

    def _call(self, members: dict[str, object]) -> Iterator[Event]:
        """A call, which always comes whole; versions that give it no id are many."""
        function = object_of(members.get(FUNCTION))
        name, wire_id = text_of(function.get("name")), text_of(members.get("id"))
        if not name:
            return
        extra = _beyond(members, "id", "type", FUNCTION)
        if beyond := _beyond(function, "index", "name", "arguments"):
            extra[FUNCTION] = beyond
        yield ToolCallDelta(
            index=f"call:{self._calls}",
            wire_id=wire_id or None,
            name=name,
            arguments=_arguments(function.get("arguments")),
            extra=dumps(extra) if extra else None,
        )
        self._calls += 1

    def _end(self, members: Mapping[str, object]) -> Iterator[Event]:
        for event in self._without_tags():
            self._answered = True
            yield event
        usage = Usage(
            input_tokens=count_of(members.get("prompt_eval_count")), output_tokens=count_of(members.get("eval_count"))
        )
        if usage != Usage():
            yield UsageReported(usage=usage)
        raw = text_of(members.get("done_reason"))
        unsaid = FinishReason.STOP if self._answered else FinishReason.UNKNOWN
        yield Finished(reason=_REASONS.get(raw, FinishReason.UNKNOWN) if raw else unsaid, raw=raw or None)


def _beyond(members: Mapping[str, object], *known: str) -> dict[str, object]:
    return {name: value for name, value in members.items() if name not in known and not says_nothing(value)}


def _arguments(value: object) -> str:
    """An object, or a string that should hold one."""
    return value if isinstance(value, str) else "" if value is None else dumps(value)
