"""Fetching URLs that somebody else wrote: which addresses are reached, and how much is read from them."""

from __future__ import annotations

import gzip
import ssl
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.errors import AttachmentError
from nodellm_orm.testing import LoopbackServer, Reset, Send, Stall, body_answer, cut, head
from nodellm_orm.transport.fetching import GuardedFetcher, resolve_by_system
from nodellm_orm.transport.public import is_odd, may_be_reached
from tests.integration.transport.test_tls import certificate, serving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nodellm_orm.ports.fetching import Fetched
    from nodellm_orm.testing import Answer, ReceivedRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class Names:
    """A resolver with names of its own, which remembers what it was asked; a name may change with every answer."""

    def __init__(self, **addresses: Sequence[Sequence[str]]) -> None:
        self._addresses = {name.replace("_", "."): list(answers) for name, answers in addresses.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name."""
        del port
        self.asked.append(host)
        answers = self._addresses.get(host)
        if answers is None:
            raise OSError(host)
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def fetched(url: str, resolve: Any = resolve_by_system, **members: Any) -> Fetched:
    """The file, where one's own networks and any port are allowed."""
    policy = AttachmentPolicy(**{"urls": "fetch", "private_addresses": True, "ports": None, **members})
    return await GuardedFetcher(resolve).fetch(url, policy)


def moved(to: str, status: int = 302) -> Answer:
    """A redirect."""
    return body_answer(b"", status=status, headers={"location": to, "set-cookie": "a=b"})


# ── what arrives ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_file_is_fetched_without_anything_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request names the host and asks for the path; no cookie, key or proxy goes along."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with LoopbackServer([body_answer(PNG, content_type="image/png")]) as server:
        host = f"files.example:{server.port}"
        found = await fetched(f"http://{host}/a%20b.png?size=2#top", Names(files_example=[["127.0.0.1"]]))

    assert (found.data, found.media_type) == (PNG, "image/png")
    assert found.url == f"http://{host}/a%20b.png?size=2"
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/a%20b.png?size=2")
    assert dict(request.headers) == {
        "host": host,
        "user-agent": "nodellm_orm",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
    }


async def test_redirects_are_followed_without_cookies() -> None:
    """Relative and absolute redirects lead to the file, and a cookie set on the way is not sent."""
    names = Names(a_example=[["127.0.0.1"]], b_example=[["127.0.0.1"]])
    answers: list[Answer] = []
    async with LoopbackServer(answers.__iter__()) as server:
        answers += [moved("/second", 301), moved(f"http://b.example:{server.port}/third", 308), body_answer(PNG)]
        found = await fetched(f"http://a.example:{server.port}/first", names)

    assert found.data == PNG
    assert found.url.endswith("/third")
    assert [(r.headers["host"].split(":")[0], r.path) for r in server.requests] == [
        ("a.example", "/first"),
        ("a.example", "/second"),
        ("b.example", "/third"),
    ]
    assert not any("cookie" in request.headers for request in server.requests)


async def test_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    """TLS is spoken to the checked address under the host's name, and a certificate of another name is refused."""
    file = certificate(tmp_path, name="DNS:files.example", days=1)
    trusted = ssl.create_default_context(cafile=str(file))
    policy = AttachmentPolicy(urls="fetch", private_addresses=True, ports=None)
    names = Names(files_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    fetcher = GuardedFetcher(names, certificates=trusted)
    async with LoopbackServer([body_answer(PNG)], ssl=serving(file)) as server:
        assert (await fetcher.fetch(f"https://files.example:{server.port}/a", policy)).data == PNG
        with pytest.raises(AttachmentError, match="CERTIFICATE_VERIFY_FAILED"):
            await fetcher.fetch(f"https://other.example:{server.port}/a", policy)
        with pytest.raises(AttachmentError, match="CERTIFICATE_VERIFY_FAILED"):
            await GuardedFetcher(names).fetch(f"https://files.example:{server.port}/a", policy)
    assert len(server.requests) == 1


async def test_next_address_is_tried_when_one_is_not_reached() -> None:
    """A name with several addresses is reached at the first that answers."""
    async with LoopbackServer([body_answer(PNG)]) as server:
        found = await fetched(f"http://a.example:{server.port}/", Names(a_example=[["::1", "127.0.0.1"]]))
    assert found.data == PNG


# ── what is not reached ───────────────────────────────────────────────────────────────────────────────────────────────

INSIDE = [
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"),
    *("192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("::1", "fc00::1", "fd12:3456::1", "2001:db8::1", "2001::1", "2002:7f00:1::", "3fff::1", "64:ff9b:1::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:192.168.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "4000::1"),
]
NEVER = [
    *("0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),  # noqa: S104 — what is refused
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    *("fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::169.254.169.254", "::ffff:0.0.0.0"),
    *("not an address", ""),
]
OUTSIDE = [
    "93.184.216.34",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    ("addresses", "public", "private"),
    [(INSIDE, False, True), (NEVER, False, False), (OUTSIDE, True, True)],
    ids=["inside", "never", "outside"],
)
def test_addresses_are_sorted(addresses: list[str], public: bool, private: bool) -> None:  # noqa: FBT001 — columns
    """Own networks need to be allowed, link-local and reserved addresses never are, in every notation."""
    assert {a: may_be_reached(a, private=False) for a in addresses} == dict.fromkeys(addresses, public)
    assert {a: may_be_reached(a, private=True) for a in addresses} == dict.fromkeys(addresses, private)


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "1.2.3.4.5", "1.2.3.256"]
)
async def test_addresses_in_disguise_are_refused(host: str) -> None:
    """Decimal, octal and hexadecimal spellings of an address are not looked up at all."""
    names = Names()
    with pytest.raises(AttachmentError, match=r"four decimal numbers|is not a URL"):
        await fetched(f"http://{host}/", names)
    assert names.asked == []
    assert not is_odd("127.0.0.1")
    assert not is_odd("example.com")


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], []]
)
async def test_name_that_leads_inside_is_refused_unasked(answer: list[str]) -> None:
    """A name is refused when any of its addresses is not public; nothing is connected, and no address is told."""
    async with LoopbackServer([body_answer(PNG)]) as server:
        with pytest.raises(AttachmentError, match=r"AttachmentPolicy\(private_addresses=True\)") as caught:
            await fetched(f"http://a.example:{server.port}/", Names(a_example=[answer]), private_addresses=False)
    assert not any(address in str(caught.value) for address in answer)
    assert server.connections == 0


