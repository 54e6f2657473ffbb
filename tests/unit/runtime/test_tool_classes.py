"""Tool classes, and how ``tools=`` is gathered from classes, instances and functions."""

from __future__ import annotations

import abc
from threading import Thread  # noqa: TC003 — resolved at run time by pydantic
from typing import Any, Generic, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, RootModel, ValidationError

from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.runtime.toolbase import NoArguments  # noqa: TC001 — resolved at run time by the tool
from nodellm_orm.runtime.tools import Tool, ToolContext, ToolHalt, ToolSource, collect, to_spec, tool

CONTEXT = ToolContext(chat_id=UUID(int=1), owner="o", call_id="c", idempotency_key="k")
T = TypeVar("T")


class Refund(Tool):
    """Refund an order.

    Args:
        order_id: not part of the description.
    """

    class Args(BaseModel):
        """What to refund."""

        order_id: str

    def run(self, args: Args, context: ToolContext) -> str:
        """Refund it."""
        return f"{args.order_id} for {context.owner}"


def test_name_and_description_are_derived_from_the_class() -> None:
    """The class name in snake_case, and the docstring without its section about arguments."""
    refund = Refund()
    assert (refund.name, refund.description) == ("refund", "Refund an order.")
    assert (refund.idempotent, refund.requires_approval, refund.sequential) == (False, False, False)
    assert to_spec(refund) == ToolSpec(name="refund", description="Refund an order.", parameters=refund.parameters)
    assert refund.parameters == (
        '{"description":"What to refund.","properties":{"order_id":{"type":"string"}},"required":["order_id"],'
        '"type":"object"}'
    )


@pytest.mark.parametrize(
    ("class_name", "name"),
    [("GetWeather", "get_weather"), ("HTTPGet", "http_get"), ("GetHTTP2Page", "get_http2_page"), ("x", "x")],
)
def test_class_names_become_snake_case(class_name: str, name: str) -> None:
    """Capitals that stand together are one word."""
    assert type(class_name, (Tool,), {}).name == name  # type: ignore[attr-defined]  # made of a name alone


def test_what_a_class_states_outranks_what_is_derived() -> None:
    """A subclass takes what its parent states, and derives anew what its parent derived."""

    class Stated(Tool):
        """Not this."""

        name = "stated"
        description = "This."

    class Heir(Stated):
        """Nor this."""

    class Quick(Refund):
        """Refund at once."""

    class Silent(Refund):
        pass

    assert (Heir.name, Heir.description) == ("stated", "This.")
    assert (Quick.name, Quick.description) == ("quick", "Refund at once.")
    assert (Silent.name, Silent.description) == ("silent", "Refund an order.")


def test_the_docstring_of_another_base_is_no_description() -> None:
    """What ABC and Generic say of themselves is not what the tool does."""

    class Undocumented(Tool, abc.ABC, Generic[T]):
        pass

    assert Undocumented.description == ""


def test_a_tool_is_called_with_as_much_as_it_takes() -> None:
    """``run`` may leave out the context, and the arguments too."""

    class Bare(Tool):
        def run(self) -> str:
            return "bare"

    class One(Tool):
        def run(self, args: NoArguments) -> str:
            return type(args).__name__

    class Any_(Tool):  # noqa: N801 — not the type
        name = "any"

        def run(self, *given: object, **options: object) -> int:
            return len(given) + len(options)

    made: list[Tool] = [Bare(), One(), Any_(), Refund()]
    arguments = ["{}", '{"extra":1}', "{}", '{"order_id":"7"}']
    outcomes = [tool.invoke(tool.parse(text), CONTEXT) for tool, text in zip(made, arguments, strict=True)]
    assert outcomes == ["bare", "NoArguments", 2, "7 for o"]


def test_whether_a_tool_is_awaited_is_what_run_is() -> None:
    """A coroutine function is asynchronous, anything else runs in a thread."""

    class Asks(Tool):
        async def run(self) -> str:
            return "asked"

    assert Asks().asynchronous
    assert not Refund().asynchronous


def test_a_tool_without_run_says_what_is_missing() -> None:
    """The message names the class and the method to write."""

    class Empty(Tool):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no run\(self, args, context\) method; write one"):
        Empty().invoke(Empty().parse("{}"), CONTEXT)


def test_arguments_are_validated_as_json() -> None:
    """Strings are not numbers for JSON, and halves of characters are no text."""

    class Count(Tool):
        class Args(BaseModel):
            model_config = {"strict": True}
            n: int = 0
            text: str = ""

        def run(self, args: Args) -> int:
            return args.n

    assert Count().parse('{"n":3}') == Count.Args(n=3)
    for text in ('{"n":"3"}', '{"text":"\ud800"}', '{"text":"\\ud800"}', "[]", "{"):
        with pytest.raises(ValidationError):
            Count().parse(text)


