"""A tool as a model sees it: a name, a description and a schema of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What is told to the model about one tool."""

    name: str
    description: str
    parameters: JsonText
    """JSON Schema of the arguments: an object schema, as text, so that its bytes never change."""
    strict: bool = False


AUTO = "auto"
NONE = "none"
REQUIRED = "required"
"""The words of ``tool_choice`` beside a tool's own name."""
