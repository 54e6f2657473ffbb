"""Both wire formats behind one face, so that a scripted conversation can be held in each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nodellm_orm import create_llm
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    LoopbackServer,
    anthropic_body,
    anthropic_error,
    anthropic_stream,
    json_answer,
    openai_chat_body,
    openai_chat_stream,
    openai_error,
    sse_answer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm import LLM
    from nodellm_orm.domain.jsontext import JsonObject
    from nodellm_orm.testing import Answer, ReceivedRequest

Api: TypeAlias = Literal["openai_chat", "anthropic"]
APIS: Final[tuple[Api, ...]] = ("openai_chat", "anthropic")
KEY: Final = "sk-canary-0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer of the model, in either format."""

    text: str | None = None
    calls: Sequence[FakeCall] = ()
    thinking: Sequence[FakeThinking] = ()
    """Anthropic only; Chat Completions has none."""
    usage: tuple[int, int] = (11, 7)
    finish: str | None = None
    """The provider's own word, when it is not the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """An error of the provider."""

    status: int
    message: str = "something is wrong"
    type: str = "invalid_request_error"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


Line: TypeAlias = "Says | Fails | Answer"
"""What the model says to one request: an answer, an error, or a spoiled answer down to its bytes."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """One wire format: how to make a client for it, and how its answers look."""

    api: Api

    @property
    def model(self) -> str:
        """A model whose price is known."""
        return "gpt-5-mini" if self.api == "openai_chat" else "claude-haiku-4-5"

    def llm(self, server: LoopbackServer, **options: Any) -> LLM:
        """A client that talks to the loopback server."""
        if self.api == "anthropic":
            return create_llm("anthropic", base_url=server.url, api_key=KEY, model=self.model, **options)
        return create_llm("openai", api="chat", base_url=f"{server.url}/v1", api_key=KEY, model=self.model, **options)

    def body(self, line: Says) -> JsonObject:
        """The answer as a whole."""
        if self.api == "anthropic":
            return anthropic_body(
                line.text,
                thinking=line.thinking,
                tool_calls=line.calls,
                usage=line.usage,
                stop_reason=line.finish,
                model=self.model,
            )
        return openai_chat_body(
            line.text, tool_calls=line.calls, usage=line.usage, finish_reason=line.finish, model=self.model
        )

    def events(self, line: Says) -> list[bytes]:
        """The answer as a stream: one event an item."""
        if self.api == "anthropic":
            return anthropic_stream(
                line.text,
                thinking=line.thinking,
                tool_calls=line.calls,
                usage=line.usage,
                stop_reason=line.finish,
                model=self.model,
            )
        return openai_chat_stream(
            line.text, tool_calls=line.calls, usage=line.usage, finish_reason=line.finish, model=self.model
        )

    def error(self, line: Fails) -> JsonObject:
        """The body of an error."""
        if self.api == "anthropic":
            return anthropic_error(line.message, type=line.type)
        return openai_error(line.message, type=line.type, code=line.code)

    def answer(self, line: Line, *, stream: bool) -> Answer:
        """The answer on the wire."""
        match line:
            case Says() if stream:
                return sse_answer(self.events(line))
            case Says():
                return json_answer(self.body(line))
            case Fails():
                return json_answer(self.error(line), status=line.status, headers=line.headers)
            case _:
                return line

    def server(self, *script: Line) -> LoopbackServer:
        """A server that says one line a request, streamed when the request asks for a stream."""
        lines = iter(script)

        async def handle(request: ReceivedRequest) -> Answer:
            line = next(lines, None)
            if line is None:
                msg = f"the script has no line left for {request.body[:200]!r}"
                raise AssertionError(msg)
            return self.answer(line, stream=bool(request.json().get("stream")))

        return LoopbackServer(handle)
