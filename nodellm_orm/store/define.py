"""Make a set of records: the default one, or a host's with its own base, names and further columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import MetaData, Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.keeping import KEEP_ALL, Keeping
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
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.mixins import check_base, check_filled, check_mixin, table_arguments
from nodellm_orm.store.naming import CONVENTION, Naming, usable
from nodellm_orm.store.relating import relate, table_of
from nodellm_orm.store.sealing import PLAIN, Sealer
from nodellm_orm.store.usage_columns import RollupColumns, StaleHourColumns, UsageHourColumns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The Core tables behind a set of records, for statements without the ORM."""

    chats: Table
    turns: Table
    messages: Table
    tool_calls: Table
    thinking: Table
    requests: Table
    attachments: Table
    blobs: Table
    texts: Table
    usage_hours: Table
    usage_stale: Table
    usage_rollup: Table
    sealer: Sealer = PLAIN
    """What encrypts their content on its way in, and decrypts it on its way out."""
    keeping: Keeping = KEEP_ALL
    """What of it is written at all."""

    def __iter__(self) -> Iterator[Table]:
        """All of them, what others refer to first."""
        return iter(getattr(self, name) for name in self.__slots__ if name not in {"sealer", "keeping"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The mapped classes of one set of tables, and where these are."""

    naming: Naming
    metadata: MetaData
    chat: type[ChatColumns]
    turn: type[TurnColumns]
    message: type[MessageColumns]
    tool_call: type[ToolCallColumns]
    thinking: type[ThinkingColumns]
    request: type[RequestColumns]
    attachment: type[AttachmentColumns]
    blob: type[BlobColumns]
    text: type[TextColumns]
    usage_hour: type[UsageHourColumns]
    stale_hour: type[StaleHourColumns]
    rollup: type[RollupColumns]
    tables: Tables

    def encrypted(self, encryption: Encryption) -> Records:
        """The same records, their content encrypted: whatever takes ``records=`` then reads and writes it so.

        Args:
            encryption: the keys.
        """
        if not isinstance(encryption, Encryption):
            msg = f"encryption is an Encryption, not {type(encryption).__name__}; make it: Encryption(keys={{…}})"
            raise ConfigurationError(msg)
        return replace(self, tables=replace(self.tables, sealer=encryption.sealer))

    def keeping(self, keeping: Keeping) -> Records:
        """The same records, with what is kept of a conversation.

        Args:
            keeping: what is written, and how it is redacted.
        """
        return replace(self, tables=replace(self.tables, keeping=keeping))

    @classmethod
    def of(
        cls,
        naming: Naming,
        *,
        chat: type[ChatColumns],
        turn: type[TurnColumns],
        message: type[MessageColumns],
        tool_call: type[ToolCallColumns],
        thinking: type[ThinkingColumns],
        request: type[RequestColumns],
        attachment: type[AttachmentColumns],
        blob: type[BlobColumns],
        text: type[TextColumns],
        usage_hour: type[UsageHourColumns],
        stale_hour: type[StaleHourColumns],
        rollup: type[RollupColumns],
    ) -> Records:
        """Gather mapped classes, and relate them to each other."""
        tables = Tables(
            chats=table_of(chat),
            turns=table_of(turn),
            messages=table_of(message),
            tool_calls=table_of(tool_call),
            thinking=table_of(thinking),
            requests=table_of(request),
            attachments=table_of(attachment),
            blobs=table_of(blob),
            texts=table_of(text),
            usage_hours=table_of(usage_hour),
            usage_stale=table_of(stale_hour),
            usage_rollup=table_of(rollup),
        )
        records = cls(
            naming=naming,
            metadata=tables.chats.metadata,
            chat=chat,
            turn=turn,
            message=message,
            tool_call=tool_call,
            thinking=thinking,
            request=request,
            attachment=attachment,
            blob=blob,
            text=text,
            usage_hour=usage_hour,
            stale_hour=stale_hour,
            rollup=rollup,
            tables=tables,
        )
        relate(records)
        return records


def define_records(
    base: type[DeclarativeBase] | None = None,
    *,
    prefix: str = "llm_",
    schema: str | None = None,
    chat: type = object,
    turn: type = object,
    message: type = object,
    tool_call: type = object,
    thinking: type = object,
    request: type = object,
    attachment: type = object,
    blob: type = object,
    text: type = object,
) -> Records:
    """Map the tables under other names, on an own declarative base, or with further columns.

    Args:
        base: the declarative base the classes belong to; a new one when omitted.
        prefix: begins every table name: 1 to 24 letters, digits and underscores.
        schema: the schema the tables are in; when omitted that of the base's metadata, else the connection's own.
        chat: mixin with further columns for chats, filled by ``values=``. The other mixins likewise for turns,
            messages, tool calls, thinking traces, requests, attachments, blobs and texts; there each column must be
            nullable or have a default.
        turn: mixin for turns.
        message: mixin for messages.
        tool_call: mixin for tool calls.
        thinking: mixin for thinking traces.
        request: mixin for requests.
        attachment: mixin for attachments.
        blob: mixin for blobs.
        text: mixin for texts.

    Returns:
        The classes and their tables, to be passed as ``records=``.

    Raises:
        ConfigurationError: the prefix is too long, the base or a mixin would change columns of ours, or the base has
            these tables already.

    Example:
        >>> records = define_records(prefix="assistant_")
        >>> records.tables.chats.name
        'assistant_chats'
    """
    parent = _new_base() if base is None else base
    check_base(parent, _OPTIONS)
    naming = usable(Naming(prefix, schema if schema is not None else parent.metadata.schema))
    return Records.of(
        naming,
        chat=_map(parent, naming, "chats", "ChatRecord", ChatColumns, chat),
        turn=_map(parent, naming, "turns", "TurnRecord", TurnColumns, turn),
        message=_map(parent, naming, "messages", "MessageRecord", MessageColumns, message),
        tool_call=_map(parent, naming, "tool_calls", "ToolCallRecord", ToolCallColumns, tool_call),
        thinking=_map(parent, naming, "thinking", "ThinkingRecord", ThinkingColumns, thinking),
        request=_map(parent, naming, "requests", "RequestRecord", RequestColumns, request),
        attachment=_map(parent, naming, "attachments", "AttachmentRecord", AttachmentColumns, attachment),
        blob=_map(parent, naming, "blobs", "BlobRecord", BlobColumns, blob),
        text=_map(parent, naming, "texts", "TextRecord", TextColumns, text),
        usage_hour=_map(parent, naming, "usage_hours", "UsageHourRecord", UsageHourColumns, object),
        stale_hour=_map(parent, naming, "usage_stale", "StaleHourRecord", StaleHourColumns, object),
        rollup=_map(parent, naming, "usage_rollup", "RollupRecord", RollupColumns, object),
    )


def _new_base() -> type[DeclarativeBase]:
    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention=CONVENTION)

    return Base


_OPTIONS: Final[Mapping[type, str]] = {
    ChatColumns: "chat",
    TurnColumns: "turn",
    MessageColumns: "message",
    ToolCallColumns: "tool_call",
    ThinkingColumns: "thinking",
    RequestColumns: "request",
    AttachmentColumns: "attachment",
    BlobColumns: "blob",
    TextColumns: "text",
    UsageHourColumns: "usage_hour",
    StaleHourColumns: "stale_hour",
    RollupColumns: "rollup",
}
"""How each mixin is given, where one can be."""
_Columns = TypeVar(
    "_Columns",
    ChatColumns,
    TurnColumns,
    MessageColumns,
    ToolCallColumns,
    ThinkingColumns,
    RequestColumns,
    AttachmentColumns,
    BlobColumns,
    TextColumns,
    UsageHourColumns,
    StaleHourColumns,
    RollupColumns,
)


def _map(
    base: type[DeclarativeBase], naming: Naming, suffix: str, name: str, columns: type[_Columns], mixin: type
) -> type[_Columns]:
    option = _OPTIONS[columns]
    if mixin is not object:
        check_mixin(option, mixin, columns)
    there = {(table.schema, table.name) for table in base.metadata.tables.values()}
    if (naming.schema, naming.table(suffix)) in there:
        msg = (
            f"{base.__name__} has a table {naming.table(suffix)} already; call define_records once for a base and a "
            "prefix, and import what it gave"
        )
        raise ConfigurationError(msg)
    own: tuple[type, ...] = () if mixin is object else (mixin,)
    namespace: dict[str, object] = {
        "__tablename__": naming.table(suffix),
        "__table_args__": naming.joined(columns.table_args(naming), table_arguments(mixin)),
        "__doc__": columns.__doc__,
        "__module__": base.__module__,
    }
    try:
        record = type(_class_name(base, naming, name), (*own, columns, base), namespace)
    except SQLAlchemyError as error:
        msg = f"{option}={mixin.__name__} cannot be mapped to {naming.table(suffix)}: {error}"
        raise ConfigurationError(msg) from error
    if columns is not ChatColumns:
        check_filled(option, table_of(record), vars(columns))
    return record


def _class_name(base: type[DeclarativeBase], naming: Naming, name: str) -> str:
    """A name that no class of this base has yet: two sets of records on one base are told apart by their prefixes."""
    taken = {mapper.class_.__name__ for mapper in base.registry.mappers}
    return name if name not in taken else "".join(word.capitalize() for word in naming.prefix.split("_")) + name
