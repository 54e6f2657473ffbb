"""The command `show`: one chat in full, as people read it or as JSON."""

import asyncio
from typing import Annotated, Final
from uuid import UUID

import typer

from nodellm_orm.cli import machine
from nodellm_orm.cli.consoles import results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, existing, stored_records
from nodellm_orm.cli.transcript import transcript
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.details import read_details
from nodellm_orm.store.schema import check

EXAMPLES: Final = """
Examples:

  nodellm-orm show 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 | less

  nodellm-orm show 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --json | jq '.requests[].cost'
"""


def show(
    chat_id: Annotated[UUID, typer.Argument(metavar="ID", help="The chat; see nodellm-orm chats.", show_default=False)],
    *,
    owner: Owner = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON for programs; costs are text, so that they stay exact.")
    ] = False,
    database: Database = DEFAULT,
) -> None:
    """Show a chat: messages, thinking, tool calls and their results, and what each request took and cost."""
    asyncio.run(_show(database, chat_id, owner=owner, json=json))


async def _show(database: str, chat_id: UUID, *, owner: str | None, json: bool) -> None:
    async with existing(database) as engine:
        await check(engine)
        whose = ANY_OWNER if owner is None else owner
        details = await read_details(engine, chat_id, owner=whose, records=stored_records())
    console = results()
    if json:
        console.out(machine.chat(details), highlight=False)
    else:
        console.print(transcript(details))
