"""Fallbacks, circuits and rate limits through the public API: what goes over the wire, and what the rows say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    Fallback,
    MediaPart,
    OverloadedError,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    create_chat,
    create_llm,
    load_chat,
    tool,
)
from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord, TurnRecord
from nodellm_orm.testing import FakeCall, FakeThinking, LoopbackServer, json_answer, openai_chat_body, sse_answer
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Completion, ModelRequest
    from nodellm_orm.testing import ReceivedRequest
    from tests.integration.databases import DatabaseKind

OPENAI: Final = Speaker("openai_chat")
CLAUDE: Final = Speaker("anthropic")
MINE: Final = "sk-canary-mine-0123456789"
THEIRS: Final = "sk-canary-theirs-0123456789"
BUSY: Final = Fails(status=529, message="overloaded", type="overloaded_error")
LIMITED: Final = Fails(
    status=429,
    message="slow down",
    type="rate_limit_error",
    headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s", "retry-after": "3600"},
)
TO_CLAUDE: Final = ("anthropic", "claude-haiku-4-5")
PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture
def database_kind() -> DatabaseKind:
    """The rows are the same on every database; that is tested elsewhere."""
    return "sqlite"


@tool
async def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def client(home: LoopbackServer, away: LoopbackServer | None = None, **options: Any) -> LLM:
    """A client of one server, with the key of another one in its environment."""
    environ = {"ANTHROPIC_API_KEY": THEIRS, "ANTHROPIC_BASE_URL": away.url} if away is not None else {}
    options = {"retry": RetryPolicy(max_attempts=2, base_ms=0), "model": "gpt-5-mini", **options}
    return create_llm("openai", api="chat", base_url=f"{home.url}/v1", api_key=MINE, environ=environ, **options)


def sent(request: ReceivedRequest) -> Any:
    """The body of a request."""
    return request.json()


async def ledger(engine: AsyncEngine) -> list[tuple[str, str, int, str, int | None, str | None]]:
    """Every attempt in the order in which it was made."""
    async with AsyncSession(engine) as session:
        rows = await session.scalars(select(RequestRecord).order_by(RequestRecord.id))
        return [(r.provider, r.requested_model, r.attempt, r.status, r.http_status, r.error_type) for r in rows]


async def test_answer_of_another_provider(engine: AsyncEngine) -> None:
    """Every attempt is a row, the message says who made it, the chat stays as it is, and each key stays at home."""
    async with (
        OPENAI.server(BUSY, BUSY, Says(text="home again")) as home,
        CLAUDE.server(Says(text="Hello from Claude")) as away,
        client(home, away, fallback=[TO_CLAUDE]) as llm,
    ):
        endpoints = [away.url, f"{home.url}/v1"]
        chat = await create_chat(engine, llm, instructions="Be brief.", headers={"x-mine": "1"}, params={"seed": 7})
        reply = await chat.ask("Hi", temperature=0.5)
        assert (reply.content, reply.provider, reply.model) == ("Hello from Claude", "anthropic", "claude-haiku-4-5")
        assert reply.cost is not None
        again = await (await load_chat(engine, llm, chat.id)).ask("And now?")

    assert await ledger(engine) == [
        ("openai", "gpt-5-mini", 1, "failed", 529, "OverloadedError"),
        ("openai", "gpt-5-mini", 2, "failed", 529, "OverloadedError"),
        ("anthropic", "claude-haiku-4-5", 3, "ok", 200, None),
        ("openai", "gpt-5-mini", 1, "ok", 200, None),
    ]
    async with AsyncSession(engine) as session:
        stored = await session.get_one(ChatRecord, chat.id)
        assert (stored.provider, stored.model, stored.api) == ("openai", "gpt-5-mini", "openai_chat")
        said = (await session.scalars(select(MessageRecord).order_by(MessageRecord.position))).all()
        assert [(m.provider, m.api, m.endpoint) for m in said if m.role == "assistant"] == [
            ("anthropic", "anthropic", endpoints[0]),
            ("openai", "openai_chat", endpoints[1]),
        ]
        turns = (await session.scalars(select(TurnRecord))).all()
        assert {turn.status for turn in turns} == {"completed"}
    (request,) = away.requests
    body = sent(request)
    assert (request.path, request.headers["x-api-key"], body["model"]) == ("/v1/messages", THEIRS, "claude-haiku-4-5")
    assert "authorization" not in request.headers
    assert "x-mine" not in request.headers
    assert "seed" not in body
    assert body["temperature"] == 0.5
    assert {r.headers["authorization"] for r in home.requests} == {f"Bearer {MINE}"}
    assert [(r.headers["x-mine"], sent(r)["seed"]) for r in home.requests[:2]] == [("1", 7)] * 2
    assert [m["content"] for m in sent(home.requests[2])["messages"]][-3:] == ["Hi", "Hello from Claude", "And now?"]
    assert again.provider == "openai"


async def test_signed_thinking_stays_with_the_model_that_signed_it(engine: AsyncEngine) -> None:
    """The turn goes on where it fell to, with signatures and ids; the next one tells it to the chat's own in words."""
    thinking = [FakeThinking("I should double it.", signature="c2lnbmVk")]
    async with (
        OPENAI.server(BUSY, BUSY, Says(text="fine")) as home,
        CLAUDE.server(
            Says(thinking=thinking, calls=[FakeCall("double", {"x": 4}, id="toolu_1")]), Says(text="8")
        ) as away,
        client(home, away, fallback=[TO_CLAUDE]) as llm,
    ):
        chat = await create_chat(engine, llm, tools=[double], thinking="low")
        assert (await chat.ask("Double 4")).content == "8"
        await chat.ask("Thanks")

    assert [len(home.requests), len(away.requests)] == [3, 2]
    signed = sent(away.requests[1])["messages"][1]["content"]
    assert [block["type"] for block in signed] == ["thinking", "tool_use"]
    assert (signed[0]["signature"], signed[1]["id"]) == ("c2lnbmVk", "toolu_1")
    foreign = home.requests[2].body.decode()
    assert "c2lnbmVk" not in foreign
    assert sent(home.requests[2])["messages"][1]["tool_calls"][0]["id"] == "toolu_1"


