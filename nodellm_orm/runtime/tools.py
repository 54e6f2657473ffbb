"""Tools: classes and functions that a model may call, gathered from whatever ``tools=`` was given.

::

    @tool
    async def get_weather(city: str, unit: Literal["c", "f"] = "c") -> str:
        \"\"\"Current weather.\"\"\"

    class Refund(Tool):
        \"\"\"Refund an order.\"\"\"
        requires_approval = True

        class Args(BaseModel):
            order_id: str

        async def run(self, args: Args, context: ToolContext) -> dict[str, str]: ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import MethodType
from typing import TypeAlias

from pydantic import BaseModel

from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED, ToolSpec
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.functions import FunctionTool, tool
from nodellm_orm.runtime.toolbase import Tool, ToolContext, ToolHalt

__all__ = ["FunctionTool", "Tool", "ToolContext", "ToolHalt", "ToolSource", "collect", "to_spec", "tool"]

ToolSource: TypeAlias = Tool | type[Tool] | Callable[..., object]
"""What ``tools=`` takes: a tool, a tool class that needs no arguments, or a function."""

_LEGAL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TAKEN_NAMES = frozenset({AUTO, NONE, REQUIRED})


def to_spec(tool: Tool) -> ToolSpec:
    """What a model is told about a tool.

    Args:
        tool: any tool.

    Raises:
        ConfigurationError: when its arguments cannot be described in JSON Schema.
    """
    return ToolSpec(name=tool.name, description=tool.description, parameters=tool.parameters)


def collect(tools: Iterable[ToolSource]) -> tuple[Tool, ...]:
    """Everything that was given as a tool, as tools.

    Args:
        tools: `Tool` instances, `Tool` classes, decorated functions and plain functions, in any mixture.

    Raises:
        ConfigurationError: for anything else, a name that providers do not accept, and two tools of one name.
    """
    if not isinstance(tools, Iterable) or isinstance(tools, str | bytes):
        msg = f"tools is a list of tools, not a {type(tools).__name__}; write tools=[...]"
        raise ConfigurationError(msg)
    collected: dict[str, Tool] = {}
    for source in tools:
        made = _made(source)
        _check(made)
        if made.name in collected:
            msg = (
                f"two tools are called {made.name!r}; give one of them another name, "
                "with @tool(name=...) or the class attribute name"
            )
            raise ConfigurationError(msg)
        collected[made.name] = made
    return tuple(collected.values())


def _made(source: ToolSource) -> Tool:
    if isinstance(source, Tool):
        return source
    if isinstance(source, type):
        return _instance(source)
    if isinstance(source, MethodType) and isinstance(source.__func__, FunctionTool):
        return source.__func__.__get__(source.__self__)  # a decorated class method is bound around the tool
    if callable(source):
        return FunctionTool(source)
    msg = f"{source!r} is not a tool; give a function, a Tool class or a Tool instance"
    raise ConfigurationError(msg)


def _instance(cls: type) -> Tool:
    if not issubclass(cls, Tool):
        msg = f"{cls.__name__} is a class but not a Tool; derive it from nodellm_orm.Tool, or give a function"
        raise ConfigurationError(msg)
    try:
        return cls()
    except TypeError as error:
        msg = f"{cls.__name__} cannot be made without arguments: {error}; give an instance of it"
        raise ConfigurationError(msg) from error


def _check(made: Tool) -> None:
    name: object = getattr(made, "name", None)
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name):
        msg = (
            f"{name!r} is not a tool name that every provider accepts; use 1 to 64 of A-Z a-z 0-9 _ -, "
            "with @tool(name=...) or the class attribute name"
        )
        raise ConfigurationError(msg)
    if name in _TAKEN_NAMES:
        msg = f"a tool cannot be called {name!r}, which is a word of tool_choice; give it another name"
        raise ConfigurationError(msg)
    if isinstance(made, FunctionTool) and made.unbound:
        msg = f"{name!r} is a method; give it from an object, as in tools=[client.{name}]"
        raise ConfigurationError(msg)
    arguments: object = made.Args
    if not (isinstance(arguments, type) and issubclass(arguments, BaseModel)):
        msg = f"Args of tool {name!r} is not a pydantic model; write class Args(BaseModel) inside the tool"
        raise ConfigurationError(msg)
