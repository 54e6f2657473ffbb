"""The command `replay`: the questions of a chat asked again, and the answers beside the stored ones."""

import asyncio
import json as json_text
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from nodellm_orm.cli.completion import chat_ids, models, providers
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened, option_for
from nodellm_orm.cli.ids import parsed_id
from nodellm_orm.config import Environment
from nodellm_orm.creating import create_llm
from nodellm_orm.domain.figures import money
from nodellm_orm.domain.money import add
from nodellm_orm.domain.printable import printable
from nodellm_orm.errors import ConfigurationError, NodeLLMError
from nodellm_orm.llm import LLM
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.owners import Owner as WhoseOwner
from nodellm_orm.replay.asking import replay_chat
from nodellm_orm.replay.many import replay_chats, replay_id_of
from nodellm_orm.replay.report import ReplayProgress, ReplayReport
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.define import Records
from nodellm_orm.store.details import read_details

_DIFFERENT: Final = 1

EXAMPLES: Final = """
Examples:

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --model gpt-5-mini

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --provider anthropic --instructions "Answer briefly."

  nodellm-orm replay 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10 --json | jq '.turns[] | select(.equal | not)'

  nodellm-orm chats --json | jq -r '.chats[].id' | xargs nodellm-orm replay --run nightly --fail-on-difference
"""


