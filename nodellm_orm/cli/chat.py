"""The command `chat`: a conversation typed by a person, or questions read from a pipe."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from nodellm_orm.cli.completion import chat_ids, models, providers
from nodellm_orm.cli.completion import thinking as words_of_thinking
from nodellm_orm.cli.database import DEFAULT, Database, OwnRecords
from nodellm_orm.cli.ids import parsed_id
from nodellm_orm.cli.screen import Screen
from nodellm_orm.cli.talk import Talk, Unfinished, Wishes
from nodellm_orm.config import Environment
from nodellm_orm.errors import NodeLLMError

_INTERRUPTED: Final = 130
_LEAVING: Final = "Ctrl-D leaves"
_HELP: Final = (
    "type a question and press Enter",
    "Ctrl-C while an answer arrives cancels it; Ctrl-D leaves, and everything is kept",
    "/resume carries on a question that was left without its answer",
    "/exit leaves; a question that begins with / is typed with a space before it",
)

EXAMPLES: Final = """
Examples:

  nodellm-orm chat --provider openai --model gpt-5-mini

  nodellm-orm chat --id 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10

  echo "What is an event loop?" | nodellm-orm chat --provider local > answer.txt
"""


def chat(
    *,
    chat_id: Annotated[
        UUID | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Carry on this chat; see nodellm-orm chats.",
            parser=parsed_id,
            autocompletion=chat_ids,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="openai, anthropic, local … The stored one, or NODELLM_PROVIDER.",
            autocompletion=providers,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model. The stored one, NODELLM_MODEL, or a default.", autocompletion=models
        ),
    ] = None,
    instructions: Annotated[str | None, typer.Option(metavar="TEXT", help="How the model should behave.")] = None,
    thinking: Annotated[
        str | None,
        typer.Option(
            metavar="HOW MUCH",
            help="none, minimal, low, medium, high, xhigh, max, or a number of tokens.",
            autocompletion=words_of_thinking,
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="A title for a new chat.")] = None,
    owner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose chat it is: given to a new one, required of the one carried on."),
    ] = None,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Talk with a model; every question and answer is kept in the database.

    Answers appear as they arrive. A SQLite file that is not there yet is made; tables in any other database are made
    by: nodellm-orm db upgrade

    When the questions come from a pipe, each line is one; then the answers alone are written to stdout.
    """
    interactive = sys.stdin.isatty()
    screen = Screen(interactive=interactive)
    wishes = Wishes(
        database=database,
        records=records,
        environment=Environment.of(os.environ),
        chat_id=chat_id,
        owner=owner,
        provider=provider,
        model=model,
        title=title,
        instructions=instructions,
        thinking=thinking,
    )
    with asyncio.Runner() as runner, _opened(runner, Talk(wishes, screen)) as talk:
        if interactive:
            _converse(runner, talk, screen)
        else:
            _work_off(runner, talk, screen)


@contextlib.contextmanager
def _opened(runner: asyncio.Runner, talk: Talk) -> Iterator[Talk]:
    try:
        runner.run(talk.open())
        yield talk
    finally:
        runner.run(talk.close())


def _converse(runner: asyncio.Runner, talk: Talk, screen: Screen) -> None:
    """Questions of a person, until he leaves."""
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401, PLC0415 — gives input() its line editing and history

    screen.note(f"{talk.greeting}; /help tells more")
    if (left := talk.unfinished) is not None:
        screen.note(_told(left), None)
        if left.resumable and screen.confirm("Carry it on?"):
            _attempt(runner, talk.resume, screen)
    for question in _typed(screen):
        if question.strip() in {"/exit", "/quit"}:
            break
        try:
            _obey(question, runner, talk, screen)
        except KeyboardInterrupt:  # not while an answer arrives, which would end that alone
            screen.note(_LEAVING)
    screen.note(talk.farewell, None)


def _obey(question: str, runner: asyncio.Runner, talk: Talk, screen: Screen) -> None:
    match question.strip():
        case "/help":
            for line in _HELP:
                screen.note(line)
        case "/resume":
            _attempt(runner, talk.resume, screen)
        case "":
            pass
        case _ if question.startswith("/"):
            screen.note("there is no such command; /help tells which there are")
        case _:
            _attempt(runner, partial(talk.ask, question.strip()), screen)


def _typed(screen: Screen) -> Iterator[str]:
    while True:
        try:
            sys.stderr.write("\n")
            yield screen.ask()
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            screen.note(_LEAVING)


def _attempt(runner: asyncio.Runner, work: Callable[[], Coroutine[Any, Any, bool]], screen: Screen) -> None:
    """Do something whose failure is told, and does not end the conversation."""
    try:
        runner.run(work())
    except NodeLLMError as error:
        screen.error(error)


def _work_off(runner: asyncio.Runner, talk: Talk, screen: Screen) -> None:
    """Questions from a pipe, one a line, until one has no answer."""
    try:
        if (left := talk.unfinished) is not None and (left.tools or left.interrupted):
            screen.note(_told(left), None)
            if left.resumable:
                _or_leave(finished=runner.run(talk.resume()))
        for line in sys.stdin:
            if line.strip():
                _or_leave(finished=runner.run(talk.ask(line.strip())))
    except NodeLLMError:
        screen.end_line()
        raise
    finally:
        screen.note(talk.farewell, None)


def _or_leave(*, finished: bool) -> None:
    if not finished:
        raise typer.Exit(_INTERRUPTED)


def _told(left: Unfinished) -> str:
    turn = left.turn
    why = f"{turn.status}: {turn.error_message}" if turn.error_message else turn.status
    said = f"the last question of this chat has no answer ({why})"
    if left.tools:
        tools = ", ".join(left.tools)
        return f"{said}; it waits for {tools}: resume it in the program that has these tools, or ask on without it"
    return said if left.interrupted else f"{said}; /resume tries again"
