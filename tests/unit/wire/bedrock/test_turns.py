"""Messages as content blocks, and the order the API asks of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolResultPart
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from tests.unit.wire.bedrock.asking import (
    ELSEWHERE,
    HERE,
    WEATHER,
    WIRE,
    asking,
    assistant,
    call,
    contents,
    result,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import ModelProfile

PDF = MediaPart(
    media="document", media_type="application/pdf", sha256="0" * 64, name="My (old) report.v2.pdf", data=b"%PDF"
)
PNG = MediaPart(media="image", media_type="image/png", sha256="0" * 64, name="cat.png", data=b"\x89PNG")
MP4 = MediaPart(media="video", media_type="video/mp4", sha256="0" * 64, name="film.mp4", data=b"film")
SIGNED = ThinkingPart(text="Let me see.", signature="c2lnbmVk")
REDACTED = ThinkingPart(redacted=True, opaque='{"reasoningContent":{"redactedContent":"aGlkZGVu"}}')
SERVER_CALL = OpaquePart(
    payload='{"toolUse":{"toolUseId":"s1","name":"nova_grounding","input":{"q":1.50},"type":"server_tool_use"}}'
)
SERVER_RESULT = OpaquePart(
    payload='{"toolResult":{"toolUseId":"s1","content":[{"text":"x"}],"status":"success","type":"nova_grounding_result"}}'
)
CLAUDE = BEDROCK_PROFILES.find("anthropic.claude-haiku-4-5-20251001-v1:0")
NOVA = BEDROCK_PROFILES.find("amazon.nova-pro-v1:0")
LLAMA = BEDROCK_PROFILES.find("meta.llama4-maverick-17b-instruct-v1:0")
WRITER = BEDROCK_PROFILES.find("writer.palmyra-x5-v1:0")


def test_thinking_goes_back_where_it_was_made() -> None:
    """Signed and hidden thinking goes back first and unchanged, unsigned thinking and that of others does not."""
    parts = (SIGNED, REDACTED, TextPart(text="Wait."), call())
    _, (_, content), _ = contents(asking(user("?"), assistant(*parts), result()))
    assert content == [
        {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "c2lnbmVk"}}},
        {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
        {"text": "Wait."},
        {"toolUse": {"toolUseId": "tooluse_1", "name": "get_weather", "input": {"city": "Paris"}}},
    ]
    for message in (
        assistant(*parts, origin=ELSEWHERE),
        assistant(ThinkingPart(text="Unsigned."), TextPart(text="Wait."), call()),
    ):
        _, (_, content), _ = contents(asking(user("?"), message, result()))
        assert [next(iter(block)) for block in content] == ["text", "toolUse"]


def test_an_answer_that_was_broken_off() -> None:
    """Of a partial answer the text goes back, and of one cut off while it thought nothing does."""
    broken = assistant(SIGNED, TextPart(text="It is"), call(), status="partial")
    assert contents(asking(user("?"), broken, user("Go on."))) == [
        ("user", [{"text": "?"}]),
        ("assistant", [{"text": "It is"}]),
        ("user", [{"text": "Go on."}]),
    ]
    assert contents(asking(user("?"), assistant(SIGNED), user("Go on."))) == [
        ("user", [{"text": "?"}, {"text": "Go on."}])
    ]


def test_blocks_of_the_providers_own_tools() -> None:
    """They go back digit for digit where they were made, nowhere else, and a call without its result not at all."""
    body = WIRE.render(asking(user("?"), assistant(SERVER_CALL, SERVER_RESULT, TextPart(text="So.")), user("!"))).body
    assert f"{SERVER_CALL.payload},{SERVER_RESULT.payload}".encode() in body
    lone = assistant(SERVER_CALL, TextPart(text="So."))
    foreign = assistant(SERVER_CALL, SERVER_RESULT, TextPart(text="So."), origin=ELSEWHERE)
    odd = assistant(OpaquePart(payload='{"type":"web_search_call"}'), OpaquePart(payload="{}"), TextPart(text="So."))
    for message in (lone, foreign, odd):
        assert contents(asking(user("?"), message, user("!")))[1] == ("assistant", [{"text": "So."}])


def test_sources_of_a_text_stay_behind() -> None:
    """Where a text came from is kept with it, and the text alone goes back."""
    cited = TextPart(text="Ruby.", extra='{"citationsContent":{"citations":[{"title":"t"}]}}')
    only = TextPart(text="", extra='{"citationsContent":{"citations":[{"title":"t"}]}}')
    assert contents(asking(user("?"), assistant(cited, only), user("!")))[1] == ("assistant", [{"text": "Ruby."}])


def test_a_refusal_is_text() -> None:
    """What a model said in place of an answer goes back as what it said."""
    assert contents(asking(user("?"), assistant(RefusalPart(text="No.")), user("!")))[1][1] == [{"text": "No."}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a":1.50,"a":2}', {"a": 2}),
        ('{"a":', {"INVALID_JSON": '{"a":'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_arguments_are_an_object(arguments: str, expected: dict[str, Any]) -> None:
    """What is not one is shown to the model as it came."""
    request = asking(user("?"), assistant(call(arguments=arguments)), result())
    assert contents(request)[1][1][0]["toolUse"]["input"] == expected
    if "1.50" in arguments:
        assert arguments.encode() in WIRE.render(request).body


def test_ids_and_names_in_the_characters_that_are_allowed() -> None:
    """Ids that are legal go out as they are, others as something that depends on them alone, the same in the result."""
    odd = "functions.get weather:0"
    talk = (user("?"), assistant(call("a-B_9"), call(odd, name="x.y/" + "z" * 80)), result("a-B_9"), result(odd))
    _, (_, calls), (_, results) = contents(asking(*talk))
    first, second = (block["toolUse"] for block in calls)
    assert first["toolUseId"] == "a-B_9"
    assert second["toolUseId"].startswith("functions_get_weather_0_")
    assert len(second["toolUseId"]) <= 64
    assert second["name"] == ("x_y_" + "z" * 80)[:64]
    assert [block["toolResult"]["toolUseId"] for block in results] == [first["toolUseId"], second["toolUseId"]]


def test_results_answer_their_calls() -> None:
    """Every call has one result right behind it, in the order of the calls; what answers none goes along as text."""
    talk = (user("?"), assistant(call("a"), call("b"), call("c")), result("c", "third"), result("a", "first"))
    stray = result("z", "lost")
    _, _, (_, content) = contents(asking(*talk, stray, user("So?")))
    assert content == [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "first"}]}},
        {
            "toolResult": {
                "toolUseId": "b",
                "content": [{"text": "This call was not run: the conversation went on without it."}],
                "status": "error",
            }
        },
        {"toolResult": {"toolUseId": "c", "content": [{"text": "third"}]}},
        {"text": "Result of an earlier call of get_weather:\nlost"},
        {"text": "So?"},
    ]
    assert len(contents(asking(user("?"), assistant(call())))[-1][1]) == 1


def test_results_that_say_nothing_and_those_that_failed() -> None:
    """A blank result is one in words, a failed one has its word for it where the model takes that."""
    for told, expected in (
        (result(content=" "), {"content": [{"text": "The tool returned nothing."}]}),
        (result(content="no", is_error=True), {"content": [{"text": "no"}], "status": "error"}),
        (
            result(content="", is_error=True),
            {"content": [{"text": "The tool failed without saying why."}], "status": "error"},
        ),
    ):
        _, _, (_, (block,)) = contents(asking(user("?"), assistant(call()), told))
        assert block["toolResult"] == {"toolUseId": "tooluse_1", **expected}
    failed = (user("?"), assistant(call()), result(content="no", is_error=True))
    (block,) = contents(asking(*failed, profile=WRITER))[-1][1]
    assert "status" not in block["toolResult"]


def test_roles_alternate_and_the_user_begins() -> None:
    """Messages of one side become one; a conversation that the model began has a word before it."""
    talk = (
        assistant(TextPart(text="Hello!")),
        assistant(TextPart(text="Anyone?")),
        user("a"),
        Message(role="system", parts=(TextPart(text="Be kind."),)),
        user("b", "  ", ""),
    )
    assert contents(asking(*talk)) == [
        ("user", [{"text": "(The conversation goes on from here.)"}]),
        ("assistant", [{"text": "Hello!"}, {"text": "Anyone?"}]),
        ("user", [{"text": "a"}, {"text": "<system>\nBe kind.\n</system>"}, {"text": "b"}]),
    ]
    assert contents(asking(user(" "))) == [("user", [{"text": "(This message is empty.)"}])]


def test_files_as_blocks_of_their_kind() -> None:
    """Images, films, recordings and documents go out as bytes in base 64 with their format, texts as their words."""
    wav = MediaPart(media="audio", media_type="audio/wav", sha256="0" * 64, data=b"RIFF")
    csv = media_part(b"a,b\n1,2\n", name="table.csv", media_type="text/csv")
    ((_, content),) = contents(asking(user(PNG, PDF, MP4, wav, csv, "What is it?")))
    assert content == [
        {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}},
        {"document": {"name": "My (old) report v2", "format": "pdf", "source": {"bytes": "JVBERg=="}}},
        {"video": {"format": "mp4", "source": {"bytes": "ZmlsbQ=="}}},
        {"audio": {"format": "wav", "source": {"bytes": "UklGRg=="}}},
        {"text": '<file name="table.csv">\na,b\n1,2\n\n</file>'},
        {"text": "What is it?"},
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "document"),
        ("分报告.pdf", "document"),
        ("a_b  c\t'd'.docx", "a b c d"),
        ("x" * 300 + ".pdf", "x" * 200),
        ("plain", "plain"),
        ("[1] A-b (2).xlsx", "[1] A-b (2)"),
    ],
)
def test_names_of_documents(name: str | None, expected: str) -> None:
    """A name keeps what the API takes, and is never empty."""
    ((_, (block, _)),) = contents(asking(user(replace(PDF, name=name), "?")))
    assert block["document"]["name"] == expected


def test_no_two_documents_have_the_same_name() -> None:
    """Later ones have a number, told apart whatever their letters' size, and earlier ones keep their names."""
    long = replace(PDF, name="y" * 250)
    talk = [user(replace(PDF, name="a.pdf"), replace(PDF, name="A.docx"), long, "?"), assistant(TextPart(text="!"))]
    talk.append(user(replace(PDF, name="a 2"), replace(PDF, name="a"), long, "?"))
    names = [
        block["document"]["name"] for _, content in contents(asking(*talk)) for block in content if "document" in block
    ]
    assert names == ["a", "A 2", "y" * 200, "a 2 2", "a 3", "y" * 198 + " 2"]


