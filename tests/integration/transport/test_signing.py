"""Signed requests: what a server receives proves who sent it, and nothing shows what it was proved with."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import (
    AuthenticationError,
    ConfigurationError,
    NodeLLMError,
    ProviderConnectionError,
    ProviderTimeoutError,
)
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.providers.aws import AwsIdentity, AwsKeys, AwsSigner
from nodellm_orm.testing import LoopbackServer, Reset, Stall, json_answer
from nodellm_orm.transport import Secret
from nodellm_orm.transport.signing import Signature, SignedTransport, Unsigned
from tests.integration.transport.calls import SAFETY, call, left_in
from tests.integration.transport.sigv4 import proven
from tests.integration.transport.test_secrecy import everything_logged, shown_by

if TYPE_CHECKING:
    from pathlib import Path

    from nodellm_orm.transport import HttpPool
    from nodellm_orm.transport.signing import Signer

KEY_ID = "AKIDCANARY0123456789"
SECRET = "wJalrCanary/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luCanary///token=="
REGION = "eu-west-3"
CHAT = WireRequest(
    path="/model/arn%3Aaws%3Abedrock%3Aeu-west-3%3A1%3Ainference-profile%2Feu.a.b-v1%3A0/converse",
    body='{"messages":[{"role":"user","content":[{"text":"é\\ud83d"}]}]}'.encode(),
    headers={"content-type": "application/json"},
)


def signer(*, token: str | None = None, profile: str | None = None, keys: bool = True) -> AwsSigner:
    """A signer with the canary for keys, or with those that a profile has."""
    given = AwsKeys(
        access_key_id=Secret(KEY_ID),
        secret_access_key=Secret(SECRET),
        session_token=None if token is None else Secret(token),
    )
    return AwsSigner(
        AwsIdentity(region=REGION, service="bedrock", keys=given if keys and profile is None else None, profile=profile)
    )


def transport(url: str, pool: HttpPool, by: Signer | None = None, **options: Any) -> SignedTransport:
    return SignedTransport(url, signer=by or signer(), pool=pool, **options)


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any: no variables, no files, no role; gives the folder of its configuration file."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


@pytest.mark.parametrize("path", ["", "/gate way/bedrock%20x", "/a?tenant=b%20c&a=1"])
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_server_finds_the_signature_right(pool: HttpPool, path: str, token: str | None) -> None:
    """It fits the path, query, headers and body that arrive, escapes and all, and covers the caller's headers."""
    own = {"X-Amzn-Bedrock-Trace": "ENABLED", "x-spaced": "a   b"}
    async with LoopbackServer([json_answer({})]) as server:
        to = transport(f"{server.url}{path}", pool, signer(token=token), headers={"x-gateway": "g"})
        assert await call(to, CHAT, headers=own) == (200, b"{}")
    (request,) = server.requests
    assert request.body == CHAT.body
    assert request.path.startswith(path.partition("?")[0].replace(" ", "%20") + CHAT.path)
    covered = proven(request, key_id=KEY_ID, secret=SECRET, region=REGION)
    mine = ["content-type", "host", "x-amz-date", "x-amzn-bedrock-trace", "x-gateway", "x-spaced"]
    assert covered == sorted([*mine, *(["x-amz-security-token"] if token else [])])
    assert request.headers.get("x-amz-security-token") == token


async def test_every_attempt_is_signed_anew(pool: HttpPool) -> None:
    """Two attempts have two moments, or at least two signatures that are both right."""
    async with LoopbackServer([json_answer({}), json_answer({})]) as server:
        to = transport(server.url, pool)
        await call(to, CHAT)
        await call(to, WireRequest(method="GET", path="/other", body=b""))
    for request in server.requests:
        proven(request, key_id=KEY_ID, secret=SECRET, region=REGION)
    assert len({request.headers["authorization"] for request in server.requests}) == 2


@pytest.mark.usefixtures("no_credentials")
async def test_the_callers_own_authorization(pool: HttpPool) -> None:
    """Who brings his own goes unsigned, and needs no credentials."""
    async with LoopbackServer([json_answer({})]) as server:
        await call(transport(server.url, pool, signer(keys=False)), CHAT, headers={"Authorization": "Bearer mine"})
    assert server.requests[0].headers["authorization"] == "Bearer mine"
    assert "x-amz-date" not in server.requests[0].headers


