"""How an answer in a given form is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import JsonTextError, RawJson, loads
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonObject, JsonText, JsonValue
    from nodellm_orm.ports.wire import ModelRequest

_DEFAULT_NAME: Final = "answer"
_SAYS_WHAT: Final = frozenset({"type", "enum", "const", "anyOf", "$ref"})
_OPEN: Final = frozenset({"patternProperties", "prefixItems", "oneOf", "allOf", "not", "if", "default"})
_MAPS: Final = ("properties", "$defs", "definitions")


def response_format(request: ModelRequest) -> tuple[dict[str, object] | None, str | None]:
    """The member ``response_format``, and what the model has to be told in words besides.

    Args:
        request: what is to be sent.

    Raises:
        UnsupportedFeatureError: when the model has no structured output.
        ConfigurationError: when the schema is not a JSON object.
    """
    schema = request.settings.schema
    if schema is None:
        return None, None
    match request.profile.structured:
        case "json_schema":
            form: dict[str, object] = {"name": request.settings.schema_name or _DEFAULT_NAME}
            if is_closed(schema):
                form["strict"] = True
            return {"type": "json_schema", "json_schema": {**form, "schema": RawJson(schema)}}, None
        case "json_object":
            is_closed(schema)
            words = f"Answer with one JSON object that fits this JSON Schema, and with nothing else:\n{schema}"
            return {"type": "json_object"}, words
        case "none":
            msg = (
                f"{request.model} has no structured output; use a model that has, or a tool whose arguments are the "
                "schema"
            )
            raise UnsupportedFeatureError(msg)
        case _:
            assert_never(request.profile.structured)


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
