"""Calls whose input is a text of any form: tools of the caller's own, offered through raw parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.events import ToolCallDelta
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import ToolCallPart
from tests.unit.wire.openai_responses.asking import (
    ELSEWHERE,
    HERE,
    LENIENT,
    asking,
    assistant,
    called,
    completed,
    custom_call,
    event,
    fed,
    folded,
    function_call,
    items,
    parsed,
    result,
    said,
    sent,
    streamed,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.ports.wire import RenderCache

_LIMIT: Any = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
_TEXT = 'SELECT "ä"\n'


def _item(step: str, text: str, **members: object) -> bytes:
    return event(f"response.output_item.{step}", item=custom_call(text, **members), output_index=0)


def _input(step: str, **members: object) -> bytes:
    return event(f"response.custom_tool_call_input.{step}", output_index=0, item_id="ctc_1", **members)


def _call(completion: Completion) -> ToolCallPart:
    [part] = completion.parts
    assert isinstance(part, ToolCallPart)
    return part


def test_a_custom_call_is_a_call() -> None:
    """Its input is an object's only member, and what it came as is kept beside it."""
    completion = parsed(custom_call(namespace="db"))
    call = _call(completion)
    assert (call.call_id, call.wire_id, call.name, call.truncated) == ("call_1", "call_1", "sql", False)
    assert loads(call.arguments) == {"input": "SELECT 1"}
    assert call.extra is not None
    assert loads(call.extra) == {
        "type": "custom_tool_call",
        "input": "SELECT 1",
        "id": "ctc_1",
        "namespace": "db",
    }
    assert completion.finish_reason is FinishReason.TOOL_CALL


def test_a_custom_call_without_an_input_has_an_empty_one() -> None:
    """Nothing said is still a text."""
    assert loads(_call(parsed(custom_call(""))).arguments) == {"input": ""}


@pytest.mark.parametrize(
    "steps",
    [
        [_input("delta", delta=_TEXT[:4]), _input("delta", delta=_TEXT[4:])],
        [_input("delta", delta="wrong"), _input("done", input=_TEXT)],
        [_input("done", input=_TEXT), _item("done", _TEXT)],
        [_input("delta", delta="wrong"), _item("done", _TEXT)],
        [_input("delta", delta=_TEXT), event("response.output_item.done", item={"id": "ctc_1"}, output_index=0)],
        [],
    ],
)
def test_a_streamed_custom_call_is_what_the_body_has(steps: list[bytes]) -> None:
    """By deltas, by the whole input, by the final form of the item, which counts most, and by the response alone."""
    output = [custom_call(_TEXT)] if len(steps) != 2 else []
    whole = parsed(custom_call(_TEXT))
    completion = streamed(_item("added", "", status="in_progress"), *steps, completed(*output))
    assert completion.parts == whole.parts
    assert completion.finish_reason is FinishReason.TOOL_CALL


def test_a_custom_call_is_told_as_it_begins() -> None:
    """Its name comes first, and no piece of its input passes for a piece of JSON."""
    events = fed([_item("added", ""), _input("delta", delta="SELECT 1"), completed()])
    assert [found for found in events if isinstance(found, ToolCallDelta)] == [
        ToolCallDelta(index="0", wire_id="call_1", name="sql")
    ]
    assert loads(_call(folded(events)).arguments) == {"input": "SELECT 1"}


@pytest.mark.parametrize("status", [{}, {"status": "incomplete"}, {"status": "in_progress"}])
def test_a_custom_call_that_the_limit_cut_is_truncated(status: dict[str, str]) -> None:
    """Its input does not tell, so that the last one counts as cut off unless the server says it is complete."""
    item = custom_call("SELECT", **status)
    whole = parsed(item, **_LIMIT)
    assert _call(whole).truncated
    assert whole.finish_reason is FinishReason.LENGTH
    ended = [_item("added", ""), _input("delta", delta="SELECT")]
    for steps in (ended, [*ended, _item("done", "SELECT", **status)]):
        completion = streamed(*steps, completed(item, **_LIMIT))
        assert (completion.parts, completion.finish_reason) == (whole.parts, whole.finish_reason)


def test_a_custom_call_before_the_cut_is_whole() -> None:
    """One that is complete, and one that others follow."""
    assert not _call(parsed(custom_call(status="completed"), **_LIMIT)).truncated
    first, last = parsed(custom_call(), function_call('{"a'), **_LIMIT).tool_calls
    assert (first.truncated, last.truncated) == (False, True)


def test_a_custom_call_without_an_end_is_truncated() -> None:
    """Where a server ends its streams without a word, an item that has ended is whole."""
    begun = [_item("added", ""), _input("delta", delta="SELECT 1")]
    assert _call(streamed(*begun, profile=LENIENT)).truncated
    assert not _call(streamed(*begun, _item("done", "SELECT 1"), profile=LENIENT)).truncated


def test_a_custom_call_goes_home_as_one() -> None:
    """With its id, and its result in the form that belongs to it, beside calls of functions."""
    item = custom_call(_TEXT, namespace="db")
    answer = assistant(*parsed(item).parts, called("call_2", "fc_2"))
    found = items(user("?"), answer, result("call_2"), result("call_1", "1 row"))[1:]
    assert found[0] == item
    assert [(each["type"], each["call_id"]) for each in found[1:]] == [
        ("function_call", "call_2"),
        ("custom_tool_call_output", "call_1"),
        ("function_call_output", "call_2"),
    ]
    assert found[2]["output"] == "1 row"


def test_the_id_of_a_custom_call_goes_with_the_others() -> None:
    """Where one item of the answer has none, it has none either."""
    found = items(assistant(said("Hm.", None), *parsed(custom_call()).parts), result("call_1"))
    assert found[1] == {"type": "custom_tool_call", "call_id": "call_1", "name": "sql", "input": "SELECT 1"}


def test_elsewhere_a_custom_call_is_one_of_a_function() -> None:
    """And so is its result."""
    answer = assistant(*parsed(custom_call()).parts, origin=ELSEWHERE)
    assert items(answer, result("call_1", "1 row")) == [
        {"type": "function_call", "call_id": "call_1", "name": "sql", "arguments": '{"input":"SELECT 1"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "1 row"},
    ]


def test_results_of_custom_calls_are_the_same_from_a_cache() -> None:
    """What was rendered before does not differ from what is rendered afresh."""
    conversation = [user("?"), assistant(*parsed(custom_call()).parts, origin=HERE), result("call_1")]
    cache: RenderCache = {}
    sent(asking(*conversation[:2]), cache)
    request = asking(*conversation, user("And?"))
    assert dumps(sent(request, cache)) == dumps(sent(request, cache)) == dumps(sent(request))
