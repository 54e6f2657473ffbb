"""What is MySQL's and MariaDB's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, text
from sqlalchemy.schema import CreateTable

from nodellm_orm.upkeep.doctor.checks import error, ok, warning
from nodellm_orm.upkeep.doctor.versions import check_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

_LEAST: Final = {"MySQL": (8, 0, 16), "MariaDB": (10, 5)}
_PACKET: Final = 16 * 1024**2
"""Bytes of a row that files and long answers easily reach."""
_HOLDS_ALL: Final = "utf8mb4"
_PLAIN: Final = frozenset({"utf8mb4", "ascii"})
"""Character sets of our columns."""
_STRICT: Final = frozenset({"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "TRADITIONAL"})
_COLUMNS: Final = text(
    "SELECT table_name, column_name, character_set_name, collation_name FROM information_schema.columns "
    "WHERE table_schema = COALESCE(:wanted, DATABASE()) AND table_name IN :names AND character_set_name IS NOT NULL"
).bindparams(bindparam("names", expanding=True))
_ENGINES: Final = text(
    "SELECT table_name, engine FROM information_schema.tables "
    "WHERE table_schema = COALESCE(:wanted, DATABASE()) AND table_name IN :names AND engine IS NOT NULL"
).bindparams(bindparam("names", expanding=True))


def _server(connection: Connection, records: Records) -> Check:
    del records
    version = str(connection.exec_driver_sql("SELECT VERSION()").scalar())
    product = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    # Some MariaDB servers say 5.5.5 first, for old clients.
    match = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)", version)
    numbers = tuple(int(part) for part in match.groups()) if match else (0,)
    return check_version(product, numbers, _LEAST[product])


def _variable(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SELECT @@{name}").scalar())


def _charset(connection: Connection, records: Records) -> list[Check]:
    """Connection, tables and database hold every character, and keys are compared by their bytes."""
    names = {"names": [table.name for table in records.tables], "wanted": records.naming.schema}
    columns = [tuple(row) for row in connection.execute(_COLUMNS, names)]
    return [_of_connection(connection), *_of_columns(connection, records, columns), _of_database(connection)]


def _of_connection(connection: Connection) -> Check:
    spoken = {_variable(connection, f"character_set_{part}") for part in ("client", "connection", "results")}
    if spoken == {_HOLDS_ALL}:
        return ok("charset of the connection", _HOLDS_ALL)
    told = f"the connection speaks {', '.join(sorted(spoken))}, which does not hold every character"
    return error("charset of the connection", told, "add ?charset=utf8mb4 to the URL, or use make_engine(url)")


def _of_columns(connection: Connection, records: Records, columns: list[tuple[str, str, str, str]]) -> list[Check]:
    """Name of table and column, charset and collation of each column that has one."""
    if not columns:
        return []
    narrow = [(table, column) for table, column, charset, _ in columns if charset not in _PLAIN]
    folding = [(table, column) for table, column, _, collation in columns if not collation.endswith("_bin")]
    if not narrow and not folding:
        return [ok("charset of the tables", "utf8mb4, compared by bytes")]
    wrong = sorted(narrow or folding)
    why = "do not hold every character" if narrow else "are compared without case or accents"
    told = f"these columns {why}: {', '.join(map('.'.join, wrong)):.300}"
    return [error("charset of the tables", told, f"stop all writers, then: {_modify(connection, records, wrong):.600}")]


def _modify(connection: Connection, records: Records, wrong: list[tuple[str, str]]) -> str:
    """Statements that give columns the types that they were made with."""
    dialect = connection.dialect
    compiler: Any = dialect.ddl_compiler(dialect, CreateTable(records.tables.chats))
    changes: dict[str, list[str]] = {}
    for table in records.tables:
        for column in table.columns:
            if (table.name, column.name) in wrong:
                changes.setdefault(table.name, []).append(f"MODIFY {compiler.get_column_specification(column)}")
    return "; ".join(f"ALTER TABLE {name} {', '.join(columns)}" for name, columns in changes.items())


def _of_database(connection: Connection) -> Check:
    own, server = _variable(connection, "character_set_database"), _variable(connection, "character_set_server")
    if own == _HOLDS_ALL:
        return ok("charset of the database", f"{own} (the server's default is {server})")
    told = f"{own} by default: ours are utf8mb4 all the same, other tables and columns are not"
    return warning("charset of the database", told, "ALTER DATABASE … CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")


def _strict(connection: Connection, records: Records) -> Check:
    del records
    modes = set(_variable(connection, "sql_mode").split(","))
    if modes & _STRICT:
        return ok("sql_mode", "strict: what does not fit is refused")
    remedy = "use make_engine(url), or SET sql_mode to STRICT_TRANS_TABLES for the connections of your engine"
    return error("sql_mode", "not strict: what does not fit is cut off silently", remedy)


def _packet(connection: Connection, records: Records) -> Check:
    del records
    limit = int(_variable(connection, "max_allowed_packet"))
    told = f"{limit / 1024**2:.0f} MB a row; a file takes twice its size"
    if limit < _PACKET:
        return warning("max_allowed_packet", told, "set max_allowed_packet to 64M in the server's configuration")
    return ok("max_allowed_packet", told)


def _waiting(connection: Connection, records: Records) -> Check:
    """The server closes connections that nobody uses: the pool must notice, or be faster."""
    del records
    limit = int(_variable(connection, "wait_timeout"))
    pool: Any = connection.engine.pool
    recycle, tested = getattr(pool, "_recycle", -1), bool(getattr(pool, "_pre_ping", False))
    told = f"the server closes a connection after {limit} s without use"
    if tested or 0 <= recycle < limit:
        how = "the pool tests each one before use" if tested else f"the pool replaces it after {recycle} s"
        return ok("wait_timeout", f"{told}; {how}")
    remedy = f"create_async_engine(url, pool_pre_ping=True, pool_recycle={max(limit // 2, 1)}), or make_engine(url)"
    return warning("wait_timeout", f"{told}, and the pool does not notice", remedy)


def _engine(connection: Connection, records: Records) -> Check:
    names = {"names": [table.name for table in records.tables], "wanted": records.naming.schema}
    wrong = [str(row[0]) for row in connection.execute(_ENGINES, names) if str(row[1]).lower() != "innodb"]
    if wrong:
        remedy = "; ".join(f"ALTER TABLE {name} ENGINE=InnoDB" for name in wrong)
        return error("storage engine", f"no transactions in: {', '.join(wrong):.300}", remedy)
    return ok("storage engine", "InnoDB")


MYSQL_CHECKS: Final = (
    ("server", _server),
    ("charset", _charset),
    ("sql_mode", _strict),
    ("max_allowed_packet", _packet),
    ("wait_timeout", _waiting),
    ("storage engine", _engine),
)
"""The looks, by what they are called; the first needs no table."""
