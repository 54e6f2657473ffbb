"""A conversation goes on at another provider, and back: nothing foreign is sent, nothing stored is changed."""

from __future__ import annotations

import base64
import contextlib
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    MediaPart,
    OpaquePart,
    RetryPolicy,
    UnsupportedFeatureError,
    create_chat,
    create_llm,
    load_chat,
    tool,
)
from nodellm_orm.testing import FakeCall, FakeThinking, LoopbackServer, json_answer
from tests.acceptance.speakers import ALL_APIS, Says, Speaker
from tests.acceptance.test_exact_resume import HOSTILE, growing
from tests.acceptance.validity import check, check_history, stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.speakers import Line
    from tests.integration.databases import DatabaseKind

HOMES: Final = (*(Speaker(api) for api in ALL_APIS), Speaker("openai_chat", "openrouter"))
AWAY: Final = (*HOMES, Speaker("openai_chat", "mistral"), Speaker("openai_chat", "deepseek"))
PAIRS: Final = [pytest.param(home, away, id=f"{home} to {away}") for home in HOMES for away in AWAY if home != away]
TWINS: Final = [
    pytest.param(Speaker("openai_chat"), Speaker("openai_chat", "azure"), id="openai-openai_chat to azure"),
    pytest.param(Speaker("openai_responses"), Speaker("openai_responses", "azure"), id="openai-responses to azure"),
    *(pytest.param(home, home, id=f"{home} at another address") for home in HOMES),
]

PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
DRAWN: Final = PIXEL + b"drawn"
PDF: Final = b"%PDF-1.7\n% a document of our own\n%%EOF\n"
WAV: Final = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(64))
THOUGHT: Final = "What nobody else shall read"
SIGNED: Final = base64.b64encode(b"signed at home").decode()
SIGNED_TWICE: Final = base64.b64encode(b"signed at home once more").decode()
SEALED: Final = base64.b64encode(b"encrypted at home").decode()
OPAQUE: Final = "opaque-at-home"
SECRETS: Final = (THOUGHT, SIGNED, SIGNED_TWICE, SEALED, OPAQUE)
"""What only the place they come from may be sent."""
SIGNED_AWAY: Final = base64.b64encode(b"signed elsewhere").decode()
ODD_ID: Final = "an id with blanks / and é, longer than the forty characters that are allowed"
WEATHER: Final = '{"city":"Orléans \\ud83d\\ude80","days":1.50}'
UNREADABLE: Final = "not shown, because this model cannot read it"
REFUSAL: Final = "I must not say that."
TEXTS: Final = (
    *("Weather? na", "Let me look.", "☁️", "Half of it worked.", "What may you not say?", "Hello, "),
    *("From now on be kind.", "Here are files.", "Thank you.", "And now?", "The last answer at home."),
)
"""What is said at home and must be known everywhere."""


@pytest.fixture
def database_kind() -> DatabaseKind:
    """The rows are the same on every database; that is tested elsewhere."""
    return "sqlite"


@tool
async def weather(city: str, days: float = 1.50) -> dict[str, object]:
    """The weather of a city."""
    return {"city": city, "days": days, "sky": "☁️", "note": HOSTILE}


@tool
def broken(reason: str) -> None:
    """Always fails."""
    raise ValueError(reason)


TOOLS: Final = (weather, broken)
DRAWS: Final = {home for home in HOMES if home.api not in {"anthropic", "ollama", "openai_responses"}}
"""Where models answer with images that are files here (those of Responses are kept as items that go home only)."""


