"""The public API as a typed program calls it: never run, checked by ``mypy --strict``.

`assert_type` says what a caller may rely on; a ``type: ignore`` marks what must be an error, and strict mode complains
when it is none.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, assert_type
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from nodellm_orm import (
    ANY_OWNER,
    LLM,
    Chat,
    ChatBusyError,
    Chats,
    ChatSummary,
    Chunk,
    Encryption,
    EncryptionError,
    Excerpt,
    ExportReport,
    Finding,
    FinishReason,
    FoundMessage,
    FoundMessages,
    ImportReport,
    InterruptedTurn,
    LLMClient,
    LLMCompleteResult,
    LLMMessage,
    LLMTool,
    LLMUsage,
    Message,
    Page,
    Persistence,
    Price,
    ProviderError,
    PurgeReport,
    ReplayLLM,
    ReplayProgress,
    ReplayReport,
    Reply,
    ReplyStream,
    RetryPolicy,
    RotationReport,
    StaleChatError,
    TamperedValueError,
    TextPart,
    Thinking,
    ThinkingConfig,
    Timeout,
    Tool,
    ToolCall,
    ToolContext,
    ToolHalt,
    ToolResult,
    TransferProgress,
    TurnInterruptedError,
    UnreadableValue,
    Usage,
    UsageRow,
    VerifyProgress,
    VerifyReport,
    Window,
    create_chat,
    create_llm,
    create_search_index,
    define_records,
    drop_search_index,
    export_chats,
    import_chats,
    interrupted_turns,
    list_chats,
    load_chat,
    make_engine,
    migrate,
    purge,
    register_provider,
    replay_chat,
    replay_chats,
    rotate_keys,
    search_messages,
    tool,
    usage_report,
    verify,
)
from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord, ToolCallRecord


class City(BaseModel):
    """A pydantic model as a schema."""

    name: str
    people: int


@dataclass(frozen=True, slots=True)
class Point:
    """A dataclass as a schema."""

    x: float
    y: float


@tool
async def get_weather(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Current weather."""
    return f"21 °{unit} in {city}"


@tool(idempotent=True, requires_approval=True, sequential=True)
def charge(cents: int, context: ToolContext) -> dict[str, object]:
    """Charge an amount."""
    return {"cents": cents, "key": context.idempotency_key, "owner": context.owner}


class Refund(Tool):
    """Refund an order."""

    name = "refund"
    description = "Refund an order"
    requires_approval = True

    class Args(BaseModel):
        """What it takes."""

        order_id: str

    async def run(self, args: Args, context: ToolContext) -> ToolHalt:
        """Refund it, and end the turn."""
        return ToolHalt({"order": args.order_id, "chat": str(context.chat_id)})


def plain(query: str) -> list[str]:
    """A plain function is a tool too."""
    return [query]


async def decorated_functions_stay_callable() -> None:
    """A decorated function is called as before, with the types it had."""
    asking: Coroutine[Any, Any, str] = get_weather("Paris")
    assert_type(await asking, str)
    assert_type(await get_weather("Paris", unit="f"), str)
    await get_weather(5)  # type: ignore[arg-type]
    await get_weather("Paris", "k")  # type: ignore[arg-type]


async def clients() -> None:
    """Clients are made, derived, used as context managers and closed."""
    llm = create_llm(
        "openai",
        model="gpt-5-mini",
        api_key="k",
        base_url="https://host/v1",
        api="chat",
        timeout=Timeout(connect=1, first_byte=None, total=30.0),
        retry=RetryPolicy(max_attempts=2, jitter=False),
        prices={"gpt-5-mini": Price(input=Decimal(1), output=Decimal(2))},
        profiles={"gpt-5": {"sampling": False}},
        environ={},
        organization="o",
    )
    assert_type(llm, LLM)
    assert_type(llm.provider, str)
    assert_type(llm.default_model, str | None)
    assert_type(llm.with_provider("anthropic", model="claude-haiku-4-5"), LLM)
    async with create_llm() as other:
        assert_type(other, LLM)
        assert_type(other.chat("gpt-5-mini", instructions=["a", "b"], tools=[plain]), Chat)
    await llm.aclose(grace=1.0)
    assert_type(llm.close_soon(), None)
    register_provider("mine", base_url="https://host/v1", api_key_env="MINE_KEY")
    create_llm(model=5)  # type: ignore[arg-type]