async def test_stream_of_another_provider(engine: AsyncEngine) -> None:
    """A stream gives the other model's answer, and nothing of the first one's failure."""
    async with (
        OPENAI.server(BUSY, BUSY) as home,
        CLAUDE.server(Says(text="Hello")) as away,
        client(home, away, fallback=[TO_CLAUDE]) as llm,
    ):
        chat = await create_chat(engine, llm)
        async with chat.stream("Hi") as stream:
            text = "".join([chunk.content async for chunk in stream])

    assert text == (await stream.reply()).content == "Hello"


async def test_failures_of_all_are_rows_of_their_own(engine: AsyncEngine) -> None:
    """The error is that of the chat's own model; each row has the error of its own attempt."""
    refused = Fails(status=401, message="bad key", type="authentication_error")
    async with (
        OPENAI.server(LIMITED) as home,
        CLAUDE.server(refused) as away,
        client(home, away, fallback=[TO_CLAUDE]) as llm,
    ):
        chat = await create_chat(engine, llm)
        with pytest.raises(RateLimitError) as caught:
            await chat.ask("Hi")

    assert (caught.value.provider, caught.value.status, caught.value.retry_after) == ("openai", 429, 3600)
    assert len(caught.value.__notes__) == 1
    assert caught.value.__notes__[0].startswith("anthropic/claude-haiku-4-5 was asked next: AuthenticationError")
    assert await ledger(engine) == [
        ("openai", "gpt-5-mini", 1, "failed", 429, "RateLimitError"),
        ("anthropic", "claude-haiku-4-5", 2, "failed", 401, "AuthenticationError"),
    ]


async def test_row_keeps_the_providers_error_when_a_hook_fails_on_the_way(engine: AsyncEngine) -> None:
    """What went wrong later is not written over what went wrong first."""
    async with (
        OPENAI.server(LIMITED) as home,
        CLAUDE.server() as away,
        client(home, away, fallback=[TO_CLAUDE]) as llm,
    ):

        def only_home(request: ModelRequest) -> None:
            if request.target.provider != "openai":
                msg = "not there"
                raise RuntimeError(msg)

        chat = await create_chat(engine, llm)
        with pytest.raises(RuntimeError, match="not there"):
            await chat.before_request(only_home).ask("Hi")

    assert await ledger(engine) == [("openai", "gpt-5-mini", 1, "failed", 429, "RateLimitError")]


async def test_model_that_cannot_read_the_file_is_passed_over(engine: AsyncEngine) -> None:
    """A picture is not sent to a model without eyes: the error is the first one's, with a note."""
    async with (
        OPENAI.server(BUSY, BUSY) as home,
        LoopbackServer() as blind,
        client(
            home, fallback=Fallback(provider="deepseek", model="deepseek-chat", base_url=blind.url, api_key=THEIRS)
        ) as llm,
    ):
        chat = await create_chat(engine, llm)
        with pytest.raises(OverloadedError) as caught:
            await chat.ask(["What is it?", MediaPart(media="image", media_type="image/png", data=PIXEL)])

    assert caught.value.__notes__[0].startswith("deepseek/deepseek-chat was not asked: ")
    assert blind.requests == []
    assert [row[0] for row in await ledger(engine)] == ["openai", "openai"]


