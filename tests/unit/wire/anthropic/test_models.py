"""Questions about models: counting a request's tokens, and listing what there is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from nodellm_orm.wire.anthropic import Anthropic
from tests.unit.wire.anthropic.asking import WEATHER, asking, sent, user
from tests.unit.wire.recordings import interactions, needs_recordings

if TYPE_CHECKING:
    from tests.unit.wire.recordings import Interaction

WIRE = Anthropic()
_COUNTS = interactions("anthropic", "/v1/messages/count_tokens")


def test_it_counts_and_lists() -> None:
    """The format has both abilities."""
    assert isinstance(WIRE, TokenCounter)
    assert isinstance(WIRE, ModelLister)


def test_what_is_counted_is_what_would_be_sent() -> None:
    """The same request without what has no tokens, which the question refuses."""
    request = asking(
        user("Hi"),
        instructions=["Be brief."],
        tools=[WEATHER],
        settings=Settings(
            max_tokens=5000, temperature=0.5, cache=True, tool_choice="required", schema=WEATHER.parameters
        ),
        profile=ModelProfile(thinking="budget"),
        params={
            "metadata": {"user_id": "u"},
            "service_tier": "auto",
            "top_k": 3,
            "stop_sequences": ["x"],
            "container": "c",
        },
        stream=True,
    )
    asked, whole = WIRE.count_request(request), sent(request)
    assert (asked.method, asked.path, asked.stream) == ("POST", "/v1/messages/count_tokens", False)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    kept = ["output_config", "tool_choice", "cache_control", "tools", "system", "messages"]
    assert json.loads(asked.body) == {name: whole[name] for name in ("model", *kept)}
    thinks = asking(settings=Settings(thinking=ThinkingConfig(budget=2048)), profile=ModelProfile(thinking="budget"))
    assert json.loads(WIRE.count_request(thinks).body)["thinking"] == {"type": "enabled", "budget_tokens": 2048}


@needs_recordings
@pytest.mark.recordings
@pytest.mark.parametrize("item", _COUNTS, ids=str)
def test_recorded_counts(item: Interaction) -> None:
    """Only members that recorded questions have are asked with, and the recorded answers are read."""
    assert (item.request or {}).keys() <= {"model", "messages", "system", "tools", "tool_choice", "thinking"}
    said: dict[str, Any] = json.loads(item.body)
    if item.status == 200:
        assert WIRE.counted(item.body) == said["input_tokens"]
    else:
        assert said["error"]["message"] in str(WIRE.failure(item.status, item.headers, item.body))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"input_tokens":"61"}', b"<html>"])
def test_what_is_no_count(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.counted(body)


def test_a_page_of_models() -> None:
    """Names, dates, limits and the next page are read."""
    data = [
        {
            "type": "model",
            "id": "claude-opus-5",
            "display_name": "Claude Opus 5",
            "created_at": "2026-05-01T00:00:00Z",
            "max_input_tokens": 1000000,
            "max_tokens": 128000,
            "capabilities": {"structured_outputs": {"supported": True}},
        },
        {"id": "claude-next", "created_at": "soon"},
        {"display_name": "nameless"},
        3,
    ]
    body = {"data": data, "has_more": True, "first_id": "claude-opus-5", "last_id": "claude next"}
    models, following = WIRE.listed(json.dumps(body).encode())
    assert models == (
        ListedModel(
            id="claude-opus-5",
            name="Claude Opus 5",
            created=datetime(2026, 5, 1, tzinfo=UTC),
            context_window=1_000_000,
            max_output_tokens=128_000,
        ),
        ListedModel(id="claude-next"),
    )
    first, second = WIRE.list_request(), WIRE.list_request(following)
    assert (first.method, first.path, first.body) == ("GET", "/v1/models?limit=1000", b"")
    assert dict(first.headers) == {"anthropic-version": "2023-06-01"}
    assert second.path == "/v1/models?limit=1000&after_id=claude+next"
    assert WIRE.listed(json.dumps({**body, "has_more": False}).encode())[1] is None
    assert WIRE.listed(b'{"data":[],"has_more":true}') == ((), None)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"data":3}', b"<html>"])
def test_what_is_no_list(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.listed(body)
