"""The questions how many tokens a request has, and which models there are."""

from __future__ import annotations

import json

import pytest

from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from nodellm_orm.wire.openai_responses import OpenAIResponses, UncountedResponses
from tests.unit.wire.openai_responses.asking import CLOSED, WEATHER, WIRE, asking


def test_it_counts_and_lists() -> None:
    """Look-alikes may have no count."""
    assert isinstance(OpenAIResponses(), TokenCounter)
    assert isinstance(OpenAIResponses(), ModelLister)
    assert not isinstance(UncountedResponses(), TokenCounter)
    assert isinstance(UncountedResponses(), ModelLister)


def test_counting_asks_with_what_has_tokens() -> None:
    """The request as it would be sent, without what the question refuses."""
    settings = Settings(schema=CLOSED, thinking=ThinkingConfig(effort="low"), max_tokens=9)
    request = asking(
        settings=settings, tools=[WEATHER], instructions=["Be brief."], stream=True, params={"metadata": {"a": "b"}}
    )
    question = WIRE.count_request(request)
    asked, would_be = json.loads(question.body), json.loads(WIRE.render(request).body)
    assert (question.path, question.method, question.stream) == ("/responses/input_tokens", "POST", False)
    assert asked.keys() == {"model", "reasoning", "text", "tools", "input"}
    assert all(would_be[name] == value for name, value in asked.items())


def test_the_count_is_read() -> None:
    """And its absence is an error."""
    assert WIRE.counted(b'{"object":"response.input_tokens","input_tokens":11}') == 11
    for wrong in (b"{}", b"", b'{"input_tokens":"11"}', b"[11]"):
        with pytest.raises(ProtocolError, match="check base_url"):
            WIRE.counted(wrong)


def test_models_are_listed() -> None:
    """All of them at once."""
    request = WIRE.list_request()
    assert (request.method, request.path) == ("GET", "/models")
    models, following = WIRE.listed(b'{"object":"list","data":[{"id":"gpt-5-mini","created":1,"owned_by":"openai"}]}')
    assert ([model.id for model in models], following) == (["gpt-5-mini"], None)
