"""JSON Schemas on their way to a provider: what strict modes accept, and how a form is asked for in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.domain.settings import SCHEMA_IN_WORDS
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonObject, JsonText, JsonValue

_SAYS_WHAT: Final = frozenset({"type", "enum", "const", "anyOf", "$ref"})
_OPEN: Final = frozenset({"patternProperties", "prefixItems", "oneOf", "allOf", "not", "if", "default"})
_MAPS: Final = ("properties", "$defs", "definitions")


def in_words(schema: JsonText) -> str:
    """How a structured answer is asked for where the model has no switch for it.

    Args:
        schema: JSON Schema.

    Raises:
        ConfigurationError: when it is not a JSON object.
    """
    parsed(schema)
    return SCHEMA_IN_WORDS + schema


def is_closed(text: JsonText) -> bool:
    """Whether a schema has the form that strict modes demand: every object closed, all its properties required.

    Args:
        text: JSON Schema.

    Raises:
        ConfigurationError: when it is not a JSON object.
    """
    schema = parsed(text)
    return schema.get("type") == "object" and _is_closed(schema)


def parsed(text: JsonText) -> JsonObject:
    """The schema as an object.

    Raises:
        ConfigurationError: when it is not one.
    """
    try:
        schema = loads(text)
    except JsonTextError as error:
        msg = f"the schema is not JSON ({error}); pass a pydantic model or the text of a JSON Schema"
        raise ConfigurationError(msg) from error
    if not isinstance(schema, dict):
        msg = "the schema is not a JSON object; pass a pydantic model or the text of a JSON Schema"
        raise ConfigurationError(msg)
    return schema


def _is_closed(node: JsonValue) -> bool:
    if not isinstance(node, dict) or node.keys() & _OPEN or not node.keys() & _SAYS_WHAT:
        return False
    kind = node.get("type")
    if "properties" in node or kind == "object" or (isinstance(kind, list) and "object" in kind):
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            return False
        if node.get("additionalProperties") is not False or set(map(str, required)) != properties.keys():
            return False
    inner = [item for name in _MAPS if isinstance(found := node.get(name), dict) for item in found.values()]
    choices = node.get("anyOf")
    inner += choices if isinstance(choices, list) else []
    inner += [node["items"]] if "items" in node else []
    return all(_is_closed(item) for item in inner)
