"""Asking another model when the chat's own cannot answer: when, which one, with what, and what the rows say."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.chat import Chat
from nodellm_orm.domain.events import TextDelta
from nodellm_orm.domain.messages import FinishReason, Origin
from nodellm_orm.domain.policies import DEFAULT_FALLBACK_ERRORS, Fallback, RetryPolicy, Timeout
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    CircuitOpenError,
    ConfigurationError,
    ContentFilterError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from nodellm_orm.fluent import Behaviour
from nodellm_orm.providers.alternatives import fallbacks_of
from nodellm_orm.runtime.fallback import Alternative
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.toolbox import Toolbox
from tests.unit.runtime.scripted import ORIGIN, ScriptedModel, calls, engine, says
from tests.unit.runtime.test_turns import World, add

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.ports.states import AttemptState
    from nodellm_orm.ports.wire import ModelRequest, RenderCache
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.tools import ToolSource
    from tests.unit.runtime.scripted import Step

BUSY = OverloadedError("busy", status=529)
NO = BadRequestError("no", status=400)
ONCE = RetryPolicy(max_attempts=1)
SECOND = Origin(provider="second", api="other", endpoint="there", model="n-1")
THIRD = Origin(provider="third", api="script", endpoint="yonder", model="o-1")
ADD = ("add", '{"a": 1, "b": 2}')


@dataclass
class Spare(ScriptedModel):
    """A model that is asked in place of another."""

    refuses: str | None = None
    """Why no request can be written for it."""
    dropped: tuple[str, ...] = ()
    breaks_after: int | None = None
    """Events with text after which its stream breaks."""
    sent: list[dict[str, str]] | None = None
    """The caller's own headers of each request."""

    def check(self, request: ModelRequest, cache: RenderCache | None) -> tuple[str, ...]:
        """As the test says."""
        del request, cache
        if self.refuses is not None:
            raise UnsupportedFeatureError(self.refuses)
        return self.dropped

    async def send(self, request: ModelRequest, *, on_event: Any, **more: Any) -> Completion:
        """The next step; keeps the headers."""
        self.sent = [*(self.sent or []), dict(more["headers"])]
        heard = 0

        async def hear(event: Event) -> None:
            nonlocal heard
            await on_event(event)
            heard += isinstance(event, TextDelta)
            if heard == self.breaks_after:
                msg = "cut"
                raise StreamInterruptedError(msg, status=200)

        return await super().send(request, on_event=hear, **more)


class Fallen(World):
    """A world whose model has others to take its place."""

    def __init__(
        self,
        *script: Step,
        spares: tuple[Spare, ...] = (),
        on: tuple[type[ProviderError], ...] = DEFAULT_FALLBACK_ERRORS,
        retry: RetryPolicy = ONCE,
        tools: tuple[ToolSource, ...] = (),
        **behaviour: Any,
    ) -> None:
        self.spares = spares
        self.on = on
        super().__init__(*script, tools=tools, **behaviour)
        self.engine = engine(retry)
        self.chat = self.another(self.conversation)

    def another(self, conversation: Conversation, *tools: ToolSource) -> Chat:
        """A chat object of another process, with the same models."""
        behaviour = Behaviour(toolbox=Toolbox(tools or self.tools), timeout=Timeout(), **self.behaviour)
        host = Host(self.engine, _Primary(self.model), f"worker-{id(behaviour)}", None, self._alternatives)
        return Chat(host, self.journal, conversation, behaviour)

    def _alternatives(self) -> tuple[Alternative, ...]:
        return tuple(Alternative(model=spare, on=self.on) for spare in self.spares)

    async def attempts(self) -> list[tuple[str | None, str, int]]:
        """Provider, status and number of every attempt of the last turn."""
        return [told(attempt) for attempt in (await self.last()).attempts]


class _Primary:
    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def model(self, provider: str | None, model: str | None, api: str | None) -> ScriptedModel:
        """The chat's own."""
        del provider, model, api
        return self._model


def told(attempt: AttemptState) -> tuple[str | None, str, int]:
    """What matters of an attempt here."""
    return attempt.provider, attempt.status, attempt.attempt


def second(*script: Step, **more: Any) -> Spare:
    """A model elsewhere."""
    return Spare(list(script), origin=SECOND, **more)


def third(*script: Step, **more: Any) -> Spare:
    """A model elsewhere again."""
    return Spare(list(script), origin=THIRD, **more)


