"""Tool calls, whole or in fragments that may be interleaved, repeated, or without the index that tells them apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import PartReceived, ToolCallDelta
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, loads
from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.wire.values import count_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.jsontext import JsonText

CUSTOM: Final = "custom"
"""Kind of a call whose input is a text of any form, and the member that has it; servers' own tools are called so."""
_KNOWN = frozenset({"id", "type", "index", "function", "name", "arguments", CUSTOM})
_NOTHING: Final = "null"
"""What some models write for a call without arguments, and Mistral now and then for its id."""


@dataclass(slots=True, eq=False)
class _Call:
    key: str
    wire_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    custom: bool = False
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Whether the arguments are an object already, so that nothing can follow."""
        text = self.arguments
        try:
            return text.rstrip().endswith("}") and isinstance(loads(text), dict)
        except JsonTextError:
            return False

    @property
    def extra_text(self) -> JsonText | None:
        return dumps(self.extra) if self.extra else None


class CallReader:
    """Reads the tool calls of one answer."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def read(self, items: list[object], *, whole: bool) -> Iterator[Event]:
        """The calls in a message, or the fragments of calls in a fragment of one.

        Args:
            items: the member ``tool_calls``, parsed verbatim.
            whole: every item is a call of its own, whatever ids and indexes say.
        """
        touched: list[_Call] = []
        for item in items:
            members = object_of(item)
            if members:
                call = self._new() if whole else self._called(members, touched)
                touched.append(call)
                yield self._extended(call, members)

    def close(self, *, cut: bool = False) -> Iterator[Event]:
        """The message has ended.

        Args:
            cut: at its greatest length; whether a custom call is then whole, its input cannot tell.
        """
        for call in self._calls:
            meant = _as_arguments(call) if call.custom else _meant(call.arguments)
            if meant is not None:
                part = ToolCallPart(
                    call_id=call.wire_id,
                    wire_id=call.wire_id or None,
                    name=call.name,
                    arguments=meant,
                    truncated=cut and call.custom and call is self._calls[-1],
                    extra=call.extra_text,
                )
                yield PartReceived(index=call.key, part=part)

    def _new(self) -> _Call:
        call = _Call(key=f"call:{len(self._calls)}")
        self._calls.append(call)
        return call

    def _called(self, members: dict[str, object], touched: list[_Call]) -> _Call:
        """The call that a fragment belongs to."""
        index, wire_id, name = count_of(members.get("index")), _id(members), _name(members)
        if index is not None:
            call = self._by_index.get(index)
        else:
            named = (call for call in reversed(self._calls) if wire_id and call.wire_id == wire_id)
            call = next(named, None if wire_id or not self._calls else self._calls[-1])
        if call is None or _is_another(call, wire_id, name, again=call in touched):
            call = self._new()
        if index is not None:
            self._by_index[index] = call
        return call

    def _extended(self, call: _Call, members: dict[str, object]) -> ToolCallDelta:
        call.wire_id = call.wire_id or _id(members)
        call.name = _name(members) or call.name
        arguments = _arguments(members)
        if CUSTOM in members:
            call.custom = True
            call.pieces.append(text_of(_function(members).get("input")))
        elif arguments:
            call.pieces.append(arguments)
        extra = {k: v for k, v in members.items() if k not in _KNOWN and not says_nothing(v)}
        call.extra |= extra
        return ToolCallDelta(
            index=call.key,
            wire_id=call.wire_id or None,
            name=call.name or None,
            arguments=arguments,
            extra=call.extra_text if extra else None,
        )


def _is_another(call: _Call, wire_id: str, name: str, *, again: bool) -> bool:
    """Whether a fragment begins a call of its own although its index, or the lack of one, points to this one."""
    if wire_id and call.wire_id:
        return wire_id != call.wire_id
    if not name or not call.name:
        return False
    # Without ids a name on its own says little: some servers repeat it on every fragment of one call.
    return name != call.name or again or call.whole


def _function(members: dict[str, object]) -> dict[str, object]:
    return object_of(members.get("function")) or object_of(members.get(CUSTOM)) or members


def _id(members: dict[str, object]) -> str:
    wire_id = text_of(members.get("id"))
    return "" if wire_id == _NOTHING else wire_id


def _name(members: dict[str, object]) -> str:
    return text_of(_function(members).get("name"))


def _arguments(members: dict[str, object]) -> str:
    arguments = _function(members).get("arguments")
    return dumps(arguments) if isinstance(arguments, Pairs) else text_of(arguments)


def _as_arguments(call: _Call) -> JsonText:
    """The input of a custom call as an object, kept as it came beside it."""
    given = {"input": call.arguments}
    call.extra[CUSTOM] = {"name": call.name, **given}
    return dumps(given)


def _meant(arguments: str) -> JsonText | None:
    """What is meant by arguments that are no object, where that is beyond doubt: none at all, or one written twice."""
    text = arguments.strip()
    if text == _NOTHING:
        return "{}"
    if not text.startswith('"'):
        return None
    try:
        inner = loads(text)
        return inner if isinstance(inner, str) and isinstance(loads(inner), dict) else None
    except JsonTextError:
        return None