async def test_another_model_of_the_same_provider(engine: AsyncEngine) -> None:
    """A name alone is another model of the client's own provider, under the same key, address and headers."""
    async with (
        OPENAI.server(BUSY, BUSY, Says(text="small")) as home,
        client(home, fallback="gpt-5-nano") as llm,
    ):
        chat = await create_chat(engine, llm, headers={"x-mine": "1"})
        await chat.ask("Hi")

    last = home.requests[-1]
    assert (last.json()["model"], last.headers["authorization"], last.headers["x-mine"]) == (
        "gpt-5-nano",
        f"Bearer {MINE}",
        "1",
    )


async def test_server_of_ones_own(engine: AsyncEngine) -> None:
    """A fallback may have an address and a key of its own; the client's key is not sent there."""
    async with (
        OPENAI.server(BUSY, BUSY) as home,
        OPENAI.server(Says(text="own")) as own,
        client(
            home,
            fallback=[
                Fallback(
                    provider="openai_compatible",
                    model="vendor/llama:70b",
                    base_url=f"{own.url}/v1",
                    api_key=THEIRS,
                    on=(OverloadedError,),
                )
            ],
        ) as llm,
    ):
        chat = await create_chat(engine, llm)
        assert (await chat.ask("Hi")).content == "own"
        assert THEIRS not in repr(vars(llm))

    assert own.requests[0].json()["model"] == "vendor/llama:70b"
    assert own.requests[0].headers["authorization"] == f"Bearer {THEIRS}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fallback": [("anthropic", "claude-haiku-4-5")]}, "ANTHROPIC_API_KEY"),
        ({"fallback": [("antropic", "claude-haiku-4-5")]}, "anthropic"),
        ({"fallback": [Fallback(provider="openai_compatible", base_url="http://localhost:1/v1")]}, "names no model"),
        ({"fallback": [Fallback(model="gpt-5", api="soap")]}, "does not speak"),
        ({"fallback": ["anthropic"]}, "is the name of a provider"),
        ({"fallback": [3]}, "a fallback is"),
        ({"breaker": 5}, "CircuitBreaker"),
    ],
)
def test_whatever_is_wrong_is_said_at_creation(options: dict[str, Any], said: str) -> None:
    """A fallback that could not be asked is an error when the client is made, not when it is needed."""
    with pytest.raises(ConfigurationError, match=said):
        create_llm("openai", api_key=MINE, environ={}, **options)


async def test_open_circuit_is_seen_in_the_ledger(engine: AsyncEngine) -> None:
    """After so many failures nothing is sent: an error at once, and a row without status and time."""
    async with (
        OPENAI.server(BUSY, BUSY) as home,
        client(home, retry=RetryPolicy(max_attempts=1), breaker=CircuitBreaker(failures=2)) as llm,
    ):
        for _ in range(2):
            with pytest.raises(OverloadedError):
                await (await create_chat(engine, llm)).ask("Hi")
        chat = await create_chat(engine, llm)
        with pytest.raises(CircuitOpenError) as caught:
            await chat.ask("Hi")
        with pytest.raises(CircuitOpenError):  # the same address and model, through a client made from this one
            await (
                llm.with_provider("openai", api="chat", base_url=f"{home.url}/v1", api_key=THEIRS)
                .chat("gpt-5-mini")
                .ask("Hi")
            )

    assert len(home.requests) == 2
    assert 0 < (caught.value.retry_after or 0) <= 30
    assert (await ledger(engine))[-1] == ("openai", "gpt-5-mini", 1, "failed", None, "CircuitOpenError")
    async with AsyncSession(engine) as session:
        row = (await session.scalars(select(RequestRecord).order_by(RequestRecord.id.desc()).limit(1))).one()
        turn = await session.get_one(TurnRecord, (row.chat_id, row.turn_id))
    assert (row.latency_ms, row.first_token_ms, row.input_tokens, row.cost) == (0, None, None, None)
    assert (turn.status, turn.error_type) == ("failed", "CircuitOpenError")


