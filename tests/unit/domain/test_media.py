"""What a file is by its content, and what a part of a message is made of it."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.domain.codec import decode_parts, encode_parts
from nodellm_orm.domain.media import (
    checked,
    file_name,
    linked_part,
    media_part,
    name_in,
    named_by_digest,
    read_data_url,
    shown,
)
from nodellm_orm.domain.mediatypes import kind_of, type_of
from nodellm_orm.domain.parts import MediaPart, TextPart
from nodellm_orm.errors import AttachmentError, ConfigurationError

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."


def box(brand: bytes, rest: bytes = b"") -> bytes:
    """The beginning of a file of the MP4 family."""
    return b"\x00\x00\x00\x18ftyp" + brand + bytes(12) + rest


def track(handler: bytes) -> bytes:
    """What says of a track what it is."""
    return b"\x00\x00\x00\x20hdlr" + bytes(8) + handler


def packed(*names: str, mimetype: str | None = None) -> bytes:
    """An archive with members of these names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        if mimetype is not None:
            archive.writestr("mimetype", mimetype)
        for name in names:
            archive.writestr(name, "x" * 100, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def webm(codecs: bytes, doctype: bytes = b"webm") -> bytes:
    """The beginning of a file of the Matroska family."""
    return b"\x1aE\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84" + doctype + bytes(60) + codecs


BMP = (
    b"BM" + (70).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little") + bytes(52)
)

CONTENTS: list[tuple[str, bytes]] = [
    ("image/jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"),
    ("image/png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    ("image/gif", b"GIF89a\x01\x00\x01\x00\x80\x00\x00"),
    ("image/webp", b"RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00"),
    ("image/bmp", BMP),
    ("image/tiff", b"II*\x00\x08\x00\x00\x00"),
    ("image/tiff", b"MM\x00*\x00\x00\x00\x08"),
    ("image/heic", box(b"heic")),
    ("image/heif", box(b"mif1")),
    ("image/avif", box(b"avif")),
    ("audio/wav", b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00"),
    ("audio/mpeg", b"ID3\x04\x00\x00\x00\x00\x0f\x76"),
    ("audio/mpeg", b"\xff\xfb\x90\x64\x00\x00"),
    ("audio/aac", b"\xff\xf1\x50\x80\x02\x1f"),
    ("audio/mp4", box(b"M4A ")),
    ("audio/mp4", box(b"isom", track(b"soun"))),
    ("audio/ogg", b"OggS\x00\x02" + bytes(22) + b"OpusHead"),
    ("audio/flac", b"fLaC\x00\x00\x00\x22"),
    ("audio/aiff", b"FORM\x00\x00\x00\x2eAIFFCOMM"),
    ("audio/webm", webm(b"A_OPUS")),
    ("video/webm", webm(b"V_VP9A_OPUS")),
    ("video/x-matroska", webm(b"V_MPEG4", b"matroska")),
    ("video/mp4", box(b"isom", track(b"soun") + track(b"vide"))),
    ("video/quicktime", box(b"qt  ", track(b"vide"))),
    ("video/quicktime", b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat"),
    ("video/3gpp", box(b"3gp5")),
    ("video/ogg", b"OggS\x00\x02" + bytes(22) + b"\x80theora"),
    ("video/x-msvideo", b"RIFF\x24\x00\x00\x00AVI LIST\x00"),
    ("video/mpeg", b"\x00\x00\x01\xba\x44\x00"),
    ("application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    ("application/pdf", b"%PDF-1.4 of letters only"),
    ("application/pdf", b"\x00\x01 a prefix some writers put there\n%PDF-1.4\n\xff"),
    ("application/rtf", b"{\\rtf1\\ansi words}"),
    (OOXML + "wordprocessingml.document", packed("[Content_Types].xml", "word/document.xml")),
    (OOXML + "spreadsheetml.sheet", packed("[Content_Types].xml", "xl/workbook.xml")),
    (OOXML + "presentationml.presentation", packed("[Content_Types].xml", "ppt/presentation.xml")),
    (ODF + "text", packed("content.xml", mimetype=ODF + "text")),
    (ODF + "spreadsheet", packed("content.xml", mimetype=ODF + "spreadsheet")),
    ("application/epub+zip", packed("META-INF/container.xml", mimetype="application/epub+zip")),
    ("application/msword", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99) + "WordDocument".encode("utf-16-le")),
    ("text/plain", b"hello"),
    ("text/plain", "grüße 🜚\n".encode()),
    ("text/plain", b"\xef\xbb\xbfwith a mark"),
    ("text/plain", b"BM is how this sentence begins"),
    ("text/plain", b"ID3 likewise, and II* and RIFF"),
    ("text/plain", b"a text about %PDF- and GIF89a"),
    ("text/plain", b"{ not json }"),
    ("text/plain", b"[" * 100_000),
    ("application/json", b' {"a": [1, 1.50]}'),
    ("text/html", b"<!-- x --><!DOCTYPE html>\n<html lang=en>"),
    ("text/html", b"<!doctype html><p>short</p>"),
    ("application/xml", b'<?xml version="1.0"?><note/>'),
    ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("image/svg+xml", b'<?xml version="1.0"?>\n<!-- made by x -->\n<!DOCTYPE svg PUBLIC "x">\n<svg:svg/>'),
]


@pytest.mark.parametrize(("media_type", "data"), CONTENTS)
def test_content_tells_the_type(media_type: str, data: bytes) -> None:
    """A file is what its content says, with no name, and under names and labels that say otherwise."""
    assert type_of(data) == media_type
    if kind_of(media_type) != "text":
        assert type_of(data, name="notes.txt", declared="text/html") == media_type
    assert type_of(data, name="photo.jpg", declared="image/jpeg") == media_type


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\x01\x02 unheard of",
        b"PK\x03\x04 cut off",
        packed("a.txt"),
        packed("[Content_Types].xml", "elsewhere.xml"),
        "latin-1 ä".encode("latin-1"),
        b"text with \x00 in it",
        b"\xff\xff\xff\xff",
        b"\xff",
        b"MZ\x90\x00\x03",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
        b"RIFF\x00\x01\x02\x03\x00\x01\x02\x03",
    ],
)
def test_unknown_content_is_refused_whatever_its_name(data: bytes) -> None:
    """Bytes of no known type are refused; the error tells which types there are and how to say it oneself."""
    for name in (None, "photo.jpg", "notes.txt", "report.pdf"):
        with pytest.raises(AttachmentError, match=r"images \(JPEG.*MediaPart\(media=\.\.\., media_type="):
            media_part(data, name=name, declared="application/pdf")


@pytest.mark.parametrize("data", [b"", "text in UTF-16".encode("utf-16")])
def test_empty_and_foreign_text_is_refused_with_the_remedy(data: bytes) -> None:
    """An empty file is refused, and text in UTF-16 is told how to become UTF-8."""
    with pytest.raises(AttachmentError, match=r"empty; leave it out|decode\('utf-16'\)"):
        media_part(data, name="a.txt")


@pytest.mark.parametrize(
    ("name", "declared", "media_type"),
    [
        ("a.md", None, "text/markdown"),
        ("A.CSV", "text/plain", "text/csv"),
        ("a.py", None, "text/x-python"),
        ("a.json", None, "application/json"),
        ("a.svg", "image/svg+xml", "text/plain"),
        ("a.exe", "text/csv; charset=utf-8", "text/csv"),
        (None, "application/pdf", "text/plain"),
        ("a.png", None, "text/plain"),
    ],
)
def test_name_says_which_kind_of_text(name: str | None, declared: str | None, media_type: str) -> None:
    """A name, and after it a label, refine text; neither makes anything of it that it is not."""
    part = media_part(b"a,b\n1,2\n", name=name, declared=declared)
    assert (part.media, part.media_type) == ("text", media_type)


def test_svg_stays_svg_under_any_name() -> None:
    """A drawing that can hold scripts is a text, and is not renamed."""
    part = media_part(b"<svg/>", name="notes.md")
    assert (part.media, part.media_type) == ("text", "image/svg+xml")


@given(st.binary(min_size=1))
def test_any_bytes_are_a_part_or_refused(data: bytes) -> None:
    """Whatever the bytes are: a part with all of them and their digest, or an error; never another exception."""
    try:
        part = media_part(data)
    except AttachmentError:
        return
    assert part.data == data
    assert part.sha256 == hashlib.sha256(data).hexdigest()


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_archive_is_no_accident(changes: list[tuple[int, int]]) -> None:
    """An archive with any bytes changed is a document still, or of no known type; nothing escapes."""
    data = bytearray(packed("[Content_Types].xml", "word/document.xml"))
    for at, value in changes:
        data[at % len(data)] = value
    assert type_of(bytes(data)) in {None, OOXML + "wordprocessingml.document"}


@given(
    media=st.sampled_from(["image", "audio", "video", "document", "text"]),
    media_type=st.text(),
    data=st.binary(min_size=1),
    name=st.none() | st.text(),
    detail=st.none() | st.text(),
)
def test_stored_part_names_its_bytes_and_does_not_hold_them(
    media: Any, media_type: str, data: bytes, name: str | None, detail: str | None
) -> None:
    """A part comes back equal from its stored text, with the digest and without the bytes."""
    part = MediaPart(
        media=media,
        media_type=media_type,
        sha256=hashlib.sha256(data).hexdigest(),
        name=name,
        detail=detail,
        data=data,
    )
    (stored,) = decode_parts(encode_parts([part]))
    assert stored == part
    assert isinstance(stored, MediaPart)
    assert stored.data is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photo.png", "photo.png"),
        ("/etc/../secret/photo.png", "photo.png"),
        ("C:\\users\\me\\photo.png", "photo.png"),
        ("a\r\nb\x1b[2J\u202egnp.exe", "ab[2Jgnp.exe"),
        ("x" * 999, "x" * 255),
        ("dir/", None),
        (None, None),
    ],
)
def test_names_are_for_people(given: str | None, kept: str | None) -> None:
    """A name keeps no directory and no character that moves a cursor or turns a line around."""
    assert file_name(given) == kept


