"""Conversations: what each message becomes, and what the API's rules make of their order."""

from __future__ import annotations

import pytest

from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import (
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolResultPart,
)
from tests.unit.wire.anthropic.asking import (
    ELSEWHERE,
    HERE,
    WIRE,
    asking,
    assistant,
    call,
    contents,
    result,
    user,
)

_TEXT = {"type": "text", "text": "Hi"}
_THINKING = ThinkingPart(text="Hm", signature="c2ln")
_SEARCH = OpaquePart(payload='{"type":"server_tool_use","id":"srv_1","name":"web_search","input":{"q":1.50}}')
_FOUND = OpaquePart(payload='{"type":"web_search_tool_result","tool_use_id":"srv_1","content":[]}')


def test_an_answer_goes_back_as_it_came() -> None:
    """At its origin, thinking, server blocks, citations and calls are replayed in their order, to the byte."""
    answer = assistant(
        _THINKING,
        ThinkingPart(redacted=True, opaque='{"type":"redacted_thinking","data":"x"}'),
        ThinkingPart(text="", signature="c2ln", opaque='{"type":"thinking","thinking":"","signature":"c2ln","v":1e2}'),
        TextPart(text="So", extra='{"citations":[{"i":1.0}]}'),
        _SEARCH,
        _FOUND,
        call(arguments='{"n": 1.50, "n": 2}'),
    )
    body = WIRE.render(asking(user("Hi"), answer, result())).body
    assert (
        b'[{"type":"thinking","thinking":"Hm","signature":"c2ln"},'
        b'{"type":"redacted_thinking","data":"x"},'
        b'{"type":"thinking","thinking":"","signature":"c2ln","v":1e2},'
        b'{"type":"text","text":"So","citations":[{"i":1.0}]},'
        b'{"type":"server_tool_use","id":"srv_1","name":"web_search","input":{"q":1.50}},'
        b'{"type":"web_search_tool_result","tool_use_id":"srv_1","content":[]},'
        b'{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"n": 1.50, "n": 2}}]'
    ) in body


@pytest.mark.parametrize(
    "origin",
    [ELSEWHERE, Origin(provider="anthropic", api="anthropic", endpoint="https://proxy.example", model=HERE.model)],
)
def test_opaque_state_stays_at_home(origin: Origin) -> None:
    """Thinking, server blocks and citations of another endpoint are left out; text and calls are not."""
    answer = assistant(_THINKING, TextPart(text="Hi", extra='{"citations":[]}'), _SEARCH, _FOUND, call(), origin=origin)
    assert contents(asking(user("Hi"), answer, result()))[1][1] == [
        _TEXT,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
    ]


def test_unsigned_thinking_is_not_sent() -> None:
    """Thinking that was interrupted before its signature cannot be proved and is left out."""
    opaque = '{"type":"thinking","thinking":"Hm","signature":"","v":2}'
    thoughts = [ThinkingPart(text="Hm", signature=signed) for signed in (None, "")]
    answer = assistant(*thoughts, ThinkingPart(text="Hm", signature="", opaque=opaque), TextPart(text="Hi"))
    assert contents(asking(user("Hi"), answer, user("Go on")))[1][1] == [_TEXT]


