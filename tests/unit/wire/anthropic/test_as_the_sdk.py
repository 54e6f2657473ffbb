"""What the vendor's own client makes of the same bytes, where it needs an answer of ours."""

from __future__ import annotations

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.parts import OpaquePart, TextPart, ThinkingPart
from nodellm_orm.domain.profile import ModelProfile
from tests.unit.wire.anthropic.asking import (
    WIRE,
    asking,
    assistant,
    block,
    body,
    contents,
    ending,
    folded,
    start,
    user,
)

_FALLBACK = {
    "type": "fallback",
    "from": {"model": "claude-haiku-4-5"},
    "to": {"model": "claude-opus-5"},
    "trigger": {"type": "refusal", "category": None},
}


def test_a_signature_that_is_told_again_is_not_appended() -> None:
    """It comes whole: the last one that says anything is the block's."""
    opening = {"type": "thinking", "thinking": "", "signature": ""}
    thought = {"type": "thinking_delta", "thinking": "Hm"}
    signed = [{"type": "signature_delta", "signature": signature} for signature in ("b2xk", "bmV3", "")]
    answer = folded([start() + block(0, opening, thought, *signed) + ending()])
    assert answer.parts == (ThinkingPart(text="Hm", signature="bmV3"),)


def test_a_signature_at_the_start_is_replaced_by_the_one_that_follows() -> None:
    """A server that writes the signature at the start of the block and again at its end means one signature."""
    opening = {"type": "thinking", "thinking": "Hm", "signature": "c2ln", "v": 2}
    answer = folded([start() + block(0, opening, {"type": "signature_delta", "signature": "c2ln"}) + ending()])
    assert answer.parts == (ThinkingPart(text="Hm", signature="c2ln", opaque=dumps(opening)),)


@pytest.mark.parametrize("file_id", ["file_1", None])
def test_citations_go_back_without_the_name_of_the_file(file_id: str | None) -> None:
    """Answers name the uploaded file that they cite; a request that does is refused. What is kept stays whole."""
    place = {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": None}
    cited = {**place, "start_char_index": 0, "end_char_index": 1, "file_id": file_id}
    delta = {"type": "citations_delta", "citation": cited}
    answer = folded([start() + block(0, {"type": "text", "text": "Yes", "citations": []}, delta) + ending()])
    assert answer.parts == (TextPart(text="Yes", extra=dumps({"citations": [cited]})),)
    ((_, _), (_, content), _) = contents(asking(user("Hi"), assistant(*answer.parts), user("And?")))
    assert content == [
        {"type": "text", "text": "Yes", "citations": [{k: v for k, v in cited.items() if k != "file_id"}]}
    ]


def test_the_model_is_the_one_that_took_over() -> None:
    """Where another model goes on with an answer, a stream names it as an unstreamed body does; its block is kept."""
    data = start() + block(0, _FALLBACK) + block(1, {"type": "text", "text": "Yes."}) + ending()
    answer = folded([data])
    assert answer.model == "claude-opus-5"
    assert answer.response_id == "msg_1"
    assert answer.parts == (OpaquePart(payload=dumps(_FALLBACK)), TextPart(text="Yes."))
    unstreamed = WIRE.parse(body(_FALLBACK, {"type": "text", "text": "Yes."}, model="claude-opus-5"), ModelProfile())
    assert (unstreamed.model, unstreamed.parts) == (answer.model, answer.parts)
