"""`verify`: a healthy database has no findings, and each kind of damage is found as what it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import delete, func, insert, literal, literal_column, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    ANY_OWNER,
    ChatNotFoundError,
    ConfigurationError,
    Encryption,
    Persistence,
    SchemaVersionError,
    create_chat,
    load_chat,
    make_engine,
    migrate,
    tool,
    verify,
)
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import JsonDocument, Labels
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.healthy import OWNER, PNG, SPEAKER, get_weather, healthy
from tests.acceptance.speakers import Says
from tests.integration.databases import empty_database
from tests.integration.store.samples import completed, head, with_call
from tests.integration.store.test_counts import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy import ColumnElement, Delete, Executable, Table, Update
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from nodellm_orm.upkeep.findings import VerifyProgress, VerifyReport
    from tests.acceptance.healthy import Healthy
    from tests.integration.databases import DatabaseKind

    Damage = Callable[[Healthy], Executable]

T: Final = RECORDS.tables
UNCHECKED: Final[Mapping[str, list[str]]] = {
    "sqlite": ["PRAGMA ignore_check_constraints = ON"],
    "postgresql": [
        "ALTER TABLE llm_turns DROP CONSTRAINT ck_llm_turns_status",
        "ALTER TABLE llm_messages DROP CONSTRAINT ck_llm_messages_role",
        "ALTER TABLE llm_tool_calls DROP CONSTRAINT ck_llm_tool_calls_status",
        "ALTER TABLE llm_requests DROP CONSTRAINT ck_llm_requests_status",
    ],
    "mysql": ["SET check_constraint_checks = 0"],
}
"""What lets a test write what the constraints forbid."""


def at(table: Table, position: int, column: str = "position") -> Callable[[Healthy], ColumnElement[bool]]:
    """The condition for a row of the chat in which everything has happened."""
    return lambda chats: (table.c.chat_id == chats.full) & (table.c[column] == position)


def change(
    table: Table, where: Callable[[Healthy], ColumnElement[bool]] | None = None, **values: Any
) -> Callable[[Healthy], Update]:
    """An UPDATE of a table; of all rows of the chat in which everything has happened, unless said otherwise."""
    chosen = where or of("full", table)
    return lambda chats: update(table).where(chosen(chats)).values(values)


def of(which: str, table: Table) -> Callable[[Healthy], ColumnElement[bool]]:
    """The condition for rows of one of the other chats."""
    key = table.c.chat_id if "chat_id" in table.c else table.c.id
    return lambda chats: key == getattr(chats, which)


def remove(table: Table, where: Callable[[Healthy], ColumnElement[bool]]) -> Callable[[Healthy], Delete]:
    """A DELETE."""
    return lambda chats: delete(table).where(where(chats))


def raw(words: str) -> Any:
    """A value as it stands in the column, past its type."""
    return literal_column("'" + words.replace("'", "''") + "'")


def first_of(table: Table) -> Callable[[Healthy], ColumnElement[bool]]:
    """The condition for the first of all rows by its digest."""
    return lambda _: table.c.sha256 == select(func.min(select(table.c.sha256).subquery().c.sha256)).scalar_subquery()


A_REQUEST: Final = of("running", T.requests)
# full: 0 user · 1 thinking and two calls · 2, 3 results · 4 answer · 5 user · 6 answer
DAMAGES: Final[dict[str, tuple[Damage, list[tuple[str, str]]]]] = {
    "gap": (change(T.messages, at(T.messages, 6), position=9), [("llm_messages", "position")]),
    "next position": (change(T.chats, next_position=9), [("llm_chats", "next-position")]),
    "parts are no JSON": (change(T.messages, at(T.messages, 4), parts="[{"), [("llm_messages", "parts")]),
    "parts are no parts": (
        change(T.messages, at(T.messages, 4), parts='[{"kind":"text"}]'),
        [("llm_messages", "parts")],
    ),
    "parts were rewritten": (
        change(T.messages, at(T.messages, 4), parts='[{"kind": "text", "text": "Sunny."}]'),
        [("llm_messages", "parts")],
    ),
    "content": (change(T.messages, at(T.messages, 4), content="Rainy."), [("llm_messages", "content")]),
    "role": (change(T.messages, at(T.messages, 4), role="robot"), [("llm_messages", "word")]),
    "turn of a message": (
        change(T.messages, at(T.messages, 4), turn_id=literal("0" * 31 + "1", T.messages.c.turn_id.type)),
        [("llm_messages", "turn-missing")],
    ),
    "thinking changed": (change(T.thinking, text="No."), [("llm_thinking", "thinking-differs")]),
    "thinking lost": (remove(T.thinking, of("full", T.thinking)), [("llm_thinking", "thinking-missing")]),
    "thinking moved": (
        change(T.thinking, position=7),
        [("llm_thinking", "thinking-extra"), ("llm_thinking", "thinking-missing")],
    ),
    "arguments": (change(T.tool_calls, at(T.tool_calls, 1), arguments="{}"), [("llm_tool_calls", "call-differs")]),
    "call lost": (remove(T.tool_calls, at(T.tool_calls, 1)), [("llm_tool_calls", "call-missing")]),
    "call of no message": (
        change(T.tool_calls, at(T.tool_calls, 1), message_id=literal("0" * 32, T.tool_calls.c.message_id.type)),
        [("llm_tool_calls", "call-extra"), ("llm_tool_calls", "call-missing")],
    ),
    "status of a call": (change(T.tool_calls, at(T.tool_calls, 1), status="lost"), [("llm_tool_calls", "word")]),
    "answered and running": (
        change(T.tool_calls, at(T.tool_calls, 1), status="pending"),
        [("llm_tool_calls", "call-status")],
    ),
    "running in a turn that ended": (
        lambda chats: (
            update(T.tool_calls)
            .where(T.tool_calls.c.chat_id != chats.running, T.tool_calls.c.chat_id != chats.interrupted)
            .where(T.tool_calls.c.result_message_id.is_(None))
            .values(status="running")
        ),
        [("llm_tool_calls", "call-status")] * 3,
    ),
    "result changed": (
        change(T.tool_calls, at(T.tool_calls, 1), result="rain"),
        [("llm_tool_calls", "result-differs")],
    ),
    "result unlinked": (
        change(T.tool_calls, at(T.tool_calls, 1), result_message_id=None),
        [("llm_tool_calls", "result-unlinked")],
    ),
    "result elsewhere": (
        lambda chats: (
            update(T.tool_calls)
            .where(at(T.tool_calls, 1)(chats))
            .values(result_message_id=select(T.messages.c.id).where(at(T.messages, 4)(chats)).scalar_subquery())
        ),
        [("llm_tool_calls", "result-message")],
    ),
    "result superseded": (
        change(T.messages, at(T.messages, 3), superseded_at=func.current_timestamp()),
        [("llm_messages", "superseded")],
    ),
    "call superseded": (
        change(T.messages, at(T.messages, 1), superseded_at=func.current_timestamp()),
        [("llm_messages", "superseded"), ("llm_messages", "superseded")],
    ),
    "turns out of order": (
        lambda chats: (
            update(T.messages)
            .where(at(T.messages, 0)(chats))
            .values(turn_id=select(T.turns.c.id).where(at(T.turns, 1)(chats)).scalar_subquery())
        ),
        [("llm_messages", "turn-order")] * 4,
    ),
    "position of a turn": (change(T.turns, at(T.turns, 1), position=5), [("llm_turns", "turn-position")]),
    "status of a turn": (change(T.turns, at(T.turns, 1), status="lost"), [("llm_turns", "word")]),
    "suspended without reason": (
        change(T.turns, at(T.turns, 1), status="suspended", reason=None),
        [("llm_turns", "turn-reason")],
    ),
    "ended without a time": (change(T.turns, at(T.turns, 1), finished_at=None), [("llm_turns", "turn-end")]),
    "settings of a turn": (change(T.turns, at(T.turns, 1), settings="{"), [("llm_turns", "settings")]),
    "slot of a turn that ended": (change(T.turns, at(T.turns, 1), active_slot=1), [("llm_turns", "active-slot")]),
    "no slot": (change(T.turns, of("running", T.turns), active_slot=None), [("llm_turns", "active-slot")]),
    "chat is free and turn runs": (
        change(T.chats, of("running", T.chats), active_turn_id=None, lease_owner=None, lease_until=None),
        [("llm_turns", "active-turn")],
    ),
    "active turn is of nobody": (
        change(T.chats, of("running", T.chats), active_turn_id=literal("0" * 32, T.chats.c.active_turn_id.type)),
        [("llm_chats", "active-turn"), ("llm_turns", "active-turn")],
    ),
    "no lease": (change(T.chats, of("running", T.chats), lease_until=None), [("llm_chats", "lease")]),
    "no worker": (change(T.chats, of("running", T.chats), lease_owner=None), [("llm_chats", "lease")]),
    "worker of a free chat": (change(T.chats, lease_owner="w"), [("llm_chats", "lease")]),
    "instructions": (change(T.chats, instructions='["a", 1]'), [("llm_chats", "instructions")]),
    "settings": (change(T.chats, settings="[]"), [("llm_chats", "settings")]),
    "metadata": (change(T.chats, metadata=raw("[1]")), [("llm_chats", "unreadable")]),
    "attachment": (
        change(T.attachments, at(T.attachments, 1), media_type="image/gif"),
        [("llm_attachments", "attachment-differs")],
    ),
    "attachment lost": (
        remove(T.attachments, at(T.attachments, 1)),
        [("llm_attachments", "attachment-missing")],
    ),
    "size of an attachment": (
        change(T.attachments, at(T.attachments, 1), size=1),
        [("llm_attachments", "attachment-size")],
    ),
    "file lost": (remove(T.blobs, first_of(T.blobs)), [("llm_attachments", "file-missing")]),
    "file changed": (
        change(T.blobs, first_of(T.blobs), data=b"other", size=T.blobs.c.size),
        [("llm_blobs", "file-digest")],
    ),
    "size of a file": (
        change(T.blobs, first_of(T.blobs), size=1),
        [("llm_attachments", "attachment-size"), ("llm_blobs", "file-size")],
    ),
    "text changed": (change(T.texts, first_of(T.texts), text="other"), [("llm_texts", "text-digest")]),
    "request open": (
        lambda chats: update(T.requests).where(T.requests.c.chat_id == chats.full).values(status="started"),
        [("llm_requests", "request-open")] * 3,
    ),
    "status of a request": (change(T.requests, A_REQUEST, status="lost"), [("llm_requests", "word")]),
    "tokens": (change(T.requests, A_REQUEST, input_tokens=-1), [("llm_requests", "tokens")]),
    "other tokens": (change(T.requests, A_REQUEST, other_tokens={"n": "many"}), [("llm_requests", "tokens")]),
    "negative cost": (change(T.requests, A_REQUEST, input_cost=-1), [("llm_requests", "cost")]),
    "cost": (change(T.requests, A_REQUEST, cost=1), [("llm_requests", "cost")]),
    "prices": (change(T.requests, A_REQUEST, prices="{"), [("llm_requests", "prices")]),
    "labels": (change(T.requests, A_REQUEST, labels=raw("{")), [("llm_requests", "unreadable")]),
}


@tool(requires_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


def rules(report: VerifyReport) -> list[tuple[str, str]]:
    """Table and rule of each finding."""
    return sorted((finding.table, finding.rule) for finding in report.findings)


async def damaged(connection: AsyncConnection, statement: Executable) -> VerifyReport:
    """What is found in a database with a damage, which is then taken back."""
    transaction = await connection.begin()
    try:
        if connection.dialect.name == "postgresql":
            for free in UNCHECKED["postgresql"]:
                await connection.execute(text(free))
        done = await connection.execute(statement)
        assert done.rowcount > 0, "the damage was not done"
        async with AsyncSession(connection) as session:
            return await verify(session)
    finally:
        await transaction.rollback()


async def test_each_damage_is_found_and_nothing_else(engine: AsyncEngine) -> None:
    """Every rule is broken by one statement, in turn, and that rule alone is reported, at the row that breaks it."""
    chats = await healthy(engine)
    found: dict[str, list[tuple[str, str]]] = {}
    async with engine.connect() as connection:
        if connection.dialect.name != "postgresql":
            for free in UNCHECKED[connection.dialect.name]:
                await connection.execute(text(free))
            await connection.commit()
        for name, (damage, _) in DAMAGES.items():
            found[name] = rules(await damaged(connection, damage(chats)))
    assert found == {name: sorted(expected) for name, (_, expected) in DAMAGES.items()}


async def test_a_healthy_database_has_no_findings(engine: AsyncEngine) -> None:
    """Chats in which about everything has happened are sound; an interrupted turn is noted, and no damage."""
    chats = await healthy(engine)
    report = await verify(engine)

    assert (report.ok, report.damaged, report.findings) == (True, 0, ())
    assert [(note.rule, note.chat_id) for note in report.notes] == [("interrupted", chats.interrupted)]
    assert report.chats == chats.chats
    async with engine.connect() as connection:
        numbers = {
            name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in (
                ("messages", T.messages),
                ("turns", T.turns),
                ("calls", T.tool_calls),
                ("requests", T.requests),
                ("files", T.blobs),
                ("texts", T.texts),
            )
        }
    assert numbers == {name: getattr(report, name) for name in numbers}
    assert min(numbers.values()) > 1


async def test_one_chat_is_verified_with_what_is_its_own(engine: AsyncEngine) -> None:
    """Only that chat, its requests, files and texts are looked at; of another owner, there is no such chat."""
    chats = await healthy(engine)
    report = await verify(engine, str(chats.full), owner=OWNER)
    assert (report.ok, report.chats, report.requests, report.files, report.texts) == (True, 1, 3, 2, 2)
    with pytest.raises(ChatNotFoundError):
        await verify(engine, chats.full, owner="eve")
    with pytest.raises(ChatNotFoundError):
        await verify(engine, chats.full, owner=None)
    with pytest.raises(ConfigurationError, match="UUID"):
        await verify(engine, "no id")

    async with engine.begin() as connection:
        await connection.execute(update(T.blobs).values(data=b"other", size=T.blobs.c.size))
        await connection.execute(update(T.requests).values(input_tokens=-1))
    damaged_report = await verify(engine, chats.full)
    assert rules(damaged_report) == [("llm_blobs", "file-digest")] * 2 + [("llm_requests", "tokens")] * 3


async def test_an_owner_s_chats_alone(engine: AsyncEngine) -> None:
    """With an owner, only what is his is looked at; None means what is nobody's."""
    await healthy(engine)
    everybody, ada = await verify(engine, owner=ANY_OWNER), await verify(engine, owner=OWNER)
    nobody = await verify(engine, owner=None)
    assert (ada.chats, nobody.chats) == (4, 2)
    assert everybody.chats == 8
    assert 0 < ada.requests < everybody.requests
    assert (ada.files, nobody.files, everybody.files) == (2, 0, 2)


