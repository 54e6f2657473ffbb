"""The command `search`: where something was said."""

import asyncio
import json as json_text
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Final, cast, get_args
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from nodellm_orm.cli.completion import chat_ids
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened, option_for
from nodellm_orm.cli.ids import parsed_id
from nodellm_orm.cli.moments import moment
from nodellm_orm.domain.figures import count
from nodellm_orm.domain.found import FoundMessage
from nodellm_orm.domain.messages import Role
from nodellm_orm.domain.printable import one_line, printable
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.search.messages import search_messages

_ID_WIDTH: Final = 36
_MANY: Final = 5000
"""Messages that were read for a search; beyond that an index is worth while."""
_BLANK: Final = re.compile(r"\s+")

EXAMPLES: Final = """
Examples:

  nodellm-orm search event loop

  nodellm-orm search "event loop" 'deploy*' --without thread --since 2026-03-01

  nodellm-orm search invoice --owner ann --role user --json | jq -r '.messages[].chat_id'
"""


def search(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORDS",
            help='All of them must occur; "two words" in quotes in a row, and begin* stands for a beginning.',
            show_default=False,
        ),
    ],
    *,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="WORDS", help="What must not occur; may be repeated.", show_default=False),
    ] = None,
    owner: Owner = None,
    chat: Annotated[
        UUID | None,
        typer.Option(
            "--chat",
            metavar="ID",
            help="Only in this chat.",
            show_default=False,
            parser=parsed_id,
            autocompletion=chat_ids,
        ),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="Only what system, user, assistant or tool have said; may be repeated.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From this day (UTC) or moment on: 2026-03-01, 2026-03-01T12:00+01:00."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this day or moment.")] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also messages in whose place others have come.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Messages at most.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="The page after this one; the page before tells it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs, with the places of the words.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Find messages by their words, those of the newest chat first.

    Encrypted messages are searched when NODELLM_ENCRYPTION_KEYS is set, and left out otherwise. Where there is much to
    read, an index makes searches quick: nodellm-orm db search-index.
    """
    run = _Run(
        text=_text(words, without or []),
        owner=owner,
        chat=chat,
        roles=_roles(role or ()),
        since=moment("--since", since),
        until=moment("--until", until),
        superseded=superseded,
        limit=limit,
    )
    found, same = asyncio.run(run(database, records, after))
    if json:
        results().out(_machine(found), highlight=False)
        return
    if found.messages:
        results().print(_table(found.messages))
    else:
        remarks().print("Nothing was found.")
    _remark(found, same)


@dataclass(slots=True, kw_only=True)
class _Found:
    """What was found, page by page."""

    messages: list[FoundMessage]
    next: str | None = None
    searched: int = 0
    encrypted: int = 0
    indexed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What is looked for."""

    text: str
    owner: str | None
    chat: UUID | None
    roles: Sequence[Role] | None
    since: datetime | date | None
    until: datetime | date | None
    superseded: bool
    limit: int

    async def __call__(self, database: str, records: str | None, after: str | None) -> tuple[_Found, str]:
        """Read on until there are as many as asked for, or no more; tells also how to name the same database."""
        found = _Found(messages=[], next=after)
        async with opened(database, records) as (engine, stored):
            while True:
                page = await search_messages(
                    engine,
                    self.text,
                    # An owner who is the empty text is not everybody.
                    owner=ANY_OWNER if self.owner is None else self.owner,
                    limit=self.limit - len(found.messages),
                    after=found.next,
                    chat_id=self.chat,
                    roles=self.roles,
                    since=self.since,
                    until=self.until,
                    superseded=self.superseded,
                    records=stored,
                )
                found.messages += page
                found.next = page.next
                found.searched += page.searched
                found.encrypted += page.encrypted
                found.indexed |= page.indexed
                if found.next is None or len(found.messages) == self.limit:
                    return found, option_for(database, engine.url, records)


def _text(words: Sequence[str], without: Sequence[str]) -> str:
    """What was typed, as one text: the shell took the quotes off."""
    if len(words) == 1 and not without:
        return words[0]
    return " ".join([*map(_quoted, words), *(f"-{_quoted(word)}" for word in without)])


def _roles(given: Sequence[str]) -> Sequence[Role] | None:
    for role in given:
        if role not in get_args(Role):
            msg = f"--role {role[:40]!r} is unknown; it is one of {', '.join(get_args(Role))}"
            raise ConfigurationError(msg)
    return cast("Sequence[Role]", given) or None


def _quoted(word: str) -> str:
    return f'"{word}"' if _BLANK.search(word.strip()) and '"' not in word else word


def _table(found: Sequence[FoundMessage]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("Chat", min_width=_ID_WIDTH, max_width=_ID_WIDTH)
    table.add_column("Message", overflow="fold")
    seen: FoundMessage | None = None
    for message in found:
        again = seen is not None and seen.chat_id == message.chat_id
        table.add_row("" if again else _chat(message), _message(message))
        seen = message
    return table


def _chat(message: FoundMessage) -> Text:
    """The id, and under it whose chat it is and what it is called."""
    told = [one_line(text, _ID_WIDTH) for text in (message.owner, message.title) if text]
    return Text(str(message.chat_id)).append("".join(f"\n{text}" for text in told), style="dim")


def _message(message: FoundMessage) -> Text:
    """Who said it when, and the words with what is around them."""
    superseded = " · superseded" if message.superseded else ""
    head = f"{message.role} · {message.position} · {message.created_at:%Y-%m-%d %H:%M}{superseded}\n"
    text = Text(head, style="dim")
    for piece, hit in message.excerpt.pieces():
        text.append(_BLANK.sub(" ", printable(piece)), style="not dim bold" if hit else "not dim")
    return text


def _remark(found: _Found, same: str) -> None:
    console = remarks()
    if found.encrypted:
        told = f"{count(found.encrypted)} encrypted messages were left out; set NODELLM_ENCRYPTION_KEYS to search them"
        console.out(told, style="dim", highlight=False)
    if found.searched > _MANY and not found.indexed and not found.encrypted:
        told = f"{count(found.searched)} messages were read; an index is quicker: nodellm-orm db search-index{same}"
        console.out(told, style="dim", highlight=False)
    if found.next is not None:
        console.out(f"more with the same command and: --after {found.next}", style="dim", highlight=False)


def _machine(found: _Found) -> str:
    messages = [
        {
            "chat_id": str(message.chat_id),
            "owner": message.owner,
            "title": message.title,
            "position": message.position,
            "role": message.role,
            "created_at": message.created_at.isoformat(),
            "superseded": message.superseded,
            "excerpt": message.excerpt.text,
            "hits": message.excerpt.hits,
        }
        for message in found.messages
    ]
    told = {"messages": messages, "next": found.next, "encrypted": found.encrypted, "indexed": found.indexed}
    # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
    return json_text.dumps(told, indent=2)
