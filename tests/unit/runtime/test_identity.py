"""Names of things: ids of calls are legal everywhere and unique in a chat, digests are stable."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import Origin
from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.identity import call_id_for, settings_digest, texts_of

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
LEGAL = re.compile(r"[A-Za-z0-9_-]{1,40}")


def part(wire_id: str | None) -> ToolCallPart:
    """A call as parsed."""
    return ToolCallPart(call_id="", wire_id=wire_id, name="f", arguments="{}")


@pytest.mark.fault("A36")
@pytest.mark.fault("A37")
@given(st.lists(st.none() | TEXTS | st.sampled_from(["call_1", "toolu_x"]), max_size=20))
def test_ids_are_legal_and_unique_whatever_a_provider_sends(wire_ids: list[str | None]) -> None:
    """Missing, empty, repeated, long or illegal ids are replaced, legal new ones are kept."""
    taken: set[str] = set()
    for wire_id in wire_ids:
        call_id = call_id_for(part(wire_id), taken, new_id)
        assert LEGAL.fullmatch(call_id)
        assert call_id not in taken
        if wire_id is not None and LEGAL.fullmatch(wire_id) and wire_id not in taken:
            assert call_id == wire_id
        taken.add(call_id)


@pytest.mark.fault("A38")
@pytest.mark.parametrize("wire_id", [None, "", "x" * 41, "x" * 200, "a b", "é", "call_1\n", "a.b", "\ud800", "call_1"])
def test_what_cannot_be_an_id_gets_one_from_the_source(wire_id: str | None) -> None:
    """The same source gives the same id, so tests can hold it still."""
    got = call_id_for(part(wire_id), {"call_1"}, lambda: UUID(int=7))
    assert got == "call_00000000000000000000000000000007"


def test_an_id_as_long_as_allowed_is_kept() -> None:
    """Forty characters are what every provider takes."""
    assert call_id_for(part("x" * 40), set(), new_id) == "x" * 40


@given(TEXTS, TEXTS)
def test_digests_tell_texts_apart(one: str, two: str) -> None:
    """Any string has one, equal strings the same."""
    assert re.fullmatch("[0-9a-f]{64}", digest_of_text(one))
    assert (digest_of_text(one) == digest_of_text(two)) == (
        one.encode("utf-8", "backslashreplace") == two.encode("utf-8", "backslashreplace")
    )


def test_what_a_turn_was_asked_with_is_a_stable_text() -> None:
    """Provider, model, options, instructions and tools: texts by their digests, which can be looked up."""
    origin = Origin(provider="p", api="a", endpoint="https://e", model="m")
    request = ModelRequest(
        target=origin,
        messages=(),
        instructions=("Be brief.",),
        tools=(ToolSpec(name="f", description="F", parameters="{}"),),
        settings=Settings(temperature=0.5),
        profile=ModelProfile(),
    )
    text = settings_digest(origin, request)
    assert loads(text) == {
        "provider": "p",
        "api": "a",
        "model": "m",
        "options": {"temperature": 0.5},
        "instructions": [digest_of_text("Be brief.")],
        "tools": {"f": digest_of_text('{"description":"F","parameters":{}}')},
    }
    assert text == settings_digest(origin, request)
    assert texts_of(request) == ("Be brief.", '{"description":"F","parameters":{}}')


def test_new_ids_are_ordered_by_the_time_they_were_made() -> None:
    """UUIDv7: version 7, unique, and rising."""
    made = [new_id() for _ in range(100)]
    assert made == sorted(set(made))
    assert {(type(one), one.version) for one in made} == {(UUID, 7)}


async def test_the_system_clock_never_goes_back() -> None:
    """Also across a wait."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