async def chats(engine: AsyncEngine, factory: async_sessionmaker[AsyncSession], session: AsyncSession) -> None:
    """Chats are created, loaded and listed from an engine, a sessionmaker or a session."""
    llm = create_llm("openai")
    await migrate(engine)
    assert_type(make_engine("sqlite+aiosqlite:///chats.db"), AsyncEngine)
    chat = await create_chat(
        engine,
        llm,
        model="gpt-5-mini",
        instructions="Answer briefly.",
        tools=[get_weather, charge, Refund, Refund(), plain],
        messages=[{"role": "user", "content": "Hi"}, Message(role="assistant", parts=(TextPart(text="Hello"),))],
        metadata={"team": "blue", "tags": ["a", 1, None]},
        owner="ann",
        title="A chat",
        id="01890000-0000-7000-8000-000000000000",
        timeout=30,
        headers={"x-trace": "1"},
        params={"seed": 7},
        durability="turn",
        transactions="own",
        temperature=0.5,
        thinking="low",
        max_cost="0.10",
    )
    assert_type(chat, Chat)
    assert_type(await load_chat(factory, llm, chat.id, owner="ann", tools=[plain]), Chat)
    assert_type(await load_chat(session, llm, str(chat.id), owner=ANY_OWNER, model="gpt-5"), Chat)
    page = await list_chats(engine, owner="ann", metadata={"team": "blue"}, limit=10, after=None)
    assert_type(page, Page[ChatSummary])
    for summary in page:
        assert_type(summary.id, UUID)
        assert_type(summary.updated_at, datetime)
    assert_type(page.next, str | None)
    assert_type(await interrupted_turns(engine, limit=5), tuple[InterruptedTurn, ...])
    assert_type([await chat.resume(turn=turn) for turn in await interrupted_turns(engine)], list[Reply[Any]])
    offered = Chats(factory, llm, tools=[get_weather])
    assert_type(await offered.create(owner="ann"), Chat)
    assert_type(await offered.load(chat.id, owner="ann"), Chat)
    assert_type(await offered.list(owner="ann"), Page[ChatSummary])
    assert_type(await offered.delete(chat.id, owner="ann"), bool)
    assert_type(await offered.delete(str(chat.id), owner=ANY_OWNER), bool)
    await offered.delete(5)  # type: ignore[arg-type]
    await create_chat("sqlite:///chats.db", llm)  # type: ignore[arg-type]
    await create_chat(engine, llm, durability="steps")  # type: ignore[arg-type]
    await load_chat(engine, llm, 5)  # type: ignore[arg-type]


async def questions(chat: Chat) -> None:
    """What is parsed has the type that was asked for."""
    assert_type((await chat.ask("?", schema=City)).parsed, City | None)
    assert_type((await chat.ask("?", schema=Point)).parsed, Point | None)
    assert_type((await chat.ask("?", schema=int)).parsed, int | None)
    assert_type(await chat.ask("?", schema=City), Reply[City])
    assert_type(await chat.ask("?", schema={"type": "object"}), Reply[Any])
    reply = await chat.ask(
        ["Look at this:", TextPart(text="more")],
        tools=[plain],
        tool_choice="plain",
        parallel_tool_calls=False,
        thinking=ThinkingConfig(budget=2048),
        temperature=1,
        max_tokens=100,
        max_tool_rounds=2,
        max_cost=Decimal("0.5"),
        timeout=Timeout(total=5),
        headers={"x-trace": "1"},
        params={"seed": 7},
        idempotency_key="k",
        wait=1.5,
        on_limit="raise",
        abandon_pending=True,
    )
    assert_type(reply, Reply[Any])
    assert_type(reply.content, str)
    assert_type(reply.message, Message | None)
    assert_type(reply.thinking, Thinking | None)
    assert_type(reply.tool_calls, tuple[ToolCall, ...])
    assert_type(reply.usage, Usage)
    assert_type(reply.usage.output_tokens, int | None)
    assert_type(reply.cost, Decimal | None)
    assert_type(reply.finish_reason, FinishReason)
    assert_type(reply.model, str | None)
    assert_type(reply.turn_id, UUID)
    assert_type(reply.request_ids, tuple[str, ...])
    await chat.ask(5)  # type: ignore[call-overload]
    await chat.ask("?", max_tokns=5)  # type: ignore[call-overload]
    await chat.ask("?", on_limit="explode")  # type: ignore[call-overload]
    print((await chat.ask("?", schema=City)).parsed.name)  # type: ignore[union-attr]  # noqa: T201 — a use of it


