"""Where the official clients accept what is broken, or hang: what is sent, what they do, and what must happen here.

How the SDKs behave (openai 3.54, anthropic 2.12, time limit 3 s, one retry) was observed once and is written down;
what this package does is found out by doing it, in every wire format.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nodellm_orm import NodeLLMError, RetryPolicy, Timeout
from nodellm_orm.testing import (
    EVENT_STREAM,
    Close,
    LoopbackServer,
    Pause,
    Reset,
    Send,
    Stall,
    gzip_answer,
    json_answer,
    sse_answer,
    text_answer,
)
from nodellm_orm.testing.answers import body_answer, cut, head
from tests.acceptance.speakers import ALL_APIS, Says, Speaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nodellm_orm.testing import Answer, ReceivedRequest
    from nodellm_orm.testing.answers import Step

BEGIN: Final = "<!-- clients: python -m tests.acceptance.sdk_faults -->"
END: Final = "<!-- end of clients -->"
PAGE_OF_FAULTS: Final = Path(__file__).parents[2] / "docs" / "clients-compared.md"
How: TypeAlias = Literal["ask", "stream"]
SAFETY: Final = 30.0
"""Seconds after which a test gives up: nothing here comes near it."""
LIMITS: Final = Timeout(first_byte=0.4, idle=0.4, total=1.2)
LINE: Final = Says(text="Once upon a time there was a turtle.", usage=(11, 7))
PAGE: Final = "<!doctype html><title>Sign in</title><p>Your proxy wants a word."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that a server does wrong."""

    label: str
    what: str
    how: How
    sdks: str
    """What the official clients were seen to do."""
    answer: Callable[[Speaker], Answer]
    expected: frozenset[str]
    """Classes of errors that say it rightly."""


def _streamed(speaker: Speaker, chunks: Iterable[bytes | Step], *, terminated: bool = True) -> Answer:
    types = {"bedrock": EVENT_STREAM, "ollama": "application/x-ndjson"}
    kind = types.get(speaker.api, "text/event-stream; charset=utf-8")
    return sse_answer(chunks, content_type=kind, terminated=terminated)


def _events(speaker: Speaker) -> list[bytes]:
    return speaker.events(LINE)


