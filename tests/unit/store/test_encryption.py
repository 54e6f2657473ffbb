"""Keys are checked when they are given and never shown; a value opens at its own place and with its own key only."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import string
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql, sqlite

from nodellm_orm import ConfigurationError, Encryption, EncryptionError, TamperedValueError
from nodellm_orm.domain.digests import digest_of
from nodellm_orm.store.escaping import MARK
from nodellm_orm.store.sealed import BYTES_MARK, Sealed, sealed_bytes
from nodellm_orm.store.sealing import CONTENT, PLAIN
from nodellm_orm.store.types import LongBlob, LongText

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
ROW = UUID(int=7)
BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
PLACE: dict[str, Any] = {"owner": "ada", "key": ROW}
DIALECTS = [sqlite.dialect(), postgresql.dialect(), mysql.dialect()]  # type: ignore[no-untyped-call]  # SQLAlchemy's

encryption = Encryption(keys={"new": KEY, "old": OTHER}, current="new")


def sealed(text: str | bytes, table: str = "messages", column: str = "parts", **place: Any) -> Sealed:
    return encryption.sealer.sealed_value(table, column, text, **{**PLACE, **place})


def opened(value: object, table: str = "messages", column: str = "parts", **place: Any) -> Any:
    return encryption.sealer.opened_value(table, column, value, **{**PLACE, **place})


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_may_be_bytes_or_either_base64() -> None:
    """Bytes and both alphabets of base64, padded or not, are the same key."""
    key = bytes([0xFB, 0xEF, 0xFF] * 10 + [1, 2])
    standard, url = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    value = encryption.sealer.__class__({"k": key}, "k").sealed_value("texts", "text", "x", **PLACE)
    for given_as in (key, bytearray(key), standard, url, url.rstrip("="), f" {standard}\n"):
        other = Encryption(keys={"k": given_as})  # type: ignore[dict-item]  # whatever is bytes
        assert other.sealer.opened_value("texts", "text", value, **PLACE) == "x"


@pytest.mark.parametrize(
    ("keys", "current", "said"),
    [
        ({}, None, "at least one key"),
        ({"k": b"short"}, None, "5 bytes, and 32"),
        ({"k": "AAAA"}, None, "3 bytes, and 32"),
        ({"k": "not base64!"}, None, "not base64"),
        ({"k": 3}, None, "is a int"),
        ({"k:1": KEY}, None, "letters, digits"),
        ({"": KEY}, None, "letters, digits"),
        ({"k" * 65: KEY}, None, "letters, digits"),
        ({"a": KEY, "b": OTHER}, None, "name the one to encrypt with"),
        ({"a": KEY}, "b", "names none of the keys"),
    ],
)
def test_what_is_no_key_is_refused(keys: dict[str, Any], current: str | None, said: str) -> None:
    """A missing, short or malformed key, and a name that is none, are errors that say what to give."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        Encryption(keys=keys, current=current)
    assert "AAAA" not in str(caught.value)
    assert "not base64!" not in str(caught.value)


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable lists keys by name, and the first one is written with."""
    one, two = Encryption.generate_key(), Encryption.generate_key()
    monkeypatch.setenv("NODELLM_ENCRYPTION_KEYS", f" 2026-11:{one}, 2025-11:{two} ")
    found = Encryption.from_environment()
    assert (found.current, found.key_names) == ("2026-11", ("2026-11", "2025-11"))


@pytest.mark.parametrize("text", ["", " ", "just-a-key", "a:AAAA", "a:{0},a:{0}", "a:{0},b"])
def test_a_malformed_variable_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What cannot be read in the variable is an error that shows none of it."""
    key = Encryption.generate_key()
    monkeypatch.setenv("NODELLM_ENCRYPTION_KEYS", text.format(key))
    with pytest.raises(ConfigurationError) as caught:
        Encryption.from_environment()
    assert key not in str(caught.value)


@pytest.mark.fault("E01")
def test_keys_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr nor log shows a key, and an Encryption is not pickled; a copy is the same one."""
    key = Encryption.generate_key()
    found = Encryption(keys={"k": key})
    logging.getLogger("test").warning("%s %r %s", found, found.sealer, [found])
    assert key not in caplog.text
    assert repr(base64.b64decode(key)) not in caplog.text
    assert repr(found) == "Encryption(keys=['k'], current='k')"
    for secret in (found, found.sealer):
        with pytest.raises(ConfigurationError, match="not pickled"):
            pickle.dumps(secret)
    assert copy.copy(found) is found
    assert copy.deepcopy({"encryption": found})["encryption"] is found


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_opened_as_it_was(text: str) -> None:
    """NUL, lone surrogates, our own mark: whatever was sealed is opened equal."""
    assert opened(sealed(text)) == text


@given(st.binary(max_size=500))
def test_any_bytes_are_opened_as_they_were(data: bytes) -> None:
    """Bytes stay bytes, also those that begin as sealed ones do."""
    for content in (data, BYTES_MARK + data):
        value = sealed(content, "blobs", "data", key=digest_of(content))
        assert opened(value, "blobs", "data", key=digest_of(content)) == content


@pytest.mark.fault("E15")
def test_a_nonce_is_used_once() -> None:
    """The same text at the same place never looks the same twice."""
    assert len({sealed("x").raw for _ in range(100)}) == 100


@pytest.mark.fault("E15")
@pytest.mark.parametrize(
    "elsewhere",
    [
        {"table": "tool_calls"},
        {"column": "content"},
        {"key": UUID(int=8)},
        {"owner": "bob"},
        {"owner": None},
        {"owner": ""},
    ],
    ids=str,
)
def test_a_moved_value_does_not_open(elsewhere: dict[str, Any]) -> None:
    """In another row, column, table or owner's chat, a value is an error that names where it was found."""
    with pytest.raises(TamperedValueError) as caught:
        opened(sealed("secret"), **elsewhere)
    assert "secret" not in str(caught.value)
    assert caught.value.details["id"] == str(elsewhere.get("key", ROW))
    assert caught.value.details["table"] == elsewhere.get("table", "messages")


