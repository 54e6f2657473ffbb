"""The ``messages`` member: what one message renders to is decided in `blocks`, what the API asks of their order here.

Roles alternate and the user begins. Every call is answered in the message after it, before anything else; what answers
no call of the message before it goes along as text. Where a model takes no other block beside results, or no document,
a word of the assistant goes between. No two documents have the same name. Nothing here changes what an earlier request
said.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import RawJson, dumps
from nodellm_orm.wire.bedrock.blocks import DOCUMENT, RESULT, fragments, tool_use_id
from nodellm_orm.wire.bedrock.files import NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import ToolResultPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_NO_BEGINNING: Final = "(The conversation goes on from here.)"
_NOT_RUN: Final = "This call was not run: the conversation went on without it."
_BETWEEN: Final = "."
_NAMED: Final = re.compile(re.escape(DOCUMENT) + '([^"]*)')
_BULKY: Final = (DOCUMENT, '{"document":{', '{"video":{')


def turns(request: ModelRequest, cache: RenderCache | None, opening: Sequence[str] = ()) -> list[dict[str, object]]:
    """The ``messages`` member.

    Args:
        request: what is to be sent.
        cache: blocks of messages rendered before, for this target.
        opening: instructions for a model that takes none of their own; the user says them first.
    """
    before = [_text(text) for text in opening]
    found: list[tuple[str, list[JsonText]]] = []
    open_calls: list[str] = []
    for role, group in groupby(_spoken(request, cache), key=lambda item: _wire_role(item[0])):
        run = list(group)
        if role == "assistant":
            if not found:
                found.append(("user", before or [_text(_NO_BEGINNING)]))
                before = []
            found.append((role, [block for _, blocks in run for block in blocks]))
            open_calls = [
                tool_use_id(call.call_id)
                for message, _ in run
                if message.status == "complete" and request.profile.tools != "none"
                for call in message.tool_calls
            ]
        else:
            found += _answered(open_calls, run, before, request.profile)
            open_calls, before = [], []
    if open_calls or not found:
        found += _answered(open_calls, [], before, request.profile)
    names: set[str] = set()
    return [_turn(role, (_renamed(block, names) for block in blocks)) for role, blocks in found]


def _spoken(request: ModelRequest, cache: RenderCache | None) -> Iterator[tuple[Message, tuple[JsonText, ...]]]:
    for message in request.messages:
        if blocks := fragments(message, request, cache):
            yield message, blocks


def _wire_role(message: Message) -> str:
    return "assistant" if message.role == "assistant" else "user"


def _turn(role: str, blocks: Iterable[JsonText]) -> dict[str, object]:
    return {"role": role, "content": [RawJson(block) for block in blocks]}


def _text(text: str) -> JsonText:
    return dumps({"text": text})


def _answered(
    calls: Sequence[str],
    run: Sequence[tuple[Message, tuple[JsonText, ...]]],
    before: Sequence[JsonText],
    profile: ModelProfile,
) -> Iterator[tuple[str, list[JsonText]]]:
    """The user's turns after these calls: one result for each of them, then everything else in its order."""
    results: dict[str, JsonText] = {}
    rest = [list(before)]
    for message, blocks in run:
        told = iter(message.tool_results)
        rest.append([])
        for block in blocks:
            result = next(told) if block.startswith(RESULT) else None
            name = tool_use_id(result.call_id) if result is not None else ""
            if result is None:
                rest[-1].append(block)
            elif name in calls and name not in results:
                results[name] = block
            else:
                rest[-1].append(_text(_stray(result)))
    answers = [results.get(name) or _not_run(name) for name in dict.fromkeys(calls)]
    beside, apart = _parted(rest, profile) if answers else (rest, [])
    first = [*answers, *(block for blocks in beside for block in blocks)]
    if first:
        yield "user", first
    if apart:
        yield "assistant", [_text(_BETWEEN)]
        yield "user", [block for blocks in apart for block in blocks]


def _parted(
    messages: Sequence[list[JsonText]], profile: ModelProfile
) -> tuple[Sequence[list[JsonText]], Sequence[list[JsonText]]]:
    """The messages that may stand beside results, and those from the first on that may not.

    Where it is cut depends on what comes before only: what is said later never moves what an earlier request said.
    """
    for place, blocks in enumerate(messages):
        bulky = not profile.documents_after_tool and any(block.startswith(_BULKY) for block in blocks)
        if blocks and (bulky or not profile.user_after_tool):
            return messages[:place], messages[place:]
    return messages, []


def _stray(result: ToolResultPart) -> str:
    return f"Result of an earlier call of {result.name}:\n{result.content}"


def _not_run(name: str) -> JsonText:
    return dumps({"toolResult": {"toolUseId": name, "content": [{"text": _NOT_RUN}], "status": "error"}})


def _renamed(block: JsonText, names: set[str]) -> JsonText:
    """The block, with a number behind its document's name where that name is taken; names are told apart by letters."""
    found = _NAMED.match(block)
    if found is None:
        return block
    name, number = found[1], 1
    while name.lower() in names:
        number += 1
        ending = f" {number}"
        name = found[1][: NAME_CHARS - len(ending)] + ending
    names.add(name.lower())
    return f"{DOCUMENT}{name}{block[found.end() :]}"
