"""Any answer, streamed in any pieces and cut anywhere, is the answer that its body gives."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import Number, Pairs, dumps, encode
from tests.unit.wire.ollama.asking import PROFILE, WIRE, read

if TYPE_CHECKING:
    from random import Random

_TEXTS = st.text(max_size=12) | st.sampled_from(["<think>a</think>b", "a</think>b", "<think>a", "<thi"])
_NUMBERS = st.sampled_from(["0", "-1", "1.50", "1e5", "12345678901234567890"]).map(Number)
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXTS


def _objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(st.tuples(_TEXTS, values), max_size=3).map(Pairs)


_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=6)
_CALLS = st.builds(
    lambda name, arguments, head, extra: {**head, "function": {"name": name, "arguments": arguments, **extra}},
    _TEXTS,
    _objects(_JSON) | _TEXTS | st.none(),
    st.sampled_from([{}, {"id": "call_1"}, {"id": "", "type": "function", "later": 1}]),
    st.sampled_from([{}, {"index": 0}, {"thought_signature": "c2ln"}]),
)
_REASONS = st.sampled_from(["stop", "length", "load", "new_word", None])
_COUNTS = st.dictionaries(st.sampled_from(["prompt_eval_count", "eval_count", "total_duration"]), st.integers(0, 10**6))


def _cut(chance: Random, text: str) -> list[str]:
    """Pieces of a text, halves of characters included, as JSON escapes carry them."""
    units = text.encode("utf-16-le", "surrogatepass")
    ends = [0, *sorted(chance.choices(range(len(units) // 2 + 1), k=chance.randint(0, 3))), len(units) // 2]
    return [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(ends)]


@given(
    thinking=_TEXTS,
    content=_TEXTS,
    calls=st.lists(_CALLS, max_size=3),
    reason=_REASONS,
    counts=_COUNTS,
    chance=st.randoms(),
)
def test_a_stream_folds_to_what_its_body_gives(
    thinking: str,
    content: str,
    calls: list[dict[str, object]],
    reason: str | None,
    counts: dict[str, int],
    chance: Random,
) -> None:
    """Parts are equal to the byte, and so are reason and usage, wherever text and bytes were cut."""
    ending: dict[str, object] = {"done": True, "done_reason": reason, **counts}
    message = {"role": "assistant", "content": content, "thinking": thinking, "tool_calls": calls}
    body = encode(dumps({"model": "m", "message": message, **ending}))
    said: list[dict[str, object]] = [{"content": "", "thinking": piece} for piece in _cut(chance, thinking)]
    said += [{"content": piece} for piece in _cut(chance, content)]
    at = chance.randint(0, len(calls))
    said += [{"content": "", "tool_calls": some} for some in (calls[:at], calls[at:])]
    end = chance.choice(["\n", "\r\n", "\n\n"])
    lines = [dumps({"model": "m", "message": members, "done": False}) for members in said]
    lines.append(dumps({"model": "m", "message": {"role": "assistant", "content": ""}, **ending}))
    stream = encode("".join(f"{text}{end}" for text in lines))
    cuts = sorted(chance.choices(range(len(stream)), k=chance.randint(0, 6)))
    assert read(stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])) == WIRE.parse(body, PROFILE)
