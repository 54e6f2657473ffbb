"""The page ``docs/faults.md``, made from the catalogue and the marks on the tests: run this module to write it anew."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.acceptance.fault_catalogue import ELSEWHERE, FAULTS, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = TESTS.parent / "docs" / "faults.md"
_MARK: Final = "fault"
_HEAD: Final = """# Faults

What is injected, what happens, and which tests show it. The page is made from the catalogue and from the marks on the
tests (`python -m tests.acceptance.fault_table`), so that it cannot say more than is tried.
"""


def coverage() -> dict[str, list[str]]:
    """The tests of each label, as ``file::test`` in order."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        everywhere = {label for node in tree.body if _is_module_mark(node) for label in _labels(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                marked = {label for decorator in node.decorator_list for label in _labels(decorator)}
                for label in marked | everywhere:
                    found[label].add(f"{file.relative_to(TESTS)}::{node.name}")
    return {label: sorted(tests) for label, tests in found.items()}


def _is_module_mark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)


def _labels(node: ast.AST) -> Iterator[str]:
    """The labels in calls of ``pytest.mark.fault`` anywhere in an expression."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == _MARK:
            for argument in call.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


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
    PAGE.write_text(page(coverage()), "utf-8")
