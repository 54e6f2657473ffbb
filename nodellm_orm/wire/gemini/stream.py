"""One streamed response to events: server-sent events without names, whose data is a chunk.

There is no terminal event: the answer is complete when its chunk with a reason to stop has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, loads_verbatim
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.framing import SseDecoder
from nodellm_orm.wire.gemini.parse import error_in, parse
from nodellm_orm.wire.gemini.reader import AnswerReader
from nodellm_orm.wire.streams import CUT, AnswerStream
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.framing import ServerEvent

_DONE: Final = "[DONE]"
"""Other protocols' last word, which some gateways add; it says nothing here."""
_COMPLETE: Final = frozenset({FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER})


class GeminiStream(AnswerStream["ServerEvent"]):
    """Reads one streamed response; see `AnswerStream`. A list of chunks in one document is read as well."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without a reason to stop is an interrupted one.
        """
        super().__init__(SseDecoder(), document=lambda body: parse(body, profile))
        self._requires_finish = profile.requires_finish
        self._reader = AnswerReader(profile)

    def _ended(self) -> Iterator[Event]:
        if not self._reader.begun or (self._reader.finish is None and self._requires_finish):
            raise StreamInterruptedError(CUT)
        yield from self._reader.close()

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        data = event.data.strip()
        if not data or data == _DONE:
            return
        try:
            yield from self._chunk(_members(data))
        except JsonTextError as error:
            if event.cut:
                if self._reader.finish is None:
                    raise StreamInterruptedError(CUT) from error
                return
            msg = f"an event of the stream is not a JSON object ({error}); check any proxy in between, or ask again"
            raise ProtocolError(msg) from error

    def _chunk(self, members: dict[str, object]) -> Iterator[Event]:
        error = error_in(members)
        if error is None:
            yield from self._reader.read(members)
        elif self._reader.finish in _COMPLETE:
            # The answer is all there: what fails after it costs nothing.
            self.done = True
            yield from self._reader.close()
        else:
            raise error


def _members(data: str) -> dict[str, object]:
    value = loads_verbatim(data)
    if not isinstance(value, Pairs):
        msg = f"it is {data[:20]!r}"
        raise JsonTextError(msg)
    return object_of(value)
