"""Questions about models, not to them: how many tokens a request has, which models there are. No row is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from nodellm_orm.errors import ProtocolError, ProviderError, UnsupportedFeatureError
from nodellm_orm.ports.wire import ModelLister, TokenCounter
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import Transport, WireRequest
    from nodellm_orm.ports.wire import ModelRequest, WireFormat
    from nodellm_orm.runtime.exchange import Engine

_SUCCESS: Final = range(200, 300)
_MAX_PAGES: Final = 200
"""No provider has so many models: a list that goes on beyond is a server that repeats itself."""


@runtime_checkable
class Countable(Protocol):
    """A model whose requests can be counted before they are sent."""

    async def count(self, request: ModelRequest, *, engine: Engine, timeout: Timeout) -> int:
        """The tokens of a request, as its provider counts them."""
        ...


class Desk:
    """Where questions about the models of one endpoint are put.

    Args:
        provider: its name.
        wire: its format.
        transport: sends.
        engine: clock and retry policy.
        timeout: limits of each attempt.
        headers: further headers.
    """

    def __init__(
        self,
        provider: str,
        wire: WireFormat,
        transport: Transport,
        engine: Engine,
        *,
        timeout: Timeout,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Wire the parts together; nothing is sent."""
        self._provider = provider
        self._wire = wire
        self._transport = transport
        self._engine = engine
        self._timeout = timeout
        self._headers = dict(headers or {})

    async def count(self, request: ModelRequest) -> int:
        """The tokens of a request, as the provider counts them.

        Args:
            request: what would be sent.

        Raises:
            UnsupportedFeatureError: the provider does not count in this format.
            ProviderError: it did not answer.
        """
        if not isinstance(self._wire, TokenCounter):
            msg = (
                f"{self._provider} does not count tokens ahead ({self._wire.name}); ask, and read reply.usage, or use "
                "a provider that counts: anthropic, gemini, openai or bedrock"
            )
            raise UnsupportedFeatureError(msg)
        return self._wire.counted(await self._ask(self._wire.count_request(request)))

    async def models(self) -> tuple[ListedModel, ...]:
        """The models that the provider says it has.

        Raises:
            UnsupportedFeatureError: the provider has no such list.
            ProviderError: it did not answer.
        """
        if not isinstance(self._wire, ModelLister):
            msg = f"{self._provider} has no list of models ({self._wire.name}); its documentation names them"
            raise UnsupportedFeatureError(msg)
        found: dict[str, ListedModel] = {}
        after: str | None = None
        for _ in range(_MAX_PAGES):
            page, following = self._wire.listed(await self._ask(self._wire.list_request(after)))
            found |= {model.id: model for model in page}
            if following is None or following == after:
                return tuple(found.values())
            after = following
        msg = f"the list of models of {self._provider} does not end; check base_url"
        raise ProtocolError(msg, provider=self._provider)

    async def _ask(self, request: WireRequest) -> bytes:
        attempt = 1
        while True:
            try:
                return await self._once(request)
            except ProviderError as error:
                error.provider = error.provider or self._provider
                delay = delay_before_next(
                    self._engine.retry, error, attempt=attempt, delivered=False, chance=self._engine.chance()
                )
                if delay is None:
                    raise
            attempt += 1
            await self._engine.clock.sleep(delay)

    async def _once(self, request: WireRequest) -> bytes:
        async with self._transport.open(request, timeout=self._timeout, headers=self._headers) as response:
            pieces: list[bytes] = []
            async for chunk in response.chunks():
                response.content_seen()
                pieces.append(chunk)
            body = b"".join(pieces)
            if response.status not in _SUCCESS:
                raise self._wire.failure(response.status, response.headers, body)
            return body
