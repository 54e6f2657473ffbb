"""Contents: how each message is sent, and what the API asks of their order."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, RefusalPart, TextPart, ThinkingPart
from nodellm_orm.errors import AttachmentError, UnsupportedFeatureError
from tests.unit.wire.gemini.asking import (
    ELSEWHERE,
    HERE,
    OLDER,
    SIGNED,
    STAND_IN,
    WIRE,
    asking,
    assistant,
    call,
    contents,
    result,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaKind
    from nodellm_orm.domain.profile import ModelProfile

_CALL = {"name": "get_weather", "args": {"city": "Paris"}}
_DONE = {"name": "get_weather", "response": {"output": "21 °C"}}


def test_roles() -> None:
    """Users are ``user`` and assistants ``model``; neighbours of one role are one content."""
    messages = [user("a"), user("b"), assistant(TextPart(text="c")), assistant(TextPart(text="d")), user("e")]
    assert contents(asking(*messages)) == [
        ("user", [{"text": "a"}, {"text": "b"}]),
        ("model", [{"text": "c"}, {"text": "d"}]),
        ("user", [{"text": "e"}]),
    ]


def test_a_conversation_that_the_model_began() -> None:
    """The user speaks first, be it only that the conversation goes on."""
    (first, *_) = contents(asking(assistant(TextPart(text="Hello.")), user("Hi")))
    assert first == ("user", [{"text": "(The conversation goes on from here.)"}])


def test_system_texts_in_the_middle() -> None:
    """A system message within the conversation is told by the user, marked as what it is."""
    note = Message(role="system", parts=(TextPart(text="It is noon."),))
    assert contents(asking(user("Hi"), note)) == [
        ("user", [{"text": "Hi"}, {"text": "<system>\nIt is noon.\n</system>"}])
    ]


def test_empty_messages() -> None:
    """An empty question is sent as such a one; an empty answer is left out, and its neighbours are one content."""
    assert contents(asking(user(""))) == [("user", [{"text": "(This message is empty.)"}])]
    assert contents(asking(user("a"), assistant(TextPart(text="")), user("b"))) == [
        ("user", [{"text": "a"}, {"text": "b"}])
    ]


def test_a_call_and_its_result() -> None:
    """Without an id from the API neither has one; the signature is on the call."""
    assert contents(asking(user("?"), assistant(call()), result())) == [
        ("user", [{"text": "?"}]),
        ("model", [{"functionCall": _CALL, "thoughtSignature": "c2ln"}]),
        ("user", [{"functionResponse": _DONE}]),
    ]


def test_ids_that_the_api_gave_go_back_to_it() -> None:
    """The API's own id is on the call and on its result, also where the chat calls it otherwise."""
    answer = assistant(call("ours", wire_id="theirs"))
    _, (_, asked), (_, told) = contents(asking(user("?"), answer, result("ours")))
    assert asked[0]["functionCall"] == {"id": "theirs", **_CALL}
    assert told == [{"functionResponse": {"id": "theirs", **_DONE}}]


def test_ids_of_other_providers_stay_behind() -> None:
    """A call that was made elsewhere has no id here, and so has its result."""
    answer = assistant(call("call_1", wire_id="call_1"), origin=ELSEWHERE)
    _, (_, asked), (_, told) = contents(asking(user("?"), answer, result()))
    assert "id" not in asked[0]["functionCall"]
    assert told == [{"functionResponse": _DONE}]


def test_results_are_in_the_order_of_their_calls() -> None:
    """All results are in one content, in the order of the calls; what the user says then is in the next."""
    answer = assistant(call("a"), call("b", extra=None), call("c", extra=None))
    late = [result("c", "3"), result("a", "1"), user("And?"), result("b", "2", is_error=True)]
    _, _, (_, told), rest = contents(asking(user("?"), answer, *late))
    assert [part["functionResponse"]["response"] for part in told] == [{"output": "1"}, {"error": "2"}, {"output": "3"}]
    assert rest == ("user", [{"text": "And?"}])


def test_calls_that_were_never_answered() -> None:
    """A call without a result is answered for it, also at the end of the conversation."""
    answer = assistant(call("a"), call("b", extra=None))
    for messages in ([answer, result("b", "2"), user("Go on.")], [answer, user("Go on."), result("b", "2")], [answer]):
        _, _, (_, told), *_ = contents(asking(user("?"), *messages))
        assert [*told[0]["functionResponse"]["response"]] == ["error"]
        assert len(told) == 2


def test_results_without_a_call() -> None:
    """What answers no call of the message before it goes along as text."""
    messages = [user("?"), assistant(call()), result(), assistant(TextPart(text="Fine.")), result("old", "3")]
    assert contents(asking(*messages))[-1] == ("user", [{"text": "Result of an earlier call of get_weather:\n3"}])


