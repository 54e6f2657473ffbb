"""Failed responses: which error each is, and what it says to do."""

from __future__ import annotations

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from tests.unit.wire.ollama.asking import WIRE

_OVERFLOW = {
    "error": {
        "code": 400,
        "message": "request (351 tokens) exceeds the available context size (256 tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 351,
        "n_ctx": 256,
    }
}


@pytest.mark.parametrize(
    ("status", "said", "cls", "words"),
    [
        (404, "model 'qwen3:8b' not found", errors.ModelNotFoundError, "`ollama pull qwen3:8b`"),
        (404, 'model "a/b:c" not found, try pulling it first', errors.ModelNotFoundError, "`ollama pull a/b:c`"),
        (404, "404 page not found", errors.ModelNotFoundError, "check the model's name and base_url"),
        (
            400,
            "registry.ollama.ai/library/gemma:2b does not support tools",
            errors.BadRequestError,
            "leave the tools out",
        ),
        (400, '"llama3.1:8b" does not support thinking', errors.BadRequestError, "do not ask this model to think"),
        (400, "the input length exceeds the context length", errors.ContextWindowError, "num_ctx"),
        (400, dumps(_OVERFLOW), errors.ContextWindowError, "exceeds the available context size (256 tokens)"),
        (400, "prompt too long; exceeded max context length by 9 tokens", errors.ContextWindowError, "num_ctx"),
        (400, "invalid option", errors.BadRequestError, "invalid option"),
        (401, "unauthorized", errors.AuthenticationError, "check the provider's key"),
        (402, "upgrade for access", errors.QuotaExceededError, "add credit"),
        (429, "you have reached your hourly usage limit", errors.QuotaExceededError, "raise the limit"),
        (500, "model requires more system memory (9 GiB) than is available", errors.ServerError, "system memory"),
        (503, "server busy, please try again. maximum pending requests exceeded", errors.OverloadedError, "busy"),
    ],
)
def test_classes(status: int, said: str, cls: type[errors.ProviderError], words: str) -> None:
    """Status and words say which error it is, and the message says what to do about it."""
    error = WIRE.failure(status, {"x-request-id": "r1"}, encode(dumps({"error": said})))
    assert type(error) is cls
    assert (error.status, error.request_id) == (status, "r1")
    assert words in str(error)


def test_a_plain_text_is_read_as_well() -> None:
    """The server's own router answers in plain text."""
    error = WIRE.failure(404, {}, b"404 page not found")
    assert type(error) is errors.ModelNotFoundError
    assert "404 page not found" in str(error)
    assert error.request_id is None
