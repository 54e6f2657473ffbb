"""Functions as tools: ``@tool`` reads the signature and the docstring; the function stays what it was."""

from __future__ import annotations

import copy
import functools
import inspect
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, Generic, ParamSpec, TypeVar, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime import docstrings
from nodellm_orm.runtime.toolbase import Tool, ToolContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
R = TypeVar("R")

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
        functools.update_wrapper(self, function)
        summary, self._told = docstrings.read(_docstring(function))
        self.function = function
        self.name = name if name is not None else _name(function)
        self.description = description if description is not None else summary
        self.idempotent = idempotent
        self.requires_approval = requires_approval
        self.sequential = sequential
        self._read(_signature(function, self.name, scope))

    def _read(self, signature: inspect.Signature) -> None:
        self._signature = signature
        parameters = signature.parameters
        self._contexts = tuple(name for name, p in parameters.items() if _is_context(p.annotation))
        shown = [p for name, p in parameters.items() if name not in self._contexts]
        # Parameters may be called what a model class may not call its fields (schema, model_config, _x): the
        # fields get names of ours, and the parameters' names are their aliases.
        self._fields = {f"argument_{at}": p.name for at, p in enumerate(shown) if p.kind is not p.VAR_KEYWORD}
        self.Args = _model(self.name, shown, self._fields, self._told)
        _ = self.parameters  # what cannot be described is refused here and not in the middle of a turn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., R]:
        """A decorated method, reached through its object, is a tool bound to that object."""
        if instance is None:
            return self
        bound: FunctionTool[..., R] = copy.copy(self)
        bound.function = MethodType(self.function, instance)
        functools.update_wrapper(bound, bound.function, updated=())
        parameters = list(self._signature.parameters.values())[1:]
        bound._read(self._signature.replace(parameters=parameters))
        return bound

    @property
    def unbound(self) -> bool:
        """Whether it is a method that has been reached through its class, so that ``self`` is missing."""
        _, _, place = getattr(self.function, "__qualname__", "").rpartition("<locals>.")
        first = next(iter(self._signature.parameters), None)
        return "." in place and first == "self" and not isinstance(self.function, MethodType)

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
    frame = inspect.currentframe()
    scope = dict(frame.f_back.f_locals) if frame and frame.f_back else None

    def decorate(decorated: Callable[P, R]) -> FunctionTool[P, R]:
        if not callable(decorated):
            msg = f"@tool decorates a function, not {decorated!r}; name a tool with @tool(name=...)"
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


def _name(function: Callable[..., object]) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _docstring(function: Callable[..., object]) -> str | None:
    if isinstance(function, functools.partial):
        return _docstring(function.func)
    return inspect.getdoc(function if inspect.isroutine(function) else type(function))


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
    name: str, parameters: list[_Parameter], fields: Mapping[str, str], told: Mapping[str, str]
) -> type[BaseModel]:
    by_name = {p.name: p for p in parameters}
    more = any(p.kind is p.VAR_KEYWORD for p in parameters)
    definitions: dict[str, Any] = {
        field: (
            _annotation(by_name[parameter], told.get(parameter)),
            ... if by_name[parameter].default is _Parameter.empty else by_name[parameter].default,
        )
        for field, parameter in fields.items()
    }
    config = ConfigDict(extra="allow" if more else "forbid", alias_generator=lambda field: fields.get(field, field))
    try:
        return create_model(name, __config__=config, **definitions)
    except (PydanticUserError, TypeError) as error:
        msg = (
            f"the arguments of tool {name!r} cannot be validated: {error}; use types that pydantic knows, "
            "and get anything else from ToolContext, a closure or a Tool class"
        )
        raise ConfigurationError(msg) from error


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
