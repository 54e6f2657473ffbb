"""The rules of `verify`, on rows that no database has to hold."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest

from nodellm_orm.domain.codec import decode_parts, encode_parts
from nodellm_orm.domain.parts import TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from nodellm_orm.upkeep.digests import texts_named
from nodellm_orm.upkeep.findings import Notebook, Tally
from nodellm_orm.upkeep.rules.chat import check_chat
from nodellm_orm.upkeep.rules.messages import same_bytes
from nodellm_orm.upkeep.rules.requests import check_request
from nodellm_orm.upkeep.stored import StoredChat, Trouble
from nodellm_orm.upkeep.sweeps import parcels

CHAT: Final = new_id()
REQUEST: Final[dict[str, Any]] = {
    "id": new_id(),
    "status": "ok",
    "turn_status": None,
    "other_tokens": {},
    "prices": None,
    **dict.fromkeys(("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")),
    **dict.fromkeys(("cost", "input_cost", "output_cost")),
}


def message(position: int, role: str, *parts: Any, **changes: Any) -> dict[str, Any]:
    """A message's row."""
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    results = "".join(part.content for part in parts if isinstance(part, ToolResultPart))
    row = {
        "id": new_id(),
        "position": position,
        "turn_id": None,
        "role": role,
        "content": text or results,
        "parts": encode_parts(parts),
        "status": "complete",
        "finish_reason": None,
        "superseded_at": None,
    }
    return {**row, **changes}


def chat(*messages: dict[str, Any], **changes: Any) -> StoredChat:
    """A chat that was held elsewhere."""
    row = {
        "id": CHAT,
        "instructions": "[]",
        "settings": "{}",
        "next_position": len(messages),
        "owner": None,
        "active_turn_id": None,
        "lease_owner": None,
        "lease_until": None,
        "lease_expired": None,
    }
    return StoredChat(row={**row, **changes}, messages=messages, files={})


def call(name: str) -> ToolCallPart:
    """A call."""
    return ToolCallPart(call_id=name, name="f", arguments="{}")


def result(name: str) -> ToolResultPart:
    """Its result."""
    return ToolResultPart(call_id=name, name="f", content="done")


def rules(stored: StoredChat) -> list[str]:
    """What does not hold."""
    return [finding.rule for finding in check_chat(RECORDS.tables, stored).findings]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([message(0, "assistant", call("a")), message(1, "tool", result("a"))], []),
        ([message(0, "assistant", call("a"), call("b")), message(1, "tool", result("b"), result("a"))], []),
        ([message(0, "assistant", call("a"))], ["call-unanswered"]),
        ([message(0, "assistant", call("a")), message(1, "assistant", TextPart(text="x"))], ["call-unanswered"]),
        (
            [message(0, "assistant", call("a")), message(1, "assistant"), message(2, "tool", result("a"))],
            ["call-unanswered", "result-unasked"],
        ),
        ([message(0, "tool", result("a"))], ["result-unasked"]),
        (
            [message(0, "assistant", call("a")), message(1, "tool", result("a")), message(2, "tool", result("a"))],
            ["result-twice"],
        ),
        ([message(0, "assistant", call("a"), status="partial"), message(1, "user", TextPart(text="x"))], []),
        (
            [message(0, "assistant", call("a"), status="partial"), message(1, "tool", result("a"))],
            ["result-unasked"],
        ),
        ([message(0, "assistant", call("a"), superseded_at=1), message(1, "tool", result("a"), superseded_at=1)], []),
        ([message(0, "assistant", call("a")), message(1, "tool", result("a"), superseded_at=1)], ["superseded"]),
    ],
)
def test_calls_and_results(messages: list[dict[str, Any]], expected: list[str]) -> None:
    """Each call of what is replayed has one result before the model's next message; broken-off ones have none."""
    assert rules(chat(*messages)) == expected


def test_open_calls_of_a_turn_that_can_be_carried_on() -> None:
    """Calls may wait at the end of the last turn, unless it is completed; then their rows wait, too."""
    turn = {
        "id": new_id(),
        "position": 0,
        "status": "suspended",
        "reason": "tool_limit",
        "active_slot": None,
        "settings": "{}",
        "finished_at": 1,
    }
    asked = message(0, "assistant", call("a"), turn_id=turn["id"])
    row = {
        "id": new_id(),
        "turn_id": turn["id"],
        "message_id": asked["id"],
        "position": 0,
        "call_id": "a",
        "wire_id": None,
        "name": "f",
        "arguments": "{}",
        "status": "pending",
        "result": None,
        "result_message_id": None,
    }
    waiting = replace(chat(asked), turns=[turn], calls=[row])
    assert rules(waiting) == []
    assert rules(replace(waiting, turns=[{**turn, "status": "completed", "reason": "stop"}])) == ["call-unanswered"]
    later = {**turn, "id": new_id(), "position": 1}
    assert rules(replace(waiting, turns=[turn, later])) == ["call-unanswered"]


def test_unreadable_values_are_all_that_is_told() -> None:
    """Where a value is not what its column holds, the other rules are not applied."""
    trouble = Trouble(table="llm_messages", id=None, rule="unreadable", message="parts cannot be read")
    assert rules(replace(chat(message(7, "robot")), troubles=[trouble])) == ["unreadable"]


