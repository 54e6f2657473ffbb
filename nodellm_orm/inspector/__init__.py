"""A read-only web page on the stored chats: `create_inspector`, an ASGI application of its own or below a host's.

Raises:
    UnsupportedFeatureError: the packages it needs are not installed.
"""

from __future__ import annotations

from nodellm_orm.errors import UnsupportedFeatureError

try:
    from nodellm_orm.inspector.app import create_inspector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"jinja2", "starlette"}:
        raise
    _MESSAGE = f"the inspector needs {error.name}: pip install 'nodellm_orm[inspector]'"
    raise UnsupportedFeatureError(_MESSAGE) from error

__all__ = ["create_inspector"]
