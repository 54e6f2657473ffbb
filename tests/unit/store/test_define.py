"""What a host may give `define_records`, and what it is told when that would not work."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sqlalchemy import ForeignKeyConstraint, Index, Integer, MetaData, inspect
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    configure_mappers,
    declarative_base,
    declared_attr,
    mapped_column,
)

from nodellm_orm import ConfigurationError
from nodellm_orm.models import RECORDS, define_records

STRANGE = {
    "ix": "i__%(column_0_label)s",
    "uq": "u__%(table_name)s_%(column_0_name)s",
    "ck": "c__%(table_name)s_%(constraint_name)s",
    "fk": "f__%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "p__%(table_name)s",
}
OPTIONS = ("chat", "turn", "message", "tool_call", "thinking", "request", "attachment", "blob", "text")


def new_base(**options: Any) -> type[DeclarativeBase]:
    """A host's base."""

    class Base(DeclarativeBase):
        metadata = MetaData(**options)

    return Base


class Overriding:
    """Takes a column's attribute."""

    owner: Mapped[int]


class Renaming:
    """Takes a column's name under another attribute."""

    mine: Mapped[str] = mapped_column("metadata")


class Hiding:
    """Takes a column's attribute with something that is no column."""

    @property
    def title(self) -> str:
        """A title."""
        return ""


class Relating:
    """Takes the name of a relationship."""

    messages: Mapped[str | None]


class Keyed:
    """Would be part of the key."""

    number: Mapped[int] = mapped_column(primary_key=True)


class Referring:
    """Has a foreign key, and forgets the column."""

    __table_args__ = (ForeignKeyConstraint(["user_id"], ["users.id"]),)


class Empty:
    """Has a column that must not be empty."""

    tenant: Mapped[int]


@pytest.mark.parametrize(
    ("mixin", "told"),
    [
        (Overriding, r"chat=Overriding defines owner, .*other names"),
        (Renaming, r"chat=Renaming defines metadata, .*other names"),
        (Hiding, r"chat=Hiding defines title, .*other names"),
        (Relating, r"defines messages, which is a relationship of ChatRecord"),
        (Keyed, r"chat=Keyed makes number part of the primary key"),
        (Referring, r"chat=Referring cannot be mapped to x_chats: .*no column named 'user_id'"),
        (Empty(), r"chat= is a class with further columns, not Empty"),
        (new_base(), r"chat=Base is mapped itself"),
        (RECORDS.chat, r"chat=ChatRecord is mapped itself"),
    ],
)
def test_a_mixin_that_would_change_the_records_is_refused(mixin: Any, told: str) -> None:
    """It is said which name is in the way, before a table is made that nothing works with."""
    with pytest.raises(ConfigurationError, match=told):
        define_records(new_base(), prefix="x_", chat=mixin)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_column_and_relationship_is_guarded(option: str) -> None:
    """Whatever a record has under a name, a mixin cannot have too."""
    record: Any = getattr(RECORDS, option)
    for name in inspect(record).attrs.keys():  # noqa: SIM118 — not a mapping
        mixins: dict[str, Any] = {option: type("Mixin", (), {name: mapped_column(Integer, nullable=True)})}
        with pytest.raises(ConfigurationError, match=rf"defines {name}\b"):
            define_records(new_base(), **mixins)


@pytest.mark.parametrize("option", OPTIONS[1:])
def test_a_column_that_nobody_could_fill_is_refused(option: str) -> None:
    """Only chats are created with ``values=``; elsewhere a column must be able to do without."""
    mixins: dict[str, Any] = {option: Empty}
    with pytest.raises(ConfigurationError, match=rf"{option}= adds tenant to llm_\w+, NOT NULL and without a default"):
        define_records(new_base(), **mixins)
    assert define_records(new_base(), chat=Empty).tables.chats.c.tenant.nullable is False


def test_a_base_must_be_one() -> None:
    """A class that is no base, and something that is no class, are refused with what is meant."""
    for base in (object, "Base", DeclarativeBase, RECORDS.chat):
        with pytest.raises(ConfigurationError, match="is no declarative base"):
            define_records(base)  # type: ignore[arg-type]


def test_a_base_of_dataclasses_is_given_another_one_beside_it() -> None:
    """The remedy that is named works: the tables and the names of classes are shared."""

    class Base(MappedAsDataclass, DeclarativeBase):
        """A host's."""

    with pytest.raises(ConfigurationError, match=r"dataclasses.*registry = Base\.registry"):
        define_records(Base)

    class ChatBase(DeclarativeBase):
        registry = Base.registry

    assert define_records(ChatBase).metadata is Base.metadata


