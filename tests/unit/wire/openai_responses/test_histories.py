"""Whatever a chat has been through, the API takes it: every call is answered once, all reasoning led to something."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.openai_responses.asking import (
    ELSEWHERE,
    HERE,
    PLAIN,
    REASONS,
    WIRE,
    asking,
    called,
    items,
    said,
    thought,
    user,
)

_OPAQUE = (
    '{"type":"web_search_call","id":"ws_1","status":"completed"}',
    '{"type":"custom_tool_call","id":"ctc_1","call_id":"call_x","name":"sql","input":"x"}',
    '{"type":"compaction","id":"cmp_1","encrypted_content":"gAAA"}',
    '{"service_tier":"flex"}',
    '{"id":"msg_1","content":{"type":"hologram"}}',
)
_IDS = st.none() | st.sampled_from(["msg_1", "msg_2"])
_PARTS = st.one_of(
    st.builds(said, st.text(max_size=3), _IDS),
    st.builds(thought, st.text(max_size=3), st.none() | st.just("rs_1"), st.none() | st.just("gAAA")),
    st.builds(called, st.just(""), st.none() | st.just("fc_1")),
    st.builds(called, st.just(""), st.none() | st.just("ctc_1"), type=st.just("custom_tool_call"), input=st.text()),
    st.builds(RefusalPart, text=st.text(max_size=3)),
    st.sampled_from(_OPAQUE).map(lambda payload: OpaquePart(payload=payload)),
)
_ORIGINS = st.sampled_from([None, HERE, ELSEWHERE, replace(HERE, model="gpt-4.1")])
_OWN = {"message", "function_call", "reasoning"}
"""Kinds that only parts have; a custom call may be an opaque part of old, which keeps its id."""


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """A conversation as the runtime keeps it: results follow their calls, in any order."""
    history: list[Message] = [user("?")]
    count = 0
    for _ in range(draw(st.integers(0, 4))):
        parts = list(draw(st.lists(_PARTS, min_size=1, max_size=6)))
        for place, part in enumerate(parts):
            if isinstance(part, ToolCallPart):
                parts[place] = replace(part, call_id=f"call_{count}")
                count += 1
        broken = draw(st.booleans()) and not any(isinstance(part, ToolCallPart) for part in parts)
        status: Any = "partial" if broken else "complete"
        history.append(Message(role="assistant", parts=tuple(parts), origin=draw(_ORIGINS), status=status))
        calls = [part.call_id for part in parts if isinstance(part, ToolCallPart)]
        for call_id in draw(st.permutations(calls)):
            result = ToolResultPart(call_id=call_id, name="get_weather", content=draw(st.text(max_size=3)))
            history.append(Message(role="tool", parts=(result,)))
        if not calls or draw(st.booleans()):
            history.append(user("And?"))
    return history


_PROFILES = st.sampled_from([REASONS, PLAIN, ModelProfile(thinking="effort", efforts=("low",))])


@given(histories(), _PROFILES)
def test_every_call_is_answered_once_and_after_it(history: list[Message], profile: ModelProfile) -> None:
    """Calls of functions by the chat's results, calls of other kinds by a word."""
    sent = items(*history, profile=profile)
    for kind in ("function_call", "custom_tool_call"):
        asked = sorted((item["call_id"], at) for at, item in enumerate(sent) if item["type"] == kind)
        answered = sorted((item["call_id"], at) for at, item in enumerate(sent) if item["type"] == f"{kind}_output")
        assert [call_id for call_id, _ in asked] == [call_id for call_id, _ in answered]
        assert all(ask < answer for (_, ask), (_, answer) in zip(asked, answered, strict=True))


@given(histories(), _PROFILES)
def test_reasoning_leads_to_an_item_of_its_own_answer(history: list[Message], profile: ModelProfile) -> None:
    """It is never the last item of an answer, and a model that does not think gets none."""
    for message in history:
        sent = items(message, profile=profile)
        kinds = [item["type"] for item in sent if not item["type"].endswith("_output")]
        assert kinds[-1:] != ["reasoning"]
        assert profile.thinking != "none" or "reasoning" not in kinds


@given(histories(), _PROFILES)
def test_ids_of_an_answer_go_together_and_only_home(history: list[Message], profile: ModelProfile) -> None:
    """All of its own items have theirs, or none has."""
    for message in history:
        named = ["id" in item for item in items(message, profile=profile) if item["type"] in _OWN]
        assert len(set(named)) <= 1
        home = message.origin is not None and message.origin.shares_state_with(HERE) and message.status == "complete"
        assert home or not any(named)


@given(histories(), _PROFILES)
def test_words_have_the_type_of_who_said_them(history: list[Message], profile: ModelProfile) -> None:
    """What the model said is output, what it is given is input."""
    for item in items(*history, profile=profile):
        if item["type"] != "message":
            continue
        content = item["content"]
        kinds = {piece["type"] for piece in content} if isinstance(content, list) else {"input_text"}
        assert kinds <= ({"output_text", "refusal"} if item["role"] == "assistant" else {"input_text"})
        assert item["role"] != "assistant" or content


@given(histories())
def test_nothing_that_was_said_is_lost(history: list[Message]) -> None:
    """Every text and every refusal is in the request, at home and elsewhere."""
    for target in (HERE, ELSEWHERE):
        sent = items(*history, target=target)
        content = [item["content"] for item in sent if item["type"] == "message" and item["role"] == "assistant"]
        texts = [piece.get("text", piece.get("refusal")) for pieces in content for piece in pieces]
        ours = [
            part.text
            for message in history
            if message.role == "assistant"
            for part in message.parts
            if isinstance(part, TextPart) or (isinstance(part, RefusalPart) and message.status == "complete")
        ]
        assert [text for text in texts if text] == [text for text in ours if text]


@given(histories(), st.booleans())
def test_each_history_begins_the_next(history: list[Message], cached: bool) -> None:  # noqa: FBT001 — drawn
    """What is sent for a beginning of the conversation is a prefix of what is sent for all of it."""
    cache: Any = {} if cached else None
    whole = json.loads(WIRE.render(asking(*history), cache).body)["input"]
    for end in range(1, len(history)):
        if history[end].role == "tool":
            continue
        begun = json.loads(WIRE.render(asking(*history[:end]), cache).body)["input"]
        assert whole[: len(begun)] == begun


@given(histories())
def test_thinking_is_never_told_elsewhere(history: list[Message]) -> None:
    """Neither its text nor its encrypted form."""
    away = replace(HERE, endpoint="https://b.example")
    body = WIRE.render(asking(*history, target=away)).body
    assert b"gAAA" not in body
    assert b'"reasoning"' not in body
    assert b"summary" not in body
