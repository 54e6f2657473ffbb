"""Results in the order of their calls: many servers pair them by place, or insist on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nodellm_orm.domain.messages import Message


def in_call_order(messages: Sequence[Message]) -> Iterator[Message]:
    """The same messages; of tool messages that follow each other, each stands where its call does.

    Args:
        messages: a conversation.
    """
    places: dict[str, int] = {}
    run: list[Message] = []
    for message in messages:
        if message.role == "tool":
            run.append(message)
            continue
        yield from _sorted(run, places)
        run, places = [], {call.call_id: place for place, call in enumerate(message.tool_calls)}
        yield message
    yield from _sorted(run, places)


def _sorted(run: list[Message], places: Mapping[str, int]) -> list[Message]:
    def place(message: Message) -> int:
        return min((places.get(result.call_id, len(places)) for result in message.tool_results), default=len(places))

    return sorted(run, key=place)
