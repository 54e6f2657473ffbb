"""What is kept of a conversation: nothing is altered that need not be, and what is altered stays well formed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.codec import decode_parts, encode_parts
from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.ports.entries import CallFinished, TurnOpened
from nodellm_orm.ports.keeping import KEEP_ALL, Keeping, Persistence
from nodellm_orm.runtime.clock import new_id

SECRET = "s3cret"
PARTS = (
    TextPart(text=f"a {SECRET}", extra=f'{{"quote": "{SECRET}"}}'),
    ThinkingPart(text=SECRET, signature="sig", opaque="{}"),
    ThinkingPart(text="fine", signature="sig"),
    ToolCallPart(call_id="c1", name="find", arguments=f'{{"n": 1.50, "q": "{SECRET}"}}'),
    ToolCallPart(call_id="c2", name="find", arguments='{ "n":1e5, "n":2 }'),
    ToolCallPart(call_id="c3", name="find", arguments=f"no json {SECRET}"),
    ToolResultPart(call_id="c1", name="find", content=SECRET),
    RefusalPart(text=SECRET),
    SummaryPart(text=SECRET, until=3),
    MediaPart(media="text", media_type="text/plain", sha256="0" * 64, name=f"{SECRET}.txt", data=b"x"),
    MediaPart(media="image", media_type="image/png", url=f"https://x.example/{SECRET}"),
    OpaquePart(payload=f'{{"type": "x", "words": ["{SECRET}", 1.0]}}'),
)
MESSAGE = Message(role="assistant", parts=PARTS, position=3)


def starred(text: str) -> str:
    """Without the secret."""
    return text.replace(SECRET, '"*"')


def test_everything_is_kept_as_it_is_by_default() -> None:
    """Without switches, messages and entries are the very objects that were given."""
    entries = (CallFinished(id=new_id(), status="succeeded", result=SECRET),)
    assert KEEP_ALL.message(MESSAGE) is MESSAGE
    assert KEEP_ALL.entries(entries) is entries


def test_every_text_of_a_message_is_redacted() -> None:
    """No kind of part keeps the secret; what it does not occur in stays to the byte, and JSON stays JSON."""
    kept = Keeping(redact=starred).message(MESSAGE)
    assert SECRET not in encode_parts(kept.parts)
    assert decode_parts(encode_parts(kept.parts)) == kept.parts
    text, thought, fine, call, same, odd, *_, opaque = kept.parts
    assert text == TextPart(text='a "*"')
    assert thought == ThinkingPart(text='"*"')
    assert fine is PARTS[2]
    assert isinstance(call, ToolCallPart)
    assert (call.arguments, call.truncated) == ('{"n":1.50,"q":"\\"*\\""}', True)
    assert same is PARTS[4]
    assert isinstance(odd, ToolCallPart)
    assert (odd.arguments, odd.truncated) == ('no json "*"', True)
    assert isinstance(opaque, OpaquePart)
    assert json.loads(opaque.payload) == {"type": "x", "words": ['"*"', 1.0]}


@pytest.mark.parametrize("persist", [Persistence(content=False), Persistence(content=False, thinking=False)])
def test_without_content_calls_and_results_still_belong_together(persist: Persistence) -> None:
    """The frame names tools and calls, no word of anybody, and says that it is a frame."""
    kept = Keeping(persist=persist).message(MESSAGE)
    assert SECRET not in encode_parts(kept.parts)
    assert [call.call_id for call in kept.tool_calls] == ["c1", "c2", "c3"]
    assert [result.content for result in kept.tool_results] == [""]
    assert all(call.truncated for call in kept.tool_calls)
    assert not kept.kept
    assert MESSAGE.kept
    assert Message(role="assistant", parts=decode_parts(encode_parts(kept.parts))).kept is False


@given(st.text(), st.sampled_from([None, starred]))
def test_texts_without_the_secret_are_not_touched(text: str, redact: object) -> None:
    """A function that finds nothing changes nothing, whatever the text is."""
    if SECRET in text:
        return
    parts = (TextPart(text=text), ToolCallPart(call_id="c", name="n", arguments=text), OpaquePart(payload=text))
    keeping = Keeping(redact=redact)  # type: ignore[arg-type]  # one of the two
    assert keeping.message(Message(role="user", parts=parts)).parts == parts


def test_a_turn_names_what_is_stored() -> None:
    """Redacted instructions are stored under a digest of their own, which the turn's settings then name."""
    said, plain = f"Use {SECRET}.", "Be kind."
    turn = TurnOpened(
        id=new_id(), settings=json.dumps([digest_of_text(said), digest_of_text(plain)]), texts=(said, plain)
    )
    kept = Keeping(redact=starred).turn(turn)
    assert kept.texts == ('Use "*".', plain)
    assert json.loads(kept.settings) == [digest_of_text(text) for text in kept.texts]