def test_digest_is_filled_in_and_checked() -> None:
    """A part that a program made gets its digest; a wrong one is refused."""
    part = MediaPart(media="image", media_type="image/x-own", data=b"own")
    assert checked(part).sha256 == hashlib.sha256(b"own").hexdigest()
    assert checked(checked(part)) == checked(part)
    with pytest.raises(AttachmentError, match="leave it out, it is filled in"):
        checked(MediaPart(media="image", media_type="image/png", data=b"own", sha256="0" * 64))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "this one has neither"),
    ({"sha256": "0" * 64}, "this one has neither"),
    ({"data": b"x", "url": "https://example.com/a.png"}, "has data and url"),
    ({"data": b""}, "not empty"),
    ({"data": "text"}, "bytes that are not empty, not str"),
    ({"data": b"x", "media": "picture"}, "media of image, audio"),
    ({"data": b"x", "media_type": "png"}, "media_type such as image/png"),
    ({"data": b"x", "media_type": "image/png\r\nx: y"}, "media_type such as image/png"),
    ({"url": "https://example.com/a.png", "sha256": "0" * 64}, "leave sha256 out"),
    ({"file_id": 7}, "a text"),
]


@pytest.mark.parametrize(("members", "told"), WRONG)
def test_part_that_is_not_what_it_says_is_refused(members: dict[str, Any], told: str) -> None:
    """A part has exactly one content, a kind that exists and a type that can be sent."""
    part = MediaPart(**{"media": "image", "media_type": "image/png", **members})
    with pytest.raises(AttachmentError, match=told):
        checked(part)


