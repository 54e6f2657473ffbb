"""Which limit passes first: arithmetic on times that the test makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.transport.limits import Limits

if TYPE_CHECKING:
    from nodellm_orm.transport.limits import Limit

TIMEOUT = Timeout(connect=5, first_byte=60, idle=30, total=600)


def at(limit: Limit | None) -> tuple[str, float] | None:
    """Name and time of a limit."""
    return (limit.name, limit.at) if limit else None


@pytest.mark.parametrize("stream", [False, True])
def test_connecting_is_limited_from_its_own_beginning(*, stream: bool) -> None:
    """Time spent in the pool's queue does not count as connecting."""
    limits = Limits(TIMEOUT, stream=stream, now=100)
    limits.connecting(107)
    assert at(limits.nearest(108)) == ("connect", 112)


def test_first_byte_counts_from_sending() -> None:
    """A slow connection does not eat into the time for the first byte."""
    limits = Limits(TIMEOUT, stream=True, now=100)
    assert at(limits.nearest(100)) == ("first_byte", 160)
    limits.connecting(101)
    limits.sending(105)
    assert at(limits.nearest(110)) == ("first_byte", 165)


def test_unstreamed_call_has_a_total_only() -> None:
    """No silence is too long for an unstreamed call within its total."""
    limits = Limits(TIMEOUT, stream=False, now=100)
    limits.sending(101)
    limits.body_began()
    limits.waited(500)
    assert at(limits.nearest(650)) == ("total", 700)


def test_idle_adds_up_waiting_until_content_comes() -> None:
    """Waits without content add up, whatever lies between them; content starts afresh."""
    limits = Limits(TIMEOUT, stream=True, now=0)
    limits.waited(20)
    limits.body_began()
    assert at(limits.nearest(20)) == ("idle", 50)
    limits.waited(10)
    limits.waited(15)
    assert at(limits.nearest(100)) == ("idle", 105)
    limits.content()
    assert at(limits.nearest(100)) == ("idle", 130)


def test_total_ends_everything() -> None:
    """Content or not, an attempt is over when its total is."""
    limits = Limits(TIMEOUT, stream=True, now=0)
    limits.body_began()
    assert at(limits.nearest(590)) == ("total", 600)
    assert limits.passed(599.9) is None
    assert at(limits.passed(600)) == ("total", 600)


def test_none_is_no_limit() -> None:
    """Without limits nothing ever passes."""
    limits = Limits(Timeout(connect=None, first_byte=None, idle=None, total=None), stream=True, now=0)
    limits.connecting(0)
    assert limits.nearest(1e9) is None
    limits.sending(0)
    limits.body_began()
    assert limits.passed(1e9) is None
