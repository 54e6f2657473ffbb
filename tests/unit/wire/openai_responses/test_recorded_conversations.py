"""Recorded conversations of several requests, held again.

Each answer is parsed by us and sent back; what the recorded client sent next, and the provider accepted, has to be in
what we send, member by member.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.media import read_data_url
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.openai_responses.asking import HERE, REASONS, WIRE, asking, fed, folded, items, sent
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import MediaKind, Part

pytestmark = [pytest.mark.recordings, needs_recordings]

_PROVIDERS = ("openai", "azure", "xai", "bedrock", "deepseek", "anthropic")
_ANSWERED = frozenset({"reasoning", "function_call", "tool_search_call"})
_GIVEN = frozenset({"function_call_output", "tool_search_output"})
_PLAIN_MARKS = str.maketrans({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
_OURS_TOO = frozenset({"id", "type", "status", "annotations", "summary", "content"})
"""Members that we send and other clients may leave out."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A recorded request, and the answers that were recorded before it in the same scenario."""

    recorded: Interaction
    before: tuple[Completion, ...]

    def __str__(self) -> str:
        return self.recorded.id

    @property
    def input(self) -> list[dict[str, Any]]:
        """Of the recorded request."""
        found: list[dict[str, Any]] = (self.recorded.request or {})["input"]
        return found

    @property
    def is_whole(self) -> bool:
        """Whether it sends a conversation back, and nothing that is the server's or that client's own."""
        request = self.recorded.request or {}
        if request.get("previous_response_id") or request.get("conversation"):
            return False
        kinds = {item.get("type", "message") for item in self.input}
        return kinds <= {"message", *_ANSWERED, *_GIVEN} and any(_is_answer(item) for item in self.input)


def _is_answer(item: dict[str, Any]) -> bool:
    return item.get("role") == "assistant" or item.get("type") in _ANSWERED


def _turns() -> list[Turn]:
    found = []
    for provider in _PROVIDERS:
        answers: dict[str, list[Completion]] = {}
        for recorded in interactions(provider, "/responses"):
            before = answers.setdefault(recorded.scenario, [])
            if recorded.status != 200 or recorded.request is None or b'"status": "queued"' in recorded.body:
                continue
            if isinstance(recorded.request["input"], list):
                found.append(Turn(recorded, tuple(before)))
            body = recorded.body
            before.append(folded(fed([body])) if recorded.streamed else WIRE.parse(body, ModelProfile()))
    return found


_TURNS = _turns()


def _text(content: object) -> str:
    """The words of a content, with the plain quotation marks that one recording tool writes for all of them."""
    words = "".join(piece.get("text", "") for piece in content) if isinstance(content, list) else str(content or "")
    return words.translate(_PLAIN_MARKS).strip()


def _groups(turn: Turn) -> list[list[dict[str, Any]]]:
    """The items of the input, those of one answer together."""
    groups: list[list[dict[str, Any]]] = []
    for item in turn.input:
        if groups and _is_answer(item) and _is_answer(groups[-1][-1]):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _marks(items_: list[dict[str, Any]]) -> tuple[object, ...]:
    """What an answer is known by."""
    named = [item.get("id") or item["call_id"] for item in items_ if item.get("type") == "function_call"]
    texts = "".join(_text(item["content"]) for item in items_ if item.get("role") == "assistant")
    return tuple(item for item in named if item), texts


def _fits(answer: Completion, group: list[dict[str, Any]]) -> bool:
    calls, text = _marks(group)
    ids = [
        {call.wire_id, json.loads(call.extra or "{}").get("id")} for call in answer.tool_calls
    ]  # fmt: skip
    assert isinstance(calls, tuple)
    return (
        _text(answer.text) == text
        and len(ids) == len(calls)
        and all(name in known for name, known in zip(calls, ids, strict=True))
    )


