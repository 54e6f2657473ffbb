"""Streams: what each event does, and what is not an answer."""

from __future__ import annotations

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import Finished, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.usage import Usage
from nodellm_orm.testing.bodies import FakeCall, FakeThinking, anthropic_body, anthropic_error, anthropic_stream
from tests.unit.wire.anthropic.asking import WIRE, block, ending, event, fed, folded, start

_HI = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"})


def _json(*pieces: str) -> list[dict[str, object]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def test_a_stream_says_what_the_body_says() -> None:
    """The same answer streamed and unstreamed gives the same completion."""
    words = {
        "text": "Let me look.",
        "thinking": [FakeThinking("Which city?"), FakeThinking("")],
        "tool_calls": [FakeCall("get_weather", {"city": "Zürich"}), FakeCall("now")],
        "cache_read": 100,
    }
    whole = WIRE.parse(encode(dumps(anthropic_body(**words))), ModelProfile())  # type: ignore[arg-type]  # one dict for both
    assert folded(anthropic_stream(**words)) == whole  # type: ignore[arg-type]  # as above


def test_text_is_handed_on_as_it_comes() -> None:
    """Each piece of text and of thinking is an event of its own, never repeated."""
    thinking = block(0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "Hm"})
    events = fed(start() + thinking + block(1, {"type": "text", "text": "A"}, {"type": "text_delta", "text": "B"}))
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["A", "B"]
    assert [e.text for e in events if isinstance(e, ThinkingDelta)] == ["", "Hm"]


def test_input_in_pieces() -> None:
    """Pieces of input are joined and written as in a body; nothing at all is an empty object."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    pieces = _json("", '{"c', 'ity": ', '"Paris" ,"n": 1.50}')
    data = start() + block(0, opening, *pieces) + block(1, opening, *_json("")) + ending("tool_use")
    assert [call.arguments for call in folded([data]).tool_calls] == ['{"city":"Paris","n":1.50}', "{}"]


def test_input_that_comes_whole() -> None:
    """Some servers send the input with the start of its block and no pieces."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1, 2.0]}}
    events = fed(start() + block(0, opening))
    assert [e.arguments for e in events if isinstance(e, ToolCallDelta)] == ["", '{"a":[1,2.0]}']


def test_calls_whose_pieces_alternate() -> None:
    """Pieces belong to the block whose index they name, in any order and with gaps between indexes."""
    data = start()
    for index, name in ((2, "f"), (7, "g")):
        opening = {"type": "tool_use", "id": name, "name": name, "input": {}}
        data += event("content_block_start", {"index": index, "content_block": opening})
    for index, piece in ((7, '{"b":'), (2, '{"a":'), (7, "2}"), (2, "1}")):
        data += event("content_block_delta", {"index": index, "delta": _json(piece)[0]})
    answer = folded([data + ending("tool_use")])
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", '{"a":1}'), ("g", '{"b":2}')]


def test_a_repeated_index_is_another_block() -> None:
    """A server that numbers every block 0 loses nothing."""
    assert folded([start() + _HI + _HI + ending()]).parts == (TextPart(text="Hi"), TextPart(text="Hi"))


def test_a_block_that_another_one_replaces() -> None:
    """A block whose index begins again without having been closed is complete."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    begun = event("content_block_start", {"index": 0, "content_block": opening})
    begun += event("content_block_delta", {"index": 0, "delta": _json('{"a": 1}')[0]})
    assert [call.arguments for call in folded([start() + begun + begun + ending()]).tool_calls] == ['{"a":1}'] * 2


def test_input_that_is_not_json() -> None:
    """Broken arguments are kept as received; whoever runs the tool tells the model."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    answer = folded([start() + block(0, opening, *_json('{"a": ', "oops")) + ending("tool_use")])
    assert answer.tool_calls[0].arguments == '{"a": oops'
    assert not answer.tool_calls[0].truncated


