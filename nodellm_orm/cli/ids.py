"""Ids of chats as they are typed: read, and offered by the shell."""

from typing import Annotated, Final, TypeAlias
from uuid import UUID

import typer

from nodellm_orm.cli.completion import chat_ids
from nodellm_orm.domain.printable import one_line

EXAMPLE: Final = "0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10"


def parsed_id(text: str) -> UUID:
    """The id of a chat.

    Args:
        text: as it was typed.

    Raises:
        typer.BadParameter: it is none.

    Example:
        >>> parsed_id(" 0199A4D0-7c1e-7b3a-9d7e-3f1f0c6f2a10 ")
        UUID('0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10')
    """
    try:
        return UUID(text.strip())
    except ValueError:
        msg = f"{one_line(text, 40)!r} is no id, which is a whole UUID such as {EXAMPLE}; nodellm-orm chats lists them"
        raise typer.BadParameter(msg) from None


ChatId: TypeAlias = Annotated[
    UUID,
    typer.Argument(
        metavar="ID",
        help="The chat; see nodellm-orm chats.",
        show_default=False,
        parser=parsed_id,
        autocompletion=chat_ids,
    ),
]
"""The argument that names a chat."""