def _answer(group: list[dict[str, Any]], turn: Turn) -> tuple[Message, bool]:
    """The answer that we parsed, under the call ids that were sent; otherwise the recorded client's own words."""
    sent_ids = iter([item["call_id"] for item in group if item.get("type") == "function_call"])
    for answer in turn.before:
        if _fits(answer, group):
            parts = [
                replace(part, call_id=next(sent_ids)) if isinstance(part, ToolCallPart) else part
                for part in answer.parts
            ]
            return Message(role="assistant", parts=tuple(parts), origin=HERE), True
    own: list[Part] = []
    for item in group:
        match item.get("type", "message"):
            case "message":
                own.append(TextPart(text=_text(item["content"])))
            case "function_call":
                own.append(ToolCallPart(call_id=item["call_id"], name=item["name"], arguments=item["arguments"]))
            case _:
                pass
    return Message(role="assistant", parts=tuple(own)), False


def _file(media: MediaKind, address: str, **options: Any) -> MediaPart:
    if not address.startswith("data:"):
        kind = {"image": "image/png"}.get(media, "application/pdf")
        return MediaPart(media=media, media_type=kind, url=address, **options)
    data, media_type = read_data_url(address)
    return MediaPart(media=media, media_type=media_type or "", sha256=digest_of(data), data=data, **options)


def _given(content: object) -> tuple[Part, ...]:
    """What a user sent, or a tool gave, as our parts."""
    if not isinstance(content, list):
        return (TextPart(text=str(content)),)
    parts: list[Part] = []
    for piece in content:
        match piece:
            case {"type": "input_text", "text": text}:
                parts.append(TextPart(text=text))
            case {"type": "input_image", "image_url": url}:
                parts.append(_file("image", url, detail=piece.get("detail")))
            case {"type": "input_image", "file_id": name}:
                detail = piece.get("detail")
                parts.append(MediaPart(media="image", media_type="image/png", file_id=name, detail=detail))
            case {"type": "input_file", "file_data": data}:
                parts.append(_file("document", data, name=piece["filename"]))
            case {"type": "input_file", "file_url": url}:
                parts.append(_file("document", url))
            case {"type": "input_file", "file_id": name}:
                parts.append(MediaPart(media="document", media_type="application/pdf", file_id=name))
            case _:
                pytest.fail(f"a recorded user sent {piece['type']}")
    return tuple(parts)


def _result(item: dict[str, Any]) -> Message:
    output = item["output"]
    files = _given(output) if isinstance(output, list) else ()
    content = "" if files else output
    return Message(role="tool", parts=(ToolResultPart(call_id=item["call_id"], name="", content=content), *files))


def _history(turn: Turn) -> tuple[list[str], list[Message], list[bool]]:
    """Instructions and conversation of a recorded request as ours, and which of its answers were ours."""
    instructions, history, known = list[str](), list[Message](), list[bool]()
    for group in _groups(turn):
        first = group[0]
        if _is_answer(first):
            message, ours = _answer(group, turn)
            history.append(message)
            known.append(ours)
        elif first.get("type") == "function_call_output":
            history.append(_result(first))
        elif first.get("type") == "tool_search_output":
            continue  # given by that client's own search
        elif first["role"] == "user":
            history.append(Message(role="user", parts=_given(first["content"])))
        elif history:
            history.append(Message(role="system", parts=_given(first["content"])))
        else:
            instructions.append(_text(first["content"]))
    return instructions, history, known


def _plainly(item: dict[str, Any]) -> dict[str, Any]:
    """An item without the choices that clients have: what may be left out is, and content is a list."""
    plain = {name: value for name, value in item.items() if value is not None}
    plain["type"] = item.get("type", "message")
    if plain.get("role") in {"developer", "system"}:
        plain["role"] = "system"
    if plain["type"] == "message":
        content = item["content"]
        kind = "output_text" if item["role"] == "assistant" else "input_text"
        pieces = content if isinstance(content, list) else [{"type": kind, "text": content}]
        texts = [
            {"type": piece["type"], "text": _text(piece["text"])} if "text" in piece else piece for piece in pieces
        ]
        plain["content"] = texts
    if "arguments" in plain and isinstance(plain["arguments"], str):
        plain["arguments"] = json.loads(plain["arguments"] or "{}")
    return plain


def _listed(turn: Turn) -> list[Any]:
    """What its users said in pieces."""
    contents = (item["content"] for item in turn.input if item.get("role") == "user")
    return [content for content in contents if isinstance(content, list)]


# A text file goes out as its words here.
_WITH_FILES = [turn for turn in _TURNS if _listed(turn) and "data:text/plain" not in json.dumps(turn.input)]
_LATER = [turn for turn in _TURNS if turn.is_whole]
_KNOWN = [turn for turn in _LATER if all(_history(turn)[2])]


