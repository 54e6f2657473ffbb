"""What came of a call, in words for the model and for people, and without keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ToolError
from nodellm_orm.runtime.outcomes import Conclusion, ToolOutcome, failed, raised, redacted, returned, summary
from nodellm_orm.runtime.toolbase import ToolHalt

LIMIT = 1_000
NOTHING: dict[str, int] = {}


def outcome(conclusion: Conclusion) -> ToolOutcome:
    """The outcome of a conclusion that has one."""
    assert conclusion.outcome is not None
    return conclusion.outcome


def caught(error: BaseException) -> BaseException:
    """The error with the traceback of having been raised."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as info:
        fail()
    return info.value


def test_a_value_succeeds() -> None:
    """Its text is the result, and there is no error."""
    assert returned({"a": 1}, LIMIT) == Conclusion(
        outcome=ToolOutcome(status="succeeded", content='{"a":1}', is_error=False)
    )


def test_a_long_value_is_cut_with_a_mark() -> None:
    """At the limit given."""
    content = outcome(returned("x" * 5_000, 100)).content
    assert len(content) == 100
    assert "truncated" in content


@pytest.mark.fault("A50")
def test_a_value_without_json_form_is_a_failure_that_says_so() -> None:
    """The tool ran: the model is told that, and why its result cannot be read."""
    got = outcome(returned(float("nan"), LIMIT))
    assert (got.status, got.is_error) == ("failed", True)
    assert got.content == (
        "The tool ran, but its result holds nan, which JSON does not have; return a number, a string or None."
    )
    assert got.error == got.content


def test_a_value_that_fails_with_megabytes_is_told_within_the_limit() -> None:
    """The words of foreign code are cut as results are."""

    class Wordy(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("x" * 1_000_000)

    assert len(outcome(returned(Wordy(), LIMIT)).content) == LIMIT


@pytest.mark.parametrize(
    ("value", "content"), [("done", "done"), (None, ""), ({"a": 1}, '{"a":1}'), ("x" * 2_000, None)]
)
def test_a_halt_ends_the_turn_returned_or_raised(value: object, content: str | None) -> None:
    """Its value is handed on, its text is for the history."""
    for conclusion in (returned(ToolHalt(value), LIMIT), raised(ToolHalt(value), LIMIT)):
        got = outcome(conclusion)
        assert (got.status, got.is_error, got.error, got.value) == ("halted", False, None, value)
        assert got.content == content if content is not None else len(got.content) == LIMIT
        assert conclusion.fatal is None


def test_a_halt_with_a_value_that_has_no_json_form_still_halts() -> None:
    """The turn ends as asked; the row says what could not be written."""
    value = object()
    got = outcome(returned(ToolHalt(value), LIMIT))
    assert (got.status, got.value) == ("halted", value)
    assert got.content == "(a object that has no JSON form)"
    assert got.error is not None
    assert "no JSON form" in got.error


@pytest.mark.fault("A48")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such city"), "ValueError: no such city"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (ValueError(), "ValueError"),
        (ValueError("  \n "), "ValueError"),
        (KeyError("city"), "KeyError: 'city'"),
        (ValueError("tab\tand \x1b[31mcolour"), "ValueError: tab and  [31mcolour"),
        (ToolError("Say\nit better"), "Say\nit better"),
        (ToolError(""), "ToolError"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError("by itself"), "CancelledError: by itself"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("in", [KeyError("b")])]),
            "ValueError: a; KeyError: 'b'",
        ),
        (BaseExceptionGroup("base", [asyncio.CancelledError(), ToolError("mine")]), "CancelledError; mine"),
        (ExceptionGroup("many", [ValueError(str(n)) for n in range(9)]), None),
    ],
)
def test_what_a_tool_raised_is_told_by_class_and_first_line(error: BaseException, told: str | None) -> None:
    """A `ToolError` in its own words; no traceback reaches the model."""
    got = outcome(raised(caught(error), LIMIT))
    assert (got.status, got.is_error) == ("failed", True)
    assert got.content == (told or "; ".join(f"ValueError: {n}" for n in range(6)) + "; and 3 more")
    assert raised(error, LIMIT).fatal is None


