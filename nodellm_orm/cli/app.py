"""All commands together, and what becomes of an error: one line, and an exit code."""

from importlib.metadata import version as installed_version
from typing import Annotated, Final

import typer

from nodellm_orm.cli import chat, chats, deletion, doctor, inspecting, replay, rotate, show, transfer, usage, verify
from nodellm_orm.cli.consoles import complain, never_fail_to_print, results
from nodellm_orm.cli.schema import db
from nodellm_orm.errors import NodeLLMError

app: Final = typer.Typer(
    name="nodellm-orm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        results().print(f"nodellm-orm {installed_version('nodellm_orm')}")
        raise typer.Exit


@app.callback()
def nodellm_orm(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Tell the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Talk with language models, and look at the chats that are kept in your database.

    The database is named by --database, or once and for all by NODELLM_DATABASE_URL; otherwise it is the file chats.db
    in this folder.
    """


app.command(epilog=chat.EXAMPLES)(chat.chat)
app.command(epilog=chats.EXAMPLES)(chats.chats)
app.command(epilog=show.EXAMPLES)(show.show)
app.command(epilog=deletion.EXAMPLES)(deletion.delete)
app.command("purge", epilog=deletion.PURGE_EXAMPLES)(deletion.purge_chats)
app.command(epilog=verify.EXAMPLES)(verify.verify)
app.command("rotate-keys", epilog=rotate.EXAMPLES)(rotate.rotate_keys)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)
app.command(epilog=usage.EXAMPLES)(usage.usage)
app.command(epilog=transfer.EXAMPLES)(transfer.export)
app.command("import", epilog=transfer.IMPORT_EXAMPLES)(transfer.import_)
app.command(epilog=replay.EXAMPLES)(replay.replay)
app.command(epilog=inspecting.EXAMPLES)(inspecting.inspect)
app.add_typer(db, name="db")


def run() -> int:
    """Run the command that was given.

    Returns:
        1 after an error, of which one line was written to stderr; otherwise it exits with the command's own code.
    """
    never_fail_to_print()
    try:
        app(prog_name="nodellm-orm")
    except NodeLLMError as error:
        complain(error)
        return 1
    return 0
