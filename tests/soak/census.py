"""What must hold of the rows when it is over, and what the provider and the tools know of it."""

from __future__ import annotations

import json
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm import NodeLLMError, load_chat
from tests.acceptance.validity import check_history, stored
from tests.soak.worker import Diary, client_for, counting_tool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from tests.acceptance.validity import Rows
    from tests.soak.provider import Books

LAST: Final = "last"
TRIES: Final = 5


@dataclass(slots=True)
class Findings:
    """What was counted, and what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


async def settle(engine: AsyncEngine, url: str, chats: Sequence[UUID], diary: Path) -> list[str]:
    """Ask every chat once more, as somebody who comes next day; what went wrong.

    Args:
        engine: where the chats are.
        url: of the provider.
        chats: all of them.
        diary: where the tools write.
    """
    stuck: list[str] = []
    tools = [counting_tool(Diary(diary))]
    async with client_for(url) as llm:
        for chat_id in chats:
            try:
                chat = await load_chat(engine, llm, chat_id, tools=tools)
                await _ask(chat)
                # Calls in an answer that was broken off were never made: of it, only the text is replayed.
                check_history([message for message in chat.messages if message.status == "complete"])
            except Exception as error:  # noqa: BLE001 — whatever it is, the chat is stuck
                stuck.append(f"chat {chat_id} is stuck: {error!r}")
    return stuck


async def _ask(chat: Chat) -> None:
    """Ask until the provider is in the mood to answer."""
    for attempt in range(TRIES):
        try:
            reply = await chat.ask(f"say {chat.id}/{LAST}{attempt}", wait=30)
        except NodeLLMError:
            if attempt == TRIES - 1:
                raise
            continue
        assert reply.content == f"you said {chat.id}/{LAST}{attempt}"
        return


async def inspect(engine: AsyncEngine, chats: Sequence[UUID], diary: Path, books: Books) -> Findings:
    """Look at every row.

    Args:
        engine: where the chats are.
        chats: all of them.
        diary: what workers and tools have written.
        books: what the provider knows.
    """
    findings = Findings(violations=list(books.violations))
    runs = _read(diary, findings)
    used: Counter[str] = Counter()
    for chat_id in chats:
        rows = await stored(engine, chat_id)
        try:
            rows.check()
            _check_turns(rows)
            _check_ledger(rows, books, used)
            _check_calls(rows, runs)
        except AssertionError as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            findings.violations.append(f"chat {chat_id}: {where.line} ({where.name}:{where.lineno}) {error}")
        findings.counts["turns"] += len(rows.turns)
        findings.counts["completed turns"] += sum(turn.status == "completed" for turn in rows.turns)
        findings.counts["take-overs"] += sum(turn.takeovers for turn in rows.turns)
        findings.counts["calls"] += len(rows.calls)
        findings.counts["ledger rows"] += len(rows.requests)
        findings.counts["of unknown outcome"] += sum(row.status == "unknown" for row in rows.requests)
    findings.violations += [f"{number} paid for twice" for number, times in used.items() if times > 1]
    return findings


def _read(diary: Path, findings: Findings) -> dict[str, Counter[str]]:
    """How often each call began and ended; everything else is counted."""
    runs: dict[str, Counter[str]] = defaultdict(Counter)
    for line in diary.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        match entry["kind"]:
            case "tool began" | "tool ended":
                runs[entry["call"]][entry["kind"]] += 1
            case "violation":
                findings.violations.append(entry["what"])
            case "refused":
                findings.counts[entry["error"]] += 1
            case kind:
                findings.counts[kind] += 1
    return runs


def _check_turns(rows: Rows) -> None:
    """The messages of a turn stand together: turns do not interleave."""
    blocks = [turn for turn, _ in groupby(message.turn_id for message in rows.messages)]
    assert len(blocks) == len(set(blocks)), "two turns have written in turn"
    first = [next(messages) for _, messages in groupby(rows.messages, key=lambda message: message.turn_id)]
    assert all(message.role == "user" for message in first), "a turn does not begin with its question"


def _check_ledger(rows: Rows, books: Books, used: Counter[str]) -> None:
    """Every request that arrived is a row, and every row that was paid for says what the provider says."""
    received = books.received[str(rows.chat.id)]
    assert len(rows.requests) >= received, f"{received} requests arrived, and {len(rows.requests)} are in the ledger"
    open_rows = [row.id for row in rows.requests if row.status == "started"]
    assert not open_rows, f"rows of the ledger are still open: {open_rows}"
    for row in rows.requests:
        if row.status != "ok":
            continue
        assert row.request_id in books.answered, f"nobody gave the answer {row.request_id}"
        used[row.request_id] += 1
        assert (row.input_tokens, row.output_tokens) == books.answered[row.request_id]
        assert row.cost is not None
        assert row.cost > 0
    paid = {row.message_id for row in rows.requests if row.status == "ok"}
    spoken = {m.id for m in rows.messages if m.role == "assistant" and m.status == "complete"}
    assert spoken <= paid, "an answer was not paid for"


def _check_calls(rows: Rows, runs: dict[str, Counter[str]]) -> None:
    """A call that has its result has run, and never more often than its row says."""
    for call in rows.calls:
        run = runs[f"{rows.chat.id}:{call.call_id}"]
        assert run["tool began"] <= call.attempts, f"{call.call_id} ran {run['tool began']} times"
        assert call.attempts <= 1, f"{call.call_id} was started {call.attempts} times, and is not idempotent"
        if call.status == "succeeded":
            assert run["tool ended"] == 1, f"{call.call_id} succeeded, and ended {run['tool ended']} times"