def test_a_document_has_words_beside_it() -> None:
    """The API refuses a document without any text: a message that has none says so."""
    ((_, content),) = contents(asking(user(PDF)))
    assert content[1] == {"text": "(The document comes without words.)"}
    ((_, content),) = contents(asking(user(PNG)))
    assert len(content) == 1


def test_files_in_buckets() -> None:
    """A model that reads from buckets is told where, and every other address is refused."""
    there = MediaPart(media="image", media_type="image/jpeg", url="s3://bucket/kiwi.jpg")
    ((_, content),) = contents(asking(user(there, "?"), profile=NOVA))
    assert content[0] == {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/kiwi.jpg"}}}}
    elsewhere = replace(there, url="https://example.com/kiwi.jpg")
    for part, profile in ((there, CLAUDE), (elsewhere, NOVA), (replace(there, url=None, file_id="f1"), NOVA)):
        with pytest.raises(UnsupportedFeatureError):
            WIRE.render(asking(user(part), profile=profile))
        later = (user(part), assistant(TextPart(text="A kiwi.")), user("Sure?"))
        assert "not shown" in contents(asking(*later, profile=profile))[0][1][0]["text"]


@pytest.mark.parametrize(
    ("profile", "part", "apart"),
    [
        (NOVA, PDF, False),
        (CLAUDE, PNG, False),
        (CLAUDE, PDF, True),
        (replace(CLAUDE, media=("video",)), MP4, True),
        (LLAMA, TextPart(text="Thanks."), True),
        (CLAUDE, TextPart(text="Thanks."), False),
    ],
)  # fmt: skip
def test_what_may_stand_beside_results(profile: ModelProfile, part: Any, *, apart: bool) -> None:
    """Where a model refuses it beside results, a word of the assistant goes between."""
    talk = (user("?"), assistant(call()), result(), user(part, "And this?"))
    turns = contents(asking(*talk, tools=[WEATHER], profile=profile))
    assert [role for role, _ in turns] == ["user", "assistant", "user", *(["assistant", "user"] if apart else [])]
    if apart:
        assert turns[3] == ("assistant", [{"text": "."}])
        assert [next(iter(block)) for block in turns[2][1]] == ["toolResult"]


def test_files_that_a_tool_gave() -> None:
    """They follow the results in the user's place, with words where there is a document and none."""
    told = Message(role="tool", parts=(ToolResultPart(call_id="tooluse_1", name="t", content="see file"), PDF))
    _, _, (role, content) = contents(asking(user("?"), assistant(call()), told, profile=NOVA))
    assert role == "user"
    assert [next(iter(block)) for block in content] == ["toolResult", "document", "text"]


def test_images_of_the_models_own() -> None:
    """An image that the model made goes back where it was made; elsewhere it is told that it was there."""
    made = replace(PNG, name=None)
    assert contents(asking(user("?"), assistant(made), user("!")))[1][1] == [
        {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}}
    ]
    for message in (
        assistant(made, origin=ELSEWHERE),
        assistant(replace(made, data=None)),
        assistant(PDF, origin=ELSEWHERE),
    ):
        assert "not shown" in contents(asking(user("?"), message, user("!")))[1][1][0]["text"]


def test_members_of_a_call_that_came_with_it() -> None:
    """What a call had beyond its own members goes back where it was made."""
    extra = replace(call(), extra='{"newMember":1.50}')
    _, (_, (block,)), _ = contents(asking(user("?"), assistant(extra), result()))
    assert block["toolUse"]["newMember"] == 1.5
    _, (_, (block,)), _ = contents(asking(user("?"), assistant(extra, origin=ELSEWHERE), result()))
    assert "newMember" not in block["toolUse"]


def test_the_cache_gives_the_same_bytes() -> None:
    """Messages that were rendered before are not rendered again, and say the same."""
    request = asking(user(PDF, "?"), assistant(SIGNED, call()), result(), target=HERE)
    cache: Any = {}
    first = WIRE.render(request, cache)
    assert first == WIRE.render(request, cache) == WIRE.render(request)
    assert len(cache) == 3
    assert json.loads(first.body)
