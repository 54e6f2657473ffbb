"""Files in a request: addresses are strings, bytes are data URLs, texts are words."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nodellm_orm.domain.media import media_part
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import MediaPart, TextPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import AttachmentError, UnsupportedFeatureError
from tests.unit.wire.openai_responses.asking import WIRE, asking, assistant, items, said, user

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def given(*parts: Any) -> Message:
    return Message(role="user", parts=parts)


def piece(part: MediaPart, **profile: Any) -> Any:
    """The piece of content that a file becomes."""
    [message] = items(given(part), profile=ModelProfile(**profile))
    [found] = message["content"]
    return found


def here(media: Any, media_type: str, name: str | None = None, **options: Any) -> MediaPart:
    return MediaPart(media=media, media_type=media_type, sha256="0" * 64, name=name, data=b"content", **options)


def url_of(media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(b'content').decode()}"


@pytest.mark.parametrize(
    ("part", "form"),
    [
        (here("image", "image/png"), {"type": "input_image", "image_url": url_of("image/png")}),
        (
            MediaPart(media="image", media_type="image/png", url="https://x/y.png", detail="low"),
            {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        ),
        (
            MediaPart(media="image", media_type="image/heic", file_id="file-1"),
            {"type": "input_image", "file_id": "file-1"},
        ),
        (
            here("document", "application/pdf", "report.pdf", detail="high"),
            {
                "type": "input_file",
                "filename": "report.pdf",
                "file_data": url_of("application/pdf"),
                "detail": "high",
            },
        ),
        (
            here("document", "application/pdf"),
            {"type": "input_file", "filename": "document.pdf", "file_data": url_of("application/pdf")},
        ),
        (here("document", _DOCX, "a.docx"), {"type": "input_file", "filename": "a.docx", "file_data": url_of(_DOCX)}),
        (
            MediaPart(media="document", media_type="application/pdf", url="https://x/y.pdf"),
            {"type": "input_file", "file_url": "https://x/y.pdf"},
        ),
        (
            MediaPart(media="document", media_type="application/pdf", file_id="file-1"),
            {"type": "input_file", "file_id": "file-1"},
        ),
        (
            here("audio", "audio/mpeg"),
            {
                "type": "input_audio",
                "input_audio": {"data": base64.b64encode(b"content").decode(), "format": "mp3"},
            },
        ),
        (here("text", "text/csv"), {"type": "input_text", "text": "content"}),
        (here("text", "text/csv", "a.csv"), {"type": "input_text", "text": '<file name="a.csv">\ncontent\n</file>'}),
    ],
)
def test_forms_of_files(part: MediaPart, form: dict[str, Any]) -> None:
    """By kind, and by where the content is."""
    assert piece(part) == form


@pytest.mark.parametrize(
    "part",
    [
        here("image", "image/tiff", "a.tiff"),
        here("audio", "audio/flac", "a.flac"),
        here("video", "video/mp4", "a.mp4"),
        MediaPart(media="audio", media_type="audio/wav", url="https://x/a.wav", name="a.wav"),
        MediaPart(media="text", media_type="text/plain", file_id="file-1", name="a.txt"),
    ],
)
def test_files_without_a_form_are_refused_when_new_and_told_of_when_old(part: MediaPart) -> None:
    """A question with one is not sent; a chat that had one goes on."""
    with pytest.raises(UnsupportedFeatureError, match=part.name or "?"):
        WIRE.render(asking(given(part), profile=ModelProfile()))
    told = items(given(part), assistant(said("Hm.")), user("?"), profile=ModelProfile())[0]["content"]
    assert told[0]["type"] == "input_text"
    assert (part.name or "?") in told[0]["text"]


def test_addresses_that_are_not_fetched_are_refused() -> None:
    """By a server that fetches none; a file id is no address."""
    profile = ModelProfile(fetches_urls=False)
    linked = MediaPart(media="image", media_type="image/png", url="https://x/y.png", name="y.png")
    with pytest.raises(UnsupportedFeatureError, match=r"y\.png"):
        WIRE.render(asking(given(linked), profile=profile))
    uploaded = MediaPart(media="image", media_type="image/png", file_id="file-1")
    assert piece(uploaded, fetches_urls=False) == {"type": "input_image", "file_id": "file-1"}


def test_texts_and_files_keep_their_order() -> None:
    """Empty texts are left out."""
    png = here("image", "image/png")
    [message] = items(given(TextPart(text="A"), png, TextPart(text=""), TextPart(text="B")), profile=ModelProfile())
    assert [item["type"] for item in message["content"]] == ["input_text", "input_image", "input_text"]


def test_content_that_is_gone_is_an_error() -> None:
    """Its bytes are not stored any more."""
    gone = MediaPart(media="image", media_type="image/png", sha256="0" * 64, name="cat.png")
    with pytest.raises(AttachmentError, match=r"cat\.png"):
        WIRE.render(asking(given(gone), profile=ModelProfile()))


def test_real_files_go_out_whole() -> None:
    """What `media_part` makes of bytes is what is sent."""
    part = media_part(b"%PDF-1.7\n", name="a.pdf")
    assert piece(part)["file_data"] == "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7\n").decode()
