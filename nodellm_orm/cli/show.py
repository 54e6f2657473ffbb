"""The command `show`: one chat in full, as people read it or as JSON."""

import asyncio
from typing import Annotated, Final
from uuid import UUID

import typer

from nodellm_orm.cli import machine
from nodellm_orm.cli.consoles import results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened
from nodellm_orm.cli.ids import ChatId
from nodellm_orm.cli.transcript import transcript
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.details import read_details

EXAMPLES: Final = """
Examples:

  nodellm-orm show 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 | less

  nodellm-orm show 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --json | jq '.requests[].cost'
"""


def show(
    chat_id: ChatId,
    *,
    owner: Owner = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON for programs; costs are text, so that they stay exact.")
    ] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Show a chat: messages, thinking, tool calls and their results, and what each request took and cost."""
    asyncio.run(_show(database, records, chat_id, owner=owner, json=json))


async def _show(database: str, records: str | None, chat_id: UUID, *, owner: str | None, json: bool) -> None:
    async with opened(database, records) as (engine, stored):
        whose = ANY_OWNER if owner is None else owner
        details = await read_details(engine, chat_id, owner=whose, records=stored)
    console = results()
    if json:
        console.out(machine.chat(details), highlight=False)
    else:
        console.print(transcript(details))
