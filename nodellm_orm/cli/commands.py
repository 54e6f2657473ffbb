"""Which commands there are, and where: each is imported when it is meant, so that help and Tab are quick.

A command is a function of a module in this package; the module's `EXAMPLES` (or what `examples=` names) stand under its
help. `about` repeats the first sentence of its docstring, which would have to be imported otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

TALK: Final = "Talk"
LOOK: Final = "Look"
REPORT: Final = "Reports"
MOVE: Final = "Files"
KEEP: Final = "Upkeep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command before it is imported."""

    panel: str
    """What it stands under."""
    module: str
    """In this package."""
    function: str
    about: str
    examples: str = "EXAMPLES"

    def loaded(self, name: str) -> Any:
        """The command itself.

        Args:
            name: as it is typed.
        """
        module = import_module(f"nodellm_orm.cli.{self.module}")
        found: Any = getattr(module, self.function)
        app = found if isinstance(found, typer.Typer) else command_line()
        if app is not found:
            app.command(name, cls=Command, epilog=getattr(module, self.examples))(found)
        return typer.main.get_command(app)


COMMANDS: Final = {
    "chat": Entry(
        panel=TALK,
        module="chat",
        function="chat",
        about="Talk with a model; every question and answer is kept in the database.",
    ),
    "replay": Entry(
        panel=TALK,
        module="replay",
        function="replay",
        about="Ask the questions of chats again, into new chats, and compare the answers.",
    ),
    "chats": Entry(panel=LOOK, module="chats", function="chats", about="List the chats, newest first."),
    "show": Entry(
        panel=LOOK,
        module="show",
        function="show",
        about="Show a chat: messages, thinking, tool calls and their results, and what each request took and cost.",
    ),
    "search": Entry(
        panel=LOOK,
        module="search",
        function="search",
        about="Find messages by their words, those of the newest chat first.",
    ),
    "inspect": Entry(
        panel=LOOK,
        module="inspecting",
        function="inspect",
        about="Show the chats in a web browser; nothing can be changed there.",
    ),
    "usage": Entry(
        panel=REPORT,
        module="usage",
        function="usage",
        about="Add up requests, tokens, costs and times; what deleted chats have cost is in it.",
    ),
    "rollup": Entry(
        panel=REPORT,
        module="rollup",
        function="rollup",
        about="Add up the hours that are over, for usage --rollup, and those again that have changed since.",
    ),
    "export": Entry(
        panel=MOVE,
        module="transfer",
        function="export",
        about="Write chats to a file with everything in them, for nodellm-orm import.",
    ),
    "import": Entry(
        panel=MOVE,
        module="transfer",
        function="import_",
        about="Read chats from a file that nodellm-orm export has written; each is written whole or not at all.",
        examples="IMPORT_EXAMPLES",
    ),
    "doctor": Entry(
        panel=KEEP,
        module="doctor",
        function="doctor",
        about="Look at Python, keys, providers and the database, and say what to do about what is not right.",
    ),
    "verify": Entry(
        panel=KEEP,
        module="verify",
        function="verify",
        about="Check that what is stored of chats agrees with itself; nothing is changed.",
    ),
    "delete": Entry(
        panel=KEEP,
        module="deletion",
        function="delete",
        about="Delete a chat with everything that was said in it; its costs stay in the ledger.",
    ),
    "purge": Entry(
        panel=KEEP,
        module="deletion",
        function="purge_chats",
        about="Delete the chats that were not used for some time, or everything of one owner.",
        examples="PURGE_EXAMPLES",
    ),
    "rotate-keys": Entry(
        panel=KEEP,
        module="rotate",
        function="rotate_keys",
        about="Encrypt everything with the first key of NODELLM_ENCRYPTION_KEYS, while the database is in use.",
    ),
    "db": Entry(panel=KEEP, module="schema", function="db", about="Make and upgrade the tables."),
}
"""All commands, in the order in which help lists them."""


class _Tidy:
    """Help without `<bool>` beside every switch."""

    def get_params(self, ctx: Any) -> Any:
        """The options, as help lists them."""
        options: Any = super().get_params(ctx)  # type: ignore[misc]  # it stands before a command
        for option in options:
            if getattr(option, "is_flag", False):
                option.metavar = ""
        return options


class Command(_Tidy, TyperCommand):
    """One command."""


class Group(_Tidy, TyperGroup):
    """Commands under one name."""


class Commands(Group):
    """The group of all commands, which stand for themselves until one is meant."""

    def __init__(self, **attributes: Any) -> None:
        """Put in what help and Tab need to know."""
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.about, rich_help_panel=entry.panel), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the command that is meant."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].loaded(name) if name in COMMANDS else command, rest


def command_line(**options: Any) -> typer.Typer:
    """A command line with the habits of this one.

    Args:
        options: of `typer.Typer`, beside them.
    """
    return typer.Typer(
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["--help", "-h"]},
        **{"add_completion": False, "cls": Group, **options},
    )