def test_owners_that_look_alike_are_different_places() -> None:
    """No owner, the empty one and one that spells our own encoding are three places."""
    owners = [None, "", "=", "==", "\x00"]
    values = {owner: sealed("x", owner=owner) for owner in owners}
    for owner in owners:
        for other in owners:
            if other != owner:
                with pytest.raises(TamperedValueError):
                    opened(values[owner], owner=other)


@pytest.mark.fault("E15")
@given(st.data())
def test_a_changed_value_does_not_open(data: st.DataObject) -> None:
    """Whichever byte of the encrypted part is changed, or wherever it is cut, it is an error and never a wrong text."""
    raw = sealed("attack at dawn").raw
    assert isinstance(raw, str)
    start = raw.index(":", raw.index(":") + 1) + 1
    place = data.draw(st.integers(start, len(raw.rstrip("=")) - 1))
    # Every sealing differs, what is drawn must not depend on it: another character is named by its distance.
    distance = data.draw(st.integers(1, len(BASE64) - 1))
    changed = raw[:place] + BASE64[(BASE64.index(raw[place]) + distance) % len(BASE64)] + raw[place + 1 :]
    cut = raw[:place]
    for value in (changed, cut, raw[: start - 1], raw.replace("s1:", "s2:")):
        with pytest.raises(EncryptionError):
            opened(Sealed(value))


@pytest.mark.fault("E15")
def test_a_wrong_key_is_told_from_a_missing_one() -> None:
    """A name that is not given, and a name given with another key, are two errors, and both say what to do."""
    value = sealed("secret")
    with pytest.raises(EncryptionError, match="key 'new', which was not given; pass encryption="):
        Encryption(keys={"old": OTHER}).sealer.opened_value("messages", "parts", value, **PLACE)
    with pytest.raises(EncryptionError, match="the key given under that name is another one"):
        Encryption(keys={"new": OTHER}).sealer.opened_value("messages", "parts", value, **PLACE)
    with pytest.raises(EncryptionError, match="key 'new', which was not given"):
        PLAIN.opened_value("messages", "parts", value, **PLACE)


@pytest.mark.fault("E15")
def test_plain_values_are_read_unless_that_is_refused() -> None:
    """Rows from before encryption was switched on are read; with allow_plaintext=False they are an error."""
    assert opened("plain") == "plain"
    assert opened(b"plain", "blobs", "data", key="0" * 64) == b"plain"
    strict = Encryption(keys={"k": KEY}, allow_plaintext=False).sealer
    with pytest.raises(EncryptionError, match="is not encrypted"):
        strict.opened_value("messages", "parts", "plain", **PLACE)


def test_a_file_that_begins_as_sealed_ones_do_is_read() -> None:
    """Stored without encryption, such a file is told by its digest, with keys and without."""
    content = sealed_bytes("new", b"x" * 40).raw
    assert isinstance(content, bytes)
    for sealer in (PLAIN, encryption.sealer):
        found = sealer.opened_value("blobs", "data", Sealed(content), owner=None, key=digest_of(content))
        assert found == content


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(text=st.text(st.characters(exclude_categories=())))
def test_no_plain_text_looks_sealed(dialect: Any, text: str) -> None:
    """Whatever text is stored, also one that spells the mark, it is read as text, and a sealed one as sealed."""
    column = LongText()
    for plain in (text, MARK + text, f"{MARK}s{text}", f"{MARK}s1:new:{text}"):
        assert column.process_result_value(column.process_bind_param(plain, dialect), dialect) == plain
    value = sealed(text)
    assert column.process_result_value(column.process_bind_param(value, dialect), dialect) == value


@pytest.mark.fault("E15")
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_sealed_values_show_nothing(dialect: Any) -> None:
    """What is read of a sealed column is no text and no bytes, and shows the name of its key only."""
    text, data = sealed("secret"), sealed(b"secret", "blobs", "data")
    for value in (
        LongText().process_result_value(text.raw, dialect),
        LongBlob().process_result_value(data.raw, dialect),
    ):
        assert not isinstance(value, str | bytes)
        assert f"{value} {value!r}" == "<encrypted with key 'new'> <encrypted with key 'new'>"


def test_content_columns_are_those_of_the_records() -> None:
    """Every column that is encrypted exists, and holds text or bytes of any length."""
    from nodellm_orm.store.records import RECORDS  # noqa: PLC0415 — mapped classes, for this test only

    for table, columns in CONTENT.items():
        for column in columns:
            assert isinstance(getattr(RECORDS.tables, table).c[column].type, LongText | LongBlob)
