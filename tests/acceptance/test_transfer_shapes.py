"""Chats of any shape, with anything in any column, go from one database to another and come out equal."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from nodellm_orm import create_chat, import_chats, load_chat
from nodellm_orm.domain.digests import digest_of, digest_of_text
from nodellm_orm.testing import FakeCall, FakeThinking
from nodellm_orm.transfer.layout import TABLES
from tests.acceptance.healthy import HOSTILE, PNG, get_weather
from tests.acceptance.speakers import ALL_APIS, Says, Speaker
from tests.acceptance.transfers import T, database, exported, message_row, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.speakers import Api

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = st.text(st.characters(), max_size=12) | st.sampled_from(
    [HOSTILE, "", "\x00", "\ud83d\ude00", "\ufdd00000", "2028\u2028"]
)
_MAYBE = st.none() | _WORDS
_COUNT = st.integers(-(2**63) + 1, 2**63 - 1)
_AMOUNT = st.none() | st.decimals(-(9 * 10**6), 9 * 10**6, places=12)
_MOMENT = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 — bounds are naive
_CHATS = st.lists(
    st.fixed_dictionaries(
        {
            "owner": _MAYBE,
            "title": _MAYBE,
            "parent": st.booleans(),
            "messages": st.lists(
                st.fixed_dictionaries({"content": _WORDS, "parts": _WORDS, "created_at": _MOMENT}), max_size=4
            ),
            "turns": st.lists(
                st.fixed_dictionaries(
                    {
                        "status": st.sampled_from(["completed", "failed", "cancelled", "suspended"]),
                        "idempotency_key": st.none() | st.text("k\u00e9", max_size=3),
                        "error_message": _MAYBE,
                        "started_at": _MOMENT,
                        "texts": st.lists(st.sampled_from(["Be brief.", HOSTILE, ""]), max_size=2),
                    }
                ),
                max_size=3,
            ),
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "status": st.sampled_from(["awaiting_approval", "denied", "unknown", "succeeded"]),
                        "arguments": _WORDS,
                        "result": _MAYBE,
                        "decided_at": st.none() | _MOMENT,
                    }
                ),
                max_size=3,
            ),
            "thinking": st.lists(
                st.fixed_dictionaries(
                    {"text": _WORDS, "signature": _MAYBE, "opaque": _MAYBE, "redacted": st.booleans()}
                ),
                max_size=3,
            ),
            "attachments": st.lists(st.fixed_dictionaries({"name": _MAYBE, "data": st.binary(max_size=9)}), max_size=3),
            "requests": st.lists(
                st.fixed_dictionaries(
                    {"status": st.sampled_from(["ok", "failed", "cancelled"]), "cost": _AMOUNT, "input_tokens": _COUNT}
                ),
                max_size=2,
            ),
        }
    ),
    min_size=1,
    max_size=4,
)


async def _written(engine: AsyncEngine, chats: list[dict[str, Any]]) -> None:
    """Chats as rows, with ids that their places give."""
    rows: dict[str, dict[Any, dict[str, Any]]] = {name: {} for name in TABLES}
    for number, chat in enumerate(chats, start=1):
        chat_id, owner = UUID(int=number << 64), chat["owner"]
        parent = {"parent_chat_id": UUID(int=1 << 64), "fork_position": 0} if chat["parent"] else {}
        values = {"id": chat_id, "owner": owner, "title": chat["title"], "next_position": len(chat["messages"])}
        rows["chats"][chat_id] = {
            "parent_chat_id": None,
            "fork_position": None,
            **parent,
            **values,
            "created_at": NOW,
            "updated_at": NOW,
        }
        for place, message in enumerate(chat["messages"]):
            rows["messages"][chat_id, place] = message_row(chat_id, place) | message
        for name in ("turns", "tool_calls", "thinking", "attachments", "requests"):
            for place, said in enumerate(chat[name]):
                row = {"chat_id": chat_id, "id": UUID(int=(number << 64) + place), "position": place, **said}
                if name == "turns":
                    texts, key = row.pop("texts"), row["idempotency_key"]
                    row["idempotency_key"] = None if key is None else f"{key}{place}"  # one of its own
                    row["settings"] = json.dumps({"instructions": [digest_of_text(text) for text in texts]})
                    rows["texts"] |= {
                        (owner, text): {"owner": owner, "sha256": digest_of_text(text), "text": text, "created_at": NOW}
                        for text in texts
                    }
                elif name == "requests":
                    del row["position"]
                    row |= {"owner": owner, "operation": "chat", "provider": "p", "requested_model": "m"}
                    row |= {"attempt": 1, "created_at": NOW}
                else:
                    row["message_id"] = UUID(int=7)
                if name == "tool_calls":
                    row |= {"turn_id": UUID(int=number << 64), "call_id": f"c{place}", "name": "n"}
                if name == "attachments":
                    data = row.pop("data")
                    file = {"sha256": digest_of(data), "size": len(data)}
                    row |= file | {"kind": "document", "media_type": "text/plain"}
                    content = {"owner": owner, "data": data, "media_type": "text/plain", "created_at": NOW} | file
                    rows["blobs"][owner, data] = {key: value for key, value in content.items() if key in T.blobs.c}
                rows[name][chat_id, place] = row
    async with engine.begin() as connection:
        for name in reversed(TABLES):
            await connection.execute(getattr(T, name).delete())
        for name in TABLES:
            if rows[name]:
                await connection.execute(insert(getattr(T, name)), list(rows[name].values()))


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each example takes databases: shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chats=_CHATS)
async def test_whatever_a_chat_has_goes_round(engine: AsyncEngine, tmp_path: Path, chats: list[dict[str, Any]]) -> None:
    """Chats with anything in any column come out of every database as the same bytes, together and alone."""
    async with database("sqlite", tmp_path) as one, database("sqlite", tmp_path) as two:
        await _written(one, chats)
        file = await exported(one)
        async with engine.begin() as connection:
            for name in reversed(TABLES):
                await connection.execute(getattr(T, name).delete())
        await import_chats(engine, io.BytesIO(file))
        assert await exported(engine) == file
        for number in range(len(chats), 0, -1):
            alone = await exported(engine, chats=[UUID(int=number << 64)])
            assert (await import_chats(two, io.BytesIO(alone))).chats == 1
        assert await exported(two) == file
        for name in TABLES:
            local = {"created_at"} if name == "texts" else set()
            sides = [await rows_of(each, getattr(T, name)) for each in (one, engine, two)]
            # In an order that does not depend on how a database compares owners.
            known = [sorted(repr({k: v for k, v in row.items() if k not in local}) for row in rows) for rows in sides]
            assert known[0] == known[1] == known[2], name


async def test_a_chat_of_any_format_goes_on_with_equal_requests(tmp_path: Path) -> None:
    """Thinking, calls and files of each provider are sent from the copy as from the chat itself: the same bytes."""
    thought, call = FakeThinking("Let me think"), FakeCall("get_weather", {"city": "Rome"})
    async with database("sqlite", tmp_path) as here, database("sqlite", tmp_path) as there:
        ids: dict[Api, UUID] = {}
        for api in ALL_APIS:
            speaker = Speaker(api)
            script = (Says(thinking=[thought], calls=[call]), Says(text="Sunny."))
            async with speaker.server(*script) as server, speaker.llm(server) as llm:
                chat = await create_chat(here, llm, instructions="Be brief.", tools=[get_weather])
                await chat.ask(HOSTILE, files=[("cat.png", PNG)])
                ids[api] = chat.id
        await import_chats(there, io.BytesIO(await exported(here)))
        for api, chat_id in ids.items():
            bodies = []
            for engine in (here, there):
                async with Speaker(api).server(Says(text="Yes.")) as server, Speaker(api).llm(server) as llm:
                    await (await load_chat(engine, llm, chat_id, tools=[get_weather])).ask("Still there?")
                    bodies.append(server.requests[-1].body)
            assert bodies[0] == bodies[1], api