def test_parts_of_a_model_are_named_by_digest() -> None:
    """A file that a model made gets the digest it is stored by; parts without files stay the same objects."""
    texts = (TextPart(text="a"),)
    assert named_by_digest(texts) is texts
    made = named_by_digest((*texts, MediaPart(media="image", media_type="image/png", data=b"x")))
    assert isinstance(made[1], MediaPart)
    assert made[1].sha256 == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("url", "data", "declared"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("DATA:Image/PNG;name=x;BASE64,iVBORw0KGgo", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("data:;base64,aGk%3D", b"hi", None),
        ("data:,a%20b%FF", b"a b\xff", None),
        ("data:text/csv;charset=utf-8,a,b", b"a,b", "text/csv"),
        ("data:text/plain;base64,aG\n k=", b"hi", "text/plain"),
    ],
)
def test_data_url_is_unpacked(url: str, data: bytes, declared: str | None) -> None:
    """Base 64 and percent signs are unpacked; the declared type comes along."""
    assert read_data_url(url) == (data, declared)


@given(st.binary())
def test_data_urls_lose_nothing(data: bytes) -> None:
    """What was packed is unpacked, byte for byte."""
    assert read_data_url("data:;base64," + base64.b64encode(data).decode())[0] == data


@pytest.mark.parametrize(
    "url", ["data:", "data:image/png;base64", "data:;base64,a", "data:;base64,ää", "data:;base64,*"]
)
def test_broken_data_url_is_refused(url: str) -> None:
    """What is no data URL, or was cut off, is refused in our words."""
    with pytest.raises(AttachmentError, match="data URL"):
        read_data_url(url)


