"""The tables of the providers' page say what the code does."""

from __future__ import annotations

from tests.acceptance.provider_tables import PAGE, abilities, offers, written


def test_the_page_is_up_to_date() -> None:
    """Making the tables anew changes nothing; ``python -m tests.acceptance.provider_tables`` writes them."""
    page = PAGE.read_text("utf-8")
    assert written(page) == page


def test_every_provider_of_the_promise_is_there() -> None:
    """The twelve providers are known by name."""
    names = {offer.row.name for offer in offers()}
    assert names >= {
        "openai",
        "anthropic",
        "gemini",
        "bedrock",
        "deepseek",
        "openrouter",
        "ollama",
        "mistral",
        "xai",
        "azure",
        "openai_compatible",
        "local",
    }


def test_every_cell_is_a_known_word() -> None:
    """A cell says yes, no, or how else."""
    assert {cell for offer in offers() for cell in abilities(offer).values()} <= {"yes", "-", "in words"}
