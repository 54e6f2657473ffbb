"""Files as parts of a message: made from bytes, checked as they are given, named by the digest of their content."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, unquote_to_bytes

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.mediatypes import KNOWN, kind_of, type_by_suffix, type_of
from nodellm_orm.domain.parts import MEDIA_KINDS, MediaPart
from nodellm_orm.errors import AttachmentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.domain.parts import Part

_NAME_CHARS: Final = 255
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", re.IGNORECASE)
_DATA_URL: Final = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def media_part(
    data: bytes, *, media_type: str | None = None, name: str | None = None, declared: str | None = None
) -> MediaPart:
    """A file from its bytes.

    Args:
        data: the content.
        media_type: its type, when that is known better than the content tells.
        name: its file name; a path is cut down to it.
        declared: a type that came along and need not be true; it says which kind of text it is, if it is text.

    Raises:
        AttachmentError: the file is empty, or its content is of no known type.

    Example:
        >>> media_part(b"name,city", name="people.csv").media_type
        'text/csv'
    """
    plain = file_name(name)
    what = f"the file {plain!r}" if plain else "the file"
    if not data:
        msg = f"{what} is empty; leave it out"
        raise AttachmentError(msg)
    found = media_type or type_of(data, name=plain, declared=declared)
    if found is None and data.startswith(_UTF_16):
        msg = f"{what} seems to be text in UTF-16; give it in UTF-8: data.decode('utf-16').encode()"
        raise AttachmentError(msg)
    if found is None:
        msg = (
            f"the type of {what} is not known by its content. Known are {KNOWN}. "
            "Say what it is with MediaPart(media=..., media_type=..., data=...)"
        )
        raise AttachmentError(msg)
    return MediaPart(media=kind_of(found), media_type=found, sha256=digest_of(data), name=plain, data=data)


def linked_part(url: str) -> MediaPart:
    """A file that the provider is to fetch; its type is what its name promises, for nothing more is known of it.

    Args:
        url: where it is.

    Raises:
        AttachmentError: the name promises nothing.
    """
    name = name_in(url)
    media_type = type_by_suffix(name or "")
    if media_type is None:
        msg = (
            f"{shown(url)} does not say what it is; give MediaPart(media=..., media_type=..., url=...), "
            'or let it be fetched with AttachmentPolicy(urls="fetch")'
        )
        raise AttachmentError(msg)
    return MediaPart(media=kind_of(media_type), media_type=media_type, url=url, name=name)


def checked(part: MediaPart) -> MediaPart:
    """A file that a program made itself, with its digest filled in.

    Args:
        part: as given.

    Raises:
        AttachmentError: it has no content, or two, or is otherwise not what it says.
    """
    sources = [name for name in ("data", "url", "file_id") if getattr(part, name) is not None]
    if len(sources) != 1:
        has = " and ".join(sources) or "neither"
        msg = f"a MediaPart has its content in one of data, url and file_id, and this one has {has}; give one"
        raise AttachmentError(msg)
    if (
        part.media not in MEDIA_KINDS
        or not isinstance(part.media_type, str)
        or not _MEDIA_TYPE.fullmatch(part.media_type)
    ):
        msg = (
            f"a MediaPart has a media of {', '.join(MEDIA_KINDS)} and a media_type such as image/png, "
            f"not {part.media!r:.40} and {part.media_type!r:.100}"
        )
        raise AttachmentError(msg)
    if part.data is None:
        if not isinstance(part.url or part.file_id, str) or part.sha256 is not None:
            msg = "a MediaPart's url or file_id is a text, and only one with data has a digest; leave sha256 out"
            raise AttachmentError(msg)
        return part
    if not isinstance(part.data, bytes) or not part.data:
        msg = f"a MediaPart's data is bytes that are not empty, not {type(part.data).__name__}; give the content"
        raise AttachmentError(msg)
    if part.sha256 not in {None, digest_of(part.data)}:
        msg = "the sha256 of a MediaPart is not that of its data; leave it out, it is filled in"
        raise AttachmentError(msg)
    return part if part.sha256 else replace(part, sha256=digest_of(part.data))


def checked_files(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Parts as a program gave them, each file among them checked.

    Raises:
        AttachmentError: see `checked`.
    """
    return tuple(checked(part) if isinstance(part, MediaPart) else part for part in parts)


def named_by_digest(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Parts as a model gave them, each file among them named by its digest: that is how it is stored."""
    if not any(isinstance(part, MediaPart) and part.data is not None and part.sha256 is None for part in parts):
        return parts
    return tuple(
        replace(part, sha256=digest_of(part.data))
        if isinstance(part, MediaPart) and part.data is not None and part.sha256 is None
        else part
        for part in parts
    )


def read_data_url(url: str) -> tuple[bytes, str | None]:
    """The content of a ``data:`` URL, and the type it declares.

    Args:
        url: the URL.

    Raises:
        AttachmentError: it is no such URL.
    """
    head = _DATA_URL.match(url)
    if head is None:
        msg = "a data URL reads data:<type>;base64,<content>; this one does not"
        raise AttachmentError(msg)
    payload, declared = url[head.end() :], head[1].strip().lower() or None
    packed = "base64" in {word.strip().lower() for word in head[2].split(";")}
    if not packed:
        return unquote_to_bytes(payload), declared
    text = "".join(unquote(payload).split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True), declared
    except (binascii.Error, ValueError):
        msg = "the content of a data URL is not base64; it may have been cut off"
        raise AttachmentError(msg) from None


def file_name(name: str | None) -> str | None:
    """A name without directories and without characters that do something to a reader's terminal or line.

    Args:
        name: as given.
    """
    last = re.split(r"[/\\]", name or "")[-1]
    visible = "".join(c for c in last if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    return visible.strip()[:_NAME_CHARS] or None


def name_in(url: str) -> str | None:
    """The file name at the end of a URL's path.

    Args:
        url: an http URL.
    """
    path = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0].partition("/")[2]
    return file_name(unquote(path, errors="replace"))


def shown(url: str) -> str:
    """A URL as errors may show it: without user, query and fragment, where keys are.

    Args:
        url: as given.
    """
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return repr(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"[:300])
