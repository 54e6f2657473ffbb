"""Who gets into the inspector, and what every response tells the browser."""

from __future__ import annotations

import ast
import inspect
import re
import socket
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.applications import Starlette
from starlette.routing import Mount

from nodellm_orm import ConfigurationError, create_chat, create_llm, make_engine
from nodellm_orm.inspector import create_inspector, gate
from tests.acceptance.inspector.visits import HOST, TOKEN, Page, stranger, visitor
from tests.integration.databases import migrated_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    from sqlalchemy.ext.asyncio import AsyncEngine

PATHS = ("/", "/overview", "/static/inspector.css", "/static/inspector.js", "/static/icon.svg", "/nowhere", "/chats/x")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with the tables in it."""
    await migrated_file(tmp_path / "chats.db")
    engine = make_engine(f"sqlite:///{tmp_path}/chats.db")
    yield engine
    await engine.dispose()


@pytest.fixture
def app(engine: AsyncEngine) -> Starlette:
    """An inspector on it."""
    return create_inspector(engine, token=TOKEN)


def guarded(response: httpx.Response) -> None:
    """Every header that keeps a page from running, sending or showing anything elsewhere."""
    headers = response.headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "https:"} & set(" ".join(policy.values()).split())
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.fault("E20")
@pytest.mark.parametrize("path", PATHS)
async def test_without_the_token_there_is_one_sentence(app: Starlette, path: str) -> None:
    """Everything, also what is not there, is refused to a stranger in the same words."""
    async with stranger(app) as client:
        response = await client.get(path)

    assert response.status_code == 401
    assert response.text == f"{gate.UNINVITED}\n"
    guarded(response)


@pytest.mark.fault("E20")
@pytest.mark.parametrize("path", PATHS)
async def test_every_response_carries_the_headers(app: Starlette, path: str) -> None:
    """Pages, the inspector's own files and errors all come with the same policy."""
    async with visitor(app) as client:
        response = await client.get(path)

    assert response.status_code == (404 if path in {"/nowhere", "/chats/x"} else 200)
    guarded(response)


@pytest.mark.fault("E20")
async def test_the_token_becomes_a_cookie_and_leaves_the_address(app: Starlette) -> None:
    """The token is given once; the cookie that stands for it is not it, and no script or other site can use it."""
    async with stranger(app) as client:
        welcome = await client.get("/overview", params={"days": "7", "token": TOKEN})
        cookie = welcome.headers["set-cookie"]
        page = await client.get(Page.of(welcome).links()[0])

    assert Page.of(welcome).links() == ["/overview?days=7"]
    guarded(welcome)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    assert TOKEN not in welcome.text
    assert page.status_code == 200


@pytest.mark.fault("E20")
async def test_behind_tls_the_cookie_is_never_sent_without_it(app: Starlette) -> None:
    """A cookie that was given over HTTPS says so, a plain one on loopback does not."""
    for scheme in ("http", "https"):
        async with stranger(app) as client:
            cookie = (await client.get(f"{scheme}://{HOST}/", params={"token": TOKEN})).headers["set-cookie"]

        assert ("Secure" in cookie.split("; ")) == (scheme == "https")


@pytest.mark.fault("E20")
@pytest.mark.parametrize("path", ["/", "/" + "a" * 40_000, "/overview"])
async def test_an_endless_address_is_refused_before_it_is_read(app: Starlette, path: str) -> None:
    """Whoever has no token cannot make us take a huge query apart; nor can somebody who has it."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    query = b"&".join([b"token=x"] * 10_000)
    headers = [(b"host", HOST.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": query, "headers": headers}
    await app(scope, receive, send)

    assert sent[0]["status"] == 414
    assert b"set-cookie" not in dict(sent[0]["headers"])
    assert (b"cache-control", b"no-store") in sent[0]["headers"]


async def test_a_database_that_is_down_is_told_without_its_secrets() -> None:
    """Every page says that the database cannot be reached and what to check; its user and password stay unsaid."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        engine = make_engine(f"postgresql://somebody:geheim@127.0.0.1:{taken.getsockname()[1]}/app")
        async with visitor(create_inspector(engine, token=TOKEN)) as client:
            for path in ("/", "/overview", f"/chats/{UUID(int=1)}", f"/chats/{UUID(int=1)}/messages/0"):
                response = await client.get(path)

                assert response.status_code == 503
                assert "check that it runs" in Page.of(response).words
                assert not re.search("geheim|somebody|Traceback", response.text)
                guarded(response)
        await engine.dispose()


