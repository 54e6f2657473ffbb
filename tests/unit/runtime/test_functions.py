"""Functions as tools: whatever Python lets one write is described, called as declared, and still itself."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable  # noqa: TC003 — resolved at run time by the tool
from dataclasses import dataclass
from datetime import date  # noqa: TC003 — resolved at run time by the tool
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypedDict, Unpack
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, ValidationError

from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.tools import FunctionTool, Tool, ToolContext, collect, tool

if TYPE_CHECKING:
    from decimal import Decimal

CONTEXT = ToolContext(chat_id=UUID(int=1), owner=None, call_id="c", idempotency_key="k")


class Unit(enum.Enum):
    """Units of temperature."""

    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(BaseModel):
    """A place on a map."""

    city: str
    near: list[Place] = []


@dataclass
class Point:
    """A point."""

    x: int
    y: int = 0


class Options(TypedDict, total=False):
    """Keyword arguments of a known form."""

    colour: str


def schema(made: Tool) -> dict[str, Any]:
    """The schema a model is told, parsed."""
    told: Any = loads(made.parameters)
    return dict(told)


def call(made: Tool, **arguments: object) -> Any:
    """Call a tool as a model does: JSON in, the function's own value out."""
    return made.invoke(made.parse(dumps(arguments)), CONTEXT)


def test_a_decorated_function_is_a_tool_and_itself() -> None:
    """Name, docstring, signature and calls are those of the function."""

    @tool
    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    assert (add.name, add.description) == ("add", "Add two numbers.")
    assert add(1) == 3
    assert add(1, b=5) == 6
    assert getattr(add, "__name__", None) == "add"
    assert inspect.getdoc(add) == "Add two numbers."
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 2) -> 'int'"
    assert add.parameters == (
        '{"additionalProperties":false,"properties":{"a":{"type":"integer"},"b":{"default":2,"type":"integer"}},'
        '"required":["a"],"type":"object"}'
    )
    assert call(add, a=1) == 3


def test_options_of_the_decorator_outrank_the_function() -> None:
    """Name, description and behaviour can be said beside it."""

    @tool(name="plus", description="Adds.", idempotent=True, requires_approval=True, sequential=True)
    def add(a: int) -> int:
        """Not this."""
        return a

    assert (add.name, add.description) == ("plus", "Adds.")
    assert (add.idempotent, add.requires_approval, add.sequential) == (True, True, True)
    plain = FunctionTool(add.function)
    assert (plain.idempotent, plain.requires_approval, plain.sequential) == (False, False, False)


