"""Every provider in every format it speaks does what a chat promises: the same turns, rows and replays everywhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    AuthenticationError,
    BadRequestError,
    Chunk,
    ModelNotFoundError,
    Price,
    RetryPolicy,
    UnsupportedFeatureError,
    create_chat,
    load_chat,
    tool,
)
from nodellm_orm.models import MessageRecord, RequestRecord, ThinkingRecord, ToolCallRecord
from nodellm_orm.testing import FakeCall, FakeThinking, json_answer
from tests.acceptance.speakers import EVERYWHERE, KEY, Fails, Says, Speaker
from tests.acceptance.test_exact_resume import HOSTILE, growing
from tests.acceptance.validity import check, check_history, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from nodellm_orm.testing import LoopbackServer, ReceivedRequest
    from tests.acceptance.speakers import Line
    from tests.integration.databases import DatabaseKind

THEIRS: Final = "sk-canary-of-another-provider"
KEYS: Final = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
    *("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "XAI_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY"),
    *("MISTRAL_API_KEY", "OPENAI_COMPATIBLE_API_KEY", "OLLAMA_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
SIGNATURE: Final = "c2lnbmVkLTE="
THOUGHT: Final = "I weigh it up."
BY_TEXT: Final = {"deepseek", "mistral", "ollama"}
"""Providers whose models want what they thought in words; the others want it in its signed form."""
NEVER: Final = {Speaker("openai_chat", "xai"), Speaker("openai_chat", "openai_compatible")}
"""Where thinking is shown and has no place in a request."""
PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)

everywhere: Final = pytest.mark.parametrize("speaker", EVERYWHERE, ids=str)


@pytest.fixture
def database_kind() -> DatabaseKind:
    """The rows are the same on every database; that is tested elsewhere."""
    return "sqlite"


@dataclass
class Weather:
    """What is asked for in a form."""

    city: str
    degrees: float


@tool
async def double(x: float) -> float:
    """Double a number."""
    return 2 * x


@tool
def broken(reason: str) -> None:
    """Always fails."""
    raise ValueError(reason)


def client(speaker: Speaker, server: LoopbackServer) -> LLM:
    """A client with prices of its own, which retries at once, among the keys of everybody else."""
    return speaker.llm(
        server,
        retry=RetryPolicy(max_attempts=2, base_ms=0),
        prices={speaker.model: Price(input=1, output=2)},
        environ=dict.fromkeys(KEYS, THEIRS),
    )


def verify(speaker: Speaker, requests: Sequence[ReceivedRequest]) -> None:
    """Every request is one that the provider takes, and holds its key where it belongs and nobody else's."""
    assert requests
    for request in requests:
        check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
        secret = {name: value for name, value in request.headers.items() if "canary" in value}
        assert list(secret) == [speaker.place.header]
        assert secret[speaker.place.header].endswith(KEY)
        assert "canary" not in request.path
        assert b"canary" not in request.body


async def ledger(engine: AsyncEngine) -> list[RequestRecord]:
    """Every attempt in the order in which it was made."""
    async with AsyncSession(engine) as session:
        return list(await session.scalars(select(RequestRecord).order_by(RequestRecord.id)))


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@everywhere
async def test_question_is_answered_recorded_and_priced(engine: AsyncEngine, speaker: Speaker) -> None:
    """A question with several instructions is one valid request, an answer, and a row with its tokens and cost."""
    script = Says(text="Hello, wörld 🚀", usage=(120, 40))
    async with speaker.server(script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm, instructions=["Be brief. é", "Be kind."], max_tokens=500)
        reply = await chat.ask("Hi " + HOSTILE)

        assert (reply.content, reply.finish_reason, reply.provider) == ("Hello, wörld 🚀", "stop", speaker.provider)
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (120, 40)
        assert reply.cost == Decimal("0.0002")
        (row,) = await ledger(engine)
        assert (row.provider, row.requested_model, row.status, row.http_status) == (
            *(speaker.provider, speaker.model),
            *("ok", 200),
        )
        assert (row.input_tokens, row.output_tokens, row.cost) == (120, 40, Decimal("0.0002"))
        assert (row.input_cost, row.output_cost, row.price_source) == (Decimal("0.00012"), Decimal("0.00008"), "user")
        (await stored(engine, chat.id)).check()

    verify(speaker, server.requests)
    body = server.requests[0].body.decode()
    assert body.index("Be brief. é") < body.index("Be kind.") < body.index("Hi na")