async def test_open_circuit_leads_to_the_fallback_at_once(engine: AsyncEngine) -> None:
    """While the circuit is open each turn is answered elsewhere without a request to the failing model."""
    async with (
        OPENAI.server(BUSY) as home,
        CLAUDE.server(Says(text="one"), Says(text="two")) as away,
        client(
            home,
            away,
            retry=RetryPolicy(max_attempts=1),
            breaker=CircuitBreaker(failures=1),
            fallback=[TO_CLAUDE],
        ) as llm,
    ):
        chat = await create_chat(engine, llm)
        assert [(await chat.ask(text)).content for text in "ab"] == ["one", "two"]

    assert len(home.requests) == 1
    assert await ledger(engine) == [
        ("openai", "gpt-5-mini", 1, "failed", 529, "OverloadedError"),
        ("anthropic", "claude-haiku-4-5", 2, "ok", 200, None),
        ("openai", "gpt-5-mini", 1, "failed", None, "CircuitOpenError"),
        ("anthropic", "claude-haiku-4-5", 2, "ok", 200, None),
    ]


async def test_other_models_of_the_endpoint_stay_open() -> None:
    """A circuit is that of one model: the fallback to another one at the same address works."""
    async with (
        OPENAI.server(BUSY, Says(text="one"), Says(text="two")) as home,
        client(
            home, retry=RetryPolicy(max_attempts=1), breaker=CircuitBreaker(failures=1), fallback=["gpt-5-nano"]
        ) as llm,
    ):
        chat = llm.chat()
        assert [(await chat.ask(text)).content for text in "ab"] == ["one", "two"]

    assert [sent(r)["model"] for r in home.requests] == ["gpt-5-mini", "gpt-5-nano", "gpt-5-nano"]


async def test_circuit_closes_when_the_probe_is_answered() -> None:
    """Once its time has passed a request is let through, and its answer closes the circuit."""
    breaker = CircuitBreaker(failures=1, open_for=1e-9)
    async with (
        OPENAI.server(BUSY, Says(text="back"), Says(text="again")) as home,
        client(home, retry=RetryPolicy(max_attempts=1), breaker=breaker) as llm,
    ):
        chat = llm.chat()
        with pytest.raises(OverloadedError):
            await chat.ask("Hi")
        assert [(await chat.ask(text)).content for text in "ab"] == ["back", "again"]


async def test_rate_limits_are_surfaced(engine: AsyncEngine) -> None:
    """The reply, the error and the hook say what the response's headers say; a reply from the rows says nothing."""
    headers = {
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "199966",
        "x-ratelimit-reset-tokens": "10ms",
    }
    seen: list[int | None] = []

    def note(answer: Completion) -> None:
        seen.append(answer.rate_limits.tokens.remaining if answer.rate_limits else None)

    plenty = json_answer(openai_chat_body("Hello"), headers=headers)
    async with OPENAI.server(plenty, Says(text="x"), LIMITED) as home, client(home) as llm:
        chat = (await create_chat(engine, llm)).after_response(note)
        first = await chat.ask("Hi")
        stored = await (await load_chat(engine, llm, chat.id)).resume()
        second = await chat.ask("Hi")
        with pytest.raises(RateLimitError) as caught:
            await chat.ask("Hi")

    assert first.rate_limits is not None
    assert (first.rate_limits.tokens.limit, first.rate_limits.tokens.reset_after) == (200000, 0.01)
    assert (stored.content, stored.rate_limits, second.rate_limits) == ("Hello", None, None)
    assert seen == [199966, None]
    assert not isinstance(caught.value, QuotaExceededError)
    assert (caught.value.rate_limits.requests.remaining, caught.value.rate_limits.requests.reset_after) == (0, 360.0)


async def test_rate_limits_of_a_stream_and_of_anthropic() -> None:
    """Streams tell of limits as well, in each provider's own headers."""
    headers = {"anthropic-ratelimit-input-tokens-remaining": "9", "anthropic-ratelimit-input-tokens-limit": "10"}
    events = CLAUDE.events(Says(text="Hello"))
    async with LoopbackServer([sse_answer(events, headers=headers)]) as server, CLAUDE.llm(server) as llm:
        reply = await llm.chat().stream("Hi").reply()

    assert reply.content == "Hello"
    assert reply.rate_limits is not None
    assert (reply.rate_limits.input_tokens.remaining, reply.rate_limits.input_tokens.limit) == (9, 10)


async def test_rate_limits_of_a_model_with_prompted_tools() -> None:
    """An answer that is told again as a call has its limits all the same."""
    headers = {"x-ratelimit-remaining-requests": "4"}
    called = json_answer(openai_chat_body('{"x": 2}'), headers=headers)
    async with LoopbackServer([called]) as server:
        llm = create_llm(
            "openai_compatible",
            base_url=f"{server.url}/v1",
            model="small",
            environ={},
            profiles={"": {"tools": "prompted"}},
        )
        async with llm:
            reply = await llm.chat(tools=[double]).ask("Double 2", tool_choice="required", max_tool_rounds=0)

    assert reply.finish_reason == "tool_limit"
    assert reply.rate_limits is not None
    assert reply.rate_limits.requests.remaining == 4