@pytest.mark.fault("E03")
async def test_default_policy_reaches_nothing_of_this_machine() -> None:
    """With the system's own resolver, no spelling of this machine is reached by a policy that only says fetch."""
    async with LoopbackServer([body_answer(PNG)]) as server:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "LOCALHOST."):  # noqa: S104 — what is refused
            with pytest.raises(AttachmentError, match=r"private_addresses|four decimal|not found"):
                await fetched(f"http://{host}:{server.port}/", private_addresses=False)
    assert server.connections == 0


@pytest.mark.fault("E03")
async def test_name_that_changes_its_address_gains_nothing() -> None:
    """The connection goes to the address that was checked: the name is looked up once for each request."""
    async with LoopbackServer([body_answer(PNG)]) as server:
        names = Names(a_example=[["127.0.0.1"], ["169.254.169.254"]])
        assert (await fetched(f"http://a.example:{server.port}/", names)).data == PNG
        assert names.asked == ["a.example"]
        with pytest.raises(AttachmentError, match="not on the public internet"):
            await fetched(f"http://a.example:{server.port}/", names)


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("http://169.254.169.254/latest/meta-data/", "not on the public internet"),
        ("http://inside.example/", "not on the public internet"),
        ("//[::ffff:169.254.169.254]/", "not on the public internet"),
        ("http://0x7f.1/", "hosts="),
        ("file:///etc/passwd", "only these are fetched"),
        ("gopher://a.example/", "only these are fetched"),
        ("data:,x", r"broke off \(InvalidURL\)"),
        ("", "only these are fetched"),
        ("http://me:pw@a.example/", "a user or a password"),
        ("http://evil.example/", "hosts="),
    ],
)
async def test_redirect_is_checked_like_the_first_url(to: str, told: str) -> None:
    """A redirect to where the policy does not go is refused, and nothing there is connected."""
    names = Names(a_example=[["127.0.0.1"]], inside_example=[["169.254.1.1"]])
    hosts = ["a.example", "inside.example", "169.254.169.254", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe"]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [host] if host[0] in "1:" else await names(host, port)

    async with LoopbackServer([moved(to)]) as server:
        with pytest.raises(AttachmentError, match=told):
            await fetched(f"http://a.example:{server.port}/", resolve, hosts=hosts)
    assert server.connections == 1


@pytest.mark.fault("E03")
async def test_redirect_out_of_tls_is_refused(tmp_path: Path) -> None:
    """What began encrypted does not go on in the clear."""
    file = certificate(tmp_path, name="IP:127.0.0.1", days=1)
    policy = AttachmentPolicy(urls="fetch", private_addresses=True, ports=None)
    fetcher = GuardedFetcher(certificates=ssl.create_default_context(cafile=str(file)))
    async with (
        LoopbackServer([body_answer(PNG)]) as plain,
        LoopbackServer([moved(plain.url)], ssl=serving(file)) as server,
    ):
        with pytest.raises(AttachmentError, match="redirects from https to http"):
            await fetcher.fetch(server.url, policy)
    assert plain.connections == 0


@pytest.mark.fault("E03")
async def test_redirects_are_counted() -> None:
    """One redirect more than allowed is an error that names the setting."""

    async def turn(request: ReceivedRequest) -> Answer:
        return moved(f"{request.path}x")

    async with LoopbackServer(turn) as server:
        with pytest.raises(AttachmentError, match=r"AttachmentPolicy\(max_redirects=\)"):
            await fetched(f"{server.url}/", max_redirects=2)
        assert len(server.requests) == 3
        with pytest.raises(AttachmentError, match="more than 0 redirects"):
            await fetched(f"{server.url}/", max_redirects=0)


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    ("url", "members", "told"),
    [
        ("ftp://a.example/x", {}, "only these are fetched"),
        ("http://me@a.example/", {}, "a user or a password"),
        ("http:///x", {}, "only these are fetched"),
        ("http://a.example:99999/", {}, "only these are fetched"),
        ("http://a.example/", {"hosts": ["b.example"]}, "hosts="),
        ("http://a.example:8080/", {"ports": (80, 443)}, "ports="),
        ("http://nowhere.example/", {}, "is not found"),
    ],
)
async def test_url_is_checked_before_anything_is_asked(url: str, members: Any, told: str) -> None:
    """Scheme, user, host and port are checked first; a name that is not found is an error of ours."""
    with pytest.raises(AttachmentError, match=told):
        await fetched(url, Names(a_example=[["127.0.0.1"]]), **members)


