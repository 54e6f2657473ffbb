"""Where a file is read from or written to: a path, or a binary file that somebody has opened."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias

from nodellm_orm.errors import ConfigurationError, NodeLLMError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    class BinaryReader(Protocol):
        """Anything that gives bytes."""

        def read(self, size: int, /) -> bytes:
            """Up to so many bytes, none at the end."""

    class BinaryWriter(Protocol):
        """Anything that takes bytes."""

        def write(self, data: bytes, /) -> int | None:
            """Take bytes; says how many."""


Readable: TypeAlias = "str | os.PathLike[str] | BinaryReader"
Writable: TypeAlias = "str | os.PathLike[str] | BinaryWriter"

_PIECE: Final = 1 << 18
"""Bytes that are read or written at once."""
_SPOOLED: Final = 1 << 22
"""Bytes of a chat that are kept in memory; of a longer one they are in a temporary file."""


class Source:
    """A file to read from.

    Args:
        read: gives up to so many bytes.
    """

    def __init__(self, read: Callable[[int], Any]) -> None:
        """Keep how it is read."""
        self._read = read

    def lines(self, longest: int, first: int) -> Iterator[bytes]:
        """Its lines with their ends; the last may lack one, and one that is too long is cut.

        Args:
            longest: bytes of a line at most.
            first: of the first line, so that not much is read of what is another file altogether.
        """
        pieces: list[bytes] = []
        length = 0
        limit = first
        while data := self._piece():
            start = 0
            while end := data.find(b"\n", start) + 1:
                yield b"".join((*pieces, data[start:end]))
                pieces, length, start, limit = [], 0, end, longest
            pieces.append(data[start:])
            length += len(data) - start
            if length >= limit:
                break
        if rest := b"".join(pieces):
            yield rest

    def _piece(self) -> bytes:
        try:
            data = self._read(_PIECE)
        except OSError as error:
            msg = f"the file cannot be read ({type(error).__name__}); check it, and import again"
            raise StorageError(msg) from error
        if data is None:
            msg = "the file has nothing to read just now; open it in blocking mode"
            raise ConfigurationError(msg)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ConfigurationError(_text_advice("rb"))
        return bytes(data)


class Sink:
    """A file to write to.

    Args:
        write: takes bytes.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Keep how it is written."""
        self._write = write
        self._waiting: list[bytes] = []
        self._length = 0
        self.size = 0
        """Bytes written so far."""

    def put(self, line: bytes) -> None:
        """Write a line, a little later.

        Args:
            line: with its end.
        """
        self._waiting.append(line)
        self._length += len(line)
        if self._length >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        data = b"".join(self._waiting)
        self._waiting, self._length = [], 0
        self.size += len(data)
        try:
            while data:
                written = self._write(data)
                data = data[written:] if isinstance(written, int) else b""
        except OSError as error:
            raise unwritable(error) from error
        except TypeError as error:
            raise ConfigurationError(_text_advice("wb")) from error


def unwritable(error: OSError) -> NodeLLMError:
    """The error for a file that cannot be written.

    Args:
        error: the system's.
    """
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StorageError(f"the file cannot be written ({reason}); make room, check the path, and try again")


@contextlib.contextmanager
def opened_source(fp: Readable) -> Iterator[Source]:
    """What is to be read; a path is opened and closed here.

    Args:
        fp: a path or a binary file.

    Raises:
        ConfigurationError: it is neither, or there is no such file.
    """
    if isinstance(fp, str | os.PathLike):
        try:
            file = Path(fp).open("rb")  # noqa: SIM115 — closed below
        except OSError as error:
            msg = f"{os.fspath(fp)!r} cannot be read ({os.strerror(error.errno or 0)}); check the path"
            raise ConfigurationError(msg) from error
        with file:
            yield Source(file.read)
        return
    yield Source(_method(fp, "read", "rb"))


@contextlib.contextmanager
def opened_sink(fp: Writable) -> Iterator[Sink]:
    """What is to be written; a file of a path appears there when all of it has been written.

    A device or a named pipe is written to as it is.

    Args:
        fp: a path or a binary file.

    Raises:
        ConfigurationError: it is neither, or the path cannot be written.
    """
    if not isinstance(fp, str | os.PathLike):
        sink = Sink(_method(fp, "write", "wb"))
        yield sink
        sink.flush()
        return
    path = Path(os.path.realpath(fp))  # a link stays one
    if path.exists() and not (path.is_file() or path.is_dir()):
        try:
            device = path.open("wb", buffering=0)
        except OSError as error:
            raise unwritable(error) from error
        with device:
            sink = Sink(device.write)
            yield sink
            sink.flush()
        return
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        msg = f"{str(path)!r} cannot be written ({os.strerror(error.errno or 0)}); check the path"
        raise ConfigurationError(msg) from error
    part = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            sink = Sink(file.write)
            yield sink
            sink.flush()
            _synced(file)
        try:
            if path.exists():
                shutil.copymode(path, part)  # otherwise it is for its owner alone: it is plain text
            part.replace(path)
        except OSError as error:
            raise unwritable(error) from error
    finally:
        part.unlink(missing_ok=True)


def _synced(file: IO[bytes]) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(error) from error


def _method(fp: object, name: str, mode: str) -> Callable[[Any], Any]:
    method: Callable[[Any], Any] | None = getattr(fp, name, None)
    if isinstance(fp, io.TextIOBase):
        raise ConfigurationError(_text_advice(mode))
    if not callable(method):
        msg = f"fp is a path or a file opened in binary mode ({mode!r}), not {type(fp).__name__}"
        raise ConfigurationError(msg)
    return method


def _text_advice(mode: str) -> str:
    return f"fp is a text file, and a chat's bytes would not survive it; open it in binary mode: open(path, {mode!r})"


class Spool:
    """Lines of one chat on their way, in memory or, when they are many, in a temporary file."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 — closed by __exit__
        self.size = 0
        """Bytes of the lines."""

    def put(self, body: bytes) -> None:
        """Keep a line.

        Args:
            body: without its end.
        """
        try:
            self._file.write(body)
            self._file.write(b"\n")
        except OSError as error:
            msg = "the folder for temporary files cannot be written; make room, or name another one in TMPDIR"
            raise StorageError(msg) from error
        self.size += len(body) + 1

    def clear(self) -> None:
        """Forget the lines."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        """The lines, from the first."""
        self._file.seek(0)
        for line in self._file:
            yield line[:-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
