"""Conversations: what each message becomes, and what goes back only to where it came from."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.errors import AttachmentError, UnsupportedFeatureError
from tests.unit.wire.ollama.asking import (
    ELSEWHERE,
    PROFILE,
    WIRE,
    asking,
    assistant,
    call,
    messages_of,
    result,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import Part

_THOUGHT = ThinkingPart(text="Hm.", field="thinking")
_IMAGE = MediaPart(media="image", media_type="image/png", sha256="0" * 64, data=b"\x89PNG", name="a.png")
_PACKED = base64.b64encode(b"\x89PNG").decode()


def test_calls_go_back_to_the_byte() -> None:
    """Arguments are an object with its digits and the order of its keys, the id is the chat's."""
    spoken = assistant(
        _THOUGHT,
        TextPart(text="One "),
        TextPart(text="moment."),
        ToolCallPart(call_id="call_1", name="f", arguments='{"z": 1.50, "a": 1e5, "z": "é"}'),
    )
    body = WIRE.render(asking(user("Hi"), spoken, result())).body
    assert body.endswith(
        '{"role":"assistant","content":"One moment.","thinking":"Hm.","tool_calls":[{"id":"call_1","type":"function",'
        '"function":{"name":"f","arguments":{"z": 1.50, "a": 1e5, "z": "é"}}}]},'
        '{"role":"tool","content":"21 °C","tool_name":"get_weather","tool_call_id":"call_1"}]}'.encode()
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", {}), (" ", {}), ("{broken", {"INVALID_JSON": "{broken"}), ("[1]", {"INVALID_JSON": "[1]"})],
)
def test_arguments_are_always_an_object(arguments: str, expected: dict[str, object]) -> None:
    """Arguments that are no object are shown to the model as they came, within one."""
    answer = messages_of(asking(user("Hi"), assistant(call(arguments=arguments)), result()))[1]
    assert answer["tool_calls"][0]["function"]["arguments"] == expected


def test_members_of_a_call_go_home_only() -> None:
    """What a server said of a call beyond name and arguments is sent back to it, and to nobody else."""
    signed = replace(call(), extra='{"function":{"thought_signature":"c2ln"},"kind":1.0}')
    for origin, signature in ((None, None), (ELSEWHERE, None), (assistant().origin, "c2ln")):
        sent = messages_of(asking(user("Hi"), assistant(signed, origin=origin), result()))[1]["tool_calls"][0]
        assert sent["function"].get("thought_signature") == signature
        assert sent.get("kind") == (1.0 if signature else None)


def test_thinking_goes_back_where_it_came_from() -> None:
    """Thinking returns in its member to its own server, and not where the profile says that it does not."""
    told: list[Part] = [_THOUGHT, TextPart(text="Yes."), ThinkingPart(text="Sure?", field="thinking")]
    ours = asking(user("Hi"), assistant(*told))
    assert messages_of(ours)[1] == {"role": "assistant", "content": "Yes.", "thinking": "Hm.Sure?"}
    plain = {"role": "assistant", "content": "Yes."}
    assert messages_of(asking(user("Hi"), assistant(*told, origin=ELSEWHERE)))[1] == plain
    assert (
        messages_of(asking(user("Hi"), assistant(*told), profile=replace(PROFILE, thinking_replay="none")))[1] == plain
    )
    tagged = assistant(ThinkingPart(text="Hm."), TextPart(text="Yes."))
    assert messages_of(asking(user("Hi"), tagged))[1] == plain


def test_a_partial_answer_is_its_text() -> None:
    """Of an answer that broke off only the text goes back; one without any is left out."""
    broken = assistant(_THOUGHT, TextPart(text="Ye"), call(), status="partial")
    assert messages_of(asking(user("Hi"), broken, user("Go on")))[1] == {"role": "assistant", "content": "Ye"}
    for silent in (
        assistant(_THOUGHT, call(), status="partial"),
        assistant(_THOUGHT),
        assistant(OpaquePart(payload='{"type":"x"}')),
    ):
        assert [m["role"] for m in messages_of(asking(user("Hi"), silent, user("Go on")))] == ["user", "user"]


def test_results_are_in_the_order_of_their_calls() -> None:
    """Servers that know no ids pair results with calls by their order, at the end of a conversation and within it."""
    calls = [call("a"), call("b"), call("c")]
    talk = [user("Hi"), assistant(*calls), result("c", "3"), result("a", "1"), result("b", "2")]
    for messages in (talk, [*talk, user("?")], [*talk, assistant(call("d")), result("x", "?"), result("d", "4")]):
        sent = messages_of(asking(*messages))
        told = [(message["tool_call_id"], message["content"]) for message in sent if message["role"] == "tool"]
        assert told[:3] == [("a", "1"), ("b", "2"), ("c", "3")]
        assert told[3:] in ([], [("d", "4"), ("x", "?")])


def test_what_tools_gave() -> None:
    """A silent failure says so, a message with several results is several, and a picture goes with the last."""
    several = Message(
        role="tool",
        parts=(
            ToolResultPart(call_id="a", name="f", content="", is_error=True),
            ToolResultPart(call_id="b", name="g", content=""),
            TextPart(text="See the picture."),
            _IMAGE,
        ),
    )
    assert messages_of(asking(user("Hi"), assistant(call("a"), call("b")), several))[2:] == [
        {
            "role": "tool",
            "content": "The tool failed without saying why.",
            "tool_name": "f",
            "tool_call_id": "a",
        },
        {
            "role": "tool",
            "content": "See the picture.",
            "images": [_PACKED],
            "tool_name": "g",
            "tool_call_id": "b",
        },
    ]


def test_files() -> None:
    """Images stand beside the words, in base 64 without a header; a text is among the words, under its name."""
    table = MediaPart(media="text", media_type="text/csv", sha256="0" * 64, data=b"a,b", name="t.csv")
    assert messages_of(asking(user(_IMAGE, "Compare.", table, _IMAGE))) == [
        {
            "role": "user",
            "content": 'Compare.\n\n<file name="t.csv">\na,b\n</file>',
            "images": [_PACKED, _PACKED],
        }
    ]


@pytest.mark.parametrize(
    "part",
    [
        MediaPart(media="document", media_type="application/pdf", sha256="0" * 64, data=b"%PDF", name="it.bin"),
        MediaPart(media="image", media_type="image/tiff", sha256="0" * 64, data=b"II*", name="it.bin"),
        MediaPart(media="image", media_type="image/png", url="https://x.example/it.bin", name="it.bin"),
        MediaPart(media="image", media_type="image/png", file_id="file_1", name="it.bin"),
        MediaPart(media="text", media_type="text/plain", url="https://x.example/it.bin", name="it.bin"),
        MediaPart(media="audio", media_type="audio/wav", sha256="0" * 64, data=b"RIFF", name="it.bin"),
    ],
)
def test_files_that_cannot_be_sent(part: MediaPart) -> None:
    """A new question with such a file is refused; of an earlier one the model is told."""
    seeing = replace(PROFILE, media=("image", "text", "document", "audio"))
    with pytest.raises(UnsupportedFeatureError, match=r"it\.bin"):
        WIRE.render(asking(user(part, "?"), profile=seeing))
    earlier = messages_of(asking(user(part, "?"), assistant(TextPart(text="No.")), user("Well?"), profile=seeing))
    assert "it.bin" in earlier[0]["content"]
    assert "images" not in earlier[0]


def test_bytes_that_are_gone() -> None:
    """An image whose bytes are not here any more is an error that says so."""
    with pytest.raises(AttachmentError, match=r"a\.png"):
        WIRE.render(asking(user(replace(_IMAGE, data=None), "?")))


def test_a_picture_of_the_models() -> None:
    """A picture that a model made goes home as one; elsewhere, or without its bytes, it is told of."""
    said = messages_of(asking(user("Draw."), assistant(_IMAGE), user("Again.")))[1]
    assert said == {"role": "assistant", "content": "", "images": [_PACKED]}
    for answer in (assistant(_IMAGE, origin=ELSEWHERE), assistant(replace(_IMAGE, data=None))):
        assert "a.png" in messages_of(asking(user("Draw."), answer, user("Again.")))[1]["content"]


def test_other_roles_and_parts() -> None:
    """Instructions in the middle stay there, a refusal is what was said, several texts are paragraphs."""
    system = Message(role="system", parts=(TextPart(text="Be kind."),))
    sent = messages_of(asking(user("a", "", "b"), assistant(RefusalPart(text="No.")), system, user("")))
    assert sent == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "No."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": ""},
    ]


def test_remembered_messages_change_nothing() -> None:
    """With a cache of rendered messages a request has the bytes that it has without one, and grows at its end."""
    talk = [user(_IMAGE, "Hi"), assistant(_THOUGHT, call()), result(), assistant(TextPart(text="Warm.")), user("?")]
    cache: dict[int, tuple[Message, tuple[str, ...]]] = {}
    earlier = body = b""
    for end in (1, 3, 5):
        request = asking(*talk[:end], instructions=["Be brief."])
        body = WIRE.render(request, cache).body
        assert body == WIRE.render(request).body
        assert body.startswith(earlier)
        earlier = body.removesuffix(b"]}")
    assert json.loads(body)["messages"][0]["role"] == "system"