async def test_findings_name_the_row(engine: AsyncEngine) -> None:
    """A finding names chat, table and row, and says in a sentence what is wrong, without a word of the conversation."""
    chats = await healthy(engine)
    async with engine.begin() as connection:
        await connection.execute(update(T.messages).where(at(T.messages, 4)(chats)).values(content="a secret word"))
        row = await connection.scalar(select(T.messages.c.id).where(at(T.messages, 4)(chats)))
    (finding,) = (await verify(engine)).findings
    assert (finding.chat_id, finding.table, finding.id) == (chats.full, "llm_messages", str(row))
    assert str(finding) == f"llm_messages {row}: content is not the text of the parts (content)"


async def test_nothing_is_written(engine: AsyncEngine) -> None:
    """Only SELECT statements reach the database."""
    await healthy(engine)
    with watched(engine) as seen:
        await verify(engine)
    assert seen.statements
    assert {statement.split()[0] for statement in seen.statements} == {"SELECT"}


async def test_many_chats_take_few_queries_and_batches(engine: AsyncEngine) -> None:
    """The number of queries grows with the batches of chats, not with the chats; progress is told for each batch."""
    row = {"owner": None, "created_at": func.current_timestamp(), "updated_at": func.current_timestamp()}
    told: list[VerifyProgress] = []
    async with engine.begin() as connection:
        for _ in range(250):
            await connection.execute(insert(T.chats).values(id=new_id(), **row))
    with watched(engine) as seen:
        report = await verify(engine, progress=told.append)
    assert (report.ok, report.chats) == (True, 250)
    assert len(seen.statements) < 40
    chats = [(news.done, news.total) for news in told if news.stage == "chats"]
    assert chats == [(100, 250), (200, 250), (250, 250)]
    assert [news.stage for news in told if news.stage != "chats"] == ["requests"]


