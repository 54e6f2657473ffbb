"""What grows is only ever appended to, and any history makes a conversation that the API accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import (
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.settings import Settings
from tests.unit.wire.anthropic.asking import ELSEWHERE, HERE, WEATHER, WIRE, asking, sent, user

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import MessageStatus

_TEXTS = st.text(st.sampled_from('ab \n\té"\\{}\ud83d'), max_size=6)
_IDS = st.text(st.sampled_from("ab_-.!é"), max_size=4)
_ARGUMENTS = st.sampled_from(["{}", '{"a": 1.50}', "", " ", "[1]", "{broken", '{"x":"\ud800"}', "null"])
_SPOKEN = st.one_of(
    st.builds(TextPart, text=_TEXTS, extra=st.none() | st.just('{"citations":[]}')),
    st.builds(ThinkingPart, text=_TEXTS, signature=st.sampled_from([None, "", "c2ln"])),
    st.just(ThinkingPart(redacted=True, opaque='{"type":"redacted_thinking","data":"x"}')),
    st.builds(RefusalPart, text=_TEXTS),
    st.just(OpaquePart(payload='{"type":"web_search_tool_result","tool_use_id":"srv","content":[]}')),
    st.just(OpaquePart(payload='{"unknown_part":{}}')),
)
_ORIGINS = st.sampled_from([HERE, ELSEWHERE, None])
_STATUSES: st.SearchStrategy[MessageStatus] = st.sampled_from(["complete", "complete", "partial"])


@st.composite
def _assistants(draw: st.DrawFn, number: int) -> tuple[Message, list[str]]:
    """An answer, and the ids of the calls in it that will be answered."""
    ids = [f"{draw(_IDS)}{number}{letter}" for letter in "xyz"[: draw(st.integers(0, 2))]]
    calls = [ToolCallPart(call_id=i, name=draw(_IDS), arguments=draw(_ARGUMENTS)) for i in ids]
    parts = (*draw(st.lists(_SPOKEN, max_size=3)), *calls)
    message = Message(role="assistant", parts=parts, origin=draw(_ORIGINS), status=draw(_STATUSES))
    return message, ids if message.status == "complete" else []


@st.composite
def _conversations(draw: st.DrawFn) -> list[list[Message]]:
    """A chat as it grows: each step ends where the model is asked."""
    steps = [[user(draw(_TEXTS))]]
    for number in range(draw(st.integers(1, 4))):
        message, ids = draw(_assistants(number))
        texts = draw(st.permutations(ids))
        answers = [
            Message(
                role="tool",
                parts=(ToolResultPart(call_id=i, name="f", content=draw(_TEXTS), is_error=draw(st.booleans())),),
            )
            for i in texts
        ]
        steps.append([message, *answers] if answers else [message, user(draw(_TEXTS))])
        if draw(st.booleans()):
            steps.append([user(draw(_TEXTS))])
    return steps


def _growing(body: bytes) -> bytes:
    """Tools, system and messages, without the brackets that close the body."""
    start = min(at for at in (body.find(b'"tools":'), body.find(b'"system":'), body.find(b'"messages":')) if at >= 0)
    assert body.endswith(b"]}]}")
    return body[start:-4]


@given(steps=_conversations(), cached=st.booleans(), told=st.booleans(), tools=st.booleans())
def test_a_later_request_begins_as_the_earlier_one(
    steps: list[list[Message]], *, cached: bool, told: bool, tools: bool
) -> None:
    """Tools, instructions and messages of a request are a prefix of the next one's, to the byte."""
    earlier = b""
    for end in range(1, len(steps) + 1):
        messages = [message for step in steps[:end] for message in step]
        request = asking(
            *messages,
            settings=Settings(cache=cached),
            instructions=["Be brief.", " ", "Be kind."] if told else [],
            tools=[WEATHER] if tools else [],
        )
        growing = _growing(WIRE.render(request).body)
        assert growing.startswith(earlier)
        earlier = growing


@given(steps=_conversations())
def test_remembered_blocks_change_nothing(steps: list[list[Message]]) -> None:
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
    ),
    max_size=8,
)


def _check_block(block: dict[str, Any]) -> None:
    match block["type"]:
        case "text":
            assert block["text"]
        case "tool_use":
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", block["id"])
            assert re.fullmatch("[a-zA-Z0-9_-]{1,128}", block["name"])
            assert isinstance(block["input"], dict)
        case "thinking":
            assert block["signature"]


def _check(messages: list[dict[str, Any]]) -> None:
    """What the API asks of every conversation."""
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
        len(messages) % 2
    )
    calls: list[str] = []
    for message in messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        assert any(block["type"] != "text" or block["text"].strip() for block in message["content"])
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert kinds[: len(results)] == ["tool_result"] * len(results)
        assert sorted(results) == sorted(set(calls))
        for block in message["content"]:
            _check_block(block)
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert message["role"] == "user" or kinds[-1] not in {"thinking", "redacted_thinking"}
    assert not calls


@given(messages=_ANY)
def test_any_history_is_accepted(messages: list[Message]) -> None:
    """Unanswered calls, results without a call, blanks and an assistant at the start never make a request invalid."""
    _check(sent(asking(user("Hi"), *messages))["messages"])
    if messages:
        _check(sent(asking(*messages))["messages"])
