"""The index of words: the same is found with it and without it, it follows what is written, and it goes as it came."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import (
    Encryption,
    create_search_index,
    define_records,
    drop_search_index,
    migrate,
    purge,
    search_messages,
)
from nodellm_orm.alembic import include_object, include_owned
from nodellm_orm.domain.words import WordQuery, folded
from nodellm_orm.models import Base, MessageRecord
from nodellm_orm.search import letters, reading
from nodellm_orm.search.keeping import has_search_index
from nodellm_orm.store.schema import check, downgrade
from tests.acceptance.searching import found, places, saying
from tests.migrations.definitions import definitions
from tests.migrations.test_drift import check_command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

PIECES: Final = (
    *("needle", "Needle", "NEEDLE", "needles", "the", "a", "of", "www", "12", "1e5", "0x1F", "e", "naïve", "NAÏVE"),
    *(
        "école",
        "ÉCOLE",
        "Straße",
        "дом",
        "ДОМ",
        "ΟΔΟΣ",
        "日本",
        "語",
        "で",
        "서울",
        "हिन्दी",
        "مرحبا",
        "ⅷ",
        "²",
        "ª",
        "Ⓐ",
    ),
    *(
        " ",
        " ",
        " ",
        " ",
        "\n",
        "-",
        "_",
        ".",
        "'",
        "@",
        "/",
        "+",
        "\x00",
        "\ud800",
        "\u0301",
        "\u200b",
        "🤖",
        "🚀",
        "\u212a",
    ),
    *("\ue000", "\u1e9e", "\u0130", "\U0001e900", "\ufb01", "x" * 81, "y" * 80),
)
"""What texts are made of, one right behind the other: letters beside signs that databases may take for letters."""
PLAIN: Final = tuple(piece for piece in PIECES if piece.isascii() or piece[0] in "éÉnN") * 2 + ("_",) * 6
"""Those of which no database has to be unsure."""
TYPED: Final = (
    *(
        "needle",
        "needle*",
        "nee*",
        "the",
        "a",
        "of",
        "12",
        "1e5",
        "0x1f",
        "naïve",
        "école",
        "éc*",
        "straße",
        "дом",
        "дом*",
    ),
    *(
        "οδοσ",
        "日本",
        "語",
        "python",
        "서울",
        "हिन्दी",
        "ª",
        '"needle the"',
        '"the a of"',
        "needle -дом",
        "the -needles",
        "k",
        "x",
        "e*",
    ),
    *("y" * 80, "y" * 79 + "*", "fi", "مرحبا", "12e5", "a_e", "www.the", "1e5e", "12e", "0x1f12", "e12", "1e512"),
)


@pytest.fixture
async def say(engine: AsyncEngine) -> AsyncIterator[Callable[..., Awaitable[Chat]]]:
    """Makes chats in which texts have been said."""
    async with saying(engine) as say:
        yield say


@pytest.fixture(autouse=True)
def asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message is read before the index is asked, and a page takes three of it at a time."""
    monkeypatch.setattr(reading, "CHUNK", 1)
    monkeypatch.setattr(reading, "CHUNKS", 1000)
    monkeypatch.setattr(reading, "_CANDIDATES", 3)


async def run(engine: AsyncEngine, *statements: str) -> None:
    """Run statements of SQL."""
    async with engine.begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def is_indexed(engine: AsyncEngine, typed: str) -> bool:
    """Whether a search for something uses an index."""
    return (await search_messages(engine, typed)).indexed