async def test_only_so_many_findings_are_kept(engine: AsyncEngine) -> None:
    """Beyond the limit, findings are counted and not kept."""
    await healthy(engine)
    async with engine.begin() as connection:
        await connection.execute(update(T.messages).values(content="x"))
        number = await connection.scalar(select(func.count()).select_from(T.messages))
    report = await verify(engine, limit=2)
    assert (len(report.findings), report.damaged, report.ok) == (2, number, False)
    with pytest.raises(ConfigurationError, match="limit"):
        await verify(engine, limit=0)


async def test_whatever_is_in_a_column_is_a_finding_and_no_exception(engine: AsyncEngine) -> None:
    """Garbage in any column of text, of any table, ends in a report."""
    await healthy(engine)
    quiet: list[str] = []
    async with engine.connect() as connection:
        for free in UNCHECKED[connection.dialect.name] if connection.dialect.name != "postgresql" else ():
            await connection.execute(text(free))
        await connection.commit()
        for table in T:
            for column in table.columns:
                if isinstance(column.type, JsonDocument | Labels):
                    for garbage in ("", "[[[[", "[1,{}]", '[{"kind":7}]', "{}"):
                        report = await damaged(connection, update(table).values({column.name: raw(garbage)}))
                        if report.ok:
                            quiet.append(f"{table.name}.{column.name} {garbage}")
    # An empty JSON object, or list, is what some columns hold by right; opaque is only ever compared with its part.
    assert {place.split(" ")[0] for place in quiet} <= {
        *("llm_chats.settings", "llm_chats.metadata", "llm_turns.settings", "llm_chats.instructions"),
        *("llm_requests.metadata", "llm_requests.labels", "llm_requests.other_tokens", "llm_requests.prices"),
    }


