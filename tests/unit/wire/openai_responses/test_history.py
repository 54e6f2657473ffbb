"""Messages as input items: an answer goes home as the items it came in, and elsewhere as words and calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.openai_responses.asking import (
    ELSEWHERE,
    HERE,
    PLAIN,
    WIRE,
    asking,
    assistant,
    called,
    items,
    result,
    said,
    thought,
    user,
)

_PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(8)
SEARCH = '{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","n":1.50}}'


def test_an_answer_goes_home_as_the_items_it_came_in() -> None:
    """Ids, phase, status, summary, encrypted content and arguments, each item before the one it led to."""
    answer = assistant(
        thought("I look."),
        said("One moment.", phase="commentary", annotations=[{"type": "url_citation", "url": "https://x"}]),
        thought(wire_id="rs_2", signature="gAAA2"),
        called("call_1", "fc_1", namespace="tools"),
    )
    assert items(user("?"), answer, result("call_1"))[1:] == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "I look."}],
            "encrypted_content": "gAAA1",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {
                    "type": "output_text",
                    "text": "One moment.",
                    "annotations": [{"type": "url_citation", "url": "https://x"}],
                }
            ],
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA2"},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city": "Oslo"}',
            "id": "fc_1",
            "namespace": "tools",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "4 °C"},
    ]


def test_elsewhere_an_answer_is_its_words_and_calls() -> None:
    """No ids, no phase, no reasoning, nothing opaque; the order stays."""
    answer = assistant(
        thought("I look."),
        said("One.", phase="commentary"),
        OpaquePart(payload=SEARCH),
        said("Two.", "msg_2"),
        called("call_1", "fc_1", namespace="tools"),
        RefusalPart(text="No."),
        origin=ELSEWHERE,
    )
    assert items(answer, result("call_1"))[:3] == [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "One."}, {"type": "output_text", "text": "Two."}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "No."}]},
    ]


def test_a_broken_off_answer_is_its_text() -> None:
    """Without ids: the provider does not know it as complete."""
    answer = assistant(thought("I look."), said("Half an"), called("call_1", "fc_1"), status="partial")
    assert items(user("?"), answer, user("Go on."))[1:2] == [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Half an"}]}
    ]


def test_several_texts_of_one_message_stay_one_message() -> None:
    """Texts with the same id, and a refusal after them, are its content."""
    answer = assistant(said("One."), said("Two."), said("Three.", "msg_2"))
    assert [(item["id"], [piece["text"] for piece in item["content"]]) for item in items(answer)] == [
        ("msg_1", ["One.", "Two."]),
        ("msg_2", ["Three."]),
    ]
    refused = assistant(said("One."), RefusalPart(text="No."))
    [item] = items(refused)
    assert [piece["type"] for piece in item["content"]] == ["output_text", "refusal"]


def test_a_refusal_goes_home_as_one_and_without_ids() -> None:
    """The id of its message is not kept, so that none of its items has one."""
    assert items(assistant(thought(), RefusalPart(text="No."))) == [
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA1"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]


@pytest.mark.parametrize(
    "lost",
    [
        ThinkingPart(text="I look.", opaque='{"id":"rs_1","summary":[{"type":"summary_text","text":"I look."}]}'),
        OpaquePart(payload='{"id":"msg_1","content":{"type":"hologram"}}'),
    ],
)
def test_ids_go_with_what_cannot_be_sent_back(lost: Any) -> None:
    """Reasoning without its encrypted form, and content of a message that has no form of its own, are left out."""
    sent = items(assistant(lost, said("Hi"), called("call_1", "fc_1")), result("call_1"))
    assert [item["type"] for item in sent] == ["message", "function_call", "function_call_output"]
    assert not any("id" in item for item in sent)
    assert b"hologram" not in json.dumps(sent).encode()


def test_reasoning_that_led_to_nothing_stays_behind() -> None:
    """An answer cut off while it thought: the API takes no reasoning without the item after it."""
    assert items(user("?"), assistant(thought("Well,")), user("Go on.")) == [
        {"type": "message", "role": "user", "content": "?"},
        {"type": "message", "role": "user", "content": "Go on."},
    ]
    sent = items(assistant(thought(), said("Hi"), thought(wire_id="rs_2")))
    assert [(item["type"], item.get("id")) for item in sent] == [("reasoning", None), ("message", None)]


def test_reasoning_that_a_server_shows_goes_back_as_it_was() -> None:
    """Models with open weights have no encrypted form; their content is the thinking itself."""
    shown = ThinkingPart(text="Hm.", opaque='{"id":"rs_1","content":[{"type":"reasoning_text","text":"Hm."}]}')
    assert items(assistant(shown, said("Hi")))[0] == {
        "type": "reasoning",
        "id": "rs_1",
        "content": [{"type": "reasoning_text", "text": "Hm."}],
        "summary": [],
    }


def test_another_model_gets_no_reasoning() -> None:
    """What one model thought, another cannot read; a model that does not think refuses it, and wants no ids."""
    answer = assistant(thought("I look."), said("Hi", phase="final_answer"))
    other = Origin(provider=HERE.provider, api=HERE.api, endpoint=HERE.endpoint, model="gpt-5.5")
    for options in ({"target": other}, {"profile": PLAIN}):
        assert items(answer, **options) == [
            {
                "type": "message",
                "role": "assistant",
                "phase": "final_answer",
                "content": [{"type": "output_text", "text": "Hi"}],
            }
        ]


def test_server_side_items_go_home_in_their_place_byte_by_byte() -> None:
    """Searches, code, images, compactions and what nobody knows yet, with the digits they came with."""
    unknown = '{"type":"hologram_call","id":"ho_1","z":1e5,"a":null}'
    answer = assistant(thought(), OpaquePart(payload=SEARCH), OpaquePart(payload=unknown), said("Hi"))
    body = WIRE.render(asking(answer)).body.decode()
    assert f"{SEARCH},{unknown}," in body
    assert [item["type"] for item in items(answer)] == ["reasoning", "web_search_call", "hologram_call", "message"]
    away = assistant(*answer.parts, origin=ELSEWHERE)
    assert [item["type"] for item in items(away)] == ["message"]


def test_calls_that_nothing_can_answer_are_answered() -> None:
    """The API goes no further without; a tool of the caller's own kind has no place in a conversation here."""
    custom = OpaquePart(payload='{"type":"custom_tool_call","id":"ctc_1","call_id":"call_9","name":"sql","input":"x"}')
    search = OpaquePart(
        payload='{"type":"tool_search_call","id":"ts_1","call_id":"call_8","execution":"client","arguments":{}}'
    )
    ours = OpaquePart(payload='{"type":"tool_search_call","id":"ts_2","call_id":null,"execution":"server"}')
    sent = items(assistant(thought(), custom, search, ours, called("call_1", "fc_1")), result("call_1"))
    assert [(item["type"], item.get("call_id")) for item in sent[5:]] == [
        ("custom_tool_call_output", "call_9"),
        ("tool_search_output", "call_8"),
        ("function_call_output", "call_1"),
    ]


