"""A server that answers anything sensibly: calls the first tool once, fills in schemas, else says something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.testing import (
    FakeCall,
    LoopbackServer,
    anthropic_body,
    anthropic_stream,
    json_answer,
    openai_chat_body,
    openai_chat_stream,
    openai_responses_body,
    openai_responses_stream,
    sse_answer,
)

if TYPE_CHECKING:
    from nodellm_orm.testing import Answer, ReceivedRequest

TEXT = "An event is something that happened; the loop waits for the next one."

_PLAIN: dict[str, Any] = {"integer": 2, "number": 1.5, "boolean": True, "null": None}


def instance(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """A value that fits a JSON Schema, such as it occurs in the guides."""
    root = root or schema
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], root)
    match schema.get("type"):
        case "object":
            return {name: instance(inner, root) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [instance(schema["items"], root)]
        case kind:
            return _PLAIN.get(str(kind), "Paris")


def _openai(body: dict[str, Any]) -> Answer:
    text, calls = TEXT, []
    form = body.get("response_format", {}).get("json_schema")
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        function = body["tools"][0]["function"]
        calls = [FakeCall(function["name"], instance(function["parameters"]))]
    elif form:
        text = dumps(instance(form["schema"]))
    if body.get("stream"):
        return sse_answer(openai_chat_stream(text, tool_calls=calls))
    return json_answer(openai_chat_body(text, tool_calls=calls))


def _responses(body: dict[str, Any]) -> Answer:
    text, calls = TEXT, []
    form = body.get("text", {}).get("format")
    if body.get("tools") and body["input"][-1]["type"] != "function_call_output":
        function = body["tools"][0]
        calls = [FakeCall(function["name"], instance(function["parameters"]))]
    elif form:
        text = dumps(instance(form["schema"]))
    if body.get("stream"):
        return sse_answer(openai_responses_stream(text, tool_calls=calls))
    return json_answer(openai_responses_body(text, tool_calls=calls))


def _anthropic(body: dict[str, Any]) -> Answer:
    text, calls = TEXT, []
    last = body["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    form = body.get("output_config", {}).get("format")
    if body.get("tools") and not answered:
        offered = body["tools"][0]
        calls = [FakeCall(offered["name"], instance(offered["input_schema"]))]
    elif form:
        text = dumps(instance(form["schema"]))
    if body.get("stream"):
        return sse_answer(anthropic_stream(text, tool_calls=calls))
    return json_answer(anthropic_body(text, tool_calls=calls))


def _embeddings(body: dict[str, Any]) -> Answer:
    data = [{"index": place, "embedding": [1.0, float(len(text)), 0.5]} for place, text in enumerate(body["input"])]
    return json_answer({"data": data, "model": body["model"], "usage": {"prompt_tokens": 8, "total_tokens": 8}})


def obliging_server() -> LoopbackServer:
    """All three formats, by the path of the request."""

    async def handle(request: ReceivedRequest) -> Answer:
        body: Any = request.json()
        if request.path.endswith("/responses/input_tokens"):
            return json_answer({"object": "response.input_tokens", "input_tokens": 42})
        if request.path.endswith("/embeddings"):
            return _embeddings(body)
        if request.path.endswith("/responses"):
            return _responses(body)
        return _anthropic(body) if request.path.endswith("/messages") else _openai(body)

    return LoopbackServer(handle)
