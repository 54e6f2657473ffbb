"""Files out of directories: what is opened is what was checked, whatever happens to the names meanwhile."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from nodellm_orm.errors import AttachmentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.attachments import AttachmentPolicy

_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0)
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")  # a pipe must not hold the opener up
)


@contextmanager
def opened(path: str | os.PathLike[str], policy: AttachmentPolicy) -> Iterator[BinaryIO]:
    """An ordinary file inside one of the policy's directories, open for reading.

    Links are followed, and where they lead is checked. A name that is changed between the check and the opening gives
    an error: the open file has to be the very one that is inside.

    Args:
        path: as given.
        policy: says which directories.

    Raises:
        AttachmentError: the policy does not allow the path, or it is no ordinary file that can be read.
    """
    what = f"the path {os.fspath(path)!r:.300}"
    if not policy.paths:
        msg = (
            f"{what} is not read: paths are read under a policy only. Pass the bytes, or allow its directory with "
            'create_llm(..., attachments=AttachmentPolicy(paths=["/the/directory"]))'
        )
        raise AttachmentError(msg)
    _refuse_outside(path, policy, what)
    try:
        _refuse_special(Path(path).stat(), what)  # opening some devices has an effect
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            _refuse_special(os.fstat(file.fileno()), what)
            if policy.paths is not True:
                _refuse_outside(path, policy, what, opened_as=os.fstat(file.fileno()))
            yield file
    except (OSError, ValueError) as error:
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not a path"
        msg = f"{what} cannot be read: {reason}; check it, or pass the bytes"
        raise AttachmentError(msg) from error


def _refuse_special(status: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        msg = f"{what} is a directory, a device or a pipe; only ordinary files are attached"
        raise AttachmentError(msg)


def _refuse_outside(
    path: str | os.PathLike[str], policy: AttachmentPolicy, what: str, *, opened_as: os.stat_result | None = None
) -> None:
    """Refuse a path that leads out of the directories; once it is open, one that leads to another file by now."""
    if policy.paths is True:
        return
    try:
        real = os.path.realpath(path)
        inside = any(_within(real, os.path.realpath(folder)) for folder in policy.folders)
        same = opened_as is None or os.path.samestat(Path(real).stat(), opened_as)
    except (OSError, ValueError):
        inside, same = False, False
    if not inside or not same:
        msg = f"{what} is not inside AttachmentPolicy(paths=); add its directory there to allow it"
        raise AttachmentError(msg)


def _within(path: str, folder: str) -> bool:
    try:
        return path != folder and os.path.commonpath([path, folder]) == folder
    except ValueError:  # on different drives
        return False