def test_no_message_ends_in_thinking() -> None:
    """An answer cut off while the model thought is left out: the API takes no message that ends so."""
    thought, spoke = assistant(_THINKING), assistant(TextPart(text="Hi"), _THINKING)
    assert contents(asking(user("a"), thought, user("b"))) == [
        ("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    ]
    assert contents(asking(user("a"), spoke, user("b")))[1][1] == [_TEXT]


def test_a_partial_answer_is_its_text() -> None:
    """Of an answer that broke off only the text goes back, without calls, thinking or citations."""
    answer = assistant(_THINKING, TextPart(text="Hi", extra='{"citations":[]}'), call(), status="partial")
    assert contents(asking(user("a"), answer, user("b")))[1] == ("assistant", [_TEXT])


def test_two_users_in_a_row_are_one() -> None:
    """Messages that follow each other in one role become one, its blocks in order."""
    nothing = assistant(_THINKING, status="partial")
    assert contents(asking(user("a"), nothing, user("b"))) == [
        ("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    ]


def test_results_of_a_round_come_first_and_together() -> None:
    """All results are in one user message, before anything else the user says."""
    messages = [assistant(call("a"), call("b")), result("b", "2"), user("Well?"), result("a", "1")]
    turns = contents(asking(user("Hi"), *messages))
    assert turns[2:] == [
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "b", "content": "2"},
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "text", "text": "Well?"},
            ],
        )
    ]


@pytest.mark.parametrize("after", [[], [user("Never mind.")], [result("a")]])
def test_a_call_without_a_result_is_answered(after: list[Message]) -> None:
    """A call that nothing answered gets a result that says so: the API refuses a call without one."""
    turns = contents(asking(user("Hi"), assistant(call("a"), call("b")), *after))
    results = {b["tool_use_id"]: b.get("is_error", False) for b in turns[2][1] if b["type"] == "tool_result"}
    assert results == {"a": after != [result("a")], "b": True}
    assert [role for role, _ in turns] == ["user", "assistant", "user"]


def test_a_result_without_a_call_is_told() -> None:
    """What answers no call of the message before, or answers it a second time, goes along as text."""
    turns = contents(asking(user("Hi"), result("x", "lost"), assistant(call("a")), result("a"), result("a", "again")))
    assert turns[0][1][1] == {"type": "text", "text": "Result of an earlier call of get_weather:\nlost"}
    assert [block["type"] for block in turns[2][1]] == ["tool_result", "text"]


def test_the_user_begins() -> None:
    """A conversation that an assistant begins is given a beginning that depends on nothing else."""
    turns = contents(asking(assistant(TextPart(text="Welcome!")), user("Hi")))
    assert turns == [
        ("user", [{"type": "text", "text": "(The conversation goes on from here.)"}]),
        ("assistant", [{"type": "text", "text": "Welcome!"}]),
        ("user", [_TEXT]),
    ]


@pytest.mark.parametrize("parts", [(), (TextPart(text=""),), (TextPart(text=" \n"),)])
def test_a_user_who_says_nothing(parts: tuple[TextPart, ...]) -> None:
    """An empty message of the user is sent as one that says so, so that it is the one answered."""
    turns = contents(asking(user("a"), assistant(TextPart(text="Hi")), Message(role="user", parts=parts)))
    assert turns[2] == ("user", [{"type": "text", "text": "(This message is empty.)"}])


def test_empty_blocks_are_left_out() -> None:
    """Empty text, and blank text that joins nothing, is not sent; a blank between two texts is."""
    blanks = assistant(
        TextPart(text=""),
        TextPart(text=" "),
        TextPart(text="a"),
        TextPart(text=" "),
        TextPart(text="b"),
        TextPart(text="\n"),
    )
    assert [block["text"] for block in contents(asking(user("Hi"), blanks, user("?")))[1][1]] == ["a", " ", "b"]


def test_a_refusal_goes_back_as_text() -> None:
    """The words of a refusal are what the assistant said."""
    assert contents(asking(user("Hi"), assistant(RefusalPart(text="No.")), user("?")))[1][1] == [
        {"type": "text", "text": "No."}
    ]


def test_instructions_in_the_middle_are_the_users() -> None:
    """A system message within the conversation is marked and stands where it stood."""
    system = Message(role="system", parts=(TextPart(text="Be kind."),))
    assert contents(asking(user("Hi"), system))[0][1][1] == {"type": "text", "text": "<system>\nBe kind.\n</system>"}


