"""What every wire format keeps, whatever the provider: one contract, run against each of them."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message, Origin
from nodellm_orm.domain.parts import MEDIA_KINDS, MediaPart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ModelNotFoundError,
    NodeLLMError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    ServerError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.wire import ModelLister, ModelRequest, TokenCounter
from nodellm_orm.providers.rows import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.ports.wire import RenderCache, WireFormat

FORMATS: Final = [dialect.wire for dialect in DIALECTS.values()]
every_format: Final = pytest.mark.parametrize("wire", FORMATS, ids=lambda wire: wire.name)

_SCHEMA: Final = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
_WEATHER: Final = ToolSpec(name="get_weather", description="The weather.", parameters=_SCHEMA)
_PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
_TALK: Final = (
    Message(role="user", parts=(TextPart(text="What is the weather in Oslo and in Bergen?"),)),
    Message(
        role="assistant",
        parts=(
            ThinkingPart(text="I look it up.", signature="signed elsewhere"),
            TextPart(text="One moment."),
            ToolCallPart(call_id="call_1", name="get_weather", arguments='{"city":"Oslo","n":1.50}'),
            ToolCallPart(call_id="call_2", name="get_weather", arguments='{"city":"Bergen"}'),
        ),
        origin=Origin(provider="elsewhere", api="elsewhere", endpoint="https://elsewhere.example", model="m"),
    ),
    Message(role="tool", parts=(ToolResultPart(call_id="call_1", name="get_weather", content='{"c": 3}'),)),
    Message(
        role="tool",
        parts=(ToolResultPart(call_id="call_2", name="get_weather", content="no such city", is_error=True),),
    ),
)
_FAILURES: Final[dict[int, type[ProviderError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: ModelNotFoundError,
    413: BadRequestError,
    429: RateLimitError,
    500: ServerError,
    503: OverloadedError,
}
_NONSENSE: Final = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"words"',
    b"7",
    b"<html><body>Bad gateway</body></html>",
    b"\xff\xfe\x00",
)


def asking(
    wire: WireFormat,
    *messages: Message,
    settings: Settings | None = None,
    profile: ModelProfile | None = None,
    tools: Sequence[ToolSpec] = (),
    **options: Any,
) -> ModelRequest:
    """A request to a model that takes everything."""
    return ModelRequest(
        target=Origin(provider="p", api=wire.name, endpoint="https://p.example", model="model-1"),
        messages=messages or (Message(role="user", parts=(TextPart(text="Hi"),)),),
        settings=settings or Settings(),
        profile=profile or ModelProfile(),
        tools=tuple(tools),
        **options,
    )


def sent(wire: WireFormat, request: ModelRequest) -> Any:
    """The body that would be sent."""
    return json.loads(wire.render(request).body)


@every_format
def test_formats_are_registered_under_their_names(wire: WireFormat) -> None:
    """What is stored with a chat finds the format again."""
    assert DIALECTS[wire.name].wire is wire


@every_format
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_values_give_the_same_bytes(wire: WireFormat, *, stream: bool) -> None:
    """Twice the same request is the same request, with and without a cache, and says nothing of its caller."""
    request = asking(
        wire,
        *_TALK,
        instructions=("Be brief.", "Be kind."),
        tools=[_WEATHER],
        settings=Settings(max_tokens=100, schema=_SCHEMA, thinking=ThinkingConfig(effort="low")),
        stream=stream,
    )
    cache: RenderCache = {}
    first, cached, again = wire.render(request), wire.render(request, cache), wire.render(request, cache)
    assert first == cached == again
    assert first.stream == stream
    assert first.path.startswith("/")
    assert "model-1" in first.path or b'"model-1"' in first.body
    assert all(name == name.lower() for name in first.headers)
    for word in ("Be brief.", "Be kind.", "Oslo", "Bergen", "no such city", "One moment.", "1.50", "get_weather"):
        assert word.encode() in first.body


@every_format
def test_words_of_the_caller_win(wire: WireFormat) -> None:
    """Raw parameters are merged into the body last."""
    body = sent(wire, asking(wire, params={"some_new_member": {"a": [1, None]}}))
    assert body["some_new_member"] == {"a": [1, None]}


@every_format
def test_calls_and_results_are_paired_by_ids(wire: WireFormat) -> None:
    """Each call of a history that was held elsewhere is followed by its own result, in the order of the calls."""
    body = wire.render(asking(wire, *_TALK, tools=[_WEATHER])).body.decode()
    assert body.index("Oslo") < body.index("Bergen")
    talk = body[body.index("One moment.") :]
    assert talk.index('"c"' if '"c"' in talk else '\\"c\\"') < talk.index("no such city")


@every_format
def test_foreign_thinking_stays_behind(wire: WireFormat) -> None:
    """What another provider's model thought is not sent as this one's, nor is its signature."""
    body = wire.render(asking(wire, *_TALK, tools=[_WEATHER])).body
    assert b"I look it up." not in body
    assert b"signed elsewhere" not in body


@every_format
def test_what_a_model_rejects_is_named_and_not_sent(wire: WireFormat) -> None:
    """A model without sampling is not told a temperature, and one that never thinks is not asked to."""
    profile = ModelProfile(sampling=False, thinking="none", forced_tool_choice=False, parallel_tool_calls=False)
    settings = Settings(
        temperature=0.25, thinking=ThinkingConfig(effort="high"), tool_choice="required", parallel_tool_calls=False
    )
    request = asking(wire, settings=settings, profile=profile, tools=[_WEATHER])
    left_out = wire.dropped(request)
    assert set(left_out) <= {f.name for f in fields(Settings)}
    assert list(left_out) == sorted(left_out)
    assert {"temperature", "thinking", "tool_choice"} <= set(left_out)
    assert b"0.25" not in wire.render(request).body


@every_format
def test_what_a_request_cannot_say_is_refused_before_it_is_sent(wire: WireFormat) -> None:
    """Tools for a model without any, a schema that is none, and a file nobody could read are our errors, not a 400."""
    with pytest.raises(UnsupportedFeatureError, match="tools"):
        wire.render(asking(wire, tools=[_WEATHER], profile=ModelProfile(tools="none")))
    with pytest.raises(ConfigurationError, match="schema"):
        wire.render(asking(wire, settings=Settings(schema="[]")))
    unknown = MediaPart(media="video", media_type="video/x-unheard-of", sha256="0" * 64, data=b"\0\1", name="a.xyz")
    with pytest.raises(UnsupportedFeatureError, match=r"a\.xyz"):
        wire.render(asking(wire, Message(role="user", parts=(unknown,))))


@every_format
def test_files_that_a_model_cannot_read_are_refused_when_new_and_told_of_when_old(wire: WireFormat) -> None:
    """A question with an image is refused by a model without eyes; a chat that once had one goes on."""
    picture = Message(role="user", parts=(media_part(_PIXEL, name="cat.png"), TextPart(text="What is it?")))
    blind = ModelProfile(media=())
    with pytest.raises(UnsupportedFeatureError, match=r"cat\.png"):
        wire.render(asking(wire, picture, profile=blind))
    later = [
        Message(role="assistant", parts=(TextPart(text="A cat."),)),
        Message(role="user", parts=(TextPart(text="?"),)),
    ]
    body = wire.render(asking(wire, picture, *later, profile=blind)).body
    assert b"cat.png" in body
    assert b"iVBORw0KGgo" not in body


@every_format
def test_every_format_carries_images_and_texts(wire: WireFormat) -> None:
    """An image goes out as its bytes, a text as its words, each where it stood."""
    parts = (
        TextPart(text="first"),
        media_part(_PIXEL, name="cat.png"),
        media_part(b"a,b\n1,2\n", name="table.csv", media_type="text/csv"),
        TextPart(text="last"),
    )
    body = wire.render(asking(wire, Message(role="user", parts=parts))).body
    places = [body.index(b"first"), body.index(b"iVBORw0KGgo"), body.index(b"last")]
    assert b"1,2" in body or b"YSxiCjEsMgo=" in body
    if wire.name != "ollama":  # it has the images of a message beside its text
        assert places == sorted(places)


@every_format
@pytest.mark.parametrize("kind", MEDIA_KINDS)
def test_no_kind_of_file_is_lost_silently(wire: WireFormat, kind: Any) -> None:
    """A file reaches the provider, or the question is refused with its name."""
    part = MediaPart(media=kind, media_type=_TYPES[kind], sha256="0" * 64, data=b"content of it", name="the-file.bin")
    request = asking(wire, Message(role="user", parts=(part, TextPart(text="?"))))
    refused = ""
    body = b""
    try:
        body = wire.render(request).body
    except UnsupportedFeatureError as error:
        refused = str(error)
    assert "the-file.bin" in refused or b"Y29udGVudCBvZiBpdA==" in body or b"content of it" in body


_TYPES: Final = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "document": "application/pdf",
    "text": "text/plain",
}


@every_format
@pytest.mark.parametrize("status", _FAILURES)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b'{"error":"no"}', b'{"message":"no"}', b"null", b"[1]"])
def test_failures_have_the_class_of_their_status(wire: WireFormat, status: int, body: bytes) -> None:
    """Whatever the body, the status decides, and the error says what to do."""
    error = wire.failure(status, {"retry-after": "7"}, body)
    assert isinstance(error, _FAILURES[status])
    assert error.status == status
    assert str(error)
    if status in {429, 503}:
        assert error.retry_after == 7
        assert error.retryable


@every_format
@pytest.mark.parametrize("body", _NONSENSE)
def test_a_body_that_is_no_answer_is_a_typed_error(wire: WireFormat, body: bytes) -> None:
    """A success with anything but the protocol in it is a provider's error with a remedy."""
    with pytest.raises(ProviderError) as caught:
        wire.parse(body, ModelProfile())
    assert str(caught.value)


