"""The ``contents`` member: what one message renders to is decided in `parts`, what the API asks of their order here.

The user begins. Calls are answered right after the model asked for them, in its order, all of them and nothing else in
one content; what answers no call of the message before it goes along as text. Nothing here changes what an earlier
request said.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import RawJson, dumps
from nodellm_orm.domain.parts import ToolResultPart
from nodellm_orm.wire.gemini.parts import fragments, sent_call, told_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

    _Call: TypeAlias = tuple[str, dict[str, object]]  # id in the chat, and what it is sent with

_NO_BEGINNING: Final = "(The conversation goes on from here.)"
_NOT_RUN: Final = dumps({"error": "This call was not run: the conversation went on without it."})


def contents(request: ModelRequest, cache: RenderCache | None, opening: Sequence[str] = ()) -> list[dict[str, object]]:
    """The ``contents`` member.

    Args:
        request: what is to be sent.
        cache: messages rendered before, for this target.
        opening: instructions for a model that takes none of their own; the user says them first.
    """
    before = [_text(text) for text in opening]
    found: list[dict[str, object]] = []
    open_calls: list[_Call] = []
    for by_model, group in groupby(_spoken(request, cache), key=lambda item: item[0].role == "assistant"):
        run = list(group)
        if not by_model:
            found += _answered(open_calls, run, before)
            open_calls, before = [], []
            continue
        if not found:
            found.append(_content("user", before or [_text(_NO_BEGINNING)]))
            before = []
        found.append(_content("model", [part for _, parts in run for part in parts]))
        open_calls = [
            (call.call_id, sent_call(call, message, request))
            for message, _ in run
            if message.status == "complete"
            for call in message.tool_calls
        ]
    return [*found, *_answered(open_calls, [], before)]


def _spoken(request: ModelRequest, cache: RenderCache | None) -> Iterator[tuple[Message, tuple[JsonText, ...]]]:
    for message in request.messages:
        if parts := fragments(message, request, cache):
            yield message, parts


def _answered(
    calls: Sequence[_Call],
    run: Iterable[tuple[Message, tuple[JsonText, ...]]],
    before: list[JsonText],
) -> Iterator[dict[str, object]]:
    """The user's contents after these calls: one with a result for each, then one with everything else in its order."""
    results: dict[int, JsonText] = {}
    rest = [*before]
    for message, parts in run:
        if message.role != "tool":
            rest += parts
            continue
        for told, part in zip(told_parts(message), parts, strict=True):
            if not isinstance(told, ToolResultPart):
                rest.append(part)
                continue
            waiting = (at for at, (call_id, _) in enumerate(calls) if call_id == told.call_id and at not in results)
            place = next(waiting, None)
            if place is None:
                rest.append(_text(f"Result of an earlier call of {told.name}:\n{told.content}"))
            else:
                results[place] = part
    if calls:
        yield _content(
            "user",
            [
                dumps({"functionResponse": {**sent, "response": RawJson(results.get(at, _NOT_RUN))}})
                for at, (_, sent) in enumerate(calls)
            ],
        )
    if rest:
        yield _content("user", rest)


def _content(role: str, parts: Iterable[JsonText]) -> dict[str, object]:
    return {"role": role, "parts": [RawJson(part) for part in parts]}


def _text(text: str) -> JsonText:
    return dumps({"text": text})
