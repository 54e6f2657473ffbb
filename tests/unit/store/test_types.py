"""Column types: what goes in comes out, is compared exactly, and is refused when it cannot be kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, func, insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import StaticPool

from nodellm_orm.errors import StorageError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.types import (
    Count,
    Id,
    JsonDocument,
    Key,
    Labels,
    LongBlob,
    LongText,
    Money,
    OwnerScope,
    UtcDateTime,
    ValueRefusedError,
    Word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = Table("keys", MetaData(), Column("k", Key(20), primary_key=True))
VALUES = Table(
    "v",
    MetaData(),
    Column("n", Integer, primary_key=True),
    Column("id", Id),
    Column("word", Word(5)),
    Column("scope", OwnerScope(20)),
    Column("text", LongText),
    Column("document", JsonDocument),
    Column("labels", Labels),
    Column("moment", UtcDateTime),
    Column("money", Money),
    Column("count", Count),
    Column("blob", LongBlob),
)
DIALECTS: list[Any] = [module.dialect() for module in (sqlite, postgresql, mysql)]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """SQLite in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        KEYS.create(connection)
        VALUES.create(connection)
        yield connection
    engine.dispose()


def kept(connection: Connection, column: str, value: object) -> Any:
    """A value as it is read back."""
    connection.execute(insert(VALUES), {"n": 1, column: value})
    return connection.execute(select(VALUES.c[column])).scalar_one()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", UUID(int=7)),
        ("word", "abc"),
        ("scope", ""),
        ("scope", None),
        ("scope", "ada "),
        ("text", "\x00\ud800"),
        ("document", '{"b":1.50,"a":[1e5]}'),
        ("labels", {"a": {"\x00": [1.5, None, True, 2**70, "\ud800"]}}),
        ("moment", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        ("money", Decimal("123.000000000001")),
        ("money", None),
        ("count", 2**63 - 1),
        ("blob", b"\x00\xff"),
    ],
)
def test_values_are_read_back_equal(connection: Connection, column: str, value: object) -> None:
    """Every type gives back what it was given."""
    assert kept(connection, column, value) == value


@pytest.mark.fault("B30")
def test_times_are_kept_in_utc(connection: Connection) -> None:
    """A time of another zone is the same moment afterwards, in UTC."""
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    read = kept(connection, "moment", moment)
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_ids_are_accepted_as_text(connection: Connection) -> None:
    """An id may be given as its text."""
    wanted = new_id()
    assert kept(connection, "id", str(wanted)) == wanted


def test_long_words_are_cut(connection: Connection) -> None:
    """A name that somebody else chose is cut to what fits, escapes never in the middle."""
    assert kept(connection, "word", "abcd\x00") == "abcd"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "not an id"),
        ("moment", datetime(2026, 1, 2)),  # noqa: DTZ001 — a naive one is what has to be refused
        pytest.param("money", Decimal("NaN"), marks=pytest.mark.fault("B24")),
        ("money", Decimal(10) ** 30),
        pytest.param("count", 2**63, marks=pytest.mark.fault("B27")),
        pytest.param("labels", {"a": float("nan")}, marks=pytest.mark.fault("B24")),
        ("labels", {"a": object()}),
        ("labels", ["no mapping"]),
    ],
)
def test_what_cannot_be_kept_is_refused(connection: Connection, column: str, value: object) -> None:
    """Such a value is an error of ours, before anything reaches the driver."""
    with pytest.raises(ValueRefusedError):
        kept(connection, column, value)
    assert issubclass(ValueRefusedError, StorageError)


@pytest.mark.fault("B31")
def test_keys_differ_by_every_character(connection: Connection) -> None:
    """Case, accents, composition, trailing spaces and NUL count."""
    keys = ["k", "K", "k ", "k\x00", "e", "\u00e9", "e\u0301", "", " ", "\ud800", "\ud801"]
    connection.execute(insert(KEYS), [{"k": key} for key in keys])
    for key in keys:
        assert connection.execute(select(KEYS).where(KEYS.c.k == key)).scalars().all() == [key]
    with pytest.raises(IntegrityError):
        connection.execute(insert(KEYS), {"k": "k "})


def test_a_key_that_is_too_long_is_refused(connection: Connection) -> None:
    """A key is never cut: two keys would become one."""
    with pytest.raises(ValueRefusedError, match="at most 20"):
        connection.execute(insert(KEYS), {"k": "x" * 21})


@pytest.mark.fault("B28")
@given(st.lists(st.decimals(-(10**6), 10**6, places=12), min_size=1, max_size=20))
def test_sums_of_money_are_exact(amounts: list[Decimal]) -> None:
    """SQL adds dollars up without losing a digit, where there are no decimals too."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        VALUES.create(connection)
        connection.execute(insert(VALUES), [{"n": n, "money": amount} for n, amount in enumerate(amounts)])
        assert connection.execute(select(func.sum(VALUES.c.money))).scalar_one() == sum(amounts)
    engine.dispose()


@pytest.mark.fault("B28")
def test_ten_times_ten_cents_is_a_dollar(connection: Connection) -> None:
    """The sum that floating point gets wrong."""
    connection.execute(insert(VALUES), [{"n": n, "money": Decimal("0.1")} for n in range(10)])
    total = connection.execute(select(func.sum(VALUES.c.money))).scalar_one()
    assert total == Decimal(1)
    assert isinstance(total, Decimal)
    dear = select(func.count()).where(VALUES.c.money * 2 > Decimal("0.15"))
    assert connection.execute(dear).scalar_one() == 10


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_each_database_has_room(dialect: Any) -> None:
    """On MySQL text is LONGTEXT, keys are compared by their bytes and times have microseconds."""
    ddl = {name: VALUES.c[name].type.compile(dialect=dialect) for name in ("text", "word", "moment", "money")}
    expected = {
        "sqlite": {"text": "TEXT", "word": "VARCHAR(5)", "moment": "DATETIME", "money": "BIGINT"},
        "postgresql": {
            "text": "TEXT",
            "word": "VARCHAR(5)",
            "moment": "TIMESTAMP WITH TIME ZONE",
            "money": "NUMERIC(24, 12)",
        },
        "mysql": {
            "text": "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "word": "VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "moment": "DATETIME(6)",
            "money": "NUMERIC(24, 12)",
        },
    }
    assert ddl == expected[dialect.name]
