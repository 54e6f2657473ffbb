"""What `ReplayLLM` says of a request that was not recorded: readable at a glance, and nothing but what differs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from nodellm_orm import ConfigurationError, ReplayLLM, tool
from nodellm_orm.replay.differences import differences
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says
from tests.acceptance.talks import Talk

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from tests.integration.databases import DatabaseKind


RULES = "You are a travel agent." + " Be kind." * 20 + "\nNever book without asking.\nUse euros."
FILE = ("a.csv", b"item,price\ntea,3\n")


def booking(name: str = "book", *, says: str = "Book a flight.", price: object = 120, seats: Any = int) -> Any:
    """A tool that gives JSON, or a text."""

    async def book(flight: str, seats: int = 1) -> object:
        del seats
        return price if isinstance(price, str) else {"flight": flight, "price": {"amount": price}, "for": ["ann"]}

    book.__doc__, book.__annotations__["seats"] = says, seats
    return tool(name=name)(book)


class City(BaseModel):
    """A city."""

    name: str
    population: int


class Town(BaseModel):
    """A city."""

    name: str
    population: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """What is not as it was recorded, and the lines that say so."""

    told: tuple[str, ...]
    chat: dict[str, Any] = field(default_factory=dict)
    questions: tuple[str, ...] = ("Hi", "Book LH1", "What is in it?")
    files: Any = FILE
    schema: Any = City


OTHERWISE = {
    "a line of the instructions": Otherwise(
        chat={"instructions": RULES.replace("without", "before")},
        told=("instructions[0], line 2: expected 'Never book without asking.\\n', got 'Never book before asking.\\n'",),
    ),
    "a word in a long line": Otherwise(
        chat={"instructions": RULES.replace("travel", "travelling")},
        told=(
            "instructions[0], line 1:",
            "  expected 'You are a travel agent. Be kind. Be kind. Be kind. Be kind. Be kind. Be kind. Be'…",
            "  got      'You are a travelling agent. Be kind. Be kind. Be kind. Be kind. Be kind. Be kind'…",
        ),
    ),
    "a line more": Otherwise(
        chat={"instructions": RULES + "\nSmile."},
        told=("instructions[0], line 3: expected 'Use euros.', got 'Use euros.\\nSmile.'",),
    ),
    "no instructions": Otherwise(
        chat={"instructions": None},
        told=(
            "instructions[0]:",
            "  expected 'You are a travel agent. Be kind. Be kind. Be kind. Be kind. Be kind. Be kind. Be'…",
            "  got      nothing",
        ),
    ),
    "one tool more": Otherwise(
        chat={"tools": [booking(), booking("cancel")]}, told=("tools: cancel is offered, and was not",)
    ),
    "no tools": Otherwise(chat={"tools": []}, told=("tools: book is not offered, and was",)),
    "a type in the schema of a tool": Otherwise(
        chat={"tools": [booking(seats=float)]},
        told=('tools: book, parameters at /properties/seats/type: expected "integer", got "number"',),
    ),
    "what is said of a tool": Otherwise(
        chat={"tools": [booking(says="Book one.")]},
        told=("tools: book, description: expected 'Book a flight.', got 'Book one.'",),
    ),
    "a value in a result": Otherwise(
        chat={"tools": [booking(price=125)]},
        told=("messages[4] (result of book) content at /price/amount: expected 120, got 125",),
    ),
    "a result that is no JSON": Otherwise(
        chat={"tools": [booking(price="sold out")]},
        told=(
            "messages[4] (result of book) content:",
            """  expected '{"flight":"LH1","price":{"amount":120},"for":["ann"]}'""",
            "  got      'sold out'",
        ),
    ),
    "another question": Otherwise(
        questions=("Hi", "Book LH2"), told=("messages[2] (user) text: expected 'Book LH1', got 'Book LH2'",)
    ),
    "one question too few": Otherwise(
        questions=("Hi", "What is in it?"),
        told=("messages[2] (user) text: expected 'Book LH1', got 'What is in it?'",),
    ),
    "opening messages": Otherwise(
        chat={"messages": [{"role": "user", "content": "before"}, {"role": "assistant", "content": "ok"}]},
        told=(
            "messages[0] (user) is sent, and was not: 'before'",
            "messages[1] (assistant) is sent, and was not: 'ok'",
        ),
    ),
    "a setting": Otherwise(chat={"temperature": 0.5}, told=("settings: temperature: expected nothing, got 0.5",)),
    "the model": Otherwise(chat={"model": "gpt-5"}, told=("settings: model: expected 'gpt-5-mini', got 'gpt-5'",)),
    "the bytes of a file": Otherwise(
        files=("a.csv", b"tea\n"),
        told=(
            "messages[6] (user) part 0 file:",
            "  expected a.csv (text/csv, sha256 d2ee6fde07e7…)",
            "  got      a.csv (text/csv, sha256 b49c876df8b6…)",
        ),
    ),
    "no file": Otherwise(
        files=None,
        told=("messages[6] (user) part 0, the file a.csv (text/csv, sha256 d2ee6fde07e7…), is not sent, and was",),
    ),
    "one file more": Otherwise(
        files=[FILE, ("b.csv", b"tea\n")],
        told=("messages[6] (user) part 1, the file b.csv (text/csv, sha256 b49c876df8b6…), is sent, and was not",),
    ),
    "the schema of the answer": Otherwise(
        schema=Town,
        told=(
            'settings: schema at /properties/population/type: expected "integer", got "number"',
            "settings: schema_name: expected 'City', got 'Town'",
        ),
    ),
}
PLACES = (
    "call 1 of question 1, 'Hi' (answer 1 of 4)",
    "call 1 of question 2, 'Book LH1' (answer 2 of 4)",
    "call 2 of question 2, 'Book LH1' (answer 3 of 4)",
    "call 1 of question 3, 'What is in it?' (answer 4 of 4)",
)


@pytest.fixture
def database_kind() -> DatabaseKind:
    """One is enough here: what is stored is read alike."""
    return "sqlite"


@pytest.fixture
async def bookings(engine: AsyncEngine) -> Chat:
    """A chat of three questions: without anything, with a call, with a file and a schema."""
    call = FakeCall("book", {"flight": "LH1"}, "b")
    script = (
        Says(text="Hello!"),
        Says(text="I look.", calls=[call]),
        Says(text="Booked."),
        Says(text='{"name":"Ulm","population":1}'),
    )
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(instructions=RULES, tools=[booking()])
        await chat.ask("Hi")
        await chat.ask("Book LH1")
        await chat.ask("What is in it?", files=FILE, schema=City)
    return chat


async def played_again(player: ReplayLLM, otherwise: Otherwise) -> str:
    chat = player.chat(**{"instructions": RULES, "tools": [booking()], **otherwise.chat})
    for question in otherwise.questions:
        last = question == "What is in it?" and len(otherwise.questions) > 2
        await chat.ask(question, **({"files": otherwise.files, "schema": otherwise.schema} if last else {}))
    return "nothing"


async def test_deviations_read_at_a_glance(engine: AsyncEngine, bookings: Chat) -> None:
    """What differs, where, and only that: lines of a text, pointers into JSON, names of files."""
    assert await played_again(await ReplayLLM.from_chat(engine, bookings.id), Otherwise(told=())) == "nothing"
    for kind, otherwise in OTHERWISE.items():
        player = await ReplayLLM.from_chat(engine, bookings.id)
        with pytest.raises(ConfigurationError) as raised:
            await played_again(player, otherwise)
        first, *told, last = str(raised.value).splitlines()
        assert tuple(line[2:] for line in told) == otherwise.told, kind
        assert first == f"the request differs from the record of chat {bookings.id}, {PLACES[4 - player.remaining]}:"
        assert last.startswith("Change it back, or record the chat anew (compare=("), kind


async def test_what_is_left_out_passes(engine: AsyncEngine, bookings: Chat) -> None:
    """The error names the ``compare=`` that lets the request pass, and it does."""
    otherwise = OTHERWISE["a value in a result"]
    player = await ReplayLLM.from_chat(engine, bookings.id)
    with pytest.raises(ConfigurationError, match=r"\(compare=\('instructions', 'tools', 'settings'\) lets it pass\)"):
        await played_again(player, otherwise)
    lenient = await ReplayLLM.from_chat(engine, bookings.id, compare=("instructions", "tools", "settings"))
    assert await played_again(lenient, otherwise) == "nothing"
    assert lenient.remaining == 0
    with pytest.raises(ConfigurationError, match=r"all of its 4 were played, and now comes \(user\) 'More'; ask less"):
        await lenient.chat(instructions=RULES, tools=[booking()]).ask("More")


def test_texts_that_are_hard_to_compare() -> None:
    """Every difference is told of, whatever the texts are, and a long list of them is cut."""
    assert differences("x", '{"a":1,"b":2}', '{"b":2,"a":1}') == [
        """x: expected '{"a":1,"b":2}', got '{"b":2,"a":1}'"""
    ]
    assert differences("x", '{"a":1}', '{"a":1.0}') == ["x at /a: expected 1, got 1.0"]
    assert differences("x", '{"a":[1]}', '{"a":[1,{"b/c":null}]}') == ['x at /a/1: expected nothing, got {"b/c":null}']
    assert differences("x", '{"b/c":{"~":true}}', '{"b/c":{"~":"true"}}') == [
        'x at /b~1c/~0: expected true, got "true"'
    ]
    assert differences("x", "[1]", '{"0":1}') == ['x at /: expected [1], got {"0":1}']
    assert differences("x", '{"a":1', '{"a":2') == ["""x: expected '{"a":1', got '{"a":2'"""]
    assert differences("x", "", "a") == ["x: expected nothing, got 'a'"]
    many = [f'{{"{n}":1}}' for n in range(2)]
    assert len(differences("x", *many)) == 2
    assert differences("x", "[1,2,3,4,5]", "[0,0,0,0,0]")[2:] == ["x at /2: expected 3, got 0", "… and 2 more of it"]
    huge = "line\n" * 3000
    (only,) = differences("x", huge, huge + "end")
    assert only.startswith("x, line 3001: expected …")
    assert only.endswith("line\\nend'")