def _half(speaker: Speaker) -> list[bytes]:
    events = _events(speaker)
    return events[: max(1, len(events) // 2)]


def _torn(speaker: Speaker) -> list[bytes]:
    """All of the first half, and the half of one more event."""
    events = _events(speaker)
    middle = max(1, len(events) // 2)
    return [*events[:middle], events[middle][: len(events[middle]) // 2]]


def _spoiled(speaker: Speaker, find: bytes, put: bytes) -> list[bytes]:
    """Every event from the middle on with other bytes in it, framing aside."""
    events = _events(speaker)
    middle = max(1, len(events) // 2)
    return [*events[:middle], *(event.replace(find, put) for event in events[middle:])]


def _silence(speaker: Speaker) -> Answer:
    return _streamed(speaker, [*_half(speaker), Stall()])


def _pings(speaker: Speaker) -> Answer:
    ping = b"\n" if speaker.api == "ollama" else b": ping\n\n"
    return _streamed(speaker, [*_half(speaker), *(step for _ in range(400) for step in (ping, Pause(0.05)))])


def _drip(speaker: Speaker) -> Answer:
    whole = b"".join(_events(speaker))
    # Never silent for as long as `idle`, and not done before `total`.
    return _streamed(speaker, [step for byte in whole for step in (bytes([byte]), Pause(0.2))])


def _whole(speaker: Speaker) -> Answer:
    return json_answer(speaker.body(LINE))


FAULTS: Final = (
    Fault(
        label="A11",
        what="a stream that ends without its terminal event",
        how="stream",
        sdks="both give the piece as an answer",
        answer=lambda speaker: _streamed(speaker, _half(speaker)),
        expected=frozenset({"StreamInterruptedError"}),
    ),
    Fault(
        label="A12",
        what="a stream cut within an event",
        how="stream",
        sdks="half an event is dropped, the rest is an answer",
        answer=lambda speaker: _streamed(speaker, _torn(speaker)),
        expected=frozenset({"StreamInterruptedError"}),
    ),
    Fault(
        label="A13",
        what="the connection breaks in the middle of a stream",
        how="stream",
        sdks="an error of the HTTP library comes through",
        answer=lambda speaker: _streamed(speaker, [*_half(speaker), Reset()], terminated=False),
        expected=frozenset({"StreamInterruptedError"}),
    ),
    Fault(
        label="A14",
        what="an event that is no JSON",
        how="stream",
        sdks="an error of the JSON library comes through, or the event is ignored",
        answer=lambda speaker: _streamed(speaker, _spoiled(speaker, b'":', b'"=')),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A15",
        what="bytes that are no UTF-8",
        how="stream",
        sdks="`UnicodeDecodeError` comes through",
        answer=lambda speaker: _streamed(speaker, _spoiled(speaker, b'"', b'"\xff')),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A19",
        what="HTTP 200 with a web page for a stream",
        how="stream",
        sdks="an empty answer, or `AssertionError`",
        answer=lambda _: body_answer(PAGE.encode(), content_type="text/html"),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A08",
        what="silence in the middle of a stream",
        how="stream",
        sdks="a timeout, of the HTTP library's kind for one of them",
        answer=_silence,
        expected=frozenset({"ProviderTimeoutError"}),
    ),
    Fault(
        label="A09",
        what="pings for ever",
        how="stream",
        sdks="no timeout: read for as long as they come",
        answer=_pings,
        # In a framed stream a ping is no ping but damage.
        expected=frozenset({"ProviderTimeoutError", "ProtocolError"}),
    ),
    Fault(
        label="A10",
        what="a byte now and then",
        how="stream",
        sdks="no timeout: over a minute was seen",
        answer=_drip,
        expected=frozenset({"ProviderTimeoutError"}),
    ),
    Fault(
        label="A06",
        what="the connection ends within a body",
        how="ask",
        sdks="retried",
        answer=lambda speaker: cut(_whole(speaker), after=len(_head_of(_whole(speaker))) + 40, then=Close()),
        expected=frozenset({"ProviderConnectionError"}),
    ),
    Fault(
        label="A20",
        what="HTTP 200 with an error object",
        how="ask",
        sdks="an answer without choices",
        answer=lambda _: json_answer({"error": {"message": "The server is overloaded.", "type": "server_error"}}),
        expected=frozenset({"ServerError", "OverloadedError", "ProtocolError", "ProviderError"}),
    ),
    Fault(
        label="A21",
        what="HTTP 200 with a web page",
        how="ask",
        sdks="the page's text is the answer",
        answer=lambda _: text_answer(PAGE, content_type="text/html"),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A22",
        what="an empty body",
        how="ask",
        sdks="an error of the JSON library comes through",
        answer=lambda _: body_answer(b"", content_type="application/json"),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A22",
        what="the body `null`",
        how="ask",
        sdks="`None` is the answer",
        answer=lambda _: json_answer(None),
        expected=frozenset({"ProtocolError"}),
    ),
    Fault(
        label="A25",
        what="gzip without its end",
        how="ask",
        sdks="accepted",
        answer=lambda speaker: gzip_answer(_body_of(_whole(speaker)), damage="truncated"),
        expected=frozenset({"ProviderConnectionError"}),
    ),
    Fault(
        label="A26",
        what="a body of 100 MB",
        how="ask",
        sdks="read into memory",
        answer=lambda _: [Send(head(content_type="application/json")), Send(b" " * (1 << 20), times=100)],
        expected=frozenset({"ProtocolError", "ProviderConnectionError"}),
    ),
)


def _body_of(answer: Answer) -> bytes:
    return b"".join(step.data for step in answer if isinstance(step, Send)).partition(b"\r\n\r\n")[2]


def _head_of(answer: Answer) -> bytes:
    return b"".join(step.data for step in answer if isinstance(step, Send)).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


async def outcome(fault: Fault, speaker: Speaker) -> str:
    """The class of the error that comes of a fault.

    Args:
        fault: what the server does.
        speaker: in which format.
    """
    answer = fault.answer(speaker)

    async def handle(_: ReceivedRequest) -> Answer:
        return answer

    async with LoopbackServer(handle) as server:
        once = RetryPolicy(max_attempts=1)
        async with asyncio.timeout(SAFETY), speaker.llm(server, retry=once, timeout=LIMITS) as llm:
            chat = llm.chat()
            try:
                if fault.how == "ask":
                    await chat.ask("Tell me a story.")
                else:
                    async with chat.stream("Tell me a story.") as stream:
                        async for _chunk in stream:
                            pass
                        await stream.reply()
            except NodeLLMError as error:
                return type(error).__name__
    return "an answer"


async def outcomes() -> dict[str, Mapping[str, str]]:
    """What comes of every fault by format."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for fault in FAULTS:
        for api in ALL_APIS:
            found[fault.what][api] = await outcome(fault, Speaker(api))
    return dict(found)


def table(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The lines of the table.

    Args:
        found: what came of every fault by format.
    """
    lines = ["| | what the server does | official SDKs | here |", "|---|---|---|---|"]
    for fault in FAULTS:
        by_class: dict[str, list[str]] = defaultdict(list)
        for api, name in found[fault.what].items():
            by_class[name].append(api)
        usual = max(by_class, key=lambda name: len(by_class[name]))
        others = [f"{name} ({', '.join(apis)})" for name, apis in by_class.items() if name != usual]
        lines.append(f"| {fault.label} | {fault.what} | {fault.sdks} | {', '.join([usual, *others])} |")
    return lines


def written(page: str, found: Mapping[str, Mapping[str, str]]) -> str:
    """The page with the table in it.

    Args:
        page: as it is, with the marks between which the table stands.
        found: what came of every fault by format.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return "".join([before, begin, "\n\n", "\n".join(table(found)), "\n\n", end, after])


if __name__ == "__main__":
    PAGE_OF_FAULTS.write_text(written(PAGE_OF_FAULTS.read_text("utf-8"), asyncio.run(outcomes())), "utf-8")
