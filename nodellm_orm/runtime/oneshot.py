"""One question without a chat: asked, perhaps again, perhaps elsewhere, and answered; no row is written."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nodellm_orm.domain.jsontext import JsonTextError, dumps, loads
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.parts import TextPart
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, ProtocolError, ProviderError
from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool, LLMToolCall, LLMUsage
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime.fallback import name_of
from nodellm_orm.runtime.model import Trace
from nodellm_orm.runtime.refusals import refuse_text
from nodellm_orm.runtime.requests import is_long
from nodellm_orm.runtime.retry import delay_before_next

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.fallback import Alternative
    from nodellm_orm.runtime.model import Model

    Decide: TypeAlias = Callable[[ProviderError, int], float | None]
    """Seconds to wait after an error and a number of attempts, or ``None`` to give up."""

log = logging.getLogger("nodellm_orm")

_THINKING: Final = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, before it is known of which model."""

    messages: tuple[Message, ...]
    instructions: tuple[str, ...]
    tools: tuple[ToolSpec, ...]
    max_tokens: int | None

    def to(self, model: Model) -> ModelRequest:
        """The request to one model: a single tool is forced, several are left to it."""
        forced = self.tools[0].name if len(self.tools) == 1 else None
        # A model that takes no forced choice while it thinks is told not to: nobody has asked for its thoughts.
        silent = forced is not None and not model.profile.forced_with_thinking
        settings = Settings(
            max_tokens=self.max_tokens, tool_choice=forced, thinking=ThinkingConfig(effort="none") if silent else None
        )
        return ModelRequest(
            target=model.origin,
            messages=self.messages,
            instructions=self.instructions,
            tools=self.tools,
            settings=settings,
            profile=model.profile,
            stream=is_long(settings, model.profile),
        )


async def complete(
    model: Model,
    *,
    engine: Engine,
    timeout: Timeout,
    messages: Sequence[LLMMessage],
    system: str | None = None,
    tools: Sequence[LLMTool] | None = None,
    max_tokens: int | None = None,
    alternatives: Iterable[Alternative] = (),
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
        alternatives: models that are asked when it cannot answer.
        decide: whether an attempt is repeated; by the engine's policy when omitted.

    Raises:
        ConfigurationError: a message or a tool is malformed.
        ProviderError: the last attempt at ``model`` failed; notes say what became of the others.
    """
    question = _question(messages, system, tools, max_tokens)
    again = decide or _by_policy(engine)
    try:
        return await _ask(model, question, engine, timeout, again)
    except ProviderError as error:
        for other in alternatives:
            if not isinstance(error, other.on) or other.model.origin == model.origin:
                continue
            name = name_of(other.model.origin)
            log.warning("%s did not answer (%s); asking %s", name_of(model.origin), type(error).__name__, name)
            try:
                return await _ask(other.model, question, engine, timeout, again)
            except (ProviderError, ConfigurationError) as further:
                error.add_note(f"{name} was asked next: {type(further).__name__}: {further}")
        raise


async def _ask(model: Model, question: _Question, engine: Engine, timeout: Timeout, again: Decide) -> LLMCompleteResult:
    request = question.to(model)
    dropped = model.check(request, None)
    if dropped:
        log.warning("%s does not accept %s; sent without", model.origin.model, ", ".join(dropped))
    attempt = 1
    while True:
        trace = Trace(engine.clock.monotonic())
        try:
            answer = await model.send(request, cache=None, timeout=timeout, headers={}, trace=trace, on_event=_unheard)
        except ProviderError as error:
            delay = again(error, attempt)
            if delay is None:
                raise
            await engine.clock.sleep(delay)
            attempt += 1
        else:
            return _result(answer, model.origin)


def _by_policy(engine: Engine) -> Decide:
    def decide(error: ProviderError, attempt: int) -> float | None:
        return delay_before_next(engine.retry, error, attempt=attempt, delivered=False, chance=engine.chance())

    return decide


async def _unheard(event: Event) -> None:
    """Nobody listens: the answer is given as a whole."""
    del event


# ── the question ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _question(
    messages: Sequence[LLMMessage], system: str | None, tools: Sequence[LLMTool] | None, max_tokens: int | None
) -> _Question:
    refuse_text("system", system, empty=True)
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1):
        msg = f"max_tokens is a whole number above 0, not {max_tokens!r:.100}"
        raise ConfigurationError(msg)
    asked = tuple(_message(message) for message in messages)
    if not asked:
        msg = "there are no messages to answer; give at least LLMMessage(role='user', content=...)"
        raise ConfigurationError(msg)
    return _Question(asked, (system,) if system else (), tuple(_spec(tool) for tool in tools or ()), max_tokens)


def _message(message: Any) -> Message:
    sound = isinstance(message, LLMMessage) and message.role in {"user", "assistant"}
    if not sound or not isinstance(message.content, str):
        msg = f"messages are LLMMessage(role='user' or 'assistant', content='...'), not {message!r:.100}"
        raise ConfigurationError(msg)
    return Message(role=message.role, parts=(TextPart(text=message.content),))


def _spec(tool: Any) -> ToolSpec:
    if not isinstance(tool, LLMTool) or not isinstance(tool.name, str) or not isinstance(tool.description, str):
        msg = f"tools are LLMTool(name='...', description='...', input_schema={{...}}), not {tool!r:.100}"
        raise ConfigurationError(msg)
    try:
        if not isinstance(tool.input_schema, Mapping):
            raise JsonTextError(type(tool.input_schema).__name__)  # noqa: TRY301 — told together with what is no JSON
        parameters = dumps(tool.input_schema)
    except JsonTextError as error:
        msg = f"the input_schema of {tool.name!r:.100} is not a JSON object ({error}); give a JSON Schema of an object"
        raise ConfigurationError(msg) from error
    return ToolSpec(name=tool.name, description=tool.description, parameters=parameters)


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _result(answer: Completion, origin: Origin) -> LLMCompleteResult:
    usage = answer.usage
    known = usage.input_tokens is not None or usage.output_tokens is not None
    try:
        calls = [_call(call) for call in answer.tool_calls]
    except ProtocolError as error:
        if answer.finish_reason is FinishReason.LENGTH:
            error.add_note("the answer was cut off at its limit; raise max_tokens")
        error.provider, error.model = origin.provider, origin.model
        raise
    return LLMCompleteResult(
        text=answer.text,
        tool_calls=calls or None,
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