def test_what_stands_beside_an_answer_is_never_sent() -> None:
    """It is kept for people, and takes no ids away."""
    beside = OpaquePart(payload='{"input_transformations":[{"reason":"model_mismatch"}]}')
    [item] = items(assistant(said("Hi"), beside))
    assert item["id"] == "msg_1"


def test_results_stand_in_the_order_of_their_calls() -> None:
    """Whatever order they came in."""
    answer = assistant(called("call_1", "fc_1"), called("call_2", "fc_2"))
    sent = items(answer, result("call_2", "two"), result("call_1", "one"))
    assert [(item["call_id"], item["output"]) for item in sent[2:]] == [("call_1", "one"), ("call_2", "two")]


def test_the_call_id_of_the_chat_pairs_call_and_result() -> None:
    """Also where the provider's own was unusable; the item keeps its own id."""
    sent = items(assistant(called("call_abc", "fc_1")), result("call_abc"))
    assert sent[0]["call_id"] == sent[1]["call_id"] == "call_abc"
    assert sent[0]["id"] == "fc_1"


def test_results_may_hold_files() -> None:
    """A file belongs to the result before it, whose output is then a list of pieces."""
    parts = (
        ToolResultPart(call_id="call_1", name="f", content="Look:"),
        media_part(_PIXEL, name="x.png", media_type="image/png"),
        ToolResultPart(call_id="call_2", name="f", content="nothing"),
    )
    answer = assistant(called("call_1"), called("call_2"))
    sent = items(answer, Message(role="tool", parts=parts))[2:]
    assert [piece["type"] for piece in sent[0]["output"]] == ["input_text", "input_image"]
    assert sent[1]["output"] == "nothing"


def test_files_that_a_model_made_are_told_of() -> None:
    """At home and elsewhere an image in an answer is a line of text."""
    picture = MediaPart(media="image", media_type="image/png", sha256="0" * 64, name="cat.png")
    for origin in (HERE, ELSEWHERE):
        [item] = items(assistant(picture, origin=origin))
        assert "cat.png" in item["content"][0]["text"]


def test_host_and_user_speak_in_pieces_where_they_said_several() -> None:
    """Several texts are a list without empty ones; with one system message, later ones are told in the user's place."""
    several = (TextPart(text="A"), TextPart(text=""), TextPart(text="B"))
    listed = [{"type": "input_text", "text": "A"}, {"type": "input_text", "text": "B"}]
    sent = items(Message(role="system", parts=several), Message(role="user", parts=several))
    assert [(item["role"], item["content"]) for item in sent] == [("developer", listed), ("user", listed)]
    profile = ModelProfile(one_system_message=True)
    [item] = items(Message(role="system", parts=(TextPart(text="A"),)), profile=profile)
    assert (item["role"], item["content"]) == ("user", "<system>\nA\n</system>")


def test_an_incomplete_message_keeps_its_status() -> None:
    """Cut off by the limit, it goes back as what it was."""
    [item] = items(assistant(said("Half", status="incomplete")))
    assert item["status"] == "incomplete"


def test_nothing_empty_is_sent() -> None:
    """An answer without a word is left out, with what was thought for it."""
    assert items(user("?"), assistant(thought(), said("")), user("Hm?"))[1:] == [
        {"type": "message", "role": "user", "content": "Hm?"}
    ]
    sent = items(assistant(thought(), said(""), called("call_1", "fc_1")), result("call_1"))
    assert [(item["type"], item.get("id")) for item in sent] == [
        ("function_call", None),
        ("function_call_output", None),
    ]


def test_a_call_of_what_was_never_offered_goes_back_by_a_legal_name() -> None:
    """The API refuses names with other signs."""
    odd = ToolCallPart(call_id="call_1", name="multi_tool_use.parallel", arguments="{}")
    assert items(assistant(odd), result("call_1"))[0]["name"] == "multi_tool_use_parallel"
