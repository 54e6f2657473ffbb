"""From a row and the environment to an endpoint."""

from __future__ import annotations

import httpx
import pytest

from nodellm_orm.config import Environment
from nodellm_orm.domain.messages import Origin
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.providers.endpoint import Endpoint, resolve
from nodellm_orm.providers.row import KeyRule, ProviderRow
from nodellm_orm.providers.rows import ANTHROPIC, OPENAI, OPENAI_COMPATIBLE
from nodellm_orm.transport import HttpPool

KEY = "sk-test-0123456789"


def reached(row: ProviderRow, variables: dict[str, str] | None = None, **given: object) -> Endpoint:
    """The endpoint that a row gives in an environment."""
    return resolve(row, environment=Environment.of(variables or {}), **given)  # type: ignore[arg-type] # names are checked by the tests


async def sent(row: ProviderRow, variables: dict[str, str] | None = None, **given: object) -> httpx.Request:
    """The request that leaves for a row's endpoint."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        endpoint = reached(row, variables, **{"base_url": "https://host/v1", **given})
        transport = endpoint.transport(HttpPool(http_client=client))
        async with transport.open(WireRequest(path="/things", body=b"{}"), timeout=Timeout()) as response:
            assert [chunk async for chunk in response.chunks()] == [b"{}"]
        await transport.aclose()
    return requests[0]


@pytest.mark.parametrize(
    ("row", "base_url", "api", "model"),
    [
        (OPENAI, "https://api.openai.com/v1", "openai_responses", "gpt-5-mini"),
        (ANTHROPIC, "https://api.anthropic.com", "anthropic", "claude-haiku-4-5"),
    ],
)
def test_a_key_is_all_it_takes(row: ProviderRow, base_url: str, api: str, model: str) -> None:
    """With a key, a row gives the provider's own address, its default format and a default model."""
    endpoint = reached(row, api_key=KEY)
    assert (endpoint.base_url, endpoint.api, endpoint.default_model) == (base_url, api, model)
    assert endpoint.wire.name == api
    assert endpoint.origin("m") == Origin(provider=row.name, api=api, endpoint=base_url, model="m")


async def test_openai_sends_a_bearer_key_and_the_organization() -> None:
    """OpenAI's key goes out as a bearer token, organization and project in headers of their own."""
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-env", "OPENAI_PROJECT_ID": "proj-env"}
    request = await sent(OPENAI, variables, options={"project": "proj-own"})
    assert request.url.path == "/v1/things"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["openai-organization"] == "org-env"
    assert request.headers["openai-project"] == "proj-own"


@pytest.mark.parametrize(
    ("variables", "api_key", "headers"),
    [
        ({"ANTHROPIC_API_KEY": "env-key"}, None, {"x-api-key": "env-key"}),
        ({"ANTHROPIC_API_KEY": "env-key"}, "own-key", {"x-api-key": "own-key"}),
        ({"ANTHROPIC_AUTH_TOKEN": "env-token"}, None, {"authorization": "Bearer env-token"}),
        ({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t"}, None, {"x-api-key": "k"}),
    ],
)
async def test_anthropic_sends_exactly_one_credential(
    variables: dict[str, str], api_key: str | None, headers: dict[str, str]
) -> None:
    """The given key wins over the environment's, the key over the token, and only one of them is sent."""
    request = await sent(ANTHROPIC, variables, api_key=api_key)
    assert {
        name: request.headers[name] for name in ("x-api-key", "authorization") if name in request.headers
    } == headers


@pytest.mark.parametrize("api_key", [None, ""])
async def test_a_foreign_server_never_gets_the_key_of_openai(api_key: str | None) -> None:
    """A compatible server gets the key that was meant for it, or none."""
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://api.openai.com/v1"}
    request = await sent(OPENAI_COMPATIBLE, variables, api_key=api_key)
    assert "authorization" not in request.headers
    assert KEY not in f"{request.headers.raw} {request.url!r}"
    own = await sent(OPENAI_COMPATIBLE, {"OPENAI_COMPATIBLE_API_KEY": "theirs"})
    assert own.headers["authorization"] == "Bearer theirs"


def test_an_empty_key_that_was_given_is_no_key() -> None:
    """An empty key is not replaced by another one from the environment."""
    with pytest.raises(ConfigurationError, match="no API key for openai: set OPENAI_API_KEY, or pass api_key"):
        reached(OPENAI, {"OPENAI_API_KEY": KEY}, api_key="")


@pytest.mark.parametrize(
    ("row", "names"),
    [(OPENAI, "OPENAI_API_KEY"), (ANTHROPIC, "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN")],
)
def test_a_missing_key_is_named(row: ProviderRow, names: str) -> None:
    """Without a key the message names the variables that are looked at."""
    with pytest.raises(ConfigurationError, match=f"no API key for {row.name}: set {names}, or pass api_key"):
        reached(row)


@pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}\r\nx-evil: 1", f"{KEY}é", f"{KEY}\x00", " "])
def test_a_malformed_key_is_named_and_not_shown(value: str) -> None:
    """A key that cannot be sent is an error that names its variable or argument and shows nothing of it."""
    for given, name in (({"api_key": value}, "api_key"), ({}, "OPENAI_API_KEY")):
        with pytest.raises(ConfigurationError, match=name) as caught:
            reached(OPENAI, {"OPENAI_API_KEY": value}, **given)
        assert KEY not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_no_text_of_an_endpoint_holds_the_key() -> None:
    """Neither ``repr`` nor ``str`` shows a key, in headers or in the query."""
    endpoint = reached(OPENAI_COMPATIBLE, api_key=KEY, base_url="https://host/v1?code=hidden-1")
    assert KEY not in f"{endpoint!r} {endpoint}"
    assert "hidden-1" not in f"{endpoint!r} {endpoint}"


async def test_a_query_of_the_base_url_goes_along_with_every_request() -> None:
    """What a gateway wants in the query is sent, and is no part of the endpoint's scope."""
    request = await sent(OPENAI_COMPATIBLE, base_url="https://host/v1?api-version=1")
    assert request.url.raw_path == b"/v1/things?api-version=1"
    assert reached(OPENAI_COMPATIBLE, base_url="https://host/v1?a=b").base_url == "https://host/v1"


@pytest.mark.parametrize(
    ("given", "variables", "base_url"),
    [
        ("https://Proxy.example/v1/", {}, "https://proxy.example/v1"),
        ("http://127.0.0.1:8000", {"OPENAI_BASE_URL": "https://env/v1"}, "http://127.0.0.1:8000"),
        (None, {"OPENAI_BASE_URL": "https://env/v1 "}, "https://env/v1"),
        (None, {"OPENAI_BASE_URL": ""}, "https://api.openai.com/v1"),
    ],
)
def test_the_given_address_wins_over_the_environments(
    given: str | None, variables: dict[str, str], base_url: str
) -> None:
    """An address comes from the argument, else from the environment, else from the row; it ends without a slash."""
    assert reached(OPENAI, variables, base_url=given, api_key=KEY).base_url == base_url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000/v1",
        "ftp://host/v1",
        "https://",
        "https:///v1",
        "https://host:notaport/v1",
        "https://host:0/v1",
        "https://user:hunter22@host/v1",
        "https://hunter22@host/v1",
        "https://host/v1#hunter22",
        "https://host/v 1?hunter22",
        "https://host/v1\nx",
        "https://[hunter22/v1",
    ],
)
def test_a_malformed_address_is_named_and_not_shown(url: str) -> None:
    """An address that cannot be used, or that holds a password, is an error that does not repeat it."""
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        reached(OPENAI, api_key=KEY, base_url=url)
    assert "hunter22" not in str(caught.value)
    if url:
        with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL"):
            reached(OPENAI, {"OPENAI_BASE_URL": url}, api_key=KEY)