@everywhere
async def test_stream_equals_ask(engine: AsyncEngine, speaker: Speaker) -> None:
    """The same script asked and streamed gives equal replies, equal messages, equal rows, and chunks that add up."""
    # Gemini signs the last thought of an answer in words somewhere else in a stream than in a body.
    last = [] if speaker.api == "gemini" else [FakeThinking("So it is.", "c2lnbmVkLTI=")]
    script = [
        Says(text="Let me see. ", calls=[FakeCall("double", {"x": 21})], thinking=[FakeThinking(THOUGHT, SIGNATURE)]),
        Says(text="Hello, wörld 🚀", thinking=last, usage=(30, 9)),
    ]
    async with speaker.server(*script, *script) as server, client(speaker, server) as llm:
        one, two = [await create_chat(engine, llm, tools=[double]) for _ in range(2)]
        asked = await one.ask("go")
        async with two.stream("go") as stream:
            chunks: list[Chunk] = [chunk async for chunk in stream]
        streamed = await stream.reply()

        assert replace(streamed, turn_id=asked.turn_id, request_ids=()) == replace(asked, request_ids=())
        assert two.messages == one.messages
        assert "".join(chunk.content for chunk in chunks) == "Let me see. Hello, wörld 🚀"
        thought = THOUGHT + "".join(thinking.text for thinking in last)
        assert "".join(chunk.thinking for chunk in chunks) == (thought if speaker.thinks else "")
        assert [c.tool_result.content for c in chunks if c.tool_result] == ["42.0"]
        rows = [await stored(engine, chat.id) for chat in (one, two)]
        for found in rows:
            found.check()
        first, second = ([(m.position, m.role, m.parts, m.content) for m in found.messages] for found in rows)
        assert first == second

    verify(speaker, server.requests)
    asking, streaming = server.requests[:2], server.requests[2:]
    assert [speaker.streams(request) for request in server.requests] == [False, False, True, True]
    assert [growing(request.body) for request in asking] == [growing(request.body) for request in streaming]


@everywhere
async def test_calls_are_run_and_answered(engine: AsyncEngine, speaker: Speaker) -> None:
    """One call, then three at once of which two fail: each is run once, answered in order, and its row says so."""
    script = [
        Says(calls=[FakeCall("double", '{"x":1.50}', "call_one")]),
        Says(
            text="More.",
            calls=[
                FakeCall("double", '{ "x" : 2e1 }', "call_two"),
                FakeCall("broken", '{"reason":"b\\u0061d"}', "call_two"),
                FakeCall("default_api.unheard:of", "{}", "an id with blanks / and é"),
            ],
        ),
        Says(text="done"),
        Says(text="really"),
    ]
    async with speaker.server(*script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm, tools=[double, broken])
        reply = await chat.ask("go")
        await chat.ask("Really?")

        assert reply.content == "done"
        assert [(call.name, call.is_error) for call in reply.tool_calls] == [
            ("double", False),
            ("double", False),
            ("broken", True),
            ("default_api.unheard:of", True),
        ]
        assert [call.result for call in reply.tool_calls][:2] == ["3.0", "40.0"]
        check_history(chat.messages)
        async with AsyncSession(engine) as session:
            calls = (await session.scalars(select(ToolCallRecord).order_by(ToolCallRecord.id))).all()
        assert [call.status for call in calls] == ["succeeded", "succeeded", "failed", "failed"]
        assert [call.attempts for call in calls][:3] == [1, 1, 1]
        assert len({call.call_id for call in calls}) == 4
        assert calls[0].call_id == "call_one"

    verify(speaker, server.requests)
    last = server.requests[-1].body.decode()
    assert '"x":1.50' in last or '\\"x\\":1.50' in last
    assert "2e1" in last


