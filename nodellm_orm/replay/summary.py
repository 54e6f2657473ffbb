"""A summary that is asked for once, by however many processes replay the same chat at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodellm_orm.chat import Chat
from nodellm_orm.domain.windows import is_summary
from nodellm_orm.errors import ChatError

if TYPE_CHECKING:
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.plan import Plan, Planner


class SummaryThere(ChatError):  # noqa: N818 — a signal to the replay, never seen by users
    """Another process has made the summary since the chat was looked at."""


class SummarisedOnce(Chat):
    """A chat that has only so many summaries: a further one is refused while its turn takes the chat."""

    summaries: int = 0
    """How many it is to have, with the one that is asked for."""

    def _planner(self, *given: Any, **options: Any) -> Planner:
        """Look at the messages that the turn begins with: when it takes the chat, these are what is stored."""
        base = super()._planner(*given, **options)

        def plan(head: ChatHead, asked: Settings | None) -> Plan:
            if sum(is_summary(message) for message in self._chat.messages) >= self.summaries:
                msg = f"chat {self.id} has {self.summaries} summaries already"
                raise SummaryThere(msg)
            return base(head, asked)

        return plan