async def test_another_model_answers_when_the_retries_are_used_up() -> None:
    """First the retry policy, then the next model, each attempt a row; the answer says whose it is."""
    spare = second(says("Hello"))
    world = Fallen(BUSY, BUSY, spares=(spare,), retry=RetryPolicy(max_attempts=2, base_ms=0))

    reply = await world.chat.ask("Hi")

    assert (reply.content, reply.provider) == ("Hello", "second")
    assert await world.attempts() == [("scripted", "failed", 1), ("scripted", "failed", 2), ("second", "ok", 3)]
    assert (await world.last()).status == "completed"
    assert (await world.stored())[-1].origin == SECOND
    assert (spare.requests[0].target, spare.requests[0].profile) == (SECOND, spare.profile)
    head = (await world.journal.load(world.head.id, None)).head
    assert (head.provider, head.model, world.chat.provider) == ("scripted", "m-1", "scripted")


async def test_other_model_has_the_retry_policy_too() -> None:
    """Attempts are counted anew for each model, and numbered on."""
    world = Fallen(BUSY, BUSY, spares=(second(BUSY, says("Hello")),), retry=RetryPolicy(max_attempts=2, base_ms=0))

    await world.chat.ask("Hi")

    assert await world.attempts() == [
        ("scripted", "failed", 1),
        ("scripted", "failed", 2),
        ("second", "failed", 3),
        ("second", "ok", 4),
    ]


async def test_reply_names_the_model_that_was_asked_where_the_answer_names_none() -> None:
    """Servers that do not say which model answered are taken at the word of the request."""
    world = Fallen(BUSY, spares=(second(replace(says("Hello"), model=None)),))

    reply = await world.chat.ask("Hi")

    assert (reply.provider, reply.model) == ("second", "n-1")


async def test_next_turn_begins_with_the_chats_own_model() -> None:
    """A turn that went elsewhere leaves the chat as it was: the next question goes to its own model first."""
    spare = second(says("from elsewhere"))
    world = Fallen(BUSY, says("from home"), spares=(spare,))

    await world.chat.ask("one")
    reply = await world.chat.ask("two")

    assert (reply.content, reply.provider) == ("from home", "scripted")
    assert [(m.content, m.origin) for m in world.model.requests[1].messages[1:2]] == [("from elsewhere", SECOND)]


async def test_turn_stays_with_the_model_that_took_over() -> None:
    """The rounds that follow stay there: its call ids and signatures are of use to itself alone."""
    spare = second(calls(ADD), says("3"))
    world = Fallen(BUSY, spares=(spare,), tools=(add,))

    reply = await world.chat.ask("1+2?")

    assert (reply.content, len(world.model.requests), len(spare.requests)) == ("3", 1, 2)
    assert await world.attempts() == [("scripted", "failed", 1), ("second", "ok", 2), ("second", "ok", 1)]
    assert [m.origin for m in await world.stored() if m.role == "assistant"] == [SECOND, SECOND]


async def test_failure_in_a_later_round_goes_on_elsewhere() -> None:
    """A round that fails in the middle of a turn goes to the next model, with the calls and results so far."""
    spare = second(says("3"))
    world = Fallen(calls(ADD), BUSY, spares=(spare,), tools=(add,))

    reply = await world.chat.ask("1+2?", tool_choice="add")

    assert (reply.content, reply.tool_calls[0].result) == ("3", "3")
    assert [m.role for m in spare.requests[0].messages] == ["user", "assistant", "tool"]
    assert spare.requests[0].settings.tool_choice == "auto"


async def test_one_after_the_other_until_one_answers() -> None:
    """A model that fails in its turn is followed by the next."""
    world = Fallen(BUSY, spares=(second(ServerError("broken", status=500)), third(says("Hello"))))

    reply = await world.chat.ask("Hi")

    assert reply.provider == "third"
    assert await world.attempts() == [("scripted", "failed", 1), ("second", "failed", 2), ("third", "ok", 3)]


