"""The page ``docs/faults.md``, made from the catalogue and the marks on the tests: run this module to write it anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.acceptance.fault_catalogue import ELSEWHERE, FAULTS, GROUPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = TESTS.parent / "docs" / "faults.md"
_MARK: Final = "fault"
_TOLD: Final = "NODELLM_FAULTS_TOLD"
_HEAD: Final = """# Faults

What is injected, what happens, and which tests show it. The page is made from the catalogue and from the marks on the
tests (`python -m tests.acceptance.fault_table`), so that it cannot say more than is tried.
"""


def collected(session: pytest.Session) -> dict[str, list[str]]:
    """The tests of each label, as ``file::test`` in order.

    Args:
        session: that has collected them.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for item in session.items:
        file = item.path.relative_to(TESTS).as_posix()
        for mark in item.iter_markers(_MARK):
            for label in mark.args:
                found[label].add(f"{file}::{getattr(item, 'originalname', item.name)}")
    return {label: sorted(tests) for label, tests in found.items()}


def has_collected_everything(session: pytest.Session) -> bool:
    """Whether a run has collected all tests there are, as it was neither given some of them nor told to leave any out.

    Args:
        session: the run.
    """
    config = session.config
    left_out = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    whole = [(config.invocation_params.dir / given).resolve() for given in config.args] == [TESTS]
    return whole and not any(config.getoption(name, None) for name in left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """As a plugin of a run that only collects: tell the labels of every test."""
    Path(os.environ[_TOLD]).write_text(json.dumps(collected(session)), "utf-8")


def coverage() -> dict[str, list[str]]:
    """The tests of each label, as ``file::test`` in order: what the test runner itself finds."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", __spec__.name, TESTS.name]
        environment = {**os.environ, _TOLD: str(told)}
        done = subprocess.run(  # noqa: S603 — our own command
            command, cwd=TESTS.parent, env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            msg = f"the tests cannot be collected:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise RuntimeError(msg)
        found: dict[str, list[str]] = json.loads(told.read_text("utf-8"))
    return found


def page(covered: Mapping[str, list[str]]) -> str:
    """The whole page.

    Args:
        covered: the tests of each label.
    """
    lines = [_HEAD]
    for group, title in GROUPS.items():
        lines += [f"## {group}. {title}", "", "| | fault | what happens | shown by |", "|---|---|---|---|"]
        lines += [
            f"| {label} | {fault} | {outcome} | {_shown(label, covered)} |"
            for label, (fault, outcome) in FAULTS.items()
            if label.startswith(group)
        ]
        lines.append("")
    return "\n".join(lines)


def _shown(label: str, covered: Mapping[str, list[str]]) -> str:
    tests = covered.get(label, [])
    by_file: dict[str, int] = defaultdict(int)
    for test in tests:
        by_file[test.partition("::")[0]] += 1
    files = [f"`{file}`{f' ({count})' if count > 1 else ''}" for file, count in by_file.items()]
    return ", ".join(files) if files else ELSEWHERE.get(label, "**nothing**")


if __name__ == "__main__":
    from tests.acceptance import fault_table  # under its own name, which the other process is given

    PAGE.write_text(page(fault_table.coverage()), "utf-8")
