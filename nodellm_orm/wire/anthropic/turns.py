"""The ``messages`` member: what one message renders to is decided in `blocks`, what the API asks of their order here.

Roles alternate and the user begins. Every call is answered in the message after it, before anything else; what answers
no call of the message before it goes along as text. Nothing here changes what an earlier request said, except that a
server's tool call which will never be answered is dropped once the user has gone on without it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import RawJson, dumps, loads_verbatim
from nodellm_orm.domain.parts import OpaquePart
from nodellm_orm.wire.anthropic.blocks import RESULT, fragments, tool_use_id
from nodellm_orm.wire.anthropic.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part, ToolResultPart
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_NO_BEGINNING: Final = "(The conversation goes on from here.)"
_NOT_RUN: Final = "This call was not run: the conversation went on without it."


def turns(request: ModelRequest, cache: RenderCache | None) -> list[dict[str, object]]:
    """The ``messages`` member.

    Args:
        request: what is to be sent.
        cache: blocks of messages rendered before, for this target.

    Raises:
        AttachmentError: the bytes of a file are not here.
    """
    rendered: list[dict[str, object]] = []
    open_calls: list[str] = []
    for role, group in groupby(_spoken(request, cache), key=lambda item: _wire_role(item[0])):
        run = list(group)
        if role == "assistant":
            if not rendered:
                rendered.append(_turn("user", [_text(_NO_BEGINNING)]))
            rendered.append(_turn(role, [block for _, blocks in run for block in blocks]))
            open_calls = [
                tool_use_id(call.call_id)
                for message, _ in run
                if message.status == "complete"
                for call in message.tool_calls
            ]
        else:
            rendered.append(_turn(role, _answered(open_calls, run)))
            open_calls = []
    if open_calls:
        rendered.append(_turn("user", _answered(open_calls, [])))
    return rendered


def _spoken(request: ModelRequest, cache: RenderCache | None) -> Iterator[tuple[Message, tuple[JsonText, ...]]]:
    dropped = _abandoned(request.messages)
    for message in request.messages:
        if any(part in dropped for part in message.parts):
            kept = tuple(part for part in message.parts if part not in dropped)
            blocks = fragments(replace(message, parts=kept), request, None)
        else:
            blocks = fragments(message, request, cache)
        if blocks:
            yield message, blocks


def _wire_role(message: Message) -> str:
    return "assistant" if message.role == "assistant" else "user"


def _turn(role: str, blocks: Iterable[JsonText]) -> dict[str, object]:
    return {"role": role, "content": [RawJson(block) for block in blocks]}


def _text(text: str) -> JsonText:
    return dumps({"type": "text", "text": text})


def _answered(calls: Sequence[str], run: Sequence[tuple[Message, tuple[JsonText, ...]]]) -> list[JsonText]:
    """A user's message after these calls: one result for each, then everything else in its order."""
    results: dict[str, JsonText] = {}
    rest: list[JsonText] = []
    for message, blocks in run:
        told = iter(message.tool_results)
        for block in blocks:
            result = next(told) if block.startswith(RESULT) else None
            name = tool_use_id(result.call_id) if result is not None else ""
            if result is None:
                rest.append(block)
            elif name in calls and name not in results:
                results[name] = block
            else:
                rest.append(_text(_stray(result)))
    missing = [_not_run(name) for name in dict.fromkeys(calls) if name not in results]
    return [*results.values(), *missing, *rest]


def _stray(result: ToolResultPart) -> str:
    return f"Result of an earlier call of {result.name}:\n{result.content}"


def _not_run(name: str) -> JsonText:
    return dumps({"type": "tool_result", "tool_use_id": name, "content": _NOT_RUN, "is_error": True})


def _abandoned(messages: Sequence[Message]) -> Collection[Part]:
    """Calls of the server's own tools that were not answered before the user spoke again."""
    last_word = max((place for place, message in enumerate(messages) if message.role == "user"), default=0)
    asked: dict[str, Part] = {}
    for place, message in enumerate(messages):
        for part in message.parts:
            if not isinstance(part, OpaquePart):
                continue
            kind, call, answers = _server_call(part.payload)
            if kind.endswith("tool_use") and call and place < last_word:
                asked[call] = part
            asked.pop(answers, None)
    return list(asked.values())


def _server_call(payload: JsonText) -> tuple[str, str, str]:
    """Type, id, and the id of the call that a block answers; empty where it has none."""
    block = object_of(loads_verbatim(payload)) or {}
    kind, call, answers = (text_of(block.get(name)) or "" for name in ("type", "id", "tool_use_id"))
    return kind, call, answers