async def test_values_that_a_column_cannot_hold(tmp_path: Path) -> None:
    """SQLite takes anything anywhere: ids, times and numbers that are none are told, and so are bytes in texts."""
    async with empty_database("sqlite", tmp_path) as url:
        engine = make_engine(url)
        await migrate(engine)
        await healthy(engine)
        damages = {
            "llm_messages": ["id = 'x'", "turn_id = 'x'", "created_at = 'then'", "content = x'ff'", "parts = x'00'"],
            "llm_turns": ["position = 'first'", "started_at = 7", "id = ''"],
            "llm_tool_calls": ["attempts = 'many'", "message_id = 'x'"],
            "llm_requests": ["cost = 'much'", "id = 'x'", "chat_id = 'x'"],
            "llm_blobs": ["size = 'big'", "data = 'text'"],
            "llm_texts": ["text = x'ff'"],
            "llm_chats": ["next_position = 'x'", "fence = 'x'", "lease_until = 'x'", "id = 'x'"],
        }
        found: dict[str, list[str]] = {}
        async with engine.connect() as connection:
            await connection.execute(text("PRAGMA foreign_keys = OFF"))
            await connection.execute(text("PRAGMA ignore_check_constraints = ON"))
            await connection.commit()
            for table, changes in damages.items():
                for values in changes:
                    # Names and values are this test's own.
                    words = f"UPDATE {table} SET {values} WHERE rowid = (SELECT MIN(rowid) FROM {table})"  # noqa: S608
                    report = await damaged(connection, text(words))
                    found[f"{table} {values}"] = sorted({finding.rule for finding in report.findings})
        await engine.dispose()
    assert {place: told for place, told in found.items() if told != ["unreadable"]} == {}


