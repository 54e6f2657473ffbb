"""One chat as people read it: turn by turn, then what each request took and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from nodellm_orm.domain.figures import NONE, count, duration, moment, money
from nodellm_orm.domain.printable import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from nodellm_orm.store.details import (
        AttachmentDetails,
        CallDetails,
        ChatDetails,
        MessageDetails,
        RequestDetails,
        ThinkingDetails,
        TurnDetails,
    )

_INDENT: Final = (0, 0, 0, 2)
_STYLES: Final = {
    "user": "bold cyan",
    "assistant": "bold green",
    "tool": "bold magenta",
    "system": "bold yellow",
}
_BAD: Final = frozenset({"failed", "interrupted", "unknown", "denied"})


def transcript(details: ChatDetails) -> Group:
    """The chat in full; everything a model or a user wrote is made harmless for a terminal.

    Args:
        details: the chat.
    """
    return Group(*_head(details), *_body(details), *_ledger(details))


def _head(details: ChatDetails) -> Iterator[RenderableType]:
    head = details.head
    yield Text(one_line(head.title or "Chat"), style="bold")
    yield Text(str(head.id), style="dim")
    facts = [one_line(f"{head.provider or NONE}/{head.model or NONE}")]
    if head.owner is not None:
        facts.append(f"owner {one_line(head.owner)}")
    if head.created_at is not None:
        facts.append(f"begun {moment(head.created_at)}")
    yield Text(" · ".join(facts), style="dim")
    for text in head.instructions:
        yield Text("instructions", style=_STYLES["system"])
        yield _block(text)


def _body(details: ChatDetails) -> Iterator[RenderableType]:
    turns = {turn.id: turn for turn in details.turns}
    shown: TurnDetails | None = None
    for message in details.messages:
        turn = turns.pop(message.turn_id, None) if message.turn_id is not None else None
        if turn is not None:
            yield from _ending(shown)
            shown = turn
            yield from _turn(turn)
        yield from _message(message)
    yield from _ending(shown)
    for turn in turns.values():  # of which no message was stored
        yield from _turn(turn)
        yield from _ending(turn)


def _turn(turn: TurnDetails) -> Iterator[RenderableType]:
    facts = [f"turn {turn.position + 1}", turn.status]
    if turn.reason not in {None, turn.status, "stop"}:
        facts.append(one_line(turn.reason or ""))
    if turn.seconds is not None:
        facts.append(duration(turn.seconds))
    if turn.takeovers:
        facts.append(f"carried on {_times(turn.takeovers)}")
    yield Text()
    yield Rule(Text(" · ".join(facts), style="red" if turn.status in _BAD else "default"), align="left", style="dim")


def _ending(turn: TurnDetails | None) -> Iterator[RenderableType]:
    if turn is not None and turn.error_message:
        yield Text(f"{turn.error_type}: {printable(turn.error_message)}", style="red")


def _message(details: MessageDetails) -> Iterator[RenderableType]:
    message = details.message
    label = Text(message.role, style=_STYLES[message.role])
    if names := [result.name for result in message.tool_results]:
        label.append(f" {one_line(', '.join(names))}", style="not bold")
    if message.status == "partial":
        label.append("  broken off", style="not bold red")
    if details.superseded_at is not None:
        label.append("  superseded", style="not bold dim")
    yield label
    for file in details.attachments:
        yield _attachment(file)
    for trace in details.thinking:
        yield _thinking(trace)
    if message.content:
        failed = any(result.is_error for result in message.tool_results)
        yield _block(message.content, "red" if failed else "default")
    if message.refusal:
        yield _block(f"refused: {message.refusal}", "red")
    for call in details.calls:
        yield from _call(call)


def _thinking(trace: ThinkingDetails) -> RenderableType:
    said = "(thinking that the provider hid)" if trace.redacted or not trace.text else trace.text
    tokens = "" if trace.tokens is None else f" [{count(trace.tokens)} tokens]"
    return _block(f"{said}{tokens}", "dim italic")


def _attachment(file: AttachmentDetails) -> RenderableType:
    size = None if file.size is None else f"{file.size:,} bytes"
    facts = (file.kind, file.name or file.url, file.media_type, size)
    return _block(f"⎘ {' · '.join(one_line(fact) for fact in facts if fact)}", "dim")


def _call(call: CallDetails) -> Iterator[RenderableType]:
    yield _block(f"→ {call.name}({call.arguments})")
    facts: list[str] = [call.status]
    if call.seconds is not None:
        facts.append(duration(call.seconds))
    if call.attempts > 1:
        facts.append(f"started {_times(call.attempts)}")
    if call.decided_by is not None:
        facts.append(f"decided by {one_line(call.decided_by)}")
    yield _block(f"  {' · '.join(facts)}", "red" if call.status in _BAD else "dim")
    if call.error is not None and call.error != call.result:
        yield _block(call.error, "red")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _block(text: str, style: str = "default") -> Padding:
    return Padding(Text(printable(text.rstrip("\n")), style=style, overflow="fold"), _INDENT, expand=False)


def _ledger(details: ChatDetails) -> Iterator[RenderableType]:
    if not details.requests:
        return
    numbers = {turn.id: turn.position + 1 for turn in details.turns}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("Turn", justify="right", no_wrap=True)
    table.add_column("Model", overflow="fold")
    table.add_column("Status", overflow="fold")
    for name in ("In", "Cached", "Out", "Cost", "First", "Time"):
        table.add_column(name, justify="right", no_wrap=True)
    for request in details.requests:
        table.add_row(*_request(request, numbers.get(request.turn_id) if request.turn_id else None))
    unpriced = sum(request.unpriced for request in details.requests)
    number = len(details.requests)
    yield Text()
    yield table
    cost = money(details.cost, unpriced=unpriced)
    yield Text(f"{number} request{'' if number == 1 else 's'}, cost {cost}", style="bold")


def _request(request: RequestDetails, turn: int | None) -> tuple[RenderableType, ...]:
    status: str = request.status
    if request.status != "ok":
        status = " ".join(str(fact) for fact in (request.status, request.http_status, request.error_type) if fact)
    usage = request.usage
    return (
        str(turn or NONE),
        Text(one_line(request.model or request.requested_model)),
        Text(one_line(status), style="red" if request.status in _BAD else "default"),
        count(usage.input_tokens),
        count(usage.cached_tokens),
        count(usage.output_tokens),
        money(request.cost, unpriced=int(request.unpriced)),
        duration(_in_seconds(request.first_token_ms)),
        duration(_in_seconds(request.latency_ms)),
    )


def _in_seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
