"""Rows that are named by the digest of what they hold: inserted unless they are there already."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.dialects import mysql, postgresql, sqlite

from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from sqlalchemy import Insert, Table


@lru_cache(maxsize=CACHED)
def insert_absent(dialect: str, table: Table) -> Insert:
    """An insert that leaves an existing row as it is, also one that another transaction is writing just now.

    Args:
        dialect: name of the database.
        table: its key ends with the digest.
    """
    if dialect == "postgresql":
        return postgresql.insert(table).values(created_at=DatabaseNow()).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(table).values(created_at=DatabaseNow()).on_conflict_do_nothing()
    # INSERT IGNORE would also turn values that do not fit into warnings.
    return mysql.insert(table).values(created_at=DatabaseNow()).on_duplicate_key_update(sha256=table.c.sha256)
