"""The time limits of one attempt: which of them passes first, whatever the server does. Pure arithmetic, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from nodellm_orm.domain.policies import Timeout

LimitName: TypeAlias = Literal["connect", "first_byte", "idle", "total"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and when it passes."""

    name: LimitName
    seconds: float
    """As configured."""
    at: float
    """On the clock that the other times were read from."""


class Limits:
    """Follows one attempt and says how long it may still wait.

    ``idle`` counts the time spent *waiting for the server* since the last content, so neither a server that sends
    only pings nor one that drips single bytes can renew it, and a consumer that takes its time is not held against it.

    Args:
        timeout: the limits.
        stream: whether a stream was asked for; ``first_byte`` and ``idle`` hold for streams only.
        now: when the attempt begins.
    """

    def __init__(self, timeout: Timeout, *, stream: bool, now: float) -> None:
        """Begin the attempt."""
        self._timeout = timeout
        self._stream = stream
        self._began = now
        self._connecting: float | None = None
        self._sent = now
        self._body = False
        self._waited = 0.0

    def connecting(self, now: float) -> None:
        """A connection is being made."""
        self._connecting = now

    def sending(self, now: float) -> None:
        """The connection stands and the request goes out."""
        self._connecting = None
        self._sent = now

    def body_began(self) -> None:
        """The first byte of the body has come."""
        self._body = True

    def waited(self, seconds: float) -> None:
        """The consumer has waited for the server."""
        if self._body:
            self._waited += seconds

    def content(self) -> None:
        """The reader saw content."""
        self._waited = 0.0

    def nearest(self, now: float) -> Limit | None:
        """The limit that passes first when nothing happens from now on."""
        ends: list[tuple[LimitName, float | None, float]] = [("total", self._timeout.total, self._began)]
        if self._connecting is not None:
            ends.append(("connect", self._timeout.connect, self._connecting))
        elif self._stream and self._body:
            ends.append(("idle", self._timeout.idle, now - self._waited))
        elif self._stream:
            ends.append(("first_byte", self._timeout.first_byte, self._sent))
        limits = [Limit(name, seconds, since + seconds) for name, seconds, since in ends if seconds is not None]
        return min(limits, key=lambda limit: limit.at, default=None)

    def passed(self, now: float) -> Limit | None:
        """The limit that has passed already, if one has."""
        limit = self.nearest(now)
        return limit if limit is not None and limit.at <= now else None
