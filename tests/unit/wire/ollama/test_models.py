"""Which models a server has."""

from __future__ import annotations

import json

import pytest

from nodellm_orm.domain.catalogue import ListedModel
from nodellm_orm.errors import ProtocolError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from tests.unit.wire.ollama.asking import WIRE


def test_it_lists_and_does_not_count() -> None:
    """The server says what it has; how many tokens a request has it says only after the answer."""
    assert isinstance(WIRE, ModelLister)
    assert not isinstance(WIRE, TokenCounter)


def test_the_list() -> None:
    """Models have the names they are asked by, and there is one page."""
    request = WIRE.list_request()
    assert (request.method, request.path, request.body) == ("GET", "/api/tags", b"")
    models = [
        {"name": "qwen3:8b", "model": "qwen3:8b", "size": 5, "details": {"family": "qwen3"}},
        {"name": "older:latest"},
        {"size": 3},
        4,
    ]
    found = WIRE.listed(json.dumps({"models": models}).encode())
    assert found == ((ListedModel(id="qwen3:8b"), ListedModel(id="older:latest")), None)
    assert WIRE.listed(b'{"models":[]}') == ((), None)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"models":3}', b"<html>"])
def test_what_is_no_list(body: bytes) -> None:
    """Anything else is refused with advice."""
    with pytest.raises(ProtocolError, match="check base_url"):
        WIRE.listed(body)
