"""Functions as tools: ``@tool`` reads the signature and the docstring; the function stays what it was."""

from __future__ import annotations

import copy
import functools
import inspect
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, Generic, ParamSpec, TypeVar, Unpack, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime import docstrings
from nodellm_orm.runtime.toolbase import Tool, ToolContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

_Parameter = inspect.Parameter


class FunctionTool(Tool, Generic[P, R]):
    """A function that a model may call, and that is called from Python as before.

    Args:
        function: sync or async; a parameter annotated `ToolContext` is filled in and not shown to the model.
        name: instead of the function's name.
        description: instead of its docstring.
        idempotent: see `Tool`.
        requires_approval: see `Tool`.
        sequential: see `Tool`.
        scope: names that annotations may use beside those of the function's module.

    Raises:
        ConfigurationError: for ``*args``, and for annotations that cannot be resolved or told to a model.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        idempotent: bool = False,
        requires_approval: bool = False,
        sequential: bool = False,
        scope: Mapping[str, object] | None = None,
    ) -> None:
        """Read the signature and the docstring."""
        static, function = isinstance(function, staticmethod), _undecorated(function)
        _wear(self, function)
        self._static = static
        self.function: Callable[P, R] = function
        summary, self._told = docstrings.read(_docstring(function))
        self.name = name if name is not None else _name(function)
        self.description = description if description is not None else summary
        self.idempotent = idempotent
        self.requires_approval = requires_approval
        self.sequential = sequential
        self._read(_signature(function, self.name, scope))

    def _read(self, signature: inspect.Signature) -> None:
        self._signature = signature
        self._method: FunctionTool[..., R] | None = None
        parameters = signature.parameters
        self._contexts = tuple(name for name, p in parameters.items() if _is_context(p.annotation))
        owner = next(iter(parameters)) if self.unbound else None
        shown = [p for name, p in parameters.items() if name not in self._contexts and name != owner]
        # Parameters may be called what a model class may not call its fields (schema, model_config, _x): the
        # fields get names of ours, and the parameters' names are their aliases.
        self._fields = {f"argument_{at}": p.name for at, p in enumerate(shown) if p.kind is not p.VAR_KEYWORD}
        self.Args = _model(self, shown, self._fields, self._told)
        _ = self.parameters  # what cannot be described is refused here and not in the middle of a turn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., R]:
        """A decorated method, reached through its object, is a tool bound to that object."""
        if instance is None or self._static:
            return self
        if self._method is None:
            method: FunctionTool[..., R] = copy.copy(self)
            method._read(self._signature.replace(parameters=list(self._signature.parameters.values())[1:]))
            self._method = method
        bound = copy.copy(self._method)
        bound.function = MethodType(self.function, instance)
        functools.update_wrapper(bound, bound.function, updated=())
        return bound

    @property
    def unbound(self) -> bool:
        """Whether it is a method that has not been reached through its object or class: ``self`` is missing."""
        _, _, place = getattr(self.function, "__qualname__", "").rpartition("<locals>.")
        first = next(iter(self._signature.parameters), None)
        return "." in place and first in {"self", "cls"} and not isinstance(self.function, MethodType)

    @property
    def asynchronous(self) -> bool:
        """Whether the function is a coroutine function; if not, it runs in a thread."""
        called = self.function if inspect.isroutine(self.function) else type(self.function).__call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def run(self, args: BaseModel, context: ToolContext) -> object:
        """Call the function with the arguments under the names of its parameters."""
        values: dict[str, object] = {**(args.model_extra or {})}
        values |= {parameter: getattr(args, name) for name, parameter in self._fields.items()}
        values |= dict.fromkeys(self._contexts, context)
        parameters = self._signature.parameters.values()
        first = [values.pop(p.name) for p in parameters if p.kind is p.POSITIONAL_ONLY]
        function: Callable[..., object] = self.function
        return function(*first, **values)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    requires_approval: bool = False,
    sequential: bool = False,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    requires_approval: bool = False,
    sequential: bool = False,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a function a tool; it stays callable as the function it was.

    Args:
        function: sync (runs in a thread) or async. Its docstring is the description, its signature the
            schema; ``Annotated[int, Field(description=..., ge=1)]`` says more about an argument, and so does
            an ``Args:`` section. A parameter annotated `ToolContext` is filled in and not shown to the model.
        name: instead of the function's name.
        description: instead of the docstring.
        idempotent: running it twice does no more than once; a call of unknown outcome is then repeated.
        requires_approval: nothing runs until a person has approved the call.
        sequential: it runs alone, in the order of the calls.

    Raises:
        ConfigurationError: for ``*args``, and for annotations that cannot be resolved or told to a model.

    Example:
        >>> @tool(idempotent=True)
        ... def add(a: int, b: int = 0) -> int:
        ...     "Add two numbers."
        ...     return a + b
        >>> add(1, 2), add.name
        (3, 'add')
    """
    scope = _names_around(inspect.currentframe())

    def decorate(decorated: Callable[P, R]) -> FunctionTool[P, R]:
        if not callable(decorated) or isinstance(decorated, type):
            msg = (
                f"@tool decorates a function, not {decorated!r}; name a tool with @tool(name=...), derive a class "
                "from nodellm_orm.Tool, and write @classmethod above @tool"
            )
            raise ConfigurationError(msg)
        return FunctionTool(
            decorated,
            name=name,
            description=description,
            idempotent=idempotent,
            requires_approval=requires_approval,
            sequential=sequential,
            scope=scope,
        )

    return decorate if function is None else decorate(function)


