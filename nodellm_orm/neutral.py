"""The neutral interface, given and taken: two clients that have it, and whatever has it behind a chat.

The two clients keep to its rules to the letter: a single tool is forced, 4096 tokens unless told otherwise, and only a
429 is tried again, after ``base_ms`` doubled with each attempt. Behind `create_chat` they run as their providers do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast
from weakref import WeakValueDictionary

from nodellm_orm.creating import create_llm
from nodellm_orm.domain.policies import RetryPolicy, Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.llm import LLM
from nodellm_orm.ports.llm import LLMClient
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.exchange import Engine
from nodellm_orm.runtime.foreign import ForeignModel, provider_of
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.oneshot import complete

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import httpx

    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool
    from nodellm_orm.runtime.model import Model

MAX_TOKENS: Final = 4096
_TOO_MANY: Final = 429
_RETRY: Final = RetryPolicy(max_attempts=4, base_ms=1000, jitter=False)


class ChatSource(Protocol):
    """What can answer the chats of a database; a class of another module derives from it to be known as one."""

    @property
    def host(self) -> Host:
        """Runs their turns."""
        ...

    @property
    def timeout(self) -> Timeout:
        """Limits where a chat names none."""
        ...

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask."""
        ...


class _ProviderClient:
    """What the two clients share."""

    def __init__(self, llm: LLM, retry: RetryPolicy | Mapping[str, int] | None, clock: Clock | None) -> None:
        self._llm = llm
        self._retry = _policy(retry)
        self._engine = replace(llm.host.engine, clock=clock) if clock is not None else llm.host.engine

    @property
    def llm(self) -> LLM:
        """The provider's client behind this one."""
        return self._llm

    def __repr__(self) -> str:
        """Provider and address, and no key."""
        return f"<{type(self).__name__} over {self._llm!r}>"

    async def complete(
        self,
        *,
        model: str,
        messages: Sequence[LLMMessage],
        system: str | None = None,
        tools: Sequence[LLMTool] | None = None,
        max_tokens: int | None = None,
    ) -> LLMCompleteResult:
        """Answer the messages.

        Args:
            model: the model to ask.
            messages: texts of user and assistant.
            system: how it should behave.
            tools: what it may call; a single one has to be called.
            max_tokens: of the answer, 4096 when omitted.

        Raises:
            ProviderError: the provider failed; a 429 only after the last attempt.
        """
        return await complete(
            self._llm.model(None, model, None),
            engine=self._engine,
            timeout=self._llm.timeout,
            messages=messages,
            system=system,
            tools=tools,
            max_tokens=MAX_TOKENS if max_tokens is None else max_tokens,
            decide=self._decide,
        )

    def _decide(self, error: ProviderError, attempt: int) -> float | None:
        if error.status != _TOO_MANY or attempt >= self._retry.max_attempts:
            return None
        seconds: float = self._retry.base_ms * 2 ** (attempt - 1) / 1000
        return seconds

    async def aclose(self) -> None:
        """Close the connections."""
        await self._llm.aclose()

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()


