"""What a provider is: a row of facts, with room for the little behaviour some of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nodellm_orm.config import Environment
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.ports.wire import WireFormat
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.profiles import ProfileTable
    from nodellm_orm.transport import HttpPool, Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A wire format that a provider speaks, and what its models accept in it."""

    wire: WireFormat
    profiles: ProfileTable
    alias: str | None = None
    """A shorter word for it in ``api=``, besides the format's own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """Where a key comes from and how it is sent."""

    env: str | None = None
    """Environment variable that holds it."""
    header: str = "authorization"
    """Header that carries it, in lower case."""
    scheme: str | None = "Bearer"
    """Word before the key; ``None`` sends the bare key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOption:
    """An option of ``create_llm`` that goes out as a header."""

    option: str
    header: str
    env: str | None = None
    """Environment variable that is read when the option is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """What is known when a provider is asked where it is."""

    row: ProviderRow
    environment: Environment
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    model: str | None = None
    """The client's model, where it has one."""
    api: str = ""
    """Name of the wire format that is spoken there."""
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Options of ``create_llm`` that the row names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where requests go, and what goes with each of them."""

    base_url: str
    """Without key and query: also the scope in which a provider's opaque state is valid."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    secret_headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    query: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    default_model: str | None = None
    """Used instead of the row's, where the place decides which models there are."""
    embedding_model: str | None = None
    """Likewise, for embeddings."""
    options: Mapping[str, object] | None = None
    """What ``connect`` has to know; ``None`` hands on the options that were given."""


Locate: TypeAlias = Callable[[Inquiry], Place]
Connect: TypeAlias = "Callable[[Endpoint, HttpPool], Transport]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One provider.

    Most are data only. One whose address is made of several options (Azure) brings its own ``locate``; one whose
    requests are signed (Bedrock) or whose server has to be started first (``local``) brings its own ``connect``.
    """

    name: str
    dialects: tuple[Dialect, ...]
    """The wire formats it speaks, the default one first."""
    base_url: str | None = None
    """Its address, as its official SDK takes it; ``None`` when only the user can know."""
    base_url_env: str | None = None
    """Environment variable that overrides the address."""
    keys: tuple[KeyRule, ...] = ()
    """Kinds of keys in order of preference; an explicit ``api_key`` is of the first kind."""
    key_required: bool = True
    default_model: str | None = None
    embedding_model: str | None = None
    """The model that makes vectors of texts when none is named."""
    embeds: bool = True
    """Whether it has embeddings, where its wire format has them."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Sent with every request; names in lower case."""
    header_options: tuple[HeaderOption, ...] = ()
    options: frozenset[str] = frozenset()
    """Further options of ``create_llm`` that ``locate`` or ``connect`` understand."""
    locate: Locate | None = None
    """Finds the address and the key; ``None`` takes them from this row."""
    connect: Connect | None = None
    """Makes the transport; ``None`` is plain HTTP."""

    @property
    def option_names(self) -> frozenset[str]:
        """Every option of ``create_llm`` that is this provider's own."""
        return self.options | {option.option for option in self.header_options}
