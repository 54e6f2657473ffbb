"""Recorded answers of the API, read a second time without the code under test and compared with what it reads."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.parts import OpaquePart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from tests.unit.wire.gemini.asking import HERE, STAND_IN, WIRE, asking, assistant, body, contents, read, user
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile

pytestmark = [needs_recordings, pytest.mark.recordings]

_ALL = [item for folder in ("gemini", "anthropic", "openai") for item in interactions(folder, "enerateContent")]
_ANSWERS = [item for item in _ALL if item.status == 200]
_STREAMS = [item for item in _ANSWERS if item.streamed]
_FAILURES = [item for item in _ALL if item.status != 200]

_REASONS = {"STOP": FinishReason.STOP, "SAFETY": FinishReason.CONTENT_FILTER}
_SERVER_PARTS = {"executableCode", "codeExecutionResult", "toolCall", "toolResponse"}


def _model(item: Interaction) -> str:
    return urlsplit(item.url).path.rpartition("/")[2].partition(":")[0]


def _profile(item: Interaction) -> ModelProfile:
    return GEMINI_PROFILES.find(_model(item))


def _read(item: Interaction) -> Completion:
    return read([item.body], _profile(item)) if item.streamed else WIRE.parse(item.body, _profile(item))


def _chunks(item: Interaction) -> list[dict[str, Any]]:
    if not item.streamed:
        return [json.loads(item.body)]
    lines = item.body.decode().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def _plain(part: dict[str, Any]) -> bool:
    return part.keys() <= {"text", "thought"} and "text" in part


def _parts(item: Interaction) -> list[dict[str, Any]]:
    """The parts of the answer, texts put together by the rules of the API's documentation."""
    found: list[dict[str, Any]] = []
    for chunk in _chunks(item):
        for candidate in chunk.get("candidates", []):
            for part in candidate.get("content", {}).get("parts", []):
                if part == {"text": ""}:
                    continue
                last = found[-1] if found else {}
                if _plain(part) and _plain(last) and part.get("thought") == last.get("thought"):
                    last["text"] += part["text"]
                else:
                    found.append(dict(part))
    return found


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_the_parts_are_what_the_body_says(item: Interaction) -> None:
    """Texts, thoughts, calls, server parts and the signature of each are those of the recorded body, in its order."""
    parts, answer = _parts(item), _read(item)
    assert len(answer.parts) == len(parts)
    for ours, theirs in zip(answer.parts, parts, strict=True):
        signature = theirs.get("thoughtSignature")
        if theirs.get("thought"):
            assert ours == ThinkingPart(text=theirs["text"], signature=signature)
        elif "functionCall" in theirs:
            assert isinstance(ours, ToolCallPart)
            call = theirs["functionCall"]
            assert (ours.name, ours.wire_id) == (call["name"], call.get("id"))
            assert json.loads(ours.arguments) == call["args"]
            assert json.loads(ours.extra or "{}").get("thoughtSignature") == signature
        elif "text" in theirs:
            assert isinstance(ours, TextPart)
            assert ours.text == theirs["text"]
            assert json.loads(ours.extra or "{}").get("thoughtSignature") == signature
        else:
            assert theirs.keys() & _SERVER_PARTS
            assert isinstance(ours, OpaquePart)
            assert json.loads(ours.payload) == theirs
    assert answer.text == "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_finish_reason_usage_and_names_are_what_the_body_says(item: Interaction) -> None:
    """Why it stopped, what it cost in tokens, and which model answered are those of the recorded body."""
    last, answer = _chunks(item)[-1], _read(item)
    raw = last["candidates"][0]["finishReason"]
    called = any("functionCall" in part for part in _parts(item))
    assert answer.finish_reason == (FinishReason.TOOL_CALL if called else _REASONS[raw])
    assert answer.raw_finish_reason == raw
    assert (answer.model, answer.response_id) == (last["modelVersion"], last.get("responseId"))
    stated, usage = last["usageMetadata"], answer.usage
    thoughts = stated.get("thoughtsTokenCount")
    assert usage.input_tokens == stated["promptTokenCount"] + stated.get("toolUsePromptTokenCount", 0)
    assert usage.output_tokens == stated.get("candidatesTokenCount", 0) + (thoughts or 0)
    assert usage.total_tokens == stated["totalTokenCount"]
    assert (usage.reasoning_tokens, usage.cached_tokens) == (thoughts, stated.get("cachedContentTokenCount"))
    for medium in ("AUDIO", "IMAGE", "VIDEO"):
        details = [*stated["promptTokensDetails"], *stated.get("toolUsePromptTokensDetails", [])]
        counts = [detail["tokenCount"] for detail in details if detail["modality"] == medium]
        assert usage.other_tokens.get(f"input_{medium.lower()}_tokens", 0) == sum(counts)


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_sources_are_kept_raw(item: Interaction) -> None:
    """What an answer was grounded on is kept with its text, members and offsets as they came."""
    stated = {
        name: candidate[name]
        for chunk in _chunks(item)
        for candidate in chunk["candidates"]
        for name in ("groundingMetadata", "urlContextMetadata", "citationMetadata")
        if candidate.get(name)
    }
    extras = [json.loads(part.extra or "{}") for part in _read(item).parts if isinstance(part, TextPart)]
    assert {name: value for extra in extras for name, value in extra.items() if name != "thoughtSignature"} == stated


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_says_what_its_body_would(item: Interaction) -> None:
    """Put together by the documented rules, the body of a stream reads as the stream did."""
    last = _chunks(item)[-1]
    whole = body(
        *_parts(item),
        finish=last["candidates"][0]["finishReason"],
        usageMetadata=last["usageMetadata"],
        modelVersion=last["modelVersion"],
        responseId=last["responseId"],
    )
    assert WIRE.parse(whole, _profile(item)) == _read(item)


