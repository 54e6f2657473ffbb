"""What must hold of a chat's own row, and of who works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.statuses import RELEASED

if TYPE_CHECKING:
    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.findings import Notebook
    from nodellm_orm.upkeep.stored import Fields, StoredChat


def check_head(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """Instructions and settings can be read.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
    """
    table, row = tables.chats.name, chat.row
    if not _texts(row["instructions"]):
        book.damage(table, chat.id, "instructions", "the instructions are not a JSON list of texts")
    try:
        Settings.from_json(row["settings"])
    except ConfigurationError:
        book.damage(table, chat.id, "settings", "the settings are not what this package writes")


def check_active(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """The chat's active turn, the running turn and the active slot are the same one.

    Args:
        book: takes down what is found; an interrupted turn is noted.
        tables: for their names.
        chat: the chat.
    """
    active = chat.row["active_turn_id"]
    turns = {turn["id"]: turn for turn in chat.turns}
    _check_lease(book, tables, chat, turns.get(active, {}))
    for turn in chat.turns:
        running = turn["status"] == "running"
        if running != (turn["active_slot"] == 1):
            has = "has no active slot although it is running" if running else "has the active slot and is not running"
            book.damage(tables.turns.name, turn["id"], "active-slot", f"the turn {has}")
        if running and turn["id"] != active:
            told = "another one" if active else "none"
            book.damage(
                tables.turns.name,
                turn["id"],
                "active-turn",
                f"the turn is running, and the chat names {told} as active",
            )
    if active is None:
        return
    if active not in turns:
        book.damage(tables.chats.name, chat.id, "active-turn", f"the active turn {active} is not in the chat")
    elif turns[active]["status"] != "running":
        status = turns[active]["status"]
        book.damage(tables.chats.name, chat.id, "active-turn", f"the active turn {active} is {status:.20}")
    elif chat.row["lease_expired"]:
        book.note(
            tables.turns.name,
            active,
            "interrupted",
            "the turn was interrupted: its worker is gone; resume() carries on",
        )


def _check_lease(book: Notebook, tables: Tables, chat: StoredChat, active: Fields) -> None:
    """A held chat has a lease and a worker, unless that one has let go of the turn; a free one has neither."""
    row, table = chat.row, tables.chats.name
    held = row["active_turn_id"] is not None
    if held != (row["lease_until"] is not None):
        told = "the chat is held and has no lease" if held else "the chat is free and has a lease"
        book.damage(table, chat.id, "lease", told)
    elif (row["lease_owner"] is None) == held and active.get("reason") != RELEASED:
        told = "the chat is held by no worker" if held else "the chat is free and names a worker"
        book.damage(table, chat.id, "lease", told)


def _texts(text: str) -> bool:
    try:
        value = loads(text)
    except JsonTextError:
        return False
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
