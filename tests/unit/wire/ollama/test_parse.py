"""Whole bodies: which parts, counts and reasons they become, and what is refused."""

from __future__ import annotations

import base64

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import MediaPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.testing import FakeCall, ollama_body, ollama_stream
from tests.unit.wire.ollama.asking import PROFILE, WIRE, line, parsed


def test_a_plain_answer() -> None:
    """Text, model, reason and tokens of a short answer; how long it took is nobody's business here."""
    answer = WIRE.parse(encode(dumps(ollama_body("It is 21 °C."))), PROFILE)
    assert answer.parts == (TextPart(text="It is 21 °C."),)
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.STOP, "stop")
    assert (answer.model, answer.response_id, answer.complete) == ("qwen3:8b", None, True)
    assert answer.usage == Usage(input_tokens=11, output_tokens=7)


def test_thinking_text_and_calls() -> None:
    """The parts are in their order; calls without ids have none, and the reason to stop is derived from them."""
    calls = [FakeCall("f", '{"z": 1.50, "a": {"b": 1e5}}', id="call_x"), FakeCall("g")]
    answer = WIRE.parse(encode(dumps(ollama_body("So.", thinking="Hm.", tool_calls=calls))), PROFILE)
    assert answer.parts == (
        ThinkingPart(text="Hm.", field="thinking"),
        TextPart(text="So."),
        ToolCallPart(call_id="call_x", wire_id="call_x", name="f", arguments='{"z":1.50,"a":{"b":1e5}}'),
        ToolCallPart(call_id="call_1", wire_id="call_1", name="g", arguments="{}"),
    )
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.TOOL_CALL, "stop")
    nameless = WIRE.parse(encode(dumps(ollama_body(tool_calls=calls, call_ids=False))), PROFILE)
    assert [(part.call_id, part.wire_id) for part in nameless.tool_calls] == [("", None), ("", None)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, "{}"), (None, "{}"), ('{"a": 1}', '{"a": 1}'), ("", "{}"), ("{broken", "{broken"), ([1], "[1]")],
)
def test_arguments_that_are_no_object(arguments: object, expected: str) -> None:
    """Arguments in a string are taken out of it, and whatever they are is kept."""
    answer = parsed({"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]})
    assert answer.tool_calls[0].arguments == expected


def test_calls_keep_what_is_not_known_of_them() -> None:
    """Members of a call beyond those read here are kept for its way back; an index or a null is not."""
    function = {"name": "f", "arguments": {}, "index": 0, "thought_signature": "c2ln", "description": ""}
    answer = parsed(
        {"tool_calls": [{"id": "x", "type": "function", "function": function, "kind": 1}, {"function": {}}, 3]}
    )
    (called,) = answer.tool_calls
    assert called.extra == '{"kind":1,"function":{"thought_signature":"c2ln"}}'


def test_a_picture() -> None:
    """A picture that the model made is a file with its type; what is no base 64 is none."""
    png = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(20)
    answer = parsed({"content": "", "images": [base64.b64encode(png).decode(), "?", 3, ""]})
    (part,) = answer.parts
    assert isinstance(part, MediaPart)
    assert (part.media, part.media_type, part.data) == ("image", "image/png", png)


@pytest.mark.parametrize(
    ("content", "thinking", "text"),
    [
        ("<think>Hm.</think>\n\nYes", "Hm.", "Yes"),
        ("Hm.</think>Yes", "Hm.", "Yes"),
        ("Yes <think>", "", "Yes <think>"),
        ("<thi", "", "<thi"),
    ],
)
def test_thinking_between_tags(content: str, thinking: str, text: str) -> None:
    """Older servers leave thinking in the text; it is taken out, and text that is none is not."""
    answer = parsed({"content": content})
    assert "".join(part.text for part in answer.parts if isinstance(part, ThinkingPart)) == thinking
    assert answer.text == text
    beside = parsed({"thinking": "Oh.", "content": "<think>is a tag"})
    assert [part.text for part in beside.parts if isinstance(part, TextPart | ThinkingPart)] == [
        "Oh.",
        "<think>is a tag",
    ]


@pytest.mark.parametrize(
    ("members", "reason", "raw"),
    [
        ({"done_reason": "stop"}, FinishReason.STOP, "stop"),
        ({"done_reason": "length"}, FinishReason.LENGTH, "length"),
        ({"done_reason": "load"}, FinishReason.ERROR, "load"),
        ({"done_reason": "unload"}, FinishReason.ERROR, "unload"),
        ({"done_reason": "new"}, FinishReason.UNKNOWN, "new"),
        ({"done_reason": None}, FinishReason.STOP, None),
        ({"done_reason": "", "done": None}, FinishReason.STOP, None),
    ],
)
def test_reasons(members: dict[str, object], reason: FinishReason, raw: str | None) -> None:
    """Each word has its meaning; without one, an answer has come to its end."""
    answer = parsed({"content": "Hi"}, **members)
    assert (answer.finish_reason, answer.raw_finish_reason) == (reason, raw)
    assert parsed({"content": ""}, done_reason=None).finish_reason is FinishReason.UNKNOWN


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 26, "eval_count": 282}, Usage(input_tokens=26, output_tokens=282)),
        ({"eval_count": 5}, Usage(output_tokens=5)),
        ({}, Usage()),
        ({"prompt_eval_count": -1, "eval_count": "7"}, Usage()),
    ],
)
def test_counts(counts: dict[str, object], usage: Usage) -> None:
    """What the server does not count, as a prompt it had in memory, is unknown and not zero."""
    assert parsed({"content": "Hi"}, **counts).usage == usage


def test_lines_instead_of_a_body() -> None:
    """A server that streams although it was not asked to is understood, and its broken stream is no answer."""
    lines = ollama_stream("Hello, world", thinking="Hm.", tool_calls=[FakeCall("f", {"a": 1})])
    whole = encode(dumps(ollama_body("Hello, world", thinking="Hm.", tool_calls=[FakeCall("f", {"a": 1})])))
    assert WIRE.parse(b"".join(lines), PROFILE) == WIRE.parse(whole, PROFILE)
    for cut in (b"".join(lines[:-1]), b"".join(lines[:2]) + lines[2][:-9], lines[0], whole[:-5]):
        with pytest.raises(errors.ProviderConnectionError, match="cut off"):
            WIRE.parse(cut, PROFILE)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{}", "no message"),
        (b'{"done": false}', "no message"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b"<html>", "HTML page"),
        (b"hello\nworld", "cannot be read as JSON"),
        (b'{"message": "Hi"}', "no message"),
    ],
)
def test_what_is_no_answer(body: bytes, words: str) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(errors.ProtocolError, match=words):
        WIRE.parse(body, PROFILE)


def test_an_error_in_a_success() -> None:
    """An error with the status of a success is one all the same, in the first line as in a later one."""
    for body in (b'{"error":"model runner has unexpectedly stopped"}', line({"content": "Hi"}) + b'{"error":"boom"}\n'):
        with pytest.raises(errors.ServerError):
            WIRE.parse(body, PROFILE)
