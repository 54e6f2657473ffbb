"""The seam to the world outside: how the content behind a URL is fetched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nodellm_orm.domain.attachments import AttachmentPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a URL gave."""

    data: bytes = field(repr=False)
    url: str
    """Where it was in the end, after redirects."""
    media_type: str | None = None
    """As the server labels it; need not be true."""


class Fetcher(Protocol):
    """Fetches what is behind a URL that somebody else may have written."""

    async def fetch(self, url: str, policy: AttachmentPolicy) -> Fetched:
        """Fetch, within the policy's rules.

        Args:
            url: an http or https URL.
            policy: hosts, ports, addresses, bytes, seconds and redirects.

        Raises:
            AttachmentError: a rule forbids it, or it cannot be had.
        """
        ...
