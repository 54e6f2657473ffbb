r"""What a `LoopbackServer` does with a request: answers written as steps, down to the bytes and the faults.

An answer is a sequence of steps. The builders write well-formed ones; `cut`, `slowly` and raw steps spoil them.

Example:
    >>> import asyncio
    >>> gate = asyncio.Event()
    >>> held = sse_answer([b"data: one\n\n", Hold(gate), b"data: two\n\n"])
    >>> cut(json_answer({"ok": True}), after=15, then=Reset())
    (Send(data=b'HTTP/1.1 200 OK', times=1), Reset())
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from nodellm_orm.domain.jsontext import dumps, encode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes, ``times`` times over."""

    data: bytes
    times: int = 1


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the gate opens, or until all parties have come to the barrier."""

    gate: asyncio.Event | asyncio.Barrier


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing more until the client leaves."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in the ordinary way (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off (RST)."""


Step: TypeAlias = Send | Hold | Pause | Stall | Close | Reset
Answer: TypeAlias = "Sequence[Step]"
GzipDamage: TypeAlias = Literal["garbage", "truncated", "checksum", "trailing"]


def head(status: int = 200, *, content_type: str | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """The first lines of a response, the empty line included.

    Args:
        status: HTTP status.
        content_type: value of ``content-type``; ``None`` leaves it out.
        headers: further headers, written as they are.
    """
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
"""What ends a chunked body."""


def body_answer(
    body: bytes,
    *,
    status: int = 200,
    content_type: str | None = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
    content_length: int | None = None,
) -> Answer:
    """A whole body with a ``content-length``.

    Args:
        body: the bytes after the head.
        status: HTTP status.
        content_type: value of ``content-type``.
        headers: further headers.
        content_length: what the header claims, when that is not the truth; the connection is then closed.
    """
    claimed = len(body) if content_length is None else content_length
    lines = head(status, content_type=content_type, headers={"content-length": str(claimed), **(headers or {})})
    sent = Send(lines + body)
    return (sent,) if content_length is None else (sent, Close())


def json_answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON body.

    Args:
        value: what is written as JSON.
        status: HTTP status.
        headers: further headers.
    """
    return body_answer(encode(dumps(value)), status=status, content_type="application/json", headers=headers)


def text_answer(
    text: str,
    *,
    status: int = 200,
    content_type: str = "text/plain; charset=utf-8",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A text body, such as the HTML page of a proxy.

    Args:
        text: the body.
        status: HTTP status.
        content_type: value of ``content-type``.
        headers: further headers.
    """
    return body_answer(text.encode(), status=status, content_type=content_type, headers=headers)


def sse_answer(
    chunks: Iterable[bytes | Step],
    *,
    status: int = 200,
    content_type: str = "text/event-stream; charset=utf-8",
    headers: Mapping[str, str] | None = None,
    terminated: bool = True,
) -> Answer:
    """A stream of events: every piece of bytes is one chunk on the wire.

    Args:
        chunks: pieces of the body; steps between them (`Hold`, `Reset` …) happen where they stand.
        status: HTTP status.
        content_type: value of ``content-type``.
        headers: further headers.
        terminated: ``False`` leaves out the end of the chunked body and closes the connection.
    """
    lines = head(status, content_type=content_type, headers={"transfer-encoding": "chunked", **(headers or {})})
    middle = [Send(frame(item)) if isinstance(item, bytes) else item for item in chunks if item != b""]
    end: tuple[Step, ...] = (Send(LAST_CHUNK),) if terminated else (Close(),)
    return (Send(lines), *middle, *end)


def gzip_answer(
    body: bytes,
    *,
    content_type: str = "application/json",
    status: int = 200,
    damage: GzipDamage | None = None,
) -> Answer:
    """A body in gzip, sound or damaged; the HTTP framing is always sound.

    Args:
        body: the body before compression.
        content_type: value of ``content-type``.
        status: HTTP status.
        damage: ``garbage`` is no gzip at all, ``truncated`` lacks the end, ``checksum`` has a wrong trailer,
            ``trailing`` is followed by other bytes.
    """
    packed = gzip.compress(body, mtime=0)
    match damage:
        case None:
            pass
        case "garbage":
            packed = b"this is not gzip: " + body
        case "truncated":
            packed = packed[:-8]
        case "checksum":
            packed = packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:])
        case "trailing":
            packed += b"and then some"
        case _:
            assert_never(damage)
    return body_answer(packed, status=status, content_type=content_type, headers={"content-encoding": "gzip"})


def gzip_bomb_answer(size: int, *, content_type: str = "application/json") -> Answer:
    """A small gzip body that unpacks to many zero bytes.

    Args:
        size: bytes after unpacking.
        content_type: value of ``content-type``.
    """
    pack = zlib.compressobj(level=9, wbits=zlib.MAX_WBITS | 16)
    block = bytes(1 << 16)
    whole, rest = divmod(size, len(block))
    packed = b"".join([pack.compress(block) for _ in range(whole)] + [pack.compress(block[:rest]), pack.flush()])
    return body_answer(packed, content_type=content_type, headers={"content-encoding": "gzip"})


def endless_answer(piece: bytes, *, content_type: str = "text/event-stream", times: int = 1 << 40) -> Answer:
    """The same chunk again and again, until the client leaves.

    Args:
        piece: one chunk of the body.
        content_type: value of ``content-type``.
        times: how many chunks.
    """
    lines = head(content_type=content_type, headers={"transfer-encoding": "chunked"})
    return (Send(lines), Send(frame(piece), times), Send(LAST_CHUNK))


def raw_answer(*data: bytes, then: Step | None = None) -> Answer:
    """Bytes as they stand, head included.

    Args:
        data: what is written, in order.
        then: a last step, such as `Close`.
    """
    return (*(Send(piece) for piece in data), *((then,) if then else ()))


def cut(answer: Answer, *, after: int, then: Step | None = None) -> Answer:
    """The same answer, broken off.

    Args:
        answer: an answer that sends each of its pieces once.
        after: bytes that are still sent, counted from the first of the head.
        then: what happens instead of the rest; `Close` by default.
    """
    kept: list[Step] = []
    left = after
    for step in answer:
        if not isinstance(step, Send):
            kept.append(step)
        elif len(step.data) < left:
            kept.append(step)
            left -= len(step.data)
        else:
            kept.append(Send(step.data[:left]))
            break
    return (*kept, then or Close())


def slowly(answer: Answer, *, pause: float = 0.01, size: int = 1) -> Answer:
    """The same bytes, a few at a time.

    Args:
        answer: an answer that sends each of its pieces once.
        pause: seconds between two writes.
        size: bytes a write.
    """
    steps: list[Step] = []
    for step in answer:
        if isinstance(step, Send):
            for at in range(0, len(step.data), size):
                steps += [Send(step.data[at : at + size]), Pause(pause)]
        else:
            steps.append(step)
    return tuple(steps)
