"""Files in a question: each in the form that its server has for it, where it stood."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaKind, MediaPart, TextPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import AttachmentError, UnsupportedFeatureError
from tests.unit.wire.openai_chat.asking import ELSEWHERE, PLAIN, WIRE, asking, assistant, sent, user

OPENAI = PLAIN
OPENROUTER = ModelProfile(file_form="openrouter")
MISTRAL = ModelProfile(file_form="mistral")
_PACKED = base64.b64encode(b"bytes").decode()


def file(media: MediaKind, media_type: str, *, name: str | None = None, detail: str | None = None) -> MediaPart:
    return MediaPart(media=media, media_type=media_type, sha256="0" * 64, name=name, detail=detail, data=b"bytes")


def linked(media: MediaKind, media_type: str, name: str | None = None) -> MediaPart:
    return MediaPart(media=media, media_type=media_type, url="https://files.example/x", name=name)


def question(*parts: TextPart | MediaPart) -> Message:
    return Message(role="user", parts=parts)


def content(*parts: TextPart | MediaPart, profile: ModelProfile = OPENAI) -> Any:
    """The content of the message that would be sent."""
    return sent(asking(question(*parts), profile=profile))["messages"][0]["content"]


_PNG, _PDF = file("image", "image/png"), file("document", "application/pdf", name="a.pdf")
_WAV, _MP3 = file("audio", "audio/x-wav"), file("audio", "audio/mpeg; rate=8000")
_PDF_URL = f"data:application/pdf;base64,{_PACKED}"
_UPLOADED = MediaPart(media="document", media_type="application/pdf", file_id="file-1")


@pytest.mark.parametrize(
    ("profile", "part", "expected"),
    [
        (
            OPENAI,
            _PNG,
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PACKED}"}},
        ),
        (
            OPENAI,
            linked("image", "image/jpeg"),
            {"type": "image_url", "image_url": {"url": "https://files.example/x"}},
        ),
        (
            OPENAI,
            file("image", "image/webp", detail="low"),
            {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{_PACKED}", "detail": "low"}},
        ),
        (OPENAI, _WAV, {"type": "input_audio", "input_audio": {"data": _PACKED, "format": "wav"}}),
        (OPENAI, _MP3, {"type": "input_audio", "input_audio": {"data": _PACKED, "format": "mp3"}}),
        (OPENAI, _PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF_URL}}),
        (
            OPENAI,
            file("document", "application/pdf"),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": _PDF_URL}},
        ),
        (OPENAI, _UPLOADED, {"type": "file", "file": {"file_id": "file-1"}}),
        (
            OPENAI,
            file("text", "text/csv", name="t.csv"),
            {"type": "text", "text": '<file name="t.csv">\nbytes\n</file>'},
        ),
        (
            OPENROUTER,
            linked("document", "application/pdf", "b.pdf"),
            {"type": "file", "file": {"filename": "b.pdf", "file_data": "https://files.example/x"}},
        ),
        (OPENROUTER, _PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": _PDF_URL}}),
        (
            OPENROUTER,
            file("video", "video/mp4"),
            {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{_PACKED}"}},
        ),
        (
            OPENROUTER,
            linked("video", "video/webm"),
            {"type": "video_url", "video_url": {"url": "https://files.example/x"}},
        ),
        (
            OPENROUTER,
            file("audio", "audio/flac"),
            {"type": "input_audio", "input_audio": {"data": _PACKED, "format": "flac"}},
        ),
        (
            MISTRAL,
            _PDF,
            {"type": "document_url", "document_url": _PDF_URL, "document_name": "a.pdf"},
        ),
        (
            MISTRAL,
            linked("document", "application/pdf"),
            {"type": "document_url", "document_url": "https://files.example/x"},
        ),
        (MISTRAL, _UPLOADED, {"type": "file", "file_id": "file-1"}),
        (MISTRAL, _MP3, {"type": "input_audio", "input_audio": _PACKED}),
        (MISTRAL, linked("audio", "audio/mpeg"), {"type": "input_audio", "input_audio": "https://files.example/x"}),
        (MISTRAL, _PNG, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PACKED}"}}),
    ],
)
def test_files_have_the_form_of_their_server(
    profile: ModelProfile, part: MediaPart, expected: dict[str, object]
) -> None:
    """Bytes as base 64, addresses as they are, uploaded files by their id, texts as words."""
    assert content(TextPart(text="?"), part, profile=profile) == [{"type": "text", "text": "?"}, expected]


@pytest.mark.parametrize(
    ("profile", "part"),
    [
        (OPENAI, file("video", "video/mp4")),
        (OPENAI, file("audio", "audio/flac")),
        (OPENAI, file("image", "image/tiff")),
        (OPENAI, file("document", "application/msword")),
        (OPENAI, linked("document", "application/pdf")),
        (OPENAI, linked("audio", "audio/mpeg")),
        (OPENAI, linked("text", "text/plain")),
        (OPENAI, MediaPart(media="image", media_type="image/png", file_id="file-1")),
        (OPENROUTER, _UPLOADED),
        (MISTRAL, file("video", "video/mp4")),
        (ModelProfile(media=("text",)), _PNG),
        (ModelProfile(fetches_urls=False), linked("image", "image/png")),
    ],
)
def test_a_file_without_a_form_is_refused_when_new_and_told_of_when_old(profile: ModelProfile, part: MediaPart) -> None:
    """The newest question fails before it is sent; in an earlier one the model reads that there was a file."""
    with pytest.raises(UnsupportedFeatureError, match=part.media):
        WIRE.render(asking(question(part), profile=profile))
    later = [assistant(TextPart(text="So?")), user("Never mind")]
    told = sent(asking(question(TextPart(text="Look"), part), *later, profile=profile))["messages"][0]["content"]
    assert told[0] == {"type": "text", "text": "Look"}
    assert told[1]["type"] == "text"
    assert part.media_type in told[1]["text"]


def test_texts_and_files_keep_their_order() -> None:
    """What stood between two texts still does; empty texts are left out."""
    parts = (TextPart(text="a"), _PNG, TextPart(text=""), _PDF, TextPart(text="b"))
    assert [item["type"] for item in content(*parts)] == ["text", "image_url", "file", "text"]


def test_texts_alone_are_written_as_ever() -> None:
    """No byte of a question without files is another one because there might be some."""
    request = asking(user("Hi"), question(TextPart(text="a"), TextPart(text="b")))
    assert WIRE.render(request).body.endswith(
        b'[{"role":"user","content":"Hi"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}'
    )


def test_bytes_that_are_not_stored_any_more_are_an_error() -> None:
    """A file whose content was removed is named, not sent empty."""
    gone = MediaPart(media="image", media_type="image/png", sha256="0" * 64, name="cat.png")
    with pytest.raises(AttachmentError, match=r"cat\.png"):
        WIRE.render(asking(question(gone)))


@pytest.mark.parametrize("target", [None, ELSEWHERE])
def test_an_image_that_a_model_made_is_told_of(target: Any) -> None:
    """A model's message has no place for its image: what it made stays in the conversation as a note."""
    made = assistant(TextPart(text="Here: "), media_part(b"\x89PNG\r\n\x1a\n", media_type="image/png"))
    options = {"target": target} if target else {}
    told = sent(asking(user("Draw"), made, user("Bluer"), **options))["messages"][1]["content"]
    assert told.startswith("Here: [image (image/png)")
