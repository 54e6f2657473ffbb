"""The command `chats`: which chats there are."""

import asyncio
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from nodellm_orm.cli import machine
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened, option_for
from nodellm_orm.client import list_chats
from nodellm_orm.domain.figures import NONE, age, count, money
from nodellm_orm.domain.pages import ChatSummary, Page
from nodellm_orm.domain.printable import one_line
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.glances import Glance, Glances, read_glances

_ID_WIDTH: Final = 36

EXAMPLES: Final = """
Examples:

  nodellm-orm chats

  nodellm-orm chats --owner ann --limit 5 -d postgresql://app@localhost/app

  nodellm-orm chats --json | jq -r '.chats[].id'
"""


def chats(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Chats at most.")] = 20,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="The page after this one; the page before tells it.")
    ] = None,
    owner: Owner = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON for programs; costs are text, so that they stay exact.")
    ] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """List the chats, newest first."""
    asyncio.run(_chats(database, records, limit=limit, after=after, owner=owner, json=json))


async def _chats(
    database: str, records: str | None, *, limit: int, after: str | None, owner: str | None, json: bool
) -> None:
    whose = ANY_OWNER if owner is None else owner
    async with opened(database, records) as (engine, stored):
        page = await list_chats(engine, owner=whose, limit=limit, after=after, records=stored)
        glances = await read_glances(engine, [chat.id for chat in page], owner=whose, records=stored)
        same = option_for(database, engine.url, records)
    if json:
        results().out(machine.chats(page, glances), highlight=False)
        return
    if not len(page):
        remarks().print(f"There are no chats yet; begin one with: nodellm-orm chat{same}")
        return
    results().print(_table(page, glances))
    if page.next is not None:
        remarks().out(f"more with: nodellm-orm chats --after {page.next}{same}", style="dim", highlight=False)


def _table(page: Page[ChatSummary], glances: Glances) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("Chat", min_width=_ID_WIDTH, ratio=2)
    table.add_column("Model", overflow="ellipsis", no_wrap=True, max_width=18)
    table.add_column("Mess.", justify="right", no_wrap=True)
    table.add_column("Cost", justify="right", no_wrap=True)
    table.add_column("Age", justify="right", no_wrap=True)
    for chat in page:
        glance = glances.by_chat[chat.id]
        table.add_row(
            _name(chat, glance),
            one_line(chat.model or NONE),
            count(chat.message_count),
            money(glance.cost, unpriced=glance.unpriced),
            "running" if chat.running else age(chat.created_at, glances.read_at),
        )
    return table


def _name(chat: ChatSummary, glance: Glance) -> Text:
    """The id, and under it what the chat is about."""
    about = one_line(chat.title or glance.opening, _ID_WIDTH) or "(no question yet)"
    return Text(f"{chat.id}\n").append(about, style="dim")
