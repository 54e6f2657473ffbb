"""Days and moments as they are typed."""

from datetime import date, datetime

from nodellm_orm.errors import ConfigurationError


def moment(option: str, text: str | None) -> datetime | date | None:
    """A day, or a moment with its offset.

    Args:
        option: how it was given, for the message.
        text: as typed.

    Raises:
        ConfigurationError: it is neither.

    Example:
        >>> moment("--since", "2026-03-01")
        datetime.date(2026, 3, 1)
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.utcoffset() is None:
        msg = (
            f"{option} {text[:40]!r} is neither a day nor a moment with its offset; write 2026-03-01, "
            "2026-03-01T12:00Z or 2026-03-01T12:00+01:00"
        )
        raise ConfigurationError(msg)
    return found