@pytest.mark.parametrize("pieces", [('{"path": "/ho',), ("",), ('{"path": "/home"}',)])
def test_a_call_that_the_limit_met(pieces: tuple[str, ...]) -> None:
    """A call cut off by max_tokens is marked, however much of its input had come."""
    opening = {"type": "tool_use", "id": "t", "name": "rm", "input": {}}
    answer = folded([start() + block(0, opening, *_json(*pieces)) + ending("max_tokens")])
    assert [call.truncated for call in answer.tool_calls] == [True]
    assert answer.finish_reason is FinishReason.LENGTH


def test_citations_in_pieces() -> None:
    """Citations are collected in the order received, after those the block began with."""
    opening = {"citations": [{"n": 1}], "type": "text", "text": ""}
    cited = [{"type": "citations_delta", "citation": {"n": number}} for number in (2, 3)]
    answer = folded([start() + block(0, opening, {"type": "text_delta", "text": "Hi"}, *cited) + ending()])
    assert answer.parts == (TextPart(text="Hi", extra='{"citations":[{"n":1},{"n":2},{"n":3}]}'),)


def test_thinking_without_text() -> None:
    """Omitted thinking is its signature alone, and has to be kept for the next request."""
    opening = {"type": "thinking", "thinking": "", "signature": ""}
    answer = folded([start() + block(0, opening, {"type": "signature_delta", "signature": "c2ln"}) + ending()])
    assert answer.parts == (ThinkingPart(text="", signature="c2ln"),)


def test_thinking_with_unknown_members() -> None:
    """A thinking block with more to it is kept whole, in the form it has in a body."""
    opening = {"type": "thinking", "thinking": "", "signature": "", "v": 2}
    deltas = [{"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "c2ln"}]
    (part,) = folded([start() + block(0, opening, *deltas) + ending()]).parts
    assert part == ThinkingPart(
        text="Hm", signature="c2ln", opaque='{"type":"thinking","thinking":"Hm","signature":"c2ln","v":2}'
    )


def test_hidden_thinking_and_server_tools() -> None:
    """Blocks that come whole are kept verbatim; a server tool's input is put together."""
    redacted = {"type": "redacted_thinking", "data": "ZW5j"}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "e"}]}
    data = start() + block(0, redacted) + block(1, search, *_json("", '{"query": ', '"x"}')) + block(2, found)
    assert folded([data + ending()]).parts == (
        ThinkingPart(redacted=True, opaque=dumps(redacted)),
        OpaquePart(payload='{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}}'),
        OpaquePart(payload=dumps(found)),
    )


@pytest.mark.parametrize("content", [None, ""])
def test_a_compaction_comes_in_one_piece(content: str | None) -> None:
    """The summary and its sealed form are the last ones sent: each piece is all of them."""
    deltas = [
        {"type": "compaction_delta", "content": "So", "encrypted_content": "old"},
        {"type": "compaction_delta", "content": "So far.", "encrypted_content": "new"},
    ]
    data = start() + block(0, {"type": "compaction", "content": content, "encrypted_content": None}, *deltas)
    payload = '{"type":"compaction","content":"So far.","encrypted_content":"new"}'
    assert folded([data + ending("compaction")]).parts == (OpaquePart(payload=payload),)


def test_usage_is_cumulative() -> None:
    """Later counts replace earlier ones; what only the start states stays."""
    early = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_1h_input_tokens": 3},
        "output_tokens": 1,
    }
    late = {"input_tokens": 500, "output_tokens": 90, "server_tool_use": {"web_search_requests": 2}}
    delta = event("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": late})
    assert folded([start(usage=early) + _HI + delta + event("message_stop", {})]).usage == Usage(
        input_tokens=508,
        cached_tokens=5,
        cache_write_tokens=3,
        output_tokens=90,
        other_tokens={"cache_write_1h_tokens": 3, "web_searches": 2},
    )


