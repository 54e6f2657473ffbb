"""JSON Schemas in the subset that the API knows, what is left out told to the model in words.

Bounds that it does not know, formats of strings and patterns move to the description: the model reads them, and what it
gives is validated against the caller's own schema afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.wire.schemas import parsed

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonObject, JsonText, JsonValue

_KEPT: Final = frozenset(
    {"$ref", "$anchor", "type", "enum", "required", "default", "nullable", "propertyOrdering"}
    | {"minItems", "maxItems", "minimum", "maximum"}
)
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_INNER: Final = frozenset({"items", "additionalProperties"})
_SILENT: Final = frozenset({"$schema", "$id", "$comment", "title", "examples", "discriminator", "description"})


def known(text: JsonText) -> JsonObject:
    """A schema as the API accepts it; the same text always gives the same schema.

    Args:
        text: JSON Schema of an answer or of a tool's arguments.

    Raises:
        ConfigurationError: when it is not a JSON object.
    """
    return _known(parsed(text))


def _known(schema: JsonObject) -> JsonObject:
    kept: JsonObject = {}
    told: list[str] = []
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            kept[name] = {key: _inner(item) for key, item in value.items()}
        elif name in _LISTS and isinstance(value, list):
            kept[name] = [_inner(item) for item in value]
        elif name in _INNER:
            kept[name] = _inner(value)
        elif name == "const":
            kept["enum"] = [value]
        elif name in _KEPT:
            kept[name] = value
        elif name not in _SILENT:
            told.append(f"{name}: {dumps(value)}")
    description = schema.get("description")
    words = [description] if isinstance(description, str) and description else []
    words += [f"({'; '.join(told)})"] if told else []
    if words:
        kept["description"] = "\n".join(words)
    return kept


def _inner(schema: JsonValue) -> JsonValue:
    return _known(schema) if isinstance(schema, dict) else schema