@pytest.mark.fault("A48")
def test_people_are_told_where_it_failed_and_what_caused_it() -> None:
    """The row keeps the causes and the last places, without paths and values of variables."""
    password = "hunter2 is not told"  # noqa: F841 — a variable on the way is what is tested

    def fail() -> None:
        try:
            _ = NOTHING["inner"]
        except KeyError as error:
            msg = "outer"
            raise ValueError(msg) from error

    with pytest.raises(ValueError, match="outer") as info:
        fail()
    told = summary(info.value).splitlines()
    assert told[0] == "ValueError: outer"
    assert "caused by KeyError: 'inner'" in told
    assert any(line.startswith("  at test_outcomes.py:") and line.endswith(" in fail") for line in told)
    assert "hunter2" not in "\n".join(told)
    assert "/" not in "\n".join(told)


def test_a_context_is_told_unless_it_was_suppressed() -> None:
    """As Python's own tracebacks do, and a circle of causes ends."""

    def fail(*, suppressed: bool) -> None:
        try:
            _ = NOTHING["before"]
        except KeyError:
            error = ValueError("x")
            if suppressed:
                raise error from None
            raise error  # noqa: B904 — the bare form is what is tested

    for suppressed in (False, True):
        with pytest.raises(ValueError, match="x") as info:
            fail(suppressed=suppressed)
        assert ("caused by KeyError: 'before'" in summary(info.value)) is not suppressed
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert summary(one).splitlines() == ["ValueError: one", "caused by ValueError: two"]


def test_an_error_that_counts_as_false_is_a_cause_all_the_same() -> None:
    """Errors may have a length."""

    class Empty(Exception):  # noqa: N818 — an error with a length
        def __len__(self) -> int:
            return 0

    error = ValueError("x")
    error.__cause__ = Empty("the cause")
    assert "caused by Empty: the cause" in summary(error)


def test_the_members_of_a_group_are_told_and_counted() -> None:
    """The first few of them, and never more than fits a row."""
    told = summary(ExceptionGroup("many", [ValueError(f"n{n}") for n in range(20)]))
    assert "  holds ValueError: n0" in told.splitlines()
    assert len(told.splitlines()) == 7
    assert len(summary(ValueError("x" * 10_000))) <= 4_000


def test_a_message_that_cannot_be_read_is_told_to_be_so() -> None:
    """An exception's own ``__str__`` may fail."""

    class Mute(Exception):  # noqa: N818 — an error that cannot speak
        def __str__(self) -> str:
            msg = "no words"
            raise RuntimeError(msg)

    assert outcome(raised(Mute(), LIMIT)).content == "Mute: (its message cannot be read: RuntimeError)"


@pytest.mark.fault("A52")
def test_groups_inside_of_groups_are_opened_without_recursion() -> None:
    """However deep they lie."""
    error: Exception = ValueError("deep")
    for _ in range(5_000):
        error = ExceptionGroup("g", [error])
    assert outcome(raised(error, LIMIT)).content == "ValueError: deep"
    while isinstance(error, ExceptionGroup):  # unwound here: the interpreter frees nested groups by recursion
        error = error.exceptions[0]


@pytest.mark.fault("A52")
def test_a_keyboard_interrupt_ends_the_round_wherever_it_lies() -> None:
    """It is the person at the terminal, not the tool."""
    interrupt = KeyboardInterrupt()
    assert raised(interrupt, LIMIT) == Conclusion(fatal=interrupt)
    group = BaseExceptionGroup("g", [ValueError("x"), ToolHalt("halt"), BaseExceptionGroup("h", [interrupt])])
    assert raised(group, LIMIT) == Conclusion(fatal=interrupt)


def test_a_fatal_tool_error_is_recorded_and_ends_the_round() -> None:
    """The row keeps its words within the limit, and the error goes on."""
    fatal = ToolError("stop " * 1_000, fatal=True)
    conclusion = raised(ExceptionGroup("g", [ToolHalt(), fatal]), LIMIT)
    assert conclusion.fatal is fatal
    assert outcome(conclusion).is_error
    assert len(outcome(conclusion).content) == LIMIT


