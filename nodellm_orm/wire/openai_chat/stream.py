"""One streamed response to events: server-sent events whose data is a chunk, ``[DONE]`` last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.framing import SseDecoder
from nodellm_orm.wire.openai import failure
from nodellm_orm.wire.openai_chat.parse import error_in, parse
from nodellm_orm.wire.openai_chat.reader import AnswerReader
from nodellm_orm.wire.streams import CUT, AnswerStream
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.framing import ServerEvent

_DONE: Final = "[DONE]"
_ERROR: Final = "error"
"""Name of an event that is an error; other events have no name."""
_COMPLETE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALL})


class ChatStream(AnswerStream["ServerEvent"]):
    """Reads one streamed response; see `AnswerStream`."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its terminal marker is an interrupted one, and whether thinking may
                stand in the text.
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
        if not data:
            return
        if data == _DONE:
            yield from self._end()
            return
        if event.cut and _DONE.startswith(data) and self._reader.finish is not None:
            return
        try:
            members = _members(data)
            yield from self._chunk(members, event.name)
        except JsonTextError as error:
            if event.cut:
                raise StreamInterruptedError(CUT) from error
            if event.name == _ERROR:
                raise failure(None, {}, encode(data)) from error
            msg = f"an event of the stream is not a JSON object ({error}); check any proxy in between, or ask again"
            raise ProtocolError(msg) from error

    def _chunk(self, members: dict[str, object], name: str | None) -> Iterator[Event]:
        error = failure(None, {}, encode(dumps(members))) if name == _ERROR else error_in(members)
        if error is None:
            yield from self._reader.read(members, whole=False)
        elif self._reader.finish in _COMPLETE:
            # The answer is all there: what fails after it costs nothing but, at worst, the usage.
            yield from self._reader.read({"usage": members.get("usage")}, whole=False)
            yield from self._end()
        else:
            yield from self._reader.read(members, whole=False)
            raise error

    def _end(self) -> Iterator[Event]:
        self.done = True
        if not self._reader.begun:
            msg = "the stream ended without an answer in it; ask again, and check base_url when it happens again"
            raise ProtocolError(msg)
        yield from self._reader.close()


def _members(data: str) -> dict[str, object]:
    value = loads_verbatim(data)
    if not isinstance(value, Pairs):
        msg = f"it is {data[:20]!r}"
        raise JsonTextError(msg)
    return object_of(value)
