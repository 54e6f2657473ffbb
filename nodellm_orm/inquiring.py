"""Single questions to a client's provider outside of chats: what its models are, and texts as vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.opening import check_names
from nodellm_orm.ports.wire import EmbeddingRequest
from nodellm_orm.providers.catalogue import info_of
from nodellm_orm.runtime.embedding import checked_dimensions, checked_texts, chosen_model, embeddings_of
from nodellm_orm.runtime.inquiry import Desk
from nodellm_orm.runtime.refusals import refuse_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.catalogue import ListedModel, ModelInfo
    from nodellm_orm.domain.embeddings import Embeddings
    from nodellm_orm.providers.prices import GenaiPrices
    from nodellm_orm.reach import Reach
    from nodellm_orm.runtime.exchange import Engine


class Inquiring:
    """The questions of a client that are no conversation; none of them writes a row.

    Args:
        reach: its providers and models.
        engine: clock, ids and policies.
        prices: of its models.
    """

    def __init__(self, reach: Reach, engine: Engine, prices: GenaiPrices) -> None:
        """Keep the parts."""
        self._reach = reach
        self._engine = engine
        self._prices = prices

    def model_info(self, model: str | None = None) -> ModelInfo:
        """What is known of a model, from its profile and the price list; nobody is asked.

        Args:
            model: its name at this provider; this client's own when omitted.

        Raises:
            ConfigurationError: no model is named, and there is no default.
        """
        check_names(None, model=model)
        reached = self._reach.model(None, model, None)
        return info_of(reached.origin, reached.profile, self._prices)

    async def list_models(self) -> tuple[ListedModel, ...]:
        """The models that the provider says it has, in its order.

        Raises:
            UnsupportedFeatureError: it has no such list.
            ProviderError: it did not answer.
        """
        endpoint, transport = self._reach.to(self._reach.provider)
        desk = Desk(endpoint.provider, endpoint.wire, transport, self._engine, timeout=self._engine.timeout)
        return await desk.models()

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: Timeout | float | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Embeddings:
        """Texts as vectors of numbers, in the order of the texts.

        As many requests are sent as the provider's limits ask for, a few at a time. Fallbacks have no part in it: the
        vectors of two models cannot be compared.

        Args:
            texts: one text, or a sequence of them; for an empty sequence nothing is sent.
            model: the model; by default the client's own, where its name has ``embed`` in it, or else the provider's.
            dimensions: the length that vectors should have, where the model has several.
            timeout: limits of each request, or seconds in total.
            params: raw members of every request.

        Raises:
            ConfigurationError: a text is empty or no text, or no model is named and there is no default.
            UnsupportedFeatureError: the provider has no embeddings, or the model no vectors of that length.
            ProviderError: it did not answer; a `ProtocolError` where what it answered is no vector for each text.

        Example:
            >>> found = await llm.embed(["one text", "another"])  # doctest: +SKIP
            >>> found.vectors[0][:2], found.usage.input_tokens  # doctest: +SKIP
            ((0.0192, -0.0645), 3)
        """
        given, length = checked_texts(texts), checked_dimensions(dimensions)
        check_names(None, model=model)
        if params is not None:
            refuse_params(params)
        endpoint, transport = self._reach.to(self._reach.provider)
        if not endpoint.embeds:
            msg = f"{endpoint.provider} has no embeddings; use a provider that has, such as openai, gemini or mistral"
            raise UnsupportedFeatureError(msg)
        name = chosen_model(
            model, own=self._reach.named_model, default=endpoint.embedding_model, provider=endpoint.provider
        )
        request = EmbeddingRequest(
            texts=given, model=name, profile=endpoint.profile(name), dimensions=length, params=dict(params or {})
        )
        limits = self._engine.timeout if timeout is None else Timeout.of(timeout)
        desk = Desk(endpoint.provider, endpoint.wire, transport, self._engine, timeout=limits)
        return await embeddings_of(desk, request, self._prices)
