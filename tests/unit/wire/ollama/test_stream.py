"""Streams: what is told when, and how each may end."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.events import Finished, ResponseStarted, TextDelta, ThinkingDelta, ToolCallDelta, UsageReported
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.testing import FakeCall, ollama_body, ollama_stream
from tests.unit.wire.ollama.asking import MODEL, PROFILE, WIRE, last, line, read

_CALLS = [FakeCall("f", {"a": 1.5}), FakeCall("g", {"é": "\u2028"})]
_STREAM = b"".join(ollama_stream("Grüße, world 🌍", thinking="Hm. Ähm.", tool_calls=_CALLS))
_BODY = encode(dumps(ollama_body("Grüße, world 🌍", thinking="Hm. Ähm.", tool_calls=_CALLS)))


def test_events_as_they_come() -> None:
    """Each line is told when it is complete: thinking, text, whole calls, counts and the reason to stop."""
    parser = WIRE.stream(PROFILE)
    assert parser.feed(line({"content": "", "thinking": "Hm"}, done=False)[:-1]) == []
    assert parser.feed(b"\n") == [
        ResponseStarted(model=MODEL),
        ThinkingDelta(index="thinking", text="Hm", field="thinking"),
    ]
    assert parser.feed(line({"content": "Hi"}) + line({"content": "!"})) == [
        TextDelta(index="text:0", text="Hi"),
        TextDelta(index="text:0", text="!"),
    ]
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "x", "function": {"name": "g"}}]
    assert parser.feed(line({"content": "", "tool_calls": calls})) == [
        ToolCallDelta(index="call:0", name="f", arguments='{"a":1}'),
        ToolCallDelta(index="call:1", wire_id="x", name="g"),
    ]
    assert parser.feed(last(prompt_eval_count=3, eval_count=4)) == [
        UsageReported(usage=Usage(input_tokens=3, output_tokens=4)),
        Finished(reason=FinishReason.STOP, raw="stop"),
    ]
    assert parser.feed(b"rubbish\n") == []
    assert parser.close() == []


def test_a_stream_says_what_its_body_does() -> None:
    """The same answer comes out of a stream and of a body."""
    assert read([_STREAM]) == WIRE.parse(_BODY, PROFILE)
    assert read([_BODY]) == WIRE.parse(_BODY, PROFILE)


def test_byte_by_byte() -> None:
    """Fed one byte at a time, or cut in two anywhere, a stream gives the answer it gives when it comes whole."""
    whole = read([_STREAM])
    assert read(_STREAM[at : at + 1] for at in range(len(_STREAM))) == whole
    for at in range(len(_STREAM)):
        assert read([_STREAM[:at], _STREAM[at:]]) == whole


def test_random_cuts() -> None:
    """Cut at random places, a stream gives the answer it gives when it comes whole."""
    chance, whole = random.Random(7), read([_STREAM])  # noqa: S311 — the same cuts in every run
    for _ in range(100):
        cuts = sorted(chance.choices(range(len(_STREAM)), k=chance.randint(1, 40)))
        assert read(_STREAM[a:b] for a, b in pairwise([0, *cuts, len(_STREAM)])) == whole


def test_the_last_line_needs_no_end() -> None:
    """A last line that is whole is read, also where its line feed is missing."""
    assert read([_STREAM.rstrip(b"\n")]) == read([_STREAM])


@pytest.mark.parametrize("end", range(0, len(_STREAM) - 2, 7))
def test_a_stream_that_breaks_off_is_interrupted(end: int) -> None:
    """Without its last line a stream is no answer, wherever the bytes end; what had come was told."""
    with pytest.raises(errors.StreamInterruptedError, match="what had arrived is kept"):
        read([_STREAM[:end]])


def test_a_tolerant_end() -> None:
    """A server whose profile says that the last line may be missing has answered when its stream ends."""
    tolerant = replace(PROFILE, requires_finish=False)
    answer = read([line({"content": "Hi"})], tolerant)
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.STOP)
    with pytest.raises(errors.StreamInterruptedError):
        read([b""], tolerant)
    with pytest.raises(errors.StreamInterruptedError):
        read([line({"content": "Hi"}), b'{"mess'], tolerant)


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        ('{"error":"an error was encountered while running the model"}', errors.ServerError),
        ('{"error":"too many requests"}', errors.RateLimitError),
        ('{"error":"model \'x\' not found"}', errors.ModelNotFoundError),
        ('{"error":"the server is overloaded"}', errors.OverloadedError),
        ('{"error":{"message":"prompt is too long"}}', errors.ContextWindowError),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_an_error_in_a_line(error: str, cls: type[errors.ProviderError], *, together: bool) -> None:
    """An error line is an error of its class, and what came before it is told first, however the bytes were cut."""
    parser = WIRE.stream(PROFILE)
    hello, fault = line({"content": "Hi"}), error.encode() + b"\n"
    pieces = [hello + fault, b""] if together else [hello, fault]
    assert TextDelta(index="text:0", text="Hi") in parser.feed(pieces[0])
    with pytest.raises(cls) as caught:
        parser.feed(pieces[1])
    assert type(caught.value) is cls


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html>Bad gateway</html>\n", "HTML page"),
        (b"<html>Bad gateway</html>", "HTML page"),
        (b"data: {}\n\n", "not JSON"),
        (b"[1]\n", "not an object"),
        (b"null", "not an object"),
        (b"\xff\xff\n", "not UTF-8"),
    ],
)
def test_what_is_no_stream(data: bytes, words: str) -> None:
    """Bytes of another protocol are refused with advice."""
    with pytest.raises(errors.ProtocolError, match=words):
        read([data])


def test_tags_across_lines() -> None:
    """Thinking between tags is told as such while it comes, wherever a tag is cut."""
    pieces = ["<thi", "nk>H", "m.</th", "ink>", "\n\nYes"]
    stream = [*(line({"content": piece}) for piece in pieces), last()]
    assert read(stream) == WIRE.parse(line({"content": "".join(pieces)}, done=True, done_reason="stop"), PROFILE)
    parser = WIRE.stream(PROFILE)
    told = [event for piece in stream for event in parser.feed(piece)]
    assert ThinkingDelta(index="tags", text="H") in told