async def test_when_all_fail_the_error_is_that_of_the_model_first_asked() -> None:
    """Whoever handles the errors of his own model handles them as before; notes tell what became of the others."""
    spares = (second(AuthenticationError("bad key", status=401)), third(ServerError("broken", status=500)))
    world = Fallen(RateLimitError("slow down", status=429), spares=spares)

    with pytest.raises(RateLimitError, match="slow down") as caught:
        await world.chat.ask("Hi")

    assert caught.value.__notes__ == [
        "second/n-1 was asked next: AuthenticationError: bad key",
        "third/o-1 was asked next: ServerError: broken",
    ]
    turn = await world.last()
    assert (turn.status, turn.error_type) == ("failed", "RateLimitError")
    assert await world.attempts() == [
        ("scripted", "failed", 1),
        ("second", "failed", 2),
        ("third", "failed", 3),
    ]


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("slow", status=429),
        QuotaExceededError("empty", status=429),
        OverloadedError("busy", status=503),
        ServerError("broken", status=500),
        ProviderTimeoutError("late"),
        ProviderConnectionError("gone"),
        StreamInterruptedError("cut", status=200),
        CircuitOpenError("open"),
    ],
)
async def test_errors_that_lead_elsewhere(error: ProviderError) -> None:
    """Troubles of the provider lead to the next model."""
    world = Fallen(error, spares=(second(says("Hello")),))

    assert (await world.chat.ask("Hi")).content == "Hello"


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("no", status=400),
        ContextWindowError("long", status=400),
        ContentFilterError("no", status=400),
        AuthenticationError("key", status=401),
        PermissionDeniedError("key", status=403),
        ModelNotFoundError("name", status=404),
        ProtocolError("html", status=200),
    ],
)
async def test_mistakes_of_the_caller_do_not(error: ProviderError) -> None:
    """What its caller has to put right is not hidden behind another model, unless he asks for that."""
    spare = second(says("Hello"))
    world = Fallen(error, spares=(spare,))

    with pytest.raises(type(error)) as caught:
        await world.chat.ask("Hi")

    assert spare.requests == []
    assert not hasattr(caught.value, "__notes__")


async def test_errors_of_choice() -> None:
    """A model with a larger window may be named for the error that asks for one, and is asked after no other."""
    world = Fallen(ContextWindowError("long", status=400), BUSY, spares=(second(says("ok")),), on=(ContextWindowError,))

    assert (await world.chat.ask("Hi")).content == "ok"
    with pytest.raises(OverloadedError):
        await world.chat.ask("again")


async def test_nothing_is_asked_elsewhere_once_the_consumer_was_given_something() -> None:
    """A stream that breaks after its first text is an error, for an answer must not begin twice."""
    spare = second(says("Other"))
    world = Fallen(spares=(spare,))
    world.model = Spare([says("Hello")], breaks_after=2)
    stream = (await world.reloaded()).stream("Hi")

    text = [(await anext(stream)).content, (await anext(stream)).content]
    with pytest.raises(StreamInterruptedError):
        await anext(stream)

    assert (text, spare.requests) == (["H", "e"], [])
    assert [(m.content, m.status) for m in await world.stored()] == [("Hi", "complete"), ("He", "partial")]


async def test_stream_that_breaks_before_anything_was_given_goes_on_elsewhere() -> None:
    """The consumer gets the answer of the other model, and sees nothing of the first."""
    world = Fallen(StreamInterruptedError("cut", status=200), spares=(second(says("Hello")),))

    async with world.chat.stream("Hi") as stream:
        text = "".join([chunk.content async for chunk in stream])

    assert text == (await stream.reply()).content == "Hello"


async def test_model_that_cannot_take_the_request_is_passed_over() -> None:
    """No row is written for it; the next one is asked, or the error is the first one, with a note that says why."""
    passed = second(says("never"), refuses="n-1 takes no images; give another model")
    world = Fallen(BUSY, OverloadedError("busy again", status=529), spares=(passed, third(says("Hello"))))

    assert (await world.chat.ask("Hi")).provider == "third"
    world.spares = (passed,)
    with pytest.raises(OverloadedError, match="busy again") as caught:
        await world.chat.ask("again")

    assert caught.value.__notes__ == ["second/n-1 was not asked: n-1 takes no images; give another model"]
    assert passed.requests == []
    assert await world.attempts() == [("scripted", "failed", 1)]


async def test_model_that_turns_out_not_to_be_usable_is_passed_over() -> None:
    """One that cannot be used after all (a file of its weights is missing) is a failed attempt like any other."""
    world = Fallen(BUSY, spares=(second(ConfigurationError("no such file")), third(says("Hello"))))

    assert (await world.chat.ask("Hi")).provider == "third"
    assert await world.attempts() == [("scripted", "failed", 1), ("second", "failed", 2), ("third", "ok", 3)]


