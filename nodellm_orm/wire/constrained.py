"""JSON Schemas in the subset that constrained decoding accepts, what is left out told to the model in words.

Every object is closed. Limits on numbers, lengths and counts, patterns and unknown formats move to the description:
the model reads them, and the answer is validated against the caller's own schema afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.wire.schemas import parsed

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonObject, JsonText, JsonValue

_KEPT: Final = frozenset({"$ref", "type", "title", "enum", "const", "default", "required", "format"})
_LISTS: Final = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_SILENT: Final = frozenset({"$schema", "$id", "$comment", "examples", "discriminator", "description"})


def closed(text: JsonText) -> JsonObject:
    """A schema as the API accepts it; the same text always gives the same schema.

    Args:
        text: JSON Schema of the answer or of a strict tool's arguments.

    Raises:
        ConfigurationError: when it is not a JSON object.
        UnsupportedFeatureError: when it has an object with free keys, which would always come back empty.
    """
    return _closed(parsed(text))


def _closed(schema: JsonObject) -> JsonObject:
    kept: JsonObject = {}
    told: list[str] = []
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            kept[name] = {key: _any(item) for key, item in value.items()}
        elif name in _LISTS and isinstance(value, list):
            kept[_LISTS[name]] = [_any(item) for item in value]
        elif name == "items":
            kept[name] = _any(value)
        elif _is_kept(name, value):
            kept[name] = value
        elif name not in _SILENT and name != "additionalProperties":
            told.append(f"{name}: {dumps(value)}")
    if _is_object(schema):
        _refuse_free_keys(schema)
        kept["additionalProperties"] = False
    description = schema.get("description")
    if told or isinstance(description, str):
        words = [description] if isinstance(description, str) and description else []
        kept["description"] = "\n".join([*words, *([f"({'; '.join(told)})"] if told else [])])
    return kept


def _any(schema: JsonValue) -> JsonValue:
    return _closed(schema) if isinstance(schema, dict) else schema


def _is_kept(name: str, value: JsonValue) -> bool:
    if name == "format":
        return value in _FORMATS
    if name == "minItems":
        return value in (0, 1)
    return name in _KEPT


def _is_object(schema: JsonObject) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _refuse_free_keys(schema: JsonObject) -> None:
    if schema.get("properties") or schema.get("additionalProperties", False) is False:
        return
    name = schema.get("title")
    msg = (
        f"the schema has an object with free keys{f' ({name})' if name else ''}, which this model's structured output "
        "cannot fill; use a list of objects with a key and a value instead"
    )
    raise UnsupportedFeatureError(msg)
