"""Files of a question: read, fetched and checked before its turn begins, so that nothing is read again for it."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from nodellm_orm.domain.media import checked, linked_part, media_part, name_in, read_data_url, shown
from nodellm_orm.domain.parts import MediaPart
from nodellm_orm.errors import AttachmentError
from nodellm_orm.runtime.paths import opened
from nodellm_orm.runtime.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nodellm_orm.domain.attachments import AttachmentPolicy
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.fetching import Fetcher

T = TypeVar("T")

_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_AT_ONCE: Final = 1 << 20
"""Bytes asked for in one read."""
_BYTES: Final = (bytes, bytearray, memoryview)
_PAIR: Final = 2
_GIVEN: Final = "a file is bytes, a (name, bytes) pair, a path, an open file, a data: or http URL, or a MediaPart"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | str: ...


class Files:
    """Makes parts of what is given as ``files=``.

    Args:
        policy: what may be read and fetched, and how much.
        fetcher: fetches URLs, where the policy allows it; ``None`` where nothing can.
    """

    def __init__(self, policy: AttachmentPolicy, fetcher: Fetcher | None = None) -> None:
        """Keep both."""
        self.policy = policy
        self._fetcher = fetcher

    async def attach(self, parts: Iterable[Part], files: object) -> tuple[Part, ...]:
        """A question with its files; these come first, because models read a text with what it is about in mind.

        Args:
            parts: the question, perhaps with files of its own.
            files: one file or several, see `file_list`.

        Raises:
            AttachmentError: one of them cannot be had, is too large or of a type that is not taken.
        """
        asked, total = tuple(parts), 0
        for part in asked:
            if isinstance(part, MediaPart):
                total += self._counted(part, total)
        read: list[Part] = []
        for file in file_list(files):
            part = await self._part(file)
            total += self._counted(part, total)
            if not isinstance(file, MediaPart):
                self.policy.refuse_type(part, _what(part.name))
            read.append(part)
        return (*read, *asked)

    def _counted(self, part: MediaPart, before: int) -> int:
        size = len(part.data or b"")
        self.policy.refuse_size(size, _what(part.name), before=before)
        return size

    async def _part(self, file: object) -> MediaPart:
        match file:
            case MediaPart():
                return checked(file)
            case bytes() | bytearray() | memoryview():
                return await self._made(file, None)
            case (str() as name, bytes() | bytearray() | memoryview() as data):
                return await self._made(data, name)
            case str() if file[:5].lower() == "data:":
                return await self._unpacked(file)
            case str() if (scheme := _URL.match(file)) is not None:
                return await self._linked(file, scheme[1].lower())
            case str() | os.PathLike() if isinstance(os.fspath(file), str) and os.fspath(file):
                return await _threaded(lambda: self._from_path(cast("str | os.PathLike[str]", file)))
            case _ if callable(getattr(file, "read", None)):
                return await _threaded(lambda: self._from_file(cast(_Readable, file)))
            case _:
                msg = f"{_GIVEN}; give one of these, not {type(file).__name__}"
                raise AttachmentError(msg)

    async def _made(self, data: Any, name: str | None, declared: str | None = None) -> MediaPart:
        self.policy.refuse_size(memoryview(data).nbytes, _what(name))
        content = bytes(data)
        if len(content) <= _AT_ONCE:
            return media_part(content, name=name, declared=declared)
        return await _threaded(lambda: media_part(content, name=name, declared=declared))

    async def _unpacked(self, url: str) -> MediaPart:
        self.policy.refuse_size(len(url) // 4 - _AT_ONCE, "a data URL")  # before anything of it is copied
        data, declared = read_data_url(url)
        return await self._made(data, None, declared)

    async def _linked(self, url: str, scheme: str) -> MediaPart:
        if scheme not in {"http", "https"}:
            msg = f"a URL that begins with {scheme}:// is not attached; only http and https are"
            raise AttachmentError(msg)
        if self.policy.urls == "pass":
            self.policy.refuse_url(url)
            return linked_part(url)
        if self.policy.urls == "refuse" or self._fetcher is None:
            msg = (
                f"{shown(url)} is not fetched: URLs need a policy. Pass the bytes, or allow it with "
                'create_llm(..., attachments=AttachmentPolicy(urls="fetch", hosts=[...])), or urls="pass" to leave it '
                "to the provider"
            )
            raise AttachmentError(msg)
        fetched = await self._fetcher.fetch(url, self.policy)
        return await self._made(fetched.data, name_in(fetched.url) or name_in(url), fetched.media_type)

    def _from_path(self, path: str | os.PathLike[str]) -> MediaPart:
        with opened(path, self.policy) as file:
            self.policy.refuse_size(os.fstat(file.fileno()).st_size, f"the file {os.fspath(path)!r:.300}")
            data = self._content(file, os.fspath(path))
        return media_part(data, name=os.fspath(path))

    def _from_file(self, file: _Readable) -> MediaPart:
        given: Any = getattr(file, "filename", None) or getattr(file, "name", None)
        name = given if isinstance(given, str) else None
        try:
            return media_part(self._content(file, name), name=name)
        except (OSError, ValueError, TypeError) as error:
            msg = f"{_what(name)} cannot be read ({type(error).__name__}); open it for reading, or pass the bytes"
            raise AttachmentError(msg) from error

    def _content(self, file: _Readable, name: str | None) -> bytes:
        """Everything from where the file stands, or as much as shows that it is too large."""
        pieces, size = [], 0
        while piece := file.read(_AT_ONCE):
            if inspect.isawaitable(piece):
                if inspect.iscoroutine(piece):
                    piece.close()  # or Python warns that nobody awaited it
                msg = f"{_what(name)} is read asynchronously; pass what `await file.read()` gives, with its name"
                raise AttachmentError(msg)
            data = piece.encode() if isinstance(piece, str) else bytes(piece)
            size += len(data)
            self.policy.refuse_size(size, _what(name))
            pieces.append(data)
        return b"".join(pieces)


def file_list(files: object) -> list[object]:
    """What was given as ``files=``, one by one.

    Args:
        files: one file, or a list of them; a tuple of a text and bytes is one file with its name.
    """
    if files is None:
        return []
    if isinstance(files, (str, MediaPart, os.PathLike, *_BYTES)) or not isinstance(files, Collection):
        return [files]
    if isinstance(files, tuple) and len(files) == _PAIR and isinstance(files[0], str) and isinstance(files[1], _BYTES):
        return [files]
    return list(files)


async def _threaded(work: Callable[[], T]) -> T:
    """Run blocking work in a thread, and raise here what it raises there."""

    def outcome() -> tuple[T | None, BaseException | None]:
        try:
            return work(), None
        except BaseException as error:  # noqa: BLE001 — handed over to the waiting task
            return None, error

    value, error = await in_thread(outcome, name="nodellm_orm attachment")
    if error is not None:
        raise error
    return cast(T, value)


def _what(name: str | None) -> str:
    return f"the file {name!r:.300}" if name else "the file"