async def test_own_model_is_not_asked_again_as_its_own_replacement() -> None:
    """A list for many chats may name the very model that a chat asks: it is left out there."""
    twin = Spare([says("never")], origin=ORIGIN)
    world = Fallen(BUSY, spares=(twin, second(says("Hello"))))

    assert (await world.chat.ask("Hi")).provider == "second"
    assert twin.requests == []


async def test_headers_and_params_stay_at_home() -> None:
    """The caller's headers may hold a key, and raw members belong to one format: they go to no other provider."""
    spare, near = second(BUSY), Spare([says("ok")], origin=replace(ORIGIN, model="m-2"))
    given: dict[str, Any] = {"headers": {"authorization": "Bearer sk-mine"}, "params": {"seed": 1}}
    world = Fallen(BUSY, BUSY, spares=(spare,))

    with pytest.raises(OverloadedError):
        await world.chat.ask("Hi", **given)
    world.spares = (near,)
    await world.chat.ask("Hi", **given)

    assert (spare.sent, dict(spare.requests[0].params)) == ([{}], {})
    assert (near.sent, dict(near.requests[0].params)) == ([{"authorization": "Bearer sk-mine"}], {"seed": 1})


async def test_hooks_see_each_models_request() -> None:
    """``before_request`` is called for the request to the other model as well, and what it changes is sent."""
    seen: list[str] = []
    spare = second(says("ok"))
    world = Fallen(BUSY, spares=(spare,))

    def note(request: ModelRequest) -> ModelRequest:
        seen.append(request.target.provider)
        return replace(request, instructions=(f"You are {request.target.model}.",))

    await world.chat.before_request(note).ask("Hi")

    assert seen == ["scripted", "second"]
    assert spare.requests[0].instructions == ("You are n-1.",)


async def test_failing_hook_leaves_the_attempt_as_it_was() -> None:
    """When a hook fails on the way to another model, the turn fails with that; the row keeps the provider's error."""
    world = Fallen(BUSY, spares=(second(says("never")),))

    def only_first(request: ModelRequest) -> None:
        if request.target == SECOND:
            msg = "not there"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="not there"):
        await world.chat.before_request(only_first).ask("Hi")

    assert (await world.last()).error_type == "RuntimeError"
    assert await world.attempts() == [("scripted", "failed", 1)]


async def test_cancelled_while_the_other_model_is_asked() -> None:
    """A turn that is cancelled at the other model keeps its text, under that model's name."""
    spare = second(says("Hello"), pace=asyncio.Semaphore(3))
    world = Fallen(BUSY, spares=(spare,))

    seen = 0
    async for chunk in world.chat.stream("Hi"):
        seen += bool(chunk.content)
        if seen == 2:
            break
    gc.collect()
    await world.chat.cancel()

    left = (await world.stored())[-1]
    assert (left.status, left.origin) == ("partial", SECOND)
    assert await world.attempts() == [("scripted", "failed", 1), ("second", "cancelled", 2)]


async def test_log_says_what_was_left_out_and_who_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """A switch is told to the log, and so are settings that the other model does not accept."""
    world = Fallen(BUSY, spares=(second(says("ok"), dropped=("temperature",)),))

    await world.chat.ask("Hi", temperature=0.5)

    assert "scripted/m-1 did not answer (OverloadedError); asking second/n-1" in caplog.text
    assert "n-1 does not accept temperature; sent without" in caplog.text


async def test_resumed_turn_goes_on_with_the_model_that_has_spoken_in_it() -> None:
    """A turn in whose rows the other model has called tools is carried on by that model, in any process."""
    spare = second(calls(ADD), says("3"))
    world = Fallen(BUSY, spares=(spare,), tools=(add,))
    await world.chat.ask("1+2?", max_tool_rounds=0)

    reply = await (await world.reloaded()).resume()

    assert (reply.content, reply.provider, len(world.model.requests)) == ("3", "second", 1)


