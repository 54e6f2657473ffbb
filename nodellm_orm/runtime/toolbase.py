"""What every tool is: the class to derive from, what a call is told, and how a tool ends a turn."""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.errors import PydanticUserError

from nodellm_orm.domain.jsontext import JsonTextError, dumps, encode
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.workspace import OWN_SESSION, NoWorkspace
from nodellm_orm.runtime import docstrings
from nodellm_orm.runtime.schemas import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.ports.workspace import Workspace

_NO_CHAT = NoWorkspace(f"context.session is not available outside of a chat that is kept in a database; {OWN_SESSION}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool is told about its call; any tool may ask for it.

    Example:
        >>> @tool
        ... async def charge(cents: int, context: ToolContext) -> str:
        ...     return await gateway.charge(cents, idempotency_key=context.idempotency_key)
    """

    chat_id: UUID
    owner: str | None
    call_id: str
    """The call's id within its chat."""
    idempotency_key: str
    """The same in every retry of this call and in every process: hand it to services that take such keys."""
    approved_by: str | None = None
    """Who approved the call, where somebody had to and said who it was."""
    deadline: float | None = None
    """When the call times out, on the event loop's clock (`asyncio.timeout_at` takes it); ``None``: never.

    A loop's clock means nothing in another process; `remaining` is what to hand on.
    """
    clock: Callable[[], float] | None = field(default=None, repr=False, compare=False)
    """The clock that `deadline` is on; safe to read from any thread."""
    workspace: Workspace = field(default=_NO_CHAT, repr=False, compare=False)
    """What `session` stands on; it is the runtime's."""

    @property
    def remaining(self) -> float | None:
        """Seconds left before the call times out, never negative; ``None`` when it has no limit."""
        if self.deadline is None or self.clock is None:
            return None
        return max(0.0, self.deadline - self.clock())

    @property
    def session(self) -> AsyncSession:
        """A session on the chat's own database whose commit is the recording of the tool's result; for async tools.

        What the tool writes through it and the result it returns are committed together, or neither is. It is
        connected by its first statement. ``commit()`` and ``rollback()`` end savepoints of it; when the tool fails or
        times out, everything is rolled back. A tool that writes nothing elsewhere is declared ``idempotent=True``: when
        its process dies it is run again, and has happened exactly once.

        Raises:
            UnsupportedFeatureError: the tool is not async, or the chat is in memory or in its caller's transaction.
            SessionStateError: the call is over.

        Example:
            >>> @tool(idempotent=True)
            ... async def book(seat: str, context: ToolContext) -> str:
            ...     context.session.add(Booking(seat=seat))
            ...     return f"seat {seat} is booked"
        """
        return self.workspace.session


class ToolHalt(Exception):  # noqa: N818 — an outcome, not an error: it may be returned as well as raised
    """Ends the turn with a value: the model is not asked again.

    Args:
        value: what `Reply.value` carries; its text or JSON is the result of the call and the reply's content.
    """

    def __init__(self, value: object = None) -> None:
        """Keep the value."""
        super().__init__(value)
        self.value = value


class NoArguments(BaseModel):
    """The arguments of a tool that takes none."""

    model_config = ConfigDict(extra="ignore")


class Tool:
    """A tool as a class: derive, name the arguments in a nested pydantic model ``Args``, and write ``run``.

    ``run(self, args, context)`` is async, or sync and then run in a thread; ``context`` may be left out. A
    subclass without a ``name`` is called by its class name in snake_case; without a ``description`` its
    docstring is taken.
    """

    name: str
    description: str
    idempotent: bool = False
    """Running it twice does no more than running it once: a call of unknown outcome is then repeated."""
    requires_approval: bool = False
    """Nothing runs until a person has approved the call."""
    sequential: bool = False
    """It runs alone: after the calls before it in the round, and before those after it."""
    Args: type[BaseModel] = NoArguments

    _derived: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        """Derive the name and the description that the class does not state."""
        super().__init_subclass__(**options)
        derived: dict[str, str] = {}
        if not _states(cls, "name"):
            derived["name"] = _snake_case(cls.__name__)
        if not _states(cls, "description"):
            derived["description"] = docstrings.read(_own_docstring(cls))[0]
        for attribute, value in derived.items():
            setattr(cls, attribute, value)
        cls._derived = frozenset(derived)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; overridden by every tool.

        Returns:
            A string for the model, anything else that has a JSON form, or a `ToolHalt`.
        """
        msg = f"{type(self).__name__} has no run(self, args, context) method; write one"
        raise NotImplementedError(msg)

    @property
    def parameters(self) -> JsonText:
        """JSON Schema of the arguments, as text whose bytes never change."""
        return _parameters(self.Args)

    @property
    def asynchronous(self) -> bool:
        """Whether `run` is a coroutine function; if not, it runs in a thread."""
        return inspect.iscoroutinefunction(self.run)

    def parse(self, arguments: JsonText) -> BaseModel:
        """The arguments as the tool wants them.

        Args:
            arguments: one JSON object.

        Raises:
            ValidationError: when they do not fit `Args`.
        """
        return self.Args.model_validate_json(encode(arguments))

    def invoke(self, args: BaseModel, context: ToolContext) -> object:
        """Call `run` with as much as it takes; for an asynchronous tool the outcome is to be awaited."""
        wanted = [p for p in inspect.signature(self.run).parameters.values() if p.kind not in _KEYWORDS]
        if len(wanted) >= _WITH_CONTEXT or any(p.kind is p.VAR_POSITIONAL for p in wanted):
            return self.run(args, context)
        return self.run(args) if wanted else self.run()


_KEYWORDS = frozenset({inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD})
_WITH_CONTEXT = 2


def _states(cls: type[Tool], attribute: str) -> bool:
    """Whether the class or one of its bases says the attribute itself."""
    bases = [base for base in cls.__mro__ if issubclass(base, Tool) and base is not Tool]
    return any(attribute in vars(base) and attribute not in base.__dict__.get("_derived", ()) for base in bases)


def _own_docstring(cls: type[Tool]) -> str | None:
    documented = (base.__doc__ for base in cls.__mro__ if issubclass(base, Tool) and base is not Tool)
    return next((text for text in documented if text), None)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@functools.lru_cache(maxsize=256)
def _parameters(model: type[BaseModel]) -> JsonText:
    try:
        schema = schema_of(model)
        text = dumps({**schema, "properties": schema.get("properties", {})})
    except (PydanticUserError, JsonTextError) as error:
        msg = f"the arguments {model.__name__} have no JSON Schema: {error}; change the types of the fields"
        raise ConfigurationError(msg) from error
    if schema.get("type") != "object":
        msg = f"the arguments {model.__name__} are not an object; make them a field of a BaseModel, not a RootModel"
        raise ConfigurationError(msg)
    return text
