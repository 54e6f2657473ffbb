"""What single servers add to an answer or write in a way of their own, in bodies and streams alike."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart, ThinkingPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.openai_chat.asking import DONE, HERE, PLAIN, WIRE, asking, body, chunk, data, sent, stop, streamed

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion

_IMAGE = b"\x89PNG\r\n\x1a\n and more"
_URL = f"data:image/png;base64,{base64.b64encode(_IMAGE).decode()}"


def image(url: str = _URL, **more: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}, **more}


def both(message: dict[str, Any], finish: str | None = "stop", **members: object) -> Completion:
    """What the body says, after making sure that a stream of it in one piece says the same."""
    whole = WIRE.parse(body(message, finish=finish, **members), PLAIN)
    assert streamed(chunk(message), chunk({}, finish, **members), DONE) == whole
    return whole


def test_images_of_a_model_are_files() -> None:
    """Their bytes are unpacked and named by their digest; members beyond them are kept."""
    answer = both({"content": "Here.", "images": [image(index=0, id="img_1")]})
    text, made = answer.parts
    assert text == TextPart(text="Here.")
    assert made == MediaPart(media="image", media_type="image/png", sha256=digest_of(_IMAGE), extra='{"id":"img_1"}')
    assert isinstance(made, MediaPart)
    assert made.data == _IMAGE


def test_an_image_that_comes_twice_is_one() -> None:
    """Some streams end with the whole message once more."""
    answer = streamed(chunk({"images": [image()]}), chunk({"images": [image()]}), stop(), DONE)
    assert len(answer.parts) == 1


@pytest.mark.parametrize("url", ["https://files.example/a.png", "data:image/png;base64,%%%", "data:,", ""])
def test_images_whose_content_is_elsewhere_are_kept_beside_the_text(url: str) -> None:
    """What cannot be unpacked is not lost, and not sent back either."""
    answer = both({"content": "Here.", "images": [image(url)]})
    (text,) = answer.parts
    assert isinstance(text, TextPart)
    assert json.loads(text.extra or "") == {"images": [image(url)]}
    history = [Message(role="assistant", parts=answer.parts, origin=HERE)]
    assert sent(asking(*history))["messages"] == [{"role": "assistant", "content": "Here."}]


def test_an_address_that_is_no_object_is_read_too() -> None:
    """A bare string where others have an object."""
    (made,) = both({"images": [{"image_url": _URL}]}).parts
    assert isinstance(made, MediaPart)


def test_sources_beside_the_choices_are_kept_with_the_text() -> None:
    """The last list counts, for each chunk has all of them so far."""
    whole = both({"content": "So."}, citations=["https://a.example", "https://b.example"])
    assert whole.parts == (TextPart(text="So.", extra='{"citations":["https://a.example","https://b.example"]}'),)
    growing = streamed(
        chunk({"content": "So."}, citations=["https://a.example"]),
        chunk({}, "stop", citations=["https://a.example", "https://b.example"]),
        DONE,
    )
    assert growing.parts == whole.parts
    history = [Message(role="assistant", parts=whole.parts, origin=HERE)]
    assert "citations" not in sent(asking(*history))["messages"][0]


def test_a_signature_on_the_message_goes_back() -> None:
    """Gemini's compatible endpoint wants it where it was."""
    answer = both({"content": "So.", "thought_signature": "c2ln"})
    history = [Message(role="assistant", parts=answer.parts, origin=HERE)]
    assert sent(asking(*history))["messages"][0]["thought_signature"] == "c2ln"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (json.dumps('{"x": 1.50}'), '{"x": 1.50}'),
        (json.dumps(json.dumps("x")), json.dumps(json.dumps("x"))),
        ('"x"', '"x"'),
        ('"', '"'),
        ("{'x': None}", "{'x': None}"),
        ('{"x": 1} so', '{"x": 1} so'),
    ],
)
def test_arguments_that_were_written_twice_are_unpacked(arguments: str, expected: str) -> None:
    """An object in a string is that object; anything else is left for the model to correct."""
    call = {"id": "a", "index": 0, "function": {"name": "f", "arguments": arguments}}
    assert both({"tool_calls": [call]}, "tool_calls").tool_calls[0].arguments == expected


def test_an_id_that_says_null_is_none() -> None:
    """Mistral writes the word; two such calls in one stream are two."""
    calls = [
        {"id": "null", "index": 0, "function": {"name": name, "arguments": '{"x": 1}'}} for name in ("f", "f", "g")
    ]
    answer = both({"content": "", "tool_calls": calls}, "tool_calls")
    assert [(call.wire_id, call.call_id, call.name) for call in answer.tool_calls] == [
        (None, "", "f"),
        (None, "", "f"),
        (None, "", "g"),
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("guardrail_intervened", "content_filter"),
        ("network_error", "error"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("repetition", "unknown"),
    ],
)
def test_finish_reasons_of_single_servers(word: str, expected: str) -> None:
    """Each word in our vocabulary, or unknown; the word itself is kept."""
    answer = both({"content": "x"}, word)
    assert (answer.finish_reason, answer.raw_finish_reason) == (expected, word)


