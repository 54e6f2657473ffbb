"""The provider of the soak: answers from the conversation alone, slowly, wrongly now and then, and keeps its books."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.testing import FakeCall, Pause, Reset, cut, json_answer, sse_answer
from tests.acceptance.speakers import Fails, Says
from tests.acceptance.validity import check
from tests.soak.worker import SPEAKER

if TYPE_CHECKING:
    from nodellm_orm.testing import Answer, ReceivedRequest

_SAID: Final = re.compile(r"say ((\S+)/(\S+))")


@dataclass(slots=True)
class Books:
    """What the provider knows of the money."""

    received: Counter[str] = field(default_factory=Counter)
    """Requests by chat."""
    answered: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens in and out by the id of the request."""
    violations: list[str] = field(default_factory=list)


class Provider:
    """Answers the last question by its token: sometimes with calls first, sometimes with an error.

    Args:
        seed: of its moods.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 — a load, not a secret
        self._numbers = count(1)
        self.books = Books()

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """Answer one request."""
        body: Any = request.json()
        try:
            check(body, SPEAKER.api)
        except AssertionError as error:
            self.books.violations.append(f"a request that no provider would take: {error}")
        token, chat = _token(body)
        self.books.received[chat] += 1
        mood = self._chance.random()
        if mood < 0.03:
            return SPEAKER.answer(Fails(status=503, type="server_error"), stream=False)
        stream = SPEAKER.streams(request)
        line = self._line(body, token)
        number = f"req-{next(self._numbers)}"
        headers = {"x-request-id": number}
        answer = (
            sse_answer(SPEAKER.events(line), headers=headers)
            if stream
            else json_answer(SPEAKER.body(line), headers=headers)
        )
        self.books.answered[number] = line.usage
        if mood < 0.06:
            return cut(answer, after=self._chance.randrange(200, 600), then=Reset())
        return [Pause(self._chance.uniform(0, 0.1)), *answer]

    def _line(self, body: Any, token: str) -> Says:
        ends_with_result = body["messages"][-1]["role"] == "tool"
        usage = (len(body["messages"]), self._chance.randrange(1, 50))
        if ends_with_result or hash(token) % 2:
            return Says(text=f"you said {token}", usage=usage)
        calls = [FakeCall("note", {"token": f"{token}.{number}"}) for number in range(1 + hash(token) % 3)]
        return Says(calls=calls, usage=usage)


def _token(body: Any) -> tuple[str, str]:
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            text = content if isinstance(content, str) else content[-1]["text"]
            if found := _SAID.search(text):
                return found[1], found[2]
    return "nobody/nothing", "nobody"
