"""Whole bodies: every shape that servers send gives the same values, and what is no answer is an error."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    NodeLLMError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    RateLimitError,
)
from nodellm_orm.testing import FakeCall, openai_chat_body
from tests.unit.wire.openai_chat.asking import PLAIN, TAGGED, WIRE, body


def parts(message: object, **options: Any) -> tuple[object, ...]:
    return WIRE.parse(body(message, **options), ModelProfile()).parts


def call(**members: object) -> dict[str, object]:
    return {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, **members}


def test_a_full_answer_is_read() -> None:
    """Text, calls, tokens, finish reason, model and id of a response as OpenAI sends it."""
    fake = openai_chat_body("Hi", tool_calls=[FakeCall("f", '{"a": 1}', "c1")], cached_tokens=3, reasoning_tokens=2)
    answer = WIRE.parse(json.dumps(fake).encode(), ModelProfile())
    assert answer.parts == (
        TextPart(text="Hi"),
        ToolCallPart(call_id="c1", wire_id="c1", name="f", arguments='{"a": 1}'),
    )
    assert answer.usage == Usage(input_tokens=11, cached_tokens=3, output_tokens=7, reasoning_tokens=2)
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_call", "tool_calls")
    assert (answer.model, answer.response_id, answer.complete) == ("gpt-5-mini", "chatcmpl-1", True)


@pytest.mark.parametrize(
    ("raw", "message", "expected"),
    [
        ("stop", {"content": "x"}, "stop"),
        ("eos", {"content": "x"}, "stop"),
        ("end_turn", {"content": "x"}, "stop"),
        ("STOP", {"content": "x"}, "stop"),
        ("", {"content": "x"}, "stop"),
        (None, {"content": "x"}, "stop"),
        (None, {"content": None}, "unknown"),
        ("length", {"content": "x"}, "length"),
        ("model_length", {"content": "x"}, "length"),
        ("content_filter", {"content": ""}, "content_filter"),
        ("sensitive", {"content": ""}, "content_filter"),
        ("error", {"content": "x"}, "error"),
        ("insufficient_system_resource", {"content": "x"}, "error"),
        ("something_new", {"content": "x"}, "unknown"),
        ("something_new", {"tool_calls": [call()]}, "tool_call"),
        ("stop", {"tool_calls": [call()]}, "tool_call"),
        (None, {"tool_calls": [call()]}, "tool_call"),
        ("function_call", {"function_call": {"name": "f", "arguments": "{}"}}, "tool_call"),
        ("tool_calls", {"content": "x", "tool_calls": []}, "stop"),
        ("stop", {"refusal": "No."}, "content_filter"),
    ],
)
@pytest.mark.fault("A43")
def test_finish_reasons_come_from_words_and_parts(raw: str | None, message: object, expected: str) -> None:
    """The vocabulary is ours; calls and refusals outrank the server's word, which is kept beside it."""
    answer = WIRE.parse(body(message, finish=raw), ModelProfile())
    assert answer.finish_reason == expected
    assert answer.raw_finish_reason == (raw or None)


@pytest.mark.fault("A43")
def test_a_call_cut_by_the_length_is_marked() -> None:
    """Its arguments are no JSON: it is never run, and the finish reason says why."""
    cut = {"id": "a", "function": {"name": "f", "arguments": '{"a": '}}
    answer = WIRE.parse(body({"tool_calls": [cut]}, finish="length"), ModelProfile())
    assert answer.finish_reason == "length"
    assert answer.tool_calls[0].truncated


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "Hi"}, (TextPart(text="Hi"),)),
        ({"content": ""}, ()),
        ({"content": None}, ()),
        ({}, ()),
        (None, ()),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, (TextPart(text="ab"),)),
        ({"content": ["a", "b"]}, (TextPart(text="ab"),)),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, (RefusalPart(text="No."),)),
        ({"content": None, "refusal": "No."}, (RefusalPart(text="No."),)),
        ({"content": "a", "refusal": ""}, (TextPart(text="a"),)),
        (
            {"content": [{"type": "text", "text": "a", "citations": [1.50]}, {"type": "text", "text": "b"}]},
            (TextPart(text="a", extra='{"citations":[1.5]}'), TextPart(text="b")),
        ),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "new", "x": 1}, {"type": "text", "text": "b"}]},
            (TextPart(text="a"), OpaquePart(payload='{"type":"new","x":1}'), TextPart(text="b")),
        ),
        ({"content": [None, 7, []]}, ()),
        ({"content": 7}, ()),
    ],
)
def test_content_is_read_in_every_shape(message: object, expected: tuple[object, ...]) -> None:
    """Strings, lists of typed items, nothing; what is not understood is kept."""
    assert parts(message) == expected