def test_failed_says_the_same_to_both_unless_told_otherwise() -> None:
    """What people read is what the model reads, where there is no more to say."""
    assert failed("a") == ToolOutcome(status="failed", content="a", is_error=True, error="a")
    assert failed("a", "b").error == "b"


KEY = "Zx9".join("abcdefgh")
SECRETS = [
    f"sk-{KEY}",
    f"sk-proj-{KEY}",
    f"sk-ant-api03-{KEY}",
    f"xai-{KEY}",
    f"gsk_{KEY}",
    f"ghp_{KEY}",
    f"github_pat_{KEY}",
    f"xoxb-{KEY}",
    f"hf_{KEY}",
    "AKIAIOSFODNN7EXAMPLE",
    "AIza" + "Sy" * 17,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSM",
]


@pytest.mark.fault("E01")
@pytest.mark.parametrize("secret", SECRETS)
def test_keys_that_look_like_keys_are_redacted(secret: str) -> None:
    """Wherever they stand in a text."""
    assert redacted(f"a {secret} b") == "a [redacted] b"
    assert secret not in redacted(f"'{secret}'")
    assert secret not in outcome(raised(ValueError(f"denied: {secret}"), LIMIT)).content
    assert secret not in outcome(raised(ToolError(f"denied: {secret}"), LIMIT)).content
    assert secret not in summary(ValueError(f"denied: {secret}"))


@pytest.mark.fault("E01")
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRET",
        "authorization=Basic SECRET",
        "{'Authorization': 'Bearer SECRET'}",
        '{"authorization": "bearer SECRET", "x": 1}',
        "Authorization: token SECRET",
        "sent bearer SECRET to",
        "api_key=SECRET",
        "api-key: SECRET",
        "apikey='SECRET'",
        '"x-api-key": "SECRET"',
        "OPENAI_API_KEY=SECRET",
        "AZURE_OPENAI_API_KEY : SECRET",
        "access_token=SECRET&scope=a",
        "client_secret=SECRET;",
        "secret_key=SECRET",
        "DB_PASSWORD='SECRET and more'",
        'password="SECRET and more"',
        "passwd: SECRET",
        "aws_secret_access_key=x, token_value=SECRET",
        "https://user:SECRET@example.org/path",
        "https://SECRET@example.org",
        "postgresql+asyncpg://me:p@ss:SECRET@db:5432/x",
    ],
)
def test_secrets_are_redacted_by_the_name_they_stand_behind(text: str) -> None:
    """Headers, settings, JSON and URLs; the name stays readable."""
    assert "SECRET" not in redacted(text)
    assert "[redacted]" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: no such city",
        "skeletonization_of_the_image failed",
        "risk-averse-strategies are fine",
        "see https://example.org/a@b and mail me@example.org",
        "max_tokens=4096",
        "the password was wrong",
        "tokens: 12",
        "secretary: Ann",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    """A redaction that eats the message helps nobody."""
    assert redacted(text) == text


@given(st.text())
def test_redacting_is_stable(text: str) -> None:
    """What was redacted once stays as it is."""
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.fault("E01")
def test_half_a_key_at_the_cut_is_no_leak() -> None:
    """A long message is redacted before it is cut."""
    secret = f"sk-{'k' * 60}"
    told = outcome(raised(ValueError("x" * 490 + " " + secret), LIMIT)).content
    assert "kkk" not in told
    assert "sk-" not in told


@pytest.mark.fault("E17")
def test_redaction_takes_time_in_proportion_to_the_text() -> None:
    """A megabyte of what almost is a key holds nothing up."""
    for text in ("sk-" * 30_000, "token" * 20_000, "://" + "a:" * 30_000, "api_key " * 10_000, "eyJ" * 30_000):
        assert redacted(text)
    assert len(outcome(raised(ToolError("token=" * 10_000_000), LIMIT)).content) <= LIMIT