def replay(
    chat_ids: Annotated[
        list[UUID],
        typer.Argument(
            metavar="ID...",
            help="The chats; see nodellm-orm chats.",
            show_default=False,
            parser=parsed_id,
            autocompletion=chat_ids,
        ),
    ],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model to ask; the stored one at the stored provider.", autocompletion=models
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="openai, anthropic, local …; the stored one, or NODELLM_PROVIDER.",
            autocompletion=providers,
        ),
    ] = None,
    instructions: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the model should behave, in place of what was stored.")
    ] = None,
    replay_id: Annotated[
        UUID | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Carry on the replay of this id, which was broken off.",
            parser=parsed_id,
            autocompletion=chat_ids,
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Carry on the run of this name, or begin it; for several chats.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Chats at a time.")] = 4,
    fail: Annotated[
        bool, typer.Option("--fail-on-difference", help="Exit with 1 when an answer is not the same.")
    ] = False,
    owner: Owner = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, of several chats a line each; costs are text.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Ask the questions of chats again, into new chats, and compare the answers; the stored chats are only read.

    The provider is asked, which costs what it costs. No tool runs: calls get the results that were stored for them.
    Other answers are a result like any other, and the exit code is 0, unless --fail-on-difference is given.
    """
    ids = list(dict.fromkeys(chat_ids))
    if len(ids) > 1 and replay_id is not None:
        msg = "--id is of one chat's replay; carry on several with --run NAME"
        raise ConfigurationError(msg)
    if run is not None and (replay_id is not None or not run.strip()):
        msg = "--run names a run, and goes without --id; give one of them"
        raise ConfigurationError(msg)
    wanted = _Wanted(
        chat_ids=ids,
        replay_id=replay_id or (new_id() if run is None else replay_id_of(ids[0], run)),
        run=run or f"cli {new_id()}",
        concurrency=concurrency,
        owner=owner,
        instructions=instructions,
        machine=json,
    )
    reports = asyncio.run(wanted.replayed(database, records, provider, model))
    if len(ids) > 1 and not json:
        results().out(_summary(reports), highlight=False)
    if any(report.error is not None or (fail and not report.equal) for report in reports):
        raise typer.Exit(_DIFFERENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is to be asked again."""

    chat_ids: list[UUID]
    replay_id: UUID
    run: str
    concurrency: int
    owner: str | None
    instructions: str | None
    machine: bool
    """Whether programs read it."""

    async def replayed(
        self, database: str, records: str | None, provider: str | None, model: str | None
    ) -> list[ReplayReport]:
        async with (
            opened(database, records) as (engine, stored),
            create_llm(await self._provider(engine, stored, provider), model=model) as llm,
        ):
            try:
                return await self._asked(engine, stored, llm, model)
            except (NodeLLMError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) or getattr(error, "__notes__", None):
                    self._advise(option_for(database, engine.url, records))  # it has begun, and can be carried on
                raise

    async def _asked(self, engine: AsyncEngine, stored: Records, llm: LLM, model: str | None) -> list[ReplayReport]:
        common: dict[str, Any] = {
            "owner": self._whose,
            "model": model,
            "instructions": self.instructions,
            "records": stored,
        }
        if len(self.chat_ids) == 1:
            with _bar(chats=1) as progress:
                report = await replay_chat(
                    engine, self.chat_ids[0], llm, id=self.replay_id, progress=progress, **common
                )
            self._show(report)
            return [report]
        reports: list[ReplayReport] = []
        with _bar(chats=len(self.chat_ids)) as progress:
            named: dict[str, Any] = {"run": self.run, "concurrency": self.concurrency, "progress": progress}
            async for report in replay_chats(engine, self.chat_ids, llm, **named, **common):
                self._show(report)
                reports.append(report)
        if any(report.error is not None for report in reports):
            self._advise()
        return reports

    def _show(self, report: ReplayReport) -> None:
        several = len(self.chat_ids) > 1
        if self.machine:
            # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
            text = json_text.dumps(json_text.loads(report.to_json()), indent=None if several else 2)
        else:
            text = printable(report.to_text()) + ("\n" if several else "")
        results().out(text, highlight=False)

    def _advise(self, same: str = "") -> None:
        """Tell how to go on with what was broken off."""
        if len(self.chat_ids) > 1:
            again = f"the same options, the same IDs and --run {shlex.quote(self.run)}"
        else:
            again = f"the same options and: nodellm-orm replay {self.chat_ids[0]} --id {self.replay_id}{same}"
        remarks().print(f"what was answered is kept; carry on with {again}", soft_wrap=True)

    @property
    def _whose(self) -> WhoseOwner:
        # An owner who is the empty text is not everybody.
        return ANY_OWNER if self.owner is None else self.owner

    async def _provider(self, engine: AsyncEngine, stored: Records, given: str | None) -> str:
        """Who is asked: whom the option names, else the chats' own provider, else the environment's."""
        if given is not None:
            return given
        names: set[str | None] = set()
        for chat_id in self.chat_ids:
            details = await read_details(engine, chat_id, owner=self._whose, records=stored)
            names.add(details.head.provider or Environment.of(os.environ).provider)
        if len(names) > 1:
            told = ", ".join(sorted(name or "none" for name in names))
            msg = (
                f"the chats have several providers ({told}); give --provider, or replay those of each one by themselves"
            )
            raise ConfigurationError(msg)
        (name,) = names
        if name is None:
            msg = "no provider is named; give --provider (openai, anthropic, local …), or set NODELLM_PROVIDER"
            raise ConfigurationError(msg)
        return name


def _summary(reports: Sequence[ReplayReport]) -> str:
    equal = sum(report.equal for report in reports)
    broken = sum(report.error is not None for report in reports)
    was, now = None, None
    for report in reports:
        was, now = add(was, report.original.cost), add(now, report.replayed.cost)
    return (
        f"{len(reports)} chats: {equal} the same, {len(reports) - equal - broken} not, {broken} broken off; "
        f"{money(was, unpriced=1)} recorded, {money(now, unpriced=1)} replayed"
    )


@contextmanager
def _bar(chats: int) -> Iterator[Callable[[ReplayProgress], None]]:
    """A bar on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("questions" if chats == 1 else "chats", total=None if chats == 1 else chats)

        def told(news: ReplayProgress) -> None:
            if chats == 1:
                progress.update(task, completed=news.turn, total=news.turns)
            else:
                progress.update(task, completed=news.chats_done)

        yield told
