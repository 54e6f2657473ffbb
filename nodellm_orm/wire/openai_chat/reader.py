"""One answer, whole or chunk by chunk, to events: a body is read as a stream of a single chunk.

That is why the events of a stream fold into what the body would have given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import Finished, RefusalDelta, ResponseStarted, TextDelta, UsageReported
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.wire.openai_chat.calls import CallReader
from nodellm_orm.wire.openai_chat.content import REFUSAL_KEY, ContentReader
from nodellm_orm.wire.openai_chat.growth import Growing
from nodellm_orm.wire.openai_chat.pictures import PICTURES_FIELD, pictures
from nodellm_orm.wire.openai_chat.reasoning import DETAILS_FIELD, TEXT_FIELDS, ReasoningReader
from nodellm_orm.wire.openai_chat.usage import usage_of
from nodellm_orm.wire.values import count_of, list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile

_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALL,
    "tool_call": FinishReason.TOOL_CALL,
    "function_call": FinishReason.TOOL_CALL,
    "content_filter": FinishReason.CONTENT_FILTER,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
    "error": FinishReason.ERROR,
    "insufficient_system_resource": FinishReason.ERROR,
    "network_error": FinishReason.ERROR,
}
_READ: Final = frozenset(
    {"role", "name", "content", "refusal", "tool_calls", "function_call", PICTURES_FIELD, DETAILS_FIELD, *TEXT_FIELDS}
)
_SOURCES: Final = ("citations", "search_results")
"""Members beside the choices that say where the text comes from (xAI, Perplexity), each time all of them."""


class AnswerReader:
    """Reads the first choice of one response."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether thinking may stand between tags in the text.
        """
        self._content = ContentReader(think_tags=profile.think_tags)
        self._reasoning = ReasoningReader()
        self._calls = CallReader()
        self._extra: dict[str, Growing] = {}
        self._sources: dict[str, object] = {}
        self._started = ResponseStarted()
        self._answered = False
        self.begun = False
        """Whether a choice has arrived."""
        self.finish: FinishReason | None = None
        """Why the model stopped, once it has said so."""

    def read(self, members: Mapping[str, object], *, whole: bool) -> Iterator[Event]:
        """The events of a chunk, or of a whole body.

        Args:
            members: the chunk or body, parsed verbatim.
            whole: it is a whole body.
        """
        started = ResponseStarted(
            model=text_of(members.get("model")) or None, response_id=text_of(members.get("id")) or None
        )
        if started not in {self._started, ResponseStarted()}:
            self._started = started
            yield started
        choice = first_choice(members)
        if choice is not None:
            self.begun = True
            yield from self._choice(choice, whole=whole)
        self._sources |= {name: members[name] for name in _SOURCES if not says_nothing(members.get(name))}
        usage = usage_of(members.get("usage"))
        if usage is not None:
            yield UsageReported(usage=usage)

    def close(self) -> Iterator[Event]:
        """The answer has ended."""
        yield from self._content.close()
        yield from self._reasoning.close()
        yield from self._calls.close(cut=self.finish is FinishReason.LENGTH)
        extra = {name: grown.result() for name, grown in self._extra.items()} | self._sources
        if extra:
            yield TextDelta(index=self._content.text_key, extra=dumps(extra))
        if self.finish is None:
            yield Finished(reason=FinishReason.STOP if self._answered else FinishReason.UNKNOWN)

    def _choice(self, choice: Mapping[str, object], *, whole: bool) -> Iterator[Event]:
        names = ("message", "delta") if whole else ("delta", "message")
        message = next((found for name in names if (found := object_of(choice.get(name)))), {})
        if whole or "delta" in choice or not self._answered:
            # A stream may end with the whole message once more.
            for event in self._message(message, whole=whole):
                self._answered = True
                yield event
        raw = text_of(choice.get("finish_reason"))
        if raw:
            self.finish = _REASONS.get(raw.lower(), FinishReason.UNKNOWN)
            yield Finished(reason=self.finish, raw=raw)

    def _message(self, message: Mapping[str, object], *, whole: bool) -> Iterator[Event]:
        for thought in self._reasoning.read(message, whole=whole):
            yield from self._content.without_tags()
            yield thought
        yield from self._content.read(message.get("content"), whole=whole)
        refusal = text_of(message.get("refusal"))
        if refusal:
            yield RefusalDelta(index=REFUSAL_KEY, text=refusal)
        calls = list_of(message.get("tool_calls"))
        if not calls and isinstance(message.get("function_call"), Pairs):
            calls = [message["function_call"]]
        yield from self._calls.read(calls, whole=whole)
        unread: list[object] = []
        yield from pictures(list_of(message.get(PICTURES_FIELD)), unread)
        beyond = {name: value for name, value in message.items() if name not in _READ}
        for name, value in {**beyond, PICTURES_FIELD: unread}.items():
            if not says_nothing(value):
                self._extra.setdefault(name, Growing()).grow(value)


def first_choice(members: Mapping[str, object]) -> dict[str, object] | None:
    """The choice with index 0, or without one.

    Args:
        members: of a chunk or body.
    """
    choices = (object_of(choice) for choice in list_of(members.get("choices")))
    return next((choice for choice in choices if choice and count_of(choice.get("index")) in {0, None}), None)