def test_results_are_objects_of_text() -> None:
    """A result is never taken apart: its digits stay as they are; an error without words gets some."""
    exact = contents(asking(user("?"), assistant(call()), result(content='{"id": 12345678901234567890}')))[-1]
    assert exact[1][0]["functionResponse"]["response"] == {"output": '{"id": 12345678901234567890}'}
    silent = contents(asking(user("?"), assistant(call()), result(content=" ", is_error=True)))[-1]
    assert silent[1][0]["functionResponse"]["response"] == {"error": "The tool failed without saying why."}


def test_arguments_go_back_verbatim() -> None:
    """Digits and order of arguments are kept; what is no object is shown as it came."""
    body = WIRE.render(asking(user("?"), assistant(call(arguments='{"b": 1.50, "a": 1e5}')), result())).body
    assert b'"args":{"b": 1.50, "a": 1e5}' in body
    for broken, shown in (("", {}), ("[1]", {"INVALID_JSON": "[1]"}), ("{oops", {"INVALID_JSON": "{oops"})):
        _, (_, parts), _ = contents(asking(user("?"), assistant(call(arguments=broken)), result()))
        assert parts[0]["functionCall"]["args"] == shown


def test_names_are_legal() -> None:
    """A name that the API would refuse is mapped to one it takes, the same on call and result."""
    _, (_, asked), (_, told) = contents(asking(user("?"), assistant(call(name="a b/é")), result()))
    assert asked[0]["functionCall"]["name"] == told[0]["functionResponse"]["name"] == "a_b__"
    assert contents(asking(user("?"), assistant(call(name="")), result()))[1][1][0]["functionCall"]["name"] == "_"


def test_a_call_without_a_signature_gets_the_stand_in() -> None:
    """Generation 3 refuses a call without a signature: the first of a message has one, made up if need be."""
    for origin, extra in ((ELSEWHERE, SIGNED), (HERE, None), (replace(HERE, endpoint="https://vertex"), SIGNED)):
        answer = assistant(call("a", extra=extra), call("b", extra=extra), origin=origin)
        _, (_, parts), _ = contents(asking(user("?"), answer, result("a"), result("b")))
        assert [part.get("thoughtSignature") for part in parts] == [STAND_IN, None]
        _, (_, older), _ = contents(asking(user("?"), answer, result("a"), result("b"), profile=OLDER))
        assert not any("thoughtSignature" in part for part in older)


def test_signatures_go_back_on_their_part() -> None:
    """At home a signature is on the part it came on, an empty text at the end included; elsewhere it is nowhere."""
    said = assistant(
        ThinkingPart(text="Hm."),
        ThinkingPart(text="So.", signature="dGgx"),
        ThinkingPart(signature="dGgy"),
        TextPart(text="A", extra='{"thoughtSignature":"dHg="}'),
        TextPart(text="B"),
        TextPart(text="", extra=SIGNED),
    )
    assert contents(asking(user("?"), said, user("!")))[1][1] == [
        {"text": "So.", "thought": True, "thoughtSignature": "dGgx"},
        {"text": "", "thought": True, "thoughtSignature": "dGgy"},
        {"text": "A", "thoughtSignature": "dHg="},
        {"text": "B"},
        {"text": "", "thoughtSignature": "c2ln"},
    ]
    for elsewhere in (replace(said, origin=ELSEWHERE), replace(said, status="partial")):
        assert contents(asking(user("?"), elsewhere, user("!")))[1][1] == [{"text": "A"}, {"text": "B"}]


def test_sources_are_not_sent_back() -> None:
    """What a text was grounded on is kept with it, and the API takes no such member."""
    said = TextPart(text="A", extra='{"thoughtSignature":"c2ln","groundingMetadata":{"webSearchQueries":["x"]}}')
    assert contents(asking(user("?"), assistant(said), user("!")))[1][1] == [{"text": "A", "thoughtSignature": "c2ln"}]


def test_opaque_parts_go_home_verbatim() -> None:
    """A server's tool call goes back byte for byte, to where it came from only; foreign storage formats never."""
    payload = '{"executableCode":{"language":"PYTHON","code":"print(1.50)"},"thoughtSignature":"c2ln"}'
    answer = assistant(OpaquePart(payload=payload), TextPart(text="A"), OpaquePart(payload='{"unknown_part":{}}'))
    assert f'"parts":[{payload},{{"text":"A"}}]'.encode() in WIRE.render(asking(user("?"), answer, user("!"))).body
    foreign = replace(answer, origin=ELSEWHERE)
    assert contents(asking(user("?"), foreign, user("!")))[1][1] == [{"text": "A"}]


def test_refusals() -> None:
    """The provider's words for a blocked answer are not the model's; another model's refusal is a text."""
    refused = assistant(RefusalPart(text="No."))
    assert contents(asking(user("?"), refused, user("!"))) == [("user", [{"text": "?"}, {"text": "!"}])]
    assert contents(asking(user("?"), replace(refused, origin=ELSEWHERE), user("!")))[1][1] == [{"text": "No."}]


