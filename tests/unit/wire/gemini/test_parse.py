"""Whole answers: what each member becomes, and what is not an answer."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import MediaPart, OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.usage import Usage
from tests.unit.wire.gemini.asking import MODEL, OLDER, PROFILE, WIRE, asking, assistant, body, contents, parsed, user

if TYPE_CHECKING:
    from collections.abc import Mapping

_PNG = b"\x89PNG\xff\xfe"
_SIGNED = '{"thoughtSignature":"c2ln"}'


def _call(**members: object) -> dict[str, object]:
    return {"functionCall": {"name": "f", **members}}


def test_the_smallest_answer() -> None:
    """Text, model and id of the response."""
    answer = parsed({"text": "Hi"})
    assert answer.parts == (TextPart(text="Hi"),)
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.STOP, "STOP")
    assert (answer.model, answer.response_id) == (MODEL, "resp_1")


def test_thoughts_and_signatures() -> None:
    """Thoughts are thinking; a signature is kept with the part it is on, be the part empty."""
    answer = parsed(
        {"text": "Hm.", "thought": True},
        {"text": "So.", "thought": True, "thoughtSignature": "dGg="},
        {"text": "A"},
        {"text": "B", "thoughtSignature": "c2ln"},
        {"text": "C"},
        {"text": ""},
        {"text": "", "thoughtSignature": "ZW5k"},
    )
    assert answer.parts == (
        ThinkingPart(text="Hm."),
        ThinkingPart(text="So.", signature="dGg="),
        TextPart(text="A"),
        TextPart(text="B", extra=_SIGNED),
        TextPart(text="C"),
        TextPart(text="", extra='{"thoughtSignature":"ZW5k"}'),
    )
    assert answer.text == "ABC"


def test_neighbours_of_one_kind_are_one_part() -> None:
    """A body reads as a stream does: words that go on are one text."""
    answer = parsed({"text": "A"}, {"text": "B"}, {"text": "x", "thought": True}, {"text": "C"})
    assert answer.parts == (TextPart(text="AB"), ThinkingPart(text="x"), TextPart(text="C"))


def test_a_signature_on_nothing_is_dropped() -> None:
    """The API refuses such a part when it is sent back; one that is marked as a thought is kept."""
    answer = parsed({"thoughtSignature": "x"}, {"thought": True}, {"thought": True, "thoughtSignature": "c2ln"})
    assert answer.parts == (ThinkingPart(signature="c2ln"),)


def test_members_of_a_thought_that_are_not_read() -> None:
    """A thought with more to it is kept whole."""
    thought = {"thought": True, "text": "Hm", "thoughtSignature": "c2ln", "later": 1}
    assert parsed(thought).parts == (ThinkingPart(text="Hm", signature="c2ln", opaque=dumps(thought)),)
    answer = assistant(*parsed(thought).parts)
    assert contents(asking(user("?"), answer, user("!")))[1][1] == [thought]


def test_calls() -> None:
    """Arguments keep digits and order; an id may be missing; the reason is derived from the calls."""
    raw = (
        b'{"candidates":[{"content":{"parts":['
        b'{"functionCall":{"id":"x","name":"f","args":{"b": 1.50,"a":12345678901234567890}},"thoughtSignature":"c2ln"},'
        b'{"functionCall":{"name":"g"}},{"functionCall":{"name":"h","args":null,"later":{"a":1}}}]},"finishReason":"STOP"}]}'
    )
    answer = WIRE.parse(raw, PROFILE)
    assert answer.parts == (
        ToolCallPart(
            call_id="x",
            wire_id="x",
            name="f",
            arguments='{"b":1.50,"a":12345678901234567890}',
            extra=_SIGNED,
        ),
        ToolCallPart(call_id="", name="g", arguments="{}"),
        ToolCallPart(call_id="", name="h", arguments="{}", extra='{"functionCall":{"later":{"a":1}}}'),
    )
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.TOOL_CALL, "STOP")


def test_a_call_that_comes_in_pieces_is_never_run() -> None:
    """Arguments that are streamed apart are not put together here: the call is marked as cut."""
    answer = parsed(
        _call(willContinue=True),
        {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}], "willContinue": True}},
        {"functionCall": {}},
        _call(args={}),
    )
    assert [(part.name, part.truncated) for part in answer.tool_calls] == [("f", True), ("f", False)]


def test_files_that_the_model_makes() -> None:
    """Inline data is decoded, whichever alphabet it is in, and named by its digest."""
    url_safe = base64.urlsafe_b64encode(_PNG).decode().rstrip("=")
    for data in (base64.b64encode(_PNG).decode(), url_safe):
        (part,) = parsed({"inlineData": {"mimeType": "image/png", "data": data}, "thoughtSignature": "c2ln"}).parts
        digest = hashlib.sha256(_PNG).hexdigest()
        assert part == MediaPart(media="image", media_type="image/png", sha256=digest, extra=_SIGNED)
        assert isinstance(part, MediaPart)
        assert part.data == _PNG
    (sound,) = parsed({"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAA=", "displayName": "x"}}).parts
    assert isinstance(sound, MediaPart)
    assert (sound.media, sound.media_type, sound.data) == ("audio", "audio/L16;rate=24000", b"\0\0")
    assert sound.extra == '{"inlineData":{"displayName":"x"}}'


@pytest.mark.parametrize(
    "part",
    [
        {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "c2ln"},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"q": [1.0]}, "id": "x"}},
        {"toolResponse": {"id": "x"}},
        {"fileData": {"fileUri": "files/1", "mimeType": "video/mp4"}},
        {"inlineData": {"mimeType": "image/png", "data": "***"}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw==", "later": 1}, "thought": True},
        {"text": 3},
        {"functionCall": "f"},
        {"brandNew": {}},
    ],
)
def test_what_is_not_read_is_kept(part: dict[str, object]) -> None:
    """Parts of the server's own tools, and unknown ones, are kept verbatim and go back so."""
    answer = parsed({"text": "A"}, part, {"text": "B"})
    assert answer.parts == (TextPart(text="A"), OpaquePart(payload=dumps(part)), TextPart(text="B"))
    assert contents(asking(user("?"), assistant(*answer.parts), user("!")))[1][1] == [
        {"text": "A"},
        json.loads(dumps(part)),
        {"text": "B"},
    ]


