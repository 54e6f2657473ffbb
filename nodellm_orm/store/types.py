"""Column types that read back equal on SQLite, PostgreSQL and MySQL/MariaDB.

Every type says in Python what goes in and comes out, and chooses for each database how it is kept. A value that
cannot be kept exactly is refused before it reaches a driver, with an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, LargeBinary, Numeric, String, Text, Uuid
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import CHAR, TypeDecorator

from nodellm_orm.domain.jsontext import JsonTextError, JsonValue, dumps, loads
from nodellm_orm.domain.money import PICO, exact
from nodellm_orm.errors import StorageError
from nodellm_orm.store.escaping import MARK, escape, escape_json, escape_key, unescape, unescape_json
from nodellm_orm.store.sealed import BYTES_MARK, TEXT_MARK, Sealed

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.operators import OperatorType
    from sqlalchemy.types import TypeEngine

_MYSQL: Final = frozenset({"mysql", "mariadb"})
_LARGEST: Final = 2**63 - 1


class ValueRefusedError(StorageError, DontWrapMixin):
    """A value that the column cannot keep exactly; nothing was sent to the database."""


class Id(TypeDecorator[UUID]):
    """A `uuid.UUID`; its text is accepted too.

    PostgreSQL has a type for it. Elsewhere it is 32 hexadecimal digits: readable in any SQL client, the same text on
    SQLite and MySQL, and in the same order as the ids themselves, which 16 raw bytes would save room over but not be.
    """

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Native on PostgreSQL, ``CHAR(32)`` elsewhere."""
        if dialect.name == "postgresql":
            return Uuid()
        if dialect.name in _MYSQL:
            return mysql.CHAR(32, charset="ascii", collation="ascii_bin")
        return CHAR(32)

    def process_bind_param(self, value: object, dialect: Dialect) -> UUID | str | None:
        """Accept a UUID of any class, or its text."""
        if value is None:
            return None
        try:
            uuid = value if isinstance(value, UUID) else UUID(str(value))
        except ValueError:
            msg = "an id must be a UUID or its text"
            raise ValueRefusedError(msg) from None
        return uuid if dialect.name == "postgresql" else uuid.hex

    def process_result_value(self, value: UUID | str | None, dialect: Dialect) -> UUID | None:
        """Give a `uuid.UUID`."""
        del dialect
        if value is None or type(value) is UUID:
            return value
        # asyncpg has a UUID class of its own.
        return UUID(value) if isinstance(value, str) else UUID(int=value.int)


class Key(TypeDecorator[str]):
    """A short string that is compared exactly: case, accents and trailing spaces count.

    PostgreSQL and SQLite compare strings by their bytes unless told otherwise; MySQL needs to be told.

    Args:
        length: characters at most; a longer value is refused.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int = 255) -> None:
        """Bound the length."""
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``VARCHAR``, on MySQL with a binary collation."""
        if dialect.name in _MYSQL:
            return mysql.VARCHAR(self.length, charset="utf8mb4", collation="utf8mb4_bin")
        return String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape, and refuse what does not fit."""
        del dialect
        if value is None:
            return None
        stored = escape_key(value)
        if len(stored) > self.length:
            msg = f"a name or key of {len(stored)} characters does not fit; use at most {self.length}"
            raise ValueRefusedError(msg)
        return stored

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Undo the escape."""
        del dialect
        return None if value is None else unescape(value)


class Word(Key):
    """A name that somebody else chose: a model, an error class. Longer ones are cut.

    A row that was paid for must not be lost because a provider sent a long name.
    """

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape, and cut to what fits."""
        del dialect
        if value is None:
            return None
        kept = value[: self.length]
        while len(stored := escape_key(kept)) > self.length:
            kept = kept[:-1]
        return stored


class OwnerScope(Key):
    """An owner as part of a primary key, where SQL allows no ``NULL``: nobody is kept as the empty string.

    (The empty string itself is kept escaped, so the two never meet.)
    """

    cache_ok = True
    coerce_to_is_types = ()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str:
        """Keep ``None`` as the empty string."""
        if value is None:
            return ""
        return super().process_bind_param(value, dialect) or MARK

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Read the empty string as ``None``."""
        if not value:
            return None
        return "" if value == MARK else super().process_result_value(value, dialect)


class LongText(TypeDecorator[str]):
    """Text of any length that reads back equal, whatever is in it; a `Sealed` value stays one."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``TEXT``; on MySQL, whose ``TEXT`` ends at 64 KB, ``LONGTEXT``."""
        if dialect.name in _MYSQL:
            return mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")
        return Text()

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Escape what databases cannot hold."""
        del dialect
        if isinstance(value, Sealed):
            return value.raw
        return None if value is None else escape(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Undo the escape."""
        del dialect
        if value is None:
            return None
        return Sealed(value) if value.startswith(TEXT_MARK) else unescape(value)


class JsonDocument(LongText):
    """A `JsonText`, kept byte for byte: databases' own JSON types reorder keys and rewrite numbers."""

    cache_ok = True


