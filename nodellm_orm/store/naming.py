"""The names of tables and constraints: fixed, so that migrations and error codes can rely on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.sql.naming import conv

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.schema import SchemaItem

    TableArguments: TypeAlias = tuple[SchemaItem | dict[str, str | None], ...]
    """What ``__table_args__`` holds."""

CONVENTION: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""The convention of `Base`; on a host's own base our names are the same, because they are given in full."""

_PREFIX: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")
"""The longest name with the longest prefix still fits the 63 bytes that PostgreSQL allows."""
_OPTIONS: Final = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}


@dataclass(frozen=True, slots=True)
class Naming:
    """Where the tables of one set of records are, and what belongs to them is called.

    Args:
        prefix: begins every table name.
        schema: the schema they are in, ``None`` for the connection's own.
    """

    prefix: str = "llm_"
    schema: str | None = None

    def table(self, suffix: str) -> str:
        """A table's name without its schema."""
        return self.prefix + suffix

    def options(self) -> dict[str, str | None]:
        """Keyword arguments of every table."""
        by_dialect = {f"{dialect}_{name}": word for dialect in ("mysql", "mariadb") for name, word in _OPTIONS.items()}
        return {**by_dialect, "schema": self.schema}

    def arguments(self, *items: SchemaItem) -> TableArguments:
        """A table's constraints and options as declarative classes take them."""
        return (*items, self.options())

    def joined(self, ours: TableArguments, theirs: TableArguments) -> TableArguments:
        """Our table arguments with those of a host's mixin; where options differ, the host's win."""
        items: list[SchemaItem] = []
        options: dict[str, str | None] = {}
        for argument in (*ours, *theirs):
            if isinstance(argument, dict):
                options |= argument
            else:
                items.append(argument)
        return (*items, options)

    def primary_key(self, suffix: str, *columns: str) -> PrimaryKeyConstraint:
        """The table's key."""
        return PrimaryKeyConstraint(*columns, name=conv(f"pk_{self.table(suffix)}"))

    def unique(self, suffix: str, *columns: str) -> UniqueConstraint:
        """A unique constraint."""
        return UniqueConstraint(*columns, name=conv(f"uq_{self.table(suffix)}_{'_'.join(columns)}"))

    def index(self, suffix: str, *columns: str) -> Index:
        """An index."""
        return Index(conv(f"ix_{self.table(suffix)}_{'_'.join(columns)}"), *columns)

    def words(self, suffix: str, column: str, words: Iterable[str]) -> CheckConstraint:
        """A check that a column holds one of a few words."""
        listed = ", ".join(f"'{word}'" for word in words)
        return CheckConstraint(f"{column} IN ({listed})", name=conv(f"ck_{self.table(suffix)}_{column}"))

    def check(self, suffix: str, column: str, condition: str) -> CheckConstraint:
        """A check of one column."""
        return CheckConstraint(condition, name=conv(f"ck_{self.table(suffix)}_{column}"))

    def belongs_to_chat(self, suffix: str) -> ForeignKeyConstraint:
        """The foreign key to the chat; without a cascade, because deletions are said aloud."""
        chats = self.table("chats") if self.schema is None else f"{self.schema}.{self.table('chats')}"
        return ForeignKeyConstraint(["chat_id"], [f"{chats}.id"], name=conv(f"fk_{self.table(suffix)}_chat_id"))


def usable(naming: Naming) -> Naming:
    """The same naming, when it can be used for tables and in migrations.

    Raises:
        ConfigurationError: the prefix is empty, too long, or would need escaping.
    """
    if not isinstance(naming.prefix, str) or not _PREFIX.fullmatch(naming.prefix):
        msg = (
            f"prefix={naming.prefix!r} cannot be used for tables; give 1 to 24 letters, digits and underscores, "
            "such as 'llm_' (without one, our version table would be your own Alembic's)"
        )
        raise ConfigurationError(msg)
    return naming
