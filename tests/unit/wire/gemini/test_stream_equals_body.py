"""Any answer, streamed in any pieces and cut anywhere, is the answer that its body gives."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import Number, Pairs, dumps, encode
from tests.unit.wire.gemini.asking import PROFILE, WIRE, read

if TYPE_CHECKING:
    from random import Random

_TEXTS = st.text(max_size=12)
_NUMBERS = st.sampled_from(["0", "-1", "1.50", "1e5", "12345678901234567890"]).map(Number)
_SCALARS = st.none() | st.booleans() | _NUMBERS | _TEXTS


def _objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(st.tuples(_TEXTS, values), max_size=3).map(Pairs)


_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=6)
_SIGNED = st.sampled_from([{}, {}, {"thoughtSignature": "c2ln"}, {"later": 1}])
_PARTS = st.one_of(
    st.builds(lambda text, extra: {"text": text, **extra}, _TEXTS, _SIGNED),
    st.builds(lambda text, extra: {"text": text, "thought": True, **extra}, _TEXTS, _SIGNED),
    st.builds(
        lambda name, args, extra: {"functionCall": {"name": name, "args": args}, **extra},
        _TEXTS,
        _objects(_JSON),
        _SIGNED,
    ),
    st.builds(lambda extra: {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}, **extra}, _SIGNED),
    st.builds(lambda value: {"executableCode": value}, _JSON),
    st.just({"thought": True, "thoughtSignature": "c2ln"}),
    st.just({"thoughtSignature": "c2ln"}),
)
_REASONS = st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "NEW_WORD"])
_SOURCES = st.dictionaries(st.sampled_from(["groundingMetadata", "citationMetadata", "urlContextMetadata"]), _JSON)
_COUNTS = st.dictionaries(
    st.sampled_from(["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount"]),
    st.integers(0, 10**6),
)


def _cut(chance: Random, text: str) -> list[str]:
    """Pieces of a text, halves of characters included, as JSON escapes carry them."""
    units = text.encode("utf-16-le", "surrogatepass")
    ends = [0, *sorted(chance.choices(range(len(units) // 2 + 1), k=chance.randint(0, 3))), len(units) // 2]
    return [units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(ends)]


def _streamed(chance: Random, parts: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    """The parts of each chunk: a plain text or thought may come in pieces, anything else comes whole."""
    pieces: list[dict[str, object]] = []
    for part in parts:
        text = part.get("text")
        plain = isinstance(text, str) and part.keys() <= {"text", "thought"}
        pieces += [{**part, "text": piece} for piece in _cut(chance, str(text))] if plain else [part]
    chunks: list[list[dict[str, object]]] = [[]]
    for piece in pieces:
        if chance.random() < 0.6:
            chunks.append([])
        chunks[-1].append(piece)
    return chunks


@given(parts=st.lists(_PARTS, max_size=5), reason=_REASONS, sources=_SOURCES, counts=_COUNTS, chance=st.randoms())
def test_a_stream_folds_to_what_its_body_gives(
    parts: list[dict[str, object]],
    reason: str,
    sources: dict[str, object],
    counts: dict[str, int],
    chance: Random,
) -> None:
    """Parts are equal to the byte, and so are reason and usage, wherever text and bytes were cut."""
    ending = {**sources, "finishReason": reason, "finishMessage": "Because."}
    head = {"modelVersion": "gemini", "responseId": "r"}
    candidate = {"content": {"parts": parts}, **ending}
    whole = encode(dumps({"candidates": [candidate], "usageMetadata": counts, **head}))
    chunks = _streamed(chance, parts)
    end = chance.choice(["\n", "\r\n", "\r"])
    out = []
    for number, pieces in enumerate(chunks, 1):
        said: dict[str, object] = {"content": {"parts": pieces}, "index": 0}
        said |= ending if number == len(chunks) else {}
        out.append(encode(f"data: {dumps({'candidates': [said], 'usageMetadata': counts, **head})}{end}{end}"))
    stream = b"".join(out)
    cuts = sorted(chance.choices(range(len(stream)), k=chance.randint(0, 6)))
    assert read(stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])) == WIRE.parse(whole, PROFILE)