async def streams(chat: Chat) -> None:
    """A stream is iterated, entered and asked for its reply, which has the type that was asked for."""
    assert_type(chat.stream("?", schema=City), ReplyStream[City])
    assert_type(await chat.stream("?", schema=City, on_abandon="finish").reply(), Reply[City])
    assert_type((await chat.stream("?", schema=Point, max_tokens=5).reply()).parsed, Point | None)
    assert_type(chat.stream("?"), ReplyStream[Any])
    async with chat.stream("?") as stream:
        assert_type(stream, ReplyStream[Any])
        async for chunk in stream:
            assert_type(chunk, Chunk)
            assert_type(chunk.content, str)
            assert_type(chunk.thinking, str)
            assert_type(chunk.tool_call, ToolCall | None)
            assert_type(chunk.tool_result, ToolResult | None)
            assert_type(chunk.usage, Usage | None)
            assert_type(chunk.finish_reason, FinishReason | None)
    await stream.aclose()
    async for chunk in chat.stream("?"):
        assert_type(chunk, Chunk)
    await chat.stream("?")  # type: ignore[misc]
    chat.stream("?", on_abandon="forget")  # type: ignore[call-overload]


async def what_a_chat_is(chat: Chat) -> None:
    """Its properties, history, settings and hooks."""
    assert_type(chat.id, UUID)
    assert_type(chat.owner, str | None)
    assert_type(chat.title, str | None)
    assert_type(chat.model, str | None)
    assert_type(chat.provider, str | None)
    assert_type(chat.instructions, str)
    assert_type(chat.messages, tuple[Message, ...])
    assert_type(await chat.history(limit=10, before=20), tuple[Message, ...])
    assert_type(await chat.add_message("user", "Hi"), Message)
    assert_type((await chat.usage()).cost, Decimal | None)
    assert_type((await chat.usage()).input_tokens, int | None)
    assert_type(await chat.resume(unknown="retry", wait=1), Reply[Any])
    assert_type(chat.pending_approvals, tuple[ToolCall, ...])
    assert_type(await chat.approve("call_1", by="ada"), ToolCall)
    assert_type(await chat.deny("call_1", "not today"), ToolCall)
    assert_type(await chat.cancel(), bool)
    assert_type(chat.render("?").body, bytes)
    changed = (
        chat.with_tool(plain)
        .with_tools(get_weather, Refund)
        .with_instructions("More.", replace=True)
        .with_model("gpt-5", provider="openai")
        .with_provider("anthropic", model="claude-haiku-4-5")
        .with_temperature(0.5)
        .with_max_tokens(100)
        .with_thinking(effort="low")
        .with_schema(City)
        .with_params(seed=7)
        .with_headers(trace="1")
        .with_tool_choice("auto")
        .on_new_message(print)
        .on_end_message(print)
        .on_tool_call_start(print)
        .on_tool_call_end(print)
        .on_tool_call_error(print)
        .before_request(lambda request: request)
        .after_response(print)
    )
    assert_type(changed, Chat)
    assert_type(await chat.update(title="New", max_tokens=5), Chat)
    metadata: Mapping[str, object] = await chat.update_metadata(team="red", gone=None)
    print(metadata)  # noqa: T201 — a use of it
    chat.id = UUID(int=0)  # type: ignore[misc]


async def other_ways(chat: Chat) -> None:
    """Branches, new answers, edited questions and summaries."""
    branch = await chat.fork(
        at=chat.messages[0],
        title="Another way",
        metadata={"team": "blue"},
        tools=[plain],
        id="01890000-0000-7000-8000-000000000000",
        model="gpt-5",
        max_takeovers=None,
        temperature=0.5,
    )
    assert_type(branch, Chat)
    assert_type(await branch.fork(3), Chat)
    assert_type(await chat.regenerate(), Reply[Any])
    assert_type(await chat.regenerate(schema=City, max_tokens=100), Reply[City])
    assert_type(await chat.edit(0, "In other words?"), Reply[Any])
    assert_type(await chat.edit(chat.messages[0], "?", schema=City, files=[b"x"]), Reply[City])
    assert_type(await chat.compact(keep=2, instructions="List.", model="gpt-5", max_tokens=9, wait=1), Message)
    assert_type(await chat.ask("?", history_window=Window(turns=2, tokens=1000)), Reply[Any])
    assert_type(await chat.update(history_window=3), Chat)
    assert_type(await chat.delete(), bool)
    await chat.fork(at="2")  # type: ignore[arg-type]
    await chat.edit("0", "?")  # type: ignore[call-overload]
    await chat.edit(0, "?", model="gpt-5")  # type: ignore[call-overload]
    await chat.compact(keep="2")  # type: ignore[arg-type]
    Window(turns="2")  # type: ignore[arg-type]


