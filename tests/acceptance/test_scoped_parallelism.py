"""Clients and chats side by side in one event loop: keys, addresses, headers, profiles and circuits never cross."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    CircuitBreaker,
    CircuitOpenError,
    OverloadedError,
    RetryPolicy,
    create_chat,
    create_llm,
    tool,
)
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.integration.databases import DatabaseKind

OPENAI: Final = Speaker("openai_chat")
CLAUDE: Final = Speaker("anthropic")
CHATS: Final = 5
"""Chats of each client, all of them at once."""
TURNS: Final = 3
CREDENTIALS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie")


@pytest.fixture
def database_kind() -> DatabaseKind:
    """What is looked at here is on the wire."""
    return "sqlite"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What belongs to one client, and must be in each of its requests and in no other."""

    name: str
    credentials: dict[str, str]
    path: str
    model: str
    host: str


def server(seed: int) -> LoopbackServer:
    """A server that calls a tool and then answers, both with the question's own marker, after a while of its own."""
    chance = random.Random(seed)  # noqa: S311 — nothing secret

    async def handle(request: ReceivedRequest) -> Answer:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)  # the answers of many requests change places
        body: Any = request.json()
        last = body["messages"][-1]
        answered = last["role"] == "tool" or (
            isinstance(last["content"], list) and "tool_result" in str(last["content"])
        )
        if body.get("tools") and not answered:
            line = Says(calls=[FakeCall("echo", {"text": marker(body)})])
        else:
            line = Says(text=f"answer to {marker(body)}")
        return by_path(request).answer(line, stream=bool(body.get("stream")))

    return LoopbackServer(handle)


def marker(body: Any) -> str:
    """What the newest question calls itself."""
    questions = [m["content"] for m in body["messages"] if m["role"] == "user"]
    texts = [q if isinstance(q, str) else "".join(part.get("text", "") for part in q) for q in questions]
    return [text for text in texts if text][-1]


@tool
async def echo(text: str) -> str:
    """Say it again."""
    return text


def by_path(request: ReceivedRequest) -> Speaker:
    """The format that a request is in."""
    return CLAUDE if request.path.endswith("/messages") else OPENAI


def clients(first: LoopbackServer, second: LoopbackServer) -> tuple[LLM, list[tuple[LLM, Scope]]]:
    """Clients of two servers, all made from one: other keys, formats, models, and one with its own profile."""
    environ = {"ANTHROPIC_API_KEY": "sk-ant-environment-000", "ANTHROPIC_BASE_URL": second.url}
    here, there = first.url.removeprefix("http://"), second.url.removeprefix("http://")
    base = create_llm(
        "openai",
        api="chat",
        base_url=f"{first.url}/v1",
        api_key="sk-first-key-0000000",
        model="gpt-5-mini",
        profiles={"": {"max_tokens_field": "max_tokens"}},
        breaker=CircuitBreaker(),
        environ=environ,
    )
    other = base.with_provider(
        "openai", api="chat", base_url=f"{second.url}/v1", api_key="sk-second-key-000", model="gpt-4o"
    )
    claude = base.with_provider("anthropic", model="claude-haiku-4-5")
    claude_here = base.with_provider(
        "anthropic", model="claude-sonnet-4-5", base_url=first.url, api_key="sk-ant-mine-000"
    )
    plain = base.with_provider("openai_compatible", base_url=f"{second.url}/v1", api_key="", model="own-model")

    def bearer(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    chat, messages = "/v1/chat/completions", "/v1/messages"
    return base, [
        (
            base,
            Scope(name="base", credentials=bearer("sk-first-key-0000000"), path=chat, model="gpt-5-mini", host=here),
        ),
        (other, Scope(name="other", credentials=bearer("sk-second-key-000"), path=chat, model="gpt-4o", host=there)),
        (
            claude,
            Scope(
                name="claude",
                credentials={"x-api-key": "sk-ant-environment-000"},
                path=messages,
                model="claude-haiku-4-5",
                host=there,
            ),
        ),
        (
            claude_here,
            Scope(
                name="claude_here",
                credentials={"x-api-key": "sk-ant-mine-000"},
                path=messages,
                model="claude-sonnet-4-5",
                host=here,
            ),
        ),
        (plain, Scope(name="plain", credentials={}, path=chat, model="own-model", host=there)),
    ]


async def talk(chat: Chat, scope: Scope, number: int) -> None:
    """Some turns, streamed and not, each of which has to be answered to itself."""
    for turn in range(TURNS):
        question = f"{scope.name}-{number}-{turn}"
        if turn % 2:
            reply = await chat.stream(question).reply()
        else:
            reply = await chat.ask(question)
        assert reply.content == f"answer to {question}"
        assert reply.tool_calls[0].result == question


@pytest.mark.parametrize("seed", range(3))
async def test_everything_stays_in_its_scope(engine: AsyncEngine, seed: int) -> None:
    """Every header and member of every request of many chats at once is that of its own client and its own chat."""
    async with server(seed) as first, server(seed + 100) as second:
        base, scoped = clients(first, second)
        async with base:
            talks = []
            for llm, scope in scoped:
                for number in range(CHATS):
                    own: dict[str, Any] = {
                        "tools": [echo],
                        "headers": {"x-chat": f"{scope.name}-{number}"},
                        "params": {"marked": f"{scope.name}-{number}"},
                        "max_tokens": 100 + number,
                    }
                    chat = await create_chat(engine, llm, **own) if number % 2 else llm.chat(**own)
                    talks.append(talk(chat, scope, number))
            await asyncio.gather(*talks)

    scopes = {scope.name: scope for _, scope in scoped}
    requests = [*first.requests, *second.requests]
    assert len(requests) == len(scopes) * CHATS * TURNS * 2
    for request in requests:
        check(request, scopes)


def check(request: ReceivedRequest, scopes: dict[str, Scope]) -> None:
    """All of a request belongs together."""
    body: Any = request.json()
    name, number, _ = marker(body).split("-")
    scope = scopes[name]
    assert {h: v for h, v in request.headers.items() if h in CREDENTIALS} == scope.credentials
    assert (request.headers["host"], request.path, body["model"]) == (scope.host, scope.path, scope.model)
    assert (request.headers["x-chat"], body["marked"]) == (f"{name}-{number}", f"{name}-{number}")
    limits = {member: value for member, value in body.items() if "max" in member and "tokens" in member}
    field = "max_completion_tokens" if name == "other" else "max_tokens"
    assert limits == {field: 100 + int(number)}, "a profile of one client is not that of another"
    assert set(markers(body)) == {f"{name}-{number}"}, "nothing of another chat is in the history"


def markers(body: Any) -> Iterator[str]:
    """Whose questions a request holds."""
    for message in body["messages"]:
        content = message["content"] or ""
        text = content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)
        for word in text.split():
            if word.count("-") == 2:
                yield word.rpartition("-")[0]


