"""The tables as SQLAlchemy classes: plain declarative records, meant to be queried by users too.

Their columns are described in ``columns.py``; relationships are for reading and raise unless they were loaded
explicitly (``selectinload``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.columns import (
    AttachmentColumns,
    BlobColumns,
    ChatColumns,
    MessageColumns,
    RequestColumns,
    TextColumns,
    ThinkingColumns,
    ToolCallColumns,
    TurnColumns,
)
from nodellm_orm.store.define import Records, Tables, define_records
from nodellm_orm.store.naming import CONVENTION, Naming
from nodellm_orm.store.usage_columns import RollupColumns, StaleHourColumns, UsageHourColumns

if TYPE_CHECKING:
    from nodellm_orm.store.encryption import Encryption

__all__ = [
    "RECORDS",
    "AttachmentRecord",
    "Base",
    "BlobRecord",
    "ChatRecord",
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
    "chosen_records",
    "define_records",
]

_NAMING: Final = Naming()


class Base(DeclarativeBase):
    """The declarative base of the default records."""

    metadata = MetaData(naming_convention=CONVENTION)


class ChatRecord(ChatColumns, Base):
    """A conversation."""

    __tablename__ = _NAMING.table("chats")
    __table_args__ = ChatColumns.table_args(_NAMING)


class TurnRecord(TurnColumns, Base):
    """One question and everything until its answer."""

    __tablename__ = _NAMING.table("turns")
    __table_args__ = TurnColumns.table_args(_NAMING)


class MessageRecord(MessageColumns, Base):
    """One message of the conversation."""

    __tablename__ = _NAMING.table("messages")
    __table_args__ = MessageColumns.table_args(_NAMING)


class ToolCallRecord(ToolCallColumns, Base):
    """One call that the model asked for."""

    __tablename__ = _NAMING.table("tool_calls")
    __table_args__ = ToolCallColumns.table_args(_NAMING)


class ThinkingRecord(ThinkingColumns, Base):
    """One trace of the model's thinking."""

    __tablename__ = _NAMING.table("thinking")
    __table_args__ = ThinkingColumns.table_args(_NAMING)


class RequestRecord(RequestColumns, Base):
    """One attempt at a provider: a line of the ledger."""

    __tablename__ = _NAMING.table("requests")
    __table_args__ = RequestColumns.table_args(_NAMING)


class AttachmentRecord(AttachmentColumns, Base):
    """A file given to, or produced by, a model."""

    __tablename__ = _NAMING.table("attachments")
    __table_args__ = AttachmentColumns.table_args(_NAMING)


class BlobRecord(BlobColumns, Base):
    """The bytes of a file."""

    __tablename__ = _NAMING.table("blobs")
    __table_args__ = BlobColumns.table_args(_NAMING)


class TextRecord(TextColumns, Base):
    """A text that many turns refer to by its digest."""

    __tablename__ = _NAMING.table("texts")
    __table_args__ = TextColumns.table_args(_NAMING)


class UsageHourRecord(UsageHourColumns, Base):
    """Sums over the requests of one hour."""

    __tablename__ = _NAMING.table("usage_hours")
    __table_args__ = UsageHourColumns.table_args(_NAMING)


class StaleHourRecord(StaleHourColumns, Base):
    """A mark on an hour that must be added up again."""

    __tablename__ = _NAMING.table("usage_stale")
    __table_args__ = StaleHourColumns.table_args(_NAMING)


class RollupRecord(RollupColumns, Base):
    """How far the roll-up is."""

    __tablename__ = _NAMING.table("usage_rollup")
    __table_args__ = RollupColumns.table_args(_NAMING)


RECORDS: Final = Records.of(
    _NAMING,
    chat=ChatRecord,
    turn=TurnRecord,
    message=MessageRecord,
    tool_call=ToolCallRecord,
    thinking=ThinkingRecord,
    request=RequestRecord,
    attachment=AttachmentRecord,
    blob=BlobRecord,
    text=TextRecord,
    usage_hour=UsageHourRecord,
    stale_hour=StaleHourRecord,
    rollup=RollupRecord,
)
"""The default set: what is used where no ``records=`` is given."""


def chosen_records(records: Records | None, encryption: Encryption | None = None) -> Records:
    """The records that are meant by ``records=`` and ``encryption=``.

    Args:
        records: as given; the default set when omitted.
        encryption: the keys, as given.

    Raises:
        ConfigurationError: one of them is not what it should be.
    """
    given: object = records
    chosen = RECORDS if given is None else given
    if not isinstance(chosen, Records):
        msg = f"records is what define_records() gave, not {type(chosen).__name__}; pass that, or leave it out"
        raise ConfigurationError(msg)
    return chosen if encryption is None else chosen.encrypted(encryption)
