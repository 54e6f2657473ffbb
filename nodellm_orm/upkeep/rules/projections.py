"""Rows that repeat what is in the parts of messages, for people and SQL: they must say the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.parts import MediaPart, ThinkingPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Table

    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.findings import Notebook
    from nodellm_orm.upkeep.rules.messages import Read
    from nodellm_orm.upkeep.stored import Fields, StoredChat

_CUT = 200
"""A stored media type of at least so many characters may have been cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of such rows."""

    table: Table
    word: str
    """What one of them is called."""
    rule: str
    """Begins the names of the rules."""


def check_projections(book: Notebook, tables: Tables, chat: StoredChat, read: Mapping[UUID, Read]) -> None:
    """Thinking, tool calls and attachments are one row for each such part, with the same in it.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
        read: its messages.
    """
    thinking = _Kind(table=tables.thinking, word="thinking", rule="thinking")
    calls = _Kind(table=tables.tool_calls, word="call", rule="call")
    files = _Kind(table=tables.attachments, word="file", rule="attachment")
    present = {row["id"] for row in chat.messages}
    for kind, rows, expected in (
        (thinking, chat.thinking, _thinking),
        (calls, chat.calls, _calls),
        (files, chat.attachments, _attachments),
    ):
        by_message = _grouped(rows)
        for key, message in read.items():
            found = by_message.pop(key, [])
            wanted = expected(message)
            if kind is calls and not found and message.row["turn_id"] is None:
                continue  # it came from elsewhere, with its calls already answered
            _compare(book, kind, message, found, wanted)
        for key in by_message.keys() - present:
            for row in by_message[key]:
                told = f"the message {key} of the {kind.word} is not in the chat"
                book.damage(kind.table.name, row["id"], f"{kind.rule}-extra", told)
    _check_files(book, tables, chat)


def _grouped(rows: Iterable[Fields]) -> defaultdict[UUID, list[Fields]]:
    grouped: defaultdict[UUID, list[Fields]] = defaultdict(list)
    for row in rows:
        grouped[row["message_id"]].append(row)
    return grouped


def _compare(
    book: Notebook, kind: _Kind, message: Read, rows: Sequence[Fields], expected: Mapping[int, Mapping[str, Any]]
) -> None:
    where, table = f"the {kind.word} at place", kind.table.name
    found: dict[int, Fields] = {}
    for row in rows:
        place = row["position"]
        if place in found or place not in expected:
            told = f"{where} {place} of message {message.id} is not in its parts"
            book.damage(table, row["id"], f"{kind.rule}-extra", told)
        else:
            found[place] = row
    for place, wanted in expected.items():
        row = found.get(place, {})
        if not row:
            told = f"{where} {place} of message {message.id} has no row"
            book.damage(table, None, f"{kind.rule}-missing", told)
        elif names := [name for name, value in wanted.items() if not _agrees(name, row[name], value)]:
            told = f"{where} {place} of message {message.id} differs from its part in {', '.join(names)}"
            book.damage(table, row["id"], f"{kind.rule}-differs", told)


def _agrees(name: str, stored: Any, wanted: Any) -> bool:
    if stored == wanted:
        return True
    # Media types are cut to what fits.
    return name == "media_type" and len(stored) >= _CUT and str(wanted).startswith(stored)


def _thinking(message: Read) -> Mapping[int, Mapping[str, Any]]:
    return {
        place: {"text": part.text, "signature": part.signature, "redacted": part.redacted, "opaque": part.opaque}
        for place, part in enumerate(message.message.parts)
        if isinstance(part, ThinkingPart)
    }


def _calls(message: Read) -> Mapping[int, Mapping[str, Any]]:
    if not message.asks:
        return {}
    turn = message.row["turn_id"]
    # A message that was copied belongs to no turn, and its calls to that of the original.
    of_turn = {} if turn is None else {"turn_id": turn}
    return {
        place: {
            "call_id": call.call_id,
            "wire_id": call.wire_id,
            "name": call.name,
            "arguments": call.arguments,
            **of_turn,
        }
        for place, call in enumerate(message.message.tool_calls)
    }


def _attachments(message: Read) -> Mapping[int, Mapping[str, Any]]:
    return {
        place: {
            "kind": part.media,
            "media_type": part.media_type,
            "name": part.name,
            "sha256": part.sha256,
            "url": part.url,
        }
        for place, part in enumerate(message.message.parts)
        if isinstance(part, MediaPart)
    }


def _check_files(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """The content of each file is stored, and as long as its row says."""
    table = tables.attachments.name
    for row in chat.attachments:
        digest, size = row["sha256"], row["size"]
        if digest is None:
            if size is not None:
                book.damage(table, row["id"], "attachment-size", "the file has a size and no content")
        elif digest not in chat.files:
            book.damage(table, row["id"], "file-missing", f"the content {digest:.64} of the file is not stored")
        elif size is not None and 0 <= chat.files[digest] != size:
            told = f"the file's size is {size}, and its content is stored with {chat.files[digest]} bytes"
            book.damage(table, row["id"], "attachment-size", told)
