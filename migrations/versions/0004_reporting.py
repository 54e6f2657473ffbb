"""Three more views for BI tools: usage by day, costs of chats, and what failed.

They need no index of their own: a report reads a span of `created_at`, of one owner or of all, or one chat, and there
is an index for each. As in ``llm_usage``, costs are plain decimals; on SQLite, which has none, ``cost`` is a REAL for
reading, and ``cost_pico`` beside it the exact sum in whole pico-dollars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nodellm_orm.store.steps import Steps

revision: str = "0004"
down_revision: str | None = "0003"

# The day by UTC's clock, whatever the session's time zone.
_DAYS: Final = {
    "postgresql": "CAST(created_at AT TIME ZONE 'UTC' AS DATE)",
    "mysql": "DATE(created_at)",
    "sqlite": "substr(created_at, 1, 10)",
}
_COUNTS: Final = ("COUNT(*) AS requests", "COUNT(CASE WHEN status = 'failed' THEN 1 END) AS failures")
_TOKENS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_UNPRICED: Final = "COUNT(*) - COUNT(cost) AS unpriced"
# A refused attempt names no model that answered.
_MODEL: Final = "COALESCE(model, requested_model)"


def upgrade(steps: Steps) -> None:
    """Create the views."""
    day, sums = _DAYS[steps.dialect], [f"SUM({name}) AS {name}" for name in _TOKENS]
    steps.create_view(
        "usage_daily",
        _select(
            steps,
            [f"{day} AS day", "owner", "provider", f"{_MODEL} AS model", "operation"],
            [*_COUNTS, *sums, *_costs(steps.dialect, "cost", "input_cost", "output_cost"), _UNPRICED],
            by=[day, "owner", "provider", _MODEL, "operation"],
        ),
    )
    steps.create_view(
        "chat_costs",
        _select(
            steps,
            ["chat_id", "owner", "MIN(created_at) AS first_request_at", "MAX(created_at) AS last_request_at"],
            [*_COUNTS, *sums, *_costs(steps.dialect, "cost"), _UNPRICED],
            where="chat_id IS NOT NULL",
            by=["chat_id", "owner"],
        ),
    )
    steps.create_view(
        "failures",
        _select(
            steps,
            [f"{day} AS day", "owner", "provider", f"{_MODEL} AS model", "operation"],
            ["error_type", "http_status", "COUNT(*) AS failures", *_costs(steps.dialect, "cost")],
            where="status = 'failed'",
            by=[day, "owner", "provider", _MODEL, "operation", "error_type", "http_status"],
        ),
    )


def downgrade(steps: Steps) -> None:
    """Drop the views."""
    for suffix in ("failures", "chat_costs", "usage_daily"):
        steps.drop_view(suffix)


def _select(steps: Steps, groups: list[str], sums: list[str], *, by: list[str], where: str = "1 = 1") -> str:
    return (
        f"SELECT {', '.join([*groups, *sums])} FROM {steps.quoted('requests')} "  # noqa: S608 — nothing in it comes from a user
        f"WHERE {where} GROUP BY {', '.join(by)}"
    )


def _costs(dialect: str, *names: str) -> list[str]:
    if dialect == "sqlite":
        return [
            *(f"SUM({name}) / 1000000000000.0 AS {name}" for name in names),
            *(f"SUM({name}) AS {name}_pico" for name in names),
        ]
    return [f"SUM({name}) AS {name}" for name in names]
