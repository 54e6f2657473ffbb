"""Questions about models: counting a request's tokens, and listing what there is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from tests.unit.wire.gemini.asking import HERE, WEATHER, WIRE, asking, sent, user


def test_it_counts_and_lists() -> None:
    """The format has both abilities."""
    assert isinstance(WIRE, TokenCounter)
    assert isinstance(WIRE, ModelLister)


@pytest.mark.parametrize("model", ["gemini-3.5-flash", "models/gemini-3.5-flash"])
def test_what_is_counted_is_what_would_be_sent(model: str) -> None:
    """The whole request goes along, with the name of its model as the API has it; nothing is streamed."""
    request = asking(
        user("Hi"),
        instructions=["Be brief."],
        tools=[WEATHER],
        settings=Settings(max_tokens=5),
        stream=True,
        target=replace(HERE, model=model),
    )
    asked = WIRE.count_request(request)
    assert (asked.method, asked.path, asked.stream) == ("POST", "/models/gemini-3.5-flash:countTokens", False)
    assert json.loads(asked.body) == {"generateContentRequest": {"model": "models/gemini-3.5-flash", **sent(request)}}


def test_a_count() -> None:
    """The total is the count."""
    assert WIRE.counted(b'{"totalTokens": 61, "promptTokensDetails": []}') == 61


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"totalTokens":"61"}', b"<html>"])
def test_what_is_no_count(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.counted(body)


def test_a_page_of_models() -> None:
    """Names are those that models are asked by; limits and the next page are read."""
    body = {
        "models": [
            {
                "name": "models/gemini-3.5-flash",
                "displayName": "Gemini 3.5 Flash",
                "inputTokenLimit": 1048576,
                "outputTokenLimit": 65536,
                "supportedGenerationMethods": ["generateContent"],
            },
            {"name": "tunedModels/mine"},
            {"displayName": "nameless"},
            3,
        ],
        "nextPageToken": "a/b=",
    }
    models, following = WIRE.listed(json.dumps(body).encode())
    assert models == (
        ListedModel(id="gemini-3.5-flash", name="Gemini 3.5 Flash", context_window=1_048_576, max_output_tokens=65_536),
        ListedModel(id="tunedModels/mine"),
    )
    first, second = WIRE.list_request(), WIRE.list_request(following)
    assert (first.method, first.path, first.body) == ("GET", "/models?pageSize=1000", b"")
    assert second.path == "/models?pageSize=1000&pageToken=a%2Fb%3D"
    assert WIRE.listed(b'{"models":[]}') == ((), None)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"models":3}', b"<html>"])
def test_what_is_no_list(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.listed(body)
