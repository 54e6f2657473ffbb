"""What grows is only ever appended to, and any history makes a conversation that the API accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

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
from tests.unit.wire.gemini.asking import ELSEWHERE, HERE, OLDER, PROFILE, SIGNED, WEATHER, WIRE, asking, sent, user

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import MessageStatus

_TEXTS = st.text(st.sampled_from('ab \n\té"\\{}\ud83d'), max_size=6)
_IDS = st.text(st.sampled_from("ab_-.!é"), max_size=4)
_ARGUMENTS = st.sampled_from(["{}", '{"a": 1.50}', "", " ", "[1]", "{broken", '{"x":"\ud800"}', "null"])
_EXTRA = st.sampled_from([None, None, SIGNED])
_SPOKEN = st.one_of(
    st.builds(TextPart, text=_TEXTS, extra=st.sampled_from([None, SIGNED, '{"groundingMetadata":{}}'])),
    st.builds(ThinkingPart, text=_TEXTS, signature=st.sampled_from([None, "", "c2ln"])),
    st.builds(RefusalPart, text=_TEXTS),
    st.just(OpaquePart(payload='{"executableCode":{"code":"1"},"thoughtSignature":"c2ln"}')),
    st.just(OpaquePart(payload='{"unknown_part":{}}')),
    st.just(MediaPart(media="image", media_type="image/png", data=b"x", extra=SIGNED)),
    st.just(MediaPart(media="image", media_type="image/png", sha256="0" * 64)),
)
_ORIGINS = st.sampled_from([HERE, ELSEWHERE, None])
_STATUSES: st.SearchStrategy[MessageStatus] = st.sampled_from(["complete", "complete", "partial"])
_PROFILES = st.sampled_from([PROFILE, OLDER])


@st.composite
def _assistants(draw: st.DrawFn, number: int) -> tuple[Message, list[str]]:
    """An answer, and the ids of the calls in it that will be answered."""
    ids = [f"{draw(_IDS)}{number}{letter}" for letter in "xyz"[: draw(st.integers(0, 2))]]
    calls = [
        ToolCallPart(
            call_id=i, wire_id=draw(st.none() | _IDS), name=draw(_IDS), arguments=draw(_ARGUMENTS), extra=draw(_EXTRA)
        )
        for i in ids
    ]
    parts = (*draw(st.lists(_SPOKEN, max_size=3)), *calls)
    message = Message(role="assistant", parts=parts, origin=draw(_ORIGINS), status=draw(_STATUSES))
    return message, ids if message.status == "complete" else []


@st.composite
def _conversations(draw: st.DrawFn) -> list[list[Message]]:
    """A chat as it grows: each step ends where the model is asked."""
    steps = [[user(draw(_TEXTS))]]
    for number in range(draw(st.integers(1, 4))):
        message, ids = draw(_assistants(number))
        answers = [
            Message(
                role="tool",
                parts=(ToolResultPart(call_id=i, name="f", content=draw(_TEXTS), is_error=draw(st.booleans())),),
            )
            for i in draw(st.permutations(ids))
        ]
        steps.append([message, *answers] if answers else [message, user(draw(_TEXTS))])
        if draw(st.booleans()):
            steps.append([user(draw(_TEXTS))])
    return steps


def _growing(body: bytes) -> bytes:
    """Tools, instructions and contents, without the brackets that close the body."""
    marks = (b'"tools":', b'"systemInstruction":', b'"contents":')
    start = min(at for at in map(body.find, marks) if at >= 0)
    assert body.endswith(b"]}]}")
    return body[start:-4]


@given(steps=_conversations(), told=st.booleans(), tools=st.booleans(), profile=_PROFILES)
def test_a_later_request_begins_as_the_earlier_one(
    steps: list[list[Message]], *, told: bool, tools: bool, profile: Any
) -> None:
    """Tools, instructions and contents of a request are a prefix of the next one's, to the byte."""
    earlier = b""
    for end in range(1, len(steps) + 1):
        request = asking(
            *[message for step in steps[:end] for message in step],
            instructions=["Be brief.", " ", "Be kind."] if told else [],
            tools=[WEATHER] if tools else [],
            profile=profile,
        )
        growing = _growing(WIRE.render(request).body)
        assert growing.startswith(earlier)
        earlier = growing


@given(steps=_conversations())
def test_remembered_parts_change_nothing(steps: list[list[Message]]) -> None:
    """With a cache of rendered messages, each request has the bytes that it has without one."""
    cache: dict[int, tuple[Message, tuple[str, ...]]] = {}
    for end in range(1, len(steps) + 1):
        request = asking(*[message for step in steps[:end] for message in step])
        assert WIRE.render(request, cache) == WIRE.render(request)


_ANY = st.lists(
    st.one_of(
        st.builds(user, _TEXTS),
        st.builds(lambda text: Message(role="system", parts=(TextPart(text=text),)), _TEXTS),
        st.integers(0, 2).flatmap(_assistants).map(lambda pair: pair[0]),
        st.builds(
            lambda i, text: Message(role="tool", parts=(ToolResultPart(call_id=i, name="f", content=text),)),
            st.sampled_from(["0x", "1x", "1y", "2x"]),
            _TEXTS,
        ),
        st.just(Message(role="tool", parts=())),
    ),
    max_size=8,
)


def _check_call(part: dict[str, Any]) -> None:
    assert re.fullmatch("[A-Za-z0-9_.:-]{1,128}", part["functionCall"]["name"])
    assert isinstance(part["functionCall"]["args"], dict)


def _check(contents: list[dict[str, Any]], *, signed: bool) -> None:
    """What the API asks of every conversation."""
    assert contents[0]["role"] == "user"
    calls: list[tuple[Any, Any]] = []
    for before, content in zip([None, *contents], contents, strict=False):
        parts = content["parts"]
        assert parts
        assert all(part.get("text") != "" or "thoughtSignature" in part for part in parts)
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        assert [(found.get("id"), found["name"]) for found in results] == calls
        assert all(len(found["response"]) == 1 for found in results)
        assert not results or len(results) == len(parts)
        asked = [part for part in parts if "functionCall" in part]
        for part in asked:
            _check_call(part)
        assert content["role"] == "user" or (before is not None and before["role"] == "user")
        assert not (signed and asked) or "thoughtSignature" in asked[0]
        calls = [(part["functionCall"].get("id"), part["functionCall"]["name"]) for part in asked]
    assert not calls


@given(messages=_ANY, profile=_PROFILES)
def test_any_history_is_accepted(messages: list[Message], profile: Any) -> None:
    """Unanswered calls, results without a call, blanks and a model at the start never make a request invalid."""
    for history in ([user("Hi"), *messages], messages or [user("Hi")]):
        contents = sent(asking(*history, profile=profile))["contents"]
        if contents:
            _check(contents, signed=profile.call_signatures)