def test_sources_are_kept_with_the_text() -> None:
    """Grounding, citations and fetched pages are on the last text, byte offsets as they came; searches are counted."""
    grounding = {"webSearchQueries": ["a", "b", "a"], "groundingSupports": [{"segment": {"endIndex": 3}}]}
    members = {"groundingMetadata": grounding, "citationMetadata": {"citationSources": [1]}, "safetyRatings": [1]}
    parts: list[dict[str, object]] = [
        {"text": "é"},
        {"codeExecutionResult": {}},
        {"text": "ü", "thoughtSignature": "c2ln"},
    ]
    answer = parsed(*parts, candidate=members)
    last = answer.parts[-1]
    assert isinstance(last, TextPart)
    assert json.loads(last.extra or "") == {
        "thoughtSignature": "c2ln",
        "citationMetadata": {"citationSources": [1]},
        "groundingMetadata": grounding,
    }
    assert answer.parts[0] == TextPart(text="é")
    assert answer.usage.other_tokens == {"web_searches": 2}
    older = WIRE.parse(body(*parts, candidate=members), OLDER)
    assert older.usage.other_tokens == {"web_searches": 1}


def test_usage() -> None:
    """The prompt holds what tools put into it, the answer its thoughts; media are told apart."""
    stated = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "cachedContentTokenCount": 50,
        "candidatesTokenCount": 30,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 155,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 60},
            {"modality": "AUDIO", "tokenCount": 25},
            {"modality": "IMAGE", "tokenCount": 10},
            {"modality": "DOCUMENT", "tokenCount": 5},
        ],
        "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 3}, {"modality": "VIDEO"}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 30}],
        "serviceTier": "standard",
    }
    assert parsed({"text": "Hi"}, usageMetadata=stated).usage == Usage(
        input_tokens=120,
        cached_tokens=50,
        output_tokens=35,
        reasoning_tokens=5,
        other_tokens={
            "input_audio_tokens": 25,
            "input_image_tokens": 13,
            "output_image_tokens": 30,
            "tool_use_prompt_tokens": 20,
        },
    )


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, Usage()),
        (None, Usage()),
        ({"promptTokenCount": 9}, Usage(input_tokens=9)),
        ({"promptTokenCount": 9, "totalTokenCount": 9}, Usage(input_tokens=9, output_tokens=0)),
        (
            {"promptTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 13},
            Usage(input_tokens=9, output_tokens=4, reasoning_tokens=4),
        ),
        ({"promptTokenCount": 9, "totalTokenCount": 20}, Usage(input_tokens=9)),
        ({"promptTokenCount": -1, "candidatesTokenCount": "7"}, Usage()),
    ],
)
def test_counts_that_are_left_out(stated: Mapping[str, object] | None, expected: Usage) -> None:
    """A zero is left out on the wire: it is one where the total says so, and unknown otherwise."""
    assert parsed({"text": "Hi"}, usageMetadata=stated).usage == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("CONTINUATION", FinishReason.LENGTH),
        *((word, FinishReason.CONTENT_FILTER) for word in ("SAFETY", "RECITATION", "SPII", "IMAGE_SAFETY")),
        *((word, FinishReason.CONTENT_FILTER) for word in ("BLOCKLIST", "PROHIBITED_CONTENT", "MODEL_ARMOR")),
        *((word, FinishReason.ERROR) for word in ("MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "NO_IMAGE")),
        ("OTHER", FinishReason.UNKNOWN),
        ("FINISH_REASON_UNSPECIFIED", FinishReason.UNKNOWN),
        (None, FinishReason.UNKNOWN),
    ],
)
def test_reasons_to_stop(raw: str | None, reason: FinishReason) -> None:
    """Each of the provider's words is one of ours, and kept; the text stands."""
    answer = parsed({"text": "Hi"}, finish=raw)
    assert (answer.finish_reason, answer.raw_finish_reason, answer.text) == (reason, raw, "Hi")


