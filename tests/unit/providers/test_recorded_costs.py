"""What the recorded exchanges cost: as reported where a provider reports it, never negative, never 0 for unknown."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import pytest

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import ProviderError
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.providers.registry import Registry
from nodellm_orm.providers.rows import DIALECTS
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion

pytestmark = [pytest.mark.recordings, needs_recordings]

_FORMATS: Final = {
    "/chat/completions": "openai_chat",
    "/responses": "openai_responses",
    "/messages": "anthropic",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
    "/converse": "bedrock",
    "/converse-stream": "bedrock",
    "/api/chat": "ollama",
}
_PROVIDERS: Final = (
    "openai",
    "anthropic",
    "gemini",
    "bedrock",
    "deepseek",
    "openrouter",
    "mistral",
    "xai",
    "azure",
    "ollama",
)
_ALL: Final = [
    (provider, api, found)
    for provider in _PROVIDERS
    for suffix, api in _FORMATS.items()
    for found in interactions(provider, suffix)
    if found.status == 200
]
_BOOK: Final = GenaiPrices()


def _answer(api: str, recorded: Interaction) -> Completion | None:
    """The recorded answer; nothing for one that is an error after all."""
    wire = DIALECTS[api].wire
    content = recorded.headers.get("content-type", "")
    streamed = recorded.streamed or "eventstream" in content or recorded.url.endswith("converse-stream")
    try:
        if not streamed:
            return wire.parse(recorded.body, ModelProfile())
        parser, folded = wire.stream(ModelProfile(requires_finish=False)), Accumulator()
        for event in (*parser.feed(recorded.body), *parser.close()):
            folded.add(event)
    except ProviderError:
        return None
    return folded.completion()


def _model(recorded: Interaction, answer: Completion) -> str:
    asked = (recorded.request or {}).get("model")
    path = unquote(urlsplit(recorded.url).path)
    named = path.partition("/model/")[2].partition("/")[0] or path.rpartition("models/")[2].partition(":")[0]
    return answer.model or str(asked or named)


def test_enough_was_recorded() -> None:
    """Every provider has answers to price, but for one that is free and one that speaks another's format."""
    assert {provider for provider, _, _ in _ALL} >= set(_PROVIDERS) - {"ollama"}
    assert set(_PROVIDERS) <= set(Registry().names)


@pytest.mark.parametrize(("provider", "api", "recorded"), _ALL, ids=[found.id for _, _, found in _ALL])
def test_a_recorded_answer_costs_what_it_says_or_what_its_tokens_do(
    provider: str, api: str, recorded: Interaction
) -> None:
    """A reported cost is the cost; otherwise it is the sum of the classes in its snapshot, or not known."""
    answer = _answer(api, recorded)
    if answer is None:
        return
    usage = answer.usage
    cost = _BOOK.cost(provider=provider, model=_model(recorded, answer), usage=usage)
    if usage.reported_cost is not None:
        assert (cost.total, cost.source) == (usage.reported_cost, "provider")
        return
    if cost.total is None:
        return
    assert cost.total >= 0
    assert cost.prices is not None
    classes = json.loads(str(cost.prices))["classes"].values()
    lines = [Decimal(line["price"] or 0) * (line["quantity"] or 0) / line["per"] for line in classes]
    assert abs(sum(lines) - cost.total) < Decimal("1e-9")
    assert loads(cost.prices)
    if (usage.input_tokens or 0) > 0 and any(Decimal(line["price"] or 0) > 0 for line in classes):
        assert cost.total > 0