@every_format
@pytest.mark.parametrize("body", _NONSENSE)
def test_a_stream_that_is_no_answer_is_a_typed_error(wire: WireFormat, body: bytes) -> None:
    """The same for a stream, also an empty one."""
    with pytest.raises(ProviderError):
        _streamed(wire, body, 2)


@every_format
@given(data=st.binary(max_size=200), cut=st.integers(min_value=0, max_value=200))
def test_no_bytes_raise_anything_else(wire: WireFormat, data: bytes, cut: int) -> None:
    """Parsers raise errors of this package and no others."""
    for read in (lambda: wire.parse(data, ModelProfile()), lambda: _streamed(wire, data, cut)):
        with contextlib.suppress(NodeLLMError):
            read()


_WORDS: Final = re.findall(
    r"\w+",
    "choices message delta content text type output candidates parts usage error role tool_calls function output_index "
    "item index stop_reason done status",
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@every_format
@given(value=_JSON)
def test_no_document_raises_anything_else(wire: WireFormat, value: object) -> None:
    """JSON of the protocol's own words in impossible places is an answer or a typed error."""
    data = json.dumps(value).encode()
    for read in (
        lambda: wire.parse(data, ModelProfile()),
        lambda: _streamed(wire, data, 3),
        lambda: _streamed(wire, b"data: " + data + b"\n\n", 9),
        lambda: wire.failure(400, {}, data),
    ):
        with contextlib.suppress(NodeLLMError):
            read()


def _streamed(wire: WireFormat, data: bytes, cut: int) -> None:
    parser = wire.stream(ModelProfile())
    parser.feed(data[:cut])
    parser.feed(data[cut:])
    parser.close()


@every_format
def test_counting_asks_for_the_request_that_would_be_sent(wire: WireFormat) -> None:
    """A format that counts sends the conversation, and reads a number or says that there is none."""
    if not isinstance(wire, TokenCounter):
        pytest.skip(f"{wire.name} has no way to count")
    body = wire.count_request(replace(asking(wire, *_TALK, tools=[_WEATHER]), stream=True)).body
    assert b"Bergen" in body
    assert b"get_weather" in body
    for nonsense in _NONSENSE:
        with pytest.raises(ProviderError):
            wire.counted(nonsense)


@every_format
def test_listing_asks_without_a_body(wire: WireFormat) -> None:
    """A format that lists models asks with GET, and says when the answer is no list."""
    if not isinstance(wire, ModelLister):
        pytest.skip(f"{wire.name} has no list of models")
    request = wire.list_request()
    assert (request.method, request.body) == ("GET", b"")
    for nonsense in (b"", b"null", b"{}", b"<html>", b'{"data": 7}'):
        with pytest.raises(ProviderError):
            wire.listed(nonsense)
