"""Deleting chats in every journal: what goes, what stays, and who is told; in SQL row by row, and at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, event, func, select, update

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message, user
from nodellm_orm.errors import ChatError, ChatNotFoundError, StaleChatError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store import heads
from nodellm_orm.store.access import open_access
from nodellm_orm.store.deletion import Removed, remove
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import Id
from tests.integration.store.samples import answer, attempt, begin, begun, closed, completed, head, with_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.journal import SqlJournal

TABLES: Final = RECORDS.tables
CHILDREN: Final = (TABLES.turns, TABLES.messages, TABLES.tool_calls, TABLES.thinking, TABLES.attachments)
PICTURE: Final = media_part(b"\xff\xd8\xff one", name="a.jpg")
LONG_ENOUGH: Final = 0.5
"""Seconds in which a deletion that does not wait for anybody would have ended."""
DRAWING: Final = media_part(b"\xff\xd8\xff two", name="b.jpg")


def given(*parts: Any) -> tuple[UUID, Message]:
    """A message with files."""
    return new_id(), Message(role="user", parts=parts)


async def number(engine: AsyncEngine, table: Table, **values: Any) -> int:
    """How many rows of a table have these values."""
    wanted = [table.c[name].is_not_distinct_from(value) for name, value in values.items()]
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(table).where(*wanted))).scalar_one())


async def left_of(engine: AsyncEngine, chat_id: UUID) -> int:
    """How many rows of a chat's content there are."""
    return sum([await number(engine, table, chat_id=chat_id) for table in CHILDREN])


# ── every journal ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_chat_is_not_found_by_anything(journal: Journal) -> None:
    """After a deletion every method says what it says of a chat that never was, also to everybody's owner."""
    snapshot = await completed(journal, await journal.create(head()))
    key, last = snapshot.head.id, snapshot.last_turn
    assert last is not None
    assert await journal.delete(key, "ada")
    for attempted in (
        journal.load(key, "ada"),
        journal.load(key, ANY_OWNER),
        journal.update(snapshot.head),
        journal.append(snapshot.head, snapshot.fence, [(new_id(), user("x"))]),
        journal.history(key, "ada", limit=1),
        journal.turn(key, "ada", last.id),
        journal.totals(key, "ada"),
        journal.cancel(key, "ada"),
        journal.take_over(key, "ada", last.id, worker="w", lease=1.0),
        begin(journal, snapshot),
    ):
        with pytest.raises(ChatNotFoundError):
            await attempted
    listed = await journal.summaries("ada", limit=1000)
    assert key not in {chat.id for chat in listed}


async def test_a_deletion_that_finds_nothing_is_harmless(journal: Journal) -> None:
    """The second deletion of a chat, and that of one that never was, change nothing and say so."""
    kept = await journal.create(head())
    gone = await journal.create(head())
    assert await journal.delete(gone.head.id, "ada")
    assert not await journal.delete(gone.head.id, "ada")
    assert not await journal.delete(new_id(), ANY_OWNER)
    assert await journal.load(kept.head.id, "ada") == kept


@pytest.mark.parametrize("owner", ["Ada", "ada ", "", None, "bob"])
async def test_only_the_exact_owner_deletes_a_chat(journal: Journal, owner: Owner) -> None:
    """To anybody else it is as if there were no such chat."""
    kept = await journal.create(head("ada"))
    assert not await journal.delete(kept.head.id, owner)
    assert await journal.load(kept.head.id, "ada") == kept


async def test_any_owner_deletes_every_chat(journal: Journal) -> None:
    """Said aloud, chats of every owner are meant."""
    for owner in ("ada", None):
        snapshot = await journal.create(head(owner))
        assert await journal.delete(snapshot.head.id, ANY_OWNER)


@pytest.mark.fault("C63")
async def test_a_worker_whose_chat_is_deleted_writes_nothing(journal: Journal) -> None:
    """The next point and the next renewal find that the chat is gone, and the error says so."""
    turn = await begun(journal)
    assert await journal.delete(turn.hold.chat_id, "ada")
    with pytest.raises(StaleChatError, match="was deleted"):
        await journal.record(turn.hold, (closed(turn.opened), answer(1)))
    assert await journal.renew([turn.hold]) == {turn.turn_id}
    await journal.account(turn.hold, [closed(turn.opened)])
    assert not await journal.delete(turn.hold.chat_id, ANY_OWNER)