@pytest.mark.fault("A47")
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_thinking_is_read_from_every_field(field: str) -> None:
    """It comes before the text and remembers the field it came in; null and empty are none."""
    assert parts({"content": "x", field: "Hm."}) == (ThinkingPart(text="Hm.", field=field), TextPart(text="x"))
    assert parts({"content": "x", field: None}) == (TextPart(text="x"),)
    assert parts({"content": "x", field: ""}) == (TextPart(text="x"),)


def test_the_same_thinking_in_two_fields_is_read_once() -> None:
    """Servers on the move from one name to another send both."""
    twice = {"content": "x", "reasoning": "Hm.", "reasoning_content": "Hm."}
    assert parts(twice)[0] == ThinkingPart(text="Hm.", field="reasoning_content")


@pytest.mark.fault("A47")
def test_structured_thinking_is_kept_verbatim() -> None:
    """Text for people, the signature, and the list itself with its digits and key order."""
    first = '{"index":0,"type":"reasoning.text","text":"Hm.","signature":"c2ln","n":1.50}'
    details = f'[{first},{{"type":"reasoning.encrypted","data":"eA"}}]'
    raw = f'{{"choices":[{{"message":{{"content":"x","reasoning":"Hm.","reasoning_details":{details}}}}}]}}'
    thinking = WIRE.parse(raw.encode(), ModelProfile()).parts[0]
    assert thinking == ThinkingPart(text="Hm.", signature="c2ln", field="reasoning_details", opaque=details)


def test_thinking_in_the_content_is_kept_verbatim() -> None:
    """Mistral's chunks keep their place and all their members."""
    item = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True}
    assert parts({"content": [item, {"type": "text", "text": "x"}]}) == (
        ThinkingPart(text="Hm.", field="content", opaque=json.dumps(item, separators=(",", ":"))),
        TextPart(text="x"),
    )


@pytest.mark.parametrize(
    ("content", "thinking", "text"),
    [
        ("<think>Hm.</think>\n\nYes", "Hm.", "Yes"),
        ("\n <think>\nHm.</think>Yes", "Hm.", "Yes"),
        ("<thinking>Hm.</thinking>Yes", "Hm.", "Yes"),
        ("<thinking>a</think>b</thinking>Yes", "a</think>b", "Yes"),
        ("Hm.</think>\nYes", "Hm.", "Yes"),
        ("</think>Yes", "", "Yes"),
        ("<think></think>Yes", "", "Yes"),
        ("<think>Hm.", "Hm.", ""),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("Use <think>x</think> tags", "", "Use <think>x</think> tags"),
        ("<thin", "", "<thin"),
        ("a < b", "", "a < b"),
        (" \n", "", " \n"),
        ("  Yes", "", "  Yes"),
        ("<THINK>Hm.</THINK>", "", "<THINK>Hm.</THINK>"),
    ],
)
def test_thinking_between_tags_is_taken_out_of_the_text(content: str, thinking: str, text: str) -> None:
    """At the start of the text, with or without its opening tag, where the profile expects it."""
    answer = WIRE.parse(body({"content": content}), TAGGED)
    assert "".join(part.text for part in answer.parts if isinstance(part, ThinkingPart)) == thinking
    assert answer.text == text
    assert WIRE.parse(body({"content": content}), PLAIN).text == content


