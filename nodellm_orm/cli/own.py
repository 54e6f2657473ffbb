"""Records of an application's own, found by the name under which `define_records` put them."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodellm_orm.config import ENCRYPTION_KEYS, Environment
from nodellm_orm.domain.printable import one_line
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.records import RECORDS, Records

if TYPE_CHECKING:
    from types import ModuleType

_FORM: Final = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_EXAMPLE: Final = "write package.module:NAME, such as app.models:RECORDS"


def stored_records(name: str | None = None) -> Records:
    """The records, encrypted with the keys that the environment names; as they are when it names none.

    Args:
        name: ``package.module:NAME`` of what `define_records` gave; the default set when omitted or blank.

    Raises:
        ConfigurationError: there are none under that name, or the variable with the keys is malformed.
    """
    records = RECORDS if name is None or not name.strip() else own_records(name.strip())
    given = Environment.of(os.environ).word(ENCRYPTION_KEYS) is not None
    return records.encrypted(Encryption.from_environment()) if given else records


def own_records(name: str) -> Records:
    """What `define_records` gave, imported from the current folder or from what is installed.

    Args:
        name: ``package.module:NAME``.

    Raises:
        ConfigurationError: the name is none, the module cannot be imported, or there are no records in it.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        msg = f"--records {one_line(name, 80)!r} names no records; {_EXAMPLE}"
        raise ConfigurationError(msg)
    module = _imported(form[1])
    found: object = getattr(module, form[2], None)
    if isinstance(found, Records):
        return found
    said = f"there is no {form[2]} in {form[1]}" if found is None else f"{name} is no records of define_records()"
    there = [f"{form[1]}:{attribute}" for attribute, value in vars(module).items() if isinstance(value, Records)]
    told = f"there are: {', '.join(there)}" if there else "none are there; name what define_records() gave"
    msg = f"--records: {said}; {told}"
    raise ConfigurationError(msg)


def _imported(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        # What an application prints while it is imported must not get among the results.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        msg = f"--records: there is no module {error.name} here or among what is installed; {_EXAMPLE}, in its folder"
        raise ConfigurationError(msg) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> ConfigurationError:
    """The error for a module that cannot be imported; its own words may quote settings, and are not shown."""
    missing = f" for {error.name}" if isinstance(error, ModuleNotFoundError) else ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    file, line = frames[-1].filename, frames[-1].lineno
    if isinstance(error, SyntaxError) and error.filename is not None:
        file, line = error.filename, error.lineno
    place = f"{Path(file).name}, line {line}"
    return ConfigurationError(
        f"--records: {name} cannot be imported: {type(error).__name__}{missing} in {place}; "
        f"python -c 'import {name}' shows all of it"
    )