async def test_circuit_of_one_client_is_open_for_its_own_model_only() -> None:
    """One model fails for all who ask it, in whatever client; the others beside it are answered all the time."""
    async with LoopbackServer(_failing("gpt-5-mini")) as first, LoopbackServer(_failing("none")) as second:
        base = create_llm(
            "openai",
            api="chat",
            base_url=f"{first.url}/v1",
            api_key="sk-first-key-0000000",
            model="gpt-5-mini",
            retry=RetryPolicy(max_attempts=1),
            breaker=CircuitBreaker(failures=3),
            environ={"ANTHROPIC_API_KEY": "sk-ant-environment-000", "ANTHROPIC_BASE_URL": second.url},
        )
        same = base.with_provider("openai", api="chat", base_url=f"{first.url}/v1", api_key="sk-x", model="gpt-5-mini")
        elsewhere = base.with_provider(
            "openai", api="chat", base_url=f"{second.url}/v1", api_key="sk-y", model="gpt-5-mini"
        )
        claude = base.with_provider("anthropic", model="claude-haiku-4-5")
        async with base:
            outcomes = await asyncio.gather(
                *(_asked(llm) for _ in range(4) for llm in (base, same, elsewhere, claude)), return_exceptions=True
            )
            after = [
                await asyncio.gather(_asked(llm), return_exceptions=True) for llm in (base, same, elsewhere, claude)
            ]

    answered = [outcomes[at::4] for at in range(4)]
    assert all(isinstance(outcome, OverloadedError | CircuitOpenError) for outcome in (*answered[0], *answered[1]))
    assert answered[2:] == [["fine"] * 4, ["fine"] * 4]
    assert [type(outcome) if isinstance(outcome, Exception) else outcome for (outcome,) in after] == [
        CircuitOpenError,
        CircuitOpenError,
        "fine",
        "fine",
    ]


async def _asked(llm: LLM) -> str:
    return (await llm.chat().ask("Hi")).content


def _failing(model: str) -> Any:
    async def handle(request: ReceivedRequest) -> Answer:
        fails = request.json()["model"] == model
        line = Fails(status=529, message="overloaded", type="overloaded_error") if fails else Says(text="fine")
        return by_path(request).answer(line, stream=False)

    return handle