class AnthropicLLMClient(_ProviderClient):
    """Anthropic behind the neutral interface.

    Args:
        api_key: the key; from ``ANTHROPIC_API_KEY`` when omitted.
        retry: attempts in all and the first delay, for 429 only: a `RetryPolicy`, or a mapping with ``max_attempts``
            (4) and ``base_ms`` (1000).
        base_url: the address, without ``/v1``.
        http_client: an httpx client to use; it is not closed by us.
        clock: waits between attempts; for tests.

    Raises:
        ConfigurationError: the key is missing or malformed; names the variable.

    Example:
        >>> client = AnthropicLLMClient(api_key="sk-ant-…")
        >>> result = await client.complete(model="claude-haiku-4-5", messages=[LLMMessage(role="user", content="Hi")])
        >>> result.text
        'Hello!'
    """

    def __init__(
        self,
        api_key: str | None = None,
        retry: RetryPolicy | Mapping[str, int] | None = None,
        *,
        base_url: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Find the key; nothing is sent."""
        super().__init__(
            create_llm("anthropic", api_key=api_key, base_url=base_url, http_client=http_client), retry, clock
        )


class OpenAILLMClient(_ProviderClient):
    """OpenAI, or a server that speaks its Chat Completions, behind the neutral interface.

    Args:
        api_key: the key; from ``OPENAI_API_KEY`` when omitted.
        base_url: the address, with ``/v1``.
        retry: attempts in all and the first delay, for 429 only: a `RetryPolicy`, or a mapping with ``max_attempts``
            (4) and ``base_ms`` (1000).
        http_client: an httpx client to use; it is not closed by us.
        clock: waits between attempts; for tests.

    Raises:
        ConfigurationError: the key is missing or malformed; names the variable.

    Example:
        >>> client = OpenAILLMClient(base_url="http://localhost:8000/v1", api_key="none")
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        retry: RetryPolicy | Mapping[str, int] | None = None,
        *,
        http_client: httpx.AsyncClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Find the key; nothing is sent."""
        llm = create_llm("openai", api="chat", api_key=api_key, base_url=base_url, http_client=http_client)
        super().__init__(llm, retry, clock)


class ForeignSource:
    """Answers chats with a foreign client: every model that a chat names is asked of it.

    There is one for all the chats of a client that live at a time, so that they share a host; use `source_of`.
    """

    def __init__(self, client: LLMClient) -> None:
        """Wire the parts together.

        Args:
            client: anything with an async ``complete``.
        """
        self._client = client
        self.timeout = Timeout()
        engine = Engine(
            clock=SystemClock(),
            new_id=new_id,
            chance=random.random,
            prices=GenaiPrices(),
            retry=RetryPolicy(),
            timeout=self.timeout,
        )
        self.host = Host(engine, self)

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask; which provider the chat was held with before makes no difference.

        Args:
            provider: the chat's; one that is asked for, and that is without ``api``, has to be this client.
            model: its name; the client's own ``model`` when omitted.
            api: what the chat was held in.

        Raises:
            ConfigurationError: another provider is asked for, or no model is named.
        """
        own = provider_of(self._client)
        if api is None and provider not in {None, own}:
            msg = f"{own} is all that this client can ask, not {provider!r:.100}; load the chat with create_llm(...)"
            raise ConfigurationError(msg)
        name = model or getattr(self._client, "model", None)
        if not isinstance(name, str) or not name:
            msg = f"{type(self._client).__name__} has to be told which model to ask; pass model="
            raise ConfigurationError(msg)
        return ForeignModel(self._client, name, self.host.engine.clock)


_SOURCES: Final[WeakValueDictionary[int, ForeignSource]] = WeakValueDictionary()
"""By the identity of the client, which its source keeps alive: clients need be neither hashable nor weakly held."""


def source_of(llm: object) -> ChatSource:
    """What answers the chats of a client.

    Args:
        llm: made by `create_llm`, one of the two clients here, or anything with an async ``complete``.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(llm, LLM):
        return llm
    if isinstance(llm, _ProviderClient):
        return llm.llm
    if isinstance(llm, ForeignSource):
        return llm
    if ChatSource in type(llm).__mro__:
        return cast("ChatSource", llm)
    if not isinstance(llm, type) and isinstance(llm, LLMClient) and callable(llm.complete):
        return _SOURCES.get(id(llm)) or _SOURCES.setdefault(id(llm), ForeignSource(llm))
    hint = "; make one: pass the object, not its class" if isinstance(llm, type) else ""
    msg = (
        f"llm is a client made by create_llm(), or an object with `async complete(...)`, not "
        f"{llm.__name__ if isinstance(llm, type) else type(llm).__name__}{hint}"
    )
    raise ConfigurationError(msg)


def _policy(retry: RetryPolicy | Mapping[str, int] | None) -> RetryPolicy:
    """When a 429 is tried again.

    Raises:
        ConfigurationError: it says something else.
    """
    if retry is None:
        return _RETRY
    if isinstance(retry, RetryPolicy):
        return retry
    known = {"max_attempts", "base_ms"}
    if not isinstance(retry, Mapping) and all(hasattr(retry, name) for name in known):
        retry = {name: getattr(retry, name) for name in known}
    if not isinstance(retry, Mapping) or retry.keys() - known or not all(_whole(value) for value in retry.values()):
        msg = f"retry is a RetryPolicy, or a mapping with max_attempts and base_ms, not {retry!r:.100}"
        raise ConfigurationError(msg)
    given: dict[str, Any] = dict(retry)
    return RetryPolicy(**{"max_attempts": _RETRY.max_attempts, "base_ms": _RETRY.base_ms, "jitter": False, **given})


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
