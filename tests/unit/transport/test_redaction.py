"""Secrets are found in whatever form a body repeats them, also where it was cut."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.secrets import check_key, holds_secret, redact, redact_cut

_KEY = "zq9Canary/of+every=provider~77"
_KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'`"), min_size=8, max_size=60)
_FORMS = st.sampled_from(
    [
        str,
        json.dumps,
        lambda key: json.dumps(json.dumps(key)),
        lambda key: json.dumps(key).replace("/", "\\/"),
        lambda key: quote(key, safe=""),
        lambda key: quote(key, safe="").lower() if key.islower() else quote(key, safe=""),
        html.escape,
    ]
)


@given(_KEYS, _FORMS, st.booleans())
def test_a_key_is_found_in_every_spelling(key: str, form: type[str], bare: bool) -> None:  # noqa: FBT001 — an example
    """As it stands, as JSON and as JSON in JSON, in a URL, in HTML; with its scheme or alone."""
    said = form(key).strip('"')
    text = f"<<{said}>>"
    known = [key if bare else f"Bearer {key}"]
    assert holds_secret(text, known)
    assert said not in redact(text, known)
    assert key not in redact(text, known)


@pytest.mark.parametrize("kept", range(12, len(_KEY) + 1))
def test_the_beginning_of_a_key_is_taken_out_where_it_was_cut(kept: int) -> None:
    """Nothing of it is left, wherever the text ends or goes on."""
    assert redact_cut(f"unknown key {_KEY[:kept]}… so", [_KEY]) == "unknown key [redacted]… so"


def test_a_common_beginning_alone_is_left() -> None:
    """A few characters tell nothing of a key, and may be words."""
    assert redact_cut(f"keys begin with {_KEY[:8]}", [_KEY]) == f"keys begin with {_KEY[:8]}"


@pytest.mark.fault("E01")
@pytest.mark.parametrize(
    "value", [f"Bearer {_KEY}", f"basic\t{_KEY}", f"{_KEY} {_KEY}", f'"{_KEY}"', f"'{_KEY}", "`k`"]
)
def test_what_is_no_key_alone_is_refused_by_name(value: str) -> None:
    """A scheme, a blank or a quotation mark came along by mistake; the value is not shown."""
    with pytest.raises(ConfigurationError, match="SOME_API_KEY") as caught:
        check_key("SOME_API_KEY", value)
    assert _KEY not in f"{caught.value!r}"