def test_a_filter_outranks_calls() -> None:
    """A call in an answer that was blocked is not run."""
    assert parsed(_call(args={}), finish="SAFETY").finish_reason is FinishReason.CONTENT_FILTER
    assert parsed(_call(args={}), finish="MALFORMED_FUNCTION_CALL").finish_reason is FinishReason.ERROR
    assert parsed(_call(args={}), finish="MAX_TOKENS").finish_reason is FinishReason.TOOL_CALL


def test_why_an_answer_was_blocked() -> None:
    """The provider's words for it are kept beside what the model had said."""
    answer = parsed({"text": "Hi"}, finish="SAFETY", candidate={"finishMessage": "Unsafe."})
    assert answer.parts == (TextPart(text="Hi"), RefusalPart(text="Unsafe."))
    fine = parsed(_call(args={}), candidate={"finishMessage": "Model generated function call(s)."})
    assert [type(part) for part in fine.parts] == [ToolCallPart]


def test_a_blocked_question() -> None:
    """Without a candidate, the feedback on the prompt is the answer."""
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "No."},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
        "modelVersion": MODEL,
    }
    answer = WIRE.parse(encode(dumps(blocked)), PROFILE)
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.CONTENT_FILTER, "PROHIBITED_CONTENT")
    assert answer.parts == (RefusalPart(text="No."),)
    assert answer.usage.input_tokens == 9


@pytest.mark.parametrize("content", [{}, {"role": "model"}, {"parts": None}, None, 3])
def test_an_answer_without_parts(content: object) -> None:
    """An answer that its thoughts used up has no parts, and is one all the same."""
    answer = parsed(finish="MAX_TOKENS", candidate={"content": content})
    assert (answer.parts, answer.finish_reason) == ((), FinishReason.LENGTH)


def test_the_first_candidate_counts() -> None:
    """Others that were asked for in params are not read."""
    both = [
        {"index": 1, "content": {"parts": [{"text": "B"}]}, "finishReason": "STOP"},
        {"index": 0, "content": {"parts": [{"text": "A"}]}, "finishReason": "STOP"},
    ]
    assert WIRE.parse(encode(dumps({"candidates": both})), PROFILE).text == "A"


def test_a_list_of_chunks() -> None:
    """A stream without ``alt=sse`` is one list, and the same answer."""
    pieces = [body({"text": "A"}, finish=None), body({"text": "B", "thoughtSignature": "c2ln"})]
    answer = WIRE.parse(b"[" + b",\r\n".join(pieces) + b"]", PROFILE)
    assert answer.parts == (TextPart(text="A"), TextPart(text="B", extra=_SIGNED))
    for cut in (b"[" + pieces[0] + b"]", b"[" + pieces[0], b"[" + pieces[0] + b",\r\n", b"[" + pieces[0][:20]):
        with pytest.raises(errors.ProviderConnectionError, match="ask again"):
            WIRE.parse(cut, PROFILE)


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"null", b"7", b"[7]", b"[]", b"{}", b'{"candidates":[]}', b"<html>", b"\xff"]
)
def test_what_is_not_an_answer(data: bytes) -> None:
    """Anything but the protocol is refused with advice."""
    with pytest.raises(errors.ProtocolError, match=r"check|ask again") as caught:
        WIRE.parse(data, PROFILE)
    assert not caught.value.retryable


def test_an_answer_that_did_not_come() -> None:
    """Tokens without a candidate are worth another try."""
    with pytest.raises(errors.ProtocolError, match="ask again") as caught:
        WIRE.parse(b'{"usageMetadata":{"promptTokenCount":9}}', PROFILE)
    assert caught.value.retryable


def test_a_body_that_is_cut() -> None:
    """Half a body is a broken connection, not a broken protocol."""
    with pytest.raises(errors.ProviderConnectionError):
        WIRE.parse(body({"text": "Hi"})[:-20], PROFILE)


def test_an_error_with_status_200() -> None:
    """A success that says otherwise is the error it says."""
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    for data in (error, [error]):
        with pytest.raises(errors.OverloadedError):
            WIRE.parse(encode(dumps(data)), PROFILE)
