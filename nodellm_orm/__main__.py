"""Where the command line begins, also as ``python -m nodellm_orm``."""

from __future__ import annotations

import sys
from typing import Final

_EXTRA: Final = frozenset({"rich", "typer"})
"""The packages that only the command line needs."""


def main() -> int:
    """Run the command line.

    Returns:
        The exit code: 0 is success, 1 an error, 2 a command that cannot be understood, 130 Ctrl-C, 141 a broken pipe.
    """
    try:
        from nodellm_orm.cli.app import run  # noqa: PLC0415 — an extra that may be missing
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        sys.stderr.write(f"error: the command line needs {package}: pip install 'nodellm_orm[cli]'\n")
        return 1
    except KeyboardInterrupt:  # while everything is imported
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
