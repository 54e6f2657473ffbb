"""Recorded answers of the API, read a second time without the code under test and compared with what it reads."""

from __future__ import annotations

import importlib
import json
import random
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.wire.bedrock.models import path_of
from tests.unit.wire.bedrock.asking import HERE, WIRE, asking, assistant, read, sent
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile

pytestmark = [needs_recordings, pytest.mark.recordings]

_BODIES = interactions("bedrock", "/converse")
_STREAMS = interactions("bedrock", "/converse-stream")
_COUNTS = interactions("bedrock", "/count-tokens")
_ALL = [*_BODIES, *_STREAMS]
_ANSWERS = [item for item in _ALL if item.status == 200]
_FAILURES = [item for item in [*_ALL, *_COUNTS] if item.status != 200]
_REASONS = {"end_turn": FinishReason.STOP, "max_tokens": FinishReason.LENGTH, "tool_use": FinishReason.TOOL_CALL}


def _model(item: Interaction) -> str:
    return unquote(urlsplit(item.url).path.split("/")[2])


def _profile(item: Interaction) -> ModelProfile:
    return BEDROCK_PROFILES.find(_model(item))


def _is_stream(item: Interaction) -> bool:
    return urlsplit(item.url).path.endswith("-stream")


def _read(item: Interaction) -> Completion:
    return read([item.body], _profile(item)) if _is_stream(item) else WIRE.parse(item.body, _profile(item))