class Stage:
    """Servers on which several providers stand: each request gets the next line, in the words of who is to say it."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Speaker, Line]] = deque()

    def says(self, speaker: Speaker, *lines: Line) -> None:
        """Further lines of the script."""
        self._lines += [(speaker, line) for line in lines]

    def server(self) -> LoopbackServer:
        """One more server."""
        return LoopbackServer(self._handle)

    async def _handle(self, request: ReceivedRequest) -> Answer:
        speaker, line = self._lines.popleft()
        return speaker.answer(line, stream=speaker.streams(request))


# ── answers with everything in them ───────────────────────────────────────────────────────────────────────────────────


def calls() -> list[FakeCall]:
    """Three calls at once: odd ids, odd digits, one that fails, and one of a tool that nobody offered."""
    return [
        FakeCall("weather", WEATHER, "toolu_a"),
        FakeCall("broken", '{ "reason" : "b\\u0061d" }', ODD_ID),
        FakeCall("default_api.unheard:of", '{"n":1e5}', "toolu_a"),
    ]


def rich(speaker: Speaker) -> Answer:
    """An answer with all that the format has: thinking in every form, the server's own tools, citations, calls."""
    text, thinking = "Let me look. ", [FakeThinking(THOUGHT, SIGNED)]
    body: Any = speaker.body(Says(text=text, thinking=thinking, calls=calls(), usage=(120, 40)))
    match speaker.api:
        case "openai_chat":
            message = body["choices"][0]["message"]
            cited = {"url": f"https://{OPAQUE}.example/", "title": "t", "start_index": 0, "end_index": 3}
            message["annotations"] = [{"type": "url_citation", "url_citation": cited}]
            if speaker.place.thinks == "reasoning_details":
                message["reasoning_details"].append({"type": "reasoning.encrypted", "data": SEALED, "index": 1})
        case "openai_responses":
            search = {"id": f"ws_{OPAQUE}", "type": "web_search_call", "status": "completed"}
            note = {"type": "url_citation", "url": f"https://{OPAQUE}.example/", "start_index": 0, "end_index": 3}
            body["output"].insert(1, {**search, "action": {"type": "search", "query": OPAQUE}})
            body["output"][2]["content"][0]["annotations"] = [{**note, "title": "t"}]
            sealed = {"id": "rs_sealed", "type": "reasoning", "summary": [], "encrypted_content": SEALED}
            body["output"].insert(2, sealed)
        case "anthropic":
            body["content"][1:1] = [
                {"type": "redacted_thinking", "data": SEALED},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": OPAQUE}},
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "srvtoolu_1",
                    "content": [{"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": OPAQUE}],
                },
            ]
            found = {"type": "web_search_result_location", "url": "u", "encrypted_index": OPAQUE, "cited_text": "c"}
            body["content"][4]["citations"] = [{**found, "title": "t"}]
        case "gemini":
            parts = body["candidates"][0]["content"]["parts"]
            parts[1]["thoughtSignature"] = SEALED
            parts[2:2] = [
                {"executableCode": {"language": "PYTHON", "code": OPAQUE}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": OPAQUE}},
            ]
        case "bedrock":
            served = {"toolUseId": "srv_1", "name": "nova_grounding", "type": "server_tool_use"}
            told = {"toolUseId": "srv_1", "type": "nova_grounding_result", "content": [{"text": OPAQUE}]}
            body["output"]["message"]["content"][1:1] = [
                {"reasoningContent": {"redactedContent": SEALED}},
                {"toolUse": {**served, "input": {"query": OPAQUE}}},
                {"toolResult": {**told, "status": "success"}},
            ]
        case "ollama":
            pass
    return json_answer(body)


def refusal(speaker: Speaker) -> Answer:
    """The model will not answer."""
    body: Any = speaker.body(Says(text=None if speaker.api.startswith("openai") else "Well. "))
    match speaker.api:
        case "openai_chat":
            body["choices"][0]["message"]["refusal"] = REFUSAL
        case "openai_responses":
            own = {"id": "msg_refused", "type": "message", "role": "assistant", "status": "completed"}
            body["output"] = [{**own, "content": [{"type": "refusal", "refusal": REFUSAL}]}]
        case "anthropic":
            details = {"type": "refusal", "category": "cyber", "explanation": REFUSAL}
            body |= {"stop_reason": "refusal", "stop_details": details}
        case "gemini":
            body["candidates"][0] |= {"finishReason": "SAFETY", "finishMessage": REFUSAL}
        case "bedrock":
            body["stopReason"] = "guardrail_intervened"
        case "ollama":
            pass
    return json_answer(body)


def drawing(speaker: Speaker) -> Answer:
    """An answer in words, with an image that the model made where the format has such."""
    body: Any = speaker.body(Says(text="The last answer at home.", thinking=[FakeThinking(THOUGHT, SIGNED_TWICE)]))
    packed = base64.b64encode(DRAWN).decode()
    match speaker.api:
        case "openai_chat":
            url = f"data:image/png;base64,{packed}"
            body["choices"][0]["message"]["images"] = [{"type": "image_url", "image_url": {"url": url}}]
        case "openai_responses":
            item = {"id": f"ig_{OPAQUE}", "type": "image_generation_call", "status": "completed", "result": packed}
            body["output"].insert(1, item)
        case "gemini":
            parts = body["candidates"][0]["content"]["parts"]
            parts.append({"inlineData": {"mimeType": "image/png", "data": packed}})
        case "bedrock":
            body["output"]["message"]["content"].append({"image": {"format": "png", "source": {"bytes": packed}}})
        case _:
            pass
    return json_answer(body)


# ── the conversation ──────────────────────────────────────────────────────────────────────────────────────────────────


def client(speaker: Speaker, server: LoopbackServer) -> LLM:
    """A client that does not wait before it asks again."""
    return speaker.llm(server, retry=RetryPolicy(max_attempts=1), environ={})


async def hold(stage: Stage, engine: AsyncEngine, llm: LLM, home: Speaker) -> Chat:
    """A conversation with everything in it."""
    chat = await create_chat(engine, llm, instructions=["Be brief. " + HOSTILE, "Two texts."], tools=TOOLS)
    stage.says(home, rich(home), Says(text="Half of it worked.", thinking=[FakeThinking(THOUGHT, SIGNED_TWICE)]))
    await chat.ask("Weather? " + HOSTILE)
    stage.says(home, refusal(home))
    await chat.ask("What may you not say?")
    stage.says(home, Says(text="Hello, wörld", thinking=[FakeThinking(THOUGHT, SIGNED)]))
    async with contextlib.aclosing(aiter(chat.stream("Say hello."))) as stream:
        async for chunk in stream:
            if chunk.content:
                break
    await chat.add_message("system", "From now on be kind.")
    files = [
        MediaPart(media="image", media_type="image/png", name="cat.png", data=PIXEL),
        MediaPart(media="document", media_type="application/pdf", name="paper.pdf", data=PDF),
        MediaPart(media="audio", media_type="audio/wav", name="song.wav", data=WAV),
        MediaPart(media="text", media_type="text/plain", name="notes.md", data=b"# Our notes"),
    ]
    await chat.add_message("user", ["Here are files.", *files])
    await chat.add_message("assistant", "Thank you.")
    stage.says(home, drawing(home))
    await chat.ask("And now?")
    return chat


@dataclass(frozen=True)
class Kept:
    """What is stored of a chat, to be compared."""

    messages: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    requests: list[dict[str, Any]]

    def is_beginning_of(self, other: Kept) -> bool:
        """Whether the other has the same rows, and then perhaps more."""
        mine, theirs = vars(self), vars(other)
        return all(theirs[name][: len(rows)] == rows for name, rows in mine.items())


async def kept(engine: AsyncEngine, chat_id: UUID) -> Kept:
    """The rows as they are."""
    found = await stored(engine, chat_id)
    found.check()

    def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in vars(row).items() if not key.startswith("_")} for row in rows]

    return Kept(plain(found.messages), sorted(plain(found.calls), key=lambda row: row["id"]), plain(found.requests))


