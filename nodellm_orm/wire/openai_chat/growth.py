"""Objects that a stream sends in fragments, put together to what an unstreamed body holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from nodellm_orm.domain.jsontext import Pairs
from nodellm_orm.wire.values import says_nothing

_WHOLE: Final = frozenset({"id", "type", "format", "signature", "object"})
"""Strings that are never cut into pieces: a later one takes the place of an earlier one."""


@dataclass(slots=True)
class Growing:
    """A JSON value that grows: strings and lists by their ends, objects member by member."""

    latest: object = None
    said: bool = False
    """Whether anything but null and emptiness has come."""
    pieces: list[str] = field(default_factory=list)
    items: list[object] = field(default_factory=list)
    members: dict[str, Growing] = field(default_factory=dict)

    def grow(self, fragment: object, *, whole: bool = False) -> None:
        """Take in a fragment.

        Args:
            fragment: what came, parsed verbatim; null and empty values change nothing that was there.
            whole: a string takes the place of what was there.
        """
        if says_nothing(fragment):
            if not self.said:
                self.latest = fragment
            return
        self.said, self.latest = True, fragment
        match fragment:
            case str():
                if whole:
                    self.pieces.clear()
                self.pieces.append(fragment)
            case Pairs():
                for name, item in fragment:
                    self.members.setdefault(name, Growing()).grow(item, whole=name in _WHOLE)
            case list():
                self.items += fragment
            case _:
                pass

    def result(self) -> object:
        """The value so far."""
        match self.latest:
            case str():
                return "".join(self.pieces)
            case Pairs():
                return Pairs((name, member.result()) for name, member in self.members.items())
            case list():
                return self.items
            case _:
                return self.latest