@pytest.mark.fault("E23")
@pytest.mark.parametrize(
    "wrong", ["", "x", TOKEN[:-1], TOKEN + "x", "X" + TOKEN[1:], TOKEN[:-1] + "X", TOKEN.upper(), "ü\x00\U0001f600"]
)
async def test_a_wrong_token_is_refused_whatever_is_wrong_with_it(app: Starlette, wrong: str) -> None:
    """Tokens that differ in their first or last letter, in length or case are refused in the same words."""
    async with stranger(app) as client:
        response = await client.get("/", params={"token": wrong})
        twice = await client.get("/", params=[("token", wrong), ("token", TOKEN)])
        name = f"nodellm_inspector_{'0' * 8}"
        cookies = f"{name}=1; {name[:-8]}={'1' * 64}; =; \xff".encode("latin-1")
        forged = await client.get("/", headers=[(b"cookie", cookies)])

    for refused in (response, twice, forged):
        assert refused.status_code == 401
        assert refused.text == f"{gate.UNINVITED}\n"
        assert "set-cookie" not in refused.headers


@pytest.mark.fault("E23")
async def test_a_cookie_that_is_almost_right_is_refused(app: Starlette) -> None:
    """A cookie of the right name opens nothing with one digit changed, or with the token itself."""
    async with visitor(app) as client:
        ((name, value),) = client.cookies.items()
    async with stranger(app) as client:
        for wrong in (value[:-1] + ("0" if value[-1] != "0" else "1"), value[:-1], value.upper(), TOKEN, ""):
            assert (await client.get("/", headers={"cookie": f'{name}="{wrong}"'})).status_code == 401
        assert (await client.get("/", headers={"cookie": f"{name}={value}"})).status_code == 200


@pytest.mark.fault("E23")
def test_secrets_are_compared_in_constant_time() -> None:
    """The gate compares its secrets with `hmac.compare_digest` and with nothing else."""
    tree = ast.parse(inspect.getsource(gate))
    secret = {"_token", "_pass"}
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    digests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "compare_digest"
        and any(isinstance(part, ast.Attribute) and part.attr in secret for part in ast.walk(node))
    ]

    assert len(digests) == 2
    for node in compared:
        assert not any(isinstance(part, ast.Attribute) and part.attr in secret for part in ast.walk(node))


@pytest.mark.fault("E20")
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.", "0.0.0.1", "[::1]", "127.0.0.2", ""],
)
async def test_a_foreign_host_is_refused(app: Starlette, host: str) -> None:
    """A name that somebody made lead here (DNS rebinding) opens nothing, not even with the token or its cookie."""
    async with visitor(app) as client:
        page = await client.get("/", headers={"host": host})
        welcome = await client.get("/", params={"token": TOKEN}, headers={"host": host})

    for refused in (page, welcome):
        assert refused.status_code == 421
        assert "set-cookie" not in refused.headers
        guarded(refused)


@pytest.mark.fault("E20")
@pytest.mark.parametrize("hosts", [[], [HOST, HOST], [HOST, "evil.example"]])
async def test_one_host_is_named_in_a_request(app: Starlette, hosts: list[str]) -> None:
    """A request without Host, or with two of them, is refused."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": f"token={TOKEN}".encode(),
        "root_path": "",
        "headers": [(b"host", host.encode()) for host in hosts],
    }
    await app(scope, receive, send)

    assert sent[0]["status"] == 421


async def test_hosts_are_known_by_name_with_any_port(engine: AsyncEngine) -> None:
    """A host's own name is allowed by `allowed_hosts`, whatever the port and the case; IPv6 with its brackets."""
    app = create_inspector(engine, token=TOKEN, allowed_hosts=["inspector.example", "::1"])

    for host, status in (("Inspector.Example:444", 401), ("[::1]:8765", 401), ("127.0.0.1:8765", 421)):
        async with stranger(app) as client:
            assert (await client.get("/", headers={"host": host})).status_code == status