def _events(item: Interaction) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, their frames read by botocore."""
    buffer = importlib.import_module("botocore.eventstream").EventStreamBuffer()
    buffer.add_data(item.body)
    return [(message.headers[":event-type"], json.loads(message.payload)) for message in buffer]


def _put_together(item: Interaction) -> dict[str, Any]:
    """The body that a stream stands for, by the rules of the API's documentation."""
    blocks: dict[int, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for name, event in _events(item):
        if name == "contentBlockStart":
            blocks[event["contentBlockIndex"]] = {"toolUse": {**event["start"]["toolUse"], "input": ""}}
        elif name == "contentBlockDelta":
            ((kind, piece),) = event["delta"].items()
            block = blocks.setdefault(event["contentBlockIndex"], {"text": ""} if kind == "text" else {kind: {}})
            if kind == "text":
                block["text"] += piece
            elif kind == "toolUse":
                block["toolUse"]["input"] += piece["input"]
            elif "redactedContent" in piece:
                block[kind] = piece
            else:
                inner = block[kind].setdefault("reasoningText", {})
                for member, value in piece.items():
                    inner[member] = inner.get(member, "") + value
        elif name in {"messageStop", "metadata"}:
            whole |= event
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    whole["output"] = {"message": {"role": "assistant", "content": [blocks[index] for index in sorted(blocks)]}}
    return whole


def _body(item: Interaction) -> dict[str, Any]:
    body: dict[str, Any] = _put_together(item) if _is_stream(item) else json.loads(item.body)
    return body


def test_there_are_recordings() -> None:
    """The comparisons below are some."""
    assert (len(_ANSWERS), len(_STREAMS)) >= (70, 5)


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_the_parts_are_what_the_body_says(item: Interaction) -> None:
    """Texts, thoughts, signatures, calls and server parts are those of the recorded body, in its order."""
    blocks = [block for block in _body(item)["output"]["message"]["content"] if block != {"text": ""}]
    parts = _read(item).parts
    assert len(parts) == len(blocks)
    for ours, theirs in zip(parts, blocks, strict=True):
        ((kind, value),) = theirs.items()
        if kind == "text":
            assert ours == TextPart(text=value)
        elif kind == "citationsContent":
            assert isinstance(ours, TextPart)
            assert ours.text == "".join(piece["text"] for piece in value.get("content", []))
            assert json.loads(ours.extra or "") == {kind: {"citations": value["citations"]}}
        elif "reasoningText" in value:
            assert ours == ThinkingPart(
                text=value["reasoningText"]["text"], signature=value["reasoningText"].get("signature")
            )
        elif kind == "reasoningContent":
            assert isinstance(ours, ThinkingPart)
            assert (ours.redacted, json.loads(ours.opaque or "")) == (True, theirs)
        elif kind == "toolUse" and value.get("type") != "server_tool_use":
            assert isinstance(ours, ToolCallPart)
            assert (ours.name, ours.wire_id, ours.extra) == (value["name"], value["toolUseId"], None)
            assert json.loads(ours.arguments) == value["input"]
        else:
            assert isinstance(ours, OpaquePart)
            assert json.loads(ours.payload) == theirs


@pytest.mark.parametrize("item", _ANSWERS, ids=str)
def test_finish_reason_and_usage_are_what_the_body_says(item: Interaction) -> None:
    """Why it stopped and what it cost in tokens are those of the recorded body; the total proves the sum."""
    body, answer = _body(item), _read(item)
    assert answer.finish_reason == _REASONS[body["stopReason"]]
    assert answer.raw_finish_reason == body["stopReason"]
    stated, usage = body["usage"], answer.usage
    assert usage.total_tokens == stated["totalTokens"]
    assert usage.output_tokens == stated["outputTokens"]
    assert usage.cached_tokens == stated.get("cacheReadInputTokens")
    assert usage.cache_write_tokens == stated.get("cacheWriteInputTokens")
    assert usage.other_tokens == {}


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_says_what_its_body_would(item: Interaction) -> None:
    """Put together by the documented rules, the body of a stream reads as the stream did."""
    assert WIRE.parse(json.dumps(_put_together(item)).encode(), _profile(item)) == _read(item)


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_gives_the_same_answer_however_it_is_cut(item: Interaction) -> None:
    """Fed byte by byte and cut at random places, a stream gives the answer it gives when it comes whole."""
    whole = _read(item)
    assert read((item.body[at : at + 1] for at in range(len(item.body))), _profile(item)) == whole
    chance = random.Random(item.id)  # noqa: S311 — the same cuts in every run
    for _ in range(20):
        cuts = sorted(chance.choices(range(len(item.body)), k=chance.randint(1, 40)))
        assert read((item.body[a:b] for a, b in pairwise([0, *cuts, len(item.body)])), _profile(item)) == whole


@pytest.mark.parametrize("item", _STREAMS, ids=str)
def test_a_stream_that_breaks_off_is_interrupted(item: Interaction) -> None:
    """Without its reason to stop a recorded stream is no answer; the bits of every frame are checked."""
    stop = item.body.index(b"messageStop")
    for size in (0, 11, 200, stop // 2, stop):
        with pytest.raises(errors.StreamInterruptedError):
            read([item.body[:size]])
    chance = random.Random(item.id)  # noqa: S311 — the same bits in every run
    for _ in range(50):
        damaged = bytearray(item.body)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        with pytest.raises(errors.ProtocolError):
            read([bytes(damaged), b""])


@pytest.mark.parametrize("item", _FAILURES, ids=str)
def test_a_recorded_failure_is_of_its_class(item: Interaction) -> None:
    """Too long a conversation and an unknown model are told apart from other bad requests, in the provider's words."""
    message = json.loads(item.body)["message"]
    error = WIRE.failure(item.status, item.headers, item.body)
    expected: type[errors.ProviderError] = errors.BadRequestError
    if "Input Tokens Exceeded" in message:
        expected = errors.ContextWindowError
    elif "identifier is invalid" in message:
        expected = errors.ModelNotFoundError
    assert type(error) is expected
    assert " ".join(message.split())[:100] in str(error)
    assert error.request_id == item.headers.get("x-amzn-requestid")


@pytest.mark.parametrize("item", [item for item in _COUNTS if item.status == 200], ids=str)
def test_recorded_counts(item: Interaction) -> None:
    """The answer to a question for a count is its number, and the path is the one that answered."""
    assert WIRE.counted(item.body) == json.loads(item.body)["inputTokens"]
    ours = WIRE.count_request(asking(target=replace(HERE, model=f"us.{_model(item)}")))
    assert ours.path == path_of(_model(item), "count-tokens") == urlsplit(item.url).path


_CACHED = [
    item for item in _ANSWERS if (_read(item).usage.cached_tokens or 0) + (_read(item).usage.cache_write_tokens or 0)
]


@pytest.mark.parametrize("item", _CACHED, ids=str)
def test_cached_calls_have_a_price_above_zero(item: Interaction) -> None:
    """The cost is that of each class of tokens at the rates of the region, and cached ones are not paid twice."""
    rates = {"sonnet": ("3.3", "0.33", "4.125", "16.5"), "haiku": ("1.1", "0.11", "1.375", "5.5")}
    fresh, read_again, written, said = map(Decimal, next(r for name, r in rates.items() if name in _model(item)))
    stated = _body(item)["usage"]
    cost = GenaiPrices().cost(provider="bedrock", model=_model(item), usage=_read(item).usage)
    assert cost.total == (
        fresh * stated["inputTokens"]
        + read_again * stated["cacheReadInputTokens"]
        + written * stated["cacheWriteInputTokens"]
        + said * stated["outputTokens"]
    ) / Decimal(1_000_000)
    assert cost.total > 0


@pytest.mark.parametrize("name", sorted({_model(item) for item in _ANSWERS}))
def test_every_recorded_model_is_described(name: str) -> None:
    """No recorded model has the profile of an unknown one, but for the user's own inference profile."""
    assert (BEDROCK_PROFILES.find(name) == BEDROCK_PROFILES.otherwise) == ("application-inference-profile" in name)


def _part(block: dict[str, Any]) -> Part | None:
    """A block of another client's request as the part that we would have."""
    ((kind, value),) = block.items()
    match kind:
        case "text":
            return TextPart(text=value)
        case "image" | "document":
            sheet = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
            types = {"pdf": "application/pdf", "xlsx": sheet}
            media_type = f"image/{value['format']}" if kind == "image" else types[value["format"]]
            url = value["source"].get("s3Location", {}).get("uri")
            data = b"content" if url is None else None
            return MediaPart(media=kind, media_type=media_type, name=value.get("name"), url=url, data=data)
        case _:
            return None


def _history(before: list[Interaction], item: Interaction) -> list[Message] | None:
    """The conversation of a recorded request, its answers those that we read; ``None`` where it is another one."""
    answers = iter(before)
    messages: list[Message] = []
    for turn in (item.request or {})["messages"]:
        if turn["role"] == "assistant":
            answered = next(answers, None)
            if answered is None:
                return None
            messages.append(assistant(*_named(_read(answered).parts)))
            continue
        calls = {call.wire_id: call for call in (messages[-1].tool_calls if messages else ())}
        for block in turn["content"]:
            if "toolResult" in block:
                call = calls.get(block["toolResult"]["toolUseId"])
                if call is None or any("text" not in told for told in block["toolResult"]["content"]):
                    return None
                told = "\n".join(part["text"] for part in block["toolResult"]["content"])
                answer = ToolResultPart(call_id=call.call_id, name=call.name, content=told)
                messages.append(Message(role="tool", parts=(answer,)))
        parts = tuple(part for block in turn["content"] if (part := _part(block)) is not None)
        if parts:
            messages.append(Message(role="user", parts=parts))
    return messages if next(answers, None) is None else None


def _named(parts: tuple[Part, ...]) -> list[Part]:
    """The parts with the ids that a chat gives to calls: the provider's where that is legal."""
    legal = str.maketrans(".:", "__")
    return [
        replace(part, call_id=part.call_id.translate(legal)[:40]) if isinstance(part, ToolCallPart) else part
        for part in parts
    ]


def _followed() -> list[tuple[list[Interaction], Interaction]]:
    """Requests that go on with the answers to those before them in the scenario."""
    found: list[tuple[list[Interaction], Interaction]] = []
    for name in dict.fromkeys(item.scenario for item in _ALL):
        run: list[Interaction] = []
        for item in (item for item in _ALL if item.scenario == name and item.request):
            spoken = [turn for turn in (item.request or {})["messages"] if turn["role"] == "assistant"]
            count = len(spoken)
            asked = json.dumps(item.request)
            # Texts go as words here, and a model that does not read from buckets is not sent there.
            other = '"format": "txt"' in asked or (item.status != 200 and "s3Location" in asked)
            if count and not other and len(run) >= count and _history(run[-count:], item) is not None:
                found.append((run[-count:], item))
            if item.status == 200:
                run = [*run, item]
    return found


_FOLLOWED = _followed()


def test_there_are_conversations() -> None:
    """The comparison below is one."""
    assert len(_FOLLOWED) > 25


def _tools(item: Interaction) -> tuple[list[ToolSpec], list[dict[str, Any]]]:
    """The tools of a recorded request: the caller's own, and the provider's."""
    offered = (item.request or {}).get("toolConfig", {}).get("tools", [])
    specs = [tool["toolSpec"] for tool in offered if "toolSpec" in tool]
    own = [
        ToolSpec(
            name=spec["name"],
            description=spec.get("description", ""),
            parameters=dumps(spec["inputSchema"]["json"]),
            strict=spec.get("strict", False),
        )
        for spec in specs
    ]
    return own, [tool for tool in offered if "systemTool" in tool]


def _comparable(body: dict[str, Any]) -> dict[str, Any]:
    """A request without what clients are free to choose.

    Those are empty members, success said in words, the contents of files, and whether there is a word of the assistant
    between results and what follows them.
    """
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for turn in body["messages"]:
        content = [block for block in map(_block, turn["content"]) if block is not None]
        if turn["role"] == "assistant" and content == [{"text": "."}]:
            continue
        if turns and turns[-1][0] == turn["role"]:
            turns[-1][1].extend(content)
        else:
            turns.append((turn["role"], content))
    return {name: value for name, value in body.items() if value not in ([], {})} | {"messages": turns}


def _block(block: dict[str, Any]) -> dict[str, Any] | None:
    ((kind, value),) = block.items()
    match kind:
        case "toolResult" if value.get("type") is None:
            told = "\n".join(part["text"] for part in value["content"])
            return {kind: {"id": value["toolUseId"].translate(str.maketrans(".:", "__"))[:40], "told": told}}
        case "toolUse":
            return {kind: {**value, "toolUseId": value["toolUseId"].translate(str.maketrans(".:", "__"))[:40]}}
        case "text" if value.startswith("<think>"):
            return None  # how another client sends back unsigned thinking
        case "image" | "document":
            return {kind: (value["format"], next(iter(value["source"])))}
        case "cachePoint":
            return None
        case _:
            return block


@pytest.mark.parametrize(
    ("before", "item"), _FOLLOWED, ids=lambda value: value.id if isinstance(value, Interaction) else ""
)
def test_a_conversation_goes_back_as_the_other_client_sent_it(before: list[Interaction], item: Interaction) -> None:
    """Path, roles, texts, signatures, calls, results, tools and settings are those of the recorded next request."""
    theirs: dict[str, Any] = json.loads(json.dumps(item.request))
    messages = _history(before, item)
    assert messages is not None
    own, system_tools = _tools(item)
    fields = theirs.get("additionalModelRequestFields", {})
    budget = fields.get("thinking", {}).get("budget_tokens")
    params: dict[str, Any] = {name: theirs[name] for name in theirs if name in {"guardrailConfig", "outputConfig"}}
    config = theirs.get("toolConfig", {})
    added = {"tools": system_tools} if system_tools else {}
    choice = {"toolChoice": config["toolChoice"]} if "toolChoice" in config else {}
    if added or choice:
        params["toolConfig"] = {**choice, **added}
    profile = replace(_profile(item), default_max_tokens=None)
    request = asking(
        *messages,
        instructions=[block["text"] for block in theirs.get("system", []) if "text" in block],
        tools=own,
        settings=Settings(
            max_tokens=theirs.get("inferenceConfig", {}).get("maxTokens"),
            thinking=None if budget is None else ThinkingConfig(budget=budget),
        ),
        profile=profile,
        params=params,
        target=replace(HERE, model=_model(item)),
        stream=_is_stream(item),
    )
    ours = sent(request)
    assert unquote(WIRE.render(request).path) == unquote(urlsplit(item.url).path)
    if budget is not None:
        assert ours.pop("inferenceConfig")["maxTokens"] > budget
    theirs["system"] = [block for block in theirs.get("system", []) if "text" in block]
    assert _comparable(ours) == _comparable(theirs)
