"""Streams: pieces become parts, the final form of an item counts, and nothing is said twice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import dumps, encode, loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.errors import (
    OverloadedError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.testing import FakeCall, FakeThinking, openai_responses_body, openai_responses_stream
from tests.unit.wire.openai_responses.asking import (
    LENIENT,
    PLAIN,
    WIRE,
    completed,
    event,
    fed,
    folded,
    function_call,
    message,
    output_text,
    parsed,
    reasoning,
    streamed,
)

CREATED = event("response.created", response={"id": "resp_1", "model": "m1", "status": "in_progress"})
SEARCH: Any = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}


def added(item: object, index: int | None = 0) -> bytes:
    place = {} if index is None else {"output_index": index}
    return event("response.output_item.added", item=item, **place)


def done(item: object, index: int | None = 0) -> bytes:
    place = {} if index is None else {"output_index": index}
    return event("response.output_item.done", item=item, **place)


def text_delta(delta: object, **members: object) -> bytes:
    return event("response.output_text.delta", delta=delta, **{"output_index": 0, "content_index": 0, **members})


def spoken(events: Any) -> str:
    """What a consumer hears of texts and thinking, who is not told the final form of what he heard in pieces."""
    heard: dict[object, str] = {}
    for found in events:
        match found:
            case TextDelta() | ThinkingDelta():
                heard[found.index] = heard.get(found.index, "") + found.text
            case PartReceived(part=TextPart(text=text) | ThinkingPart(text=text)) if not heard.get(found.index):
                heard[found.index] = text
            case _:
                pass
    return "|".join(text for text in heard.values() if text)


def test_a_stream_gives_what_the_body_gives() -> None:
    """Thinking, a search, text with its phase, two calls and usage."""
    options: dict[str, Any] = {
        "thinking": [FakeThinking("Let me see."), FakeThinking("", "b3RoZXI=")],
        "tool_calls": [FakeCall("get_weather", {"city": "Zürich"}), FakeCall("now")],
        "further": [SEARCH],
        "usage": (30, 20),
        "cached_tokens": 4,
        "reasoning_tokens": 5,
        "phase": "commentary",
    }
    whole = WIRE.parse(encode(dumps(openai_responses_body("Hello there", **options))), PLAIN)
    events = openai_responses_stream("Hello there", **options)
    assert streamed(*events) == whole
    assert [type(part) for part in whole.parts] == [
        ThinkingPart,
        ThinkingPart,
        OpaquePart,
        TextPart,
        ToolCallPart,
        ToolCallPart,
    ]
    assert spoken(fed(events)) == "Let me see.|Hello there"


@given(
    text=st.none() | st.text(),
    thoughts=st.lists(st.builds(FakeThinking, st.text(max_size=12)), max_size=2),
    calls=st.lists(st.builds(FakeCall, st.just("f"), st.dictionaries(st.text(max_size=3), st.text())), max_size=3),
    refusal=st.none() | st.text(min_size=1),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_any_answer_in_any_cut_gives_what_the_body_gives(
    text: str | None, thoughts: list[FakeThinking], calls: list[FakeCall], refusal: str | None, cuts: list[int]
) -> None:
    """Whatever is said, and however the bytes come."""
    options: dict[str, Any] = {"thinking": thoughts, "tool_calls": calls, "refusal": refusal}
    whole = WIRE.parse(encode(dumps(openai_responses_body(text, **options))), PLAIN)
    data = b"".join(openai_responses_stream(text, **options))
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    events = fed(data[a:b] for a, b in pairwise(bounds))
    assert folded(events) == whole
    assert events == fed([data])


def test_the_final_encrypted_content_counts() -> None:
    """What an item has when it begins is provisional, and what the whole response has may be another one."""
    final = reasoning(encrypted_content="final")
    completion = streamed(
        CREATED,
        added(reasoning(encrypted_content="provisional")),
        done(final),
        completed(reasoning(encrypted_content="yet another")),
    )
    assert completion.parts == parsed(final).parts


def test_a_provisional_encrypted_content_is_never_kept() -> None:
    """Without a final form the item is not signed."""
    completion = streamed(
        added(reasoning(encrypted_content="provisional")),
        event("response.reasoning_summary_text.delta", delta="Hm.", output_index=0, summary_index=0),
        completed(),
    )
    [part] = completion.parts
    assert isinstance(part, ThinkingPart)
    assert (part.text, part.signature) == ("Hm.", None)


def test_several_summaries_are_told_apart() -> None:
    """A blank line stands between them, in the pieces as in the whole."""

    def delta(index: int, text: str) -> bytes:
        return event("response.reasoning_summary_text.delta", delta=text, output_index=0, summary_index=index)

    events = fed(
        [
            added(reasoning()),
            delta(0, "One"),
            delta(0, "."),
            delta(1, ""),
            delta(1, "Two."),
            done(reasoning("One.", "Two.")),
            completed(),
        ]
    )
    assert spoken(events) == "One.\n\nTwo."
    [part] = folded(events).parts
    assert isinstance(part, ThinkingPart)
    assert part.text == "One.\n\nTwo."


def test_what_deltas_left_out_is_said_in_the_end() -> None:
    """The rest of a text, and the whole of one without any delta, are heard exactly once."""
    half = fed([added(message()), text_delta("Hel"), done(message(output_text("Hello"))), completed()])
    none = fed([added(message()), done(message(output_text("Hello"))), completed()])
    never = fed([CREATED, completed(message(output_text("Hello")))])
    for events in (half, none, never):
        assert spoken(events) == "Hello"
        assert folded(events).parts == parsed(message(output_text("Hello"))).parts


def test_the_final_form_wins_over_pieces_that_contradict_it() -> None:
    """What is stored is what the server says last."""
    completion = streamed(
        added(message()), text_delta("Good bye"), done(message(output_text("Hello"))), completed(usage=None)
    )
    assert completion.text == "Hello"
    call = streamed(
        added(function_call("")),
        event("response.function_call_arguments.delta", delta='{"a":', output_index=0),
        event("response.function_call_arguments.done", arguments='{"a":1}', output_index=0),
        completed(),
    )
    assert call.tool_calls[0].arguments == '{"a":1}'


def test_arguments_may_come_in_done_events_only() -> None:
    """With the name and the id from the event that began the item."""
    for last in ([], [done(function_call('{"a":1}'))], [done({"type": "function_call", "id": "fc_1"})]):
        completion = streamed(
            added(function_call("", status="in_progress")),
            event("response.function_call_arguments.done", arguments='{"a":1}', item_id="fc_1"),
            *last,
            completed(),
        )
        assert completion.parts == parsed(function_call('{"a":1}')).parts


def test_a_call_is_told_as_it_begins() -> None:
    """Name and id come before the arguments."""
    events = fed([added(function_call("")), done(function_call("{}")), completed()])
    assert events[0] == ToolCallDelta(index="0", wire_id="call_1", name="f")


def test_items_may_end_in_another_order() -> None:
    """They stand in the order in which they began, and an id that changes in the end makes no new item."""
    thinking = reasoning(content=[{"type": "reasoning_text", "text": "Hm."}])
    completion = streamed(
        added(reasoning()),
        event("response.reasoning_text.delta", delta="Hm.", output_index=0, content_index=0),
        added(message(id="msg_1"), 1),
        text_delta("4", output_index=1, item_id="msg_1"),
        done(message(output_text("4")), 1),
        done(thinking, 0),
        completed({**thinking, "id": "rs_other"}, message(output_text("4"))),
    )
    assert completion.parts == parsed(thinking, message(output_text("4"))).parts


def test_items_without_indexes_go_by_their_ids() -> None:
    """As llama.cpp sends them, also in turns."""
    first, second = function_call('{"a":1}'), function_call('{"b":2}', id="fc_2", call_id="call_2")
    completion = streamed(
        added({**first, "arguments": ""}, None),
        added({**second, "arguments": ""}, None),
        event("response.function_call_arguments.delta", delta='{"b":', item_id="fc_2"),
        event("response.function_call_arguments.delta", delta='{"a":1}', item_id="fc_1"),
        event("response.function_call_arguments.delta", delta="2}", item_id="fc_2"),
        done(second, None),
        done(first, None),
        completed(first, second),
    )
    assert completion.parts == parsed(first, second).parts


def test_items_without_ids_go_by_their_indexes() -> None:
    """And the whole response adds none that were heard."""
    bare = {name: value for name, value in message(output_text("Hi")).items() if name != "id"}
    completion = streamed(
        added({**bare, "content": []}), text_delta("Hi"), done(bare), completed(bare), event("never.read")
    )
    assert completion.parts == parsed(bare).parts


def test_two_items_under_one_index_are_two() -> None:
    """Some servers give every item the same index."""
    first, second = function_call('{"a":1}'), function_call('{"b":2}', id="fc_2", call_id="call_2")
    for whole in ((), (first, second)):
        completion = streamed(added(first), added(second), done(first), done(second), completed(*whole))
        assert completion.parts == parsed(first, second).parts


def test_content_counts_from_wherever_it_begins() -> None:
    """At some servers the first content of a message has the index 1; it is no second text."""
    events = fed([added(message()), text_delta("Hi", content_index=1), done(message(output_text("Hi"))), completed()])
    assert folded(events).text == "Hi"
    assert spoken(events) == "Hi"


def test_deltas_alone_are_enough() -> None:
    """A server that neither begins nor ends its items, nor repeats them in the end."""
    cited = {"type": "url_citation", "url": "https://x"}
    completion = streamed(
        event("response.reasoning_text.delta", delta="Hm.", item_id="rs_1"),
        text_delta("Hel", item_id="msg_1", output_index=1),
        text_delta("lo", item_id="msg_1", output_index=1),
        event("response.output_text.annotation.added", output_index=1, content_index=0, annotation=cited),
        event("response.refusal.delta", delta="No.", item_id="msg_1", output_index=1, content_index=1),
        completed(),
    )
    thinking, text, refusal = completion.parts
    assert isinstance(thinking, ThinkingPart)
    assert thinking.text == "Hm."
    assert isinstance(text, TextPart)
    assert loads(text.extra or "") == {"id": "msg_1", "annotations": [cited]}
    assert (text.text, refusal) == ("Hello", RefusalPart(text="No."))


@pytest.mark.parametrize("noise", [None, "", 7])
def test_an_empty_delta_says_nothing(noise: object) -> None:
    """Gateways send null."""
    completion = streamed(added(message()), text_delta(noise), text_delta("Hi"), text_delta(noise), completed())
    assert completion.text == "Hi"


def test_unknown_events_are_ignored() -> None:
    """Of any name and shape, also what is no JSON."""
    completion = streamed(
        CREATED,
        b": a comment\n\n",
        event("response.hologram.delta", delta="x", output_index=0),
        event("keepalive"),
        b"event: ping\ndata: not json\n\n",
        added(message()),
        text_delta("Hi", obfuscation="xyz"),
        completed(message(output_text("Hi"))),
        b"data: [DONE]\n\n",
    )
    assert completion.text == "Hi"


def test_a_name_may_stand_in_for_the_type() -> None:
    """Where the data has none."""
    data = encode(dumps({"response": {"id": "r", "output": [message(output_text("Hi"))], "status": "completed"}}))
    assert streamed(b"event: response.completed\ndata: " + data + b"\n\n").text == "Hi"


def test_other_items_are_kept_as_they_end() -> None:
    """Their own events say nothing of them that their final form does not."""
    final = {"type": "mcp_call", "id": "mcp_1", "name": "sql", "arguments": '{"a":1}', "output": None}
    delta = "response.mcp_call_arguments.delta"
    completion = streamed(
        added({"type": "mcp_call", "id": "mcp_1", "arguments": ""}),
        event(delta, delta='{"a"', output_index=0),
        event(delta, delta=":1}", output_index=0),
        done(final),
        completed(final),
    )
    assert completion.parts == (OpaquePart(payload=dumps(final)),)
    unended = streamed(added({**final, "arguments": ""}), event(delta, delta='{"a":1}', output_index=0), completed())
    [part] = unended.parts
    assert isinstance(part, OpaquePart)
    assert loads(part.payload) == final


@pytest.mark.parametrize(
    ("status", "reason"),
    [("max_output_tokens", FinishReason.LENGTH), ("content_filter", FinishReason.CONTENT_FILTER)],
)
def test_incomplete_answers_end_with_their_reason(status: str, reason: FinishReason) -> None:
    """Like bodies do."""
    completion = streamed(
        added(message()),
        text_delta("Half"),
        done(message(output_text("Half"), status="incomplete")),
        completed(status="incomplete", incomplete_details={"reason": status}),
    )
    assert (completion.finish_reason, completion.raw_finish_reason, completion.text) == (reason, status, "Half")


@pytest.mark.parametrize(
    ("last", "cls"),
    [
        (event("error", code="rate_limit_exceeded", message="no", param=None), RateLimitError),
        (event("error", error={"code": "server_is_overloaded", "message": "no"}), OverloadedError),
        (b'data: {"error":{"code":"rate_limit_exceeded","message":"no"}}\n\n', RateLimitError),
        (b"event: error\ndata: it broke\n\n", ServerError),
        (completed(status="failed", error={"code": "server_error", "message": "no"}), ServerError),
        (event("response.failed"), ServerError),
    ],
)
def test_errors_come_after_what_came_before(last: bytes, cls: type[ProviderError]) -> None:
    """The deltas are given first, also when both are in the same bytes."""
    parser = WIRE.stream(PLAIN)
    events = parser.feed(CREATED + added(message()) + text_delta("Half") + last)
    assert spoken(events) == "Half"
    with pytest.raises(ProviderError) as caught:
        parser.feed(b"")
    assert type(caught.value) is cls


def test_tokens_of_a_failed_answer_count() -> None:
    """They are reported before the error."""
    parser = WIRE.stream(PLAIN)
    usage = {"input_tokens": 5, "output_tokens": 2}
    events = parser.feed(CREATED + completed(status="failed", error={"message": "no"}, usage=usage))
    assert folded(events).usage.input_tokens == 5


def test_what_follows_the_end_is_not_read() -> None:
    """An error that comes late costs nothing."""
    late = event("error", message="no")
    assert streamed(CREATED, completed(message(output_text("Hi"))), late).text == "Hi"


def test_a_stream_without_its_end_is_interrupted() -> None:
    """Also with the word that other protocols end with; what had arrived is kept."""
    for tail in (b"", b"data: [DONE]\n\n", b"event: response.comp", b'data: {"type":"response.completed"'):
        parser = WIRE.stream(PLAIN)
        assert spoken(parser.feed(CREATED + added(message()) + text_delta("Half") + tail)) == "Half"
        with pytest.raises(StreamInterruptedError):
            parser.close()


def test_a_lenient_server_may_just_stop() -> None:
    """What came is then the answer, but nothing is none."""
    pieces = (CREATED, added(message()), text_delta("Hi"))
    completion = streamed(*pieces, profile=LENIENT)
    assert (completion.text, completion.finish_reason) == ("Hi", FinishReason.STOP)
    with pytest.raises(StreamInterruptedError):
        fed([b""], LENIENT)


def test_an_end_without_an_answer_is_an_error() -> None:
    """Nothing began, and nothing is in the event that ends it."""
    with pytest.raises(ProtocolError, match="without an answer"):
        fed([event("response.completed")])


def test_an_event_of_ours_that_is_no_json_is_an_error() -> None:
    """Its data may be half of what was meant."""
    for data in (b"{", b"[]", b'"x"'):
        with pytest.raises(ProtocolError, match="not a JSON object"):
            fed([b"event: response.output_text.delta\ndata: " + data + b"\n\n"])


def test_a_body_in_place_of_a_stream_is_read_as_one() -> None:
    """Some proxies do not stream."""
    whole = openai_responses_body("Hi", tool_calls=[FakeCall("f")])
    assert streamed(encode(dumps(whole))) == WIRE.parse(encode(dumps(whole)), PLAIN)


def test_an_answer_made_in_the_background_may_be_streamed() -> None:
    """It waits in a queue first."""
    queued = event("response.queued", response={"id": "resp_1", "model": "m1", "status": "queued"})
    assert streamed(queued, CREATED, completed(message(output_text("Hi")))).text == "Hi"


def test_halves_of_a_character_are_joined() -> None:
    """An emoji cut in two by the deltas is not said twice."""
    halves = [
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"\\ud83d"}\n\n',
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"\\ude00"}\n\n',
    ]
    events = fed([added(message()), *halves, done(message(output_text("😀!"))), completed()])
    assert folded(events).text == "😀!"
    assert [found.text for found in events if isinstance(found, TextDelta)] == ["", "\ud83d", "\ude00", "!"]


def test_an_item_without_an_end_is_not_taken_for_one_that_broke_off() -> None:
    """The status it began with says nothing of it."""
    completion = streamed(added(message(status="in_progress")), text_delta("Hi"), completed())
    assert completion.parts == parsed(message(output_text("Hi"))).parts
