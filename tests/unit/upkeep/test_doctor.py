"""What the looks at a database conclude from what they saw."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from nodellm_orm.upkeep.doctor.checks import error, ok, severity, skipped, warning
from nodellm_orm.upkeep.doctor.files import check_mount, filesystem_of
from nodellm_orm.upkeep.doctor.postgresql import milliseconds, told_of_pooler
from nodellm_orm.upkeep.doctor.values import skew_told
from nodellm_orm.upkeep.doctor.versions import check_version

MOUNTS: Final = r"""overlay / overlay rw 0 0
/dev/sda1 /srv ext4 rw 0 0
host:/export /srv/share nfs4 rw 0 0
//host/x /mnt/my\040disk cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
broken
"""


@pytest.mark.fault("B36")
@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/srv/chats.db", "ext4", "ok"),
        ("/srv/share/chats.db", "nfs4", "warning"),
        ("/srv/shared/chats.db", "ext4", "ok"),
        ("/mnt/my disk/chats.db", "cifs", "warning"),
        ("/mnt/ssh/a/chats.db", "fuse.sshfs", "warning"),
        ("/home/chats.db", "overlay", "ok"),
    ],
)
def test_a_file_behind_the_network(path: str, kind: str, status: str) -> None:
    """A SQLite file on a network's file system is warned of, with the way out (B36)."""
    assert filesystem_of(Path(path), MOUNTS) == kind
    check = check_mount(Path(path), MOUNTS)
    assert check.status == status
    assert (check.remedy is None) == (status == "ok")


def test_severity_is_that_of_the_worst() -> None:
    """All fine is 0, warnings make 1, errors 2; what was skipped does not count."""
    fine = [ok("a", "m"), skipped("b", "m")]
    assert [
        severity([]),
        severity(fine),
        severity([*fine, warning("c", "m", "r")]),
        severity([warning("c", "m", "r"), error("d", "m", "r"), *fine]),
    ] == [0, 0, 1, 2]


@pytest.mark.fault("B15")
def test_prepared_statements_behind_a_pooler() -> None:
    """Only both together are warned of."""
    assert told_of_pooler(pooled=False, prepared=True).status == "ok"
    assert told_of_pooler(pooled=True, prepared=False).status == "ok"
    found = told_of_pooler(pooled=True, prepared=True)
    assert found.status == "warning"
    assert "prepared_statement_cache_size=0" in str(found.remedy)


@pytest.mark.parametrize(("limit", "wanted"), [("0", 0), ("200ms", 200), ("5s", 5000), ("1min", 60_000), ("odd", 0)])
def test_time_limits_as_postgresql_writes_them(limit: str, wanted: int) -> None:
    """A number and a unit; what cannot be read is no limit."""
    assert milliseconds(limit) == wanted


def test_clocks_that_differ_are_told_and_no_complaint() -> None:
    """Only a difference of seconds is worth a sentence, and that says whose clock counts."""
    assert "agree" in skew_told(0.4)
    assert "3600 s ahead of" in skew_told(3600)
    assert "database's alone" in skew_told(-60)


def test_versions_of_servers() -> None:
    """An old server is an error that names what is needed."""
    assert check_version("PostgreSQL", (15, 2), (12,)).status == "ok"
    old = check_version("PostgreSQL", (9, 6), (12,))
    assert (old.status, old.remedy) == ("error", "use PostgreSQL 12 or newer")