async def test_nothing_shows_a_key(pool: HttpPool) -> None:
    """No log, no error and no representation has the secret, the token or the signature in it."""

    async def echo(request: Any) -> Any:
        told = f"The Canonical String should have been {request.headers['x-amz-security-token']} {TOKEN} {SECRET}"
        return json_answer({"message": told, "signature": request.headers["authorization"]}, status=403)

    with everything_logged() as lines:
        async with LoopbackServer(echo) as server:
            to = transport(server.url, pool, signer(token=TOKEN))
            status, body = await call(to, CHAT)
            signed = server.requests[0].headers["authorization"]
        broken = await _failed(transport("http://127.0.0.1:9", pool, signer(token=TOKEN)))
    assert status == 403
    seen = "\n".join([*lines, body.decode(), repr(to), shown_by(broken), repr(signer(token=TOKEN))])
    assert TOKEN not in seen
    assert signed.rpartition("=")[2] not in seen
    # The secret is not part of any request: the server above knows it from elsewhere.
    assert SECRET not in seen.replace(body.decode(), "")


async def _failed(to: SignedTransport, timeout: Timeout | None = None) -> NodeLLMError:
    try:
        async with asyncio.timeout(SAFETY), to.open(CHAT, timeout=timeout or Timeout()):
            pass
    except NodeLLMError as error:
        return error
    pytest.fail("the call ended well")


@pytest.mark.usefixtures("no_credentials")
async def test_no_credentials_at_all(pool: HttpPool) -> None:
    """Where there are none anywhere, the error says where they could be; nothing is sent."""
    async with LoopbackServer() as server:
        error = await _failed(transport(server.url, pool, signer(keys=False)))
    assert type(error) is ConfigurationError
    for word in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "aws_profile"):
        assert word in str(error)
    assert not server.requests


def _process(folder: Path, *, lives: str, fails: bool = False) -> None:
    """A profile whose keys a program prints, with a number in them that grows with each run."""
    counter, script = folder / "runs", folder / "keys.py"
    script.write_text(
        "import json, sys, datetime, pathlib\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "runs = int(counter.read_text()) + 1 if counter.exists() else 1\n"
        "counter.write_text(str(runs))\n"
        f"{f'sys.exit({SECRET!r})' if fails else ''}\n"
        f"end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta({lives})\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId={KEY_ID!r} + str(runs), SecretAccessKey={SECRET!r},"
        f" SessionToken={TOKEN!r}, Expiration=end.isoformat())))\n"
    )
    (folder / "config").write_text(f"[profile work]\ncredential_process = {sys.executable} {script}\n")


async def test_keys_are_renewed_before_they_expire(pool: HttpPool, no_credentials: Path) -> None:
    """Keys that live on are kept, those that end soon are fetched again, away from the event loop."""
    for lives, runs in (("hours=3", ["1", "1"]), ("minutes=5", ["2", "3"])):
        (no_credentials / "runs").unlink(missing_ok=True)
        _process(no_credentials, lives=lives)
        async with LoopbackServer([json_answer({}), json_answer({})]) as server:
            to = transport(server.url, pool, signer(profile="work"))
            for _ in range(2):
                await call(to, CHAT)
        for request, run in zip(server.requests, runs, strict=True):
            proven(request, key_id=f"{KEY_ID}{run}", secret=SECRET, region=REGION)
            assert request.headers["x-amz-security-token"] == TOKEN


async def test_refused_keys_are_looked_for_again(pool: HttpPool, no_credentials: Path) -> None:
    """After a refusal the next attempt reads again what may have been renewed meanwhile."""
    _process(no_credentials, lives="hours=3")
    async with LoopbackServer([json_answer({}, status=403), json_answer({})]) as server:
        to = transport(server.url, pool, signer(profile="work"))
        assert [(await call(to, CHAT))[0] for _ in range(2)] == [403, 200]
    proven(server.requests[1], key_id=f"{KEY_ID}2", secret=SECRET, region=REGION)