async def test_the_same_is_found_with_the_index_and_without(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever texts are made of and whatever is typed, both find exactly the messages that have it, in order."""
    monkeypatch.setattr(reading, "CHUNK", 8)
    chance = random.Random(7)  # noqa: S311 — it only has to be the same each time
    said: list[tuple[tuple[UUID, int], str]] = []
    for _ in range(8):
        texts = [f"{''.join(chance.choices(pieces, k=chance.randint(1, 16)))}." for pieces in (PIECES, PLAIN) * 4]
        chat = await say(*texts)
        said = [*reversed([((chat.id, at), text) for at, text in enumerate(texts)]), *said]
    queries = [*TYPED, *(" ".join(chance.sample(TYPED, 2)) for _ in range(10))]
    expected = {typed: [place for place, text in said if WordQuery.parse(typed).matches(text)] for typed in queries}
    for typed in queries[::4]:
        assert await places(engine, typed, limit=50) == expected[typed], typed
    await create_search_index(engine)
    indexed = 0
    for typed in queries:
        page = await search_messages(engine, typed, limit=50)
        assert [(message.chat_id, message.position) for message in page] == expected[typed], typed
        indexed += page.indexed
    assert indexed > len(queries) / 3
    assert sum(map(bool, expected.values())) > len(queries) / 3


async def test_every_letter_of_the_index_is_found_as_capital_and_small(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """The database takes each for a letter, and for the same as its other form; no word falls apart into numbers."""
    every = sorted(letters.letters())
    words = ["".join(every[at : at + 30]) for at in range(0, len(every), 30)]
    capitals = ["".join(letter.upper() if folded(letter.upper()) == letter else letter for letter in w) for w in words]
    numbers = ("1e5e", "8e3x5", "433e29e44021", "09E1e", "92e6209ḣ", "0x1f", "12e", "e12")
    await say(*(f"日{word}で" for word in (*words, *capitals)), " ".join(numbers), "newest")
    await create_search_index(engine)
    for at, word in enumerate(words):
        page = await search_messages(engine, folded(word))
        assert page.indexed
        assert {at, len(words) + at} <= {message.position for message in page}
    for word in numbers:
        page = await search_messages(engine, word)
        assert [message.position for message in page] == [2 * len(words)]
        assert page.indexed


async def test_the_index_follows_what_is_written(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """Messages that are there when it is made, are added, changed, deleted or purged: all are in it as they are."""
    before = await say("needle before", "needle two", owner="ann")
    other = await say("needle of another")
    await create_search_index(engine)
    after = await say("needle after", owner="ann")
    await after.add_message("user", "needle added")
    await say("newest", owner="ann")
    assert await places(engine, "needle", owner="ann") == [(after.id, 1), (after.id, 0), (before.id, 1), (before.id, 0)]
    async with engine.begin() as connection:
        changed = update(MessageRecord).where(MessageRecord.chat_id == after.id, MessageRecord.position == 1)
        await connection.execute(changed.values(content="thimble"))
    assert await places(engine, "thimble", owner="ann") == [(after.id, 1)]
    assert (after.id, 1) not in await places(engine, "needle", owner="ann")
    assert await before.delete()
    assert await places(engine, "needle", owner="ann") == [(after.id, 0)]
    await purge(engine, owner="ann")
    await say("newest", owner="ann")
    assert await places(engine, "needle", owner="ann") == []
    assert await places(engine, "needle") == [(other.id, 0)]


@pytest.mark.fault("E16")
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_no_word_of_a_deleted_message_stays(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]], database: str
) -> None:
    """The index lists no word of it any more, and once it was tidied up the file has none of its letters either."""
    await create_search_index(engine)
    chat = await say("a zanzibarword was said", "another zanzibarword")
    await say("kept")
    await run(engine, "CREATE VIRTUAL TABLE temp_vocabulary USING fts5vocab(llm_words, 'row')")

    async def vocabulary() -> set[str]:
        async with engine.connect() as connection:
            return set(await connection.scalars(text("SELECT term FROM temp_vocabulary")))

    assert {"zanzibarword", "kept"} <= await vocabulary()
    await chat.delete()
    assert await vocabulary() == {"kept"}
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM llm_word_keys")) == 1
    await create_search_index(engine)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).exec_driver_sql("VACUUM")
    await engine.dispose()
    assert b"zanzibarw" not in await asyncio.to_thread(Path(str(make_url(database).database)).read_bytes)
    assert await places(engine, "kept") != []


async def test_nothing_encrypted_is_in_the_index(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """Of encrypted messages the index has no word, whoever has keys reads all of them, and others find the rest."""
    encryption = Encryption(keys={"k": Encryption.generate_key()})
    sealed, plain = await say("needle", "needle", encryption=encryption), await say("needle", "newest")
    await create_search_index(engine)
    await say("newest")
    page = await search_messages(engine, "needle")
    assert ([message.chat_id for message in page], page.indexed, page.encrypted) == ([plain.id], True, 0)
    page = await search_messages(engine, "needle", encryption=encryption)
    assert ({message.chat_id for message in page}, page.indexed) == ({sealed.id, plain.id}, False)
    assert await places(engine, "s1") == await places(engine, "k") == []
    if engine.dialect.name == "sqlite":
        await run(engine, "CREATE VIRTUAL TABLE vocabulary USING fts5vocab(llm_words, 'row')")
        async with engine.connect() as connection:
            assert set(await connection.scalars(text("SELECT term FROM vocabulary"))) == {"needle", "newest"}


async def test_a_long_message_is_stored_and_found(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """Texts with more words than an index takes are stored as ever, and found by their last word, too."""
    await create_search_index(engine)
    chat = await say(" ".join(f"{number:x}word" for number in range(200_000)) + " lastneedle")
    await say("newest")
    page = await search_messages(engine, "lastneedle")
    assert ([message.chat_id for message in page], page.indexed) == ([chat.id], True)


def compared(include: Any) -> Callable[[Connection], list[object]]:
    """What a host's autogenerate would change."""
    options = {"include_object": include, "compare_type": True, "compare_server_default": True}

    def compare(connection: Connection) -> list[object]:
        found: list[object] = compare_metadata(
            MigrationContext.configure(connection=connection, opts=options), Base.metadata
        )
        return found

    return compare


@pytest.mark.fault("D03")
async def test_the_index_is_no_difference_to_migrations(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """Checks and autogenerate leave it alone; it lives through migrations, and goes with the tables."""
    before = await definitions(engine)
    await create_search_index(engine)
    await create_search_index(engine)
    assert await has_search_index(engine)
    await check(engine)
    async with engine.connect() as connection:
        await connection.run_sync(check_command)
        assert await connection.run_sync(compared(include_owned())) == []
        assert await connection.run_sync(compared(include_object)) == []

    await downgrade(engine, revision="0001")
    await migrate(engine)
    chat = await say("needle", "x")
    await say("newest")
    assert await places(engine, "needle") == [(chat.id, 0)]
    assert await is_indexed(engine, "needle")

    assert await drop_search_index(engine)
    assert not await drop_search_index(engine)
    assert not await is_indexed(engine, "needle")
    assert await places(engine, "needle") == [(chat.id, 0)]
    assert await definitions(engine) == before

    await create_search_index(engine)
    await downgrade(engine, revision="base")
    assert set(await definitions(engine)) <= {"llm_alembic_version"}
    await migrate(engine)
    assert not await has_search_index(engine)
    assert await definitions(engine) == before


async def test_an_index_that_cannot_be_relied_on_is_not_used(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """One whose making was broken off, or that a table lost which was made anew, is none until it is made again."""
    await create_search_index(engine)
    chat = await say("needle", "x")
    await say("newest")
    assert await is_indexed(engine, "needle")
    broken = {
        "sqlite": "DROP TRIGGER llm_words_insert",
        "postgresql": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_llm_messages_words'::regclass",
        "mysql": "ALTER TABLE llm_messages DROP INDEX ix_llm_messages_words",
    }
    await run(engine, broken[engine.dialect.name])
    added = await say("needle", "y")
    await say("newest")
    assert not await is_indexed(engine, "needle")
    assert await places(engine, "needle") == [(added.id, 0), (chat.id, 0)]
    await create_search_index(engine)
    assert await is_indexed(engine, "needle")
    assert await places(engine, "needle") == [(added.id, 0), (chat.id, 0)]


async def test_tables_under_other_names_have_an_index_of_their_own(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """An index is made for one set of tables; on PostgreSQL also in another schema."""
    postgresql = engine.dialect.name == "postgresql"
    records = define_records(prefix="own_", schema="apart" if postgresql else None)
    await migrate(engine, records=records)
    await create_search_index(engine, records=records)
    chat = await say("needle", "x", records=records)
    await say("newest", records=records)
    await say("needle", "newest")
    page = await search_messages(engine, "needle", records=records)
    assert ([message.chat_id for message in page], page.indexed) == ([chat.id], True)
    assert not await is_indexed(engine, "needle")
    assert await drop_search_index(engine, records=records)


async def test_the_index_is_not_asked_for_what_it_does_not_have(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """Words of other scripts are read for; beside a word that it has, they are looked for in what that gives."""
    await create_search_index(engine)
    chat = await say("needle 日本語", "needle")
    await say("newest")
    page = await search_messages(engine, "日本")
    assert ([message.chat_id for message in page], page.indexed) == ([chat.id], False)
    page = await search_messages(engine, "needle 日本")
    assert ([(message.chat_id, message.position) for message in page], page.indexed) == ([(chat.id, 0)], True)


@pytest.mark.parametrize("database_kind", [pytest.param("mysql", marks=pytest.mark.mysql)])
async def test_mariadb_under_its_own_name_has_it_too(engine: AsyncEngine, database: str) -> None:
    """A URL that begins with ``mariadb`` goes to the same index."""
    named = create_async_engine(make_url(database).set(drivername="mariadb+aiomysql"))
    await create_search_index(named)
    assert await has_search_index(engine)
    assert await drop_search_index(named)
    await named.dispose()


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_rows_keep_their_words_when_sqlite_tidies_up(
    engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """VACUUM gives the rows of the messages other numbers; the index goes by its own."""
    chats = [await say(f"needle{number}", "x") for number in range(6)]
    await create_search_index(engine)
    for chat in chats[:4]:
        await chat.delete()
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).exec_driver_sql("VACUUM")
    await say("newest")
    assert [message.chat_id for message in await found(engine, "needle5")] == [chats[5].id]
    assert await is_indexed(engine, "needle5")


@pytest.mark.parametrize("database_kind", [pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def test_partitioned_tables_have_an_index_too(engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]) -> None:
    """On PostgreSQL it is made for all parts, and removed from all."""
    like = "LIKE old_messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (chat_id, position)"
    part = "PARTITION OF llm_messages FOR VALUES WITH (MODULUS 2, REMAINDER"
    await run(
        engine,
        "ALTER TABLE llm_messages RENAME TO old_messages",
        f"CREATE TABLE llm_messages ({like}) PARTITION BY HASH (chat_id)",
        *(f"CREATE TABLE llm_messages_{number} {part} {number})" for number in range(2)),
    )
    await create_search_index(engine)
    chats = [await say("needle", "x") for _ in range(5)]
    await say("newest")
    assert [message.chat_id for message in await found(engine, "needle")] == [chat.id for chat in reversed(chats)]
    assert await is_indexed(engine, "needle")
    assert await drop_search_index(engine)
    assert not await has_search_index(engine)