def test_links_are_what_their_names_promise() -> None:
    """Of a URL that the provider fetches only the name is known; without one the type has to be said."""
    part = linked_part("https://cdn.example.com/a%20b/Photo.JPG?size=2#top")
    assert (part.media, part.media_type, part.name) == ("image", "image/jpeg", "Photo.JPG")
    with pytest.raises(AttachmentError, match=r"MediaPart\(media=.*url=") as caught:
        linked_part("https://example.com/image?key=secret")
    assert "secret" not in str(caught.value)


def test_urls_are_shown_without_keys() -> None:
    """Neither user nor query of a URL is shown; its name comes from the path alone."""
    assert shown("https://me:pw@example.com/a/b.png?token=x#y") == "'https://example.com/a/b.png'"
    assert name_in("https://example.com/a/..%2fb.png?x=/y.jpg") == "b.png"
    assert name_in("https://example.com") is None


MEANT: list[dict[str, Any]] = [
    {"urls": "allow"},
    {"hosts": "example.com"},
    {"media_types": "image/png"},
    {"ports": 443},
    {"ports": ["443"]},
    {"max_bytes": 0},
    {"max_bytes": True},
    {"max_total_bytes": 1.5},
    {"max_redirects": -1},
    {"timeout": 0},
    {"timeout": float("inf")},
    {"timeout": "5"},
    {"private_addresses": 1},
    {"paths": [""]},
    {"paths": [7]},
    {"paths": 7},
]


@pytest.mark.parametrize("members", MEANT)
def test_policy_that_cannot_be_meant_is_refused(members: dict[str, Any]) -> None:
    """A wrong value is refused by the name of its setting when the policy is made."""
    with pytest.raises(ConfigurationError, match=rf"AttachmentPolicy\({next(iter(members))}=\)"):
        AttachmentPolicy(**members)


@pytest.mark.parametrize(
    ("hosts", "host", "allowed"),
    [
        (None, "anything.example", True),
        (["example.com"], "example.com", True),
        (["Example.COM"], "example.com.", True),
        (["example.com"], "www.example.com", False),
        (["example.com"], "example.com.evil.net", False),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "evilexample.com", False),
        ([], "example.com", False),
    ],
)
def test_hosts_are_matched_whole(hosts: list[str] | None, host: str, allowed: bool) -> None:  # noqa: FBT001 — a column
    """A host is one of the names, or below a name that begins with a star."""
    policy = AttachmentPolicy(hosts=hosts)
    if allowed:
        policy.refuse_host(host, 443)
    else:
        with pytest.raises(AttachmentError, match=r"AttachmentPolicy\(hosts=\)"):
            policy.refuse_host(host, 443)
