"""The errors: the tree that is drawn is the tree that is raised, and each keeps what is known."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from nodellm_orm import errors
from nodellm_orm.errors import (
    BadRequestError,
    ChatBusyError,
    LimitExceededError,
    NodeLLMError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    SchemaValidationError,
    StaleChatError,
    StorageError,
    ToolError,
)

_DRAWN = re.compile(r"    (?P<lines>(?:[│ ]   )*)(?:[├└]── )?(?P<name>[A-Z]\w+Error)(?P<words> .*)?")
CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, NodeLLMError)}
RETRYABLE = {
    "RateLimitError",
    "OverloadedError",
    "ServerError",
    "ProviderTimeoutError",
    "ProviderConnectionError",
    "StreamInterruptedError",
}


def drawn() -> dict[str, str]:
    """The tree of the module's docstring: each class with its parent."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = _DRAWN.fullmatch(line)
        if found is None:
            continue
        branch = "─" in line
        depth = len(found["lines"]) // 4 + branch
        del above[depth:]
        parents[found["name"]] = above[-1] if above else "Exception"
        above.append(found["name"])
    return parents


def test_the_tree_drawn_is_the_real_one() -> None:
    """Every class stands in the drawing, below its own base class, and nothing else stands there."""
    assert drawn() == {name: cls.__base__.__name__ for name, cls in CLASSES.items() if cls.__base__ is not None}


def test_every_class_of_the_drawing_is_documented() -> None:
    """No error is without a sentence of its own."""
    assert all(vars(cls).get("__doc__") for cls in CLASSES.values())


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if issubclass(cls, ProviderError)])
def test_whether_an_error_may_be_retried_is_a_matter_of_its_class(name: str) -> None:
    """Those that waiting helps are retryable; an explicit word outranks the class."""
    cls = CLASSES[name]
    assert issubclass(cls, ProviderError)
    assert cls("x").retryable is (name in RETRYABLE)
    assert cls("x", retryable=True).retryable is True
    assert cls("x", retryable=False).retryable is False


def test_a_provider_error_keeps_what_is_known_of_the_request() -> None:
    """Everything a support request needs is an attribute, and what is unknown is ``None``."""
    error = BadRequestError(
        "shorten it", status=400, provider="p", model="m", request_id="r", retry_after=1.5, body="{}"
    )
    assert (str(error), error.status, error.provider, error.model) == ("shorten it", 400, "p", "m")
    assert (error.request_id, error.retry_after, error.body) == ("r", 1.5, "{}")
    bare = ProviderError("x")
    assert (bare.status, bare.provider, bare.model, bare.request_id, bare.retry_after, bare.body) == (None,) * 6


@pytest.mark.fault("A30")
def test_a_used_up_quota_is_a_rate_limit_that_waiting_does_not_help() -> None:
    """It is caught as one and never retried."""
    assert issubclass(QuotaExceededError, RateLimitError)
    assert QuotaExceededError("x").retryable is False


def test_errors_keep_what_could_not_be_saved() -> None:
    """The answer was paid for: whoever catches the error finds it there."""
    reply = object()
    assert StaleChatError("x", reply=reply).reply is reply
    assert StorageError("x", reply=reply).reply is reply
    assert LimitExceededError("x", reply=reply).reply is reply
    failed = SchemaValidationError("x", text="the answer", reply=reply)
    assert (failed.text, failed.reply) == ("the answer", reply)
    assert SchemaValidationError("x").text == ""
    details = {"table": "llm_chats"}
    stored = StorageError("x", details=details)
    assert stored.details == details
    assert stored.details is not details
    assert StorageError("x").details == {}


def test_a_busy_chat_says_who_holds_it_and_until_when() -> None:
    """A caller can wait for exactly that long."""
    until = datetime(2030, 1, 1, tzinfo=UTC)
    error = ChatBusyError("wait", turn_id=UUID(int=1), lease_until=until)
    assert (error.turn_id, error.lease_until) == (UUID(int=1), until)
    assert ChatBusyError("wait").turn_id is None


def test_a_tool_error_is_told_to_the_model_unless_it_is_fatal() -> None:
    """Not fatal by default."""
    assert ToolError("x").fatal is False
    assert ToolError("x", fatal=True).fatal is True