class _Open(BaseModel, Generic[V]):
    """Base of the arguments of a function with ``**options: V``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, V]


def _names_around(frame: FrameType | None) -> dict[str, object] | None:
    """The local names where ``tool`` was called; annotations may use them."""
    caller = frame.f_back if frame else None
    return dict(caller.f_locals) if caller else None


def _wear(tool: object, function: Callable[..., object]) -> None:
    """Take on the function's name, documentation and attributes, but for those that are a tool's own."""
    own = dir(Tool)
    vars(tool).update({key: value for key, value in getattr(function, "__dict__", {}).items() if key not in own})
    functools.update_wrapper(tool, function, updated=())  # type: ignore[arg-type]  # any object takes the attributes


def _undecorated(function: Callable[P, R]) -> Callable[P, R]:
    """What a tool or a static method was made from: another ``@tool`` around it may give it another name."""
    if isinstance(function, FunctionTool):
        return _undecorated(function.function)
    return _undecorated(function.__func__) if isinstance(function, staticmethod) else function


def _whole(function: Callable[..., object]) -> Callable[..., object]:
    """The function whose arguments a partial has filled in."""
    return _whole(function.func) if isinstance(function, functools.partial) else function


def _name(function: Callable[..., object]) -> str:
    function = _whole(function)
    return str(getattr(function, "__name__", type(function).__name__))


def _docstring(function: Callable[..., object]) -> str | None:
    function = _whole(function)
    if inspect.isroutine(function):
        return inspect.getdoc(function)
    return inspect.getdoc(type(function)) or inspect.getdoc(type(function).__call__)


def _signature(function: Callable[..., object], name: str, scope: Mapping[str, object] | None) -> inspect.Signature:
    try:
        signature = inspect.signature(function, eval_str=True, locals=dict(scope or {}))
    except (NameError, AttributeError, SyntaxError) as error:
        msg = (
            f"the annotations of tool {name!r} cannot be resolved: {error}; import the types it names "
            "at run time, not only under TYPE_CHECKING"
        )
        raise ConfigurationError(msg) from error
    except (TypeError, ValueError) as error:
        msg = f"tool {name!r} has no readable signature: {error}; wrap it in a function with annotations"
        raise ConfigurationError(msg) from error
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            msg = f"tool {name!r} takes *{parameter.name}, which no schema can say; take a list instead"
            raise ConfigurationError(msg)
    return signature


def _is_context(annotation: object) -> bool:
    """Whether a parameter wants the `ToolContext`: by itself, annotated, or in a union with ``None``."""
    if get_origin(annotation) is Annotated:
        return _is_context(get_args(annotation)[0])
    return annotation is ToolContext or ToolContext in get_args(annotation)


def _model(
    tool: FunctionTool[P, R], parameters: list[_Parameter], fields: Mapping[str, str], told: Mapping[str, str]
) -> type[BaseModel]:
    by_name = {p.name: p for p in parameters}
    more = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
    definitions: dict[str, Any] = {
        field: (
            _annotation(by_name[parameter], told.get(parameter)),
            ... if by_name[parameter].default is _Parameter.empty else by_name[parameter].default,
        )
        for field, parameter in fields.items()
    }
    try:
        return create_model(
            tool.name,
            __base__=BaseModel if more is None else _open(more),
            __module__=getattr(_whole(tool.function), "__module__", None) or __name__,
            __cls_kwargs__={
                "extra": "forbid" if more is None else "allow",
                "alias_generator": lambda field: fields.get(field, field),
            },
            **definitions,
        )
    except (PydanticUserError, SchemaError, TypeError) as error:
        msg = (
            f"the arguments of tool {tool.name!r} cannot be validated: {error}; use types that pydantic knows, "
            "and get anything else from ToolContext, a closure or a Tool class"
        )
        raise ConfigurationError(msg) from error


def _open(more: _Parameter) -> type[BaseModel]:
    """Further arguments are checked too, where the annotation says one type for all of them."""
    generic: Any = _Open
    untold = more.annotation is more.empty or get_origin(more.annotation) is Unpack
    base: type[BaseModel] = generic[Any if untold else more.annotation]
    return base


def _annotation(parameter: _Parameter, description: str | None) -> object:
    """The parameter's type, with the docstring's words first: ``Field(description=...)`` outranks them."""
    annotation: Any = Any if parameter.annotation is parameter.empty else parameter.annotation
    if not description:
        return annotation
    said = Field(description=description)
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        return Annotated[(kind, said, *metadata)]
    return Annotated[annotation, said]
