"""Whatever comes without end, or packed, or nested: it is bounded, and what was before stays as it was."""

from __future__ import annotations

import ast
import asyncio
import json
import tracemalloc
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    ConfigurationError,
    NodeLLMError,
    ProtocolError,
    ProviderError,
    RetryPolicy,
    StreamInterruptedError,
    create_chat,
    list_chats,
    load_chat,
    tool,
)
from nodellm_orm.testing import FakeCall, body_answer, sse_answer
from tests.acceptance.canaries import cells
from tests.acceptance.speakers import ALL_APIS, Fails, Says, Speaker
from tests.acceptance.talks import double
from tests.acceptance.validity import check, check_history, stored

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, Reply

ONCE: Final = RetryPolicy(max_attempts=1)
SPEAKERS: Final = [Speaker(api) for api in ALL_APIS]
PACKAGE: Final = Path(__file__).parents[2] / "nodellm_orm"
one_database: Final = pytest.mark.parametrize("database_kind", ["sqlite"])


# ── rounds, cost, time ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("A55")
@pytest.mark.fault("E17")
@one_database
@pytest.mark.parametrize("bound", ["rounds", "fewer rounds", "cost", "time"])
@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
async def test_a_model_that_calls_for_ever_is_ended(engine: AsyncEngine, speaker: Speaker, bound: str) -> None:
    """By the rounds of a turn, by its cost, or by a time limit of the caller's; the conversation can go on."""
    if (bound, speaker.api) == ("cost", "ollama"):
        pytest.skip("what runs at home costs nothing")
    forever = [Says(calls=[FakeCall("double", {"x": 2})], usage=(1000, 1000)) for _ in range(9)]
    stop = {"rounds": 9, "fewer rounds": 3, "cost": 1, "time": 9}[bound]
    async with speaker.server(*forever[:stop], Says(text="All right.")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double])
        ended = await bounded(chat, bound, server.until_received(3))
        assert len(server.requests) == stop
        assert (await (await load_chat(engine, llm, chat.id, tools=[double])).ask("Enough")).content == "All right."
    assert ended is None or ended.finish_reason == ("cost_limit" if bound == "cost" else "tool_limit")
    for request in server.requests:
        check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
    check_history((await stored(engine, chat.id)).messages)


async def bounded(chat: Chat, bound: str, some: Awaitable[object]) -> Reply[Any] | None:
    """The reply that is ended by a bound."""
    match bound:
        case "rounds":
            return await chat.ask("Go")
        case "fewer rounds":
            return await chat.ask("Go", max_tool_rounds=2)
        case "cost":
            return await chat.ask("Go", max_cost="0.000001")
        case _:
            asked = asyncio.create_task(chat.ask("Go"))
            await some
            asked.cancel()
            await asyncio.wait({asked})
            return None
