"""Any history, from anywhere, becomes a request that its new provider takes: all that was said, nothing foreign."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.providers.registry import find_provider
from tests.acceptance.speakers import ALL_APIS
from tests.acceptance.wire_rules import check_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import RenderCache, WireFormat
    from tests.acceptance.speakers import Api


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that a conversation is carried on with."""

    provider: str
    api: Api
    model: str

    @property
    def _dialect(self) -> Any:
        return next(found for found in find_provider(self.provider).dialects if found.wire.name == self.api)

    @property
    def wire(self) -> WireFormat:
        """How it is spoken to."""
        found: WireFormat = self._dialect.wire
        return found

    @property
    def profile(self) -> ModelProfile:
        """What it accepts."""
        found: ModelProfile = self._dialect.profiles.find(self.model)
        return found

    @property
    def origin(self) -> Origin:
        """Where its answers come from."""
        endpoint = f"https://{self.provider}.example"
        return Origin(provider=self.provider, api=self.api, endpoint=endpoint, model=self.model)

    def request(self, messages: tuple[Message, ...]) -> ModelRequest:
        """What is sent to it."""
        return ModelRequest(
            target=self.origin,
            messages=messages,
            instructions=("Be brief.", "Be kind."),
            tools=(WEATHER,) if self.profile.tools == "native" else (),
            settings=Settings(max_tokens=100),
            profile=self.profile,
        )


WEATHER: Final = ToolSpec(name="weather", description="The weather.", parameters='{"type":"object","properties":{}}')
_MODELS: Final[dict[tuple[str, Api], str]] = {
    ("openai", "openai_chat"): "gpt-5-mini gpt-4o gpt-3.5-turbo o3",
    ("azure", "openai_chat"): "my-deployment",
    ("mistral", "openai_chat"): "mistral-small-latest codestral-latest",
    ("deepseek", "openai_chat"): "deepseek-v4-flash deepseek-reasoner",
    ("openrouter", "openai_chat"): "anthropic/claude-haiku-4.5",
    ("xai", "openai_chat"): "grok-4.3",
    ("ollama", "openai_chat"): "qwen3-vl:8b",
    ("openai_compatible", "openai_chat"): "local-model",
    ("openai", "openai_responses"): "gpt-5-mini gpt-4o gpt-6-astra",
    ("xai", "openai_responses"): "grok-4.3",
    ("anthropic", "anthropic"): "claude-haiku-4-5 claude-3-haiku claude-opus-5-5",
    ("gemini", "gemini"): "gemini-3.5-flash gemini-2.5-flash gemini-4-argon",
    ("bedrock", "bedrock"): (
        "us.anthropic.claude-haiku-4-5-20251001-v1:0 amazon.nova-pro-v1:0 meta.llama3-1-70b-v1:0 "
        "mistral.mistral-large-2402-v1:0 amazon.titan-text-express-v1 writer.palmyra-x5-v1:0"
    ),
    ("ollama", "ollama"): "qwen3-vl:8b mistral:7b",
}
TARGETS: Final = [
    Target(provider=provider, api=api, model=model)
    for (provider, api), models in _MODELS.items()
    for model in models.split()
]
ELSEWHERE: Final = "https://elsewhere.example"
ORIGINS: Final = [
    *(target.origin for target in TARGETS),
    *(replace(target.origin, endpoint=ELSEWHERE) for target in TARGETS[::3]),
]

