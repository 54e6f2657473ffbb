"""All commands together, and what becomes of an error: one line, and an exit code."""

import sys
from importlib.metadata import version as installed_version
from typing import Annotated, Final, Protocol, runtime_checkable

import typer

from nodellm_orm.cli.commands import Commands, command_line
from nodellm_orm.cli.consoles import complain, never_fail_to_print, remarks, results, write_no_more
from nodellm_orm.errors import NodeLLMError

ERROR: Final = 1
INTERRUPTED: Final = 130
UNREAD: Final = 141
"""What a shell tells of a program that ended because nobody read on."""
_NAME: Final = "nodellm-orm"

app: Final = command_line(name=_NAME, cls=Commands, no_args_is_help=True, add_completion=True)
"""Its commands are in commands.py."""


def _version(*, wanted: bool) -> None:
    if wanted:
        results().print(f"nodellm-orm {installed_version('nodellm_orm')}")
        raise typer.Exit


_EPILOG: Final = """
Examples:

  nodellm-orm chat --provider local

  nodellm-orm chats -d postgresql://app@localhost/app

  nodellm-orm doctor

Exits with 0 after success, 1 after an error or with something found (see each command), 2 when the command cannot be
understood, 130 after Ctrl-C, 141 when nobody reads the output.
"""


@app.callback(epilog=_EPILOG)
def nodellm_orm(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Tell the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Talk with language models, and look at the chats that are kept in your database.

    The database is named by --database, or once and for all by NODELLM_DATABASE_URL; otherwise it is the file chats.db
    in this folder. A URL with a password is better kept in that variable: others can see what is typed.
    """


@runtime_checkable
class _Misunderstood(Protocol):
    """What is raised for a command that cannot be understood; its class is not public in every release of typer."""

    exit_code: int

    def format_message(self) -> str:
        """What is wrong; empty when it was said already."""


def run() -> int:
    """Run the command that was given.

    Returns:
        The exit code: 0 after success, 1 after an error, 2 for a command that cannot be understood, 130 after Ctrl-C,
        141 when whoever read the output has gone. Of an error one line was written to stderr.
    """
    never_fail_to_print()
    try:
        code: object = app(prog_name=_NAME, standalone_mode=False)
        sys.stdout.flush()
    except NodeLLMError as error:
        complain(error)
        return ERROR
    except typer.Abort as refusal:  # a no, or no answer
        remarks().print("nothing was done")
        return INTERRUPTED if isinstance(refusal.__context__, KeyboardInterrupt) else ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # also made of a broken pipe, of which nobody wants to read
        return UNREAD if isinstance(end.__context__, BrokenPipeError) else _code(end.code)
    except BrokenPipeError:
        write_no_more()
        return UNREAD
    except OSError as error:
        write_no_more()
        complain(f"the output cannot be written ({error.strerror or type(error).__name__}); write it elsewhere")
        return ERROR
    except Exception as error:
        if not isinstance(error, _Misunderstood):
            raise
        _explain(error)
        return error.exit_code
    return _code(code)


def _explain(error: _Misunderstood) -> None:
    if said := error.format_message():
        path = getattr(getattr(error, "ctx", None), "command_path", _NAME)
        complain(f"{said.rstrip('.')}; see: {path} --help")


def _code(code: object) -> int:
    return code if isinstance(code, int) else 0
