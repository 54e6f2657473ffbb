"""The file of a SQLite database: whether it is there, can be written, and lies where locks work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodellm_orm.upkeep.doctor.checks import error, ok, warning

if TYPE_CHECKING:
    from sqlalchemy import URL

    from nodellm_orm.upkeep.doctor.checks import Check

_NAME: Final = "file"
_BEHIND_THE_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre", "gpfs"}
)
_FUSE: Final = ("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs")
_BESIDE: Final = ("-wal", "-shm", "-journal")


def file_of(url: URL) -> Path | None:
    """The file of a SQLite database; ``None`` for one in memory, one named by a URI, and every other database.

    Args:
        url: the database's.
    """
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def missing_file(url: URL) -> Path | None:
    """The file that should be there and is not: connecting would make an empty one."""
    path = file_of(url)
    return None if path is None or path.is_file() else path


def check_file(url: URL) -> list[Check]:
    """Whether file and folder can be written, and are on a disk of this machine.

    Args:
        url: the database's.
    """
    path = file_of(url)
    if path is None:
        return []
    mounts = Path("/proc/mounts")
    if not mounts.is_file():
        return [_writable(path)]
    return [_writable(path), check_mount(path.resolve(), mounts.read_text(encoding="utf-8", errors="replace"))]


def check_mount(path: Path, mounts: str) -> Check:
    """Whether a path is on a disk of this machine.

    Args:
        path: absolute.
        mounts: the text of ``/proc/mounts``.
    """
    kind = filesystem_of(path, mounts)
    if kind in _BEHIND_THE_NETWORK or kind.startswith(_FUSE):
        told = f"it lies on a file system behind the network ({kind}), where SQLite's locks do not hold"
        return warning("file system", told, "move it to a disk of this machine, or use PostgreSQL or MySQL")
    return ok("file system", f"a disk of this machine ({kind or 'of an unknown kind'})")


def _writable(path: Path) -> Check:
    files = [path, *(path.with_name(path.name + end) for end in _BESIDE)]
    closed = [file.name for file in files if file.exists() and not os.access(file, os.W_OK)]
    if not os.access(path.resolve().parent, os.W_OK):
        closed.append("the folder")
    if closed:
        remedy = "let this user write the file, its folder (for the write-ahead log), and the files beside it"
        return error(_NAME, f"not writable: {', '.join(closed)}", remedy)
    return ok(_NAME, f"{path.name} and its folder can be written")


def filesystem_of(path: Path, mounts: str) -> str:
    r"""The kind of file system that a path is on, as the kernel's table of mounts says; empty when it does not.

    Args:
        path: absolute.
        mounts: the text of ``/proc/mounts``.

    Example:
        >>> filesystem_of(Path("/srv/a.db"), "sda / ext4 rw 0 0\nhost:/x /srv nfs4 rw 0 0")
        'nfs4'
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 — device, place and kind
            continue
        place = fields[1].replace("\\040", " ")
        if len(place) >= len(best) and path.is_relative_to(place):
            best, kind = place, fields[2]
    return kind
