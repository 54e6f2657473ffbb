"""The view ``llm_usage``: what was used and spent by hour, owner, provider, model and operation, for any BI tool.

Costs are plain decimals. SQLite has none: there ``cost`` is a REAL for reading, and ``cost_pico`` beside it the exact
sum in whole pico-dollars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nodellm_orm.store.steps import Steps

revision: str = "0002"
down_revision: str | None = "0001"

# The hour by UTC's clock, whatever the session's time zone: some zones are half an hour off. "\:" is a plain colon.
_HOURS: Final = {
    "postgresql": "date_trunc('hour', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'",
    "mysql": "TIMESTAMP(DATE(created_at), MAKETIME(HOUR(created_at), 0, 0))",
    "sqlite": r"substr(created_at, 1, 13) || '\:00\:00'",
}
_WHOLE: Final = {"postgresql": "CAST(SUM({0}) AS BIGINT)", "mysql": "CAST(SUM({0}) AS SIGNED)", "sqlite": "SUM({0})"}
_TOKENS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_COSTS: Final = ("cost", "input_cost", "output_cost")
# A refused attempt names no model that answered.
_MODEL: Final = "COALESCE(model, requested_model)"


def upgrade(steps: Steps) -> None:
    """Create the view."""
    steps.create_view("usage", _select(steps))


def downgrade(steps: Steps) -> None:
    """Drop the view."""
    steps.drop_view("usage")


def _select(steps: Steps) -> str:
    hour, whole = _HOURS[steps.dialect], _WHOLE[steps.dialect]
    shown = [
        f"{hour} AS hour",
        "owner",
        "provider",
        f"{_MODEL} AS model",
        "operation",
        "COUNT(*) AS requests",
        "COUNT(CASE WHEN status = 'failed' THEN 1 END) AS failures",
        *(f"{whole.format(name)} AS {name}" for name in _TOKENS),
        *_costs(steps.dialect),
        "COUNT(*) - COUNT(cost) AS unpriced",
    ]
    return (
        f"SELECT {', '.join(shown)} FROM {steps.quoted('requests')} "  # noqa: S608 — nothing in it comes from a user
        f"GROUP BY {hour}, owner, provider, {_MODEL}, operation"
    )


def _costs(dialect: str) -> list[str]:
    if dialect == "sqlite":
        return [
            *(f"SUM({name}) / 1000000000000.0 AS {name}" for name in _COSTS),
            *(f"SUM({name}) AS {name}_pico" for name in _COSTS),
        ]
    return [f"SUM({name}) AS {name}" for name in _COSTS]
