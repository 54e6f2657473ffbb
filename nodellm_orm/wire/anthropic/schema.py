"""JSON Schemas in the subset that the Messages API accepts; Bedrock accepts the same one, so it lives beside both."""

from __future__ import annotations

from nodellm_orm.wire.constrained import closed

__all__ = ["closed"]
