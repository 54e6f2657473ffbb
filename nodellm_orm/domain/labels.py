"""Whether a chat's metadata has the members that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.jsontext import JsonValue

_MISSING: Final = object()


def agrees(metadata: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> bool:
    """Whether metadata has all wanted members with exactly these values; ``1``, ``1.0`` and ``true`` differ.

    Args:
        metadata: a chat's.
        wanted: the members.
    """
    return all(_same(metadata.get(name, _MISSING), value) for name, value in wanted.items())


def _same(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    return type(left) is type(right) and left == right
