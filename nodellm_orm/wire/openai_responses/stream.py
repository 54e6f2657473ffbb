"""One streamed response to events: server-sent events, each of whose data says by its ``type`` what it is.

A terminal event holds the whole response. The word ``[DONE]``, which some servers add, says nothing here.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.framing import SseDecoder
from nodellm_orm.wire.openai import failure
from nodellm_orm.wire.openai_responses.parse import error_in, parse
from nodellm_orm.wire.openai_responses.reader import AnswerReader
from nodellm_orm.wire.streams import CUT, AnswerStream
from nodellm_orm.wire.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.framing import ServerEvent

_DONE: Final = "[DONE]"
_ERROR: Final = "error"
_OURS: Final = "response."
"""How the names of all other events begin."""
_STARTS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS: Final[Mapping[str, str]] = MappingProxyType(
    {f"response.{status}": status for status in ("completed", "incomplete", "failed", "cancelled")}
)


class ResponsesStream(AnswerStream["ServerEvent"]):
    """Reads one streamed response; see `AnswerStream`."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its terminal event is an interrupted one.
        """
        super().__init__(SseDecoder(), document=parse)
        self._requires_finish = profile.requires_finish
        self._reader = AnswerReader()

    def _ended(self) -> Iterator[Event]:
        if self._requires_finish or not self._reader.begun:
            raise StreamInterruptedError(CUT)
        yield from self._reader.cut_short()

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        data = event.data.strip()
        if not data or data == _DONE:
            return
        try:
            members = _members(data)
        except JsonTextError as error:
            if event.cut:
                raise StreamInterruptedError(CUT) from error
            if event.name == _ERROR:
                raise failure(None, {}, encode(data)) from error
            if event.name is not None and not event.name.startswith(_OURS):
                return
            msg = f"an event of the stream is not a JSON object ({error}); check any proxy in between, or ask again"
            raise ProtocolError(msg) from error
        yield from self._event(text_of(members.get("type")) or event.name or "", members)

    def _event(self, kind: str, members: Mapping[str, object]) -> Iterator[Event]:
        if kind == _ERROR or not kind.startswith(_OURS):
            error = error_in({**members, "type": _ERROR} if kind == _ERROR else members)
            if error is not None:
                raise error
        elif kind in _ENDS:
            self.done = True
            response = object_of(members.get("response"))
            if not response and not self._reader.begun:
                msg = "the stream ended without an answer in it; ask again, and check base_url when it happens again"
                raise ProtocolError(msg)
            yield from self._reader.end(response, _ENDS[kind])
        elif kind in _STARTS:
            yield from self._reader.start(object_of(members.get("response")))
        else:
            yield from self._reader.read(kind, members)


def _members(data: str) -> dict[str, object]:
    value = loads_verbatim(data)
    if not isinstance(value, Pairs):
        msg = f"it is {data[:20]!r}"
        raise JsonTextError(msg)
    return object_of(value)