# ── how much is read ──────────────────────────────────────────────────────────────────────────────────────────────────

LIMIT = 10_000
TOO_LARGE = r"more than 10000 bytes; raise AttachmentPolicy\(max_bytes=\)"


@pytest.mark.fault("E05")
@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    "answer",
    [
        [Send(head(headers={"content-length": "10001"})), Stall()],
        [Send(head(headers={"connection": "close"})), Send(bytes(1000), times=50_000)],
        [Send(head(headers={"transfer-encoding": "chunked"})), Send(b"3e8\r\n" + bytes(1000) + b"\r\n", times=50_000)],
        body_answer(gzip.compress(bytes(50_000_000)), headers={"content-encoding": "gzip"}),
        body_answer(zlib.compress(bytes(10_001)), headers={"content-encoding": "deflate"}),
    ],
    ids=["announced", "endless", "chunked", "bomb", "deflated"],
)
async def test_too_much_is_refused_while_it_arrives(answer: Answer) -> None:
    """A file over the limit is refused by what it announces, by what comes, and by what it unpacks to."""
    async with LoopbackServer([answer]) as server:
        with pytest.raises(AttachmentError, match=TOO_LARGE):
            await fetched(server.url, max_bytes=LIMIT)


async def test_packed_file_is_unpacked() -> None:
    """A server that packs although it was not asked to is understood; another packing is refused."""
    answers = [
        body_answer(gzip.compress(PNG), headers={"content-encoding": "gzip"}),
        body_answer(PNG, headers={"content-encoding": "br"}),
    ]
    async with LoopbackServer(answers) as server:
        assert (await fetched(server.url)).data == PNG
        with pytest.raises(AttachmentError, match="packed as 'br'"):
            await fetched(server.url)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (body_answer(b"no", status=404), "answered 404"),
        (body_answer(b"no", status=500), "answered 500"),
        (body_answer(b"", status=304), "answered 304"),
        (body_answer(PNG, status=206), "answered 206"),
        (cut(body_answer(PNG), after=150, then=Reset()), "broke off"),
        (body_answer(PNG, content_length=9999), "broke off"),
        (body_answer(gzip.compress(PNG)[:-9], headers={"content-encoding": "gzip"}), "broke off"),
        ([Send(b"this is not HTTP\r\n\r\n")], "broke off"),
    ],
)
async def test_what_is_not_the_whole_file_is_refused(answer: Answer, told: str) -> None:
    """An error, a part of a file and a file that breaks off are errors; the query is not shown."""
    async with LoopbackServer([answer]) as server:
        with pytest.raises(AttachmentError, match=told) as caught:
            await fetched(f"{server.url}/a.png?token=secret")
    assert "secret" not in str(caught.value)


async def test_nobody_there_is_an_error_of_ours() -> None:
    """A port that nobody listens on is told as such."""
    async with LoopbackServer() as server:
        url = server.url
    with pytest.raises(AttachmentError, match="cannot be reached"):
        await fetched(url)


@pytest.mark.fault("E03")
@pytest.mark.parametrize("answer", [[Stall()], [Send(head(headers={"content-length": "9"})), Send(b"x"), Stall()]])
async def test_silent_server_is_left_in_time(answer: Answer) -> None:
    """The whole fetch has one time limit, which the error names."""
    async with LoopbackServer([answer]) as server:
        with pytest.raises(AttachmentError, match=r"took over 0\.2 seconds; raise AttachmentPolicy\(timeout=\)"):
            await fetched(server.url, timeout=0.2)
