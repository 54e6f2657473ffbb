"""Reports of real conversations: what was spent stays in them, whatever becomes of the chats."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from nodellm_orm import ANY_OWNER, Price, ProviderError, create_chat, create_llm, purge, usage_report
from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import UsageRow


def sums(rows: list[UsageRow]) -> list[tuple[object, ...]]:
    """What a deletion must not change."""
    return [(row.requests, row.failures, row.unpriced, row.input_tokens, row.output_tokens, row.cost) for row in rows]


@pytest.mark.fault("B28")
async def test_deleted_chats_and_erased_owners_stay_in_the_sums(engine: AsyncEngine) -> None:
    """A report equals the chats' own totals; deleting them changes no sum, and erasing an owner only whose it was."""
    answers = [json_answer(openai_chat_body("Yes.")), json_answer({"error": {"message": "no"}}, status=400)]
    async with (
        LoopbackServer([*answers, *answers]) as server,
        create_llm(
            "openai",
            api="chat",
            base_url=f"{server.url}/v1",
            api_key="k",
            model="m",
            prices={"m": Price(input="0.1", output="0.3")},
        ) as llm,
    ):
        totals = []
        for owner in ("ada", "bob"):
            chat = await create_chat(engine, llm, owner=owner, metadata={"team": f"of {owner}"})
            await chat.ask("Well?")
            with pytest.raises(ProviderError):
                await chat.ask("And now?")
            totals.append(await chat.usage())
            await chat.delete()

    by_owner = await usage_report(engine, group_by=["owner", "metadata.team"], owner=ANY_OWNER)
    everything = await usage_report(engine, group_by=[], owner=ANY_OWNER)
    await purge(engine, owner="ada")
    erased = await usage_report(engine, group_by=["owner", "metadata.team"], owner=ANY_OWNER)

    assert [tuple(row.keys.values()) for row in by_owner] == [("ada", "of ada"), ("bob", "of bob")]
    assert [(row.requests, row.failures, row.unpriced, row.cost) for row in by_owner] == [
        (total.requests, total.failures, total.unpriced, total.cost) for total in totals
    ]
    assert [(row.requests, row.failures) for row in by_owner] == [(2, 1), (2, 1)]
    assert sum((row.cost or Decimal(0) for row in by_owner), Decimal(0)) == everything[0].cost
    assert [tuple(row.keys.values()) for row in erased] == [(None, None), ("bob", "of bob")]
    assert sums(erased) == sums(by_owner)
    assert sums(await usage_report(engine, group_by=[], owner=ANY_OWNER)) == sums(everything)