_PNG = MediaPart(media="image", media_type="image/png", data=b"\x89PNG", name="a.png")


def _asked(*parts: MediaPart, profile: ModelProfile | None = None) -> list[dict[str, object]]:
    message = Message(role="user", parts=parts)
    return contents(asking(message) if profile is None else asking(message, profile=profile))[0][1]


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("image", "image/png"), ("audio", "audio/mpeg"), ("video", "video/mp4"), ("document", "application/pdf")],
)
def test_files_go_out_as_their_bytes(kind: MediaKind, media_type: str) -> None:
    """Images, recordings, films and documents are inline data."""
    part = replace(_PNG, media=kind, media_type=media_type)
    data = base64.b64encode(b"\x89PNG").decode()
    assert _asked(part) == [{"inlineData": {"mimeType": media_type, "data": data}}]


def test_texts_go_out_as_words() -> None:
    """A text file is its words under its name."""
    assert _asked(MediaPart(media="text", media_type="text/csv", data=b"a,b", name="t.csv")) == [
        {"text": '<file name="t.csv">\na,b\n</file>'}
    ]


def test_files_that_the_provider_has_or_fetches() -> None:
    """Files go by id or by address: a film on YouTube always, any other address where the model fetches it."""
    held = replace(_PNG, data=None, file_id="files/1")
    assert _asked(held) == [{"fileData": {"mimeType": "image/png", "fileUri": "files/1"}}]
    film = MediaPart(media="video", media_type="video/mp4", url="https://youtu.be/x")
    stored = MediaPart(media="document", media_type="application/pdf", url="gs://bucket/a.pdf")
    for part in (film, stored):
        assert _asked(part, profile=OLDER) == [{"fileData": {"mimeType": part.media_type, "fileUri": part.url}}]
    anywhere = MediaPart(media="image", media_type="image/png", url="https://example.com/a.png")
    assert _asked(anywhere)[0]["fileData"] == {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}
    with pytest.raises(UnsupportedFeatureError, match="fetch"):
        _asked(anywhere, profile=OLDER)


@pytest.mark.parametrize(
    "part",
    [
        replace(_PNG, media_type="image/gif", name="a.gif"),
        MediaPart(media="document", media_type="application/msword", data=b"x", name="a.gif"),
        MediaPart(media="video", media_type="video/x-unheard-of", data=b"x", name="a.gif"),
        MediaPart(media="video", media_type="video/mp4", url="https://[", name="a.gif"),
    ],
)
def test_files_that_cannot_reach_the_model(part: MediaPart) -> None:
    """A new question with one is refused with its name; in an old one it is told of."""
    with pytest.raises(UnsupportedFeatureError, match=r"a\.gif"):
        _asked(part, profile=OLDER)
    old = asking(Message(role="user", parts=(part,)), assistant(TextPart(text="Hm.")), user("?"), profile=OLDER)
    assert "not shown" in contents(old)[0][1][0]["text"]


def test_a_file_whose_bytes_are_gone() -> None:
    """A file that should be here and is not is an error that says what to do."""
    with pytest.raises(AttachmentError, match="not stored any more"):
        _asked(replace(_PNG, data=None, sha256="0" * 64))


def test_files_that_the_model_made() -> None:
    """At home an image goes back as it came, with its signature; elsewhere, or without its bytes, it is told of."""
    made = replace(_PNG, extra='{"thoughtSignature":"c2ln","inlineData":{"displayName":"x"}}')
    data = {"mimeType": "image/png", "data": "iVBORw==", "displayName": "x"}
    assert contents(asking(user("?"), assistant(made), user("!")))[1][1] == [
        {"inlineData": data, "thoughtSignature": "c2ln"}
    ]
    for message in (assistant(made, origin=ELSEWHERE), assistant(replace(made, data=None))):
        assert "a.png" in contents(asking(user("?"), message, user("!")))[1][1][0]["text"]


def test_files_that_a_tool_gave() -> None:
    """They follow the results, as the user's."""
    told = result()
    with_file = replace(told, parts=(*told.parts, _PNG, TextPart(text=""), TextPart(text="see")))
    _, _, (_, results), (_, rest) = contents(asking(user("?"), assistant(call()), with_file))
    assert results == [{"functionResponse": _DONE}]
    assert [*rest[0]] == ["inlineData"]
    assert rest[1] == {"text": "see"}


def test_members_of_a_call_that_are_not_read_go_back() -> None:
    """Whatever else the API put into a call is in it again."""
    part = call(extra='{"functionCall":{"later":1.50},"partMetadata":{"a":1},"thoughtSignature":"c2ln"}')
    body = WIRE.render(asking(user("?"), assistant(part), result())).body
    (asked,) = json.loads(body)["contents"][1]["parts"]
    assert asked == {"functionCall": {**_CALL, "later": 1.5}, "partMetadata": {"a": 1}, "thoughtSignature": "c2ln"}
    assert b'"later":1.50' in body