async def test_nothing_is_accounted_for_a_chat_that_is_there(journal: Journal) -> None:
    """What a successor has found to be of unknown outcome stays so, whatever a worker says who has lost the chat."""
    turn = await begun(journal)
    assert await journal.cancel(turn.hold.chat_id, "ada")
    await journal.account(turn.hold, [closed(turn.opened)])
    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert [(a.status, a.cost) for a in state.attempts] == [("unknown", None)]


async def test_the_same_id_can_be_used_again(journal: Journal) -> None:
    """A chat that is created under the id of a deleted one is new."""
    first = await completed(journal, await journal.create(head()))
    await journal.delete(first.head.id, "ada")
    again = await journal.create(replace(first.head, owner="bob"))
    assert (again.messages, again.last_turn, again.head.owner) == ((), None, "bob")


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_content_goes_and_the_ledger_stays(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """No row of turns, messages, calls, thinking and attachments is left, and the attempts are as they were."""
    turn, _, _ = await with_call(sql_journal)
    key = turn.hold.chat_id
    requests = select(TABLES.requests).where(TABLES.requests.c.chat_id == key)
    async with tables.connect() as connection:
        before = (await connection.execute(requests)).mappings().all()
    assert await left_of(tables, key) > 0

    assert await sql_journal.delete(key, "ada")

    assert await left_of(tables, key) == 0
    assert await number(tables, TABLES.chats, id=key) == 0
    async with tables.connect() as connection:
        assert (await connection.execute(requests)).mappings().all() == before
    assert [(row["owner"], row["status"], row["labels"]) for row in before] == [
        ("ada", "ok", {"team": "blue", "size": 3})
    ]


@pytest.mark.fault("C63")
async def test_what_was_paid_for_is_accounted_after_the_deletion(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """The open attempt is unknown with the deletion, and has its usage and its cost when the answer comes after all."""
    turn = await begun(sql_journal)
    await sql_journal.delete(turn.hold.chat_id, "ada")
    row = TABLES.requests.c
    wanted = select(row.status, row.cost, row.output_tokens, row.message_id).where(row.id == turn.opened.id)
    async with tables.connect() as connection:
        assert tuple((await connection.execute(wanted)).one()) == ("unknown", None, None, None)

    paid = closed(turn.opened)
    await sql_journal.account(turn.hold, [paid])
    await sql_journal.account(turn.hold, [replace(paid, status="failed")])  # it is known by now

    async with tables.connect() as connection:
        assert tuple((await connection.execute(wanted)).one()) == ("ok", paid.cost.total, 7, None)


async def test_nothing_leads_back_to_an_erased_owner(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """An answer that comes after its owner was erased is accounted without what it could be traced by."""
    turn = await begun(sql_journal)
    await sql_journal.delete(turn.hold.chat_id, "ada")
    row = TABLES.requests.c
    async with tables.begin() as connection:
        erased = update(TABLES.requests).where(row.id == turn.opened.id)
        await connection.execute(erased.values(chat_id=None, owner=None))
    await sql_journal.account(turn.hold, [closed(turn.opened)])
    wanted = select(row.status, row.output_tokens, row.request_id, row.chat_id).where(row.id == turn.opened.id)
    async with tables.connect() as connection:
        assert tuple((await connection.execute(wanted)).one()) == ("ok", 7, None, None)


async def test_contents_go_with_the_last_chat_of_their_owner(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A file that another chat of the owner has stays, also for an owner who is nobody; one that is nowhere goes."""
    for owner in ("ada", None, ""):
        both = await sql_journal.create(head(owner), [given(PICTURE, DRAWING), given(PICTURE)])
        one = await sql_journal.create(head(owner), [given(PICTURE)])
        others = await sql_journal.create(head("eve"), [given(PICTURE, DRAWING)])
        await sql_journal.delete(both.head.id, owner)
        for part, kept in ((PICTURE, 1), (DRAWING, 0)):
            assert await number(tables, TABLES.blobs, owner=owner, sha256=part.sha256) == kept
        assert (await sql_journal.load(one.head.id, owner)).messages[0].parts == (PICTURE,)
        assert (await sql_journal.load(others.head.id, "eve")).messages[0].parts == (PICTURE, DRAWING)
        await sql_journal.delete(one.head.id, owner)
        assert await number(tables, TABLES.blobs, owner=owner, sha256=PICTURE.sha256) == 0
        assert await number(tables, TABLES.blobs, owner="eve", sha256=PICTURE.sha256) == 1


@pytest.mark.fault("E16")
async def test_a_deletion_waits_for_whoever_gives_the_same_file(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A chat that is being created with a file which is about to go keeps it: neither overlooks the other."""
    old, new = await sql_journal.create(head("ada"), [given(PICTURE)]), head("ada")
    async with tables.connect() as connection:
        await connection.run_sync(lambda work: heads.create(work, TABLES, new, [given(PICTURE)], {}))
        deleting = asyncio.create_task(sql_journal.delete(old.head.id, "ada"))
        ended, _ = await asyncio.wait({deleting}, timeout=LONG_ENOUGH)
        await connection.commit()
    assert await deleting
    assert not ended
    assert (await sql_journal.load(new.id, "ada")).messages[0].parts == (PICTURE,)
    await sql_journal.delete(new.id, "ada")


@pytest.mark.fault("E16")
async def test_a_file_given_again_while_it_is_deleted_is_there(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Chats that come and go with the same file never lose the content of one that stays."""
    kept: list[UUID] = []

    async def come_and_go(number: int) -> None:
        snapshot = await sql_journal.create(head("ada"), [given(PICTURE)])
        if number % 2:
            kept.append(snapshot.head.id)
        else:
            assert await sql_journal.delete(snapshot.head.id, "ada")

    for _ in range(5):
        await asyncio.gather(*(come_and_go(number) for number in range(6)))
        for key in kept:
            assert (await sql_journal.load(key, "ada")).messages[0].parts == (PICTURE,)
        for key in kept:
            await sql_journal.delete(key, "ada")
        kept.clear()
    assert await number(tables, TABLES.blobs, owner="ada", sha256=PICTURE.sha256) == 0


@pytest.mark.fault("E16")
async def test_a_long_chat_goes_in_short_transactions(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """No transaction deletes more rows than it may, and from the first one on nobody finds the chat."""
    snapshot = await sql_journal.create(head(), [given(PICTURE) for _ in range(25)])
    key, steps = snapshot.head.id, list[Removed]()

    async def told(removed: Removed) -> None:
        steps.append(removed)
        with pytest.raises(ChatNotFoundError):
            await sql_journal.load(key, ANY_OWNER)
        assert key not in {chat.id for chat in await sql_journal.summaries(ANY_OWNER, limit=1000)}

    removed = await remove(open_access(tables, RECORDS), TABLES, key, "ada", batch=7, told=told)

    assert removed == Removed(chats=1, messages=25, attachments=25, blobs=1)
    assert [step.messages + step.attachments for step in steps] == [7, 7, 7, 7, 7, 7, 7, 1]


async def test_a_broken_off_deletion_is_finished_by_the_next(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """What has begun to go is found by nobody, cannot be created anew, and goes with the next deletion."""
    snapshot = await sql_journal.create(head(), [given(PICTURE, DRAWING) for _ in range(10)])
    key = snapshot.head.id

    class BrokenOffError(Exception):
        """What a process that ends looks like from inside."""

    async def told(_: Removed) -> None:
        raise BrokenOffError

    with pytest.raises(BrokenOffError):
        await remove(open_access(tables, RECORDS), TABLES, key, "ada", batch=5, told=told)

    assert 0 < await left_of(tables, key) < 30
    with pytest.raises(ChatNotFoundError):
        await sql_journal.load(key, "ada")
    with pytest.raises(ChatNotFoundError):
        await sql_journal.create(snapshot.head)
    assert not await sql_journal.delete(key, "bob")
    assert await sql_journal.delete(key, "ada")
    assert await left_of(tables, key) == 0
    assert await number(tables, TABLES.blobs, owner="ada", sha256=DRAWING.sha256) == 0


async def test_of_several_deletions_at_once_one_says_it_was_it(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Workers that delete the same chat in small steps get in nobody's way."""
    snapshot = await sql_journal.create(head(), [given(PICTURE) for _ in range(20)])
    key, access = snapshot.head.id, open_access(tables, RECORDS)
    removed = await asyncio.gather(*(remove(access, TABLES, key, "ada", batch=4) for _ in range(4)))
    assert sum(each.chats for each in removed) == 1
    assert sum(each.messages for each in removed) == 20
    assert await left_of(tables, key) == 0


@pytest.mark.fault("C63")
async def test_deletion_and_points_at_the_same_time_leave_no_orphan(
    sql_journal: SqlJournal, tables: AsyncEngine
) -> None:
    """Whatever a worker is writing just then, nothing of the chat is left, and its attempts have ended."""
    for _ in range(8):
        turn = await begun(sql_journal)
        key = turn.hold.chat_id

        async def write(hold: Any = turn.hold, opened: Any = turn.opened) -> None:
            for position in range(1, 6):
                following = attempt()
                try:
                    hold = await sql_journal.record(hold, (closed(opened), answer(position), following))
                except StaleChatError:
                    return
                opened = following

        await asyncio.gather(write(), sql_journal.delete(key, "ada"))
        assert await left_of(tables, key) == 0
        assert await number(tables, TABLES.chats, id=key) == 0
        assert await number(tables, TABLES.requests, chat_id=key, status="started") == 0


async def test_a_turn_that_begins_during_a_deletion_leaves_nothing(
    sql_journal: SqlJournal, tables: AsyncEngine
) -> None:
    """Whether it was begun before the chat went or is refused afterwards, no row of it stays."""
    for _ in range(8):
        snapshot = await sql_journal.create(head(), [given(PICTURE)])
        results = await asyncio.gather(
            begin(sql_journal, snapshot), sql_journal.delete(snapshot.head.id, "ada"), return_exceptions=True
        )
        assert results[1] is True
        assert await left_of(tables, snapshot.head.id) == 0


# ── rows of the host ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def orders(tables: AsyncEngine) -> AsyncIterator[Table]:
    """A table of the host that refers to chats."""
    metadata = MetaData()
    TABLES.chats.to_metadata(metadata)
    orders = Table(
        "orders",
        metadata,
        Column("id", Id, primary_key=True),
        Column("chat_id", Id, ForeignKey("llm_chats.id", name="fk_orders_chat"), nullable=True),
    )
    async with tables.begin() as connection:
        await connection.run_sync(orders.create)
    yield orders
    async with tables.begin() as connection:
        await connection.run_sync(orders.drop)


@pytest.fixture
async def enforcing(tables: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """The engine, with foreign keys enforced also on SQLite."""

    def enforce(driver: Any, _: Any, __: Any) -> None:
        if tables.dialect.name == "sqlite":
            driver.execute("PRAGMA foreign_keys = ON")

    event.listen(tables.sync_engine, "checkout", enforce)
    yield tables
    event.remove(tables.sync_engine, "checkout", enforce)


@pytest.mark.parametrize("batch", [3, 1000])
async def test_a_chat_that_host_rows_refer_to_is_kept_whole(
    sql_journal: SqlJournal, enforcing: AsyncEngine, orders: Table, batch: int
) -> None:
    """The error names the table, and nothing is deleted, however long the chat; afterwards it can go."""
    snapshot = await sql_journal.create(head(), [given(PICTURE) for _ in range(5)])
    key, access = snapshot.head.id, open_access(enforcing, RECORDS)
    async with enforcing.begin() as connection:
        await connection.execute(orders.insert().values(id=new_id(), chat_id=key))

    with pytest.raises(ChatError, match=f"chat {key} cannot be deleted: rows of orders refer to it"):
        await remove(access, TABLES, key, "ada", batch=batch)
    assert await sql_journal.load(key, "ada") == snapshot

    async with enforcing.begin() as connection:
        await connection.execute(update(orders).values(chat_id=None))
    assert (await remove(access, TABLES, key, "ada", batch=batch)).chats == 1
