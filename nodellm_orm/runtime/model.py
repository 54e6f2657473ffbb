"""One attempt at one model: render, send, read. Retries, rows and money are decided elsewhere."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import PartReceived, RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta, UsageReported
from nodellm_orm.errors import ProtocolError, ProviderError, RateLimitError
from nodellm_orm.runtime.inquiry import Desk
from nodellm_orm.runtime.redaction import without_keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.ratelimit import RateLimits
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.transport import Transport, WireRequest, WireResponse
    from nodellm_orm.ports.wire import ModelRequest, RenderCache, WireFormat
    from nodellm_orm.runtime.breaker import Circuit
    from nodellm_orm.runtime.exchange import Engine

    OnEvent: TypeAlias = Callable[[Event], Awaitable[None]]
    LimitsReader: TypeAlias = Callable[[Mapping[str, str]], RateLimits | None]

_SUCCESS = range(200, 300)
_HTML = "the endpoint answered with an HTML page instead of its protocol; check base_url and any proxy in between"


@dataclass(slots=True)
class Trace:
    """What is known of an attempt while it runs; still there when it fails or is cancelled."""

    began: float
    http_status: int | None = None
    request_id: str | None = None
    rate_limits: RateLimits | None = None
    first_token: float | None = None
    folded: Accumulator = field(default_factory=Accumulator)
    eventful: bool = False
    """Whether anything of the answer has arrived."""


class Model(Protocol):
    """A model behind some endpoint: what the loop calls."""

    @property
    def origin(self) -> Origin:
        """Provider, wire format, endpoint and model."""
        ...

    @property
    def profile(self) -> ModelProfile:
        """What it accepts."""
        ...

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Refuse what cannot be sent before anything is written; name the settings that will be left out."""
        ...

    def render(self, request: ModelRequest) -> WireRequest:
        """The exact request that would be sent, without host and key."""
        ...

    async def send(
        self,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: OnEvent,
    ) -> Completion:
        """Make one attempt.

        Raises:
            ProviderError: when it fails; ``trace`` keeps what had arrived.
        """
        ...


@dataclass(slots=True)
class HttpModel:
    """A model reached through a wire format over a transport."""

    origin: Origin
    profile: ModelProfile
    wire: WireFormat
    transport: Transport
    clock: Clock
    circuit: Circuit | None = None
    """Refuses requests while the endpoint keeps failing."""
    limits_of: LimitsReader | None = None
    """Reads rate limits from the headers of a response."""
    _checked: tuple[ModelRequest, WireRequest] | None = None
    """What `check` rendered, for the `send` that follows it."""

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Render once: whatever cannot be sent raises here."""
        self._checked = request, self.wire.render(request, cache)
        return self.wire.dropped(request)

    def _wire_request(self, request: ModelRequest, cache: RenderCache | None) -> WireRequest:
        checked, self._checked = self._checked, None
        if checked is not None and checked[0] is request:
            return checked[1]
        return self.wire.render(request, cache)

    def render(self, request: ModelRequest) -> WireRequest:
        """The exact request that would be sent, without host and key."""
        return self.wire.render(request)

    async def count(self, request: ModelRequest, *, engine: Engine, timeout: Timeout) -> int:
        """The tokens of a request (see `Countable`)."""
        desk = Desk(self.origin.provider, self.wire, self.transport, engine, timeout=timeout)
        return await desk.count(request)

    async def send(
        self,
        request: ModelRequest,
        *,
        cache: RenderCache | None,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: OnEvent,
    ) -> Completion:
        """Send exactly once and read the answer.

        Raises:
            CircuitOpenError: nothing was sent, for the endpoint failed too often just now.
        """
        wire_request = self._wire_request(request, cache)
        with self.circuit.passing(self.origin) if self.circuit is not None else nullcontext():
            return await self._exchange(request, wire_request, timeout, headers, trace, on_event)

    async def _exchange(
        self,
        request: ModelRequest,
        wire_request: WireRequest,
        timeout: Timeout,
        headers: Mapping[str, str],
        trace: Trace,
        on_event: OnEvent,
    ) -> Completion:
        try:
            async with self.transport.open(wire_request, timeout=timeout, headers=headers) as response:
                trace.http_status = response.status
                trace.request_id = self.wire.request_id(response.headers)
                trace.rate_limits = self.limits_of(response.headers) if self.limits_of is not None else None
                try:
                    return await self._read(request, response, trace, on_event)
                except ProviderError as error:
                    without_keys(error, response)
                    raise
        except ProviderError as error:
            self._name(error, trace)
            raise

    async def _read(self, request: ModelRequest, response: WireResponse, trace: Trace, on_event: OnEvent) -> Completion:
        if response.status not in _SUCCESS:
            raise self.wire.failure(response.status, response.headers, await _body(response))
        if _media_type(response) == "text/html":
            raise ProtocolError(_HTML, status=response.status)
        if request.stream and _media_type(response) != "application/json":
            return await self._read_stream(request, response, trace, on_event)
        completion = self.wire.parse(await _body(response), request.profile)
        trace.first_token = self.clock.monotonic()
        if request.stream:
            await _tell_whole(completion, trace, on_event)
        return completion

    async def _read_stream(
        self, request: ModelRequest, response: WireResponse, trace: Trace, on_event: OnEvent
    ) -> Completion:
        parser = self.wire.stream(request.profile)
        async with aclosing(_events(response, parser.feed, parser.close)) as events:
            async for event in events:
                if trace.first_token is None and _says_something(event):
                    trace.first_token = self.clock.monotonic()
                trace.eventful = True
                trace.folded.add(event)
                await on_event(event)
        return trace.folded.completion()

    def _name(self, error: ProviderError, trace: Trace) -> None:
        error.provider = error.provider or self.origin.provider
        error.model = error.model or self.origin.model
        error.request_id = error.request_id or trace.request_id or trace.folded.response_id
        error.status = error.status or trace.http_status
        if isinstance(error, RateLimitError):
            error.rate_limits = error.rate_limits or trace.rate_limits


def _says_something(event: Event) -> bool:
    """Whether it is a token of the answer; streams open with empty pieces."""
    match event:
        case TextDelta(text=text) | ThinkingDelta(text=text) | RefusalDelta(text=text):
            return bool(text)
        case ToolCallDelta() | PartReceived():
            return True
        case _:
            return False


async def _events(
    response: WireResponse, feed: Callable[[bytes], list[Event]], close: Callable[[], list[Event]]
) -> AsyncGenerator[Event]:
    async for chunk in response.chunks():
        events = feed(chunk)
        if events:
            response.content_seen()
        for event in events:
            yield event
        for event in feed(b""):  # an error that followed events in the same bytes is raised after them
            yield event
    for event in close():
        yield event


async def _body(response: WireResponse) -> bytes:
    pieces: list[bytes] = []
    async for chunk in response.chunks():
        response.content_seen()
        pieces.append(chunk)
    return b"".join(pieces)


def _media_type(response: WireResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _tell_whole(completion: Completion, trace: Trace, on_event: OnEvent) -> None:
    """A stream was asked for and a whole answer came: hand it on in one piece a part."""
    events: list[Event] = [PartReceived(index=index, part=part) for index, part in enumerate(completion.parts)]
    trace.eventful = True
    for event in (*events, UsageReported(usage=completion.usage)):
        trace.folded.add(event)
        await on_event(event)