@everywhere
async def test_answer_in_a_form(engine: AsyncEngine, speaker: Speaker) -> None:
    """A structured answer comes back as a value of its type; the form reaches the provider, or is told in words."""
    script = [Says(text='{"city":"Oslo","degrees":-3.5}')] * 2
    async with speaker.server(*script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        reply = await chat.ask("The weather in Oslo?", schema=Weather)
        again = await chat.ask("And now?", schema=Weather, tools=[double])

    assert reply.parsed == again.parsed == Weather(city="Oslo", degrees=-3.5)
    verify(speaker, server.requests)
    for request in server.requests:
        assert b"degrees" in request.body.partition(b"The weather in Oslo?")[0]


@pytest.mark.parametrize("speaker", [speaker for speaker in EVERYWHERE if speaker.thinks], ids=str)
async def test_thinking_is_shown_stored_and_replayed(engine: AsyncEngine, speaker: Speaker) -> None:
    """What the model thought is in the reply and in the rows, and goes back in the form that its provider takes."""
    script = [
        Says(text="Wait.", calls=[FakeCall("double", {"x": 1})], thinking=[FakeThinking(THOUGHT, SIGNATURE)]),
        Says(text="2", thinking=[FakeThinking("So it is.", "c2lnbmVkLTI=")]),
        Says(text="Yes."),
    ]
    async with speaker.server(*script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm, tools=[double])
        options: Any = {"thinking": "low"} if llm.model_info().thinks else {}
        reply = await chat.ask("go", **options)
        await (await load_chat(engine, llm, chat.id, tools=[double])).ask("Sure?", **options)

        assert reply.thinking is not None
        assert reply.thinking.text == "So it is."
        assert chat.messages[1].thinking == THOUGHT
        async with AsyncSession(engine) as session:
            rows = (await session.scalars(select(ThinkingRecord).order_by(ThinkingRecord.message_id))).all()
        assert [row.text for row in rows] == [THOUGHT, "So it is."]

    verify(speaker, server.requests)
    wanted = THOUGHT if speaker.provider in BY_TEXT else SIGNATURE
    for request in server.requests[1:]:
        assert (wanted.encode() in request.body) == (speaker not in NEVER)


@everywhere
async def test_files_reach_the_model(engine: AsyncEngine, speaker: Speaker) -> None:
    """An image and a text go along, also later; a model without eyes refuses the image before anything happens."""
    async with speaker.server(Says(text="A pixel."), Says(text="Yes.")) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        sees = "image" in llm.model_info().reads
        files: list[Any] = [("notes.md", "# Grüße, né\n".encode())]
        if sees:
            files.append(("cat.png", PIXEL))
        else:
            with pytest.raises(UnsupportedFeatureError, match=r"cat\.png"):
                await chat.ask("What is this?", files=("cat.png", PIXEL))
            assert (server.requests, chat.messages) == ([], ())
        await chat.ask("What are these?", files=files)
        await (await load_chat(engine, llm, chat.id)).ask("Really?")

    verify(speaker, server.requests)
    for request in server.requests:
        assert "# Grüße, né" in request.body.decode()
        assert (base64.b64encode(PIXEL) in request.body) == sees


# ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@everywhere
async def test_rate_limit_is_waited_for(engine: AsyncEngine, speaker: Speaker) -> None:
    """A 429 is tried again with the same bytes; both attempts are in the ledger."""
    script: list[Line] = [Fails(status=429, message="slow down", type="rate_limit_error"), Says(text="fine")]
    async with speaker.server(*script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        assert (await chat.ask("go")).content == "fine"
        rows = await ledger(engine)

    assert [(row.attempt, row.status, row.http_status, row.error_type) for row in rows] == [
        (1, "failed", 429, "RateLimitError"),
        (2, "ok", 200, None),
    ]
    verify(speaker, server.requests)
    first, second = server.requests
    assert first.body == second.body


@everywhere
@pytest.mark.parametrize(
    ("status", "error"), [(400, BadRequestError), (401, AuthenticationError), (404, ModelNotFoundError)]
)
async def test_failure_has_a_type_and_a_row(
    engine: AsyncEngine, speaker: Speaker, status: int, error: type[Exception]
) -> None:
    """What cannot be repaired by asking again is an error of its own type, and a failed row; the question is kept."""
    async with speaker.server(Fails(status=status), Says(text="fine")) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        with pytest.raises(error, match="something is wrong") as caught:
            await chat.ask("go")
        assert KEY not in str(caught.value)
        (row,) = await ledger(engine)
        assert (row.status, row.http_status, row.error_type, row.cost) == ("failed", status, error.__name__, None)
        assert (await chat.ask("again")).content == "fine"
        (await stored(engine, chat.id)).check()

    verify(speaker, server.requests)


# ── exactness ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TALK: Final = (
    Says(
        text="Let me look. é 🚀",
        thinking=[FakeThinking("Two calls 🤔", "c2lnbmVkLTE=")],
        calls=[FakeCall("double", '{"x":1.50}', "toolu_a"), FakeCall("broken", '{"reason":"\\ud83d"}', "toolu_b")],
    ),
    Says(text="Half of it worked.", thinking=[FakeThinking("Summing up", "c2lnbmVkLTI=")]),
    Says(text="A second answer"),
    Says(text="Third", calls=[FakeCall("double", '{"x":2}', "toolu_a")]),
    Says(text="done"),
)


@everywhere
async def test_turn_goes_on_exactly_where_it_failed(engine: AsyncEngine, speaker: Speaker) -> None:
    """After a failure between two rounds another client resumes with the very bytes that failed; no tool runs again."""
    script: list[Line] = [Says(calls=[FakeCall("double", '{"x":1.50}')]), Fails(status=400), Says(text="done")]
    async with speaker.server(*script) as server:
        async with client(speaker, server) as llm:
            chat = await create_chat(engine, llm, instructions="Be brief.", tools=[double])
            with pytest.raises(BadRequestError):
                await chat.ask("go")
        async with client(speaker, server) as llm:
            loaded = await load_chat(engine, llm, chat.id, tools=[double])
            assert (await loaded.resume()).content == "done"
            (await stored(engine, chat.id)).check()
            async with AsyncSession(engine) as session:
                assert [call.attempts for call in await session.scalars(select(ToolCallRecord))] == [1]

    verify(speaker, server.requests)
    _, failed, resumed = server.requests
    assert (failed.path, failed.body) == (resumed.path, resumed.body)


@everywhere
async def test_requests_grow_and_are_the_same_from_any_client(engine: AsyncEngine, speaker: Speaker) -> None:
    """Each request begins with what the one before it said, and a client that has only the rows sends the same."""
    instructions = ["Be brief. " + HOSTILE, "Two texts."]
    async with speaker.server(*TALK, Says(text="x"), Says(text="y")) as server:
        async with client(speaker, server) as llm:
            chat = await create_chat(engine, llm, instructions=instructions, tools=[double, broken])
            await chat.ask("Double it. " + HOSTILE, files=("cat.txt", b"miaow"))
            async with chat.stream("Thanks. Again?") as stream:
                async for _ in stream:
                    pass
            await chat.ask("One more")
            wanted = chat.render("And now? " + HOSTILE)
        async with client(speaker, server) as llm:
            loaded = await load_chat(engine, llm, chat.id, tools=[double, broken])
            assert loaded.messages == chat.messages
            assert loaded.render("And now? " + HOSTILE) == wanted
            await loaded.ask("And now? " + HOSTILE)
            await (await load_chat(engine, llm, chat.id, tools=[double, broken])).ask("last")

    verify(speaker, server.requests)
    assert server.requests[-2].body == wanted.body
    sent = [growing(request.body) for request in server.requests]
    assert len(sent) == len(TALK) + 2
    for earlier, later in pairwise(sent):
        assert later.startswith(earlier)


@everywhere
async def test_left_stream_is_replayed_as_its_text(engine: AsyncEngine, speaker: Speaker) -> None:
    """Of an answer that its reader left in the middle the text is kept and sent again, and no thinking."""
    script = [Says(text="Hello, wörld", thinking=[FakeThinking(THOUGHT, SIGNATURE)]), Says(text="fine")]
    async with speaker.server(*script) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        async for chunk in chat.stream("Hi"):
            if chunk.content:
                break
        assert (await chat.ask("again")).content == "fine"
        async with AsyncSession(engine) as session:
            statuses = (await session.scalars(select(MessageRecord.status).order_by(MessageRecord.position))).all()
        assert statuses[1] == "partial"

    verify(speaker, server.requests)
    last = server.requests[-1].body
    assert b"Hello" in last
    assert SIGNATURE.encode() not in last
    assert THOUGHT.encode() not in last


# ── about models ──────────────────────────────────────────────────────────────────────────────────────────────────────

COUNTS: Final[dict[Speaker, dict[str, Any]]] = {
    Speaker("anthropic"): {"input_tokens": 42},
    Speaker("openai_responses"): {"object": "response.input_tokens", "input_tokens": 42},
    Speaker("gemini"): {"totalTokens": 42},
    Speaker("bedrock"): {"inputTokens": 42},
}
LISTS: Final[dict[str, dict[str, Any]]] = {
    "openai_chat": {"object": "list", "data": [{"id": "m-1", "object": "model"}]},
    "openai_responses": {"object": "list", "data": [{"id": "m-1", "object": "model"}]},
    "anthropic": {"data": [{"type": "model", "id": "m-1", "display_name": "M"}], "has_more": False},
    "gemini": {"models": [{"name": "models/m-1", "displayName": "M"}]},
    "ollama": {"models": [{"name": "m-1", "model": "m-1"}]},
}


@everywhere
async def test_tokens_are_counted_ahead_where_the_provider_counts(engine: AsyncEngine, speaker: Speaker) -> None:
    """The provider's count of the next request, without a row; an error that says so where it does not count."""
    count = COUNTS.get(speaker)
    async with speaker.server(json_answer(count)) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm, instructions="Be brief.", tools=[double])
        if count is None:
            with pytest.raises(UnsupportedFeatureError, match="does not count tokens ahead"):
                await chat.count_tokens("Hi there")
            assert server.requests == []
            return
        assert await chat.count_tokens("Hi there") == 42
        assert (await ledger(engine), chat.messages) == ([], ())

    (request,) = server.requests
    for word in (b"Hi there", b"Be brief.", b"double"):
        assert word in request.body
    assert THEIRS not in str(request.headers)


@everywhere
async def test_models_are_listed_where_the_provider_lists_them(speaker: Speaker) -> None:
    """The names that the provider gives; an error that says so where there is no list."""
    listed = LISTS.get(speaker.api)
    async with speaker.server(json_answer(listed)) as server, client(speaker, server) as llm:
        if listed is None:
            with pytest.raises(UnsupportedFeatureError, match="no list of models"):
                await llm.list_models()
            assert server.requests == []
            return
        assert [model.id for model in await llm.list_models()] == ["m-1"]

    (request,) = server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert THEIRS not in str(request.headers)
    assert KEY in request.headers[speaker.place.header]
