"""The question which models there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from nodellm_orm.providers.local.row import LOCAL
from tests.unit.wire.openai_chat.asking import WIRE


def test_it_lists_and_does_not_count() -> None:
    """No server of this format counts ahead; the model of this process has no list."""
    assert isinstance(WIRE, ModelLister)
    assert not isinstance(WIRE, TokenCounter)
    assert not isinstance(LOCAL.dialects[0].wire, ModelLister)


def test_all_models_are_asked_for_at_once() -> None:
    """A GET without a body, whatever page is wanted."""
    assert WIRE.list_request() == WIRE.list_request("more")
    request = WIRE.list_request()
    assert (request.method, request.path, request.body, request.stream) == ("GET", "/models", b"", False)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"id": "gpt-5-mini", "object": "model", "created": 1754425777, "owned_by": "system"},
            ListedModel(id="gpt-5-mini", created=datetime(2025, 8, 5, 20, 29, 37, tzinfo=UTC), owned_by="system"),
        ),
        (
            {
                "id": "anthropic/claude-haiku-4.5",
                "name": "Anthropic: Claude Haiku 4.5",
                "created": 1760547638,
                "context_length": 200000,
                "top_provider": {"context_length": 200000, "max_completion_tokens": 64000, "is_moderated": True},
            },
            ListedModel(
                id="anthropic/claude-haiku-4.5",
                name="Anthropic: Claude Haiku 4.5",
                created=datetime(2025, 10, 15, 17, 0, 38, tzinfo=UTC),
                context_window=200_000,
                max_output_tokens=64_000,
            ),
        ),
        (
            {"id": "mistral-small-latest", "name": "mistral-small-latest", "max_context_length": 131072},
            ListedModel(id="mistral-small-latest", context_window=131_072),
        ),
        ({"id": "served", "max_model_len": 4096}, ListedModel(id="served", context_window=4096)),
        ({"id": "x", "created": None, "owned_by": 7, "context_length": None}, ListedModel(id="x")),
        ({"id": "x", "created": 10**17, "context_length": "4096", "top_provider": None}, ListedModel(id="x")),
    ],
)
def test_a_model_is_what_its_server_says_of_it(item: object, expected: ListedModel) -> None:
    """Names, ages and limits under each server's own words; what makes no sense is unknown."""
    assert WIRE.listed(json.dumps({"object": "list", "data": [item]}).encode()) == ((expected,), None)


def test_what_is_no_model_is_left_out() -> None:
    """A list without an object around it is one too."""
    body = json.dumps([{"id": "a"}, None, "b", {"id": ""}, {}]).encode()
    assert WIRE.listed(body) == ((ListedModel(id="a"),), None)


@pytest.mark.parametrize("body", [b"", b"{}", b'"a"', b'{"data":3}', b"<html>"])
def test_what_is_no_list(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.listed(body)