@pytest.mark.fault("E20")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_only_reading_methods_are_answered(app: Starlette, method: str) -> None:
    """There is nothing that a forged request could do: every other method is refused, with the cookie too."""
    async with visitor(app) as client:
        response = await client.request(method, "/")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    guarded(response)


async def test_head_tells_what_get_would(app: Starlette) -> None:
    """HEAD is answered with the headers of the page and nothing else."""
    async with visitor(app) as client:
        response = await client.head("/")

    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.fault("E20")
async def test_no_web_socket_is_accepted(app: Starlette) -> None:
    """Other protocols are closed before anything is looked at."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.fault("E20")
async def test_the_token_page_leads_nowhere_else(app: Starlette) -> None:
    """An address that begins with two slashes is not taken for another host, and nothing breaks out of the link."""
    async with stranger(app) as client:
        doubled = await client.get(f"http://{HOST}//evil.example/", params={"token": TOKEN})
        quoted = await client.get('/"><script>', params={"token": TOKEN, 'a"': "'><b>"})

    assert Page.of(doubled).links() == ["/evil.example/"]
    assert not Page.of(quoted).named("script")
    assert not Page.of(quoted).named("b")


async def test_it_can_be_mounted_in_an_application(engine: AsyncEngine) -> None:
    """Below a path of a host's application all links and the cookie stay below that path."""
    factory = async_sessionmaker(engine)
    host = Starlette(routes=[Mount("/admin/chats", create_inspector(factory, token=TOKEN))])
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        chat = await create_chat(engine, llm, title="mounted")
    async with visitor(host, "/admin/chats") as client:
        page = await client.get("/admin/chats/")
        links = Page.of(page).links()
        statuses = {link: (await client.get(link)).status_code for link in links if link.startswith("/")}
        paths = {cookie.path for cookie in client.cookies.jar}

    assert f"/admin/chats/chats/{chat.id}" in links
    assert set(statuses.values()) == {200}
    assert paths == {"/admin/chats"}


async def test_a_random_token_is_made_and_known_to_the_host(engine: AsyncEngine) -> None:
    """Without `token=` there is a random one, another each time, in the application's state."""
    tokens = {create_inspector(engine).state.token for _ in range(20)}

    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 40


@pytest.mark.parametrize(
    "options",
    [
        {"token": ""},
        {"token": "short"},
        {"token": "with an é in it, which a link might spell in two ways"},
        {"token": b"bytes bytes bytes bytes"},
        {"allowed_hosts": "localhost"},
        {"allowed_hosts": []},
        {"allowed_hosts": ["*"]},
        {"allowed_hosts": ["*.example.com"]},
        {"records": "llm_"},
        {"owner": 5},
    ],
)
async def test_options_that_cannot_be_meant_are_refused(engine: AsyncEngine, options: dict[str, Any]) -> None:
    """A token that can be guessed, a pattern of hosts, or anything of a wrong type is refused at once."""
    with pytest.raises(ConfigurationError):
        create_inspector(engine, **options)


def test_what_is_no_session_is_refused() -> None:
    """A URL in place of an engine is told at once, not on the first page."""
    with pytest.raises(ConfigurationError, match="a URL is no session"):
        create_inspector("sqlite:///chats.db")  # type: ignore[arg-type]


async def test_a_mistake_of_ours_shows_nothing_of_itself(engine: AsyncEngine) -> None:
    """An unexpected error is told by one sentence with the same headers, without a trace of the program."""
    app = create_inspector(engine, token=TOKEN)

    async def broken(_: Any) -> None:
        message = "secret of the program"
        raise RuntimeError(message)

    app.add_route("/broken", broken)  # type: ignore[arg-type]
    async with visitor(app) as client:
        client._transport.raise_app_exceptions = False  # type: ignore[attr-defined]
        response = await client.get("/broken")

    assert response.status_code == 500
    assert "secret" not in response.text
    guarded(response)
