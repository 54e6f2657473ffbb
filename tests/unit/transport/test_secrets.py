"""Keys: nothing prints them, malformed ones are refused by name, and texts are freed of them."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport import Secret, check_key, redact

KEY = "canary-4f9b1c77e0d2"


@pytest.mark.fault("E01")
def test_secret_shows_nothing_but_to_reveal() -> None:
    """No way of printing a secret prints it; ``reveal`` gives it."""
    secret = Secret(KEY)
    shown = f"{secret} {secret!r} {secret!s} {secret:>40} {[secret]} {'%s' % secret}"  # noqa: UP031 — one more way
    assert KEY not in shown
    assert secret.reveal() == KEY


@pytest.mark.fault("E01")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_is_never_pickled(protocol: int) -> None:
    """Pickling a secret, alone or inside something, is an error that says what to do."""
    with pytest.raises(ConfigurationError, match="create the client in the process"):
        pickle.dumps({"key": Secret(KEY)}, protocol)


def test_secrets_are_values() -> None:
    """Equal secrets are equal and hash alike; copies are the secret itself."""
    secret = Secret(KEY)
    assert secret == Secret(KEY)
    assert len({secret, Secret(KEY), Secret("other")}) == 2
    assert secret != KEY
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_key_loses_surrounding_whitespace() -> None:
    """A key read from a file with its line break is usable."""
    assert check_key("OPENAI_API_KEY", f" \t{KEY}\r\n") == KEY


@pytest.mark.fault("E01")
@pytest.mark.parametrize("value", [f"{KEY}\n{KEY}", f"{KEY}\x00", f"{KEY}é", f"{KEY}\u200b", f"a\x7f{KEY}", "", "  \n"])
def test_malformed_key_is_refused_by_name(value: str) -> None:
    """The error names the variable, never the value, and has no cause that would show it."""
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as caught:
        check_key("OPENAI_API_KEY", value)
    assert KEY not in f"{caught.value!r} {caught.value.args!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {KEY} refused", "key [redacted] refused"),
        (f"Bearer {KEY}", "[redacted]"),
        (f"['{KEY}', '{KEY}']", "['[redacted]', '[redacted]']"),
        ("nothing here", "nothing here"),
        ("", ""),
    ],
)
def test_known_secrets_are_taken_out(text: str, expected: str) -> None:
    """A known header value goes as a whole, and its credential wherever it stands alone."""
    assert redact(text, [Secret(f"Bearer {KEY}")]) == expected


def test_password_of_basic_authentication_is_taken_out() -> None:
    """Of a basic header both the encoded pair and the password itself are known."""
    secret = Secret("Basic dXNlcjpjb3JyZWN0LWhvcnNl")
    assert redact("dXNlcjpjb3JyZWN0LWhvcnNl correct-horse", [secret]) == "[redacted] [redacted]"


@pytest.mark.parametrize("credential", ["no base64!", "/////w=="])
def test_basic_authentication_that_holds_no_pair(credential: str) -> None:
    """A basic header that cannot be taken apart is a secret as a whole."""
    assert redact(f"<Basic {credential}>", [Secret(f"Basic {credential}")]) == "<[redacted]>"


def test_placeholders_are_no_secrets() -> None:
    """Short words that stand where no key is needed do not blot out messages."""
    assert redact("ollama is not running", ["ollama", "", "none"]) == "ollama is not running"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop",
        "sk_live_abcdefghijklmnop",
        "xai-abcdefghijklmnop",
        "gsk_abcdefghijklmnop",
        "AIzaSyA-abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_what_looks_like_a_key_is_taken_out(secret: str) -> None:
    """Keys of the usual shapes go although nobody named them."""
    assert redact(f"given: {secret}.") in {"given: [redacted].", "given: [redacted]"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.def1-ghi", "Authorization: Bearer [redacted]"),
        ("bearer authentication is required", "bearer authentication is required"),
        ("api_key=abcdefgh&x=1", "api_key=[redacted]&x=1"),
        ("password: correcthorse", "password: [redacted]"),
        ("max_tokens: 4096, token: 12345678", "max_tokens: 4096, token: 12345678"),
        ("https://user:hunter2@host/path", "https://[redacted]@host/path"),
        ("https://host:8443/path", "https://host:8443/path"),
    ],
)
def test_named_values_are_taken_out(text: str, expected: str) -> None:
    """Values that follow a telling name go; names, numbers and sentences stay."""
    assert redact(text) == expected


_NAMES = st.sampled_from(["token", "api_key", "password", "authorization", "secret", "max_tokens", "message"])
_VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text(), st.just(KEY)
)


@given(st.dictionaries(_NAMES, st.one_of(_VALUES, st.lists(_VALUES), st.dictionaries(_NAMES, _VALUES))))
def test_json_stays_json(value: dict[str, object]) -> None:
    """The body of an error can still be parsed after the keys have been taken out."""
    redacted = redact(json.dumps(value), [Secret(KEY)])
    assert json.loads(redacted).keys() == value.keys()
    assert KEY not in redacted
