"""What `verify` gives: findings, and how much was looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from uuid import UUID

Stage: TypeAlias = Literal["chats", "requests", "files", "texts"]
STAGES: Final[tuple[Stage, ...]] = ("chats", "requests", "files", "texts")
"""What is gone through, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not agree with another; no text of a conversation is in it."""

    chat_id: UUID | None
    """``None``: a file, a text or a request that belongs to no chat."""
    table: str
    """Name of the table."""
    id: str | None
    """Id of the row, or digest of a file or text; ``None`` when it is the row that is missing."""
    rule: str
    """A short name of what does not hold."""
    message: str
    """What was found."""

    def __str__(self) -> str:
        """One line."""
        where = f"{self.table} {self.id}" if self.id else self.table
        return f"{where}: {self.message} ({self.rule})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProgress:
    """How far `verify` has come."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` found.

    Example:
        >>> report = VerifyReport(chats=3)
        >>> report.ok, report.damaged
        (True, 0)
    """

    findings: tuple[Finding, ...] = ()
    """What is not as it should be; the first ``limit`` of them."""
    notes: tuple[Finding, ...] = ()
    """What is worth knowing and no damage: interrupted turns, words of a later release, chats that kept changing."""
    damaged: int = 0
    """Number of findings, also of those beyond the limit."""
    chats: int = 0
    """Chats looked at."""
    messages: int = 0
    turns: int = 0
    calls: int = 0
    requests: int = 0
    """Rows of the ledger."""
    files: int = 0
    """Contents of files whose digest was computed."""
    texts: int = 0
    """Instructions and tool schemas whose digest was computed."""

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return self.damaged == 0


@dataclass(slots=True, kw_only=True)
class Notebook:
    """Takes down what is found in one chat."""

    chat_id: UUID | None
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def damage(self, table: str, key: object, rule: str, message: str) -> None:
        """Something is not as it should be.

        Args:
            table: name of the table.
            key: id of the row, ``None`` when it is missing.
            rule: which rule does not hold.
            message: what was found.
        """
        self.findings.append(self._finding(table, key, rule, message))

    def note(self, table: str, key: object, rule: str, message: str) -> None:
        """Something is worth knowing; arguments as for `damage`."""
        self.notes.append(self._finding(table, key, rule, message))

    def _finding(self, table: str, key: object, rule: str, message: str) -> Finding:
        return Finding(
            chat_id=self.chat_id, table=table, id=None if key is None else str(key), rule=rule, message=message
        )


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts what was looked at, and keeps the first so many findings."""

    limit: int
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    damaged: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, **numbers: int) -> None:
        """Add to the counts."""
        for name, number in numbers.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def add(self, book: Notebook) -> None:
        """Take over what is in a notebook, as far as there is room."""
        self.damaged += len(book.findings)
        self.findings += book.findings[: self.limit - len(self.findings)]
        self.notes += book.notes[: self.limit - len(self.notes)]

    def report(self) -> VerifyReport:
        """What has been collected."""
        return VerifyReport(findings=tuple(self.findings), notes=tuple(self.notes), damaged=self.damaged, **self.counts)