def test_a_compatible_server_has_to_be_named() -> None:
    """Without an address the message says how to give one."""
    with pytest.raises(ConfigurationError, match=r"pass base_url.*or set OPENAI_COMPATIBLE_BASE_URL"):
        reached(OPENAI_COMPATIBLE)


@pytest.mark.parametrize(
    ("api", "name"),
    [
        (None, "openai_responses"),
        ("responses", "openai_responses"),
        ("openai_responses", "openai_responses"),
        ("chat", "openai_chat"),
        ("openai_chat", "openai_chat"),
    ],
)
def test_a_format_has_a_long_and_a_short_name(api: str | None, name: str) -> None:
    """The wire format is chosen by either of its names, and stored by the long one."""
    assert reached(OPENAI, api=api, api_key=KEY).api == name


def test_an_unknown_format_is_refused() -> None:
    """A format that the provider does not speak is an error that lists those it speaks."""
    with pytest.raises(ConfigurationError, match="openai does not speak api='grpc'; it speaks: responses, chat"):
        reached(OPENAI, api="grpc", api_key=KEY)


def test_an_unknown_option_is_refused() -> None:
    """A misspelt option is an error that lists the provider's own."""
    with pytest.raises(ConfigurationError, match="no option organisation; its own options are: organization, project"):
        reached(OPENAI, api_key=KEY, options={"organisation": "x"})
    with pytest.raises(ConfigurationError, match="its own options are: none"):
        reached(ANTHROPIC, api_key=KEY, options={"project": "x"})


def test_an_option_that_cannot_be_sent_is_refused() -> None:
    """A line break in an option does not become a header."""
    with pytest.raises(ConfigurationError, match="openai-project"):
        reached(OPENAI, api_key=KEY, options={"project": "a\r\nx-evil: 1"})


def test_profiles_of_the_user_win() -> None:
    """The profiles given with the client are on top of the provider's."""
    endpoint = reached(OPENAI, api_key=KEY, profiles={"gpt-5": {"sampling": True}})
    assert endpoint.profile("gpt-5-mini").sampling
    assert not reached(OPENAI, api_key=KEY).profile("gpt-5-mini").sampling


async def test_a_key_may_have_a_header_of_its_own() -> None:
    """A rule without a scheme sends the bare key in its header."""
    row = ProviderRow(
        name="mine",
        dialects=OPENAI.dialects,
        keys=(KeyRule(env="MINE", header="x-mine", scheme=None),),
        headers={"x-a": "b"},
    )
    request = await sent(row, {"MINE": KEY})
    assert (request.headers["x-mine"], request.headers["x-a"]) == (KEY, "b")
