"""What the vendor's own client makes of the same bytes, where it needs an answer of ours."""

from __future__ import annotations

import json

import pytest

from nodellm_orm.domain.parts import TextPart, ToolCallPart
from tests.unit.wire.openai_chat.asking import (
    DONE,
    ELSEWHERE,
    HERE,
    PLAIN,
    WIRE,
    asking,
    assistant,
    body,
    chunk,
    result,
    sent,
    stop,
    streamed,
    user,
)

_SQL = 'SELECT "é" -- {'
_CUSTOM = {"name": "sql", "input": _SQL}
_AUDIO = {"id": "audio_1", "data": "QUJD", "expires_at": 1, "transcript": "Guten Tag"}


def _custom_stream() -> bytes:
    opening = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "sql", "input": ""}}
    pieces = [{"index": 0, "custom": {"input": piece}} for piece in (_SQL[:8], _SQL[8:])]
    return b"".join([*(chunk({"tool_calls": [call]}) for call in (opening, *pieces)), stop("tool_calls"), DONE])


@pytest.mark.parametrize("way", ["body", "stream"])
def test_a_custom_call_has_its_name_and_its_whole_input(way: str) -> None:
    """The input is any text: it is an argument of its own, and kept beside it as it came."""
    call = {"id": "call_1", "type": "custom", "custom": _CUSTOM}
    answer = (
        WIRE.parse(body({"content": None, "tool_calls": [call]}, finish="tool_calls"), PLAIN)
        if way == "body"
        else streamed(_custom_stream())
    )
    (part,) = answer.tool_calls
    assert (part.wire_id, part.name, json.loads(part.arguments)) == ("call_1", "sql", {"input": _SQL})
    assert json.loads(part.extra or "") == {"custom": _CUSTOM}
    assert answer.finish_reason == "tool_call"


def test_a_custom_call_goes_back_as_one() -> None:
    """At home the call is sent as it came; elsewhere it is a call of a function with one argument."""
    (part,) = streamed(_custom_stream()).tool_calls
    asked = (user("Hi"), assistant(part), result("call_1"))
    assert sent(asking(*asked))["messages"][1]["tool_calls"] == [
        {"id": "call_1", "type": "custom", "custom": _CUSTOM},
    ]
    (elsewhere,) = sent(asking(*asked, target=ELSEWHERE))["messages"][1]["tool_calls"]
    assert elsewhere["type"] == "function"
    assert json.loads(elsewhere["function"]["arguments"]) == {"input": _SQL}


def test_a_custom_call_at_the_limit_is_not_taken_for_a_whole_one() -> None:
    """Where the answer was cut off, the input may be half of what was meant: such a call is never run."""
    answer = WIRE.parse(body({"content": None, "tool_calls": [{"id": "c", "custom": _CUSTOM}]}, finish="length"), PLAIN)
    assert [part.truncated for part in answer.tool_calls] == [True]
    assert answer.finish_reason == "length"


def test_custom_and_plain_calls_may_stand_side_by_side() -> None:
    """Each call of an answer has its own kind, and a plain one keeps its arguments to the letter."""
    calls = [
        {"id": "call_1", "type": "custom", "custom": _CUSTOM},
        {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": '{ "b":1.0}'}},
    ]
    answer = WIRE.parse(body({"content": None, "tool_calls": calls}), PLAIN)
    assert [(part.name, part.arguments) for part in answer.tool_calls][1] == ("f", '{ "b":1.0}')
    assert [part.name for part in answer.tool_calls] == ["sql", "f"]


def test_a_spoken_answer_is_kept_whole_and_goes_on_as_its_words() -> None:
    """The recording is kept with the text; later requests say what was said in it."""
    answer = WIRE.parse(body({"content": None, "audio": _AUDIO}), PLAIN)
    (part,) = answer.parts
    assert isinstance(part, TextPart)
    assert json.loads(part.extra or "") == {"audio": _AUDIO}
    for target in (HERE, ELSEWHERE):
        messages = sent(asking(user("Hi"), assistant(part), user("And?"), target=target))["messages"]
        assert messages[1] == {"role": "assistant", "content": "Guten Tag"}


def test_a_streamed_recording_is_put_together() -> None:
    """Id, transcript, bytes and expiry come in pieces of their own."""
    pieces = [{"id": "audio_1"}, {"transcript": "Guten "}, {"transcript": "Tag"}, {"data": "QU"}, {"data": "JD"}]
    chunks = [chunk({"audio": piece}) for piece in (*pieces, {"expires_at": 1})]
    (part,) = streamed(*chunks, stop(), DONE).parts
    assert isinstance(part, TextPart)
    assert json.loads(part.extra or "")["audio"] == _AUDIO


def test_calls_that_arrive_in_turns_keep_their_own_arguments() -> None:
    """Fragments of two calls in one chunk and in turns go to the call of their index."""
    opened = [
        {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": ""}}
        for at in (0, 1)
    ]
    more = [{"index": at, "function": {"arguments": piece}} for piece in ('{"x":', "1.50}") for at in (1, 0)]
    chunks = [
        chunk({"tool_calls": opened}),
        chunk({"tool_calls": more[:2]}),
        *(chunk({"tool_calls": [m]}) for m in more[2:]),
    ]
    calls = streamed(*chunks, stop("tool_calls"), DONE).tool_calls
    assert calls == tuple(
        ToolCallPart(call_id=f"call_{at}", wire_id=f"call_{at}", name="f", arguments='{"x":1.50}') for at in (0, 1)
    )
