"""What a body says: parts, usage, the reason for its end, and errors that look like answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.errors import (
    BadRequestError,
    ContentFilterError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from tests.unit.wire.openai_responses.asking import (
    PLAIN,
    WIRE,
    body,
    function_call,
    message,
    output_text,
    parsed,
    reasoning,
)


def test_a_plain_answer() -> None:
    """Text with the id of its message beside it, model, id of the response, and why it ended."""
    completion = parsed(message(output_text("Hi")))
    assert completion.parts == (TextPart(text="Hi", extra='{"id":"msg_1"}'),)
    assert (completion.finish_reason, completion.raw_finish_reason) == (FinishReason.STOP, "completed")
    assert (completion.model, completion.response_id, completion.complete) == ("m1", "resp_1", True)


def test_a_text_keeps_what_its_message_and_itself_had_beyond() -> None:
    """Phase, annotations and probabilities; an empty list says nothing."""
    cited = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "https://x", "title": "X"}
    [part] = parsed(message(output_text("Hi", cited), phase="final_answer", status="incomplete")).parts
    assert isinstance(part, TextPart)
    assert loads(part.extra or "") == {
        "id": "msg_1",
        "phase": "final_answer",
        "status": "incomplete",
        "annotations": [cited],
    }
    [bare] = parsed({"type": "message", "content": "Hi"}).parts
    assert bare == TextPart(text="Hi")


def test_reasoning_keeps_text_signature_and_the_rest() -> None:
    """Summaries are one text; what they were, and the id, stand beside it."""
    [part] = parsed(reasoning("One.", "Two.", encrypted_content="gAAA", status=None)).parts
    assert isinstance(part, ThinkingPart)
    assert (part.text, part.signature, part.redacted) == ("One.\n\nTwo.", "gAAA", False)
    assert part.opaque == (
        '{"id":"rs_1","summary":[{"type":"summary_text","text":"One."},{"type":"summary_text","text":"Two."}]}'
    )


def test_reasoning_without_a_summary_is_hidden_and_open_reasoning_is_its_content() -> None:
    """Models with open weights show what they think; others may show nothing."""
    hidden, shown = parsed(
        reasoning(encrypted_content="gAAA"),
        reasoning(wire_id="rs_2", content=[{"type": "reasoning_text", "text": "Hm."}]),
    ).parts
    assert hidden == ThinkingPart(signature="gAAA", redacted=True, opaque='{"id":"rs_1"}')
    assert isinstance(shown, ThinkingPart)
    assert (shown.text, shown.signature, shown.redacted) == ("Hm.", None, False)


def test_calls_keep_their_arguments_and_what_they_had_beyond() -> None:
    """Byte for byte, and whatever the stated status, calls are why the answer ended."""
    completion = parsed(function_call('{"n": 1.50}', namespace="tools"))
    assert completion.parts == (
        ToolCallPart(
            call_id="call_1",
            wire_id="call_1",
            name="f",
            arguments='{"n": 1.50}',
            extra='{"id":"fc_1","namespace":"tools"}',
        ),
    )
    assert (completion.finish_reason, completion.raw_finish_reason) == (FinishReason.TOOL_CALL, "completed")


@pytest.mark.parametrize(
    ("arguments", "read"), [({"a": 1}, '{"a":1}'), ("", "{}"), (None, "{}"), ('{"a":', '{"a":')]
)  # fmt: skip
def test_arguments_in_other_forms(arguments: object, read: str) -> None:
    """An object is written out, nothing is no arguments, and the rest is kept as it came."""
    [call] = parsed(function_call(arguments)).tool_calls
    assert call.arguments == read


def test_a_call_without_a_call_id_goes_by_its_own() -> None:
    """Some servers give one id only."""
    [call] = parsed(function_call(call_id=None)).tool_calls
    assert call.wire_id == "fc_1"


def test_refusals_outrank_everything() -> None:
    """A refusal is a part of its own, beside text."""
    completion = parsed(message(output_text("Well."), {"type": "refusal", "refusal": "No."}))
    assert completion.parts[1] == RefusalPart(text="No.")
    assert completion.finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "1+1", "outputs": None, "container_id": "c"},
        {"type": "image_generation_call", "id": "ig_1", "result": "aGk=", "status": "completed"},
        {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "error": None, "output": "x"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
        {"type": "hologram_call", "a": [], "b": None},
    ],
)
def test_other_items_are_kept_as_they_are(item: dict[str, Any]) -> None:
    """In their place, empty members included."""
    before, part, after = parsed(reasoning("I look."), item, message(output_text("Hi"))).parts
    assert isinstance(before, ThinkingPart)
    assert isinstance(after, TextPart)
    assert isinstance(part, OpaquePart)
    assert loads(part.payload) == item


def test_unknown_content_of_a_message_is_kept() -> None:
    """It is no item, so that it has no type of its own."""
    _, part = parsed(message(output_text("Hi"), {"type": "hologram"})).parts
    assert part == OpaquePart(payload='{"id":"msg_1","content":{"type":"hologram"}}')


def test_what_stands_beside_an_answer_is_kept() -> None:
    """Reasoning the server dropped, moderation and an unusual tier are not lost; the usual tier says nothing."""
    dropped = [{"type": "reasoning", "id": "rs_1", "reason": "model_mismatch"}]
    completion = parsed(message(output_text("Hi")), input_transformations=dropped, service_tier="flex", moderation=None)
    assert isinstance(completion.parts[-1], OpaquePart)
    assert loads(completion.parts[-1].payload) == {"input_transformations": dropped, "service_tier": "flex"}
    assert len(parsed(message(output_text("Hi")), input_transformations=[], service_tier="default").parts) == 1


@pytest.mark.parametrize(
    ("members", "reason", "raw"),
    [
        ({"status": None}, FinishReason.STOP, "completed"),
        ({"status": "complete"}, FinishReason.STOP, "complete"),
        ({"status": "cancelled"}, FinishReason.ERROR, "cancelled"),
        ({"status": "dreaming"}, FinishReason.UNKNOWN, "dreaming"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            FinishReason.LENGTH,
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            FinishReason.CONTENT_FILTER,
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, FinishReason.UNKNOWN, "steered"),
        ({"status": "incomplete", "incomplete_details": None}, FinishReason.UNKNOWN, "incomplete"),
    ],
)
def test_reasons(members: dict[str, Any], reason: FinishReason, raw: str) -> None:
    """The status, or the reason it gives for being incomplete."""
    completion = parsed(message(output_text("Hi")), **members)
    assert (completion.finish_reason, completion.raw_finish_reason) == (reason, raw)


def test_a_call_that_was_cut_off_is_never_run() -> None:
    """Its status says so, also where half of the arguments happen to be JSON."""
    completion = parsed(
        function_call("{}", status="incomplete"),
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    )
    assert completion.finish_reason is FinishReason.LENGTH
    assert completion.tool_calls[0].truncated


def test_tokens_are_counted_as_stated() -> None:
    """Cached, written and reasoning tokens are parts of the totals; the lifetimes of what was written have names."""
    usage = parsed(
        usage={
            "input_tokens": 4020,
            "input_tokens_details": {
                "cached_tokens": 8,
                "cache_write_tokens": 4012,
                "cache_write_tokens_details": {"ttl_30m_tokens": 4000, "ttl_12h_tokens": 12},
            },
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
        }
    ).usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (4020, 8, 4012)
    assert (usage.output_tokens, usage.reasoning_tokens) == (5, 0)
    assert usage.other_tokens == {"cache_write_30m_tokens": 4000, "cache_write_12h_tokens": 12}


def test_what_makes_no_sense_is_unknown() -> None:
    """A prompt without tokens, more cached than there was, and nothing at all."""
    nonsense: object = {"input_tokens": 0, "output_tokens": 0, "input_tokens_details": {"cached_tokens": 9}}
    for usage in (nonsense, {}, None, [], {"input_tokens": -1, "output_tokens": "many"}):
        assert parsed(usage=usage).usage == parsed().usage
    over = parsed(usage={"input_tokens": 5, "input_tokens_details": {"cached_tokens": 9}}).usage
    assert (over.input_tokens, over.cached_tokens, over.output_tokens) == (5, None, None)


def test_money_keeps_its_digits() -> None:
    """One provider counts ten-thousand-millionths of a dollar, another dollars."""
    tokens = b'"input_tokens":1,"output_tokens":1'
    ticks = b'{"output":[],"usage":{' + tokens + b',"cost_in_usd_ticks":64718500}}'
    assert WIRE.parse(ticks, PLAIN).usage.reported_cost == Decimal("0.0064718500")
    dollars = b'{"output":[],"usage":{' + tokens + b',"cost":0.0000113}}'
    assert WIRE.parse(dollars, PLAIN).usage.reported_cost == Decimal("0.0000113")


_SEARCH = {"type": "web_search_call", "action": {"type": "search"}}
_OPEN = {"type": "web_search_call", "action": {"type": "open_page"}}


@pytest.mark.parametrize(
    ("members", "others"),
    [
        ({}, {"web_searches": 1}),
        ({"tool_usage": {"web_search": {"num_requests": 3}}}, {"web_searches": 3}),
        ({"tool_usage": {"web_search": {"num_requests": 0}}}, {}),
        (
            {"tool_usage": {"image_gen": {"input_tokens": 4, "output_tokens": 5}, "web_search": {"num_requests": 1}}},
            {"web_searches": 1, "image_gen_input_tokens": 4, "image_gen_output_tokens": 5},
        ),
        (
            {"usage": {"server_side_tool_usage_details": {"web_search_calls": 2, "x_search_calls": 1, "mcp_calls": 0}}},
            {"web_searches": 2, "x_search_calls": 1},
        ),
    ],
)
def test_uses_of_the_providers_own_tools(members: dict[str, Any], others: dict[str, int]) -> None:
    """As counted by the provider; where it does not count, the searches in the output."""
    assert parsed(_SEARCH, _OPEN, **members).usage.other_tokens == others


def test_an_answer_that_is_still_being_made_is_an_error() -> None:
    """It is not asked for again: each question would begin another one."""
    for status in ("queued", "in_progress"):
        with pytest.raises(ProtocolError, match=r"resp_1.*leave background out") as caught:
            parsed(status=status)
        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("server_error", ServerError),
        ("rate_limit_exceeded", RateLimitError),
        ("insufficient_quota", QuotaExceededError),
        ("organization_usage_limit_exceeded", QuotaExceededError),
        ("invalid_prompt", BadRequestError),
        ("invalid_image_url", BadRequestError),
        ("failed_to_download_image", BadRequestError),
        ("data_residency_mismatch", BadRequestError),
        ("bio_policy", ContentFilterError),
        ("misalignment_policy_violation", ContentFilterError),
        ("image_content_policy_violation", ContentFilterError),
        ("vector_store_timeout", ProviderTimeoutError),
        ("server_is_overloaded", OverloadedError),
    ],
)
def test_failed_responses_have_the_class_of_their_code(code: str, cls: type[ProviderError]) -> None:
    """A response that failed is an error, although the request succeeded."""
    with pytest.raises(ProviderError) as caught:
        parsed(status="failed", error={"code": code, "message": "no"})
    assert type(caught.value) is cls


def test_a_failed_response_without_words_is_the_servers_fault() -> None:
    """And may be asked for again."""
    with pytest.raises(ServerError) as caught:
        parsed(status="failed", error=None)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "code", "message", "cls"),
    [
        (400, "context_length_exceeded", "Your input exceeds the context window of this model.", ContextWindowError),
        (400, "model_not_found", "The requested model 'x' does not exist.", ModelNotFoundError),
        (429, "rate_limit_exceeded", "Slow down.", RateLimitError),
        (429, "insufficient_quota", "You exceeded your current quota.", QuotaExceededError),
        (429, "project_spend_limit_exceeded", "no", QuotaExceededError),
        (429, "credit_balance_exhausted", "no", QuotaExceededError),
        (503, "server_is_overloaded", "no", OverloadedError),
    ],
)
def test_failures_have_the_class_of_their_words(status: int, code: str, message: str, cls: type[ProviderError]) -> None:
    """The status and the code together; the id of the request goes with them."""
    data = f'{{"error":{{"message":"{message}","type":"x","param":null,"code":"{code}"}}}}'.encode()
    error = WIRE.failure(status, {"x-request-id": "req_1"}, data)
    assert type(error) is cls
    assert (error.request_id, error.status) == ("req_1", status)
    assert WIRE.request_id({"apim-request-id": "a"}) == "a"
    assert WIRE.request_id({}) is None


def test_bodies_that_are_no_answer() -> None:
    """A remedy for each: cut off, a page, another protocol, an error after all."""
    whole = body(message(output_text("Hi")))
    with pytest.raises(ProviderConnectionError, match="cut off"):
        WIRE.parse(whole[:-9], PLAIN)
    with pytest.raises(ProtocolError, match="HTML"):
        WIRE.parse(b"<html></html>", PLAIN)
    with pytest.raises(ProtocolError, match="speaks the Responses protocol"):
        WIRE.parse(b'{"choices":[]}', PLAIN)
    with pytest.raises(RateLimitError):
        WIRE.parse(b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', PLAIN)
    with pytest.raises(OverloadedError):
        WIRE.parse(b'{"type":"error","code":"server_is_overloaded","message":"no"}', PLAIN)


def test_two_items_with_one_id_are_two() -> None:
    """Some servers give every item the same id."""
    assert parsed(message(output_text("One.")), message(output_text("Two."))).text == "One.Two."
