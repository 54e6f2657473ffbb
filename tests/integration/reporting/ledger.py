"""Ledgers with all oddities, and what a report over them must be: computed over the rows in plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from sqlalchemy import delete, insert

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.models import RECORDS
from nodellm_orm.runtime.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

Row: TypeAlias = dict[str, Any]
TOKENS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
ZONES: Final = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # midnight did not exist there on some days
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Casablanca",
    "Pacific/Apia",  # a day that did not exist
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)
CHATS: Final = (UUID(int=1), UUID(int=2**127 + 5))
NAMES: Final = ("team", "Team", "te'am", 'te"am', "te\\am", "na me", "naïve", "$", "a\x00b", "x\ud800", "", "0", "[0]")
"""Keys of metadata; the empty one cannot be asked for."""

_EDGES: Final = [
    datetime(2025, 3, 30, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 0, tzinfo=UTC),
    datetime(2018, 11, 4, 3, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2025, 4, 5, 15, tzinfo=UTC),
    datetime(2025, 12, 31, 23, tzinfo=UTC),
    datetime(2024, 2, 29, 0, tzinfo=UTC),
    datetime(2026, 1, 1, 0, tzinfo=UTC),
    datetime(2039, 1, 1, 5, 30, tzinfo=UTC),
    datetime(2024, 12, 30, 0, tzinfo=UTC),  # Monday of the week that the year ends in
    datetime(2027, 1, 4, 0, tzinfo=UTC),
]
_AWAY: Final = st.sampled_from(
    [timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1), timedelta(minutes=30), timedelta(hours=-1)]
)
_ANY_TIME: Final = st.integers(0, 10**15).map(
    lambda microseconds: datetime(2010, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
MOMENTS: Final = st.builds(lambda edge, away: edge + away, st.sampled_from(_EDGES), _AWAY) | _ANY_TIME
_COUNTS: Final = st.none() | st.sampled_from([0, 1, 7, 2**31, 2**63 - 1, 2**63 - 2]) | st.integers(0, 5000)
_TIMES: Final = st.none() | st.integers(0, 40) | st.just(2**40)
_COSTS: Final = (
    st.none()
    | st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("9000000.000000000001")])
    | st.decimals(0, 9, places=12)
)
_ALIKE: Final = ["ble\u0301", "bl\u00e9", "\u00df", "ss", "\u0130", "\u0131", "i"]
"""Texts that are the same to whoever composes letters or folds case."""
_TEXTS: Final = st.sampled_from(
    ["blue", "Blue", "blue ", "", "1", "true", "null", "b\x00", "\ud83d", "🌍", "'", '"', "%", "\\", *_ALIKE]
)
VALUES: Final = (
    _TEXTS
    | st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 1.0, 0.1, 0.1 + 0.2, 0.3, 1e16, 10**16, 10**22, 1e22, 1e-7, -0.0, -5, 2**70, 5e-324])
    | st.just("long " * 300 + "a")
    | st.just("long " * 300 + "b")
)
_MODELS: Final = st.sampled_from(["gpt-5", "GPT-5", "gpt-5 ", "m\x00", "claude", "claudé", "claude\u0301"])
ROWS: Final = st.fixed_dictionaries(
    {
        "chat_id": st.none() | st.sampled_from(CHATS),
        "owner": st.sampled_from([None, "ann", "Ann", "ann ", "", "böb", "bo\u0308b", "BÖB"]),
        "labels": st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
        "operation": st.sampled_from(["chat", "embed"]),
        "provider": st.sampled_from(["openai", "anthropic", "OpenAI"]),
        "model": st.none() | _MODELS,
        "requested_model": _MODELS,
        "status": st.sampled_from(["started", "ok", "failed", "cancelled", "unknown"]),
        **dict.fromkeys(TOKENS, _COUNTS),
        "latency_ms": _TIMES,
        "first_token_ms": _TIMES,
        "cost": _COSTS,
        "created_at": MOMENTS,
    }
)


async def fill(engine: AsyncEngine, rows: Iterable[Row]) -> None:
    """Let the ledger consist of these rows."""
    requests = RECORDS.tables.requests
    written = [{"id": new_id(), "attempt": 1, "other_tokens": {}, **row} for row in rows]
    async with engine.begin() as connection:
        await connection.execute(delete(requests))
        if written:
            await connection.execute(insert(requests), written)


def row(**columns: Any) -> Row:
    """One line, of which only a few columns matter."""
    return {
        "chat_id": None,
        "owner": None,
        "labels": {},
        "operation": "chat",
        "provider": "openai",
        "model": "m",
        "requested_model": "m",
        "status": "ok",
        **dict.fromkeys(TOKENS),
        "latency_ms": None,
        "first_token_ms": None,
        "cost": None,
        "created_at": datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC),
        **columns,
    }


def group(line: Row, name: str, zone: str) -> Any:
    """The value of a group key."""
    local = line["created_at"].astimezone(ZoneInfo(zone))
    match name:
        case "hour":
            whole = local.replace(minute=0, second=0, microsecond=0, tzinfo=None)
            return whole.replace(tzinfo=timezone(local.utcoffset()))
        case "day":
            return local.date()
        case "week":
            return local.date() - timedelta(days=local.weekday())
        case "month":
            return local.date().replace(day=1)
        case "model":
            return line["requested_model"] if line["model"] is None else line["model"]
        case "chat":
            return line["chat_id"]
    if name.startswith("metadata."):
        return line["labels"].get(name.removeprefix("metadata."))
    return line[name]


def exactly(value: Any) -> tuple[str, str]:
    """A value so that no two kinds of it are equal."""
    return type(value).__name__, value.isoformat() if isinstance(value, datetime) else repr(value)


@dataclass
class Expected:
    """What a row of a report must tell."""

    keys: dict[str, Any]
    lines: list[Row]

    def told(self) -> dict[str, Any]:
        """All of it."""
        costs = [line["cost"] for line in self.lines if line["cost"] is not None]
        return {
            "keys": {name: exactly(value) for name, value in self.keys.items()},
            "requests": len(self.lines),
            "failures": sum(line["status"] == "failed" for line in self.lines),
            "unpriced": len(self.lines) - len(costs),
            **{name: self._sum(name) for name in TOKENS},
            "cost": sum(costs, Decimal(0)) if costs else None,
            **{f"latency_p{percent}": self._rank("latency_ms", percent) for percent in (50, 95)},
            **{f"first_token_p{percent}": self._rank("first_token_ms", percent) for percent in (50, 95)},
        }

    def _sum(self, name: str) -> int | None:
        known = [line[name] for line in self.lines if line[name] is not None]
        return sum(known) if known else None

    def _rank(self, name: str, percent: int) -> int | None:
        known = sorted(line[name] for line in self.lines if line[name] is not None)
        return known[-(-len(known) * percent // 100) - 1] if known else None


def expected(rows: Sequence[Row], names: Sequence[str], zone: str) -> list[dict[str, Any]]:
    """The report over these rows, in no order that matters."""
    groups: dict[str, Expected] = {}
    for line in rows:
        keys = {name: group(line, name, zone) for name in names}
        known = dumps([[name, *exactly(value)] for name, value in keys.items()])
        groups.setdefault(known, Expected(keys, [])).lines.append(line)
    if not names and not rows:
        return [Expected({}, []).told()]
    return [found.told() for found in groups.values()]
