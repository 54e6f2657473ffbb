"""An answer that may be long is asked for as a stream, also where the caller waits for the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from nodellm_orm.testing import ReceivedRequest


def streamed(request: ReceivedRequest) -> bool:
    """Whether the request asks for a stream."""
    return bool(request.json().get("stream"))


@pytest.mark.parametrize(("max_tokens", "expected"), [(20_000, False), (40_000, True)])
async def test_long_answers_are_streamed_on_the_wire(max_tokens: int, *, expected: bool) -> None:
    """With room for more tokens than the provider lets anybody wait for, ``ask`` streams, and gives the same reply."""
    speaker = Speaker("anthropic")
    async with speaker.server(Says(text="Long story")) as server, speaker.llm(server) as llm:
        reply = await llm.chat().ask("Tell me", max_tokens=max_tokens)

    assert (reply.content, reply.usage.output_tokens) == ("Long story", 7)
    assert [streamed(request) for request in server.requests] == [expected]
