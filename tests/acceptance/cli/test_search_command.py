"""The command `search`: what was said and where, marked, harmless, page by page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import Encryption, search_messages
from nodellm_orm.search.keeping import has_search_index
from tests.acceptance.cli.shell import lines
from tests.acceptance.searching import saying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J[bold]needle[/bold] \u202egnp.exe\r\n\x00 \ud800 end"
MISSING: Final = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def database_kind() -> DatabaseKind:
    """SQLite: what is found on each database is shown elsewhere."""
    return "sqlite"


@pytest.fixture
async def say(engine: AsyncEngine) -> AsyncIterator[Callable[..., Awaitable[Chat]]]:
    """Makes chats in which texts have been said."""
    async with saying(engine) as say:
        yield say


@pytest.fixture
def shell(shell: Shell, database: str) -> Shell:
    """A shell in which the database is named."""
    return shell.with_environment(NODELLM_DATABASE_URL=database)


async def test_people_get_a_table_with_ids_and_marked_words(shell: Shell, say: Callable[..., Awaitable[Chat]]) -> None:
    """Each chat once, with its id for `show`; each message with its place and its words, bold on a terminal."""
    chat = await say("Where is the needle?", "A needle is here.", owner="ann", title="Sewing")
    await say("nothing")
    done = await shell.run("search", "NEEDLE")
    assert (done.code, done.err) == (0, "")
    assert done.out.count(str(chat.id)) == 1
    assert re.search(r"assistant · 1 · \d{4}-\d\d-\d\d \d\d:\d\d\s", done.out)
    for told in ("ann", "Sewing", "A needle is here.", "user · 0 · ", "Where is the needle?"):
        assert told in done.out
    assert max(len(line) for line in lines(done.out)) <= 80
    assert (await shell.run("show", str(chat.id))).code == 0
    async with shell.with_environment(TERM="xterm", COLUMNS="100").terminal("search", "needle") as terminal:
        assert await terminal.ended() == 0
        await terminal.until("Where is")
        assert "\x1b[1mneedle\x1b[0m" in terminal.seen


async def test_programs_get_json_with_the_places_of_the_words(
    shell: Shell, engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """The same as JSON, hits as places in the excerpt, and a cursor that leads to the next page."""
    await say("a needle and a needle", "needle two", owner="ann")
    done = await shell.run("search", "needle", "--limit", "1", "--json")
    told = json.loads(done.out)
    (found,) = (await search_messages(engine, "needle", owner="ann", limit=1)).items
    assert told["messages"] == [
        {
            "chat_id": str(found.chat_id),
            "owner": "ann",
            "title": None,
            "position": 1,
            "role": "assistant",
            "created_at": found.created_at.isoformat(),
            "superseded": False,
            "excerpt": "needle two",
            "hits": [[0, 6]],
        }
    ]
    assert (told["encrypted"], told["indexed"]) == (0, False)
    done = await shell.run("search", "needle", "--limit", "1", "--json", "--after", told["next"])
    told = json.loads(done.out)
    assert ([message["hits"] for message in told["messages"]], told["next"]) == ([[[2, 8], [15, 21]]], None)


@pytest.mark.fault("E18")
async def test_nothing_that_was_said_reaches_the_terminal_as_a_command(
    shell: Shell, say: Callable[..., Awaitable[Chat]]
) -> None:
    """Escape sequences, marks and reordering signs of texts, titles and owners are shown, not obeyed, also in JSON."""
    await say(HOSTILE, owner="\x1b[2Jann", title="\x1b[31m[red]title")
    for arguments in (["needle"], ["needle", "--json"]):
        done = await shell.run("search", *arguments)
        assert done.code == 0
        assert not set("\x1b\x07\u202e\x00\r") & set(done.out)
    done = await shell.run("search", "needle")
    assert "[bold]needle[/bold]" in done.out.replace("\n", "")
    assert "[red]title" in done.out


async def test_words_are_taken_as_the_shell_gives_them(shell: Shell, say: Callable[..., Awaitable[Chat]]) -> None:
    """Several words must all occur, a quoted one with a blank is words in a row, and --without leaves out."""
    await say("the event loop", "a loop of events, an event and a thread", "event loop thread")

    async def positions(*arguments: str) -> list[int]:
        done = await shell.run("search", *arguments, "--json")
        return [message["position"] for message in json.loads(done.out)["messages"]]

    assert await positions("event", "loop") == [2, 1, 0]
    assert await positions("event loop") == [2, 1, 0]
    assert await positions("event loop", "loop") == await positions('"event loop"') == [2, 0]
    assert await positions("loop", "--without", "thread") == await positions("loop -thread") == [0]
    assert await positions("loop", "--without", "loop thread") == [1, 0]
    assert await positions("event*", "--role", "user") == [2, 0]
    assert await positions("loop", "--since", "2100-01-01") == []


async def test_what_is_left_is_told(shell: Shell, say: Callable[..., Awaitable[Chat]]) -> None:
    """Nothing found is said, and is no failure; a full page says how to get the next, which has the rest."""
    chat = await say("needle", "needle", "needle", owner="ann")
    nothing = await shell.run("search", "thimble")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "Nothing was found.\n")
    assert (await shell.run("search", "needle", "--owner", "bob")).err == "Nothing was found.\n"
    page = await shell.run("search", "needle", "--owner", "ann", "--chat", str(chat.id), "--limit", "2")
    more = re.search(r"more with the same command and: --after (\S+)\n", page.err)
    assert more is not None
    rest = await shell.run("search", "needle", "--limit", "2", "--after", more[1])
    assert (rest.out.count("needle"), rest.err) == (1, "")


async def test_encrypted_messages_are_told_of_or_searched(shell: Shell, say: Callable[..., Awaitable[Chat]]) -> None:
    """Without keys the command says how many it could not read; with keys it reads them."""
    key = Encryption.generate_key()
    await say("needle", "x", encryption=Encryption(keys={"k": key}))
    without = await shell.run("search", "needle")
    assert without.out == ""
    assert without.err.splitlines() == [
        "Nothing was found.",
        "2 encrypted messages were left out; set NODELLM_ENCRYPTION_KEYS to search them",
    ]
    found = await shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"k:{key}").run("search", "needle")
    assert (found.out.count("needle"), found.err) == (1, "")


async def test_an_index_is_made_and_removed(
    shell: Shell, engine: AsyncEngine, say: Callable[..., Awaitable[Chat]]
) -> None:
    """`db search-index` makes it, or leaves it; --drop removes it; each says what is there now."""
    await say("needle")
    for _ in range(2):
        done = await shell.run("db", "search-index")
        assert (done.code, done.err) == (0, "")
        assert done.out.endswith(" has an index of words.\n")
        assert await has_search_index(engine)
    assert (await shell.run("db", "check")).code == 0
    assert (await shell.run("db", "search-index", "--drop")).out.endswith(" has no index of words any more.\n")
    assert (await shell.run("db", "search-index", "--drop")).out.endswith(" has no index of words.\n")
    assert not await has_search_index(engine)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["search"], 2, "Missing argument"),
        (["search", ""], 1, "there is no word to search for"),
        (["search", "x", "--chat", "nope"], 2, "UUID"),
        (["search", "x", "--chat", MISSING], 1, "there is no chat .* for this owner"),
        (["search", "x", "--role", "robot"], 1, "--role 'robot' is unknown"),
        (["search", "x", "--since", "yesterday"], 1, "--since 'yesterday' is neither a day nor a moment"),
        (["search", "x", "--until", "2026-03-01T12:00"], 1, "--until .* is neither"),
        (["search", "x", "--after", "rubbish"], 1, "not a page's cursor"),
        (["search", "x", "--limit", "0"], 2, "greater than or equal to 1"),
        (["search", "x", "-d", "sqlite:///missing.db"], 1, "there is no database file"),
        (["db", "search-index", "-d", "sqlite:///missing.db"], 1, "there is no database file"),
    ],
)
async def test_what_cannot_be_meant_is_one_line(shell: Shell, arguments: list[str], code: int, why: str) -> None:
    """Each gives an exit code and a line that says what is wrong, and no traceback."""
    done = await shell.run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert re.search(why, " ".join(done.err.split()))
    assert "Traceback" not in done.err


async def test_help_has_examples(shell: Shell) -> None:
    """The help says what is meant by words, and shows commands that run."""
    done = await shell.run("search", "--help")
    assert done.code == 0
    assert "nodellm-orm search event loop" in " ".join(done.out.split())
