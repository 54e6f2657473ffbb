"""Each guard that chats rest on is taken out once, and some test has to notice: guards that nothing tests go unnoticed.

A copy of the project is changed in one place, and a few of its own tests are run there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT: Final = Path(__file__).parents[2]
CONFORMANCE: Final = "tests/integration/store/test_conformance.py"
WORKERS: Final = "tests/integration/store/test_two_workers.py"
TURNS: Final = "tests/unit/runtime/test_turns.py"
_PASSED: Final = 0
_FAILED: Final = 1
_COPIED: Final = ("nodellm_orm", "tests", "migrations", "docs", "examples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A place that must not be lost, and where its loss shows."""

    name: str
    file: str
    without: tuple[str, str]
    """What stands there, and what stands there without the guard."""
    tests: tuple[str, ...]


GUARDS: Final = (
    Guard(
        name="the fence of a hold",
        file="nodellm_orm/store/guard.py",
        without=('        chats.c.fence == bindparam("b_fence"),\n', ""),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the worker of a hold",
        file="nodellm_orm/store/guard.py",
        without=('        chats.c.lease_owner == bindparam("b_worker"),\n', ""),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the turn of a hold",
        file="nodellm_orm/store/guard.py",
        without=('        chats.c.active_turn_id == bindparam("b_turn"),\n', ""),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the step of a point",
        file="nodellm_orm/store/record.py",
        without=(', chats.c.step == bindparam("b_step")]', "]"),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the hold altogether",
        file="nodellm_orm/store/record.py",
        without=('*hold_conditions(chats), chats.c.step == bindparam("b_step")]', "]"),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the place of the next message",
        file="nodellm_orm/store/record.py",
        without=('        conditions.append(chats.c.next_position == bindparam("b_position"))\n', "        pass\n"),
        tests=(CONFORMANCE,),
    ),
    Guard(
        name="the row count of a guarded update",
        file="nodellm_orm/store/guard.py",
        without=(
            "    return connection.execute(statement, parameters).rowcount == 1\n",
            "    connection.execute(statement, parameters)\n    return True\n",
        ),
        tests=(WORKERS,),
    ),
    Guard(
        name="a chat that is taken is free",
        file="nodellm_orm/store/begin.py",
        without=("        conditions.append(chats.c.active_turn_id.is_(None))\n", "        pass\n"),
        tests=(CONFORMANCE,),
    ),
    Guard(
        name="a turn that is taken over has lost its lease",
        file="nodellm_orm/store/interrupt.py",
        without=('bindparam("b_turn"), chats.c.lease_until < DatabaseNow())', 'bindparam("b_turn"))'),
        tests=(CONFORMANCE,),
    ),
    Guard(
        name="one active turn a chat, by the database itself",
        file="nodellm_orm/store/columns.py",
        without=('            naming.unique("turns", "chat_id", "active_slot"),\n', ""),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="one turn an idempotency key, by the database itself",
        file="nodellm_orm/store/columns.py",
        without=('            naming.unique("turns", "chat_id", "idempotency_key"),\n', ""),
        tests=("tests/integration/store/test_guarded_rows.py",),
    ),
    Guard(
        name="the owner of a chat",
        file="nodellm_orm/store/guard.py",
        without=("        conditions.append(chats.c.owner.is_not_distinct_from(owned))\n", "        pass\n"),
        tests=(CONFORMANCE,),
    ),
    Guard(
        name="the terminal event of a stream",
        file="nodellm_orm/wire/streams.py",
        without=("return events if self.done else [*events, *self._ended()]", "return events"),
        tests=("tests/unit/wire/test_contract.py",),
    ),
    Guard(
        name="the escape of NUL and of lone surrogates",
        file="nodellm_orm/store/escaping.py",
        without=("    return _UNSTORABLE.sub(_hide, text)\n", "    return text\n"),
        tests=("tests/integration/store/test_values.py",),
    ),
)
CONTROLS: Final = tuple(sorted({test for guard in GUARDS for test in guard.tests}))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that may be changed, with what was compiled of it: a file that changes is compiled anew."""
    folder = tmp_path_factory.mktemp("copy")
    for name in _COPIED:
        shutil.copytree(PROJECT / name, folder / name)
    for name in ("pyproject.toml", "README.md", "alembic.ini"):
        shutil.copy(PROJECT / name, folder / name)
    return folder


def run(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy, on the databases that need no server."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"),
        "--hypothesis-profile=quick",
        *("-m", "not postgresql and not mysql", *tests),
    ]
    # What was compiled is kept for the next run; of a file that was changed, and changed back, time and size differ.
    left_out = ("PYTEST_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return subprocess.run(  # noqa: S603 — a fixed command
        command,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_copy_is_sound(copied: Path) -> None:
    """With all guards in place every one of these tests passes, and it is the copy that is tested."""
    done = run(copied, CONTROLS)
    assert done.returncode == _PASSED, done.stdout[-3000:]
    where = subprocess.run(
        [sys.executable, "-c", "import nodellm_orm; print(nodellm_orm.__file__)"],
        cwd=copied,
        env={**os.environ, "PYTHONPATH": str(copied)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(copied))


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_that_is_taken_out_is_missed(copied: Path, guard: Guard) -> None:
    """Some test turns red."""
    place = copied / guard.file
    whole = place.read_text("utf-8")
    old, new = guard.without
    assert whole.count(old) == 1, f"the guard has moved: {old!r} is in {guard.file} {whole.count(old)} times"
    place.write_text(whole.replace(old, new), "utf-8")
    try:
        done = run(copied, guard.tests)
    finally:
        place.write_text(whole, "utf-8")
    assert done.returncode == _FAILED, done.stdout[-3000:]