def test_a_base_with_an_id_for_every_table_is_given_another_one_beside_it() -> None:
    """A key of its own for every table would change ours; the remedy that is named works."""

    class Base(DeclarativeBase):
        id: Mapped[int] = mapped_column(primary_key=True)

    class User(Base):
        __tablename__ = "users"

    with pytest.raises(ConfigurationError, match=r"columns of its own \(id\).*registry = Base\.registry"):
        define_records(Base)

    class ChatBase(DeclarativeBase):
        registry = Base.registry

    records = define_records(ChatBase)
    assert list(records.tables.blobs.primary_key.columns.keys()) == ["owner", "sha256"]
    assert {"users", "llm_chats"} <= Base.metadata.tables.keys()
    assert User.metadata is records.metadata


def test_another_key_for_every_table_is_refused_too() -> None:
    """Whatever it is called."""

    class Base(DeclarativeBase):
        number: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ConfigurationError, match=r"columns of its own \(number\)"):
        define_records(Base)


def test_what_a_base_adds_to_every_table_beside_that_is_kept() -> None:
    """Further columns, type maps, methods and constants of a base are its own affair."""

    class Base(DeclarativeBase):
        type_annotation_map: ClassVar[dict[Any, Any]] = {}
        region: Mapped[str | None]
        role = "host"

        def text(self) -> str:
            """Say something."""
            return self.role

    records = define_records(Base)

    assert all("region" in table.c for table in records.tables)


def test_names_do_not_depend_on_the_base_s_convention() -> None:
    """Revisions and error codes rely on the names of constraints and indexes, whatever the base calls its own."""

    def names(records: Any) -> list[list[str]]:
        return [sorted(str(item.name) for item in (*table.constraints, *table.indexes)) for table in records.tables]

    assert names(define_records(new_base(naming_convention=STRANGE))) == names(RECORDS)


def test_the_base_s_schema_is_taken_over() -> None:
    """Foreign keys, migrations and checks look where SQLAlchemy puts the tables."""
    records = define_records(new_base(schema="app"), prefix="x_")
    other = define_records(new_base(schema="app"), prefix="x_", schema="chats")

    assert (records.naming.schema, {table.schema for table in records.tables}) == ("app", {"app"})
    assert (other.naming.schema, {table.schema for table in other.tables}) == ("chats", {"chats"})
    configure_mappers()
    assert {key.target_fullname for key in other.tables.turns.foreign_keys} == {"chats.x_chats.id"}


def test_two_sets_on_one_base_are_told_apart() -> None:
    """The classes have different names, so that neither replaces the other in what the host refers to by name."""
    base = new_base()
    first, second = define_records(base, prefix="a_"), define_records(base, prefix="help_desk_")

    assert (first.chat.__name__, second.chat.__name__) == ("ChatRecord", "HelpDeskChatRecord")
    configure_mappers()


def test_the_same_set_twice_is_refused() -> None:
    """Whoever calls it in a function that runs twice is told to keep what the first call gave."""
    base = new_base()
    define_records(base)

    with pytest.raises(ConfigurationError, match="llm_chats already; call define_records once"):
        define_records(base)


@pytest.mark.parametrize("prefix", ["", "a" * 25, "my-chats_", 3])
def test_a_prefix_that_no_database_could_take_is_refused_at_once(prefix: Any) -> None:
    """Names that PostgreSQL would cut, or that need quotes, are noticed where they are given."""
    with pytest.raises(ConfigurationError, match="1 to 24 letters, digits and underscores"):
        define_records(prefix=prefix)


def test_table_arguments_of_a_mixin_are_kept_whichever_way_they_are_written() -> None:
    """A dictionary, a tuple, and a method that makes them for each table."""

    class Options:
        __table_args__: ClassVar[dict[str, str]] = {"comment": "ours"}

    class Declared:
        tier: Mapped[str | None]

        @declared_attr.directive
        def __table_args__(cls) -> tuple[Index, ...]:  # noqa: N805 — SQLAlchemy gives the class
            return (Index(None, "tier"),)

    base = new_base()
    first, second = (define_records(base, prefix=prefix, chat=Declared, turn=Options) for prefix in ("a_", "b_"))

    assert first.tables.turns.comment == "ours"
    assert {"ix_a_chats_tier", "ix_b_chats_tier"} <= {
        str(index.name) for records in (first, second) for index in records.tables.chats.indexes
    }


def test_a_base_of_the_older_kind_will_do() -> None:
    """``declarative_base()`` makes one too."""
    assert define_records(declarative_base()).tables.chats.name == "llm_chats"
