"""Where the inspector reads: a database, its tables, and whose rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What every query of the inspector is given."""

    session: Any
    records: Records
    owner: Owner
