"""Versions of database servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.upkeep.doctor.checks import error, ok

if TYPE_CHECKING:
    from nodellm_orm.upkeep.doctor.checks import Check


def check_version(product: str, version: tuple[int, ...], least: tuple[int, ...]) -> Check:
    """Whether a server is new enough.

    Args:
        product: its name.
        version: of the server.
        least: that this package works with.

    Example:
        >>> check_version("SQLite", (3, 8, 1), (3, 24)).status
        'error'
    """
    told = f"{product} {dotted(version)}"
    if version < least:
        return error("server", f"{told} is too old", f"use {product} {dotted(least)} or newer")
    return ok("server", told)


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))
