"""Whose chats are meant: those of one owner, those without an owner, or all of them."""

from __future__ import annotations

from typing import Final, TypeAlias


class AnyOwner:
    """The type of `ANY_OWNER`."""

    def __repr__(self) -> str:
        """Its public name."""
        return "ANY_OWNER"


ANY_OWNER: Final = AnyOwner()
"""Said explicitly where chats of every owner are meant (command line, reports)."""
Owner: TypeAlias = str | AnyOwner | None
