"""What grows is only ever appended to, and any history makes a conversation that the API accepts."""

from __future__ import annotations

import re
from dataclasses import replace
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
from nodellm_orm.domain.settings import Settings
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from tests.unit.wire.bedrock.asking import ELSEWHERE, HERE, WEATHER, WIRE, asking, sent, user

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import MessageStatus
    from nodellm_orm.domain.profile import ModelProfile

_TEXTS = st.sampled_from(["", " ", "\n", "Hi", "So?", '{"toolResult":{', '"messages":', "\ud83d"])
_IDS = st.sampled_from(["t1", "a b", "é", "x" * 70, ""])
_ARGUMENTS = st.sampled_from(["{}", '{"a": 1.50}', "", " ", "[1]", "{broken", '{"x":"\ud800"}', "null"])
_NAMES = st.sampled_from(["a.pdf", "A.docx", "é", None, "a 2"])
_FILES = st.one_of(
    st.builds(lambda name: MediaPart(media="document", media_type="application/pdf", name=name, data=b"%PDF"), _NAMES),
    st.just(MediaPart(media="image", media_type="image/png", data=b"\x89PNG")),
    st.just(MediaPart(media="video", media_type="video/mp4", data=b"film")),
    st.just(MediaPart(media="text", media_type="text/plain", data=b"words")),
    st.just(MediaPart(media="image", media_type="image/png", url="https://example.com/a.png")),
)
_SPOKEN = st.one_of(
    st.builds(TextPart, text=_TEXTS, extra=st.none() | st.just('{"citationsContent":{"citations":[]}}')),
    st.builds(ThinkingPart, text=_TEXTS, signature=st.sampled_from([None, "", "c2ln"])),
    st.just(ThinkingPart(redacted=True, opaque='{"reasoningContent":{"redactedContent":"eA=="}}')),
    st.builds(RefusalPart, text=_TEXTS),
    st.just(OpaquePart(payload='{"toolUse":{"toolUseId":"srv","name":"n","input":{},"type":"server_tool_use"}}')),
    st.just(OpaquePart(payload='{"toolResult":{"toolUseId":"srv","content":[],"type":"n_result"}}')),
    st.just(OpaquePart(payload='{"type":"unknown"}')),
    st.just(MediaPart(media="image", media_type="image/png", data=b"\x89PNG")),
)
_ORIGINS = st.sampled_from([HERE, ELSEWHERE, None])
_STATUSES: st.SearchStrategy[MessageStatus] = st.sampled_from(["complete", "complete", "partial"])
_PROFILES = st.sampled_from(
    [
        BEDROCK_PROFILES.find(name)
        for name in (
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "amazon.nova-2-lite-v1:0",
            "meta.llama4-maverick-17b-instruct-v1:0",
            "mistral.mistral-7b-instruct-v0:2",
            "writer.palmyra-x5-v1:0",
            "something-new",
        )
    ]
)


@st.composite
def _assistants(draw: st.DrawFn, number: int) -> tuple[Message, list[str]]:
    """An answer, and the ids of the calls in it that will be answered."""
    ids = [f"{draw(_IDS)}{number}{letter}" for letter in "xyz"[: draw(st.integers(0, 2))]]
    calls = [ToolCallPart(call_id=i, name=draw(_IDS), arguments=draw(_ARGUMENTS)) for i in ids]
    parts = (*draw(st.lists(_SPOKEN, max_size=3)), *calls)
    message = Message(role="assistant", parts=parts, origin=draw(_ORIGINS), status=draw(_STATUSES))
    return message, ids if message.status == "complete" else []


def _users() -> st.SearchStrategy[Message]:
    """A user's message; the last one of a request has no file that would be refused."""
    return st.builds(lambda text, files: user(*files, text), _TEXTS, st.lists(_FILES, max_size=2))


@st.composite
def _conversations(draw: st.DrawFn) -> list[list[Message]]:
    """A chat as it grows: each step ends where the model is asked."""
    steps = [[draw(_users()), user(draw(_TEXTS))]]
    for number in range(draw(st.integers(1, 4))):
        message, ids = draw(_assistants(number))
        answers = [
            Message(
                role="tool",
                parts=(ToolResultPart(call_id=i, name="f", content=draw(_TEXTS), is_error=draw(st.booleans())),),
            )
            for i in draw(st.permutations(ids))
        ]
        steps.append([message, *answers] if answers else [message, draw(_users()), user(draw(_TEXTS))])
        if draw(st.booleans()):
            steps.append([draw(_users()), user(draw(_TEXTS))])
    return steps


