"""What a file is, by its content: a name or a label can lie, and refines text only.

Signatures are few on purpose: the types that some provider takes, and those near enough to be taken for them. Text is
looked for before any signature of printable letters, because ``BM``, ``ID3`` and ``II*`` begin sentences, too.
"""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaKind

KNOWN: Final = (
    "images (JPEG, PNG, GIF, WebP, HEIC, AVIF, BMP, TIFF), audio (WAV, MP3, M4A, AAC, OGG, FLAC, AIFF, WebM), "
    "video (MP4, MOV, WebM, MKV, AVI, MPEG, 3GP, FLV, WMV), PDF, RTF, EPUB, office documents (docx, xlsx, pptx, odt, "
    "ods, odp, doc, xls, ppt), and text in UTF-8"
)
"""The types that are known by their content, for people."""
PLAIN: Final = "text/plain"
SVG: Final = "image/svg+xml"

_TEXT_BY_SUFFIX: Final = {
    "txt": PLAIN,
    "log": PLAIN,
    "md": "text/markdown",
    "markdown": "text/markdown",
    "rst": "text/x-rst",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "xml": "application/xml",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "ndjson": "application/x-ndjson",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "toml": "application/toml",
    "ics": "text/calendar",
    "vcf": "text/vcard",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "sql": "application/sql",
    "tex": "application/x-tex",
    "sh": "application/x-sh",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "ts": "text/x-typescript",
    "py": "text/x-python",
    "rb": "text/x-ruby",
    "go": "text/x-go",
    "rs": "text/x-rust",
    "java": "text/x-java",
    "kt": "text/x-kotlin",
    "swift": "text/x-swift",
    "cs": "text/x-csharp",
    "c": "text/x-c",
    "h": "text/x-c",
    "cpp": "text/x-c++",
    "hpp": "text/x-c++",
    "php": "text/x-php",
    "diff": "text/x-diff",
    "patch": "text/x-diff",
}
_TEXTS: Final = frozenset({*_TEXT_BY_SUFFIX.values(), SVG})
_BY_SUFFIX: Final = {
    **{suffix: f"image/{suffix}" for suffix in ("png", "gif", "webp", "heic", "heif", "avif", "bmp", "tiff")},
    **{suffix: f"video/{suffix}" for suffix in ("mp4", "webm", "mpeg")},
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "tif": "image/tiff",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aiff": "audio/aiff",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

_HEAD: Final = 4096
"""Bytes in which a signature or a first element is looked for."""
_JSON_BYTES: Final = 1 << 20
"""A longer text without a name is not parsed to find out whether it is JSON."""
_TEXT_BYTES: Final = bytes({*b"\b\t\n\f\r\x1b", *range(0x20, 0x100)})
_BOM: Final = b"\xef\xbb\xbf"

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
)
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_IMAGE_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
}
_MEMBERS_BYTES: Final = 1 << 20
_OFFICE: Final = (("word/", _BY_SUFFIX["docx"]), ("xl/", _BY_SUFFIX["xlsx"]), ("ppt/", _BY_SUFFIX["pptx"]))
_PACKAGES: Final = frozenset(
    {
        "application/epub+zip",
        *(f"application/vnd.oasis.opendocument.{kind}" for kind in ("text", "spreadsheet", "presentation")),
    }
)
_LEGACY_OFFICE: Final = (
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
)
_ROOT: Final = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!doctype[^>\[]*(?:\[[^\]]*\])?\s*>\s*)*<([a-z:]+)",
    re.DOTALL | re.IGNORECASE,
)
"""The first element of a document, behind whatever may stand before it."""
_HANDLER: Final = re.compile(rb"hdlr.{8}(vide|soun)", re.DOTALL)
"""Which tracks a film has."""


def kind_of(media_type: str) -> MediaKind:
    """The kind of a media type; what is none of the others is a document.

    Args:
        media_type: as in HTTP.
    """
    if media_type.startswith("text/") or media_type in _TEXTS:
        return "text"
    family = media_type.partition("/")[0]
    kinds: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
    return kinds.get(family, "document")


def type_by_suffix(name: str) -> str | None:
    """What a name promises, for a file whose content is not here.

    Args:
        name: a file's name.
    """
    suffix = name.rpartition(".")[2].lower()
    return _BY_SUFFIX.get(suffix) or _TEXT_BY_SUFFIX.get(suffix)


def type_of(data: bytes, *, name: str | None = None, declared: str | None = None) -> str | None:
    """The media type of a content; ``None`` when it is none that is known.

    Args:
        data: the whole content.
        name: its file name: says which kind of text it is, if it is text.
        declared: the type that came with it, likewise.
    """
    start = data[:_HEAD].removeprefix(_BOM).lstrip()
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if start.startswith(b"{\\rtf"):
        return "application/rtf"
    if _is_text(data):
        return _text_type(data, name, declared)
    for known in (_by_signature, _image, _film, _sound, _package, _legacy_document):
        if (found := known(data)) is not None:
            return found
    # Some writers put a few bytes of their own before it; readers allow for a thousand.
    return "application/pdf" if b"%PDF-" in data[:1024] else None


