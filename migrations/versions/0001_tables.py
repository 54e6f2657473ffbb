"""The tables of the first release.

The column types are written out here for each database, so that a later change of the records leaves them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

    from nodellm_orm.store.steps import Steps

revision: str = "0001"
down_revision: str | None = None

_MYSQL: Final = ("mysql", "mariadb")
_ASCII: Final = {"charset": "ascii", "collation": "ascii_bin"}
_UTF8: Final = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}

ID: Final = sa.CHAR(32).with_variant(mysql.CHAR(32, **_ASCII), *_MYSQL).with_variant(sa.Uuid(), "postgresql")
TEXT: Final = sa.Text().with_variant(mysql.LONGTEXT(**_UTF8), *_MYSQL)
BLOB: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)
MOMENT: Final = (
    sa.DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL).with_variant(sa.DateTime(timezone=True), "postgresql")
)
MONEY: Final = sa.Numeric(24, 12).with_variant(sa.BigInteger(), "sqlite")
COUNT: Final = sa.BigInteger()


def _key(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(mysql.VARCHAR(length, **_UTF8), *_MYSQL)


NAME: Final = _key(255)
DIGEST: Final = _key(64)
WORD: Final = _key(32)


def _must(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _may(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def _from_zero(name: str) -> sa.Column[int]:
    return sa.Column(name, COUNT, server_default=sa.text("0"), nullable=False)


def upgrade(steps: Steps) -> None:
    """Create the tables, what others refer to first."""
    _chats(steps)
    _turns(steps)
    _messages(steps)
    _tool_calls(steps)
    _thinking(steps)
    _requests(steps)
    _attachments(steps)
    _contents(steps)


def downgrade(steps: Steps) -> None:
    """Drop the tables, with everything in them."""
    for suffix in (
        "texts",
        "blobs",
        "attachments",
        "requests",
        "thinking",
        "tool_calls",
        "messages",
        "turns",
        "chats",
    ):
        steps.drop_table(suffix)


def _chats(steps: Steps) -> None:
    steps.create_table(
        "chats",
        _must("id", ID),
        _may("owner", NAME),
        _may("title", TEXT),
        _may("model", NAME),
        _may("provider", NAME),
        _may("api", NAME),
        _must("instructions", TEXT),
        _must("settings", TEXT),
        _must("metadata", TEXT),
        _may("parent_chat_id", ID),
        _may("fork_position", COUNT),
        _may("active_turn_id", ID),
        _may("lease_owner", NAME),
        _may("lease_until", MOMENT),
        _from_zero("fence"),
        _from_zero("next_position"),
        _from_zero("step"),
        _from_zero("version"),
        _must("created_at", MOMENT),
        _must("updated_at", MOMENT),
        steps.naming.primary_key("chats", "id"),
    )
    steps.create_index("chats", "owner", "created_at", "id")
    steps.create_index("chats", "created_at", "id")


def _turns(steps: Steps) -> None:
    steps.create_table(
        "turns",
        _must("chat_id", ID),
        _must("id", ID),
        _must("position", COUNT),
        _must("status", WORD),
        _may("reason", WORD),
        _may("active_slot", sa.SmallInteger()),
        _may("idempotency_key", NAME),
        _may("request_hash", DIGEST),
        _from_zero("takeovers"),
        _must("settings", TEXT),
        _may("error_type", NAME),
        _may("error_message", TEXT),
        _must("started_at", MOMENT),
        _may("finished_at", MOMENT),
        steps.naming.primary_key("turns", "chat_id", "id"),
        steps.naming.belongs_to_chat("turns"),
        steps.naming.unique("turns", "chat_id", "active_slot"),
        steps.naming.unique("turns", "chat_id", "idempotency_key"),
        steps.naming.words("turns", "status", ("running", "suspended", "completed", "failed", "cancelled")),
        steps.naming.check("turns", "active_slot", "active_slot = 1"),
    )
    steps.create_index("turns", "chat_id", "position")
    steps.create_index("turns", "active_slot")


def _messages(steps: Steps) -> None:
    steps.create_table(
        "messages",
        _must("chat_id", ID),
        _must("position", COUNT),
        _must("id", ID),
        _may("turn_id", ID),
        _must("role", WORD),
        _must("content", TEXT),
        _must("parts", TEXT),
        _must("status", WORD),
        _may("finish_reason", WORD),
        _may("raw_finish_reason", TEXT),
        _may("model", NAME),
        _may("provider", NAME),
        _may("api", NAME),
        _may("endpoint", TEXT),
        _must("created_at", MOMENT),
        _may("superseded_at", MOMENT),
        steps.naming.primary_key("messages", "chat_id", "position"),
        steps.naming.belongs_to_chat("messages"),
        steps.naming.unique("messages", "chat_id", "id"),
        steps.naming.words("messages", "role", ("system", "user", "assistant", "tool")),
        steps.naming.words("messages", "status", ("complete", "partial")),
    )
    steps.create_index("messages", "chat_id", "turn_id")


def _tool_calls(steps: Steps) -> None:
    statuses = ("pending", "awaiting_approval", "running", "succeeded", "failed", "denied", "skipped", "halted")
    steps.create_table(
        "tool_calls",
        _must("chat_id", ID),
        _must("id", ID),
        _must("turn_id", ID),
        _must("message_id", ID),
        _must("position", COUNT),
        _must("call_id", NAME),
        _may("wire_id", TEXT),
        _must("name", TEXT),
        _must("arguments", TEXT),
        _must("status", WORD),
        _may("result", TEXT),
        _may("result_message_id", ID),
        _may("error", TEXT),
        _from_zero("attempts"),
        _may("started_at", MOMENT),
        _may("finished_at", MOMENT),
        _may("decided_by", NAME),
        _may("decided_at", MOMENT),
        steps.naming.primary_key("tool_calls", "chat_id", "id"),
        steps.naming.belongs_to_chat("tool_calls"),
        steps.naming.unique("tool_calls", "chat_id", "call_id"),
        steps.naming.words("tool_calls", "status", (*statuses, "unknown")),
    )
    steps.create_index("tool_calls", "chat_id", "message_id")
    steps.create_index("tool_calls", "chat_id", "turn_id")


def _thinking(steps: Steps) -> None:
    steps.create_table(
        "thinking",
        _must("chat_id", ID),
        _must("id", ID),
        _must("message_id", ID),
        _must("position", COUNT),
        _must("text", TEXT),
        _may("signature", TEXT),
        _must("redacted", sa.Boolean(create_constraint=False)),
        _may("opaque", TEXT),
        _may("tokens", COUNT),
        steps.naming.primary_key("thinking", "chat_id", "id"),
        steps.naming.belongs_to_chat("thinking"),
    )
    steps.create_index("thinking", "chat_id", "message_id")


def _requests(steps: Steps) -> None:
    steps.create_table(
        "requests",
        _must("id", ID),
        _may("chat_id", ID),
        _may("turn_id", ID),
        _may("message_id", ID),
        _may("owner", NAME),
        _must("labels", TEXT),
        _must("operation", WORD),
        _must("provider", NAME),
        _may("model", NAME),
        _must("requested_model", NAME),
        _must("status", WORD),
        _may("http_status", COUNT),
        _may("error_type", NAME),
        _must("attempt", COUNT),
        _may("request_id", TEXT),
        _may("latency_ms", COUNT),
        _may("first_token_ms", COUNT),
        _may("input_tokens", COUNT),
        _may("cached_tokens", COUNT),
        _may("cache_write_tokens", COUNT),
        _may("output_tokens", COUNT),
        _may("reasoning_tokens", COUNT),
        _must("other_tokens", TEXT),
        _may("cost", MONEY),
        _may("input_cost", MONEY),
        _may("output_cost", MONEY),
        _may("prices", TEXT),
        _may("price_source", NAME),
        _must("created_at", MOMENT),
        steps.naming.primary_key("requests", "id"),
        steps.naming.words("requests", "status", ("started", "ok", "failed", "cancelled", "unknown")),
    )
    steps.create_index("requests", "owner", "created_at")
    steps.create_index("requests", "created_at")
    steps.create_index("requests", "chat_id", "turn_id")


def _attachments(steps: Steps) -> None:
    steps.create_table(
        "attachments",
        _must("chat_id", ID),
        _must("id", ID),
        _must("message_id", ID),
        _must("position", COUNT),
        _must("kind", WORD),
        _must("media_type", NAME),
        _may("name", TEXT),
        _may("size", COUNT),
        _may("sha256", DIGEST),
        _may("url", TEXT),
        steps.naming.primary_key("attachments", "chat_id", "id"),
        steps.naming.belongs_to_chat("attachments"),
    )
    steps.create_index("attachments", "chat_id", "message_id")
    steps.create_index("attachments", "sha256")


def _contents(steps: Steps) -> None:
    """Files and texts, each stored once an owner."""
    steps.create_table(
        "blobs",
        _must("owner", NAME),
        _must("sha256", DIGEST),
        _must("size", COUNT),
        _must("data", BLOB),
        _must("created_at", MOMENT),
        steps.naming.primary_key("blobs", "owner", "sha256"),
    )
    steps.create_table(
        "texts",
        _must("owner", NAME),
        _must("sha256", DIGEST),
        _must("text", TEXT),
        _must("created_at", MOMENT),
        steps.naming.primary_key("texts", "owner", "sha256"),
    )