# ── histories ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET: Final = "what-only-its-own-place-may-be-sent"
SIGNED: Final = base64.b64encode(SECRET.encode()).decode()
WORDS: Final = st.text(min_size=1, max_size=12)
BLANKS: Final = st.sampled_from(["", " ", "\n\t"])
HOSTILE: Final = st.sampled_from(["\ud83d", "\x00", '</script>"\\u0041', "🚀 naïve", "\u2028"])
SAID: Final = (WORDS | HOSTILE | BLANKS).map(lambda text: TextPart(text=text))
ARGUMENTS: Final = st.sampled_from(
    ['{"city":"Oslo","days":1.50}', '{ "n" : 1e400 }', "{}", "", "[1]", '{"city":"Os', "null", '{"a":1,"a":2}']
)
NAMES: Final = st.sampled_from(["weather", "multi_tool_use.parallel", "default_api:weather", "", "x" * 100, "é"])
IDS: Final = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
FILES: Final = st.sampled_from(
    [
        MediaPart(media="image", media_type="image/png", sha256="0" * 64, name="cat.png", data=b"image"),
        MediaPart(media="image", media_type="image/tiff", sha256="1" * 64, data=b"scan"),
        MediaPart(media="document", media_type="application/pdf", sha256="2" * 64, name="a  (b).PDF", data=b"paper"),
        MediaPart(media="document", media_type="application/pdf", sha256="3" * 64, name="über.pdf", data=b"paper 2"),
        MediaPart(media="audio", media_type="audio/wav", sha256="4" * 64, name="song.wav", data=b"sound"),
        MediaPart(media="video", media_type="video/mp4", sha256="5" * 64, name="film.mp4", data=b"film"),
        MediaPart(media="text", media_type="text/csv", sha256="6" * 64, name="table.csv", data=b"a,b"),
    ]
)
THINKING: Final = st.builds(ThinkingPart, text=st.sampled_from(["", SECRET]), signature=st.none() | st.just(SIGNED))
FIELDS: Final = {"deepseek": "reasoning_content", "openrouter": "reasoning", "ollama": "reasoning"}
"""Where providers put thinking in Chat Completions."""
PLAIN: Final = SAID | THINKING | FILES | WORDS.map(lambda text: RefusalPart(text=text))
STRANGE: Final = st.sampled_from(
    [
        OpaquePart(payload=f'{{"type":"web_search_call","id":"ws_1","query":"{SECRET}"}}'),
        OpaquePart(payload=f'{{"type":"server_tool_use","id":"srv","name":"x","input":{{"q":"{SECRET}"}}}}'),
        OpaquePart(payload=f'{{"executableCode":{{"code":"{SECRET}"}}}}'),
        TextPart(text="cited", extra=f'{{"citations":["{SECRET}"],"id":"msg_{SECRET}"}}'),
        ThinkingPart(text=SECRET, opaque=f'{{"type":"redacted_thinking","data":"{SECRET}"}}', redacted=True),
    ]
)


@st.composite
def histories(draw: Callable[[Any], Any], target: Target) -> tuple[Message, ...]:
    """What was said, by the target or whomever, up to a question or to results of tools."""
    messages: list[Message] = []
    numbers, ids = count(), draw(st.lists(IDS, min_size=12, max_size=12, unique=True))
    for _ in range(draw(st.integers(min_value=1, max_value=5))):
        if draw(st.booleans()):
            messages.append(draw(_given("user")))
        if draw(st.integers(0, 4)) == 0:
            messages.append(Message(role="system", parts=(TextPart(text=draw(WORDS)),)))
        answer: Message = draw(_answers(target.origin))
        calls = [ids[next(numbers)] for _ in range(draw(st.integers(0, 2)))]
        asked = [
            ToolCallPart(
                call_id=name,
                wire_id=draw(st.sampled_from([None, name, f"{SECRET} {name}"])),
                name=draw(NAMES),
                arguments=draw(ARGUMENTS),
                extra=draw(st.none() | st.just(f'{{"thoughtSignature":"{SECRET}"}}')) if _is_foreign(answer) else None,
            )
            for name in calls
        ]
        answer = replace(answer, parts=(*answer.parts, *asked))
        messages.append(answer)
        if answer.status == "complete":
            results = [
                ToolResultPart(
                    call_id=c.call_id, name=c.name, content=draw(WORDS | BLANKS), is_error=draw(st.booleans())
                )
                for c in asked
            ]
            messages += [Message(role="tool", parts=(result,)) for result in draw(st.permutations(results))]
    if messages[-1].role != "tool" or draw(st.booleans()):
        messages.append(Message(role="user", parts=(TextPart(text=draw(BLANKS)), TextPart(text="and now?"))))
    return tuple(messages)