def _is_text(data: bytes) -> bool:
    if data.translate(None, _TEXT_BYTES):
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _text_type(data: bytes, name: str | None, declared: str | None) -> str:
    start = data[:_HEAD].removeprefix(_BOM).lstrip()
    root = _ROOT.match(start)
    element = root[1].rpartition(b":")[2].lower() if root else b""
    if element == b"svg":
        return SVG  # a name cannot make it anything harmless
    suffix = (name or "").rpartition(".")[2].lower()
    label = (declared or "").partition(";")[0].strip().lower()
    if suffix in _TEXT_BY_SUFFIX:
        return _TEXT_BY_SUFFIX[suffix]
    if label in _TEXTS - {PLAIN, SVG}:
        return label
    if element == b"html" or start[:14].lower() == b"<!doctype html":
        return "text/html"
    if start[:5] == b"<?xml":
        return "application/xml"
    return "application/json" if _is_json(data) else PLAIN


def _is_json(data: bytes) -> bool:
    if len(data) > _JSON_BYTES or data.lstrip()[:1] not in {b"{", b"["}:
        return False
    try:
        loads_verbatim(data)
    except JsonTextError:
        return False
    return True


def _by_signature(data: bytes) -> str | None:
    return next((media_type for signature, media_type in _SIGNATURES if data.startswith(signature)), None)


def _image(data: bytes) -> str | None:
    # The third word of a bitmap is reserved and empty; its own header comes fourteen bytes on and is of a known length.
    if data[:2] == b"BM" and data[6:10] == bytes(4) and int.from_bytes(data[14:18], "little") in {12, 40, 64, 108, 124}:
        return "image/bmp"
    return _RIFF.get(data[8:12]) if data[:4] == b"RIFF" else None


def _film(data: bytes) -> str | None:
    """The two families of containers, which hold pictures, sound or both."""
    if data[:4] == b"\x1a\x45\xdf\xa3":
        start = data[: 1 << 16]
        family = "webm" if b"webm" in start[:64] else "x-matroska"
        return f"audio/{family}" if b"A_" in start and b"V_" not in start else f"video/{family}"
    box, brand = data[4:8], data[8:12]
    if box in {b"moov", b"mdat", b"wide"}:  # older than brands
        return "video/quicktime"
    if box != b"ftyp":
        return None
    if brand in _IMAGE_BRANDS:
        return _IMAGE_BRANDS[brand]
    if brand in {b"M4A ", b"M4B "}:
        return "audio/mp4"
    if set(_HANDLER.findall(data)) == {b"soun"}:
        return "audio/mp4"
    if brand == b"qt  ":
        return "video/quicktime"
    return "video/3gpp" if brand.startswith(b"3gp") else "video/mp4"


def _sound(data: bytes) -> str | None:
    if data[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in data[:_HEAD] else "audio/ogg"
    if data[:4] == b"FORM" and data[8:12] in {b"AIFF", b"AIFC"}:
        return "audio/aiff"
    if data[:3] == b"ID3":
        return "audio/mpeg"
    if len(data) < 4 or data[0] != 0xFF:  # noqa: PLR2004 — four bytes are the head of a frame
        return None
    if data[1] & 0xF6 == 0xF0:  # noqa: PLR2004 — an ADTS frame: twelve bits set, and no layer
        return "audio/aac"
    version, layer, rate, sampling = data[1] >> 3 & 3, data[1] >> 1 & 3, data[2] >> 4, data[2] >> 2 & 3
    framed = data[1] & 0xE0 == 0xE0 and version != 1 and layer in {1, 2} and rate not in {0, 15} and sampling != 3  # noqa: PLR2004 — the values that an MPEG frame reserves
    return "audio/mpeg" if framed else None


class _Archive(io.BytesIO):
    """An archive whose list of members is read only where it is as short as a document's: a long one takes seconds."""

    def read(self, size: int | None = -1, /) -> bytes:
        """See the base class; the list is read in one piece."""
        if size is not None and size > _MEMBERS_BYTES:
            msg = "too many members"
            raise zipfile.BadZipFile(msg)
        return super().read(size)


def _package(data: bytes) -> str | None:
    """What a ZIP archive is the shell of; a plain archive is nothing that a model reads."""
    if data[:4] != b"PK\x03\x04":
        return None
    try:
        with zipfile.ZipFile(_Archive(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeError):
        return None
    if "[Content_Types].xml" in names:
        return next((kind for folder, kind in _OFFICE if any(name.startswith(folder) for name in names)), None)
    # OpenDocument and EPUB say what they are in a first member that is not packed: 30 bytes of header and its name.
    said = data[38:128].decode("latin-1") if data[30:38] == b"mimetype" else ""
    return max((kind for kind in _PACKAGES if said.startswith(kind)), key=len, default=None)


def _legacy_document(data: bytes) -> str | None:
    if data[:8] != b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return None
    return next((kind for stream, kind in _LEGACY_OFFICE if stream.encode("utf-16-le") in data), None)
