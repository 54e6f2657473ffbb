"""Recorded provider traffic for tests: found by ``NODELLM_RECORDINGS``, never copied into the project."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

_CHECKOUT = Path(__file__).parents[3]
FOLDER = Path(os.environ.get("NODELLM_RECORDINGS") or _CHECKOUT.parent / "shared" / "recordings")

needs_recordings = pytest.mark.skipif(not FOLDER.is_dir(), reason="NODELLM_RECORDINGS names no folder")
"""Put on every test that reads recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One request and its response.

    Args:
        id: provider, scenario and place in it.
        scenario: provider and scenario.
        url: of the request.
        request: its body, ``None`` where that was not JSON.
        status: of the response.
        headers: of the response, names in lower case.
        body: of the response; JSON that was recorded as a value is written out again.
        streamed: whether the body was recorded as text of server-sent events.
    """

    id: str
    scenario: str
    url: str
    request: dict[str, Any] | None
    status: int
    headers: dict[str, str]
    body: bytes
    streamed: bool

    def __str__(self) -> str:
        return self.id


@cache
def interactions(provider: str, path_suffix: str) -> list[Interaction]:
    """The recorded interactions whose response was recorded too, in the order of scenario names.

    Args:
        provider: name of the provider's folder.
        path_suffix: end of the request's path, without its query.

    Returns:
        Nothing where the recordings are absent.
    """
    found: list[Interaction] = []
    for file in sorted((FOLDER / provider).glob("*.json")):
        for number, item in enumerate(json.loads(file.read_text("utf-8"))["interactions"]):
            response = item.get("response") or {}
            body = _bytes(response.get("body") or {})
            if not body or not urlsplit(item["request"]["url"]).path.endswith(path_suffix):
                continue
            sent = (item["request"].get("body") or {}).get("json")
            found.append(
                Interaction(
                    id=f"{provider}/{file.stem}#{number}",
                    scenario=f"{provider}/{file.stem}",
                    url=item["request"]["url"],
                    request=sent if isinstance(sent, dict) else None,
                    status=response["status"],
                    headers={name.lower(): _header(value) for name, value in (response.get("headers") or {}).items()},
                    body=body,
                    streamed=body.lstrip().startswith((b"data:", b"event:", b":")),
                )
            )
    return found


def _bytes(body: dict[str, Any]) -> bytes:
    if "json" in body:
        return json.dumps(body["json"], ensure_ascii=False).encode("utf-8", "surrogatepass")
    if "base64" in body:
        return base64.b64decode(body["base64"])
    return str(body.get("text", "")).encode("utf-8", "surrogatepass")


def _header(value: object) -> str:
    return str(value[0]) if isinstance(value, list) and value else str(value)
