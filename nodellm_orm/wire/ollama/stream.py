"""One streamed response to events: a JSON object a line, the one that says ``done`` last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.ndjson import NdjsonDecoder
from nodellm_orm.wire.ollama.parse import error_in, members_of
from nodellm_orm.wire.ollama.reader import AnswerReader
from nodellm_orm.wire.streams import CUT, AnswerStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.ndjson import JsonLine


class OllamaStream(AnswerStream["JsonLine"]):
    """Reads one streamed response; see `AnswerStream`."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its last line is an interrupted one, and whether thinking may stand
                in the text.
        """
        super().__init__(NdjsonDecoder())
        self._requires_finish = profile.requires_finish
        self._reader = AnswerReader(profile)

    def _ended(self) -> Iterator[Event]:
        if self._requires_finish or not self._reader.begun:
            raise StreamInterruptedError(CUT)
        yield from self._reader.close()

    def _read(self, line: JsonLine) -> Iterator[Event]:
        try:
            value = loads_verbatim(line.text)
        except JsonTextError as error:
            if line.cut and not line.text.startswith("<"):
                raise StreamInterruptedError(CUT) from error
            shape = "an HTML page" if line.text.startswith("<") else f"not JSON ({error})"
            msg = f"a line of the stream is {shape}; check base_url and any proxy in between, or ask again"
            raise ProtocolError(msg) from error
        members = members_of(value)
        if (fault := error_in(members)) is not None:
            raise fault
        yield from self._reader.read(members)
        self.done = self._reader.done
