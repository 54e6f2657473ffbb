"""Conversations that are replayed: what is asked and answered in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.acceptance.speakers import Says
from tests.acceptance.talks import Talk, calls, double

if TYPE_CHECKING:
    from nodellm_orm import Chat

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01"
SCRIPT = (
    Says(text="Hello!"),
    Says(text="Let me see.", calls=calls(2, 4)),
    Says(text="4 and 8."),
    Says(text="Goodbye."),
)
QUESTIONS = ("Hi", "Double 2 and 4", "Bye")


async def asked(talk: Talk, **options: Any) -> Chat:
    """A chat in which the questions were asked."""
    chat = await talk.chat(**{"instructions": "Be brief.", "tools": [double], **options})
    for question in QUESTIONS:
        await chat.ask(question)
    return chat


async def conversation_of(kind: str, talk: Talk) -> Chat:
    """A chat that did not simply go on."""
    chat = await talk.chat(instructions="Be brief.")
    await chat.ask("Q1")
    match kind:
        case "regenerated":
            await chat.regenerate()
        case "edited":
            await chat.edit(0, "Q1, please")
        case "forked":
            branch = await chat.fork(at=0)
            await branch.regenerate()
            await branch.ask("Q2")
            return branch
        case "compacted":
            await chat.ask("Q2")
            await chat.compact(keep=1)
        case "windowed":
            await chat.ask("Q2", history_window=1)
        case "added":
            await chat.add_message("user", "by the way")
            await chat.add_message("assistant", "I see")
        case _:
            raise AssertionError(kind)
    await chat.ask("Q3")
    return chat


KINDS = ("regenerated", "edited", "forked", "compacted", "windowed", "added")
