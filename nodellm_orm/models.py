"""The tables as SQLAlchemy classes, to be queried, related to and extended.

Attributes are the columns' names, but for ``metadata``, which is the attribute ``labels``. Relationships raise unless
they were loaded explicitly, with ``selectinload`` for instance.

Example::

    from sqlalchemy import select
    from nodellm_orm.models import ChatRecord, MessageRecord

    newest = select(ChatRecord).where(ChatRecord.owner == "ann").order_by(ChatRecord.created_at.desc())
"""

from __future__ import annotations

from nodellm_orm.store.records import (
    RECORDS,
    AttachmentRecord,
    Base,
    BlobRecord,
    ChatRecord,
    MessageRecord,
    Records,
    RequestRecord,
    RollupRecord,
    StaleHourRecord,
    Tables,
    TextRecord,
    ThinkingRecord,
    ToolCallRecord,
    TurnRecord,
    UsageHourRecord,
    define_records,
)
from nodellm_orm.store.types import Id

__all__ = [
    "RECORDS",
    "AttachmentRecord",
    "Base",
    "BlobRecord",
    "ChatRecord",
    "Id",
    "MessageRecord",
    "Records",
    "RequestRecord",
    "RollupRecord",
    "StaleHourRecord",
    "Tables",
    "TextRecord",
    "ThinkingRecord",
    "ToolCallRecord",
    "TurnRecord",
    "UsageHourRecord",
    "define_records",
]