def test_conversations_were_found() -> None:
    """There are conversations with calls, with reasoning, with ids and without, and with files in results."""
    assert len(_LATER) > 30
    assert len(_KNOWN) > 25
    assert len(_WITH_FILES) > 10
    items_ = [item for turn in _KNOWN for item in turn.input]
    assert sum("encrypted_content" in item and "id" in item for item in items_) > 8
    assert sum("encrypted_content" in item and "id" not in item for item in items_) > 8
    assert any("phase" in item for item in items_)
    assert any("namespace" in item for item in items_)
    assert any(isinstance(item.get("output"), list) for item in items_)


@pytest.mark.parametrize("turn", _LATER, ids=str)
def test_what_was_answered_goes_back_as_it_was_accepted(turn: Turn) -> None:
    """The items in their order, and every member the recorded client sent: ids, encrypted content, arguments, phase.

    Members that it left out may only be those that belong to an id.
    """
    instructions, history, _ = _history(turn)
    ours = [_plainly(item) for item in items(*history, instructions=instructions, profile=REASONS)]
    theirs = [_plainly(item) for item in turn.input if item.get("type") != "tool_search_output"]
    theirs = [item for item in theirs if item.get("role") != "assistant" or _text(item["content"])]
    ours = [item for item in ours if item["type"] != "tool_search_output"]
    if turn not in _KNOWN:
        # Another client's account of another provider's answer; its reasoning stays behind here.
        theirs = [item for item in theirs if item["type"] not in {"reasoning", "tool_search_call"}]
        ours = [item for item in ours if item["type"] not in {"reasoning", "tool_search_call"}]
        assert "".join(_text(item.get("content")) for item in ours) == "".join(
            _text(item.get("content")) for item in theirs
        )
        return
    assert [item["type"] for item in ours] == [item["type"] for item in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert {name: our.get(name) for name in their} == their
        assert our.keys() - their.keys() <= _OURS_TOO | {"phase"}


@pytest.mark.parametrize("turn", _KNOWN, ids=str)
def test_all_of_an_answer_goes_home_with_its_ids(turn: Turn) -> None:
    """Each reasoning item, message and call under the id it came with, and with the encrypted content as it ended."""
    instructions, history, _ = _history(turn)
    ours = items(*history, instructions=instructions, profile=REASONS)
    parts = [part for message in history for part in message.parts if message.role == "assistant"]
    extras = [
        json.loads((part.opaque if isinstance(part, ThinkingPart) else part.extra) or "{}").get("id")
        for part in parts
        if isinstance(part, TextPart | ThinkingPart | ToolCallPart)
    ]
    answered = [
        item for item in ours if item["type"] in {"reasoning", "function_call"} or item.get("role") == "assistant"
    ]
    assert [item.get("id") for item in answered] == extras
    signatures = [part.signature for part in parts if isinstance(part, ThinkingPart)]
    assert [item.get("encrypted_content") for item in ours if item["type"] == "reasoning"] == signatures


@pytest.mark.parametrize("turn", _KNOWN, ids=str)
def test_elsewhere_nothing_of_it_is_told(turn: Turn) -> None:
    """At another address the same history has no ids, no reasoning and nothing opaque."""
    _, history, _ = _history(turn)
    away = replace(HERE, endpoint="https://other.example")
    found = sent(asking(*history, profile=REASONS, target=away))["input"]
    assert not any("id" in item or "encrypted_content" in item or "phase" in item for item in found)
    assert {item["type"] for item in found} <= {"message", "function_call", "function_call_output"}
    opaque = [part.payload for message in history for part in message.parts if isinstance(part, OpaquePart)]
    body = WIRE.render(asking(*history, profile=REASONS, target=away)).body.decode()
    assert not any(payload in body for payload in opaque)


@pytest.mark.parametrize("turn", _WITH_FILES, ids=str)
def test_files_go_out_as_they_were_accepted(turn: Turn) -> None:
    """The pieces of what users sent, types and members alike."""
    for content in _listed(turn):
        [item] = items(Message(role="user", parts=_given(content)), profile=ModelProfile())
        given = item["content"]
        assert content in (given, [{"type": "input_text", "text": given}])
