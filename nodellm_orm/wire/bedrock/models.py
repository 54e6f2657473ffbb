"""Names of models: the path a model is asked at, and which model it is behind the region it is asked in."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

_GEOGRAPHIES: Final = re.compile(
    r"(?:us-gov|us|eu|apac|ap|jp|au|ca|sa|in|me|af|il|mx|cn|kr|uk|global)\.(?=[a-z0-9-]+\.)"
)


def foundation_model(name: str) -> str:
    """The name of the model itself, without the geography that an inference profile answers in.

    Args:
        name: a model, an inference profile, or the ARN of one. The ARN of a profile of the user's own says nothing
            of the model and stays as it is.

    Example:
        >>> foundation_model("us.anthropic.claude-haiku-4-5-20251001-v1:0")
        'anthropic.claude-haiku-4-5-20251001-v1:0'
        >>> foundation_model("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0")
        'amazon.nova-lite-v1:0'
    """
    last = named_in(name)
    found = _GEOGRAPHIES.match(last.lower())
    return last[found.end() :] if found else last


def named_in(name: str) -> str:
    """The model or inference profile that an ARN names; any other name as it is.

    Args:
        name: as the user has it.
    """
    _, arn, last = name.rpartition("/")
    return last if arn and name.lower().startswith("arn:") and "." in last else name


def path_of(model: str, operation: str) -> str:
    """The path of an operation; a name with colons or slashes is one segment of it.

    Args:
        model: as the user has it.
        operation: last segment of the path.
    """
    return f"/model/{quote(model, safe='')}/{operation}"