def test_chat_that_is_being_deleted_is_noted() -> None:
    """A chat that holds itself is on its way out: nothing of it is compared."""
    book = check_chat(RECORDS.tables, chat(message(7, "robot"), active_turn_id=CHAT))
    assert (book.findings, [note.rule for note in book.notes]) == ([], ["deleting"])


def test_content_that_cannot_be_decrypted_is_noted_and_the_rest_checked() -> None:
    """Without the key, places and turns are still compared."""
    book = check_chat(RECORDS.tables, replace(chat(message(7, "user")), locked=frozenset({"k1"})))
    assert [finding.rule for finding in book.findings] == ["position"]
    assert [note.rule for note in book.notes] == ["encrypted"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('[{"kind":"text","text":"a"}]', True),
        ('[{"kind": "text","text":"a"}]', False),
        ('[{"text":"a","kind":"text"}]', False),
        ('[{"kind":"text","text":"a","extra":null}]', False),
        ('[{"kind":"text","text":"\\u0061"}]', False),
        ('[{"kind":"hologram","digits":1.50}]', True),
        ('[{"kind": "hologram","digits":1.50}]', False),
        ('[{"kind":"text","text":"a","from_a_later_release":1e5}]', True),
        ('[{"kind":"opaque","payload":"{}"}]', True),
        ("[]", True),
        (" []", False),
    ],
)
def test_parts_are_written_in_one_way(text: str, *, same: bool) -> None:
    """Parts as this package writes them are the same bytes; what a later release added is compared as it stands."""
    assert same_bytes(text, decode_parts(text)) is same


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"cost": Decimal(3), "input_cost": Decimal(1), "output_cost": Decimal(2)}, []),
        ({"cost": Decimal(3), "input_cost": Decimal(1), "output_cost": Decimal(1)}, ["cost"]),
        ({"cost": Decimal(3)}, []),
        ({"cost": Decimal(-3)}, ["cost"]),
        ({"cost": None, "input_cost": Decimal(1)}, []),
        ({"prices": "{"}, ["prices"]),
        ({"input_tokens": -1, "reasoning_tokens": -1}, ["tokens"]),
        ({"other_tokens": {"a": 1.5}}, ["tokens"]),
        ({"other_tokens": {"a": True}}, ["tokens"]),
        ({"other_tokens": {"a": 0}}, []),
        ({"status": "started"}, []),
        ({"status": "started", "turn_status": "running"}, []),
        ({"status": "started", "turn_status": "completed"}, ["request-open"]),
        ({"status": "lost"}, ["word"]),
    ],
)
def test_ledger_rows(changes: dict[str, Any], expected: list[str]) -> None:
    """Nothing is negative, the cost is the sum of its sides, and no attempt is open behind a turn that ended."""
    book = Notebook(chat_id=None)
    check_request(book, "llm_requests", {**REQUEST, **changes})
    assert [finding.rule for finding in book.findings] == expected


@pytest.mark.parametrize(("cost", "expected"), [("3.02", []), ("3", ["cost"])])
def test_what_is_charged_beside_tokens_is_part_of_the_cost(cost: str, expected: list[str]) -> None:
    """Uses of server-side tools are in the total and on neither side; the snapshot of prices has them."""
    prices = (
        '{"model":"m","classes":{"input":{"quantity":1000000,"price":"1","per":1000000},'
        '"web_searches":{"quantity":2,"price":"10","per":1000}}}'
    )
    row = {"cost": Decimal(cost), "input_cost": Decimal(1), "output_cost": Decimal(2), "prices": prices}
    book = Notebook(chat_id=None)
    check_request(book, "llm_requests", {**REQUEST, **row})
    assert [finding.rule for finding in book.findings] == expected


def test_texts_that_a_turn_names() -> None:
    """Digests of instructions and tool schemas are found; what cannot be read names none."""
    assert texts_named('{"instructions":["a",7],"tools":{"t":"b"},"options":{}}') == {"a", "b"}
    assert texts_named("{") == texts_named("[]") == texts_named(None) == texts_named('{"tools":[1]}') == frozenset()


def test_files_are_read_in_parcels() -> None:
    """Files are read together up to a size, each owner's for himself; a single large one alone."""
    sizes = [((None, "a"), 2), ((None, "b"), 2), ((None, "c"), 9), ((None, "d"), 1), (("ada", "e"), 1)]
    assert parcels(sizes, most=4) == [[(None, "a"), (None, "b")], [(None, "c")], [(None, "d")], [("ada", "e")]]
    assert parcels([]) == []


def test_only_so_many_findings_are_kept() -> None:
    """Findings and notes beyond the limit are counted, and not kept."""
    tally, book = Tally(limit=3), Notebook(chat_id=None)
    for number in range(2):
        book.damage("t", number, "r", "m")
        book.note("t", number, "r", "m")
    for _ in range(2):
        tally.add(book)
    report = tally.report()
    assert (len(report.findings), len(report.notes), report.damaged, report.ok) == (3, 3, 4, False)
