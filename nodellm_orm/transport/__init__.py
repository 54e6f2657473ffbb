"""The transport: httpx to bytes, its errors to ours, the only holder of keys."""

from __future__ import annotations

from nodellm_orm.transport.headers import check_headers
from nodellm_orm.transport.http import HttpTransport
from nodellm_orm.transport.pool import HttpPool
from nodellm_orm.transport.secrets import Secret, check_key, redact

__all__ = ["HttpPool", "HttpTransport", "Secret", "check_headers", "check_key", "redact"]
