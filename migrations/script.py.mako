"""${message}."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
${imports if imports else ""}

if TYPE_CHECKING:
    from nodellm_orm.store.steps import Steps

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}


def upgrade(steps: Steps) -> None:
    """Expand: old code must go on working. Each step must stand being run again (MySQL commits each by itself)."""
    op = steps.op
    ${upgrades if upgrades else "pass"}


def downgrade(steps: Steps) -> None:
    """Go back."""
    op = steps.op
    ${downgrades if downgrades else "pass"}
