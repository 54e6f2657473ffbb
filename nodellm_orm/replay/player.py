"""A model that answers from a script: no provider, no network, no key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm import errors
from nodellm_orm.domain.events import (
    Finished,
    PartReceived,
    RefusalDelta,
    ResponseStarted,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from nodellm_orm.domain.jsontext import dumps, encode, loads
from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.parts import RefusalPart, TextPart, ThinkingPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import ConfigurationError, ProviderError, StreamInterruptedError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.replay.deviations import deviations, listed, remaining
from nodellm_orm.replay.differences import shown
from nodellm_orm.replay.saying import Sayings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.usage import Usage
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.replay.deviations import Compared
    from nodellm_orm.replay.script import Line, Script
    from nodellm_orm.runtime.model import OnEvent, Trace

_PIECE: Final = 16
"""Characters of a text that a stream gives at once."""
_PROFILE: Final = ModelProfile()


@dataclass(slots=True)
class Playing:
    """How far a script has been played, and what the answers cost that were given."""

    script: Script
    compare: tuple[Compared, ...]
    chat: str
    """The chat it is of, for people."""
    at: int = 0
    """Which line comes next."""
    costs: dict[int, tuple[Usage, Cost]] = field(default_factory=dict)
    """By the identity of the usage, which is kept here: the ledger asks for its price by that very value."""
    _sayings: Sayings = field(default_factory=Sayings)

    def line(self, request: ModelRequest) -> Line:
        """The line that a request is answered with.

        Args:
            request: about to be sent.

        Raises:
            ConfigurationError: there is none, or it was asked for by another request; says where they differ.
        """
        lines = self.script.lines
        if self.at >= len(lines):
            last = request.messages[-1] if request.messages else None
            now = f", and now comes ({last.role}) {shown(last.content)}" if last is not None else ""
            msg = (
                f"the record of chat {self.chat} has no answer left: all of its {len(lines)} were played{now}; ask "
                "less, or record a longer chat"
            )
            raise ConfigurationError(msg)
        line = lines[self.at]
        found = deviations(line, self.script.sent(line), request, self.compare, self._sayings)
        if found:
            msg = (
                f"the request differs from the record of chat {self.chat}, {line.place} "
                f"(answer {self.at + 1} of {len(lines)}):\n{listed(found)}\n"
                f"Change it back, or record the chat anew ({remaining(found, self.compare)} lets it pass)"
            )
            raise ConfigurationError(msg)
        return line

    def played(self, line: Line) -> None:
        """A line was given."""
        self.at += 1
        if line.answer is not None:
            self.costs[id(line.answer.usage)] = line.answer.usage, line.cost

    def cost(self, *, provider: str, model: str, usage: Usage, asked: str | None = None) -> Cost:
        """What an answer cost when it was recorded (see `PriceBook`)."""
        del provider, model, asked
        known = self.costs.get(id(usage))
        return UNKNOWN_COST if known is None else known[1]


@dataclass(frozen=True, slots=True)
class PlayedModel:
    """A `Model` that answers from a script.

    Args:
        origin: whom it stands for.
        playing: the script.
        clock: says when an answer came.
    """

    origin: Origin
    playing: Playing
    clock: Clock

    @property
    def profile(self) -> ModelProfile:
        """Nothing is refused that the recorded model has taken."""
        return _PROFILE

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """Compare the first request of a turn before anything of it is written.

        Raises:
            ConfigurationError: it differs from the recorded one.
        """
        del cache
        self.playing.line(request)
        return ()

    def render(self, request: ModelRequest) -> WireRequest:
        """What is compared, as JSON."""
        body = {
            "model": request.model,
            "settings": loads(request.settings.to_json()),
            "instructions": list(request.instructions),
            "tools": [tool.name for tool in request.tools],
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        }
        return WireRequest(path="/replay", body=encode(dumps(body)), stream=request.stream)

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
        """Give the next answer, in pieces when a stream is asked for.

        Raises:
            ConfigurationError: the request differs from the recorded one.
            ProviderError: the provider failed when this was recorded.
        """
        del cache, timeout, headers
        line = self.playing.line(request)
        self.playing.played(line)
        if line.request is not None:
            trace.http_status, trace.request_id = line.request.http_status, line.request.request_id
        if line.answer is None:
            raise self._failure(line)
        trace.first_token = self.clock.monotonic()
        trace.eventful = True
        for event in _events(line.answer):
            trace.folded.add(event)
            if request.stream and not isinstance(event, Finished):
                await on_event(event)
        if line.broken:
            msg = "the answer broke off here when it was recorded"
            raise StreamInterruptedError(msg, provider=self.origin.provider, model=self.origin.model, retryable=False)
        # Not what was folded: the answer is given as it was stored, to the last member of its parts.
        return line.answer

    def _failure(self, line: Line) -> ProviderError:
        """The error that was recorded."""
        request, turn = line.request, line.turn
        kind: Any = getattr(errors, (request.error_type if request is not None else None) or "", ProviderError)
        if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
            kind = ProviderError
        told = (turn.error_message if turn is not None else None) or "the provider failed"
        failure: ProviderError = kind(
            f"{told} (as recorded)",
            status=request.http_status if request is not None else None,
            provider=self.origin.provider,
            model=self.origin.model,
            request_id=request.request_id if request is not None else None,
            retryable=False,
        )
        return failure


def _events(answer: Completion) -> Iterator[Event]:
    yield ResponseStarted(model=answer.model)
    for index, part in enumerate(answer.parts):
        yield from _pieces(index, part)
        yield PartReceived(index=index, part=part)
    yield UsageReported(usage=answer.usage)
    yield Finished(reason=answer.finish_reason, raw=answer.raw_finish_reason)


def _pieces(index: int, part: Part) -> Iterator[Event]:
    if not isinstance(part, TextPart | ThinkingPart | RefusalPart):
        return
    for start in range(0, len(part.text), _PIECE):
        piece = part.text[start : start + _PIECE]
        match part:
            case TextPart():
                yield TextDelta(index=index, text=piece)
            case ThinkingPart():
                yield ThinkingDelta(index=index, text=piece)
            case RefusalPart():
                yield RefusalDelta(index=index, text=piece)
