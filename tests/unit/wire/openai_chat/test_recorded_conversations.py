"""Recorded conversations of several requests, held again with each provider's own profile.

Each answer is parsed by us and sent back; what matters of the later requests (roles, texts, files, ids, arguments,
thinking) has to be what the recorded client sent, which the provider accepted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.media import read_data_url
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import MediaPart, TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.registry import find_provider
from tests.unit.wire.openai_chat.asking import WIRE, asking, fed, folded, sent
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import MediaKind, Part

pytestmark = [pytest.mark.recordings, needs_recordings]

_PROVIDERS = ("openai", "azure", "deepseek", "openrouter", "mistral", "xai")
_NODS = ("OK", "OK.")
_FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav"}


@dataclass(frozen=True, slots=True)
class Turn:
    """A recorded request, and the answers that were recorded before it in the same scenario."""

    provider: str
    recorded: Interaction
    before: tuple[Completion, ...]

    def __str__(self) -> str:
        return self.recorded.id

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Of the recorded request."""
        messages: list[dict[str, Any]] = (self.recorded.request or {})["messages"]
        return messages

    @property
    def has_history(self) -> bool:
        """Whether an answer is sent back in it."""
        return any(message["role"] == "assistant" for message in self.messages)

    @property
    def has_files(self) -> bool:
        """Whether there is anything but text in it."""
        contents = (message.get("content") for message in self.messages if message["role"] == "user")
        return any(item["type"] != "text" for content in contents if isinstance(content, list) for item in content)


def _turns() -> list[Turn]:
    found = []
    for provider in _PROVIDERS:
        answers: dict[str, list[Completion]] = {}
        for recorded in interactions(provider, "/chat/completions"):
            before = answers.setdefault(recorded.scenario, [])
            if recorded.status != 200 or b'"error":' in recorded.body or recorded.request is None:
                continue
            found.append(Turn(provider, recorded, tuple(before)))
            body = recorded.body
            before.append(folded(fed([body])) if recorded.streamed else WIRE.parse(body, ModelProfile()))
    return found


_TURNS = _turns()
_LATER = [turn for turn in _TURNS if turn.has_history]
_WITH_FILES = [turn for turn in _TURNS if turn.has_files]


def _origin(turn: Turn) -> Origin:
    model = str((turn.recorded.request or {})["model"])
    return Origin(provider=turn.provider, api=WIRE.name, endpoint="https://recorded.example", model=model)


def _profile(turn: Turn) -> ModelProfile:
    dialect = next(found for found in find_provider(turn.provider).dialects if found.wire.name == WIRE.name)
    return dialect.profiles.find(_origin(turn).model)


def _file(media: MediaKind, media_type: str, address: str, name: str | None = None) -> MediaPart:
    if not address.startswith("data:"):
        return MediaPart(media=media, media_type=media_type, url=address, name=name)
    data, declared = read_data_url(address)
    return MediaPart(
        media=media, media_type=declared or media_type, sha256=digest_of(data), name=name, data=data
    )  # fmt: skip


def _given(content: str | list[dict[str, Any]]) -> tuple[Part, ...]:
    """What a user sent, as our parts."""
    if isinstance(content, str):
        return (TextPart(text=content),)
    parts: list[Part] = []
    for item in content:
        match item["type"]:
            case "text":
                parts.append(TextPart(text=item["text"]))
            case "image_url":
                address = item["image_url"]
                parts.append(_file("image", "image/png", address if isinstance(address, str) else address["url"]))
            case "file":
                file = item["file"]
                parts.append(_file("document", "application/pdf", file["file_data"], file["filename"]))
            case "document_url":
                parts.append(_file("document", "application/pdf", item["document_url"]))
            case "input_audio":
                kind, data = _FORMATS[item["input_audio"]["format"]], item["input_audio"]["data"]
                parts.append(_file("audio", kind, f"data:{kind};base64,{data}"))
            case kind:
                pytest.fail(f"a recorded user sent {kind}")
    return tuple(parts)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(item["text"] for item in content if item["type"] == "text").strip()
    return str(content or "").strip()


def _calls(message: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
        for call in message.get("tool_calls") or []
    ]


