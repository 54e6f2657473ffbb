"""Rows that are named by the digest of what they hold: inserted unless they are there already.

A row that is there is locked until the end of the transaction: whoever wants to delete it has to wait, and sees then
that it is in use (`unreferenced.release_blobs`). On SQLite the whole database is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import false
from sqlalchemy.dialects import mysql, postgresql, sqlite

from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from sqlalchemy import Insert, Table


@lru_cache(maxsize=CACHED)
def insert_absent(dialect: str, table: Table, *, dated: bool = True) -> Insert:
    """An insert that leaves an existing row as it is, also one that another transaction is writing or deleting now.

    Args:
        dialect: name of the database.
        table: its key ends with the digest.
        dated: whether new rows tell when they were made; otherwise their values do.
    """
    now = {"created_at": DatabaseNow()} if dated else None
    if dialect == "postgresql":
        new = postgresql.insert(table).values(now) if now else postgresql.insert(table)
        # DO NOTHING would not wait for a transaction that deletes the row, nor hold one up.
        return new.on_conflict_do_update(
            index_elements=["owner", "sha256"], set_={"sha256": table.c.sha256}, where=false()
        )
    if dialect == "sqlite":
        return (sqlite.insert(table).values(now) if now else sqlite.insert(table)).on_conflict_do_nothing()
    # INSERT IGNORE would also turn values that do not fit into warnings.
    absent = mysql.insert(table).values(now) if now else mysql.insert(table)
    return absent.on_duplicate_key_update(sha256=table.c.sha256)


@lru_cache(maxsize=CACHED)
def insert_or_date(dialect: str, table: Table) -> Insert:
    """An insert that only dates an existing row anew.

    Args:
        dialect: name of the database.
        table: its key is owner and digest.
    """
    dated = {"created_at": DatabaseNow()}
    if dialect == "postgresql":
        return (
            postgresql.insert(table).values(dated).on_conflict_do_update(index_elements=["owner", "sha256"], set_=dated)
        )
    if dialect == "sqlite":
        return sqlite.insert(table).values(dated).on_conflict_do_update(set_=dated)
    return mysql.insert(table).values(dated).on_duplicate_key_update(dated)