@tool(idempotent=True)
async def book(seat: str, context: ToolContext) -> str:
    """What a tool writes in the commit of its result."""
    assert_type(context.session, AsyncSession)
    assert_type(context.approved_by, str | None)
    assert_type(context.remaining, float | None)
    return seat


def without_cards(text: str) -> str:
    """A redaction."""
    return text


async def heard(report: PurgeReport | VerifyProgress | RotationReport) -> None:
    """Progress, told to an async function."""
    print(report)  # noqa: T201 — a use of it


async def upkeep(engine: AsyncEngine, factory: async_sessionmaker[AsyncSession], llm: LLM, chat_id: UUID) -> None:
    """What is deleted, checked, encrypted and left out."""
    report = await purge(engine, older_than=timedelta(days=90), owner=ANY_OWNER, limit=5, batch=100, progress=print)
    assert_type(report, PurgeReport)
    assert_type((report.chats, report.complete, report.referenced), tuple[int, bool, tuple[UUID, ...]])
    await purge(factory, owner=None, keep_labels=True, progress=heard)
    await purge(engine, older_than="90d")  # type: ignore[arg-type]
    encryption = Encryption(keys={"a": Encryption.generate_key(), "b": b"k" * 32}, current="a", allow_plaintext=False)
    assert_type(Encryption.from_environment().key_names, tuple[str, ...])
    checked = await verify(engine, chat_id, owner="ann", encryption=encryption, limit=5, progress=heard)
    assert_type(checked, VerifyReport)
    assert_type(checked.findings, tuple[Finding, ...])
    assert_type((checked.ok, checked.damaged), tuple[bool, int])
    await verify(engine, limit="5")  # type: ignore[arg-type]
    rotated = await rotate_keys(factory, encryption, batch=10, progress=heard)
    assert_type(rotated, RotationReport)
    assert_type((rotated.rotated, rotated.left), tuple[int, int | None])
    assert_type(rotated.unreadable, tuple[UnreadableValue, ...])
    await rotate_keys("sqlite:///chats.db", encryption)  # type: ignore[arg-type]
    kept = Persistence(thinking=False, tool_results=False)
    await create_chat(engine, llm, encryption=encryption, persist=kept, redact=without_cards, max_takeovers=2)
    await load_chat(engine, llm, chat_id, encryption=encryption, persist=kept, redact=without_cards, max_takeovers=None)
    Persistence(content="no")  # type: ignore[arg-type]
    Encryption(keys="k")  # type: ignore[arg-type]
    Chats(engine, llm, encryption=encryption, persist=kept, redact=without_cards)
    try:
        await load_chat(engine, llm, chat_id)
    except TamperedValueError as error:
        assert_type(error.details, dict[str, object])
    except EncryptionError as error:
        print(error.details)  # noqa: T201 — a use of it


async def errors(chat: Chat) -> None:
    """What errors carry."""
    try:
        await chat.ask("?")
    except ChatBusyError as busy:
        assert_type(busy.turn_id, UUID | None)
        assert_type(busy.lease_until, datetime | None)
    except TurnInterruptedError as interrupted:
        assert_type(interrupted.reply, object | None)
    except StaleChatError as stale:
        assert_type(stale.reply, object | None)
    except ProviderError as error:
        assert_type(error.status, int | None)
        assert_type(error.retry_after, float | None)
        assert_type(error.request_id, str | None)


class Echo:
    """Anything with ``complete`` is an `LLMClient`."""

    async def complete(
        self,
        *,
        model: str,
        messages: object,
        system: str | None = None,
        tools: object = None,
        max_tokens: int | None = None,
    ) -> LLMCompleteResult:
        """Say what was said."""
        del tools, max_tokens
        return LLMCompleteResult(text=f"{model}: {system} {messages}", usage=LLMUsage(input_tokens=1, output_tokens=1))


