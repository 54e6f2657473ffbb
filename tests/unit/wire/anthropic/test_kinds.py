"""Every kind of block that an answer may have: whole or streamed, it comes back as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.parts import OpaquePart, TextPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.anthropic.asking import (
    ELSEWHERE,
    WIRE,
    asking,
    assistant,
    block,
    body,
    contents,
    ending,
    folded,
    result,
    sent,
    start,
    user,
)

_CITED: dict[str, dict[str, Any]] = {
    "char_location": {"cited_text": "x", "document_title": None, "start_char_index": 0, "end_char_index": 1},
    "page_location": {"cited_text": "x", "document_index": 0, "start_page_number": 1, "end_page_number": 2},
    "content_block_location": {"cited_text": "x", "document_index": 0, "start_block_index": 0, "end_block_index": 1},
    "web_search_result_location": {"cited_text": "x", "url": "https://x.example", "title": "X", "encrypted_index": "e"},
    "search_result_location": {"cited_text": "x", "source": "s", "title": None, "search_result_index": 0},
}  # fmt: skip
_SERVER: list[list[dict[str, Any]]] = [
    [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": {"query": "x", "n": 1}},
        {"type": kind, "tool_use_id": "srvtoolu_1", "content": content},
    ]
    for name, kind, content in (
        ("web_search", "web_search_tool_result", [{"type": "web_search_result", "url": "u", "encrypted_content": "e"}]),
        ("web_search", "web_search_tool_result", {"type": "web_search_tool_result_error", "error_code": "unavailable"}),
        (
            "web_fetch",
            "web_fetch_tool_result",
            {"type": "web_fetch_result", "url": "u", "content": {"type": "document"}},
        ),
        ("code_execution", "code_execution_tool_result", {"type": "code_execution_result", "stdout": "1\n"}),
        ("bash_code_execution", "bash_code_execution_tool_result", {"type": "bash_code_execution_result"}),
        ("text_editor_code_execution", "text_editor_code_execution_tool_result", {"type": "view"}),
        ("tool_search_tool_regex", "tool_search_tool_result", {"type": "tool_search_tool_search_result"}),
        ("advisor", "advisor_tool_result", {"type": "advisor_redacted_result", "encrypted_content": "e"}),
        ("memory", "memory_tool_result", "ok"),
    )
]
_OTHERS: list[list[dict[str, Any]]] = [
    [
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "s", "input": {"p": "v"}},
        {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [{"type": "text"}]},
    ],
    [{"type": "container_upload", "file_id": "file_1"}],
    [{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}],
    [{"type": "compaction", "content": "So far.", "encrypted_content": "e"}],
    [{"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}],
    [{"type": "not_yet_invented", "deep": [{"er": None, "n": 1.5}]}],
    [{"type": "redacted_thinking", "data": "ZW5j"}],
    [{"type": "thinking", "thinking": "", "signature": "c2ln"}],
    [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln", "binding": {"v": 1}}],
    [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}}],
    *([{"type": "text", "text": "x", "citations": [{"type": kind, **cited}]}] for kind, cited in _CITED.items()),
]
_LAST = {"type": "text", "text": "So."}


def _pieces(whole: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How the API streams a block: its beginning, and what follows piece by piece."""
    match whole["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": letter} for letter in whole["text"]]
            deltas += [{"type": "citations_delta", "citation": cited} for cited in whole.get("citations", [])]
            return {**whole, "text": "", **({"citations": []} if "citations" in whole else {})}, deltas
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": whole["thinking"]}] if whole["thinking"] else []
            deltas.append({"type": "signature_delta", "signature": whole["signature"]})
            return {**whole, "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            text = json.dumps(whole["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:3], text[3:])]
            return {**whole, "input": {}}, deltas
        case _:
            return whole, []


_ALL = [*_SERVER, *_OTHERS]


@pytest.mark.parametrize("blocks", _ALL, ids=[f"{at}-{blocks[-1]['type']}" for at, blocks in enumerate(_ALL)])
def test_a_block_comes_back_as_it_came(blocks: list[dict[str, Any]]) -> None:
    """Body and stream give the same parts, which go home to the byte, in their order, and nowhere else."""
    said = [*blocks, _LAST]
    answer = WIRE.parse(body(*said), ModelProfile())
    stream = start() + b"".join(block(at, *_opened(item)) for at, item in enumerate(said)) + ending()
    assert folded([stream]).parts == folded(stream[at : at + 1] for at in range(len(stream))).parts == answer.parts
    results = [result("toolu_1")] if answer.tool_calls else []
    history = [user("Hi"), assistant(*answer.parts), *results, user("?")]
    raw = WIRE.render(asking(*history)).body
    for item in said:
        assert dumps(item).encode() in raw
    assert contents(asking(*history))[1][1] == said
    elsewhere = sent(asking(user("Hi"), assistant(*answer.parts, origin=ELSEWHERE), *results, user("?")))
    kinds = {item["type"] for item in elsewhere["messages"][1]["content"]}
    assert kinds <= {"text", "tool_use"}
    assert "citations" not in dumps(elsewhere)


def _opened(whole: dict[str, Any]) -> tuple[Any, ...]:
    opening, deltas = _pieces(whole)
    return opening, *deltas


_RUN = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}}
_CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
_CONTAINER = {"id": "container_1", "expires_at": "2026-04-24T11:13:36Z"}


def test_the_container_of_an_unfinished_turn() -> None:
    """While the model's code waits for a result or was paused, its container is named; a new question has none."""
    waiting = WIRE.parse(body(_RUN, _CALL, stop_reason="tool_use", container=_CONTAINER), ModelProfile()).parts
    paused = WIRE.parse(body(_RUN, stop_reason="pause_turn", container=_CONTAINER), ModelProfile()).parts
    going_on = [
        [user("Hi"), assistant(*waiting), result()],
        [user("Hi"), assistant(*paused)],
        [user("Hi"), assistant(*paused), assistant(TextPart(text="Then"), *_called()), result()],
    ]
    for messages in going_on:
        request = asking(*messages)
        assert sent(request)["container"] == "container_1"
        assert "container_1" not in dumps(sent(request)["messages"])
    others = [
        [user("Hi"), assistant(*waiting), result(), user("Stop.")],
        [user("Hi"), assistant(*waiting), result(), assistant(TextPart(text="Done.")), user("And?")],
        [user("Hi"), assistant(*waiting, origin=ELSEWHERE), result()],
        [user("Hi"), assistant(OpaquePart(payload=dumps({"type": "x", "container": _CONTAINER})))],
        [user("Hi")],
    ]
    for messages in others:
        assert "container" not in sent(asking(*messages))
    assert sent(asking(*going_on[0], params={"container": "mine"}))["container"] == "mine"


def _called() -> tuple[Any, ...]:
    return WIRE.parse(body(_CALL, stop_reason="tool_use"), ModelProfile()).parts


def test_a_container_in_a_stream() -> None:
    """It arrives with the reason to stop, and is kept as a body's is."""
    stream = start() + block(0, {"type": "text", "text": "Hi"}) + ending(container=_CONTAINER)
    whole = WIRE.parse(body({"type": "text", "text": "Hi"}, container=_CONTAINER), ModelProfile())
    assert folded([stream]).parts == whole.parts
