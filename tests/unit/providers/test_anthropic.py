"""Anthropic as a provider, over a loopback server: files, citations, counts, lists, and how an answer may end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import RetryPolicy, create_llm
from nodellm_orm.domain.parts import MediaPart, RefusalPart
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.testing import LoopbackServer, anthropic_body, json_answer, sse_answer
from tests.unit.wire.anthropic.asking import block, ending, start

if TYPE_CHECKING:
    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

_MODEL = "claude-haiku-4-5"


class Script:
    """Answers in turn, and what each of them answers."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[ReceivedRequest] = []
        self._answers = iter(answers)

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """The next answer."""
        self.requests.append(request)
        return next(self._answers)

    @property
    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json() for request in self.requests]


def client(server: LoopbackServer) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    return create_llm(
        "anthropic", base_url=server.url, api_key="k", model=_MODEL, retry=RetryPolicy(base_ms=0, max_ms=0)
    )


def says(*blocks: dict[str, Any], **members: Any) -> Answer:
    """A body with these blocks."""
    return json_answer({**anthropic_body(), "content": [*blocks], **members})


def add(a: int) -> int:
    """Add one."""
    return a + 1


async def test_files_and_citations() -> None:
    """Files go out as blocks; what the answer cites is kept, streamed or not, and goes back with its text."""
    cited = {"type": "page_location", "cited_text": "x", "document_index": 0, "start_page_number": 1}
    whole = {"type": "text", "text": "As it says.", "citations": [cited]}
    opening = {"type": "text", "text": "", "citations": []}
    deltas: list[dict[str, Any]] = [
        {"type": "text_delta", "text": "As it says."},
        {"type": "citations_delta", "citation": cited},
    ]
    script = Script(says(whole), sse_answer([start(), block(0, opening, *deltas), ending()]), says(whole))
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat()
        table = MediaPart(
            media="text", media_type="text/csv", data=b"a,b", name="t.csv", extra='{"citations":{"enabled":true}}'
        )
        await chat.ask("What does it say?", files=[("a.pdf", b"%PDF-1.7\n"), table])
        async with chat.stream("Sure?") as chunks:
            assert "".join([chunk.content async for chunk in chunks]) == "As it says."
        await chat.ask("Really?")
        with pytest.raises(UnsupportedFeatureError, match=r"a\.wav"):
            await chat.ask("And this?", files=[("a.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ")])
    first, _, last = script.bodies
    pdf, text, question = first["messages"][0]["content"]
    assert (pdf["source"]["data"], pdf["title"]) == ("JVBERi0xLjcK", "a.pdf")
    assert (text["source"]["data"], text["citations"]) == ("a,b", {"enabled": True})
    assert question == {"type": "text", "text": "What does it say?"}
    assert last["messages"][0] == first["messages"][0]
    assert [message["content"] for message in last["messages"] if message["role"] == "assistant"] == [[whole], [whole]]


async def test_a_turn_goes_on_in_its_container() -> None:
    """Code that waits for a tool, and an answer that was paused, go on in the container they began in."""
    run = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}}
    done = {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {"stdout": "2"}}
    called = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}, "caller": {"type": "code"}}
    container = {"id": "container_1", "expires_at": "2026-04-24T11:13:36Z"}
    script = Script(
        says(run, called, stop_reason="tool_use", container=container),
        says(done, stop_reason="pause_turn", container=container),
        says({"type": "text", "text": "Two."}, container=container),
        says({"type": "text", "text": "Yes."}),
    )
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat(tools=[add])
        reply = await chat.ask("One more than one?")
        await chat.ask("Sure?")
    assert reply.content == "Two."
    assert [body.get("container") for body in script.bodies] == [None, "container_1", "container_1", None]
    said = [message["content"] for message in script.bodies[-1]["messages"]]
    assert said[1] == [run, called]
    assert said[3] == [done, {"type": "text", "text": "Two."}]


async def test_a_refusal() -> None:
    """Why the model declined, and what it is filed under, is part of the answer; the chat goes on."""
    details = {"type": "refusal", "category": "bio", "explanation": "I cannot help with that."}
    script = Script(says(stop_reason="refusal", stop_details=details), says({"type": "text", "text": "Fine."}))
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat()
        reply = await chat.ask("?")
        assert (reply.content, str(reply.finish_reason)) == ("I cannot help with that.", "content_filter")
        assert (await chat.ask("!")).content == "Fine."
        declined = chat.messages[1]
    assert declined.parts == (RefusalPart(text="I cannot help with that.", category="bio"),)
    assert script.bodies[-1]["messages"][1]["content"] == [{"type": "text", "text": "I cannot help with that."}]


async def test_counts_and_lists() -> None:
    """Tokens are counted before a question is sent, and models are listed page by page."""
    pages = [
        {"data": [{"id": "claude-a"}], "has_more": True, "last_id": "claude-a"},
        {"data": [{"id": "claude-b"}], "has_more": False, "last_id": "claude-b"},
    ]
    script = Script(json_answer({"input_tokens": 14}), *map(json_answer, pages))
    async with LoopbackServer(script) as server, client(server) as llm:
        assert await llm.chat(instructions="Be brief.").count_tokens("Hi") == 14
        assert [model.id for model in await llm.list_models()] == ["claude-a", "claude-b"]
    assert [request.path for request in script.requests] == [
        "/v1/messages/count_tokens",
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=claude-a",
    ]
    assert script.requests[0].json() == {
        "model": _MODEL,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert all(request.headers["anthropic-version"] == "2023-06-01" for request in script.requests)