def test_a_refusal_in_a_stream() -> None:
    """Why the model refuses arrives at the end and is kept beside what it had said."""
    details = {"type": "refusal", "category": "bio", "explanation": "No."}
    answer = folded([start() + _HI + ending("refusal", stop_details=details)])
    assert answer.parts == (TextPart(text="Hi"), RefusalPart(text="No.", category="bio"))
    assert answer.finish_reason is FinishReason.CONTENT_FILTER


def test_events_that_mean_nothing_here() -> None:
    """Pings, events and deltas of kinds not known, and other protocols' last word are passed over."""
    noise = (
        event("ping", {})
        + event("brand_new", {"x": 1})
        + b": comment\n\n"
        + b"event: tick\ndata: 12:00\n\nevent: tick\ndata: 12\n\n"
    )
    delta = {"type": "brand_new_delta", "x": 1}
    data = noise + start() + noise + block(0, {"type": "text", "text": "Hi"}, delta)
    data += block(1, {"type": "thinking", "thinking": "Hm"}, delta)
    data += block(2, {"type": "redacted_thinking", "data": "x"}, delta)
    data += block(3, {"type": "tool_use", "id": "t", "name": "f", "input": {}}, delta) + ending()
    assert folded([data + b"data: [DONE]\n\n"]).parts == (
        TextPart(text="Hi"),
        ThinkingPart(text="Hm"),
        ThinkingPart(redacted=True, opaque='{"type":"redacted_thinking","data":"x"}'),
        ToolCallPart(call_id="t", wire_id="t", name="f", arguments="{}"),
    )


def test_pings_are_not_content() -> None:
    """A ping gives no event, so that a silent model is noticed."""
    assert fed(event("ping", {"type": "ping"}) + b": keep-alive\n\n") == []


def test_names_of_events_are_not_needed() -> None:
    """The data says what an event is; its name counts where the data does not."""
    named = start() + _HI + ending()
    nameless = b"\n".join(line for line in named.split(b"\n") if not line.startswith(b"event:"))
    untyped = b"event: message_stop\ndata: {}\n\n"
    assert folded([nameless]) == folded([named])
    assert folded([named.removesuffix(event("message_stop", {})) + untyped]) == folded([named])


def test_what_follows_the_end_is_not_read() -> None:
    """After message_stop the answer stands, whatever else is sent."""
    data = start() + _HI + ending()
    assert folded([data, b"data: {broken\n\n", event("error", {"error": {"type": "api_error"}})]) == folded([data])


