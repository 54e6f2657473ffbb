"""One answer, whole or event by event, to events: the items of a body are items that come whole.

That is why the events of a stream fold into what the body would have given.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.openai import failure
from nodellm_orm.wire.openai_responses.growing import Item
from nodellm_orm.wire.openai_responses.received import (
    CALL,
    COMPLETED,
    CUSTOM,
    INCOMPLETE,
    MESSAGE,
    REASONING,
    said_beside,
)
from nodellm_orm.wire.openai_responses.usage import reason_of, usage_of
from nodellm_orm.wire.values import count_of, list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event

_STRINGS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "response.function_call_arguments": (CALL, "arguments"),
        "response.custom_tool_call_input": (CUSTOM, "input"),
        "response.mcp_call_arguments": ("mcp_call", "arguments"),
        "response.code_interpreter_call_code": ("code_interpreter_call", "code"),
    }
)
"""Events about a member that grows: the item's type and the member's name."""
_THINKING: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "response.reasoning_summary_text": ("summary_text", "summary_index"),
        "response.reasoning_text": ("reasoning_text", "content_index"),
    }
)
"""Events about thinking: the type of the piece, and the member that says which piece it is."""
_CONTENT: Final = frozenset({"output_text", "refusal"})
_NOT_YET: Final = frozenset({"queued", "in_progress"})
_FAILED: Final = "failed"


class AnswerReader:
    """Reads one response."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._items: list[Item] = []
        self._by_index: dict[int, Item] = {}
        self._by_id: dict[str, Item] = {}
        self._started = ResponseStarted()

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has arrived."""
        return bool(self._items) or self._started != ResponseStarted()

    def start(self, response: Mapping[str, object]) -> Iterator[Event]:
        """What a response says of itself.

        Args:
            response: its members.
        """
        started = ResponseStarted(
            model=text_of(response.get("model")) or None, response_id=text_of(response.get("id")) or None
        )
        if started not in {self._started, ResponseStarted()}:
            self._started = started
            yield started

    def read(self, kind: str, event: Mapping[str, object]) -> Iterator[Event]:
        """An event about an item; any other says nothing here.

        Args:
            kind: its type.
            event: its members, parsed verbatim.
        """
        subject, _, step = kind.rpartition(".")
        match subject, step:
            case "response.output_item", "added" | "done":
                yield from self._whole(step, event)
            case _ if subject in _STRINGS:
                yield from self._string(subject, step, event)
            case _ if subject in _THINKING:
                yield from self._thinking(subject, step, event)
            case (("response.output_text" | "response.refusal" | "response.output_text.annotation"), _):
                yield from self._content(subject, step, event)
            case _:
                pass

    def end(self, response: Mapping[str, object], status: str | None = None) -> Iterator[Event]:
        """The whole response, in a body or at the end of a stream; fills what the stream has not said.

        Args:
            response: its members.
            status: where the response itself does not say it.

        Raises:
            ProviderError: the response failed.
            ProtocolError: it is still being made.
        """
        status = text_of(response.get("status")) or status or COMPLETED
        yield from self.start(response)
        yield from self._filled([object_of(item) for item in list_of(response.get("output"))])
        yield from self.close()
        if status == INCOMPLETE and self._items:
            yield from self._items[-1].cut()
        usage = usage_of(response)
        if usage is not None:
            yield UsageReported(usage=usage)
        if status == _FAILED:
            raise failure(None, {}, encode(dumps({"error": response.get("error")})))
        if status in _NOT_YET:
            msg = (
                f"the answer is not there yet: the provider makes it in the background (status {status}, id "
                f"{self._started.response_id}); leave background out of params, or ask for it as a stream"
            )
            raise ProtocolError(msg, retryable=False)
        beside = said_beside(response)
        if beside is not None:
            yield PartReceived(index="beside", part=beside)
        reason, raw = reason_of(response, status)
        yield Finished(reason=reason, raw=raw)

    def close(self) -> Iterator[Event]:
        """Items that have not ended are as complete as they will be."""
        for item in self._items:
            yield from self._ended(item, {})

    def cut_short(self) -> Iterator[Event]:
        """The stream is over without saying so."""
        open_items = [item for item in self._items if not item.ended]
        yield from self.close()
        for item in open_items:
            yield from item.cut()
        yield Finished(reason=FinishReason.STOP if self._items else FinishReason.UNKNOWN)

    def _filled(self, output: list[dict[str, object]]) -> Iterator[Event]:
        """The items of a whole response: those that the stream has not ended end here, missing ones are added."""
        ids = {text_of(members.get("id")) for members in output}
        unnamed = [item for item in self._items if not item.wire_id or item.wire_id not in ids]
        filled: list[Item] = []
        for members in output:
            kind, wire_id = text_of(members.get("type")), text_of(members.get("id"))
            item = self._by_id.get(wire_id)
            if item is None or item in filled:
                # OpenRouter gives an item another id in the end: it is the next one of its kind.
                item = next((found for found in unnamed if found.kind == kind and found not in filled), None)
            if item is None:
                item = self._new(kind, None, wire_id)
                yield from item.begin(members)
            filled.append(item)
            yield from self._ended(item, members)

    def _whole(self, step: str, event: Mapping[str, object]) -> Iterator[Event]:
        members = object_of(event.get("item"))
        item, begun = self._about(event, text_of(members.get("type")), members, anew=step == "added")
        yield from begun
        if step == "done":
            yield from self._ended(item, members)
        elif not begun:
            item.learn(members)

    def _ended(self, item: Item, members: Mapping[str, object]) -> Iterator[Event]:
        if not item.ended:
            yield from item.end(members)

    def _string(self, subject: str, step: str, event: Mapping[str, object]) -> Iterator[Event]:
        kind, name = _STRINGS[subject]
        item, begun = self._about(event, kind)
        yield from begun
        if step == "delta" and not item.ended:
            yield from item.add_string(name, text_of(event.get("delta")))
        elif step == "done":
            item.settle_string(name, text_of(event.get(name)))

    def _thinking(self, subject: str, step: str, event: Mapping[str, object]) -> Iterator[Event]:
        kind, place = _THINKING[subject]
        index = count_of(event.get(place)) or 0
        item, begun = self._about(event, REASONING)
        yield from begun
        if step == "delta" and not item.ended:
            yield from item.add_thinking(kind, index, text_of(event.get("delta")))
        elif step == "done":
            item.settle_text(kind, index, text_of(event.get("text")))

    def _content(self, subject: str, step: str, event: Mapping[str, object]) -> Iterator[Event]:
        index = count_of(event.get("content_index")) or 0
        item, begun = self._about(event, MESSAGE)
        yield from begun
        item.place(index)
        refuses = subject == "response.refusal"
        match step:
            case "delta" if not item.ended:
                add = item.add_refusal if refuses else item.add_text
                yield from add(index, text_of(event.get("delta")))
            case "done" if refuses:
                item.settle_text("refusal", index, text_of(event.get("refusal")))
            case "done":
                item.settle_text("output_text", index, text_of(event.get("text")))
            case "added" if "annotation" in event:
                item.annotate(index, event["annotation"])
            case _:
                pass

    def _about(
        self,
        event: Mapping[str, object],
        kind: str,
        members: Mapping[str, object] | None = None,
        *,
        anew: bool = False,
    ) -> tuple[Item, list[Event]]:
        """The item that an event is about, and the events that begin it where nothing was heard of it before.

        Args:
            event: its members.
            kind: the item's type.
            members: of the item, where the event has it.
            anew: the event begins an item.
        """
        index = count_of(event.get("output_index"))
        wire_id = text_of((members or {}).get("id")) or text_of(event.get("item_id"))
        item = self._find(index, wire_id, kind, anew=anew)
        if item is not None:
            return item, []
        item = self._new(kind, index, wire_id)
        return item, list(item.begin(members if members is not None else {"id": wire_id} if wire_id else {}))

    def _find(self, index: int | None, wire_id: str, kind: str, *, anew: bool) -> Item | None:
        """Some servers send no ``output_index``, some no ids, and some give every item the same index."""
        item = self._by_id.get(wire_id) if wire_id else None
        if item is not None:
            return item
        if index is not None:
            item = self._by_index.get(index)
            other = item is not None and anew and (item.ended or (wire_id and item.wire_id not in {"", wire_id}))
            return item if item is not None and item.kind == kind and not other else None
        if wire_id or anew:
            return None
        return next((found for found in reversed(self._items) if found.kind == kind and not found.ended), None)

    def _new(self, kind: str, index: int | None, wire_id: str) -> Item:
        item = Item(number=len(self._items), kind=kind)
        self._items.append(item)
        if index is not None:
            self._by_index[index] = item
        if wire_id:
            self._by_id[wire_id] = item
        return item
