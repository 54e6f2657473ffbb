"""What an export and an import tell: how far they are, and what they have done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    Progress: TypeAlias = "Callable[[TransferProgress], None]"
    """Told after each chat, and each batch of the ledger."""

Stage: TypeAlias = Literal["chats", "ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far an export or import has come."""

    stage: Stage
    """``chats``, then ``ledger``: requests that belong to no chat any more, or never did."""
    chats: int
    """Chats that were gone through."""
    total: int | None
    """Chats in all; ``None`` where it is not known: a file is read once."""
    messages: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export has written."""

    chats: int = 0
    turns: int = 0
    messages: int = 0
    tool_calls: int = 0
    thinking: int = 0
    attachments: int = 0
    requests: int = 0
    """Rows of the ledger, those without a chat included."""
    texts: int = 0
    """Instructions and tool schemas."""
    blobs: int = 0
    """Contents of files."""
    missing: int = 0
    """Contents and texts that chats name and that are not stored; `verify` tells which."""
    size: int = 0
    """Bytes."""
    sha256: str | None = None
    """Digest of the file's lines, as its last one says; ``None`` for Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import has done."""

    chats: int = 0
    """Chats that were written; the numbers below are rows of these, and of the ledger without a chat."""
    turns: int = 0
    messages: int = 0
    tool_calls: int = 0
    thinking: int = 0
    attachments: int = 0
    requests: int = 0
    unchanged: int = 0
    """Chats that were there already, with the same in them."""
    kept: tuple[UUID, ...] = ()
    """Chats that were there with something else in them, and stay as they are (``on_conflict="skip"``)."""
    kept_requests: int = 0
    """Rows of the ledger, likewise."""


@dataclass(slots=True)
class Counts:
    """Counts rows, and tells whoever wants to know."""

    progress: Progress
    total: int | None = None
    seen: int = 0
    rows: Counter[str] = field(default_factory=Counter)

    def tell(self, stage: Stage) -> None:
        """Say how far it is.

        Args:
            stage: what is gone through.
        """
        total = None if self.total is None else max(self.total, self.seen)
        messages, requests = self.rows["messages"], self.rows["requests"]
        self.progress(TransferProgress(stage=stage, chats=self.seen, total=total, messages=messages, requests=requests))
