"""Files in a request: as what each goes out, and what becomes of one that cannot."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart
from nodellm_orm.errors import AttachmentError, ConfigurationError, UnsupportedFeatureError
from nodellm_orm.providers.models_anthropic import ANTHROPIC_PROFILES
from tests.unit.wire.anthropic.asking import (
    ELSEWHERE,
    WIRE,
    asking,
    assistant,
    call,
    contents,
    result,
    sent,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import Part

_CLAUDE = ANTHROPIC_PROFILES.find("claude-haiku-4-5")
_PNG = MediaPart(media="image", media_type="image/png", sha256="0" * 64, data=b"\x89PNG", name="a.png")
_PDF = MediaPart(media="document", media_type="application/pdf", sha256="0" * 64, data=b"%PDF", name="a.pdf")
_CSV = MediaPart(media="text", media_type="text/csv", sha256="0" * 64, data="a,é\n".encode() + b"\xff", name="a.csv")
_PACKED = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}
_URL = "https://x.example/a"


def given(*parts: Part) -> Message:
    return Message(role="user", parts=parts)


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (_PNG, {"type": "image", "source": _PACKED}),
        (
            replace(_PNG, media_type="image/JPG"),
            {"type": "image", "source": {**_PACKED, "media_type": "image/jpeg"}},
        ),
        (replace(_PNG, data=None, sha256=None, url=_URL), {"type": "image", "source": {"type": "url", "url": _URL}}),
        (
            replace(_PNG, data=None, sha256=None, file_id="file_1"),
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            _PDF,
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                "title": "a.pdf",
            },
        ),
        (
            replace(_PDF, data=None, sha256=None, url=_URL, name=None),
            {"type": "document", "source": {"type": "url", "url": _URL}},
        ),
        (
            replace(_PDF, data=None, sha256=None, file_id="file_1"),
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "a.pdf"},
        ),
        (
            _CSV,
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "a,é\n\ufffd"},
                "title": "a.csv",
            },
        ),
        (
            replace(_CSV, data=None, sha256=None, file_id="file_1"),
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "a.csv"},
        ),
    ],
)
def test_files_are_blocks_where_they_stand(part: MediaPart, block: dict[str, object]) -> None:
    """An image is one, a PDF and a text are documents under their names; order and words stay."""
    text = TextPart(text="Look:")
    turns = contents(asking(given(text, part, text), profile=_CLAUDE))
    assert turns == [("user", [{"type": "text", "text": "Look:"}, block, {"type": "text", "text": "Look:"}])]


def test_files_of_the_providers_own_need_to_be_announced() -> None:
    """A request that names an uploaded file says that it uses the interface for files; another one does not."""
    uploaded = replace(_PDF, data=None, sha256=None, file_id="file_1")
    assert WIRE.render(asking(given(uploaded), profile=_CLAUDE)).headers["anthropic-beta"] == "files-api-2025-04-14"
    assert "anthropic-beta" not in WIRE.render(asking(given(_PDF), profile=_CLAUDE)).headers


def test_what_is_said_of_a_file() -> None:
    """Citations, context and a breakpoint may be set with a file, and nothing that is not known of its block."""
    extra = '{"citations":{"enabled":true},"context":"From the archive.","title":"Table 1.0","source":3,"later":1}'
    (block,) = contents(asking(given(replace(_CSV, extra=extra)), profile=_CLAUDE))[0][1]
    assert block == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "a,é\n\ufffd"},
        "citations": {"enabled": True},
        "context": "From the archive.",
        "title": "Table 1.0",
    }


@pytest.mark.parametrize(
    "part",
    [
        MediaPart(media="audio", media_type="audio/wav", sha256="0" * 64, data=b"RIFF", name="it.bin"),
        MediaPart(media="video", media_type="video/mp4", sha256="0" * 64, data=b"....", name="it.bin"),
        MediaPart(media="image", media_type="image/tiff", sha256="0" * 64, data=b"II*", name="it.bin"),
        MediaPart(media="document", media_type="application/msword", sha256="0" * 64, data=b"DOC", name="it.bin"),
        MediaPart(media="text", media_type="text/plain", url=_URL, name="it.bin"),
    ],
)
def test_files_that_cannot_be_sent(part: MediaPart) -> None:
    """A new question with such a file is refused by its name; of an earlier one the model is told."""
    profile = replace(_CLAUDE, media=("image", "audio", "video", "document", "text"))
    with pytest.raises(UnsupportedFeatureError, match=r"it\.bin"):
        WIRE.render(asking(given(part), profile=profile))
    with pytest.raises(UnsupportedFeatureError, match=r"it\.bin"):
        WIRE.render(asking(given(part), profile=replace(profile, media=())))
    earlier = contents(asking(given(part), assistant(TextPart(text="No.")), user("Well?"), profile=profile))
    (block,) = earlier[0][1]
    assert block["type"] == "text"
    assert "it.bin" in block["text"]


def test_addresses_that_are_not_fetched() -> None:
    """Where the profile says that nothing is fetched, a file by its address is refused with a remedy."""
    linked = replace(_PDF, data=None, sha256=None, url=_URL)
    with pytest.raises(UnsupportedFeatureError, match='urls="fetch"'):
        WIRE.render(asking(given(linked), profile=replace(_CLAUDE, fetches_urls=False)))


def test_bytes_that_are_gone() -> None:
    """A file whose bytes are not here any more is an error that says so."""
    with pytest.raises(AttachmentError, match=r"a\.pdf"):
        WIRE.render(asking(given(replace(_PDF, data=None)), profile=_CLAUDE))


def test_what_other_models_made_and_tools_gave() -> None:
    """A picture of another model is told of; one that a tool gave stands behind the results."""
    drawn = assistant(replace(_PNG, data=b"x"), origin=ELSEWHERE)
    assert "a.png" in contents(asking(user("Draw."), drawn, user("?"), profile=_CLAUDE))[1][1][0]["text"]
    shown = replace(result(), parts=(*result().parts, _PNG))
    turns = contents(asking(user("Hi"), assistant(call()), shown, profile=_CLAUDE))
    assert [block["type"] for block in turns[2][1]] == ["tool_result", "image"]


def test_messages_without_files_keep_their_bytes() -> None:
    """What is attached to one message changes no other, with a cache of rendered messages as without one."""
    talk = [user("Hi"), assistant(TextPart(text="Hello")), given(_PNG, TextPart(text="?"))]
    cache: dict[int, tuple[Message, tuple[str, ...]]] = {}
    before = WIRE.render(asking(*talk[:1], profile=_CLAUDE), cache).body.removesuffix(b"]}")
    whole = WIRE.render(asking(*talk, profile=_CLAUDE), cache).body
    assert whole.startswith(before)
    assert whole == WIRE.render(asking(*talk, profile=_CLAUDE)).body


def test_blocks_that_a_user_gives_as_they_stand() -> None:
    """Search results and uploads for the model's code have no form of their own, and go out as they are given."""
    found = '{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"1.50"}]}'
    upload = '{"type":"container_upload","file_id":"file_1"}'
    for payload in (found, upload):
        body = WIRE.render(asking(given(OpaquePart(payload=payload), TextPart(text="?")))).body
        assert payload.encode() in body
    strange = given(OpaquePart(payload='{"type":"input_file","x":1}'), OpaquePart(payload="[]"), TextPart(text="?"))
    with pytest.raises(UnsupportedFeatureError, match="input_file"):
        WIRE.render(asking(strange))
    later = [Message(role="assistant", parts=(TextPart(text="ok"),)), given(TextPart(text="And?"))]
    assert contents(asking(strange, *later))[0] == ("user", [{"type": "text", "text": "?"}])


def test_generations_that_do_not_see() -> None:
    """Which kinds of files a generation reads."""
    assert ANTHROPIC_PROFILES.find("claude-2.1").media == ("text",)
    assert ANTHROPIC_PROFILES.find("claude-3-haiku-20240307").media == ("image", "text")
    for name in ("claude-3-5-sonnet", "claude-opus-4-8", "claude-something-new", "kimi-k3"):
        assert ANTHROPIC_PROFILES.find(name).media == ("image", "document", "text")


def test_what_json_does_not_have_is_refused() -> None:
    """A number that is none is an error before anything is sent."""
    with pytest.raises(ConfigurationError, match="params and temperature"):
        WIRE.render(asking(params={"top_p": float("nan")}))
    assert sent(asking(params={"top_p": 0.5}))["top_p"] == 0.5