def test_blocks_that_are_never_closed() -> None:
    """A server that leaves out content_block_stop loses nothing of its answer."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    data = start() + event("content_block_start", {"index": 0, "content_block": opening})
    data += event("content_block_delta", {"index": 0, "delta": _json('{"a": 1}')[0]})
    part = ToolCallPart(call_id="t", wire_id="t", name="f", arguments='{"a":1}')
    assert folded([data + ending("tool_use")]).parts == (part,)


@pytest.mark.parametrize("end", ["", 'event: message_stop\ndata: {"type":"message_stop"}', 'data: {"type": "mes'])
def test_a_stream_without_its_end_is_interrupted(end: str) -> None:
    """No message_stop, or one whose line is not complete: what came is not an answer."""
    data = (start() + _HI + ending()).removesuffix(event("message_stop", {})) + end.encode()
    with pytest.raises(errors.StreamInterruptedError, match="ask again"):
        folded([data])


def test_an_empty_stream_is_interrupted() -> None:
    """A body without a byte is no answer either, also from servers that never end their streams."""
    for profile in (ModelProfile(), ModelProfile(requires_finish=False)):
        with pytest.raises(errors.StreamInterruptedError):
            folded([b""], profile)


def test_a_last_line_without_a_blank_one_is_complete() -> None:
    """The blank line after the last event may be missing."""
    data = start() + _HI + ending()
    assert folded([data.removesuffix(b"\n")]) == folded([data])


def test_servers_that_never_end_their_streams() -> None:
    """Where the profile says that the terminal event may be missing, the answer stands without it."""
    data = (start() + _HI + ending()).removesuffix(event("message_stop", {}))
    answer = folded([data], ModelProfile(requires_finish=False))
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.STOP)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("overloaded_error", errors.OverloadedError),
        ("api_error", errors.ServerError),
        ("rate_limit_error", errors.RateLimitError),
        ("timeout_error", errors.ProviderTimeoutError),
        ("authentication_error", errors.AuthenticationError),
        ("billing_error", errors.QuotaExceededError),
        ("invalid_request_error", errors.BadRequestError),
    ],
)
def test_an_error_in_a_stream(kind: str, cls: type[errors.ProviderError]) -> None:
    """What came before an error event is handed on, then the error is raised as the class of its type."""
    error = event("error", {"error": {"type": kind, "message": "no luck"}, "request_id": "req_7"})
    parser = WIRE.stream(ModelProfile())
    whole = Accumulator()
    for item in parser.feed(start() + _HI + error):
        whole.add(item)
    assert whole.completion(complete=False).text == "Hi"
    with pytest.raises(errors.ProviderError) as caught:
        parser.close()
    assert type(caught.value) is cls
    assert caught.value.request_id == "req_7"
    assert "no luck" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"type":"message_start"\n\n',
        b"data: null\n\n",
        b"data: [1]\n\n",
        b'event: message_start\ndata: {"type":"message_start","message":3}\n\n',
        b"data: \xff\xfe\n\n",
        event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        event("content_block_start", {"content_block": {"type": "text", "text": ""}}),
        event("content_block_start", {"index": 0}),
    ],
)
def test_what_is_not_the_protocol_is_refused(data: bytes) -> None:
    """Broken JSON, broken UTF-8 and events that cannot be are protocol errors, with advice."""
    with pytest.raises(errors.ProtocolError, match=r"check|ask again"):
        fed(data)


@pytest.mark.parametrize("data", [b"<html>502</html>", b'{"id":"msg_1"}', b"upstream error\n\n", b"null"])
def test_a_body_that_is_no_stream_is_refused(data: bytes) -> None:
    """A page or a lone object in place of events is a protocol error, not an interrupted answer."""
    with pytest.raises(errors.ProtocolError, match="check base_url"):
        folded([data])


def test_a_body_in_place_of_a_stream_is_read() -> None:
    """A gateway that answers with a whole message where a stream was asked for has answered; half of one is none."""
    whole = encode(dumps(anthropic_body("Hello", tool_calls=[FakeCall("f", {"a": 1})])))
    assert folded(whole[at : at + 1] for at in range(len(whole))) == WIRE.parse(whole, ModelProfile())
    with pytest.raises(errors.StreamInterruptedError):
        folded([whole[:-9]])
    with pytest.raises(errors.OverloadedError):
        folded([encode(dumps(anthropic_error("Overloaded", type="overloaded_error")))])


def test_half_of_a_character_in_two_pieces() -> None:
    """A character that the model's tokens split is joined again."""
    deltas = [{"type": "text_delta", "text": half} for half in ("\ud83d", "\ude00")]
    assert folded([start() + block(0, {"type": "text", "text": ""}, *deltas) + ending()]).text == "😀"


def test_a_broken_stream_keeps_what_had_come() -> None:
    """Text of an interrupted answer is there, its calls are marked, and its tokens so far are known."""
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    begun = event("content_block_start", {"index": 1, "content_block": opening})
    whole = Accumulator()
    for item in fed(start(usage={"input_tokens": 9, "output_tokens": 1}) + _HI + begun):
        whole.add(item)
    partial = whole.completion(complete=False)
    assert (partial.text, partial.usage.input_tokens) == ("Hi", 9)
    assert [call.truncated for call in partial.tool_calls] == [True]


def test_it_finishes_once() -> None:
    """A server that repeats its last event finishes its answer only once."""
    delta = event("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}})
    events = fed(start() + _HI + delta + delta + event("message_stop", {}))
    assert [e.reason for e in events if isinstance(e, Finished)] == [FinishReason.STOP]