def test_every_kind_of_annotation_reaches_the_schema() -> None:
    """Literals, enums, optionals, annotated fields, models, dataclasses and dates are told and given as declared."""

    @tool
    def everything(  # type: ignore[no-untyped-def]  # noqa: PLR0917 — many kinds are what is tested
        unit: Literal["c", "f"],
        kind: Unit,
        day: date,
        place: Place,
        point: Point,
        count: Annotated[int, Field(ge=1, description="how many")],
        maybe: Optional[int] = None,  # noqa: UP045 — the spelling is what is tested
        either: int | str = 5,
        tags: list[str] | None = None,
        untyped=7,  # noqa: ANN001 — the missing annotation is what is tested
    ) -> list[object]:
        """Everything.

        :param unit: the unit.
        :param count: outranked by the field.
        :param untyped: anything.
        """
        return [unit, kind, day, place, point, count, maybe, either, tags, untyped]

    told = schema(everything)
    properties = told["properties"]
    assert told["required"] == ["unit", "kind", "day", "place", "point", "count"]
    assert properties["unit"] == {"description": "the unit.", "enum": ["c", "f"], "type": "string"}
    assert properties["count"] == {"description": "how many", "minimum": 1, "type": "integer"}
    assert properties["maybe"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert properties["untyped"] == {"default": 7, "description": "anything."}
    assert "title" not in everything.parameters
    got = call(
        everything, unit="c", kind="f", day="2030-01-02", place={"city": "Oslo"}, point={"x": 1}, count=2, either="x"
    )
    assert got[:2] == ["c", Unit.FAHRENHEIT]
    assert got[2].year == 2030
    assert got[3:] == [Place(city="Oslo"), Point(x=1), 2, None, "x", None, 7]
    with pytest.raises(ValidationError):
        everything.parse('{"unit":"k"}')


def test_defaults_are_fresh_in_every_call() -> None:
    """A mutable default is not shared between calls of a model."""

    @tool
    def collect_into(item: str, into: list[str] = []) -> list[str]:  # noqa: B006 — the default is what is tested
        into.append(item)
        return into

    assert call(collect_into, item="a") == ["a"]
    assert call(collect_into, item="b") == ["b"]


def test_a_default_that_json_cannot_hold_is_not_told_and_still_applies() -> None:
    """The schema leaves it out, the function gets it."""
    nothing = object()

    @tool
    def search(query: str, after: Any = nothing) -> bool:
        return bool(query) and after is nothing

    assert schema(search)["properties"]["after"] == {}
    assert call(search, query="x") is True


@pytest.mark.parametrize("position", ["first", "middle", "last", "keyword", "optional", "annotated", "positional"])
def test_the_context_is_filled_in_wherever_it_is_asked_for(position: str) -> None:
    """It may stand anywhere, under any name, more than once, and a model never sees it."""

    def first(context: ToolContext, a: int) -> object:
        return context, a

    def middle(a: int, told: ToolContext, b: int = 0) -> object:
        return told, a + b

    def last(a: int, context: ToolContext) -> object:
        return context, a

    def keyword(a: int, *, context: ToolContext) -> object:
        return context, a

    def optional(a: int, context: ToolContext | None = None) -> object:
        return context, a

    def annotated(a: int, context: Annotated[ToolContext, "told"]) -> object:
        return context, a

    def positional(context: ToolContext, a: int, /) -> object:
        return context, a

    functions: dict[str, Callable[..., object]] = {
        f.__name__: f for f in (first, middle, last, keyword, optional, annotated, positional)
    }
    made = tool(functions[position])
    assert schema(made)["required"] == ["a"]
    assert "ontext" not in made.parameters
    assert "told" not in made.parameters
    assert call(made, a=1) == (CONTEXT, 1)


def test_a_model_cannot_forge_the_context() -> None:
    """Among free keyword arguments, the one called like the context loses."""

    @tool
    def forged(context: ToolContext, **more: object) -> object:
        return context, more

    assert call(forged, context="mine", other=1) == (CONTEXT, {"other": 1})


def test_positional_only_and_keyword_only_arguments_are_passed_as_declared() -> None:
    """The function is called the way its signature demands."""

    @tool
    def mixed(a: int, b: int = 2, /, c: int = 3, *, d: int) -> tuple[int, ...]:
        return a, b, c, d

    assert call(mixed, a=1, d=4) == (1, 2, 3, 4)
    assert call(mixed, a=1, b=7, c=8, d=4) == (1, 7, 8, 4)


def test_free_keyword_arguments_are_checked_like_the_others() -> None:
    """``**labels: int`` takes integers of any name, and the schema says so."""

    @tool
    def label(item: str, **labels: int) -> dict[str, int]:
        return {**labels, "item": len(item)}

    assert schema(label)["additionalProperties"] == {"type": "integer"}
    assert call(label, item="abc", a=1, argument_0=2) == {"a": 1, "argument_0": 2, "item": 3}
    with pytest.raises(ValidationError):
        label.parse('{"item":"abc","a":"one"}')


def test_free_keyword_arguments_without_a_type_take_anything() -> None:
    """No annotation, or one that names each, is no check."""

    @tool
    def anything(**more):  # type: ignore[no-untyped-def]  # noqa: ANN003, ANN202 — what is tested
        return more

    @tool
    def unpacked(**more: Unpack[Options]) -> object:
        return more

    assert schema(anything)["additionalProperties"] is True
    assert call(anything, a=[1], b=None) == {"a": [1], "b": None}
    assert call(unpacked, colour="red") == {"colour": "red"}


def test_arguments_that_were_not_declared_are_refused() -> None:
    """A model that invents an argument is told so."""

    @tool
    def narrow(a: int) -> int:
        return a

    with pytest.raises(ValidationError, match="b"):
        narrow.parse('{"a":1,"b":2}')


def test_names_that_pydantic_keeps_for_itself_are_fine() -> None:
    """Parameters may be called as a function's author likes."""

    @tool
    def names(  # noqa: PLR0917 — the names are what is tested
        schema: str,
        model_config: int,
        _hidden: int,
        json: str,
        copy: str,
        model_fields: str,
        self: str,
        cls: str,
        Args: str,  # noqa: N803 — as the nested model of tool classes
    ) -> list[object]:
        return [schema, model_config, _hidden, json, copy, model_fields, self, cls, Args]

    told = schema(names)
    assert told["required"] == list(told["properties"])
    values = {name: 1 if name in {"model_config", "_hidden"} else name for name in told["properties"]}
    assert call(names, **values) == list(values.values())


def test_asynchronous_functions_are_recognised_in_every_wrapping() -> None:
    """Coroutine functions, their partials, methods and callable objects are awaited; the rest runs in threads."""

    async def ask(a: int) -> int:
        return a

    def told(a: int) -> int:
        return a

    class Asker:
        async def __call__(self, a: int) -> int:
            return a

        async def method(self, a: int) -> int:
            return a

    class Teller:
        def __call__(self, a: int) -> int:
            return a

    for function in (ask, functools.partial(ask, 1), Asker().method, Asker(), functools.partial(Asker().method, a=1)):
        assert FunctionTool(function, name="x").asynchronous
    for other in (told, functools.partial(told, 1), Teller()):
        assert not FunctionTool(other, name="x").asynchronous


def test_a_partial_has_the_name_and_docstring_of_its_function() -> None:
    """What it fills in is a default or gone; its annotations are resolved where the function was written."""

    def weather(city: str, place: Place, unit: str = "c") -> str:
        """Weather.

        Args:
            city: the city.
            place: around it.
            unit: of temperature.
        """
        return f"{city}/{place.city}/{unit}"

    made = FunctionTool(functools.partial(functools.partial(weather, "Oslo"), unit="f"), scope={"Place": Place})
    assert (made.name, made.description) == ("weather", "Weather.")
    assert list(schema(made)["properties"]) == ["place", "unit"]
    assert call(made, place={"city": "x"}) == "Oslo/x/f"


def test_a_callable_object_is_described_by_its_class_or_its_call() -> None:
    """Whichever has a docstring."""

    class Weather:
        """Current weather."""

        def __call__(self, city: str) -> str:
            return city

    class Silent:
        def __call__(self, city: str) -> str:
            """Say nothing.

            Args:
                city: which one.
            """
            return city

    made, silent = FunctionTool(Weather()), FunctionTool(Silent())
    assert (made.name, made.description, call(made, city="Oslo")) == ("Weather", "Current weather.", "Oslo")
    assert silent.description == "Say nothing."
    assert schema(silent)["properties"]["city"]["description"] == "which one."


def test_attributes_of_a_function_stay_and_do_not_shadow_the_tool() -> None:
    """Other decorators leave attributes behind, some of them called like a tool's methods."""

    def task(a: int) -> int:
        return a

    vars(task).update(run="theirs", parse="theirs", Args="theirs", function="theirs", queue="default")
    made: Any = tool(task)
    assert made.queue == "default"
    assert call(made, a=1) == 1
    assert made(2) == 2


def test_methods_are_bound_to_their_object() -> None:
    """A decorated method reached through an object is a tool of that object, and a call as before."""

    class Client:
        def __init__(self, base: int) -> None:
            self.base = base

        @tool(name="plus", idempotent=True)
        def add(self, a: int) -> int:
            """Add to the base."""
            return self.base + a

        def undecorated(self, a: int) -> int:
            return self.base * a

    ten, twenty = Client(10), Client(20)
    assert (ten.add(1), twenty.add(1)) == (11, 21)
    bound = ten.add
    assert (bound.name, bound.description, bound.idempotent) == ("plus", "Add to the base.", True)
    assert list(schema(bound)["properties"]) == ["a"]
    assert (call(bound, a=5), call(twenty.add, a=5)) == (15, 25)
    assert not bound.unbound
    assert call(FunctionTool(ten.undecorated), a=3) == 30
    assert Client.add.unbound
    for method in (Client.add, Client.undecorated):
        with pytest.raises(ConfigurationError, match=r"is a method; give it from an object"):
            collect([method])


def test_static_and_class_methods_are_tools_too() -> None:
    """In either order of the decorators where Python allows it."""

    class Client:
        @staticmethod
        @tool
        def outer(a: int) -> int:
            return a + 1

        @tool
        @staticmethod
        async def inner(a: int) -> int:
            return a + 2

        @classmethod
        def named(cls, a: int) -> str:
            return f"{cls.__name__}{a}"

    assert call(Client.outer, a=1) == call(Client().outer, a=1) == 2
    assert Client().inner.asynchronous
    assert list(schema(Client().inner)["properties"]) == ["a"]
    assert call(FunctionTool(Client.named), a=1) == "Client1"


def test_a_class_method_bound_around_a_tool_keeps_what_the_tool_says() -> None:
    """Newer interpreters bind a decorated class method as a plain method of the tool: its options still hold."""

    class Client:
        @tool(name="who", requires_approval=True)
        def named(cls: type, a: int) -> str:  # noqa: N805 — as below @classmethod
            return f"{cls.__name__}{a}"

    (made,) = collect([MethodType(Client.named, Client)])
    assert (made.name, made.requires_approval) == ("who", True)
    assert call(made, a=1) == "Client1"


def test_a_tool_decorated_again_takes_the_new_name() -> None:
    """One function may be offered under two names."""

    @tool
    async def ask(a: int) -> int:
        """Ask."""
        return a

    again = tool(name="query", sequential=True)(ask)
    assert (again.name, again.description, again.asynchronous, again.sequential) == ("query", "Ask.", True, True)
    assert [made.name for made in collect([ask, again])] == ["ask", "query"]


def test_local_types_are_found_where_the_decorator_stands() -> None:
    """A type defined beside a decorated function may be named in its annotations."""

    class Local(BaseModel):
        a: int

    @tool
    def local(item: Local) -> int:
        return item.a

    assert call(local, item={"a": 4}) == 4


def test_names_inside_of_containers_are_found_in_the_functions_module() -> None:
    """A quoted name in a list is resolved like any other."""

    def paint(unit: list["Unit"]) -> object:  # noqa: UP037 — the quotes are what is tested
        return unit

    paint.__annotations__["unit"] = list["Unit"]
    assert call(FunctionTool(paint), unit=["c"]) == [Unit.CELSIUS]


def _star(*items: int) -> None:
    """Takes what no schema can say."""


def _unresolved(amount: Decimal) -> None:
    """Names a type that is imported for type checkers only."""


def _nowhere(a: "list[Nowhere]") -> None:  # type: ignore[name-defined]  # noqa: F821, UP037 — what is tested
    """Names a type that does not exist."""


def _foreign(a: Callable[..., int], b: threading_lock) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Names a module that is not there."""


def _unknown(a: CONTEXT.__class__.__mro__[0]) -> None:  # type: ignore[name-defined]
    """The context by a crooked way."""


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_star, r"takes \*items, which no schema can say; take a list"),
        (_unresolved, "annotations of tool '_unresolved' cannot be resolved: name 'Decimal'"),
        (_nowhere, "Nowhere"),
        (_foreign, "cannot be resolved"),
        (type, "has no readable signature"),
    ],
)
def test_functions_that_cannot_be_described_are_refused_at_once(function: Callable[..., object], problem: str) -> None:
    """Not in the middle of a turn; the message says what to change."""
    with pytest.raises(ConfigurationError, match=problem):
        FunctionTool(function)


def test_types_that_pydantic_does_not_know_are_refused() -> None:
    """Arbitrary classes, broken patterns and types without a schema name the tool."""

    class Strange:
        pass

    def strange(a: Strange) -> None:
        """Takes anything."""

    def pattern(a: Annotated[str, Field(pattern="[")]) -> None:
        """Has a broken pattern."""

    def calls(a: Callable[[int], int]) -> None:
        """Takes a function, which JSON has no form for."""

    for function in (strange, pattern):
        with pytest.raises(ConfigurationError, match="cannot be validated"):
            FunctionTool(function, scope={"Strange": Strange})
    with pytest.raises(ConfigurationError, match="have no JSON Schema"):
        FunctionTool(calls)


@pytest.mark.parametrize("decorated", ["get_weather", 5, None, Place, classmethod(lambda cls: cls)])
def test_only_functions_are_decorated(decorated: Any) -> None:
    """A name in the wrong place, a class or a class method is told how to write it."""
    with pytest.raises(ConfigurationError, match=r"@tool decorates a function"):
        tool()(decorated)
    if isinstance(decorated, str):
        with pytest.raises(ConfigurationError, match=r"@tool\(name=\.\.\.\)"):
            tool(decorated)  # type: ignore[call-overload]  # the mistake is what is tested
