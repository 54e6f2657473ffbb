"""Hooks: called in order, awaited where they need it, given as much as they take."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.parts import TextPart
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.hooks import Hooks, call, transform

if TYPE_CHECKING:
    from nodellm_orm.runtime.hooks import Hook


async def test_hooks_are_awaited_in_the_order_they_were_added() -> None:
    """Sync and async in any mixture; the next begins when the one before has ended."""
    trace: list[str] = []

    async def slow(word: str) -> None:
        trace.append(f"slow {word}")
        await asyncio.sleep(0)
        trace.append("slow ended")

    def quick(word: str) -> None:
        trace.append(f"quick {word}")

    await call((slow, quick, slow), "hello")
    assert trace == ["slow hello", "slow ended", "quick hello", "slow hello", "slow ended"]


async def test_a_hook_is_given_as_much_as_it_takes() -> None:
    """None, some or all of the arguments, by whatever kind of callable."""
    got: list[object] = []

    class Listener:
        def __call__(self, first: int) -> None:
            got.append(("object", first))

        async def method(self, first: int, second: int) -> None:
            got.append(("method", first, second))

        def everything(self, *given: int) -> None:
            got.append(("all", *given))

    def nothing() -> None:
        got.append("nothing")

    def more(first: int, second: int, third: str = "default") -> None:
        got.append(("more", first, second, third))

    def named(first: int, *, second: int = 7) -> None:
        got.append(("named", first, second))

    def partial(word: str, first: int) -> None:
        got.append((word, first))

    listener = Listener()
    hooks: tuple[Hook, ...] = (
        nothing, listener, listener.method, listener.everything, more, named, functools.partial(partial, "partial")
    )  # fmt: skip
    await call(hooks, 1, 2)
    assert got == [
        "nothing",
        ("object", 1),
        ("method", 1, 2),
        ("all", 1, 2),
        ("more", 1, 2, "default"),
        ("named", 1, 7),
        ("partial", 1),
    ]


async def test_a_callable_without_a_readable_signature_is_given_everything() -> None:
    """Some builtins do not tell what they take."""
    seen: list[type] = []
    given: type = bool
    assert await transform((type, seen.append), given) is type
    assert seen == [type]


async def test_any_awaitable_is_awaited() -> None:
    """A plain function may return a future."""
    future: asyncio.Future[TextPart] = asyncio.get_running_loop().create_future()
    future.set_result(TextPart(text="new"))
    assert await transform((lambda _: future,), TextPart(text="old")) == TextPart(text="new")


async def test_replacements_pass_from_hook_to_hook() -> None:
    """What a hook returns takes the value's place; nothing leaves it."""
    seen: list[str] = []

    async def louder(part: TextPart) -> TextPart:
        return TextPart(text=part.text.upper())

    def look(part: TextPart) -> None:
        seen.append(part.text)

    assert await transform((look, louder, look), TextPart(text="hi")) == TextPart(text="HI")
    assert seen == ["hi", "HI"]
    assert await transform((), TextPart(text="hi")) == TextPart(text="hi")


@pytest.mark.parametrize("replacement", ["text", 0, False, {}, [TextPart(text="x")]])
async def test_a_replacement_of_another_type_is_refused(replacement: Any) -> None:
    """With what was expected, and how to make it."""
    with pytest.raises(ConfigurationError, match=r"where TextPart or None is expected; return dataclasses\.replace"):
        await transform((lambda _: replacement,), TextPart(text="hi"))


async def test_an_error_of_a_hook_goes_on() -> None:
    """The hooks after it are not called."""
    called: list[int] = []

    def fails() -> None:
        msg = "no"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="no"):
        await call((fails, lambda: called.append(1)))
    assert called == []


def test_there_are_no_hooks_at_first() -> None:
    """Every point of a turn begins without one."""
    assert Hooks() == Hooks(
        on_new_message=(),
        on_end_message=(),
        on_tool_call_start=(),
        on_tool_call_end=(),
        on_tool_call_error=(),
        before_request=(),
        after_response=(),
    )