def test_ids_and_names_are_made_legal() -> None:
    """Ids and names from elsewhere are changed where the API refuses them, the same way for call and result."""
    odd = call("call.1/é" + "x" * 100, name="a.b/c" + "d" * 200)
    turns = contents(asking(user("Hi"), assistant(odd, origin=ELSEWHERE), result(odd.call_id)))
    use, answer = turns[1][1][0], turns[2][1][0]
    assert use["id"] == answer["tool_use_id"]
    assert use["id"].startswith("call_1__xx")
    assert len(use["id"]) <= 64
    assert (use["name"][:5], len(use["name"])) == ("a_b_c", 128)
    other = contents(asking(user("Hi"), assistant(call("call_1/é"), origin=ELSEWHERE), result("call_1/é")))
    assert other[1][1][0]["id"] != use["id"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (" ", {}),
        ("{broken", {"INVALID_JSON": "{broken"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"x":NaN}', {"INVALID_JSON": '{"x":NaN}'}),
        ("[" * 5000, {"INVALID_JSON": "[" * 5000}),
    ],
)
def test_arguments_are_always_an_object(arguments: str, expected: dict[str, object]) -> None:
    """Arguments that are no object are shown to the model as they came, within one."""
    assert contents(asking(user("Hi"), assistant(call(arguments=arguments)), result()))[1][1][0]["input"] == expected


def test_numbers_out_of_range_go_back() -> None:
    """A number that no double holds is replayed with its digits."""
    body = WIRE.render(asking(user("Hi"), assistant(call(arguments='{"x":1e999}')), result())).body
    assert b'"input":{"x":1e999}' in body


def test_what_a_tool_gave() -> None:
    """Results carry their text and whether they failed; an empty one has no content, a silent failure says so."""
    calls = [call(i) for i in "abc"]
    answers = [result("a", "", is_error=False), result("b", " ", is_error=True), result("c", "no", is_error=True)]
    assert contents(asking(user("Hi"), assistant(*calls), *answers))[2][1] == [
        {"type": "tool_result", "tool_use_id": "a"},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": "The tool failed without saying why.",
            "is_error": True,
        },
        {"type": "tool_result", "tool_use_id": "c", "content": "no", "is_error": True},
    ]


def test_blocks_of_a_later_version_are_not_sent() -> None:
    """A part that this version could not read is no content block and stays out."""
    assert contents(asking(user("a"), assistant(OpaquePart(payload='{"unknown_part":{}}'), TextPart(text="Hi"))))[1][
        1
    ] == [_TEXT]


def test_a_paused_answer_is_one_with_its_continuation() -> None:
    """The pieces of a paused answer follow each other in one message, the server's call before its result."""
    turns = contents(asking(user("Hi"), assistant(_SEARCH), assistant(_FOUND, TextPart(text="Hi")), user("Thanks")))
    assert [block["type"] for block in turns[1][1]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert [role for role, _ in contents(asking(user("Hi"), assistant(_SEARCH)))] == ["user", "assistant"]


def test_an_unfinished_call_of_the_server_waits_for_its_result() -> None:
    """Between results of the caller's own tools it stays; once the user went on without it, it is dropped."""
    waiting = [user("Hi"), assistant(TextPart(text="Hi"), _SEARCH, call()), result()]
    assert [block["type"] for block in contents(asking(*waiting))[1][1]] == ["text", "server_tool_use", "tool_use"]
    gone = contents(asking(user("Hi"), assistant(TextPart(text="Hi"), _SEARCH), user("Stop.")))
    assert gone[1][1] == [_TEXT]


def test_results_of_several_parts() -> None:
    """A message may carry the results of a whole round."""
    both = Message(
        role="tool",
        parts=tuple(ToolResultPart(call_id=i, name="f", content=i) for i in "ab"),
    )
    turns = contents(asking(user("Hi"), assistant(call("a"), call("b")), both))
    assert [(block["tool_use_id"], block["content"]) for block in turns[2][1]] == [("a", "a"), ("b", "b")]