def test_tags_beside_a_field_of_thinking_are_text() -> None:
    """A server that separates the thinking itself leaves none in the text."""
    answer = WIRE.parse(body({"content": "The tag </think> ends it", "reasoning_content": "Hm."}), TAGGED)
    assert answer.text == "The tag </think> ends it"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (call(), ("a", "f", "{}")),
        (call(id=None), (None, "f", "{}")),
        (call(id=""), (None, "f", "{}")),
        (call(type=None, index=3), ("a", "f", "{}")),
        (call(function={"name": "f", "arguments": ' {"x" : 1.50} '}), ("a", "f", ' {"x" : 1.50} ')),
        (call(function={"name": "f", "arguments": {"x": 1, "y": "ü"}}), ("a", "f", '{"x":1,"y":"ü"}')),
        (call(function={"name": "f", "arguments": ""}), ("a", "f", "{}")),
        (call(function={"name": "f", "arguments": None}), ("a", "f", "{}")),
        (call(function={"name": "f", "arguments": "null"}), ("a", "f", "{}")),
        (call(function={"name": "f"}), ("a", "f", "{}")),
        (call(function={"name": "f", "arguments": "{'x': 1}"}), ("a", "f", "{'x': 1}")),
        ({"name": "f", "arguments": "{}"}, (None, "f", "{}")),
        (call(function={"name": None, "arguments": "{}"}), ("a", "", "{}")),
    ],
)
@pytest.mark.fault("A38")
@pytest.mark.fault("A39")
def test_calls_are_read_in_every_shape(item: object, expected: tuple[str | None, str, str]) -> None:
    """Ids may be missing, arguments an object, empty or broken: they are kept as the server gave them."""
    (part,) = WIRE.parse(body({"tool_calls": [item]}), ModelProfile()).tool_calls
    assert (part.wire_id, part.name, part.arguments) == expected
    assert part.call_id == (expected[0] or "")


@pytest.mark.fault("A36")
def test_calls_of_one_body_are_never_merged() -> None:
    """The same id, the same index and the same name do not make two calls one."""
    assert len(parts({"tool_calls": [call(index=0), call(index=0), call(index=0)]})) == 3


@pytest.mark.parametrize("calls", [None, [], [None], "none", [{}]])
def test_no_calls_are_no_calls(calls: object) -> None:
    """Null, an empty list and rubbish are the same."""
    assert parts({"content": "x", "tool_calls": calls}) == (TextPart(text="x"),)


def test_members_beyond_call_and_text_are_kept_verbatim() -> None:
    """A vendor's signature on a call and annotations of the text keep digits and order; empty ones are left out."""
    raw = (
        '{"choices":[{"message":{"content":"x","annotations":[{"n":1.50,"b":1,"a":2}],"audio":null,"images":[],'
        '"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"s":"e","n":1.0}}}]}}]}'
    )
    text, tool = WIRE.parse(raw.encode(), ModelProfile()).parts
    assert text == TextPart(text="x", extra='{"annotations":[{"n":1.50,"b":1,"a":2}]}')
    assert isinstance(tool, ToolCallPart)
    assert tool.extra == '{"extra_content":{"google":{"s":"e","n":1.0}}}'


def test_the_first_choice_is_the_answer() -> None:
    """Others are left out, wherever the first one stands."""
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert WIRE.parse(json.dumps({"choices": choices}).encode(), ModelProfile()).text == "a"


@pytest.mark.fault("A46")
def test_model_and_id_are_the_providers_or_unknown() -> None:
    """What is empty or no string is unknown."""
    answer = WIRE.parse(body({"content": "x"}, model="", id=7), ModelProfile())
    assert (answer.model, answer.response_id) == (None, None)


_STATED = {"prompt_tokens": 10, "completion_tokens": 5}


