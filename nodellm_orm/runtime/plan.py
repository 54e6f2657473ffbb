"""Everything about one turn that is decided before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from nodellm_orm.domain.windows import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.compaction import Compaction
    from nodellm_orm.runtime.fallback import Alternative
    from nodellm_orm.runtime.hooks import Hooks
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.revision import Revision
    from nodellm_orm.runtime.structured import StructuredSchema
    from nodellm_orm.runtime.toolbox import Toolbox

UnknownPolicy: TypeAlias = Literal["report", "retry", "fail"]
"""What `resume` does with a call that was running when its process died: tell the model, run it again, or raise."""
Planner: TypeAlias = "Callable[[ChatHead, Settings | None], Plan]"
"""Makes the plan for a chat's head; for a turn that is carried on, over the settings it was asked with."""
OnLimit: TypeAlias = Literal["return", "raise"]
Durability: TypeAlias = Literal["step", "turn"]
"""``step``: every point is a commit of its own. ``turn``: one commit at the beginning and one at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a turn is asked with."""

    model: Model
    settings: Settings
    toolbox: Toolbox
    hooks: Hooks
    worker: str
    """Names this process in the rows it holds."""
    lease: float
    """Seconds."""
    max_takeovers: int | None = None
    """How often a turn is taken over whose worker has died; ``None``: any number of times."""
    timeout: Timeout
    alternatives: tuple[Alternative, ...] = ()
    """Models that may be asked when this one cannot answer, in order."""
    instructions: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    """The user's message; empty when a turn is carried on."""
    compaction: Compaction | None = None
    """The summary that is asked for in place of an answer."""
    revision: Revision | None = None
    """What of the conversation the turn takes the place of; ``None``: it follows what is there."""
    stream: bool = False
    """Whether the answer is asked for as a stream."""
    schema: StructuredSchema | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    params: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    idempotency_key: str | None = None
    request_hash: str | None = None
    """Digest of what was asked under the key."""
    on_limit: OnLimit = "return"
    abandon_pending: bool = False
    """Go on although calls of the last turn wait for a decision."""
    unknown: UnknownPolicy = "report"
    interrupted: UUID | None = None
    """The only turn that is carried on, and only while it is interrupted."""
    durability: Durability = "step"
    checkpoint: float | None = None
    """Seconds after which the growing text of a stream is stored again; ``None``: with the answer only."""

    @property
    def reach(self) -> Window:
        """How much of the conversation has to be known."""
        anywhere = self.compaction is not None or (self.revision is not None and self.revision.edited is not None)
        return EVERYTHING if anywhere else self.settings.history_window or EVERYTHING
