"""What must hold of messages: their places, and that what is replayed is stored without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from nodellm_orm.domain.codec import CodecError, decode_parts, encode_parts
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, RawJson, dumps, loads_verbatim
from nodellm_orm.domain.messages import FinishReason, Message, MessageStatus, Role
from nodellm_orm.domain.parts import OpaquePart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.findings import Notebook
    from nodellm_orm.upkeep.stored import Fields, StoredChat

_ROLES: Final = frozenset(get_args(Role))
_STATUSES: Final = frozenset(get_args(MessageStatus))
_REASONS: Final = frozenset(reason.value for reason in FinishReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A message whose parts could be read."""

    row: Fields
    message: Message

    @property
    def id(self) -> UUID:
        """The message's id."""
        key: UUID = self.row["id"]
        return key

    @property
    def live(self) -> bool:
        """Whether it is replayed."""
        return self.row["superseded_at"] is None

    @property
    def asks(self) -> bool:
        """Whether the calls in it are to be answered: those of a broken-off answer are not."""
        return (self.message.role, self.message.status) == ("assistant", "complete")


def check_positions(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """Positions are 0, 1, 2 … without gaps, and the next one is the number of messages.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
    """
    gaps, following = 0, 0
    for message in chat.messages:
        if message["position"] != following:
            gaps += 1
            told = f"position {following} is missing: the next message is at {message['position']}"
            book.damage(tables.messages.name, message["id"], "position", told)
        following = message["position"] + 1
    if not gaps and chat.row["next_position"] != following:
        told = f"next_position is {chat.row['next_position']}, and there are {following} messages"
        book.damage(tables.chats.name, chat.id, "next-position", told)


def read_messages(book: Notebook, tables: Tables, chat: StoredChat) -> Mapping[UUID, Read]:
    """The messages by id, in order; one whose parts cannot be read is left out, and told.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
    """
    read: dict[UUID, Read] = {}
    for row in chat.messages:
        _check_words(book, tables.messages.name, row)
        try:
            parts = decode_parts(row["parts"])
        except CodecError as error:
            book.damage(tables.messages.name, row["id"], "parts", f"{error}"[:200])
            continue
        except (RecursionError, ValueError, TypeError) as error:
            book.damage(
                tables.messages.name, row["id"], "parts", f"stored parts cannot be read ({type(error).__name__})"
            )
            continue
        message = Message(role=row["role"], parts=parts, status=row["status"], position=row["position"])
        if not same_bytes(row["parts"], parts):
            book.damage(
                tables.messages.name, row["id"], "parts", "stored parts are not written as this package writes them"
            )
        if row["content"] != message.content:
            book.damage(tables.messages.name, row["id"], "content", "content is not the text of the parts")
        read[row["id"]] = Read(row=row, message=message)
    return read


def same_bytes(text: str, parts: Sequence[Part]) -> bool:
    """Whether the parts, written again, are the same bytes; those of a later release are compared as JSON only.

    Args:
        text: as stored.
        parts: as read from it.

    Example:
        >>> same_bytes('[{"kind":"text", "text":"a"}]', decode_parts('[{"kind":"text","text":"a"}]'))
        False
    """
    try:
        items: Any = loads_verbatim(text)
        written = [
            item if _of_later_release(item, part) else RawJson(encode_parts([part])[1:-1])
            for item, part in zip(items, parts, strict=True)
        ]
        return dumps(written) == text
    except (JsonTextError, ValueError, TypeError):
        return False


def _of_later_release(item: object, part: Part) -> bool:
    return isinstance(part, OpaquePart) and not (isinstance(item, Pairs) and ("kind", "opaque") in item)


def _check_words(book: Notebook, table: str, row: Fields) -> None:
    for name, known in (("role", _ROLES), ("status", _STATUSES)):
        if row[name] not in known:
            book.damage(table, row["id"], "word", f"{row[name]:.40} is no {name} of a message")
    if row["finish_reason"] is not None and row["finish_reason"] not in _REASONS:
        told = f"the finish reason {row['finish_reason']:.40} is not known to this release"
        book.note(table, row["id"], "unknown-word", told)