@pytest.mark.parametrize("item", [item for item in _ANSWERS if not item.streamed], ids=str)
def test_a_body_is_a_stream_of_one_chunk(item: Interaction) -> None:
    """A recorded body, sent as a stream, reads as the body did."""
    stream = b"data: " + item.body + b"\r\n\r\n"
    assert read([stream], _profile(item)) == _read(item)


@pytest.mark.parametrize("item", _FAILURES, ids=str)
def test_a_recorded_failure_is_of_its_class(item: Interaction) -> None:
    """A model that does not exist is said so, in the provider's words."""
    error = WIRE.failure(item.status, item.headers, item.body)
    assert type(error) is errors.ModelNotFoundError
    assert json.loads(item.body)["error"]["message"] in str(error)


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_byte_by_byte(item: Interaction) -> None:
    """Fed one byte at a time, a stream gives the answer it gives when it comes whole."""
    assert read((item.body[at : at + 1] for at in range(len(item.body))), _profile(item)) == _read(item)


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_however_it_is_cut(item: Interaction) -> None:
    """Cut at random places, a stream gives the answer it gives when it comes whole."""
    chance, whole = random.Random(item.id), _read(item)  # noqa: S311 — the same cuts in every run
    for _ in range(20):
        cuts = sorted(chance.choices(range(len(item.body)), k=chance.randint(1, 40)))
        pieces = (item.body[a:b] for a, b in pairwise([0, *cuts, len(item.body)]))
        assert read(pieces, _profile(item)) == whole


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_cut_in_two_anywhere(item: Interaction) -> None:
    """Cut in two at every offset of its first 4 KB, the beginning of a stream gives the same answer."""
    close = item.body.find(b"\r\n\r\n", 4096)
    beginning = item.body if close < 0 else item.body[: close + 4]

    def so_far(*pieces: bytes) -> Completion:
        parser, whole = WIRE.stream(_profile(item)), Accumulator()
        for piece in pieces:
            for event in parser.feed(piece):
                whole.add(event)
        return whole.completion(complete=False)

    uncut = so_far(beginning)
    assert uncut.parts
    for at in range(min(4096, len(beginning))):
        assert so_far(beginning[:at], beginning[at:]) == uncut


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_that_breaks_off_is_interrupted(item: Interaction) -> None:
    """Without its last event a recorded stream is no answer, wherever in it the bytes end."""
    end = item.body.rstrip().rfind(b"data:")
    for cut in {end, end + 5, end + 40, (end + len(item.body)) // 2}:
        with pytest.raises(errors.StreamInterruptedError):
            read([item.body[:cut]], _profile(item))


def _canonical(signature: str | None) -> str | None:
    """What can be compared of a signature: clients send either alphabet, and one was cut when it was recorded."""
    return signature[:4000].translate(str.maketrans("-_", "+/")) if signature and signature != STAND_IN else None


def _camel(value: object) -> object:
    """The same members in the spelling of responses: requests may have either."""
    match value:
        case dict():
            return {re.sub("_([a-z])", lambda m: m[1].upper(), name): _camel(item) for name, item in value.items()}
        case list():
            return [_camel(item) for item in value]
        case _:
            return value


def _said(sent: list[tuple[str, list[dict[str, Any]]]]) -> list[tuple[Any, ...]]:
    """What a conversation says, part by part, without what clients are free to choose.

    Those are ids, the form of results, thoughts, and on which part before a text its signature stands.
    """
    found: list[tuple[Any, ...]] = []
    for role, parts in sent:
        for part in parts:
            signature = _canonical(part.get("thoughtSignature"))
            if "functionCall" in part:
                call = part["functionCall"]
                found.append((role, "call", call["name"], call["args"], signature))
            elif "functionResponse" in part:
                found.append((role, "result", part["functionResponse"]["name"]))
            elif part.keys() & _SERVER_PARTS:
                opened = {name: value for name, value in part.items() if name != "thoughtSignature"}
                found.append((role, "server", _camel(opened), signature))
            elif part.get("text") and not part.get("thought"):
                found.append((role, "text", part["text"]))
    return found


def _signatures(sent: list[tuple[str, list[dict[str, Any]]]]) -> list[str]:
    found = (_canonical(part.get("thoughtSignature")) for _, parts in sent for part in parts)
    return [signature for signature in found if signature is not None]


def _history(before: list[Interaction], item: Interaction) -> list[Message] | None:
    """The conversation of a recorded request, its answers those that we read; ``None`` where it is another one."""
    answers = iter(before)
    messages: list[Message] = []
    for content in (item.request or {})["contents"]:
        if content.get("role") == "model":
            answered = next(answers, None)
            if answered is None:
                return None
            parts = [
                replace(part, call_id=f"call_{len(messages)}_{at}") if isinstance(part, ToolCallPart) else part
                for at, part in enumerate(_read(answered).parts)
            ]
            messages.append(assistant(*parts))
            continue
        calls = iter(messages[-1].tool_calls if messages else ())
        for part in content["parts"]:
            if "functionResponse" in part:
                call = next(calls)
                told = ToolResultPart(call_id=call.call_id, name=call.name, content="told")
                messages.append(Message(role="tool", parts=(told,)))
            elif "text" in part:
                messages.append(user(part["text"]))
    return messages if next(answers, None) is None else None


def _followed() -> list[tuple[list[Interaction], Interaction]]:
    """Requests that go on with the answers to those before them in the scenario."""
    found: list[tuple[list[Interaction], Interaction]] = []
    for name in dict.fromkeys(item.scenario for item in _ALL):
        run: list[Interaction] = []
        for item in (item for item in _ALL if item.scenario == name):
            spoken = sum(content.get("role") == "model" for content in (item.request or {})["contents"])
            run = run[-spoken:] if spoken else []
            if spoken and len(run) == spoken and _history(run, item) is not None:
                found.append((run, item))
            run = [*run, item]
    return found


_FOLLOWED = _followed()


def test_there_are_conversations() -> None:
    """The comparison below is one."""
    assert len(_FOLLOWED) > 30


@pytest.mark.parametrize(
    ("before", "item"), _FOLLOWED, ids=lambda value: value.id if isinstance(value, Interaction) else ""
)
def test_a_conversation_goes_back_as_the_other_client_sent_it(before: list[Interaction], item: Interaction) -> None:
    """Roles, texts, calls with their signatures, server parts and results are those of the recorded next request."""
    messages = _history(before, item)
    assert messages is not None
    target = replace(HERE, model=_model(item))
    ours = contents(asking(*messages, profile=_profile(item), target=target))
    theirs = [(content["role"], content["parts"]) for content in (item.request or {})["contents"]]
    assert _said(ours) == _said(theirs)
    # Nobody invents a signature, and we lose none, also where another client did.
    assert [s for s in _signatures(ours) if s in _signatures(theirs)] == [
        s for s in _signatures(theirs) if s in _signatures(ours)
    ]
    received = [
        _canonical(part["thoughtSignature"]) for one in before for part in _parts(one) if "thoughtSignature" in part
    ]
    assert _signatures(ours) == received
