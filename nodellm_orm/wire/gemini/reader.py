"""One answer, whole or chunk by chunk, to events: a body is read as a stream of a single chunk.

Text that goes on is joined to what came before it, thoughts to thoughts and words to words; a part with a signature, or
with anything else of its own, is never joined to another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import (
    Finished,
    PartReceived,
    RefusalDelta,
    ResponseStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.gemini.received import CALL, SIGNATURE, beyond, call_of, whole_part
from nodellm_orm.wire.gemini.usage import reason_of, usage_of
from nodellm_orm.wire.values import count_of, list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile

SOURCES: Final = ("citationMetadata", "groundingMetadata", "urlContextMetadata")
"""Members of a candidate that say where its text comes from; kept with the text, and not sent back."""
_THOUGHT: Final = "thought"
_REFUSAL: Final = "refusal"


class AnswerReader:
    """Reads the first candidate of one response."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says how web searches are counted.
        """
        self._by_prompt = profile.searches_by_prompt
        self._parts = 0
        self._open: str | None = None
        self._text = ("text:0", dict[str, object]())
        self._sources: dict[str, object] = {}
        self._started = ResponseStarted()
        self._finished: Finished | None = None
        self.begun = False
        """Whether a candidate has arrived, or word that there will be none."""

    @property
    def finish(self) -> FinishReason | None:
        """Why the model stopped, once it has said so."""
        return None if self._finished is None else self._finished.reason

    def read(self, members: Mapping[str, object]) -> Iterator[Event]:
        """The events of a chunk, or of a whole body.

        Args:
            members: the chunk or body, parsed verbatim.
        """
        started = ResponseStarted(
            model=text_of(members.get("modelVersion")) or None, response_id=text_of(members.get("responseId")) or None
        )
        if started not in {self._started, ResponseStarted()}:
            self._started = started
            yield started
        candidate = first_candidate(members)
        if candidate is not None:
            self.begun = True
            yield from self._candidate(candidate)
        feedback = object_of(members.get("promptFeedback"))
        if blocked := text_of(feedback.get("blockReason")):
            self.begun = True
            yield from self._finish(FinishReason.CONTENT_FILTER, blocked, feedback.get("blockReasonMessage"))
        usage = usage_of(members.get("usageMetadata"))
        if usage is not None:
            yield UsageReported(usage=usage)

    def close(self) -> Iterator[Event]:
        """The answer has ended."""
        if self._sources:
            key, extra = self._text
            yield TextDelta(index=key, extra=dumps({**extra, **self._sources}))
            searches = self._searches()
            if searches:
                yield UsageReported(usage=Usage(other_tokens={"web_searches": searches}))
        if self._finished is None:
            yield Finished(reason=FinishReason.UNKNOWN)

    def _candidate(self, candidate: Mapping[str, object]) -> Iterator[Event]:
        for part in list_of(object_of(candidate.get("content")).get("parts")):
            members = object_of(part)
            if members:
                yield from self._part(part, members)
        self._sources |= {name: candidate[name] for name in SOURCES if not says_nothing(candidate.get(name))}
        if raw := text_of(candidate.get("finishReason")):
            yield from self._finish(reason_of(raw), raw, candidate.get("finishMessage"))

    def _part(self, value: object, members: Mapping[str, object]) -> Iterator[Event]:
        thought = members.get(_THOUGHT) is True
        if isinstance(members.get("text"), str):
            yield from self._thought(value, members) if thought else self._words(members)
        elif isinstance(members.get(CALL), Pairs):
            yield from self._called(members)
        elif not beyond(members, _THOUGHT, SIGNATURE):
            # A signature on nothing at all is refused when it is sent back.
            if thought:
                yield from self._thought(value, members)
        else:
            yield PartReceived(index=self._begin(None, "part"), part=whole_part(value, members))

    def _words(self, members: Mapping[str, object]) -> Iterator[Event]:
        text, extra = text_of(members["text"]), beyond(members, "text", _THOUGHT)
        if extra:
            key = self._begin(None, "text")
            yield TextDelta(index=key, text=text, extra=dumps(extra))
        elif text:
            key = self._goes_on("text")
            yield TextDelta(index=key, text=text)
        else:
            return
        if text:
            self._text = (key, extra)

    def _thought(self, value: object, members: Mapping[str, object]) -> Iterator[Event]:
        text, signature = text_of(members.get("text")), text_of(members.get(SIGNATURE)) or None
        more = beyond(members, "text", _THOUGHT, SIGNATURE)
        if signature is not None or more:
            key = self._begin(None, "thinking")
            yield ThinkingDelta(index=key, text=text, signature=signature, opaque=dumps(value) if more else None)
        elif text:
            yield ThinkingDelta(index=self._goes_on("thinking"), text=text)

    def _called(self, members: Mapping[str, object]) -> Iterator[Event]:
        part = call_of(members)
        if part.truncated:
            if part.name:
                yield PartReceived(index=self._begin("pieces", "call"), part=part)
        elif part.name or self._open != "pieces":
            yield ToolCallDelta(
                index=self._begin(None, "call"),
                wire_id=part.wire_id,
                name=part.name,
                arguments=part.arguments,
                extra=part.extra,
            )

    def _begin(self, kind: str | None, name: str) -> str:
        """The key of a new part; ``kind`` is what may go on with it."""
        self._parts += 1
        self._open = kind
        return f"{name}:{self._parts}"

    def _goes_on(self, kind: str) -> str:
        """The key of the part that is being written if it is of this kind, else of a new one."""
        return f"{kind}:{self._parts}" if self._open == kind else self._begin(kind, kind)

    def _finish(self, reason: FinishReason, raw: str, message: object) -> Iterator[Event]:
        finished = Finished(reason=reason, raw=raw)
        if finished == self._finished:
            return
        self._finished = finished
        if reason is FinishReason.CONTENT_FILTER and text_of(message):
            yield RefusalDelta(index=_REFUSAL, text=text_of(message))
        yield finished

    def _searches(self) -> int:
        """Web searches, as the provider charges them."""
        grounding = object_of(self._sources.get("groundingMetadata"))
        queries = {query for query in list_of(grounding.get("webSearchQueries")) if isinstance(query, str)}
        return min(len(queries), 1) if self._by_prompt else len(queries)


def first_candidate(members: Mapping[str, object]) -> dict[str, object] | None:
    """The candidate with index 0, or without one.

    Args:
        members: of a chunk or body.
    """
    candidates = (object_of(candidate) for candidate in list_of(members.get("candidates")))
    return next((found for found in candidates if found and count_of(found.get("index")) in {0, None}), None)