async def test_text_that_the_driver_cannot_read(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 fail the driver itself: the chat they are in is told, and the others are looked at."""
    async with empty_database("sqlite", tmp_path) as url:
        engine = make_engine(url)
        await migrate(engine)
        chats = await healthy(engine)
        async with engine.begin() as connection:
            await connection.execute(
                text("UPDATE llm_messages SET content = CAST(x'ff41' AS TEXT) WHERE chat_id = :chat AND position = 0"),
                {"chat": chats.full.hex},
            )
        report = await verify(engine)
        await engine.dispose()
    assert [(finding.chat_id, finding.rule) for finding in report.findings] == [(chats.full, "unreadable")]
    assert report.chats == chats.chats


async def test_what_a_later_release_writes_is_no_damage(engine: AsyncEngine) -> None:
    """Parts of an unknown kind are kept as they are, and unknown words for why something ended are noted."""
    chats = await healthy(engine)
    parts = '[{"kind":"hologram","digits":1.50},{"kind":"text","text":"Sunny."}]'
    async with engine.begin() as connection:
        here = at(T.messages, 4)(chats)
        await connection.execute(update(T.messages).where(here).values(parts=parts, finish_reason="bored"))
    report = await verify(engine, chats.full)
    assert report.ok
    assert [note.rule for note in report.notes] == ["unknown-word"]


async def test_chats_in_use_are_no_damage(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """While chats are written all the time, nothing half-written is taken for damage."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = make_engine(url)
        await migrate(engine)
        journal = SqlJournal(open_access(engine, RECORDS), RECORDS)
        over = asyncio.Event()

        async def write() -> None:
            while not over.is_set():
                snapshot = await journal.create(head())
                for _ in range(3):
                    snapshot = await completed(journal, snapshot)
                await with_call(journal)

        writers = [asyncio.ensure_future(write()) for _ in range(2)]
        try:
            reports = [await verify(engine) for _ in range(10)]
        finally:
            over.set()
            await asyncio.gather(*writers)
        await engine.dispose()
    assert [report.findings for report in reports] == [()] * 10


async def test_encrypted_content(engine: AsyncEngine) -> None:
    """With the key everything is compared; without it that is noted; a value that was moved is damage."""
    keys = Encryption(keys={"k1": Encryption.generate_key()})
    script = (
        Says(thinking=[FakeThinking("hm")], calls=[FakeCall("get_weather", {"city": "Rome"})]),
        Says(text="Sunny."),
    )
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(
            engine, llm, owner=OWNER, instructions="Be brief.", tools=[get_weather], encryption=keys
        )
        await chat.ask("Weather?", files=[PNG])
    with_key, without = await verify(engine, encryption=keys), await verify(engine)
    assert (with_key.ok, with_key.notes, with_key.files, with_key.texts) == (True, (), 1, 2)
    assert (without.ok, [note.rule for note in without.notes]) == (True, ["encrypted"])
    assert "k1" in without.notes[0].message

    async with engine.begin() as connection:
        moved = select(T.messages.c.content).where(T.messages.c.position == 3).scalar_subquery()
        # MySQL reads from the table it writes to only through a derived table.
        derived = select(select(moved.label("moved")).subquery().c.moved).scalar_subquery()
        await connection.execute(update(T.messages).where(T.messages.c.position == 0).values(content=derived))
    report = await verify(engine, chat.id, encryption=keys)
    assert rules(report) == [("llm_messages", "tampered")]


@pytest.mark.parametrize(
    "kept",
    [
        {"persist": Persistence(content=False)},
        {"persist": Persistence(thinking=False)},
        {"persist": Persistence(tool_results=False)},
        {"redact": lambda words: words.replace("Rome", "[city]").replace("cat.png", "[name]")},
    ],
    ids=["no content", "no thinking", "no results", "redacted"],
)
async def test_what_was_not_written_is_not_missed(engine: AsyncEngine, kept: dict[str, Any]) -> None:
    """Chats of which only a part is stored, or in other words, are sound, a denied call in them included."""
    weather = FakeCall("get_weather", {"city": "Rome"})
    hm = [FakeThinking("I think of Rome")]
    script = (Says(thinking=hm, calls=[weather]), Says(text="Rome is sunny."), Says(calls=[FakeCall("pay", {})]))
    async with SPEAKER.server(*script, Says(text="ok")) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions="About Rome.", tools=[get_weather, pay], **kept)
        await chat.ask("Weather in Rome?", files=[("cat.png", PNG)])
        await chat.ask("Pay in Rome")
        (waiting,) = chat.pending_approvals
        await chat.deny(waiting.call_id, "not in Rome", by="ann")
        await chat.resume()
    report = await verify(engine)
    assert (report.findings, report.notes, report.calls) == ((), (), 2)