async def test_resumed_turn_in_which_nobody_has_spoken_begins_with_the_chats_own_model() -> None:
    """Where the other model was asked and nothing came of it, the chat's own is asked again: time has passed."""
    spare = second(OverloadedError("busy there", status=529))
    world = Fallen(BUSY, says("Hello"), spares=(spare,))
    with pytest.raises(OverloadedError):
        await world.chat.ask("Hi")

    reply = await (await world.reloaded()).resume()

    assert (reply.content, reply.provider) == ("Hello", "scripted")
    assert [told(a) for a in (await world.last()).attempts][-1] == ("scripted", "ok", 1)


async def test_broken_off_answer_binds_a_resumed_turn_to_nobody() -> None:
    """Half an answer of the other model is superseded when its turn is resumed, and the chat's own model is asked."""
    spare = second(says("Hello"), breaks_after=2)
    world = Fallen(BUSY, says("Good day"), spares=(spare,))
    stream = world.chat.stream("Hi")
    with pytest.raises(StreamInterruptedError):
        await stream.reply()

    reply = await (await world.reloaded()).resume()

    assert (reply.content, reply.provider, len(spare.requests)) == ("Good day", "scripted", 1)
    assert [m.content for m in await world.stored()] == ["Hi", "Good day"]


async def test_resumed_without_the_model_that_has_spoken() -> None:
    """A process whose client does not know the other model carries the turn on with the chat's own."""
    world = Fallen(BUSY, says("3"), spares=(second(calls(ADD)),), tools=(add,))
    await world.chat.ask("1+2?", max_tool_rounds=0)
    world.spares = ()

    reply = await (await world.reloaded()).resume()

    assert (reply.content, reply.provider) == ("3", "scripted")


async def test_interrupted_at_the_other_model() -> None:
    """A process that dies while the other model is asked leaves its attempt unknown; resuming asks the chat's own."""
    world = Fallen(BUSY, says("Hello"), spares=(second(asyncio.Event()),), lease=0.01)
    asking = asyncio.create_task(world.chat.ask("Hi"))
    await world.spares[0].asked.wait()
    await world.journal.cancel(world.head.id, None)  # whoever held it can no longer write

    reply = await (await world.reloaded()).resume(wait=5)

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert reply.content == "Hello"
    assert await world.attempts() == [("scripted", "failed", 1), ("second", "unknown", 2), ("scripted", "ok", 1)]


async def test_paused_answer_goes_on_where_it_paused() -> None:
    """A model that pauses its answer is the one that goes on with it, also when it is a replacement."""
    spare = second(says("One, ", reason=FinishReason.PAUSE), says("two."))
    world = Fallen(BUSY, spares=(spare,))

    reply = await world.chat.ask("Count")

    assert (reply.content, len(spare.requests), len(world.model.requests)) == ("One, two.", 2, 1)


def test_what_fallback_may_be() -> None:
    """A name, a pair, a value, or a list of these."""
    pair, value = ("anthropic", "claude-haiku-4-5"), Fallback(model="gpt-5", on=(ServerError,))

    assert fallbacks_of("gpt-5-mini") == (Fallback(model="gpt-5-mini"),)
    assert fallbacks_of(value) == (value,)
    assert fallbacks_of(["vendor/model:free", pair, value]) == (
        Fallback(model="vendor/model:free"),
        Fallback(provider="anthropic", model="claude-haiku-4-5"),
        value,
    )
    assert fallbacks_of(()) == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (7, "a list of models"),
        ([7], "a fallback is the name of a model"),
        ([("a", "b", "c")], "a fallback is the name of a model"),
        (("anthropic", "claude-haiku-4-5"), "is the name of a provider"),
    ],
)
def test_what_fallback_may_not_be(wrong: Any, said: str) -> None:
    """Anything else is refused with a remedy, also a pair that is not in a list."""
    with pytest.raises(ConfigurationError, match=said):
        fallbacks_of(wrong)


@pytest.mark.parametrize("wrong", [{}, {"model": "m", "on": ()}, {"model": "m", "on": (ValueError,)}])
def test_fallback_that_could_never_be_asked(wrong: dict[str, Any]) -> None:
    """A value without a name, or for errors that no provider raises, is refused."""
    with pytest.raises(ConfigurationError, match="Fallback"):
        Fallback(**wrong)


def test_fallback_shows_no_key() -> None:
    """The key given with a fallback is not in its text."""
    assert "sk-secret" not in repr(Fallback(model="m", api_key="sk-secret"))
    assert Fallback(model="m", on=ServerError).on == (ServerError,)  # type: ignore[arg-type]  # taken kindly
