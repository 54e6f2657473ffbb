"""Any answer, streamed in any pieces and cut anywhere, is the answer that its body gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import Number, Pairs, dumps, encode
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.anthropic.asking import WIRE, folded

if TYPE_CHECKING:
    from random import Random

_TEXTS = st.text(max_size=12)
_NUMBERS = st.sampled_from(["0", "-1", "1.50", "1e5", "12345678901234567890", "0.1"]).map(Number)
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXTS


def _objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(st.tuples(_TEXTS, values), max_size=3).map(Pairs)


_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=6)
_EXTRA = st.dictionaries(st.sampled_from(["caller", "later", "binding"]), _JSON, max_size=2)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One content block: as a body has it, as a stream begins it, and the kind and text of its pieces."""

    whole: dict[str, object]
    opening: dict[str, object]
    deltas: tuple[tuple[str, str, str], ...] = ()
    """Type of delta, its member, and the text that the deltas make together."""
    items: tuple[object, ...] = ()
    """Citations, one a delta."""


def _text(text: str, extra: dict[str, object], cited: list[object] | None) -> Spoken:
    citations = {} if cited is None else {"citations": cited}
    opened: dict[str, object] = {} if cited is None else {"citations": []}
    return Spoken(
        {**extra, **citations, "type": "text", "text": text},
        {**extra, **opened, "type": "text", "text": ""},
        (("text_delta", "text", text),),
        tuple(cited or ()),
    )


def _thinking(text: str, signature: str, extra: dict[str, object]) -> Spoken:
    return Spoken(
        {"type": "thinking", "thinking": text, "signature": signature, **extra},
        {"type": "thinking", "thinking": "", "signature": "", **extra},
        (("thinking_delta", "thinking", text), ("signature_delta", "signature", signature)),
    )


def _tool(kind: str, name: str, arguments: object, spaced: str, extra: dict[str, object]) -> Spoken:
    head: dict[str, object] = {"type": kind, "id": "toolu_1", "name": name}
    return Spoken(
        {**head, "input": arguments, **extra},
        {**head, "input": {}, **extra},
        (("input_json_delta", "partial_json", spaced),),
    )


def _with_spaces(value: object) -> str:
    """The same JSON with blanks between its tokens, as a model writes it."""
    match value:
        case Pairs():
            return "{ " + " , ".join(f"{json.dumps(name)} : {_with_spaces(item)}" for name, item in value) + "\n}"
        case list():
            return "[ " + ", ".join(map(_with_spaces, value)) + " ]"
        case _:
            return dumps(value)


_ARGUMENTS = _objects(_JSON)
_BLOCKS = st.one_of(
    st.builds(_text, _TEXTS, _EXTRA, st.none() | st.lists(_JSON, min_size=1, max_size=3)),
    st.builds(_thinking, _TEXTS, st.sampled_from(["", "c2lnbmF0dXJl"]), st.just({}) | _EXTRA),
    st.builds(
        lambda kind, name, value, extra: _tool(kind, name, value, _with_spaces(value), extra),
        st.sampled_from(["tool_use", "server_tool_use"]),
        _TEXTS,
        _ARGUMENTS,
        _EXTRA,
    ),
    st.builds(lambda kind, more: Spoken({**more, "type": kind}, {**more, "type": kind}), _TEXTS, _EXTRA),
    st.just(Spoken({"type": "redacted_thinking", "data": "ZW5j"}, {"type": "redacted_thinking", "data": "ZW5j"})),
)
_REASONS = st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn", "new_word", None])
_DETAILS = st.none() | st.builds(lambda words: {"type": "refusal", "explanation": words}, _TEXTS | st.none())
_COUNTS = st.dictionaries(
    st.sampled_from(["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"]),
    st.integers(0, 10**6),
)


def _cut(chance: Random, text: str) -> list[str]:
    """Pieces of a text, halves of characters included, as JSON escapes carry them."""
    units = text.encode("utf-16-le", "surrogatepass")
    ends = [0, *sorted(chance.choices(range(len(units) // 2 + 1), k=chance.randint(0, 3))), len(units) // 2]
    return [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(ends)]


def _stream(chance: Random, blocks: list[Spoken], message: dict[str, object], ending: dict[str, object]) -> bytes:
    """The answer as a stream, with or without names, in any of the forms that lines may have."""
    named, end = chance.random() < 0.5, chance.choice(["\n", "\r\n", "\r"])
    out: list[bytes] = []

    def say(kind: str, **members: object) -> None:
        name = f"event: {kind}{end}" if named else ""
        out.append(encode(f"{name}data: {dumps({'type': kind, **members})}{' ' * chance.randint(0, 2)}{end}{end}"))

    say("message_start", message={**message, "content": [], "stop_reason": None, "usage": {"output_tokens": 1}})
    for index, block in enumerate(blocks):
        say("content_block_start", index=index, content_block=block.opening)
        for kind, name, text in block.deltas:
            # A signature comes whole.
            for piece in [text] if kind == "signature_delta" else _cut(chance, text):
                say("content_block_delta", index=index, delta={"type": kind, name: piece})
            say("ping")
        for item in block.items:
            say("content_block_delta", index=index, delta={"type": "citations_delta", "citation": item})
        say("content_block_stop", index=index)
    say("message_delta", delta=ending, usage=message["usage"])
    say("message_stop")
    return b"".join(out)


@given(blocks=st.lists(_BLOCKS, max_size=4), reason=_REASONS, details=_DETAILS, counts=_COUNTS, chance=st.randoms())
def test_a_stream_folds_to_what_its_body_gives(
    blocks: list[Spoken],
    reason: str | None,
    details: dict[str, object] | None,
    counts: dict[str, int],
    chance: Random,
) -> None:
    """Parts are equal to the byte, and so are reason, refusal and usage, wherever text and bytes were cut."""
    ending: dict[str, object] = {"stop_reason": reason, "stop_sequence": None, "stop_details": details}
    head: dict[str, object] = {"id": "msg_1", "model": "claude", "usage": {"output_tokens": 3, **counts}}
    body = encode(dumps({**head, "content": [block.whole for block in blocks], **ending}))
    stream = _stream(chance, blocks, head, ending)
    cuts = sorted(chance.choices(range(len(stream)), k=chance.randint(0, 6)))
    assert folded(stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])) == WIRE.parse(body, ModelProfile())