async def test_a_branch_is_sound(engine: AsyncEngine) -> None:
    """A fork, with the rows it copied, has no findings, also when its parent is gone."""
    chats = await healthy(engine)
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        parent = await load_chat(engine, llm, chats.full, owner=OWNER)
        branch = await parent.fork()
        left = await parent.fork(at=4)
        assert (await verify(engine)).ok
        await parent.delete()
    report = await verify(engine)
    assert (report.findings, report.chats) == ((), chats.chats + 1)
    assert (await verify(engine, branch.id)).messages == 7
    assert (await verify(engine, left.id)).messages == 5


async def test_new_answers_and_changed_questions_are_sound(engine: AsyncEngine) -> None:
    """What was superseded by regenerate() and edit() stays in the rows, and is no damage."""
    weather = FakeCall("get_weather", {"city": "Rome"})
    script = (Says(calls=[weather]), Says(text="a"), Says(calls=[weather]), Says(text="b"), Says(text="c"))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[get_weather])
        await chat.ask("Weather?")
        await chat.regenerate()
        await chat.edit(0, "Something else")
    report = await verify(engine)
    assert (report.findings, report.notes) == ((), ())
    assert report.messages > len(chat.messages)


async def test_missing_tables_are_an_error_with_the_remedy(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """Without tables there is nothing to verify, and the error says what to run."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = make_engine(url)
        with pytest.raises(SchemaVersionError, match="db upgrade"):
            await verify(engine)
        await engine.dispose()
