"""Structured answers: a type becomes the schema a model must follow, its answer a value of that type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from nodellm_orm.domain.jsontext import JsonText, JsonTextError, dumps, loads
from nodellm_orm.errors import ConfigurationError, SchemaValidationError
from nodellm_orm.runtime.schemas import Schema, close, explain, schema_of

_FENCE = "```"
_LANGUAGE = re.compile(r"\s*[\w+-]*\s*")
_WRAPPED = "value"
_DEFAULT_NAME = "answer"
_NAME_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredSchema:
    """The form of an answer.

    Example:
        >>> class City(BaseModel):
        ...     name: str
        >>> form = StructuredSchema.of(City)
        >>> form.schema
        '{"properties":{"name":{"type":"string"}},"required":["name"],"type":"object","additionalProperties":false}'
        >>> form.validate('{"name": "Oslo"}')
        City(name='Oslo')
    """

    name: str
    """A name that every provider accepts."""
    schema: JsonText
    """JSON Schema, in the closed form that strict modes demand wherever it has one; its root is an object."""
    strict: bool
    """Whether all of it has the closed form; a map of free keys (``dict[str, int]``) has none."""
    read: Callable[[JsonText], object]
    """Makes the value of a JSON answer; raises `ValidationError` or `ValueError`."""

    @classmethod
    def of(cls, source: object) -> StructuredSchema:
        """The form that a type or a JSON Schema asks for.

        Providers want an object: any other type (``list[City]``, ``int``, a union) is asked for as the member
        ``value`` of one, and taken out of it again.

        Args:
            source: a pydantic model class, a dataclass, a TypedDict, anything else that pydantic's
                `TypeAdapter` takes, or a JSON Schema as a dict.

        Raises:
            ConfigurationError: for anything else.
        """
        if isinstance(source, StructuredSchema):
            return source
        if isinstance(source, Mapping):
            return _of_schema(source)
        if isinstance(source, str | bytes | BaseModel) or source is None:
            msg = f"schema={source!r:.100} is not a schema; give a class, a type, or a JSON Schema as a dict"
            raise ConfigurationError(msg)
        try:
            return _of_type(source)
        except (PydanticUserError, SchemaError, TypeError, NameError, JsonTextError) as error:
            msg = f"schema={source!r:.100} cannot be described in JSON Schema: {error}"
            raise ConfigurationError(msg) from error

    def validate(self, text: str) -> Any:
        """The value that an answer stands for.

        Args:
            text: the answer; whitespace around it and a Markdown code fence are tolerated.

        Returns:
            An instance of the type; for a JSON Schema, the parsed JSON.

        Raises:
            SchemaValidationError: it does not fit; carries the text.
        """
        body = _unfenced(text)
        if not body:
            msg = f"the answer is empty where {self.name} was asked for; ask again, or read reply.finish_reason"
            raise SchemaValidationError(msg, text=text)
        try:
            loads(body)
            return self.read(body)
        except JsonTextError as error:
            msg = f"the answer is not the JSON of {self.name}: {error}; ask again, or read error.text"
            raise SchemaValidationError(msg, text=text) from error
        except ValidationError as error:
            msg = f"the answer does not fit {self.name}: {explain(error)}; ask again, or read error.text"
            raise SchemaValidationError(msg, text=text) from error
        except Exception as error:  # a boundary: validators and constructors are the author's code
            problem = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            msg = f"the answer does not fit {self.name}: {problem}; ask again, or read error.text"
            raise SchemaValidationError(msg, text=text) from error


def _of_type(source: object) -> StructuredSchema:
    kind: Any = source
    adapter: TypeAdapter[object] = source if isinstance(source, TypeAdapter) else TypeAdapter(kind)
    schema = schema_of(adapter)
    read: Callable[[JsonText], object] = adapter.validate_json
    if schema.get("type") != "object":
        wrapper = _wrapper(source)
        schema, read = schema_of(wrapper), _unwrapping(wrapper, adapter)
    return _made(getattr(source, "__name__", _DEFAULT_NAME), schema, read)


def _wrapper(source: object) -> type[BaseModel]:
    kind = source._type if isinstance(source, TypeAdapter) else source  # noqa: SLF001 — an adapter has no other way to tell
    fields: dict[str, Any] = {_WRAPPED: (kind, ...)}
    return create_model(_DEFAULT_NAME, **fields)


def _unwrapping(wrapper: type[BaseModel], adapter: TypeAdapter[object]) -> Callable[[JsonText], object]:
    def read(body: JsonText) -> object:
        value = loads(body)
        if isinstance(value, dict) and value.keys() == {_WRAPPED}:
            return getattr(wrapper.model_validate_json(body), _WRAPPED)
        # A model without native structured output tends to answer with the bare value.
        return adapter.validate_json(body)

    return read


def _of_schema(source: Mapping[Any, Any]) -> StructuredSchema:
    try:
        copied = loads(dumps(source))
    except JsonTextError as error:
        msg = f"the JSON Schema of the answer is not JSON: {error}"
        raise ConfigurationError(msg) from error
    schema = cast(Schema, copied)
    title = schema.get("title")
    name = title if isinstance(title, str) else _DEFAULT_NAME
    if schema.get("type") == "object" or "properties" in schema:
        return _made(name, schema, _object)
    definitions: Schema = {key: schema.pop(key) for key in ("$schema", "$defs", "definitions") if key in schema}
    wrapped: Schema = {**definitions, "type": "object", "properties": {_WRAPPED: schema}}
    return _made(name, wrapped, _member)


def _object(body: JsonText) -> object:
    value = loads(body)
    if not isinstance(value, dict):
        msg = "it is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 — the value is wrong, not the caller's type
    return value


def _member(body: JsonText) -> object:
    value = loads(body)
    return value[_WRAPPED] if isinstance(value, dict) and value.keys() == {_WRAPPED} else value


def _made(name: str, schema: Schema, read: Callable[[JsonText], object]) -> StructuredSchema:
    closed, strict = close(schema)
    legal = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_NAME_CHARS]
    return StructuredSchema(name=legal or _DEFAULT_NAME, schema=dumps(closed), strict=strict, read=read)


def _unfenced(text: str) -> str:
    """The text without a code fence around it; in time proportional to its length, whatever it holds."""
    stripped = text.strip().removeprefix("\ufeff").strip()
    first, _, rest = stripped.partition("\n")
    fenced = first.startswith(_FENCE) and _LANGUAGE.fullmatch(first[len(_FENCE) :]) and rest.endswith(_FENCE)
    return rest[: -len(_FENCE)].strip() if fenced else stripped