def test_arguments_that_are_no_object_are_refused() -> None:
    """Providers take objects only; a list belongs in a field."""

    class Listed(Tool):
        Args = RootModel[list[int]]

        def run(self, args: RootModel[list[int]]) -> int:
            return len(args.root)

    with pytest.raises(ConfigurationError, match="not an object; make them a field of a BaseModel"):
        to_spec(Listed())


def test_arguments_without_a_schema_are_refused() -> None:
    """A field that JSON cannot say is named before any turn."""

    class Odd(Tool):
        class Args(BaseModel):
            model_config = {"arbitrary_types_allowed": True}
            thing: Thread

    with pytest.raises(ConfigurationError, match="the arguments Args have no JSON Schema"):
        to_spec(Odd())


def test_a_recursive_model_is_an_object_at_its_root() -> None:
    """Providers refuse a bare reference."""

    class Tree(BaseModel):
        children: list[Tree] = []

    class Plant(Tool):
        Args = Tree

    assert Plant().parameters == (
        '{"properties":{"children":{"default":[],"items":{"$ref":"#/$defs/Tree"},"type":"array"}},"type":"object",'
        '"$defs":{"Tree":{"properties":{"children":{"default":[],"items":{"$ref":"#/$defs/Tree"},"type":"array"}},'
        '"type":"object"}}}'
    )


def test_the_context_counts_down_and_offers_no_session_by_itself() -> None:
    """`remaining` is never negative, and ``None`` without a limit."""
    assert CONTEXT.remaining is None
    timed = ToolContext(
        chat_id=UUID(int=1), owner=None, call_id="c", idempotency_key="k", deadline=10.0, clock=lambda: 7.5
    )
    assert timed.remaining == 2.5
    late = ToolContext(
        chat_id=UUID(int=1), owner=None, call_id="c", idempotency_key="k", deadline=10.0, clock=lambda: 11.0
    )
    assert late.remaining == 0.0
    assert "clock" not in repr(late)
    with pytest.raises(UnsupportedFeatureError, match="idempotency_key"):
        _ = CONTEXT.session


def test_a_halt_carries_a_value() -> None:
    """``None`` when it is none."""
    assert ToolHalt({"a": 1}).value == {"a": 1}
    assert ToolHalt().value is None


def test_everything_that_may_be_a_tool_is_collected_in_order() -> None:
    """Classes, instances, decorated and plain functions, from any iterable."""

    @tool(name="decorated")
    def first() -> None:
        """Nothing."""

    def plain() -> None:
        """Nothing."""

    sources: list[ToolSource] = [Refund, first, plain]
    collected = collect(iter(sources))
    assert [made.name for made in collected] == ["refund", "decorated", "plain"]
    assert collected[1] is first
    instance = Refund()
    assert collect((instance,)) == (instance,)
    assert collect([]) == ()


class NeedsKey(Tool):
    """Cannot be made without a key."""

    def __init__(self, key: str) -> None:
        """Keep the key."""
        self.key = key


class Nameless(Tool):
    """Its name is none."""

    name = ""


class BadArgs(Tool):
    """Its arguments are no model."""

    Args: Any = dict


def _named(name: Any) -> Tool:
    made = Refund()
    made.name = name
    return made


def _weather() -> str:
    """Weather."""
    return "sunny"


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        (_weather, r"tools is a list of tools, not a function; write tools=\[\.\.\.\]"),
        ("refund", "tools is a list of tools, not a str"),
        (None, "tools is a list of tools, not a NoneType"),
        ([5], "5 is not a tool; give a function, a Tool class or a Tool instance"),
        (["refund"], "'refund' is not a tool"),
        ([BaseModel], "BaseModel is a class but not a Tool; derive it"),
        ([NeedsKey], "NeedsKey cannot be made without arguments: .*give an instance of it"),
        ([Nameless], "'' is not a tool name that every provider accepts"),
        ([Tool()], "None is not a tool name"),
        ([_named("get weather")], "'get weather' is not a tool name"),
        ([_named("g\u0435t")], "is not a tool name that every provider accepts"),
        ([_named("x" * 65)], "is not a tool name"),
        ([_named("x\n")], "is not a tool name"),
        ([lambda: None], "'<lambda>' is not a tool name"),
        ([_named("auto")], "a tool cannot be called 'auto', which is a word of tool_choice"),
        ([_named("none")], "cannot be called 'none'"),
        ([_named("required")], "cannot be called 'required'"),
        ([Refund, Refund()], r"two tools are called 'refund'; give one of them another name"),
        ([BadArgs], r"Args of tool 'bad_args' is not a pydantic model; write class Args\(BaseModel\)"),
    ],
)
@pytest.mark.fault("A41")
@pytest.mark.fault("E06")
def test_what_is_no_tool_is_refused_with_the_remedy(tools: Any, problem: str) -> None:
    """At creation, with a message that says how to write it."""
    with pytest.raises(ConfigurationError, match=problem):
        collect(tools)
