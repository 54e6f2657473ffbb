"""Whatever is in them, values are read back equal from every database."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.money import Cost
from nodellm_orm.domain.parts import (
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.usage import Usage
from nodellm_orm.ports.entries import CallFinished, TurnEnded
from nodellm_orm.runtime.clock import new_id
from tests.integration.store.samples import ORIGIN, answer, begun, call, closed, head, opened_call

if TYPE_CHECKING:
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.store.journal import SqlJournal

HOSTILE = [
    pytest.param("a\x00b\x00", id="nul", marks=[pytest.mark.fault("B16"), pytest.mark.fault("B17")]),
    pytest.param("\ud83d", id="half a character", marks=pytest.mark.fault("B19")),
    pytest.param("\udc00\ud800 \ufdd0 \ufdd00000", id="surrogates and our own mark"),
    pytest.param("\U0001f600\u200d\U0001f469 e\u0301 \u00e9 \ufeff", id="four bytes"),
    pytest.param("'; DROP TABLE llm_chats; -- \\' \" % %s %(x)s :name ? $1 {}", id="statements"),
    pytest.param("  spaces \t\r\n\x0b\x1a\x7f ", id="spaces"),
    pytest.param("", id="nothing"),
    pytest.param('\u00e9"\\' * 30_000, id="long", marks=pytest.mark.fault("B21")),
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_read_back_equal(sql_journal: SqlJournal, text: str) -> None:
    """In a message, a call, a result, an error, a title, instructions, metadata and keys."""
    short = text[:60]
    made = head(
        owner=f"{new_id()}{short}",
        title=text,
        instructions=(text, "x"),
        metadata={short: text, "list": [text, {short: None}]},
        settings=Settings(schema_name=short, tool_choice=short),
    )
    snapshot = await sql_journal.create(made)
    assert replace(snapshot.head, created_at=None, updated_at=None) == made
    turn = await begun(sql_journal, owner=made.owner)
    asked = replace(call(), name=text, arguments=dumps({"x": text}), wire_id=text)
    said = answer(1, asked, text=text)
    extra = (ThinkingPart(text=text, signature=text, opaque=dumps([text])), RefusalPart(text=text))
    message = replace(said.message, parts=(*said.message.parts, *extra), raw_finish_reason=text)
    said = replace(said, message=message)
    opened = opened_call(said, asked)
    hold = await sql_journal.record(turn.hold, (replace(closed(turn.opened), request_id=text), said, opened))
    finished = CallFinished(id=opened.id, status="failed", result=text, error=text)
    await sql_journal.record(hold, (finished, TurnEnded(status="failed", error_message=text)))
    seen = await sql_journal.load(hold.chat_id, made.owner)
    assert seen.messages[1] == message
    assert seen.last_turn is not None
    assert seen.last_turn.error_message == text
    (stored,) = seen.last_turn.calls
    assert (stored.call, stored.result, stored.error) == (asked, text, text)
    assert seen.last_turn.attempts[0].request_id == text
    assert [chat.title for chat in await sql_journal.summaries(made.owner, metadata={short: text})] == [text]


@pytest.mark.fault("B21")
async def test_a_megabyte_is_read_back_equal(sql_journal: SqlJournal) -> None:
    """Text is not cut at 64 KB, nor anywhere else."""
    text = "\u00e9" * 600_000
    turn = await begun(sql_journal)
    said = answer(1, replace(call(), arguments=text), text=text)
    await sql_journal.record(turn.hold, (said,))
    assert (await sql_journal.load(turn.hold.chat_id, "ada")).messages[1] == said.message


async def test_long_names_that_others_chose_are_cut_not_refused(sql_journal: SqlJournal) -> None:
    """A row that was paid for is kept, even when a provider's model name is absurd."""
    turn = await begun(sql_journal)
    await sql_journal.record(turn.hold, (replace(closed(turn.opened), model="m" * 1000, error_type="E" * 1000),))
    (stored,) = (await sql_journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).attempts
    assert stored.model == "m" * 255


@pytest.mark.fault("B25")
@pytest.mark.fault("B26")
async def test_numbers_keep_every_digit(sql_journal: SqlJournal) -> None:
    """Counts beyond 32 bits, exact money, and integers in metadata beyond 64 bits."""
    metadata: dict[str, Any] = {"huge": 2**80, "negative": -(2**64), "float": 1e-300, "deep": _nested(150)}
    snapshot = await sql_journal.create(head(metadata=metadata))
    assert (await sql_journal.load(snapshot.head.id, "ada")).head.metadata == metadata
    turn = await begun(sql_journal)
    usage = Usage(input_tokens=2**62, output_tokens=0, other_tokens={"x": 2**62})
    cost = Cost(
        total=Decimal("9000000.123456789012"),
        input=Decimal("0.000000000001"),
        output=Decimal(0),
        prices='{"input":1.50}',
        source="user",
    )
    await sql_journal.record(turn.hold, (closed(turn.opened, usage=usage, cost=cost),))
    (stored,) = (await sql_journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).attempts
    assert (stored.usage, stored.cost) == (usage, cost.total)
    totals = await sql_journal.totals(turn.hold.chat_id, "ada")
    assert (totals.cost, totals.usage) == (cost.total, usage)


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"x": [value]} if depth % 2 else [value]
    return value


TEXTS = st.text(st.characters(codec=None), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = JSON.map(dumps)
MAYBE = st.none() | TEXTS
PARTS = st.one_of(
    st.builds(TextPart, text=TEXTS, extra=st.none() | DOCUMENTS),
    st.builds(ThinkingPart, text=TEXTS, signature=MAYBE, redacted=st.booleans(), opaque=st.none() | DOCUMENTS),
    st.builds(ToolResultPart, call_id=TEXTS, name=TEXTS, content=TEXTS, is_error=st.booleans()),
    st.builds(RefusalPart, text=TEXTS),
    st.builds(OpaquePart, payload=DOCUMENTS),
    st.builds(ToolCallPart, call_id=TEXTS, name=TEXTS, arguments=TEXTS, wire_id=MAYBE, truncated=st.booleans()),
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "tool", "system"]),
    parts=st.lists(PARTS, max_size=4).map(tuple),
    status=st.sampled_from(["complete", "partial"]),
    finish_reason=st.none() | st.sampled_from(list(FinishReason)),
    raw_finish_reason=MAYBE,
    origin=st.none() | st.just(ORIGIN),
)
HEADS = st.builds(
    lambda **members: head(f"any {new_id()}", **members),
    title=MAYBE,
    instructions=st.lists(TEXTS, max_size=2).map(tuple),
    metadata=st.dictionaries(TEXTS, JSON, max_size=3),
    fork_position=st.none() | st.integers(0, 2**63 - 1),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=HEADS, messages=st.lists(MESSAGES, max_size=4))
async def test_any_chat_is_read_back_equal(sql_journal: SqlJournal, made: ChatHead, messages: list[Message]) -> None:
    """Whatever a head and messages consist of, they are read back equal, once and again."""
    snapshot = await sql_journal.create(made, [(new_id(), message) for message in messages])
    assert replace(snapshot.head, created_at=None, updated_at=None) == made
    assert [replace(message, position=None) for message in snapshot.messages] == messages
    fork = replace(snapshot.head, id=new_id())
    again = await sql_journal.create(fork, [(new_id(), message) for message in snapshot.messages])
    assert again.messages == snapshot.messages
