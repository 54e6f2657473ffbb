"""A chat's metadata in SQL: reading one member for reports, and narrowing a list to the chats that may match.

The metadata is JSON text of our own making, so that whether it mentions a name or a string can be asked with an
ordinary substring search, with bound parameters, on every database; whether it really matches is decided on values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, bindparam, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.store.escaping import escape
from nodellm_orm.store.types import LongText

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

    from nodellm_orm.domain.jsontext import JsonValue


def mentions(column: ColumnElement[Any], wanted: Mapping[str, JsonValue]) -> tuple[ColumnElement[bool], dict[str, str]]:
    """A condition that every chat with the wanted members meets, and few others.

    Args:
        column: the metadata.
        wanted: the members.

    Returns:
        The condition and its parameters.
    """
    texts = [text for name, value in wanted.items() for text in (name, value) if isinstance(text, str)]
    fragments = {f"b_mention_{number}": dumps(escape(text)) for number, text in enumerate(texts)}
    conditions = [Mentioned(column, bindparam(name, type_=Text())) > 0 for name in fragments]
    return (and_(*conditions) if conditions else true()), fragments


class Mentioned(FunctionElement[int]):
    """Where a text occurs in another, from 1; 0: nowhere."""

    inherit_cache = True
    name = "mentioned"

    def __init__(self, text: ColumnElement[Any], fragment: ColumnElement[str]) -> None:
        """Keep both."""
        super().__init__(text, fragment)


@compiles(Mentioned)
def _instr(element: Mentioned, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(Mentioned, "postgresql")
def _strpos(element: Mentioned, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


def label(column: ColumnElement[Any], name: str) -> ColumnElement[str | None]:
    """One member of the metadata as text, ``NULL`` where it is missing or null.

    Args:
        column: a `Labels` column.
        name: the member's name.

    Example:
        >>> from nodellm_orm.store.records import RECORDS
        >>> team = label(RECORDS.tables.requests.c.labels, "team")
    """
    return Member(column, bindparam(None, escape(name), type_=Text(), unique=True))


class Member(FunctionElement[str | None]):
    """A member of a JSON object, as text."""

    type: TypeEngine[str | None] = LongText()  # type: ignore[assignment]  # a TypeDecorator of str yields None too
    inherit_cache = True
    name = "member"

    def __init__(self, document: ColumnElement[Any], member: ColumnElement[str]) -> None:
        """Keep both."""
        super().__init__(document, member)


def _arguments(element: Member, compiler: SQLCompiler, options: dict[str, Any]) -> tuple[str, str]:
    document, member = element.clauses
    return compiler.process(document, **options), compiler.process(member, **options)


@compiles(Member, "sqlite")
def _sqlite_member(element: Member, compiler: SQLCompiler, **options: Any) -> str:
    document, member = _arguments(element, compiler, options)
    value = "CASE j.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(j.value AS TEXT) END"
    return f"(SELECT {value} FROM json_each({document}) AS j WHERE j.key = {member})"  # noqa: S608 — the compiler's SQL


@compiles(Member, "postgresql")
def _postgresql_member(element: Member, compiler: SQLCompiler, **options: Any) -> str:
    document, member = _arguments(element, compiler, options)
    return f"(({document})::json ->> {member})"


@compiles(Member, "mysql")
@compiles(Member, "mariadb")
def _mysql_member(element: Member, compiler: SQLCompiler, **options: Any) -> str:
    document, member = _arguments(element, compiler, options)
    value = f"JSON_EXTRACT({document}, CONCAT('$.', JSON_QUOTE({member})))"
    return f"(CASE JSON_TYPE({value}) WHEN 'NULL' THEN NULL ELSE JSON_UNQUOTE({value}) END)"
