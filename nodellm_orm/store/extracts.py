"""Single things out of a chat for people: one message with everything that belongs to it, one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from nodellm_orm.store.access import open_access
from nodellm_orm.store.details import attachment_of, by_message, call_details_of, message_details_of, thinking_of
from nodellm_orm.store.guard import chat_parameters, not_found, of_chat
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.details import MessageDetails
    from nodellm_orm.store.mapping import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a message with its content."""

    media_type: str
    name: str | None
    data: bytes


async def read_message(
    session: object, chat_id: UUID, position: int, *, owner: Owner = None, records: Records = RECORDS
) -> MessageDetails | None:
    """One message with its thinking, calls and files; ``None`` when the chat has none at this position.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        position: the message's.
        owner: must equal the stored one; ``None`` means a chat without owner, `ANY_OWNER` means anybody's.
        records: own records.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    tables = records.tables

    def work(connection: Connection) -> MessageDetails | None:
        whose = _owner(connection, tables, chat_id, owner)
        m = tables.messages
        found = select(m).where(m.c.chat_id == chat_id, m.c.position == position)
        row = connection.execute(found).mappings().first()
        if row is None:
            return None
        message_id = row["id"]

        def content(name: str) -> list[Stored]:
            table: Table = getattr(tables, name)
            own = select(table).where(table.c.chat_id == chat_id, table.c.message_id == message_id)
            rows = connection.execute(own.order_by(table.c.position)).mappings()
            return [tables.sealer.opened(name, found, owner=whose, key=found["id"]) for found in rows]

        return message_details_of(
            tables.sealer.opened("messages", row, owner=whose, key=message_id),
            by_message(content("thinking"), thinking_of),
            by_message(content("tool_calls"), call_details_of),
            by_message(content("attachments"), attachment_of),
        )

    return await open_access(session, records).read(work)


async def read_file(
    session: object, chat_id: UUID, file_id: UUID, *, owner: Owner = None, records: Records = RECORDS
) -> StoredFile | None:
    """One file of a chat; ``None`` when there is none, or its content is not stored.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        file_id: id of the attachment's row.
        owner: must equal the stored one; ``None`` means a chat without owner, `ANY_OWNER` means anybody's.
        records: own records.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    tables = records.tables

    def work(connection: Connection) -> StoredFile | None:
        whose = _owner(connection, tables, chat_id, owner)
        a, b = tables.attachments, tables.blobs
        named = select(a).where(a.c.chat_id == chat_id, a.c.id == file_id)
        row = connection.execute(named).mappings().first()
        if row is None or row["sha256"] is None:
            return None
        data = connection.scalar(select(b.c.data).where(b.c.owner == whose, b.c.sha256 == row["sha256"]))
        if data is None:
            return None
        content = tables.sealer.opened_value("blobs", "data", data, owner=whose, key=row["sha256"])
        opened = tables.sealer.opened("attachments", row, owner=whose, key=file_id)
        return StoredFile(media_type=row["media_type"], name=opened["name"], data=bytes(content))

    return await open_access(session, records).read(work)


def _owner(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> Any:
    """Whose chat it is.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    chats = tables.chats
    row = connection.execute(
        select(chats.c.owner).where(*of_chat(chats, owner)), chat_parameters(chat_id, owner)
    ).first()
    if row is None:
        not_found(chat_id)
    return row.owner
