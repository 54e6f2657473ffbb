"""Whoever reads a turn as it runs: what happens in it, as chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.events import PartReceived, RefusalDelta, TextDelta, ThinkingDelta
from nodellm_orm.domain.parts import TextPart, ThinkingPart
from nodellm_orm.domain.replies import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm.domain.events import Event, PartKey
    from nodellm_orm.domain.replies import ToolCall, ToolResult

    Emit = Callable[[Chunk], bool]
    """Hands a chunk on; says whether there is somebody to whom."""


class Consumer:
    """Is told of an answer as it arrives, and of calls and their results.

    Args:
        emit: hands a chunk to him; says whether there is one.
    """

    def __init__(self, emit: Emit) -> None:
        """Nothing was told yet."""
        self._emit = emit
        self._heard: set[PartKey] = set()

    def expect_answer(self) -> None:
        """The next events are those of another answer."""
        self._heard.clear()

    def arrived(self, event: Event) -> bool:
        """Tell what an event says that was not told yet; whether anything was, and to somebody.

        Args:
            event: of the answer.
        """
        match event:
            case TextDelta(index=index, text=text) | RefusalDelta(index=index, text=text) if text:
                self._heard.add(index)
                return self._emit(Chunk(content=text))
            case ThinkingDelta(index=index, text=text) if text:
                self._heard.add(index)
                return self._emit(Chunk(thinking=text))
            # The final form of a part that came in pieces says nothing new.
            case PartReceived(index=index, part=TextPart(text=text)) if text and index not in self._heard:
                return self._emit(Chunk(content=text))
            case PartReceived(index=index, part=ThinkingPart(text=text)) if text and index not in self._heard:
                return self._emit(Chunk(thinking=text))
            case _:
                return False

    def called(self, call: ToolCall) -> None:
        """Tell of a call of the model."""
        self._emit(Chunk(tool_call=call))

    def answered(self, result: ToolResult) -> None:
        """Tell what a call came to."""
        self._emit(Chunk(tool_result=result))
