"""AWS Signature Version 4 written down once more, from its description, to check what arrives at a server."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.testing import ReceivedRequest

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)"
)


def signature(
    method: str, target: str, headers: Mapping[str, str], body: bytes, *, covered: list[str], scope: str, secret: str
) -> str:
    """The signature that a request should have.

    Args:
        method: of the request.
        target: path and query as they were sent.
        headers: names in lower case.
        body: as it was sent.
        covered: names of the headers that the signature covers.
        scope: day, region, service and the closing word, with slashes.
        secret: the secret key.
    """
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            "/".join(quote(segment, safe="") for segment in path.split("/")),
            "&".join(sorted(query.split("&"))) if query else "",
            *(f"{name}:{' '.join(headers[name].split())}" for name in covered),
            "",
            ";".join(covered),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    told = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.new(key, told.encode(), "sha256").hexdigest()


def proven(request: ReceivedRequest, *, key_id: str, secret: str, region: str, service: str = "bedrock") -> list[str]:
    """The headers that a received request's signature covers, once it has been found to be the right one.

    Args:
        request: as it arrived.
        key_id: the access key that should have been used.
        secret: its secret.
        region: where it should be valid.
        service: for what.
    """
    found = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    assert found is not None
    covered = found[5].split(";")
    assert (found[1], found[3], found[4]) == (key_id, region, service)
    assert request.headers["x-amz-date"].startswith(found[2])
    assert found[6] == signature(
        request.method,
        request.path,
        request.headers,
        request.body,
        covered=covered,
        scope=f"{found[2]}/{region}/{service}/aws4_request",
        secret=secret,
    )
    return covered
