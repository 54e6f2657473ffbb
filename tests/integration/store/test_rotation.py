"""Keys are changed while the database is in use: nothing is lost, and nobody is stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import ConfigurationError, Encryption, EncryptionError, RotationReport, rotate_keys
from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, TextPart
from nodellm_orm.ports.entries import MessageAdded, MessageRevised, TurnEnded
from nodellm_orm.ports.states import Snapshot
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.rotation import Walk
from nodellm_orm.store.sealing import CONTENT
from tests.integration.databases import migrated_database
from tests.integration.store.samples import answer, begun, closed, completed, head, with_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
ONLY_OLD = Encryption(keys={"old": OLD})
BOTH = Encryption(keys={"old": OLD, "new": NEW}, current="new")
ONLY_NEW = Encryption(keys={"new": NEW}, allow_plaintext=False)
FILE = b"\x00\xff" * 5000


@pytest.fixture
async def stored(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An engine on a database of its own that has the tables."""
    async with migrated_database(database_kind, tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


def journal_of(engine: AsyncEngine, encryption: Encryption | None) -> SqlJournal:
    records = RECORDS if encryption is None else RECORDS.encrypted(encryption)
    return SqlJournal(open_access(engine, records), records)


def with_file() -> Message:
    part = MediaPart(media="document", media_type="application/pdf", sha256=digest_of(FILE), name="a.pdf", data=FILE)
    return Message(role="user", parts=(part,))


async def filled(journal: SqlJournal, owner: str | None = "ada") -> Snapshot:
    """A chat with something in every column."""
    turn, _, _ = await with_call(journal)
    await journal.record(turn.hold, (TurnEnded(status="failed", error_message="it broke"),))
    snapshot = await journal.create(head(owner), [(new_id(), with_file())])
    return await completed(journal, snapshot)


async def keys_in(engine: AsyncEngine) -> set[str | None]:
    """Names of the keys that anything is encrypted with; ``None`` for what is not."""
    found: set[str | None] = set()
    async with engine.connect() as connection:
        for name, columns in CONTENT.items():
            table = getattr(RECORDS.tables, name)
            for column in columns:
                for value in await connection.scalars(select(table.c[column]).where(table.c[column].is_not(None))):
                    found.add(getattr(value, "key", None))
    return found


@pytest.mark.parametrize("before", [ONLY_OLD, None], ids=["old key", "no key"])
@pytest.mark.parametrize("batch", [1, 3, 100])
async def test_everything_is_encrypted_anew(stored: AsyncEngine, before: Encryption | None, batch: int) -> None:
    """After a rotation the old key is needed no more, what was plain is encrypted, and a second run finds nothing."""
    snapshot = await filled(journal_of(stored, before))
    told: list[RotationReport] = []
    report = await rotate_keys(stored, BOTH, batch=batch, progress=told.append)
    assert (report.left, report.skipped, report.unreadable) == (0, 0, ())
    assert report.rotated > 8
    assert told[-1] == replace(report, left=None)
    assert await keys_in(stored) == {"new"}
    seen = await journal_of(stored, ONLY_NEW).load(snapshot.head.id, "ada")
    assert seen == snapshot
    (file,) = [part for part in seen.messages[0].parts if isinstance(part, MediaPart)]
    assert file.data == FILE
    assert await rotate_keys(stored, BOTH) == RotationReport(left=0)


@pytest.mark.fault("E15")
async def test_old_and_new_are_read_while_it_goes_on(stored: AsyncEngine) -> None:
    """Broken off after each batch, every chat is readable with both keys, and the next run carries on."""
    journal, both = journal_of(stored, ONLY_OLD), journal_of(stored, BOTH)
    chats = [await filled(journal) for _ in range(2)]

    def stop(_: RotationReport) -> None:
        raise InterruptedError

    runs = 0
    while True:
        for snapshot in chats:
            assert await both.load(snapshot.head.id, "ada") == snapshot
        try:
            await rotate_keys(stored, BOTH, batch=2, progress=stop)
        except InterruptedError:
            runs += 1
        else:
            break
    assert runs > 3
    assert await keys_in(stored) == {"new"}


def grown(said: MessageAdded) -> Message:
    """The message with one more space at its end, which MySQL would not see."""
    return replace(said.message, parts=(*said.message.parts[:-1], TextPart(text="Hello ")))


@pytest.mark.parametrize("before", [ONLY_OLD, None], ids=["old key", "no key"])
async def test_whoever_writes_meanwhile_wins(stored: AsyncEngine, before: Encryption | None) -> None:
    """A message that grows between reading and writing keeps its new text, and is left for the next run."""
    journal = journal_of(stored, before)
    turn = await begun(journal)
    said = answer(1, text="Hello")
    hold = await journal.record(turn.hold, (closed(turn.opened), said))
    records = RECORDS.encrypted(BOTH)
    walk = Walk(open_access(stored, records), records.tables, BOTH.sealer, "messages", 10)
    changes = await walk.read()
    assert len(changes) == 2
    await journal.record(hold, (MessageRevised(id=said.id, message=grown(said)),))
    report = await walk.write(changes)
    assert (report.rotated, report.skipped) == (1, 1)
    assert (await journal_of(stored, BOTH).load(hold.chat_id, "ada")).messages[1].content == "Hello "
    assert await keys_in(stored) == {before.current if before else None, "new"}
    assert (await rotate_keys(stored, BOTH)).left == 0


async def test_a_row_that_is_gone_is_not_missed(stored: AsyncEngine) -> None:
    """What was deleted between reading and writing stays deleted."""
    snapshot = await filled(journal_of(stored, ONLY_OLD))
    records = RECORDS.encrypted(BOTH)
    walk = Walk(open_access(stored, records), records.tables, BOTH.sealer, "thinking", 10)
    changes = await walk.read()
    async with stored.begin() as connection:
        gone = await connection.execute(delete(RECORDS.tables.thinking))
    report = await walk.write(changes)
    assert (report.rotated, report.skipped) == (0, gone.rowcount)
    assert (await journal_of(stored, BOTH).load(snapshot.head.id, "ada")).messages == snapshot.messages


@pytest.mark.fault("E15")
async def test_turns_go_on_while_keys_are_changed(stored: AsyncEngine) -> None:
    """Chats that are asked while a rotation runs lose nothing, and the next run finds what they wrote."""
    still_old = Encryption(keys={"old": OLD, "new": NEW}, current="old")
    journals = [journal_of(stored, still_old if number % 2 else BOTH) for number in range(4)]
    started = [await filled(journal) for journal in journals]

    async def talk(number: int) -> Snapshot:
        snapshot = started[number]
        for _ in range(8):
            snapshot = await completed(journals[number], snapshot)
        return snapshot

    async def rotate() -> int:
        return sum([(await rotate_keys(stored, BOTH, batch=2)).rotated for _ in range(5)])

    *ended, rotated = await asyncio.gather(*(talk(number) for number in range(4)), rotate())
    assert rotated
    assert (await rotate_keys(stored, BOTH)).left == 0
    for snapshot in ended:
        assert isinstance(snapshot, Snapshot)
        assert len(snapshot.messages) == 19
        assert await journal_of(stored, ONLY_NEW).load(snapshot.head.id, "ada") == snapshot


@pytest.mark.fault("E15")
async def test_what_cannot_be_read_is_told_and_left(stored: AsyncEngine) -> None:
    """A lost key, and a value that was moved, stop nothing: they are named, and stay as they are."""
    lost = await filled(journal_of(stored, Encryption(keys={"lost": OLD})), "bob")
    await filled(journal_of(stored, ONLY_OLD))
    report = await rotate_keys(stored, BOTH)
    assert report.left
    assert {value.key for value in report.unreadable} == {"lost"}
    assert {value.table for value in report.unreadable} >= {"chats", "messages", "blobs", "turns"}
    assert "which was not given" in report.unreadable[0].reason
    assert await keys_in(stored) == {"lost", "new"}
    found = await journal_of(stored, Encryption(keys={"lost": OLD, "new": NEW}, current="new")).load(
        lost.head.id, "bob"
    )
    assert found == lost


@pytest.mark.fault("E15")
async def test_plain_values_are_not_laundered(stored: AsyncEngine) -> None:
    """With allow_plaintext=False, what somebody wrote past the encryption is told, and not made to look genuine."""
    snapshot = await filled(journal_of(stored, BOTH))
    async with stored.begin() as connection:
        chats = RECORDS.tables.chats
        await connection.execute(update(chats).where(chats.c.id == snapshot.head.id).values(title="forged"))
    report = await rotate_keys(stored, ONLY_NEW)
    assert [(value.table, value.column, value.key) for value in report.unreadable] == [("chats", "title", None)]
    with pytest.raises(EncryptionError, match="is not encrypted"):
        await journal_of(stored, ONLY_NEW).load(snapshot.head.id, "ada")


async def test_what_is_being_deleted_is_left_alone(stored: AsyncEngine) -> None:
    """A chat whose deletion has begun is neither encrypted anew nor counted."""
    snapshot = await filled(journal_of(stored, None))
    chats = RECORDS.tables.chats
    await rotate_keys(stored, ONLY_OLD)
    async with stored.begin() as connection:
        gone = {"active_turn_id": snapshot.head.id, "instructions": "[]", "settings": "{}", "title": None}
        await connection.execute(update(chats).where(chats.c.id == snapshot.head.id).values(gone))
    report = await rotate_keys(stored, BOTH)
    assert (report.left, report.unreadable) == (0, ())
    async with stored.connect() as connection:
        found = await connection.scalar(select(chats.c.instructions).where(chats.c.id == snapshot.head.id))
    assert found == "[]"


@pytest.mark.parametrize("batch", [0, -1, None, "1"])
async def test_a_batch_has_room(stored: AsyncEngine, batch: Any) -> None:
    """A batch without room is refused, and so is an encryption that is none."""
    with pytest.raises(ConfigurationError, match="is no number of rows"):
        await rotate_keys(stored, BOTH, batch=batch)
    with pytest.raises(ConfigurationError, match="encryption is an Encryption"):
        await rotate_keys(stored, {"a": OLD})  # type: ignore[arg-type]  # a mistake
