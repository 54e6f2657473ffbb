"""How an answer in a given form is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import RawJson
from nodellm_orm.wire.schemas import in_words, is_closed

if TYPE_CHECKING:
    from nodellm_orm.ports.wire import ModelRequest

_DEFAULT_NAME: Final = "answer"


def response_format(request: ModelRequest) -> tuple[dict[str, object] | None, str | None]:
    """The member ``response_format``, and what the model has to be told in words besides.

    Args:
        request: what is to be sent.

    Raises:
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
            return {"type": "json_object"}, in_words(schema)
        case "none":
            return None, in_words(schema)
        case _:
            assert_never(request.profile.structured)
