"""Recorded conversations: what another client sent next, beside what we send after the same answers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.anthropic.asking import WIRE, asking, assistant, contents, folded
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import Part

pytestmark = [needs_recordings, pytest.mark.recordings]

_ALL = interactions("anthropic", "/v1/messages")
_FREE = frozenset({"cache_control", "title", "citations", "caller"})
"""Members that clients set as they like, or leave out on the way back; that we do not is tested elsewhere."""


def _read(item: Interaction) -> Completion:
    return folded([item.body]) if item.streamed else WIRE.parse(item.body, ModelProfile())


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _given(block: dict[str, Any]) -> Part | None:
    """What a user gave, as a part; ``None`` for what has no form of its own here."""
    match block["type"]:
        case "text":
            return TextPart(text=block["text"])
        case "image" | "document":
            return _file(block)
        case "search_result" | "container_upload":
            return OpaquePart(payload=dumps(block))
        case _:
            return None


def _file(block: dict[str, Any]) -> MediaPart:
    source, kind = block["source"], "image" if block["type"] == "image" else "document"
    name = block.get("title")
    match source["type"]:
        case "url":
            kind_of_url = "image/png" if kind == "image" else "application/pdf"
            return MediaPart(media=kind, media_type=kind_of_url, url=source["url"], name=name)  # type: ignore[arg-type] # one of two words
        case "text":
            return MediaPart(media="text", media_type="text/plain", data=source["data"].encode(), name=name)
        case _:
            data = base64.b64decode(source["data"])
            return MediaPart(media=kind, media_type=source["media_type"], data=data, name=name)  # type: ignore[arg-type] # as above


def _told(block: dict[str, Any]) -> ToolResultPart | None:
    content = block.get("content", "")
    if not isinstance(content, str):
        if [item["type"] for item in content] != ["text"]:
            return None
        content = content[0]["text"]
    return ToolResultPart(
        call_id=block["tool_use_id"], name="f", content=content, is_error=block.get("is_error", False)
    )


def _history(answers: list[Completion], item: Interaction) -> list[Message] | None:
    """The conversation of a recorded request, its answers those that we read; ``None`` where it has anything else."""
    left = iter(answers)
    messages: list[Message] = []
    for message in (item.request or {})["messages"]:
        if message["role"] == "assistant":
            answer = next(left, None)
            if answer is None:
                return None
            messages.append(assistant(*answer.parts))
            continue
        for block in _blocks(message):
            part = _told(block) if block.get("type") == "tool_result" else _given(block) if "type" in block else None
            if part is None or message["role"] != "user":
                return None
            messages.append(Message(role="tool" if isinstance(part, ToolResultPart) else "user", parts=(part,)))
    return messages if next(left, None) is None else None


def _spoken(item: Interaction) -> list[str]:
    """The texts of the assistant in a recorded request."""
    said = (message for message in (item.request or {})["messages"] if message["role"] == "assistant")
    return ["".join(block.get("text", "") for block in _blocks(message)) for message in said]


def _texts(answers: list[Completion]) -> list[str]:
    return [answer.text for answer in answers]


def _followed() -> list[tuple[list[Completion], Interaction]]:
    """Requests that go on with the answers to those before them in the scenario."""
    found: list[tuple[list[Completion], Interaction]] = []
    for name in dict.fromkeys(item.scenario for item in _ALL):
        run: list[Completion] = []
        for item in (item for item in _ALL if item.scenario == name and item.status == 200):
            spoken = _spoken(item)
            # A conversation goes on, or an earlier question of it was asked once more.
            told = next((some for some in (run[-len(spoken) :], run[: len(spoken)]) if _texts(some) == spoken), None)
            if spoken and told is not None and _history(told, item) is not None:
                found.append((told, item))
            run = [*(run if spoken else []), _read(item)]
    return found


_FOLLOWED = _followed()


def _said(turns: list[tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """What a conversation says, block by block, without what clients are free to choose."""
    found: list[dict[str, Any]] = []
    for role, blocks in turns:
        for block in blocks:
            plain = {name: _without_nulls(value) for name, value in block.items() if name not in _FREE}
            if plain["type"] == "text" and not str(plain["text"]).strip():
                continue
            if plain["type"] == "tool_result":
                result = _told(block)
                assert result is not None
                plain = {"type": "tool_result", "id": result.call_id, "says": result.content, "error": result.is_error}
            found.append({"role": role, **plain})
    return found


def _without_nulls(value: object) -> object:
    """The same value without members that say nothing, which some clients leave out."""
    match value:
        case dict():
            return {name: _without_nulls(item) for name, item in value.items() if item is not None}
        case list():
            return [_without_nulls(item) for item in value]
        case _:
            return value


def test_there_are_conversations() -> None:
    """The comparison below is one."""
    assert len(_FOLLOWED) > 20


@pytest.mark.parametrize(
    ("answers", "item"), _FOLLOWED, ids=lambda value: value.id if isinstance(value, Interaction) else ""
)
def test_a_conversation_goes_back_as_the_other_client_sent_it(answers: list[Completion], item: Interaction) -> None:
    """Order, texts, thinking and its signatures, calls, server blocks, results and files are those of the recording."""
    messages = _history(answers, item)
    assert messages is not None
    ours = contents(asking(*messages))
    theirs = [(message["role"], _blocks(message)) for message in (item.request or {})["messages"]]
    assert _said(ours) == _said(theirs)
