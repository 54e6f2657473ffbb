"""Settings: one overrides the other, and what is stored is what was set."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import JsonTextError
from nodellm_orm.domain.profile import EFFORTS
from nodellm_orm.domain.settings import UNSET, Settings, ThinkingConfig
from nodellm_orm.domain.windows import Window
from nodellm_orm.errors import ConfigurationError

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
COUNTS = st.none() | st.integers(0, 10**9)
LIMITS = st.none() | st.integers(1, 10**9)
SETTINGS = st.builds(
    Settings,
    temperature=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    max_tokens=COUNTS,
    thinking=st.none()
    | st.builds(ThinkingConfig, effort=st.none() | st.sampled_from(EFFORTS), budget=st.none() | st.integers()),
    schema=st.none() | TEXTS,
    schema_name=st.none() | TEXTS,
    tool_choice=st.none() | TEXTS,
    parallel_tool_calls=st.none() | st.booleans(),
    cache=st.none() | st.booleans(),
    max_tool_rounds=st.integers(0, 100),
    max_cost=st.none() | st.decimals(allow_nan=False, allow_infinity=False),
    history_window=st.none() | st.builds(Window, turns=LIMITS, tokens=LIMITS),
    compacted=st.booleans(),
)


@given(SETTINGS)
def test_settings_come_back_as_they_were(settings: Settings) -> None:
    """Storing and reading loses nothing, down to the digits of an amount."""
    again = Settings.from_json(settings.to_json())
    assert again == settings
    assert str(again.max_cost) == str(settings.max_cost)


def test_defaults_are_stored_as_nothing() -> None:
    """Only what differs from the defaults is written."""
    assert Settings().to_json() == "{}"
    assert Settings(temperature=0.5, max_cost=Decimal("0.10")).to_json() == '{"temperature":0.5,"max_cost":"0.10"}'


def test_an_amount_given_as_a_float_keeps_its_digits() -> None:
    """A tenth of a dollar is a tenth after a restart, not its binary neighbour."""
    options: dict[str, Any] = {"max_cost": 0.1}
    assert Settings.from_json(Settings(**options).to_json()).max_cost == Decimal("0.1")


def test_a_window_that_was_stored_as_a_number_is_one_of_turns() -> None:
    """A number, as versions before `Window` stored it, is still read."""
    assert Settings.from_json('{"history_window":20}') == Settings(history_window=Window(turns=20))


def test_options_of_a_later_version_are_left_out() -> None:
    """An old worker reads what a newer one stored, also inside of an option."""
    stored = '{"telepathy":true,"max_tokens":5,"thinking":{"budget":7,"mood":"calm"}}'
    assert Settings.from_json(stored) == Settings(max_tokens=5, thinking=ThinkingConfig(budget=7))


@pytest.mark.parametrize(
    "stored",
    ["", "[]", "null", '"x"', '{"thinking":true}', '{"thinking":[]}', '{"max_cost":"much"}', '{"max_cost":"Infinity"}'],
)
def test_what_is_no_settings_is_refused(stored: str) -> None:
    """A damaged row is a `ConfigurationError` that says what to do, whatever is wrong with it."""
    with pytest.raises(ConfigurationError, match=r"set them again with chat.update"):
        Settings.from_json(stored)


def test_given_options_change_and_the_others_stay() -> None:
    """`UNSET` leaves an option as it is; ``None`` is a value."""
    settings = Settings(temperature=0.5, max_tokens=10)
    assert settings.with_changes(temperature=None, max_tokens=UNSET, cache=True) == Settings(max_tokens=10, cache=True)
    assert settings == Settings(temperature=0.5, max_tokens=10)


def test_unknown_options_are_refused_by_name() -> None:
    """The message names them, and what there is instead."""
    with pytest.raises(ConfigurationError, match=r"unknown setting modle, temprature; known are .*temperature"):
        Settings().with_changes(temprature=1, modle="x", max_tokens=3)


def test_a_temperature_that_is_no_number_is_not_stored() -> None:
    """NaN is refused before it reaches a database."""
    with pytest.raises(JsonTextError, match="NaN"):
        Settings(temperature=float("nan")).to_json()


def test_unset_says_its_name() -> None:
    """It shows up in signatures."""
    assert repr(UNSET) == "UNSET"
