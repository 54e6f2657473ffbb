"""Files of messages in the journals: an answer that grows with them, and what is read back on every database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, TextPart
from nodellm_orm.ports.entries import MessageAdded, MessageRevised
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import ORIGIN, begin, head

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.store.journal import SqlJournal

EVERY_BYTE = bytes(range(256)) * 2 + b"'\\\"%s\x00\n"
PICTURE = media_part(b"\xff\xd8\xff" + EVERY_BYTE, name="a.jpg")
DRAWING = media_part(b"\xff\xd8\xff second" + EVERY_BYTE, name="b.jpg")


def files(messages: tuple[Message, ...]) -> list[bytes | None]:
    """The contents of all files."""
    return [part.data for message in messages for part in message.parts if isinstance(part, MediaPart)]


async def test_growing_answer_keeps_its_files(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A message that is revised with files has the rows of its last form only, and all contents can be read."""
    snapshot = await sql_journal.create(head())
    begun = await begin(sql_journal, snapshot)
    grown = Message(role="assistant", parts=(PICTURE,), status="partial", position=1, origin=ORIGIN)
    added = MessageAdded(id=new_id(), message=grown)
    hold = await sql_journal.record(begun.hold, [added])
    parts = (TextPart(text="two"), PICTURE, DRAWING)
    await sql_journal.record(
        hold, [MessageRevised(id=added.id, message=replace(grown, parts=parts, status="complete"))]
    )

    attachments = RECORDS.tables.attachments
    async with tables.connect() as connection:
        chosen = select(attachments.c.position, attachments.c.name).where(attachments.c.chat_id == snapshot.head.id)
        found = [tuple(row) for row in await connection.execute(chosen.order_by(attachments.c.position))]
    assert found == [(1, "a.jpg"), (2, "b.jpg")]
    assert files((await sql_journal.load(snapshot.head.id, "ada")).messages) == [PICTURE.data, DRAWING.data]


async def test_contents_are_read_for_their_owner(journal: Journal) -> None:
    """Whoever may read a chat reads its files; more files than fit into one query are read, too."""
    many = tuple(media_part(f"file {n}".encode()) for n in range(1100))
    for owner in (None, "", "ada"):
        given = [(new_id(), Message(role="user", parts=(*many, PICTURE)))]
        snapshot = await journal.create(head(owner), given)
        expected = [part.data for part in (*many, PICTURE)]
        assert files(snapshot.messages) == expected
        assert files((await journal.load(snapshot.head.id, ANY_OWNER)).messages) == expected
        assert files(await journal.history(snapshot.head.id, ANY_OWNER, limit=9)) == expected
        assert files(await journal.history(snapshot.head.id, owner, limit=9, before=9)) == expected


async def test_contents_of_another_owner_are_not_read(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A digest alone gives nobody the content that another owner stored."""
    await sql_journal.create(head("eve"), [(new_id(), Message(role="user", parts=(PICTURE,)))])
    hollow = Message(role="user", parts=(replace(PICTURE, data=None),))
    snapshot = await sql_journal.create(head("mallory"), [(new_id(), hollow)])
    assert files(snapshot.messages) == [None]
    blobs = RECORDS.tables.blobs
    async with tables.connect() as connection:
        assert await connection.scalar(select(func.count()).where(blobs.c.owner == "mallory")) == 0