def strings(value: Any) -> Iterator[str]:
    """Every text in a request, decoded."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from strings(item)
        case dict():
            for item in value.values():
                yield from strings(item)


def verify(speaker: Speaker, request: ReceivedRequest) -> str:
    """The request is one that its provider takes; gives all its texts."""
    check(request.json(), speaker.api, provider=speaker.provider, model=speaker.model)
    return "\n".join(strings(request.json()))


def refused_by(speaker: Speaker) -> MediaPart:
    """A file that a provider's model cannot read in this format."""
    match speaker.api, speaker.at:
        case "openai_chat", None:
            return MediaPart(media="video", media_type="video/mp4", name="odd.file", data=b"x")
        case ("openai_chat", "deepseek") | ("ollama", _):
            return MediaPart(media="document", media_type="application/pdf", name="odd.file", data=PDF)
        case ("gemini", _) | ("openai_chat", _):
            return MediaPart(media="document", media_type="application/zip", name="odd.file", data=b"x")
        case _:
            return MediaPart(media="audio", media_type="audio/wav", name="odd.file", data=WAV)


async def go_on(stage: Stage, engine: AsyncEngine, away: Speaker, server: LoopbackServer, chat_id: UUID) -> None:
    """Another provider carries the conversation on: a question that needs a tool, and one that does not."""
    stage.says(
        away,
        Says(
            text="I look again.",
            calls=[FakeCall("weather", '{"city":"é"}', "toolu_a"), FakeCall("weather", '{"city":"ö"}', "odd, too")],
            thinking=[FakeThinking("Elsewhere one thinks, too", SIGNED_AWAY)],
        ),
        Says(text="Said elsewhere."),
        Says(text="Said elsewhere again."),
    )
    before = len(server.requests)
    async with client(away, server) as llm:
        chat = await load_chat(engine, llm, chat_id, tools=TOOLS, provider=away.provider, model=away.model)
        with pytest.raises(UnsupportedFeatureError, match=r"odd\.file"):
            await chat.ask("Read this.", files=refused_by(away))
        assert len(server.requests) == before
        await chat.ask("And elsewhere?")
        async with chat.stream("Again?") as stream:
            async for _ in stream:
                pass
        check_history(chat.messages)