def _given(role: Any) -> st.SearchStrategy[Message]:
    some = st.tuples(st.lists(SAID, max_size=2), st.lists(FILES, max_size=3))
    return some.map(lambda given: Message(role=role, parts=(*given[0], *given[1], TextPart(text="see"))))


@st.composite
def _answers(draw: Callable[[Any], Any], home: Origin) -> Message:
    twin = replace(home, endpoint=ELSEWHERE)
    origin: Origin | None = draw(st.sampled_from([None, home, twin]) | st.sampled_from(ORIGINS))
    message = Message(role="assistant", parts=(), origin=origin, status=draw(st.sampled_from(["complete", "partial"])))
    parts = draw(st.lists(PLAIN | STRANGE if _is_foreign(message) else PLAIN, max_size=4))
    field = FIELDS.get(origin.provider) if origin is not None and origin.api == "openai_chat" else None
    named = (replace(part, field=field) if isinstance(part, ThinkingPart) else part for part in parts)
    return replace(message, parts=tuple(named))


def _is_foreign(message: Message) -> bool:
    """Whether it was made where no target is; only such a message may hold what its own place would not take."""
    return message.origin is not None and message.origin.endpoint == ELSEWHERE


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────────


def strings(value: Any) -> Iterator[str]:
    """Every text in a request."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings(item)
        case dict():
            for item in value.values():
                yield from strings(item)


def growing(body: bytes) -> bytes:
    """Tools, instructions and messages without what closes them."""
    names = (b'"toolConfig":', b'"tools":', b'"system":', b'"systemInstruction":')
    start = min(at for name in (*names, b'"messages":', b'"contents":', b'"input":') if (at := body.find(name)) >= 0)
    return body[start:].rstrip(b"]}")


def requests_before(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """The histories that earlier requests were made of."""
    waiting: set[str] = set()
    for place, message in enumerate(messages):
        if message.status == "complete":
            waiting |= {call.call_id for call in message.tool_calls}
        waiting -= {result.call_id for result in message.tool_results}
        if message.role in {"user", "tool"} and not waiting:
            yield messages[: place + 1]


def targets(api: str) -> st.SearchStrategy[Target]:
    """The models that are asked in a format."""
    return st.sampled_from([target for target in TARGETS if target.api == api])


every_api: Final = pytest.mark.parametrize("api", ALL_APIS)


@every_api
@settings(max_examples=150)
@given(data=st.data())
def test_any_history_becomes_a_valid_request(api: Api, data: st.DataObject) -> None:
    """Whoever said what, the request is legal, says everything that was said, and gives nothing away."""
    target = data.draw(targets(api))
    messages = data.draw(histories(target))
    cache: RenderCache = {}
    rendered = target.wire.render(target.request(messages), cache)
    assert target.wire.render(target.request(messages)) == rendered
    assert target.wire.render(target.request(messages), cache) == rendered

    body = json.loads(rendered.body)
    check_request(body, target.api, provider=target.provider, model=target.model)
    words = "\n".join(strings(body))
    at_home = [m.origin is not None and m.origin.shares_state_with(target.origin) for m in messages]
    for message, own in zip(messages, at_home, strict=True):
        spoken = [part.text for part in message.parts if isinstance(part, TextPart)]
        refused = [part.text for part in message.parts if isinstance(part, RefusalPart)]
        told = [*spoken, *refused] if message.status == "complete" and not own else spoken
        assert all(text in words for text in told if text.strip())
    if not any(at_home):
        assert SECRET not in words
        assert SIGNED not in words


@every_api
@settings(max_examples=100)
@given(data=st.data())
def test_any_history_only_grows(api: Api, data: st.DataObject) -> None:
    """Each request of a conversation begins with the one before it, to the byte."""
    target = data.draw(targets(api).filter(lambda found: found.profile.tools == "native"))
    messages = data.draw(histories(target))
    before = b""
    for history in requests_before(messages):
        with contextlib.suppress(UnsupportedFeatureError):  # a file in the question that this model cannot read
            body = target.wire.render(target.request(history)).body
            assert growing(body).startswith(before)
            before = growing(body)