class Labels(TypeDecorator[Mapping[str, JsonValue]]):
    r"""A JSON object as a mapping, kept as JSON text in which SQL's own JSON functions find their way.

    The strings in it are escaped one by one before they become JSON, so that no ``\u0000`` occurs (PostgreSQL's
    ``->>`` fails on it, for the whole document). ``store.labels.label`` reads one member in SQL.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As `LongText`."""
        return LongText().load_dialect_impl(dialect)

    def process_bind_param(self, value: Mapping[str, JsonValue] | None, dialect: Dialect) -> str | None:
        """Write the mapping as JSON text."""
        del dialect
        if value is None:
            return None
        if not isinstance(value, Mapping):
            msg = f"metadata is a mapping with string keys, not {type(value).__name__}"
            raise ValueRefusedError(msg)
        try:
            return dumps(escape_json(value))
        except RecursionError:
            msg = "metadata cannot be stored: it is nested too deeply, or contains itself"
            raise ValueRefusedError(msg) from None
        except JsonTextError as error:
            msg = f"metadata cannot be stored: {error}"
            raise ValueRefusedError(msg) from error

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, JsonValue] | None:
        """Parse the text."""
        del dialect
        if value is None:
            return None
        parsed = unescape_json(loads(value))
        if not isinstance(parsed, dict):
            msg = "stored metadata is not a JSON object; correct the row by hand"
            raise ValueRefusedError(msg)
        return parsed


class UtcDateTime(TypeDecorator[datetime]):
    """An aware timestamp, kept and returned in UTC with microseconds; a naive one is refused."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``TIMESTAMP WITH TIME ZONE``, ``DATETIME(6)``, or SQLite's text."""
        if dialect.name in _MYSQL:
            return mysql.DATETIME(fsp=6)
        return DateTime(timezone=dialect.name == "postgresql")

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        if value is None:
            return None
        if value.utcoffset() is None:
            msg = "a timestamp without a time zone is ambiguous; pass an aware one, such as datetime.now(UTC)"
            raise ValueRefusedError(msg)
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give an aware timestamp in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """US dollars with twelve decimal places, exact in rows and in sums.

    SQLite has no decimals (ten times 0.1 is 0.9999999999999999 there), so it keeps whole pico-dollars; ``func.sum``
    over the column gives a `Decimal` on every database. Digits beyond the twelfth place are rounded, half to even.
    """

    impl = Numeric
    cache_ok = True
    _CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``DECIMAL(24, 12)``, on SQLite ``BIGINT``."""
        if dialect.name == "sqlite":
            return BigInteger()
        return Numeric(24, 12)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """A factor is a plain number; everything else beside money is money."""
        if op in {operators.mul, operators.truediv} and isinstance(value, int):
            return BigInteger()
        return self

    def process_bind_param(self, value: Decimal | float | None, dialect: Dialect) -> Decimal | int | None:
        """Round to twelve places; refuse what is not a number or does not fit."""
        if value is None:
            return None
        try:
            amount = exact(value).quantize(PICO, context=self._CONTEXT)
        except InvalidOperation:
            msg = "an amount of money must be a finite number"
            raise ValueRefusedError(msg) from None
        pico = int(amount.scaleb(12, context=self._CONTEXT))
        if abs(pico) > (_LARGEST if dialect.name == "sqlite" else 10**24 - 1):
            msg = "an amount of money is too large to be stored exactly"
            raise ValueRefusedError(msg)
        return pico if dialect.name == "sqlite" else amount

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> Decimal | None:
        """Give a `Decimal` with twelve places."""
        if value is None:
            return None
        amount = Decimal(value)
        return amount.scaleb(-12, context=self._CONTEXT) if dialect.name == "sqlite" else amount


class Count(TypeDecorator[int]):
    """A whole number of 64 bits; sums over it are ints on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Refuse what does not fit into 64 bits."""
        del dialect
        if value is not None and abs(value) > _LARGEST:
            msg = "a number does not fit into 64 bits"
            raise ValueRefusedError(msg)
        return value

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> int | None:
        """Give an int: PostgreSQL and MySQL add up whole numbers as decimals."""
        del dialect
        return None if value is None else int(value)


class _SentAsHex(FunctionElement[bytes]):
    """A value that crosses to MySQL as hexadecimal digits; elsewhere as it is."""

    type = LargeBinary()
    inherit_cache = True


@compiles(_SentAsHex)
def _as_it_is(element: _SentAsHex, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_SentAsHex, "mysql")
@compiles(_SentAsHex, "mariadb")
def _unhex(element: _SentAsHex, compiler: SQLCompiler, **options: Any) -> str:
    return f"UNHEX({compiler.process(element.clauses, **options)})"


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, Sealed) else value


class LongBlob(TypeDecorator[bytes]):
    """Bytes of any length; a `Sealed` value stays one.

    MySQL is sent their digits: aiomysql cannot send bytes with every version of PyMySQL that it accepts, and what other
    drivers escape becomes as long in the worst case.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``BLOB``; on MySQL, whose ``BLOB`` ends at 64 KB, ``LONGBLOB``."""
        return mysql.LONGBLOB() if dialect.name in _MYSQL else LargeBinary()

    def bind_processor(self, dialect: Dialect) -> Any:
        """On MySQL, digits in place of what the driver makes of bytes."""
        if dialect.name in _MYSQL:
            return lambda value: None if value is None else bytes(_raw(value)).hex()
        return super().bind_processor(dialect)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Take a sealed value as it stands."""
        del dialect
        return _raw(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Tell sealed values from plain ones."""
        del dialect
        return Sealed(bytes(value)) if value is not None and value.startswith(BYTES_MARK) else value

    def bind_expression(self, bindparam: BindParameter[bytes]) -> ColumnElement[bytes]:
        """Where a value stands in a statement."""
        return _SentAsHex(bindparam)