def check_away(away: Speaker, requests: Sequence[ReceivedRequest], *, drawn: bool) -> None:
    """Nothing of home's own is sent, everything that was said is, and every file is there or told of."""
    for request in requests:
        words = verify(away, request)
        for secret in SECRETS:
            assert secret not in words
        for said in TEXTS:
            assert said in words
        assert ODD_ID not in words
        for name, data in {"cat.png": PIXEL, "paper.pdf": PDF, "song.wav": WAV}.items():
            shown = base64.b64encode(data).decode() in words
            assert shown != any(name in line and UNREADABLE in line for line in words.splitlines()), name
        assert (f"[image (image/png): {UNREADABLE}]" in words) == drawn, "an image that the model made"
        assert "# Our notes" in words
    first, second, third = (growing(request.body) for request in requests)
    assert second.startswith(first)
    assert third.startswith(second)


async def check_round_trip(
    engine: AsyncEngine, home: Speaker, away: Speaker, *, stage: Stage, near: LoopbackServer, far: LoopbackServer
) -> None:
    """Held at home, carried on elsewhere, and at home again."""
    async with client(home, near) as llm:
        chat = await hold(stage, engine, llm, home)
    at_home = near.requests[:]
    rows = await kept(engine, chat.id)
    for request in at_home:
        verify(home, request)
    far.requests.clear()

    await go_on(stage, engine, away, far, chat.id)
    check_away(away, far.requests, drawn=home in DRAWS)
    assert rows.is_beginning_of(await kept(engine, chat.id))

    near.requests.clear()
    stage.says(home, Says(text="Home again."))
    async with client(home, near) as llm:
        back = await load_chat(engine, llm, chat.id, tools=TOOLS, provider=home.provider, model=home.model)
        assert (await back.ask("Back?")).content == "Home again."
    (request,) = near.requests
    words = verify(home, request)
    assert growing(request.body).startswith(growing(at_home[-1].body))
    for said in ("Said elsewhere.", "Said elsewhere again.", "And elsewhere?"):
        assert said in words
    assert SIGNED_AWAY not in words
    assert rows.is_beginning_of(await kept(engine, chat.id))