async def test_ways_in_which_credentials_fail(pool: HttpPool, no_credentials: Path) -> None:
    """A profile that is not there, a program that fails and a service that is away are errors without foreign words."""
    _process(no_credentials, lives="hours=3", fails=True)
    config = no_credentials / "config"
    config.write_text(config.read_text() + "[profile half]\naws_access_key_id = x\n")
    for profile, cls in (("gone", ConfigurationError), ("half", ConfigurationError), ("work", AuthenticationError)):
        error = await _failed(transport("http://127.0.0.1:9", pool, signer(profile=profile)))
        assert type(error) is cls
        assert SECRET not in shown_by(error)
        assert error.__context__ is None
    config.write_text("not a configuration\n")
    assert type(await _failed(transport("http://127.0.0.1:9", pool, signer(keys=False)))) is ConfigurationError


@pytest.mark.usefixtures("no_credentials")
async def test_a_place_of_credentials_that_cannot_be_reached(pool: HttpPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's endpoint that does not answer is worth another try."""
    async with LoopbackServer() as server:
        port = server.port
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
    error = await _failed(transport("http://127.0.0.1:9", pool, signer(keys=False)))
    assert type(error) is ProviderConnectionError
    assert error.retryable


@dataclass
class Slow:
    """A signer that waits until it is let go."""

    go: threading.Event = field(default_factory=threading.Event)
    threads: list[int] = field(default_factory=list)

    def sign(self, request: Unsigned) -> Signature:
        """Wait."""
        self.threads.append(threading.get_ident())
        self.go.wait(SAFETY)
        return Signature(headers={"x-signed": request.url}, secret_headers={})

    def refused(self) -> None:
        """Nothing."""


async def test_looking_for_credentials_has_a_limit_and_a_thread(pool: HttpPool) -> None:
    """The event loop goes on meanwhile, and the attempt's limit holds."""
    by = Slow()
    try:
        async with LoopbackServer() as server:
            error = await _failed(transport(server.url, pool, by), Timeout(total=0.05))
        assert type(error) is ProviderTimeoutError
        assert "credentials" in str(error)
        assert by.threads != [threading.get_ident()]
    finally:
        by.go.set()


async def test_what_signing_took_is_part_of_the_limit(pool: HttpPool) -> None:
    """The request has what is left: an endpoint that never answers ends it."""
    by = Slow()
    by.go.set()
    async with LoopbackServer([[Stall()]]) as server:
        error = await _failed(transport(server.url, pool, by), Timeout(total=0.2))
    assert type(error) is ProviderTimeoutError
    assert len(by.threads) == 1


async def test_leaving_and_closing(pool: HttpPool) -> None:
    """A broken connection and a closed transport leave nothing behind."""
    async with LoopbackServer([[Reset()], [Stall()]]) as server:
        to = transport(server.url, pool)
        assert type(await _failed(to)) is ProviderConnectionError
        waiting = asyncio.create_task(_failed(to))
        await server.until_received(2)
        await to.aclose()
        assert isinstance(await waiting, NodeLLMError)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.parametrize("name", ["x y", "content-length"])
async def test_headers_that_cannot_be_sent(pool: HttpPool, name: str) -> None:
    """The caller's own headers are checked as everywhere."""
    async with LoopbackServer() as server:
        with pytest.raises(ConfigurationError):
            await call(transport(server.url, pool), CHAT, headers={name: "1"})


def test_the_signature_of_a_known_request() -> None:
    """A request whose signature others have computed gets the same one."""
    identity = AwsIdentity(
        region="us-east-1",
        service="bedrock",
        keys=AwsKeys(
            access_key_id=Secret("AKIDEXAMPLE"),
            secret_access_key=Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        ),
    )
    moment = time.strptime("2026-11-22T12:00:00", "%Y-%m-%dT%H:%M:%S")
    signed = AwsSigner(identity, now=lambda: moment).sign(
        Unsigned(
            method="POST",
            url="https://bedrock-runtime.us-east-1.amazonaws.com"
            "/model/us.anthropic.claude-opus-4-5-20251101-v1%3A0/converse",
            headers={"content-type": "application/json"},
            body=json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode(),
        )
    )
    assert signed.headers == {"x-amz-date": "20261122T120000Z"}
    assert signed.secret_headers["authorization"].reveal() == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=73874d42bc123c487043e7bfbdc6dc49af1687d14e57954002e24ad475970b0a"
    )