@pytest.mark.fault("A45")
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ("many", Usage()),
        (_STATED, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "total_tokens": 15}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "total_tokens": None}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "total_tokens": 0}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "total_tokens": 99}, Usage()),
        ({"prompt_tokens": -1, "completion_tokens": 5}, Usage(output_tokens=5)),
        ({"prompt_tokens": 10, "completion_tokens": -5}, Usage(input_tokens=10)),
        ({"prompt_tokens": 10, "completion_tokens": None}, Usage(input_tokens=10)),
        ({"prompt_tokens": 10, "completion_tokens": 0}, Usage(input_tokens=10, output_tokens=0)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
        ({"prompt_tokens": "10", "completion_tokens": True}, Usage()),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.5}, Usage(input_tokens=10)),
        ({"prompt_tokens": 10**30, "completion_tokens": 5}, Usage(output_tokens=5)),
        (
            {**_STATED, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0, "audio_tokens": 2}},
            Usage(
                input_tokens=10,
                output_tokens=5,
                cached_tokens=4,
                cache_write_tokens=0,
                other_tokens={"input_audio_tokens": 2},
            ),
        ),
        ({**_STATED, "prompt_tokens_details": None}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "prompt_tokens_details": {"cached_tokens": 11}}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "prompt_tokens_details": {"cached_tokens": -1}}, Usage(input_tokens=10, output_tokens=5)),
        ({**_STATED, "prompt_cache_hit_tokens": 3}, Usage(input_tokens=10, output_tokens=5, cached_tokens=3)),
        ({**_STATED, "num_cached_tokens": 3}, Usage(input_tokens=10, output_tokens=5, cached_tokens=3)),
        (
            {**_STATED, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(input_tokens=10, output_tokens=5, reasoning_tokens=4),
        ),
        (
            {**_STATED, "completion_tokens_details": {"reasoning_tokens": 9}},
            Usage(input_tokens=10, output_tokens=5),
        ),
        (
            {**_STATED, "total_tokens": 115, "completion_tokens_details": {"reasoning_tokens": 100}},
            Usage(input_tokens=10, output_tokens=105, reasoning_tokens=100),
        ),
        (
            {**_STATED, "total_tokens": 55, "prompt_tokens_details": {"audio_tokens": 40}},
            Usage(input_tokens=50, output_tokens=5, other_tokens={"input_audio_tokens": 40}),
        ),
        (
            {
                **_STATED,
                "total_tokens": 58,
                "prompt_tokens_details": {"audio_tokens": 40},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(input_tokens=50, output_tokens=8, reasoning_tokens=3, other_tokens={"input_audio_tokens": 40}),
        ),
        (
            {**_STATED, "server_tool_use_details": {"web_search_requests": 2}},
            Usage(input_tokens=10, output_tokens=5, other_tokens={"web_searches": 2}),
        ),
    ],
)
def test_usage_is_what_makes_sense_of_it(usage: object, expected: Usage) -> None:
    """What is missing, negative or contradicts itself is unknown, never 0."""
    assert WIRE.parse(body({"content": "x"}, usage=usage), ModelProfile()).usage == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ('{"cost":0.0000045}', Decimal("0.0000045")),
        ('{"cost":4.5e-06}', Decimal("0.0000045")),
        ('{"cost":0.10000000000000000555}', Decimal("0.10000000000000000555")),
        ('{"cost":0}', Decimal(0)),
        ('{"cost":-1}', None),
        ('{"cost":"1"}', None),
        ('{"cost":{"total":1}}', None),
        ('{"cost":1e999999999999}', None),
        ('{"cost":1e9999999999999999999999}', None),
        ('{"cost":null}', None),
        ('{"cost_in_usd_ticks":645000}', Decimal("0.0000645")),
        ('{"cost":1,"cost_in_usd_ticks":645000}', Decimal(1)),
    ],
)
def test_a_reported_cost_keeps_its_digits(usage: str, expected: Decimal | None) -> None:
    """Exact decimals of dollars; what is no amount is unknown."""
    raw = f'{{"choices":[{{"message":{{"content":"x"}}}}],"usage":{usage}}}'
    assert WIRE.parse(raw.encode(), ModelProfile()).usage.reported_cost == expected


@pytest.mark.fault("A20")
@pytest.mark.parametrize(
    ("raw", "cls", "match"),
    [
        ({"error": {"message": "m", "type": "overloaded_error"}}, OverloadedError, "m"),
        ({"error": {"message": "m", "code": 429}, "choices": None}, RateLimitError, "m"),
        ({"error": "invalid key", "code": "invalid_api_key"}, ProviderError, "invalid key"),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, AuthenticationError, "m"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, BadRequestError, "m"),
        ({"type": "error", "message": "m", "code": 400}, BadRequestError, "m"),
        ({"detail": "m"}, ProviderError, "m"),
        ({"choices": [{"error": {"code": 502, "message": "m"}, "message": {"content": "x"}}]}, ProviderError, "m"),
        ({"choices": [{"message": {"content": "x"}}], "error": {"message": "m", "code": 503}}, OverloadedError, "m"),
    ],
)
def test_an_error_behind_a_200_is_that_error(raw: object, cls: type[ProviderError], match: str) -> None:
    """Its class is what its words stand for, its message the provider's."""
    with pytest.raises(cls, match=match) as caught:
        WIRE.parse(json.dumps(raw).encode(), ModelProfile())
    assert not isinstance(caught.value, ProtocolError)


