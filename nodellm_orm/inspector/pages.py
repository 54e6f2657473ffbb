"""The pages: which chats there are, one chat as a timeline, and what all of them cost and took."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.figures import duration, money
from nodellm_orm.inspector import queries
from nodellm_orm.inspector.contents import SAFE, identified
from nodellm_orm.inspector.overview import Overviews
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.reporting import charts
from nodellm_orm.store.browsing import STATES, find_chats
from nodellm_orm.store.glances import read_glances
from nodellm_orm.store.incidents import read_incidents
from nodellm_orm.store.timeline import PAGE, read_timeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from starlette.requests import Request
    from starlette.responses import Response

    from nodellm_orm.inspector.source import Source
    from nodellm_orm.inspector.templates import Templates
    from nodellm_orm.store.details import MessageDetails, RequestDetails, TurnDetails
    from nodellm_orm.store.timeline import Timeline

CHATS: Final = 50
"""Chats a page."""
SPANS: Final = (7, 30, 90)
"""Days that the overview may be about."""


class Pages:
    """Answers with pages.

    Args:
        source: where they are read.
        templates: what they look like.
    """

    def __init__(self, source: Source, templates: Templates) -> None:
        """Keep both."""
        self._source = source
        self._templates = templates
        self._overviews = Overviews(source)

    async def chats(self, request: Request) -> Response:
        """Which chats there are, newest first, with filters."""
        source = self._source
        typed = queries.given(request.query_params)
        wanted = queries.filters(typed, source.owner)
        after = request.query_params.get("after") or None
        found = await find_chats(source.session, wanted, limit=CHATS, after=after, records=source.records)
        ids = [chat.id for chat in found.chats]
        glances = await read_glances(source.session, ids, owner=wanted.owner, blind=True, records=source.records)
        return self._templates.response(
            request,
            "chats.html",
            found=found,
            glances=glances,
            typed=typed,
            limited=bool(typed),
            states=STATES,
            anybody=source.owner is ANY_OWNER,
            continued=after is not None,
        )

    async def chat(self, request: Request) -> Response:
        """One chat as a timeline."""
        source = self._source
        turn = queries.whole(request.query_params, "turn", otherwise=None)
        page = await read_timeline(
            source.session,
            identified(request, "chat_id"),
            owner=source.owner,
            first=queries.whole(request.query_params, "first", otherwise=0),
            turn=None if turn is None else max(turn - 1, 0),
            records=source.records,
        )
        last = page.first + len(page.messages)
        final = max(page.message_count - 1, 0) // PAGE * PAGE
        return self._templates.response(
            request,
            "chat.html",
            page=page,
            head=page.head,
            stretches=stretches(page),
            before=max(page.first - PAGE, 0) if page.first else None,
            after=last if last < page.message_count else None,
            final=final if last < page.message_count else None,
            last=last,
            safe=SAFE,
        )

    async def overview(self, request: Request) -> Response:
        """What all chats cost and took, and what went wrong."""
        source = self._source
        span = queries.whole(request.query_params, "days", otherwise=SPANS[0])
        span = span if span in SPANS else SPANS[0]
        incidents = await read_incidents(source.session, owner=source.owner, records=source.records)
        found = await self._overviews.of(span, incidents.read_at)
        return self._templates.response(
            request,
            "overview.html",
            span=span,
            spans=SPANS,
            incidents=incidents.latest,
            now=incidents.read_at,
            read_at=found.read_at,
            total=found.total,
            models=found.models,
            by_day=found.by_day,
            cost_chart=charts.columns(found.days, found.cost, lambda value: money(_decimal(value))),
            latency=charts.curves(found.days, found.latency, lambda value: duration(value / 1000)),
            outcomes=charts.columns(found.days, found.outcomes, charts.whole),
        )


def _decimal(value: float) -> Decimal:
    return Decimal(f"{value:.9f}").normalize()


# ── a chat's page ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, kw_only=True)
class Stretch:
    """What one turn has on a page; or messages that belong to no turn."""

    turn: TurnDetails | None
    carried_on: bool = False
    """Whether the turn began on an earlier page."""
    messages: list[MessageDetails] = field(default_factory=list)
    requests: list[RequestDetails] = field(default_factory=list)
    rounds: dict[UUID, int] = field(default_factory=dict)
    """Numbers of the model's answers, by message; none where the turn began on an earlier page."""
    by_message: dict[UUID, RequestDetails] = field(default_factory=dict)
    """The attempt that each answer came of."""


def stretches(page: Timeline) -> Sequence[Stretch]:
    """The messages of a page by turns, in their order; then the turns that have none.

    Args:
        page: of a chat.
    """
    turns = {turn.id: turn for turn in page.turns}
    found: list[Stretch] = []
    current: object = object()
    for message in page.messages:
        if message.turn_id != current:
            current = message.turn_id
            turn = None if message.turn_id is None else turns.get(message.turn_id)
            on = turn is not None and not found and turn.id == page.carried_on
            found.append(Stretch(turn=turn, carried_on=on))
        found[-1].messages.append(message)
    spoken = {message.turn_id for message in page.messages}
    found += [Stretch(turn=turn) for turn in page.turns if turn.id not in spoken]
    _with_requests(found, page.requests)
    return found


def _with_requests(found: Sequence[Stretch], requests: Sequence[RequestDetails]) -> None:
    by_turn = {stretch.turn.id: stretch for stretch in reversed(found) if stretch.turn is not None}
    for request in requests:
        stretch = by_turn.get(request.turn_id) if request.turn_id is not None else None
        if stretch is not None:
            stretch.requests.append(request)
    for stretch in found:
        stretch.by_message = {r.message_id: r for r in stretch.requests if r.message_id is not None}
        if stretch.turn is not None and not stretch.carried_on:
            answers = [message.id for message in stretch.messages if message.message.role == "assistant"]
            stretch.rounds = {answer: number for number, answer in enumerate(answers, 1)}
