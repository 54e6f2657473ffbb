"""Moments and days as callers give them for limits in time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import tzinfo


def moment_of(name: str, value: object, zone: tzinfo) -> datetime | None:
    """A limit in time as a moment in UTC; a date is its first moment in the zone.

    Args:
        name: the argument.
        value: as given.
        zone: whose days are meant.

    Raises:
        ConfigurationError: it is neither a date nor a datetime with its zone.
    """
    match value:
        case None:
            return None
        case datetime() if value.utcoffset() is None:
            msg = f"{name} names no time zone; give an aware datetime such as datetime.now(UTC), or a date"
            raise ConfigurationError(msg)
        case datetime():
            moment = value
        case date():
            moment = datetime(value.year, value.month, value.day, tzinfo=zone)
        case _:
            msg = f"{name} is an aware datetime or a date, not {type(value).__name__}"
            raise ConfigurationError(msg)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        msg = f"{name} lies outside of the calendar; leave it out where there is no limit"
        raise ConfigurationError(msg) from None