def _answered(message: dict[str, Any], turn: Turn) -> Message:
    """The answer that we parsed where it was recorded; another client's own words otherwise."""
    ids = [call[0] for call in _calls(message)]
    for answer in turn.before:
        if ids == [call.call_id for call in answer.tool_calls] and answer.text.strip() == _text(message.get("content")):
            return Message(role="assistant", parts=answer.parts, origin=_origin(turn))
    parts: list[Part] = [TextPart(text=_text(message.get("content")))]
    parts += [
        ToolCallPart(call_id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in message.get("tool_calls") or []
    ]
    return Message(role="assistant", parts=tuple(parts))


def _history(turn: Turn) -> tuple[list[str], list[Message]]:
    """The instructions of a recorded request and its conversation, as ours."""
    instructions, history = list[str](), list[Message]()
    for message in turn.messages:
        match message["role"]:
            case "system" | "developer" if not history:
                instructions.append(_text(message["content"]))
            case "assistant":
                history.append(_answered(message, turn))
            case "tool":
                result = ToolResultPart(
                    call_id=message["tool_call_id"], name="tool", content=_text(message["content"])
                )  # fmt: skip
                history.append(Message(role="tool", parts=(result,)))
            case role:
                parts = _given(message["content"])
                history.append(Message(role="user" if role == "user" else "system", parts=parts))
    return instructions, history


def _sent(turn: Turn) -> list[dict[str, Any]]:
    instructions, history = _history(turn)
    request = asking(*history, instructions=instructions, profile=_profile(turn), target=_origin(turn))
    messages: list[dict[str, Any]] = sent(request)["messages"]
    return messages


def _item(item: dict[str, Any]) -> object:
    match item["type"]:
        case "image_url":
            address = item["image_url"]
            return "image", address if isinstance(address, str) else address["url"]
        case "input_audio":
            sound = item["input_audio"]
            return "audio", sound if isinstance(sound, str) else sound["data"]
        case "document_url":
            return "document", item["document_url"]
        case "file":
            return "document", item["file"]["file_data"]
        case _:
            return "text", item["text"].strip()


def _comparable(message: dict[str, Any]) -> dict[str, Any]:
    """The members that matter: clients write an absent text in three ways, and mark what they want to be cached."""
    content = message.get("content") or ""
    role = message["role"].replace("developer", "system")
    if role == "assistant":
        items: list[object] = [_text(content)]
        chunks = content if isinstance(content, list) else []
        items += [text["text"] for item in chunks if item["type"] == "thinking" for text in item["thinking"]]
    else:
        items = [_item(item) for item in content] if isinstance(content, list) else [("text", content.strip())]
    return {
        "role": role,
        "items": items,
        "calls": _calls(message),
        "result of": message.get("tool_call_id"),
        "thinking": message.get("reasoning_content"),
        "details": message.get("reasoning_details"),
    }


def _compared(turn: Turn, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as they are compared: one system message for several, and no word between a tool and a user.

    One recorded client sends empty thinking also to a model that never thinks, and one sends another provider's
    thinking, which stays behind here.
    """
    spoken = [message for message in messages if _text(message.get("content")) not in _NODS]
    system = [_text(message["content"]) for message in spoken if message["role"] in {"system", "developer"}]
    told = [_comparable(message) for message in spoken if message["role"] not in {"system", "developer"}]
    for message in told:
        if _profile(turn).required_thinking is None:
            message["thinking"] = message["thinking"] or None
        if message["role"] == "assistant" and not turn.before:
            del message["items"][1:]
    return [{"system": "".join("".join(system).split())}, *told]


def test_conversations_were_found() -> None:
    """There are conversations with several providers, with files and with thinking in them."""
    assert {turn.provider for turn in _LATER} >= {"openai", "azure", "deepseek", "openrouter", "mistral"}
    assert len(_LATER) > 50
    assert {turn.provider for turn in _WITH_FILES} >= {"openai", "azure", "openrouter", "mistral"}
    sent_back = [_comparable(message) for turn in _LATER for message in turn.messages]
    assert any(message["thinking"] for message in sent_back)
    assert any(message["thinking"] == "" for message in sent_back)
    assert any(message["details"] for message in sent_back)


@pytest.mark.parametrize("turn", _LATER, ids=str)
def test_what_was_answered_goes_back_as_it_was_accepted(turn: Turn) -> None:
    """Calls and results under the provider's ids, thinking in its place, files in their form."""
    assert _compared(turn, _sent(turn)) == _compared(turn, turn.messages)


@pytest.mark.parametrize("turn", _WITH_FILES, ids=str)
def test_files_go_out_as_they_were_accepted(turn: Turn) -> None:
    """The items of the user's messages, types and members alike."""
    ours = [message["content"] for message in _sent(turn) if message["role"] == "user"]
    theirs = [message["content"] for message in turn.messages if message["role"] == "user"]
    if turn.provider != "mistral":  # which takes two forms of an address and of a sound
        assert ours == theirs
    kinds = [[item["type"] for item in content] for content in ours if isinstance(content, list)]
    assert kinds == [[item["type"] for item in content] for content in theirs if isinstance(content, list)]


@pytest.mark.parametrize("turn", [turn for turn in _LATER if turn.provider == "openrouter"], ids=str)
def test_details_go_back_byte_for_byte(turn: Turn) -> None:
    """The bytes of an answer's details are those of the next request."""
    _, history = _history(turn)
    body = WIRE.render(asking(*history, profile=_profile(turn), target=_origin(turn))).body.decode()
    opaque = [part.opaque for message in history for part in message.parts if hasattr(part, "opaque")]
    assert all(details is None or details in body for details in opaque)
    elsewhere = replace(_origin(turn), endpoint="https://other.example")
    foreign = WIRE.render(asking(*history, profile=_profile(turn), target=elsewhere)).body
    assert b"reasoning_details" not in foreign