def test_members_of_odd_types_around_the_choices_are_harmless() -> None:
    """A null date, a service tier nobody knows, metadata of any kind, padding."""
    answer = both({"content": "x"}, created=None, service_tier=["odd"], metadata=7, p="padding", provider={"a": 1})
    assert answer.parts == (TextPart(text="x"),)


def test_encrypted_items_of_thinking_are_told_apart_by_their_ids() -> None:
    """Under one index, or none, another id begins another item; fragments without one belong to the latest."""
    fragments = [
        {"type": "reasoning.encrypted", "id": "rs_1", "data": "a"},
        {"type": "reasoning.encrypted", "data": "b"},
        {"type": "reasoning.encrypted", "id": "rs_2", "data": "c"},
        {"type": "reasoning.summary", "summary": "Hm.", "index": 0},
        {"type": "reasoning.encrypted", "data": "d"},
    ]
    answer = streamed(*[chunk({"reasoning_details": [item]}) for item in fragments], stop(), DONE)
    (part,) = answer.parts
    assert isinstance(part, ThinkingPart)
    assert json.loads(part.opaque or "") == [
        {"type": "reasoning.encrypted", "id": "rs_1", "data": "ab"},
        {"type": "reasoning.encrypted", "id": "rs_2", "data": "cd"},
        {"type": "reasoning.summary", "summary": "Hm.", "index": 0},
    ]


def test_mistrals_chunks_go_back_as_they_came() -> None:
    """Thinking with its signature and a reference keep place and members; only their own provider sees them."""
    items = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "signature": "c2ln", "closed": True},
        {"type": "text", "text": "See "},
        {"type": "reference", "reference_ids": [1, 2]},
        {"type": "text", "text": "that."},
    ]
    answer = WIRE.parse(body({"content": items, "tool_calls": None}), PLAIN)
    assert [type(part) for part in answer.parts] == [ThinkingPart, TextPart, OpaquePart, TextPart]
    history = [Message(role="assistant", parts=answer.parts, origin=HERE)]
    replays = ModelProfile(thinking_replay="field")
    assert sent(asking(*history, profile=replays))["messages"][0]["content"] == items


def test_mistrals_stream_changes_the_type_of_its_content() -> None:
    """First a string, then lists of thinking, then strings; the call comes whole, with the end and the usage."""
    call = {"id": "Or5TU38vr", "index": 0, "function": {"name": "f", "arguments": '{"x": 1}'}}
    usage = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7, "prompt_tokens_details": {}}
    answer = streamed(
        chunk({"role": "assistant", "content": ""}, p="abc"),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "H"}]}]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m."}], "closed": True}]}),
        chunk({"content": "So"}, p="abcdefg"),
        chunk({"content": ".", "tool_calls": [call]}, "tool_calls", usage=usage),
        DONE,
    )
    thinking, text, asked = answer.parts
    assert isinstance(thinking, ThinkingPart)
    assert (thinking.text, thinking.field) == ("Hm.", "content")
    assert json.loads(thinking.opaque or "") == {
        "type": "thinking",
        "thinking": [{"type": "text", "text": "Hm."}],
        "closed": True,
    }
    assert text == TextPart(text="So.")
    assert asked == answer.tool_calls[0]
    assert (answer.finish_reason, answer.usage.input_tokens) == ("tool_call", 4)


def test_deepseeks_stream_has_comments_and_two_members() -> None:
    """Comments while it waits, then thinking and text in turn, then the usage with the end."""
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 7,
        "total_tokens": 27,
        "prompt_cache_hit_tokens": 16,
        "prompt_cache_miss_tokens": 4,
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    answer = streamed(
        b": keep-alive\n\n: keep-alive\n\n\n",
        chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
        chunk({"content": None, "reasoning_content": "H"}),
        chunk({"content": None, "reasoning_content": "m."}),
        b": keep-alive\n\n",
        chunk({"content": "So.", "reasoning_content": None}),
        chunk({"content": "", "reasoning_content": None}, "stop", usage=usage),
        DONE,
    )
    assert answer.parts == (ThinkingPart(text="Hm.", field="reasoning_content"), TextPart(text="So."))
    assert (answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.output_tokens) == (20, 16, 7)
    assert answer.usage.reasoning_tokens == 5


def test_grok_counts_reasoning_beside_its_answer() -> None:
    """The total gives it away; a cost in ticks is dollars."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
        "cost_in_usd_ticks": 645000,
    }
    answer = streamed(
        chunk({"content": "So", "reasoning_content": "Hm."}, usage={**usage, "completion_tokens": 1}),
        chunk({"content": "."}, "stop", usage=usage),
        data({"choices": [], "usage": usage}),
        DONE,
    )
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens) == (10, 105, 100)
    assert answer.usage.reported_cost == Decimal("0.0000645")
