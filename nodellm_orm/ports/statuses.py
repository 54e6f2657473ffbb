"""How turns, calls and attempts stand, in the words of their rows."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

TurnStatus: TypeAlias = Literal["running", "suspended", "completed", "failed", "cancelled"]
CallStatus: TypeAlias = Literal[
    "pending", "awaiting_approval", "running", "succeeded", "failed", "denied", "skipped", "halted", "unknown"
]
AttemptStatus: TypeAlias = Literal["started", "ok", "failed", "cancelled", "unknown"]
OPEN_CALLS: Final[frozenset[CallStatus]] = frozenset({"pending", "awaiting_approval", "running", "unknown"})
RELEASED: Final = "released"
"""Reason of a running turn whose worker has let go of it: taking it over says nothing against it."""
EXHAUSTED: Final = "TakeoverLimit"
"""Error type of a turn that has failed because it was taken over too often."""
