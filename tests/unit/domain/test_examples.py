"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import nodellm_orm.domain
import nodellm_orm.runtime
import nodellm_orm.testing

NEEDS_A_HOST = frozenset(
    {"nodellm_orm.runtime.toolbase.ToolContext", "nodellm_orm.runtime.toolbase.ToolContext.session"}
)
"""Charges through a gateway, or writes rows, that only a host has."""


def examples() -> list[doctest.DocTest]:
    """Every example of the packages that hold plain values, and of the testing kit."""
    packages = (nodellm_orm.domain, nodellm_orm.runtime, nodellm_orm.testing)
    found: list[doctest.DocTest] = []
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            found += doctest.DocTestFinder().find(importlib.import_module(module.name))
    return [test for test in found if test.examples]


def is_plain(test: doctest.DocTest) -> bool:
    """Whether it can run at a prompt: what awaits at the top level cannot."""
    try:
        for example in test.examples:
            compile(example.source, test.name, "exec")
    except SyntaxError:
        return False
    return True


EXAMPLES = examples()


@pytest.mark.parametrize(
    "example", [pytest.param(e, id=e.name) for e in EXAMPLES if e.name not in NEEDS_A_HOST and is_plain(e)]
)
def test_an_example_does_what_it_shows(example: doctest.DocTest) -> None:
    """Run as written, it prints what stands below it."""
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert "".join(said) == ""


def test_the_examples_left_out_exist() -> None:
    """An example that went is no longer left out."""
    assert {example.name for example in EXAMPLES} >= NEEDS_A_HOST
