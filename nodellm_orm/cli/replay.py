"""The command `replay`: the questions of a chat asked again, and the answers beside the stored ones."""

import asyncio
import json as json_text
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, existing, option_for, stored_records
from nodellm_orm.config import Environment
from nodellm_orm.creating import create_llm
from nodellm_orm.domain.printable import printable
from nodellm_orm.errors import ConfigurationError, NodeLLMError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.owners import Owner as WhoseOwner
from nodellm_orm.replay.asking import replay_chat
from nodellm_orm.replay.report import ReplayProgress, ReplayReport
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.details import read_details
from nodellm_orm.store.schema import check

EXAMPLES: Final = """
Examples:

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --model gpt-5-mini

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --provider anthropic --instructions "Answer briefly."

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --json | jq '.turns[] | select(.equal | not)'
"""


def replay(
    chat_id: Annotated[UUID, typer.Argument(metavar="ID", help="The chat; see nodellm-orm chats.", show_default=False)],
    *,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to ask; the stored one at the stored provider.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="openai, anthropic, local …; the stored one, or NODELLM_PROVIDER."),
    ] = None,
    instructions: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the model should behave, in place of what was stored.")
    ] = None,
    replay_id: Annotated[
        UUID | None, typer.Option("--id", metavar="ID", help="Carry on the replay of this id, which was broken off.")
    ] = None,
    owner: Owner = None,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs; costs are text.")] = False,
    database: Database = DEFAULT,
) -> None:
    """Ask the questions of a chat again, into a new chat, and compare the answers; the stored chat is only read.

    The provider is asked, which costs what it costs. No tool runs: calls get the results that were stored for them.
    Other answers are a result like any other: the exit code is 0.
    """
    wanted = _Wanted(chat_id=chat_id, replay_id=replay_id or new_id(), owner=owner, instructions=instructions)
    report = asyncio.run(wanted.replayed(database, provider, model))
    if json:
        # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
        results().out(json_text.dumps(json_text.loads(report.to_json()), indent=2), highlight=False)
    else:
        results().out(printable(report.to_text()), highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is to be asked again."""

    chat_id: UUID
    replay_id: UUID
    owner: str | None
    instructions: str | None

    async def replayed(self, database: str, provider: str | None, model: str | None) -> ReplayReport:
        async with existing(database) as engine:
            await check(engine)
            async with create_llm(await self._provider(engine, provider), model=model) as llm:
                try:
                    with _bar() as progress:
                        return await replay_chat(
                            engine,
                            self.chat_id,
                            llm,
                            owner=self._whose,
                            model=model,
                            instructions=self.instructions,
                            id=self.replay_id,
                            records=stored_records(),
                            progress=progress,
                        )
                except NodeLLMError as error:
                    if getattr(error, "__notes__", None):  # it has begun, and can be carried on
                        again = f"nodellm-orm replay {self.chat_id} --id {self.replay_id}"
                        same = option_for(database, engine.url)
                        remarks().print(
                            f"what was answered is kept; carry on with the same options and: {again}{same}",
                            soft_wrap=True,
                        )
                    raise

    @property
    def _whose(self) -> WhoseOwner:
        # An owner who is the empty text is not everybody.
        return ANY_OWNER if self.owner is None else self.owner

    async def _provider(self, engine: AsyncEngine, given: str | None) -> str:
        """Who is asked: whom the option names, else the chat's own provider, else the environment's."""
        if given is not None:
            return given
        details = await read_details(engine, self.chat_id, owner=self._whose, records=stored_records())
        name = details.head.provider or Environment.of(os.environ).provider
        if name is None:
            msg = "no provider is named; give --provider (openai, anthropic, local …), or set NODELLM_PROVIDER"
            raise ConfigurationError(msg)
        return name


@contextmanager
def _bar() -> Iterator[Callable[[ReplayProgress], None]]:
    """A bar on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("questions", total=None)

        def told(news: ReplayProgress) -> None:
            progress.update(task, completed=news.turn, total=news.turns)

        yield told