@pytest.mark.parametrize(("home", "away"), PAIRS)
async def test_conversation_goes_on_elsewhere_and_comes_back(engine: AsyncEngine, home: Speaker, away: Speaker) -> None:
    """Elsewhere: a valid request with all that was said and nothing of home's own; at home again: the same bytes."""
    stage = Stage()
    async with stage.server() as server:
        await check_round_trip(engine, home, away, stage=stage, near=server, far=server)


@pytest.mark.parametrize(("home", "away"), TWINS)
async def test_other_address_is_another_place(engine: AsyncEngine, home: Speaker, away: Speaker) -> None:
    """Signatures and ids are valid at the address that gave them; at another one of the same format none is sent."""
    stage = Stage()
    async with stage.server() as near, stage.server() as far:
        await check_round_trip(engine, home, away, stage=stage, near=near, far=far)


# ── one object, one client ────────────────────────────────────────────────────────────────────────────────────────────

ROUND: Final = ("anthropic", "gemini", "openai", "bedrock", "ollama")
BY_DEFAULT: Final = {
    "anthropic": Speaker("anthropic"),
    "gemini": Speaker("gemini"),
    "openai": Speaker("openai_responses"),
    "bedrock": Speaker("bedrock"),
    "ollama": Speaker("ollama"),
}
_KEYS: Final = {
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openai": "OPENAI_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
    "ollama": "OLLAMA_API_KEY",
}


def environment(url: str) -> dict[str, str]:
    """Addresses of everybody, and a key for each."""
    addresses = {
        "ANTHROPIC_BASE_URL": url,
        "GOOGLE_GEMINI_BASE_URL": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "OLLAMA_HOST": url,
    }
    return addresses | {variable: f"sk-canary-of-{name}" for name, variable in _KEYS.items()}


def signed_by(provider: str) -> str:
    """What a provider signs its thinking with."""
    return base64.b64encode(f"signed by {provider}".encode()).decode()


async def test_one_chat_goes_from_provider_to_provider(engine: AsyncEngine) -> None:
    """The same object asks five providers in turn, twice: each gets its own key and signatures, and all words."""
    stage = Stage()
    async with stage.server() as server, create_llm("anthropic", environ=environment(server.url)) as llm:
        chat = await create_chat(engine, llm, instructions="Be brief.", tools=TOOLS)
        for number, name in enumerate((*ROUND, *ROUND)):
            speaker, thinking = BY_DEFAULT[name], [FakeThinking(THOUGHT, signed_by(name))]
            call = FakeCall("weather", f'{{"city":"{name}","days":{number}.50}}', "toolu_a")
            stage.says(speaker, Says(calls=[call], thinking=thinking), Says(text=f"Answer {number}."))
            await chat.with_provider(name, model=speaker.model).ask(f"Question {number}?")
        loaded = await load_chat(engine, llm, chat.id, tools=TOOLS)
        assert loaded.messages == chat.messages
        assert loaded.render("next") == chat.render("next")

    asked: dict[str, list[bytes]] = {name: [] for name in ROUND}
    for place, request in enumerate(server.requests):
        turn, name = place // 2, (*ROUND, *ROUND)[place // 2]
        words = verify(BY_DEFAULT[name], request)
        secrets = [value for value in request.headers.values() if "canary" in value]
        assert [secret.removeprefix("Bearer ") for secret in secrets] == [f"sk-canary-of-{name}"]
        for other in ROUND:
            own = other == name and place not in range(2 * len(ROUND))[::2] and name != "ollama"
            assert (signed_by(other) in words) == own
        for said in range(turn):
            assert f"Question {said}?" in words
            assert f"Answer {said}." in words
        asked[name].append(request.body)
    for bodies in asked.values():
        for earlier, later in pairwise(bodies):
            assert growing(later).startswith(growing(earlier))


# ── what belongs to one provider only ─────────────────────────────────────────────────────────────────────────────────