async def neutral_interface() -> None:
    """A foreign client is one by its shape."""
    client: LLMClient = Echo()
    spec = LLMTool(name="plain", description="A tool", input_schema={"type": "object"})
    result = await client.complete(model="m", messages=[LLMMessage(role="user", content="Hi")], tools=[spec])
    assert_type(result.text, str)
    assert_type(result.usage, LLMUsage | None)


async def reports(engine: AsyncEngine) -> None:
    """A report is a list of rows with exact sums."""
    rows = await usage_report(engine, group_by=["day", "metadata.team"], owner=ANY_OWNER, since=date(2026, 1, 1))
    assert_type(rows, list[UsageRow])
    for row in rows:
        assert_type(row.cost, Decimal | None)
        assert_type(row.latency_p95, int | None)
        assert_type(row.requests, int)


async def searches(engine: AsyncEngine) -> None:
    """A search gives a page of messages with excerpts."""
    page = await search_messages(engine, '"event loop" -thread', owner="ann", roles=["user"], since=date(2026, 1, 1))
    assert_type(page, FoundMessages)
    for found in page:
        assert_type(found, FoundMessage)
        assert_type(found.excerpt, Excerpt)
        assert_type(list(found.excerpt.pieces()), list[tuple[str, bool]])
    await create_search_index(engine)
    assert_type(await drop_search_index(engine), bool)


async def rows(session: AsyncSession) -> None:
    """Records are queried with the types of their columns."""
    query = select(ChatRecord.id, MessageRecord.content).where(ChatRecord.owner == "ann")
    for row in (await session.execute(query)).tuples():
        assert_type(row, tuple[UUID, str])
    call = (await session.scalars(select(ToolCallRecord))).first()
    if call is not None:
        assert_type(call.arguments, str)
        assert_type(call.result, str | None)
    assert_type((await session.scalars(select(RequestRecord.cost))).all(), Sequence[Decimal | None])
    print(define_records)  # noqa: T201 — a use of it


async def transfer(engine: AsyncEngine, chat: Chat) -> None:
    """Chats go to files and come back."""

    def progress(state: TransferProgress) -> None:
        assert_type(state.total, int | None)

    with open("chats.jsonl", "wb") as file:  # noqa: ASYNC230, PTH123 — an open file, as users have them
        report = await export_chats(engine, file, chats=[chat.id, "…"], progress=progress)
    assert_type(report, ExportReport)
    assert_type(report.sha256, str | None)
    assert_type(await export_chats(engine, "folder", owner=ANY_OWNER, format="parquet"), ExportReport)
    imported = await import_chats(engine, "chats.jsonl", owner=None, on_conflict="skip")
    assert_type(imported, ImportReport)
    assert_type(imported.kept, tuple[UUID, ...])
    await export_chats(engine, 1)  # type: ignore[arg-type]
    await import_chats(engine, "chats.jsonl", on_conflict="merge")  # type: ignore[arg-type]


async def replays(engine: AsyncEngine, chat: Chat, llm: LLM) -> None:
    """Stored questions asked again, and stored answers played."""

    def progress(state: ReplayProgress) -> None:
        assert_type((state.turn, state.chats_done), tuple[int, int])

    report = await replay_chat(engine, chat.id, llm, instructions="Briefly.", results="live", progress=progress)
    assert_type(report, ReplayReport)
    assert_type(report.turns[0].replayed.cost, Decimal | None)
    assert_type(report.turns[0].calls[0].verdict, Literal["same", "other", "missing", "added"])
    assert_type(report.replayed.latency_ms, int | None)
    async for one in replay_chats(engine, {"team": "blue"}, llm, concurrency=2, run="nightly"):
        assert_type(one, ReplayReport)
    player = await ReplayLLM.from_chat(engine, chat.id, compare=("messages", "tools"))
    assert_type(player, ReplayLLM)
    assert_type(player.remaining, int)
    assert_type(player.chat(instructions="Briefly."), Chat)
    assert_type(await create_chat(engine, player), Chat)
    await replay_chat(engine, chat.id, player, results="dead")  # type: ignore[arg-type]
    await ReplayLLM.from_chat(engine, chat.id, compare=("words",))  # type: ignore[arg-type]
