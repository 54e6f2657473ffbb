"""JSON Schemas as models are told them: made by pydantic, without noise, closed where providers demand it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.json_schema import GenerateJsonSchema

from nodellm_orm.runtime.results import settled

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter, ValidationError
    from pydantic.json_schema import JsonSchemaWarningKind

Schema: TypeAlias = dict[str, object]

_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "contains", "propertyNames", "not", "if", "then", "else"}) | {
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
}
_SAYS_WHAT = frozenset({"type", "enum", "const", "anyOf", "$ref"})
_SHOWN_ERRORS = 8
_SHOWN_INPUT = 60
_SHOWN_MESSAGE = 300


class _Generator(GenerateJsonSchema):
    """The same text in every process; defaults that JSON cannot hold are left out without a warning, and apply."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 — declared so by its base

    def encode_default(self, dft: Any) -> Any:
        """A default as JSON; the order of a set is settled."""
        return settled(dft, super().encode_default(dft))


def schema_of(source: type[BaseModel] | TypeAdapter[object]) -> Schema:
    """The JSON Schema of a type: without generated titles, its root written out even where it is a reference.

    Args:
        source: a pydantic model, or a type adapter.

    Raises:
        PydanticUserError: for a type that JSON Schema cannot say.
    """
    if isinstance(source, type):
        raw: Schema = source.model_json_schema(schema_generator=_Generator)
    else:
        raw = source.json_schema(schema_generator=_Generator)
    return _with_root(rewrite(raw, _untitled))


def _untitled(node: Schema) -> Schema:
    return {key: value for key, value in node.items() if key != "title"}


def _with_root(schema: Schema) -> Schema:
    """A recursive type is a reference at its root; providers want the object itself there."""
    match schema:
        case {"$ref": str(reference), "$defs": dict(definitions)}:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return {**definitions[reference.removeprefix("#/$defs/")], **rest}
        case _:
            return schema


def rewrite(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Apply a change to a schema and every schema inside it, innermost first.

    Args:
        schema: left as it is.
        change: gives the node's replacement; it may change the node it is given.
    """
    return change({key: _inside(key, value, change) for key, value in schema.items()})


def _inside(key: str, value: object, change: Callable[[Schema], Schema]) -> object:
    """Only places that hold schemas are walked: a property called ``title`` is not a title."""
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _one(item, change) for name, item in value.items()}
    if isinstance(value, list) and (key in _LISTED or key == "items"):
        return [_one(item, change) for item in value]
    return _one(value, change) if key in _SINGLE else value


def _one(value: object, change: Callable[[Schema], Schema]) -> object:
    return rewrite(dict(value), change) if isinstance(value, Mapping) else value


def close(schema: Schema) -> tuple[Schema, bool]:
    """Write a schema in the closed form that strict structured output demands.

    Every object lists all its properties as required and admits no others; ``oneOf`` becomes ``anyOf``;
    defaults go. What has no closed form, a map of free keys for instance, stays as it is, because closing it
    would forbid every answer but an empty one.

    Args:
        schema: left as it is.

    Returns:
        The schema, and whether all of it has the closed form.
    """
    open_nodes: list[Schema] = []

    def change(node: Schema) -> Schema:
        closed = _closed(node)
        if _is_open(closed):
            open_nodes.append(closed)
        return closed

    return rewrite(schema, change), not open_nodes


def _closed(node: Schema) -> Schema:
    node.pop("default", None)
    node.pop("discriminator", None)
    if "oneOf" in node and "anyOf" not in node:
        node["anyOf"] = node.pop("oneOf")
    if "$ref" in node and len(node) > 1 and "$defs" not in node and "anyOf" not in node:
        # A reference may not have neighbours in strict mode, and a description is worth keeping.
        node["anyOf"] = [{"$ref": node.pop("$ref")}]
    properties = node.get("properties")
    if isinstance(properties, dict):
        node.setdefault("type", "object")
        node["required"] = list(properties)
        node["additionalProperties"] = False
    return node


def _is_open(node: Schema) -> bool:
    if "patternProperties" in node or "prefixItems" in node or not node.keys() & _SAYS_WHAT:
        return True
    kind = node.get("type")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind)
    return is_object and "properties" not in node and node.get("additionalProperties") is not False


def explain(error: ValidationError) -> str:
    """What does not fit, field by field, in words that a model or a person can act on.

    Args:
        error: as raised by pydantic.

    Returns:
        For instance ``city: Field required; days[0]: Input should be a valid integer (got "x")``.
    """
    problems = error.errors(include_url=False, include_context=False)
    told = []
    for problem in problems[:_SHOWN_ERRORS]:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"]).lstrip(".")
        given = problem["input"]
        shown = f" (got {_brief(given)})" if isinstance(given, str | int | float | None) else ""
        where, what = _on_one_line(place, _SHOWN_INPUT) or "the whole", _on_one_line(problem["msg"], _SHOWN_MESSAGE)
        told.append(f"{where}: {what}{shown if problem['type'] != 'json_invalid' else ''}")
    if len(problems) > _SHOWN_ERRORS:
        told.append(f"and {len(problems) - _SHOWN_ERRORS} more")
    return "; ".join(told)


def _brief(value: object) -> str:
    # Whoever sent it may have sent megabytes.
    text = ascii(value[: _SHOWN_INPUT + 1]) if isinstance(value, str) else repr(value)
    return _on_one_line(text, _SHOWN_INPUT)


def _on_one_line(text: str, limit: int) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[:limit]}…"
