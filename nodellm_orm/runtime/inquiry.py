"""Single questions outside of chats: how many tokens a request has, which models there are, the vectors of texts.

No row is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

from nodellm_orm.errors import ProtocolError, ProviderError, UnsupportedFeatureError
from nodellm_orm.ports.wire import Embedder, ModelLister, TokenCounter
from nodellm_orm.runtime.redaction import without_keys
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nodellm_orm.domain.catalogue import ListedModel
    from nodellm_orm.domain.embeddings import Embedded
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import Transport, WireRequest, WireResponse
    from nodellm_orm.ports.wire import EmbeddingRequest, ModelRequest, WireFormat
    from nodellm_orm.runtime.exchange import Engine

T = TypeVar("T")

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
    """Where single questions to one endpoint are put.

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

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._provider

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
        counter = self._wire
        return await self._ask(counter.count_request(request), lambda body, _: counter.counted(body))

    async def models(self) -> tuple[ListedModel, ...]:
        """The models that the provider says it has.

        Raises:
            UnsupportedFeatureError: the provider has no such list.
            ProviderError: it did not answer.
        """
        if not isinstance(self._wire, ModelLister):
            msg = f"{self._provider} has no list of models ({self._wire.name}); its documentation names them"
            raise UnsupportedFeatureError(msg)
        lister = self._wire
        found: dict[str, ListedModel] = {}
        after: str | None = None
        for _ in range(_MAX_PAGES):
            page, following = await self._ask(lister.list_request(after), lambda body, _: lister.listed(body))
            found |= {model.id: model for model in page}
            if following is None or following == after:
                return tuple(found.values())
            after = following
        msg = f"the list of models of {self._provider} does not end; check base_url"
        raise ProtocolError(msg, provider=self._provider)

    async def embed(self, request: EmbeddingRequest) -> tuple[Embedded, str | None]:
        """The vectors of the texts of one request, and the provider's id of it.

        Args:
            request: what is asked; its texts fit into one request.

        Raises:
            UnsupportedFeatureError: the provider has no embeddings in this format.
            ProviderError: it did not answer.
        """
        embedder, request_id = self._wire, self._wire.request_id
        if not isinstance(embedder, Embedder):
            msg = f"{self._provider} has no embeddings ({embedder.name}); use a provider that has, such as openai"
            raise UnsupportedFeatureError(msg)

        def read(body: bytes, headers: Mapping[str, str]) -> tuple[Embedded, str | None]:
            answer = embedder.embedded(body, headers, request)
            return answer, request_id(headers) or answer.answer_id

        try:
            return await self._ask(embedder.embed_request(request), read)
        except ProviderError as error:
            error.model = error.model or request.model
            raise

    async def _ask(self, request: WireRequest, read: Callable[[bytes, Mapping[str, str]], T]) -> T:
        attempt = 1
        while True:
            try:
                return await self._once(request, read)
            except ProviderError as error:
                error.provider = error.provider or self._provider
                delay = delay_before_next(
                    self._engine.retry, error, attempt=attempt, delivered=False, chance=self._engine.chance()
                )
                if delay is None:
                    raise
            attempt += 1
            await self._engine.clock.sleep(delay)

    async def _once(self, request: WireRequest, read: Callable[[bytes, Mapping[str, str]], T]) -> T:
        async with self._transport.open(request, timeout=self._timeout, headers=self._headers) as response:
            try:
                return read(await self._body(response), response.headers)
            except ProviderError as error:
                without_keys(error, response)
                error.status = error.status or response.status
                error.request_id = error.request_id or self._wire.request_id(response.headers)
                raise

    async def _body(self, response: WireResponse) -> bytes:
        pieces: list[bytes] = []
        async for chunk in response.chunks():
            response.content_seen()
            pieces.append(chunk)
        body = b"".join(pieces)
        if response.status not in _SUCCESS:
            raise self._wire.failure(response.status, response.headers, body)
        return body