@pytest.mark.fault("A19")
@pytest.mark.fault("A21")
@pytest.mark.fault("A22")
@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b'"text"', "not an object"),
        (b"Hello", "cannot be read as JSON"),
        (b"<!DOCTYPE html><title>Login</title>", "HTML page"),
        (b"{}", "no choices"),
        (b'{"choices": null}', "no choices"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": [null]}', "no choices"),
        (b'{"choices": {"0": 1}}', "no choices"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', "cannot be read as JSON"),
        (b'{"choices": [{"message": {"content": NaN}}]}', "cannot be read as JSON"),
        (b'{"choices": ' + b"[" * 500 + b"]" * 500 + b"}", "cannot be read as JSON"),
    ],
)
def test_what_is_no_answer_is_a_protocol_error(raw: bytes, match: str) -> None:
    """Nothing, pages, text, other JSON: never an empty answer."""
    with pytest.raises(ProtocolError, match=match):
        WIRE.parse(raw, ModelProfile())


def test_an_answer_without_choices_may_pass() -> None:
    """OpenRouter's empty answers are worth another try, a foreign document is not."""
    for raw, retryable in ((b'{"choices": null}', True), (b"{}", False)):
        with pytest.raises(ProtocolError) as caught:
            WIRE.parse(raw, ModelProfile())
        assert caught.value.retryable is retryable


@pytest.mark.fault("A06")
@pytest.mark.parametrize("end", [1, 20, 60, -1])
def test_a_body_cut_off_is_a_broken_connection(end: int) -> None:
    """The beginning of an answer is never read as one, and may be asked for again."""
    with pytest.raises(ProviderConnectionError) as caught:
        WIRE.parse(body({"content": "Hello } there"})[:end], ModelProfile())
    assert caught.value.retryable


def test_blank_lines_before_the_body_are_skipped() -> None:
    """DeepSeek sends them while a request waits."""
    assert WIRE.parse(b"\n\n\n" + body({"content": "x"}), ModelProfile()).text == "x"


def test_surrogates_that_belong_together_are_joined() -> None:
    """An escaped pair is one character; a lone half is kept."""
    raw = b'{"choices":[{"message":{"content":"\\ud83d\\ude00 \\ud83d"}}]}'
    assert WIRE.parse(raw, ModelProfile()).text == "\U0001f600 \ud83d"


_OUTER = ("choices", "message", "delta", "error", "usage", "prompt_tokens", "finish_reason", "index", "id", "type")
_INNER = ("content", "text", "refusal", "thinking", "reasoning", "reasoning_details", "annotations")
_CALLS = ("tool_calls", "function_call", "function", "name", "arguments")
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_OUTER + _INNER + _CALLS), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_ANYTHING, _ANYTHING)
def test_no_body_escapes_our_errors(message: object, usage: object) -> None:
    """Whatever stands where, the body is an answer or one of our errors."""
    for raw in (body(message, usage=usage), json.dumps(message).encode()):
        try:
            WIRE.parse(raw, TAGGED)
        except NodeLLMError as error:
            assert "; " in str(error)  # noqa: PT017 — either outcome is right


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "r"}, "r"),
        ({"apim-request-id": "a", "x-request-id": "r"}, "r"),
        ({"apim-request-id": "a"}, "a"),
        ({"x-kong-request-id": "k"}, "k"),
        ({"request-id": "q"}, "q"),
        ({"x-request-id": ""}, None),
        ({}, None),
    ],
)
def test_the_request_id_is_found_in_the_headers(headers: dict[str, str], expected: str | None) -> None:
    """Under the names that OpenAI and its kin use."""
    assert WIRE.request_id(headers) == expected


def test_a_failure_carries_all_that_is_known_of_it() -> None:
    """Status, class, request id, retry hint and body of a failed response."""
    raw = json.dumps({"error": {"message": "Slow down", "type": "tokens", "code": "rate_limit_exceeded"}}).encode()
    error = WIRE.failure(429, {"x-request-id": "r", "retry-after": "2"}, raw)
    assert type(error) is RateLimitError
    assert (error.status, error.request_id, error.retry_after, error.retryable) == (429, "r", 2.0, True)
    assert "Slow down" in str(error)
    assert error.body == raw.decode()
