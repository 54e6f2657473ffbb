"""One question without a chat: asked, perhaps again, and answered; no row is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.jsontext import JsonTextError, dumps, loads
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import TextPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, ProtocolError, ProviderError
from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool, LLMToolCall, LLMUsage
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.model import Trace
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.model import Model

    Decide: TypeAlias = Callable[[ProviderError, int], float | None]
    """Seconds to wait after an error and a number of attempts, or ``None`` to give up."""

_THINKING = ("<think>", "</think>")


async def complete(
    model: Model,
    *,
    engine: Engine,
    timeout: Timeout,
    messages: Sequence[LLMMessage],
    system: str | None = None,
    tools: Sequence[LLMTool] | None = None,
    max_tokens: int | None = None,
    decide: Decide | None = None,
) -> LLMCompleteResult:
    """Ask a model once (see `LLMClient`): a single tool is forced, several are left to the model.

    Args:
        model: the model.
        engine: clock and retry policy.
        timeout: limits of each attempt.
        messages: texts of user and assistant.
        system: how it should behave.
        tools: what it may call.
        max_tokens: of the answer.
        decide: whether an attempt is repeated; by the engine's policy when omitted.

    Raises:
        ConfigurationError: a message or a tool is malformed.
        ProviderError: the last attempt failed.
    """
    request = ModelRequest(
        target=model.origin,
        messages=tuple(_message(message) for message in messages),
        instructions=(system,) if system else (),
        tools=(offered := tuple(_spec(tool) for tool in tools or ())),
        settings=Settings(max_tokens=max_tokens, tool_choice=offered[0].name if len(offered) == 1 else None),
        profile=model.profile,
    )
    model.check(request, None)
    attempt = 1
    while True:
        try:
            answer = await model.send(
                request,
                cache=None,
                timeout=timeout,
                headers={},
                trace=Trace(engine.clock.monotonic()),
                on_event=_unheard,
            )
        except ProviderError as error:
            delay = decide(error, attempt) if decide is not None else _delay(engine, error, attempt)
            if delay is None:
                raise
            await engine.clock.sleep(delay)
            attempt += 1
        else:
            return _result(answer)


def _delay(engine: Engine, error: ProviderError, attempt: int) -> float | None:
    return delay_before_next(engine.retry, error, attempt=attempt, delivered=False, chance=engine.chance())


async def _unheard(event: Event) -> None:
    """Nobody listens: the answer is given as a whole."""
    del event


def _message(message: LLMMessage) -> Message:
    if not isinstance(message, LLMMessage) or message.role not in {"user", "assistant"}:
        msg = f"messages are LLMMessage(role='user' or 'assistant', content=...), not {message!r:.100}"
        raise ConfigurationError(msg)
    return Message(role=message.role, parts=(TextPart(text=message.content),))


def _spec(tool: LLMTool) -> ToolSpec:
    if not isinstance(tool, LLMTool):
        msg = f"tools are LLMTool(name=, description=, input_schema=), not {tool!r:.100}"
        raise ConfigurationError(msg)
    try:
        parameters = dumps(dict(tool.input_schema))
    except (JsonTextError, TypeError, ValueError) as error:
        msg = f"the input_schema of {tool.name!r:.100} is not JSON ({error}); give a JSON Schema of an object"
        raise ConfigurationError(msg) from error
    return ToolSpec(name=tool.name, description=tool.description, parameters=parameters)


def _result(answer: Completion) -> LLMCompleteResult:
    usage = answer.usage
    known = usage.input_tokens is not None or usage.output_tokens is not None
    return LLMCompleteResult(
        text=answer.text,
        tool_calls=[_call(call) for call in answer.tool_calls] or None,
        usage=LLMUsage(input_tokens=usage.input_tokens or 0, output_tokens=usage.output_tokens or 0) if known else None,
        stop_reason=answer.raw_finish_reason,
    )


def _call(call: ToolCallPart) -> LLMToolCall:
    """A call with its arguments as an object; thoughts that some models put before them are no part of them."""
    text = call.arguments.lstrip()
    begin, end = _THINKING
    if text.startswith(begin) and end in text:
        text = text.partition(end)[2]
    try:
        arguments = loads(text) if text.strip() else {}
    except JsonTextError as error:
        msg = f"the model called {call.name!r:.100} with arguments that are not JSON ({error}); ask again"
        raise ProtocolError(msg) from error
    if not isinstance(arguments, dict):
        msg = f"the model called {call.name!r:.100} with arguments that are no JSON object; ask again"
        raise ProtocolError(msg)
    return LLMToolCall(name=call.name, input=arguments)
