"""The names that users import: all there, all documented, none by accident."""

from __future__ import annotations

import dataclasses
import inspect
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Final

import pytest

import nodellm_orm
from nodellm_orm import errors, models

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMISED: Final = [
    "ANY_OWNER",
    "LLM",
    "Chat",
    "ChatSummary",
    "Chats",
    "Chunk",
    "LLMClient",
    "LLMCompleteResult",
    "LLMMessage",
    "LLMTool",
    "LLMToolCall",
    "LLMUsage",
    "Message",
    "Page",
    "Price",
    "Reply",
    "ReplyStream",
    "RetryPolicy",
    "Thinking",
    "Timeout",
    "Tool",
    "ToolContext",
    "ToolHalt",
    "create_chat",
    "create_llm",
    "define_records",
    "interrupted_turns",
    "list_chats",
    "load_chat",
    "make_engine",
    "migrate",
    "register_provider",
    "tool",
]
"""What the API names for chats, tools and their settings."""
RECORDS: Final = [
    "AttachmentRecord",
    "Base",
    "ChatRecord",
    "MessageRecord",
    "RequestRecord",
    "ThinkingRecord",
    "ToolCallRecord",
    "TurnRecord",
]
"""What it names for queries."""


def kind(name: str) -> tuple[int, str]:
    """Constants before classes before functions, each in alphabetical order."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def documented() -> Iterator[tuple[str, object]]:
    """Every public class and function, and what they have that is public and written here."""
    public = {name: getattr(module, name) for module in (nodellm_orm, models) for name in module.__all__}
    for name, value in public.items():
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        for member, inner in members(value).items():
            if not member.startswith("_") and isinstance(inner, property | classmethod | staticmethod | FunctionType):
                yield f"{name}.{member}", inner


def members(value: object) -> dict[str, object]:
    """What a class has, its bases of this package included."""
    bases = reversed(value.__mro__) if inspect.isclass(value) else ()
    return {
        name: inner for base in bases if base.__module__.startswith("nodellm_orm") for name, inner in vars(base).items()
    }


def test_list_of_names_is_sorted_and_complete() -> None:
    """``__all__`` is sorted, names each thing once, and is everything that the package itself imports."""
    names = nodellm_orm.__all__
    imported = {
        name
        for name, value in vars(nodellm_orm).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, ModuleType)
    }

    assert names == sorted(names, key=kind)
    assert set(names) == imported
    assert len(names) == len(imported)


@pytest.mark.parametrize("name", PROMISED)
def test_promised_name_can_be_imported(name: str) -> None:
    """A name of the API is there, and among the public ones."""
    assert name in nodellm_orm.__all__
    assert getattr(nodellm_orm, name) is not None


def test_every_error_is_public_and_in_one_tree() -> None:
    """All errors can be imported from the top, and are caught by their common base."""
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    tree = {name: value for name, value in classes.items() if issubclass(value, Exception)}

    assert set(tree) <= set(nodellm_orm.__all__)
    assert all(issubclass(value, nodellm_orm.NodeLLMError) for value in tree.values())
    assert all(name in str(errors.__doc__) for name in tree)


@pytest.mark.parametrize("name", RECORDS)
def test_records_are_mapped_classes_to_query(name: str) -> None:
    """The records are there under their names, and each but the base is a table."""
    record = getattr(models, name)

    assert name in models.__all__
    assert name == "Base" or record.__table__.name.startswith("llm_")


@pytest.mark.parametrize(("name", "value"), [pytest.param(*item, id=item[0]) for item in documented()])
def test_everything_public_says_what_it_is(name: str, value: object) -> None:
    """Public classes, functions, methods and properties have a docstring of their own that is a sentence."""
    text = inspect.getdoc(value) if not inspect.isclass(value) else value.__doc__
    generated = inspect.isclass(value) and dataclasses.is_dataclass(value) and str(text).startswith(f"{name}(")

    assert text is not None
    assert text[0].isupper() or text[0] == "`"
    assert not generated