UPLOADED: Final = [
    pytest.param(home, away, id=f"{home} to {away}")
    for home in HOMES
    if home.api in {"openai_chat", "openai_responses", "anthropic", "gemini"} and home.at is None
    for away in AWAY
    if home != away
]


@pytest.mark.parametrize(("home", "away"), UPLOADED)
async def test_uploaded_file_is_named_at_its_own_provider_only(
    engine: AsyncEngine, home: Speaker, away: Speaker
) -> None:
    """A file that a provider has under a name of its own is told of elsewhere, and named again at home."""
    file = MediaPart(media="document", media_type="application/pdf", file_id="files/of-its-own", name="paper.pdf")
    stage = Stage()
    async with stage.server() as server:
        stage.says(home, Says(text="A paper."), Says(text="Still a paper."))
        async with client(home, server) as llm:
            chat = await create_chat(engine, llm)
            assert b"files/of-its-own" in chat.render(["What is this?", file]).body
            await chat.ask("What is this?", files=file)
            await chat.ask("Sure?")
        stage.says(away, Says(text="I believe it."))
        async with client(away, server) as llm:
            moved = await load_chat(engine, llm, chat.id, provider=away.provider, model=away.model)
            await moved.ask("Do you believe it?")
        stage.says(home, Says(text="Good."))
        async with client(home, server) as llm:
            back = await load_chat(engine, llm, chat.id, provider=home.provider, model=home.model)
            await back.ask("Back?")

    _, before, elsewhere, after = server.requests
    words = verify(away, elsewhere)
    assert "files/of-its-own" not in words
    assert any("paper.pdf" in line and UNREADABLE in line for line in words.splitlines())
    assert "anthropic-beta" not in elsewhere.headers
    assert b"files/of-its-own" in after.body
    assert growing_alone(after.body).startswith(growing_alone(before.body))


def growing_alone(body: bytes) -> bytes:
    """The messages of a request without tools and instructions, but for what closes them."""
    start = min(at for name in (b'"messages":', b'"contents":', b'"input":') if (at := body.find(name)) >= 0)
    return body[start:].rstrip(b"]}")


@pytest.mark.parametrize("away", AWAY, ids=str)
@pytest.mark.parametrize("url", ["s3://bucket/cat.png", "https://generativelanguage.googleapis.com/v1beta/files/cat"])
async def test_address_that_only_its_provider_knows_is_not_handed_on(
    engine: AsyncEngine, away: Speaker, url: str
) -> None:
    """A file in a provider's own place is refused in a question elsewhere, and told of in an older one."""
    file = MediaPart(media="image", media_type="image/png", url=url, name="cat.png")
    if (away.api, url[:5]) in {("gemini", "https"), ("bedrock", "s3://")}:
        return  # it is at home there
    async with away.server(Says(text="I cannot see it.")) as server, client(away, server) as llm:
        chat = await create_chat(engine, llm)
        with pytest.raises(UnsupportedFeatureError, match=r"cat\.png"):
            await chat.ask("What is this?", files=file)
        await chat.add_message("user", ["Look.", file])
        await chat.add_message("assistant", "Nice.")
        await chat.ask("What was it?")

    words = verify(away, server.requests[0])
    assert url not in words
    assert UNREADABLE in words


@pytest.mark.parametrize("speaker", HOMES, ids=str)
async def test_block_that_a_provider_does_not_take_is_refused(engine: AsyncEngine, speaker: Speaker) -> None:
    """A block that the user gives as it stands reaches a provider that has such blocks; elsewhere it is an error."""
    block = OpaquePart(
        payload='{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"found"}]}'
    )
    async with speaker.server(Says(text="fine")) as server, client(speaker, server) as llm:
        chat = await create_chat(engine, llm)
        if speaker.api == "anthropic":
            await chat.ask(["What does it say?", block])
            assert block.payload.encode() in server.requests[0].body
            return
        with pytest.raises(UnsupportedFeatureError, match="search_result"):
            await chat.ask(["What does it say?", block])
        assert (server.requests, chat.messages) == ([], ())