def _growing(body: bytes) -> bytes:
    """Tools, system and messages, without the brackets that close the body."""
    start = min(at for at in (body.find(b'"tools":'), body.find(b'"system":'), body.find(b'"messages":')) if at >= 0)
    assert body.endswith(b"]}]}")
    return body[start:-4]


@given(steps=_conversations(), profile=_PROFILES, cached=st.booleans(), told=st.booleans(), tools=st.booleans())
def test_a_later_request_begins_as_the_earlier_one(
    steps: list[list[Message]], profile: ModelProfile, *, cached: bool, told: bool, tools: bool
) -> None:
    """Tools, instructions and messages of a request are a prefix of the next one's, to the byte."""
    earlier = b""
    for end in range(1, len(steps) + 1):
        messages = [message for step in steps[:end] for message in step]
        request = asking(
            *messages,
            settings=Settings(cache=cached),
            instructions=["Be brief.", " ", "Be kind."] if told else [],
            tools=[WEATHER] if tools and profile.tools == "native" else [],
            profile=profile if tools else replace(profile, tools="none"),
        )
        growing = _growing(WIRE.render(request).body)
        assert growing.startswith(earlier)
        earlier = growing


@given(steps=_conversations(), profile=_PROFILES)
def test_remembered_blocks_change_nothing(steps: list[list[Message]], profile: ModelProfile) -> None:
    """With a cache of rendered messages, each request has the bytes that it has without one."""
    cache: dict[int, tuple[Message, tuple[str, ...]]] = {}
    for end in range(1, len(steps) + 1):
        request = asking(*[message for step in steps[:end] for message in step], profile=profile)
        assert WIRE.render(request, cache) == WIRE.render(request)


_ANY = st.lists(
    st.one_of(
        _users(),
        st.builds(lambda text: Message(role="system", parts=(TextPart(text=text),)), _TEXTS),
        st.integers(0, 2).flatmap(_assistants).map(lambda pair: pair[0]),
        st.builds(
            lambda i, text, files: Message(
                role="tool", parts=(ToolResultPart(call_id=i, name="f", content=text), *files)
            ),
            st.sampled_from(["t10x", "t11x", "1y", "2x"]),
            _TEXTS,
            st.lists(_FILES, max_size=1),
        ),
    ),
    max_size=8,
)


def _check_block(kind: str, value: Any) -> None:
    match kind:
        case "text":
            assert value.strip()
        case "toolUse":
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", value["toolUseId"])
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", value["name"])
            assert isinstance(value["input"], dict)
        case "toolResult" if "type" not in value:
            assert all(told["text"].strip() for told in value["content"])
        case "reasoningContent" if "reasoningText" in value:
            assert value["reasoningText"]["signature"]
        case "document":
            assert re.fullmatch(r"[A-Za-z0-9 \-()\[\]]{1,200}", value["name"])
            assert "  " not in value["name"]


def _check(body: dict[str, Any], profile: ModelProfile) -> None:
    """What the API asks of every conversation."""
    messages = body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
        len(messages) % 2
    )
    calls: list[str] = []
    names: list[str] = []
    for message in messages:
        blocks = [next(iter(block.items())) for block in message["content"]]
        kinds = [kind for kind, _ in blocks]
        assert kinds
        results = [value["toolUseId"] for kind, value in blocks if kind == "toolResult" and "type" not in value]
        assert kinds[: len(results)] == ["toolResult"] * len(results)
        assert sorted(results) == sorted(set(calls))
        for kind, value in blocks:
            _check_block(kind, value)
        names += [value["name"].lower() for kind, value in blocks if kind == "document"]
        assert "document" not in kinds or "text" in kinds
        if results and not profile.user_after_tool:
            assert len(kinds) == len(results)
        if results and not profile.documents_after_tool:
            assert not {"document", "video"} & set(kinds)
        calls = [value["toolUseId"] for kind, value in blocks if kind == "toolUse" and "type" not in value]
        assert not calls or body["toolConfig"]["tools"]
        assert message["role"] == "user" or kinds[-1] != "reasoningContent"
    assert not calls
    assert len(names) == len(set(names))


@given(messages=_ANY, profile=_PROFILES)
def test_any_history_is_accepted(messages: list[Message], profile: ModelProfile) -> None:
    """Unanswered calls, results without a call, blanks, files and any beginning never make a request invalid."""
    last = user("Go on.")
    _check(sent(asking(user("Hi"), *messages, last, profile=profile)), profile)
    _check(sent(asking(*messages, last, profile=profile)), profile)
