"""What the inspector shows: which chats there are, one chat as a timeline, what all of them cost."""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import update

from nodellm_orm import BadRequestError, Encryption, Price, create_chat, create_llm, tool
from nodellm_orm.inspector import create_inspector
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.inspector.hostile import HTML, PNG, SVG
from tests.acceptance.inspector.visits import TOKEN, Page, visitor
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


@tool
def weather(city: str) -> str:
    """The weather."""
    return f'{{"city": "{city}", "degrees": 21.50}}'


@tool(requires_approval=True)
def refund(order: str) -> str:
    """Refund an order."""
    return f"refunded {order}"


def cursor(moment: str) -> str:
    """The place of a chat in the list, as whoever knows how it is made would make it."""
    return base64.urlsafe_b64encode(f"{moment} {UUID(int=1)}".encode()).decode()


def speaking(*script: Says | Fails) -> Any:
    return Speaker("anthropic").server(*script)


async def seen(engine: AsyncEngine, path: str, **options: Any) -> Page:
    """A page, as somebody who was let in sees it."""
    async with visitor(create_inspector(engine, token=TOKEN, **options)) as client:
        response = await client.get(path)
    assert response.status_code == 200, response.text
    return Page.of(response)


async def listed(engine: AsyncEngine, query: str = "", **options: Any) -> list[str]:
    """Titles of the chats on the first page of the list."""
    async with visitor(create_inspector(engine, token=TOKEN, **options)) as client:
        response = await client.get(f"/?{query}")
    assert response.status_code == 200, response.text
    return re.findall(r'<a href="/chats/[^"]*"><bdi>(.*?)</bdi>', response.text)


async def test_a_turn_is_shown_with_everything_in_it(engine: AsyncEngine) -> None:
    """Question, thinking, call with arguments, result and time, answer, and each attempt with tokens and cost."""
    script = [
        Says(
            text="Let me see.", calls=[FakeCall("weather", {"city": "Lisbon"})], thinking=[FakeThinking("Which city?")]
        ),
        Says(text="Sunny,  21.5\n  degrees."),
    ]
    async with speaking(*script) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="Weather", owner="ada", tools=[weather], instructions="Be brief.")
        await chat.ask("How is the weather in Lisbon?")

    page = await seen(engine, f"/chats/{chat.id}")

    for words in (
        "Weather",
        "ada",
        "Be brief.",
        "Turn 1 completed",
        "How is the weather in Lisbon?",
        "Which city?",
        "weather succeeded",
        '"city": "Lisbon"',
        '"degrees": 21.50',
        "2 attempts",
        "round 2",
    ):
        assert words in page.words
    assert "Sunny,  21.5\n  degrees." in page.text
    assert {attributes.get("class") for attributes in page.named("details")} >= {"thinking", "attempts", "instructions"}
    assert not any("open" in attributes for attributes in page.named("details"))


async def test_a_failed_turn_shows_its_error_and_attempts(engine: AsyncEngine) -> None:
    """What failed is told where it happened, on the list, and on the overview."""
    async with speaking(Fails(status=400, message="too odd")) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="Broken")
        with pytest.raises(BadRequestError):
            await chat.ask("go")

    page = await seen(engine, f"/chats/{chat.id}")
    overview = await seen(engine, "/overview")

    assert "Turn 1 failed" in page.words
    assert "BadRequestError: " in page.words
    assert "too odd" in page.words
    assert [attributes for attributes in page.named("details") if "open" in attributes]
    assert await listed(engine, "state=failed") == ["Broken"]
    assert f"/chats/{chat.id}" in overview.links()
    assert "failed 400 BadRequestError" in overview.words


async def test_who_decided_on_a_call_is_shown(engine: AsyncEngine) -> None:
    """A call that waits is shown as waiting, and who approved it afterwards."""
    script = [Says(calls=[FakeCall("refund", {"order": "A-17"})]), Says(text="Done.")]
    async with speaking(*script) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="Refund", tools=[refund])
        await chat.ask("Refund A-17")
        waiting = await listed(engine, "state=waiting")
        before = await seen(engine, f"/chats/{chat.id}")
        (pending,) = chat.pending_approvals
        await chat.approve(pending.call_id, by="eve")
        await chat.resume()

    after = await seen(engine, f"/chats/{chat.id}")

    assert waiting == ["Refund"]
    assert "refund awaiting approval" in before.words
    assert "decided by eve" in after.words
    assert "refunded A-17" in after.words
    assert await listed(engine, "state=waiting") == []


async def test_superseded_messages_are_folded_and_branches_are_linked(engine: AsyncEngine) -> None:
    """What was replaced is there but folded; parent and branch lead to each other."""
    script = [Says(text="first answer"), Says(text="second answer")]
    async with speaking(*script) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="Trunk", owner="ada")
        await chat.ask("go")
        await chat.regenerate()
        branch = await chat.fork()

    trunk, copy = await seen(engine, f"/chats/{chat.id}"), await seen(engine, f"/chats/{branch.id}")

    assert "message assistant superseded" in [attributes.get("class") for attributes in trunk.named("article")]
    assert "first answer" in trunk.text
    assert f"/chats/{branch.id}" in trunk.links()
    assert f"/chats/{chat.id}" in copy.links()


@pytest.mark.fault("E20")
async def test_only_pictures_are_shown_and_everything_else_can_be_saved(engine: AsyncEngine) -> None:
    """A PNG is a picture; SVG, HTML, PDF are sent as bytes to be saved, in a sandbox, whatever their type says."""
    files = [PNG, SVG.encode(), HTML.encode(), b"%PDF-1.4 x"]
    async with speaking(Says(text="ok")) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, messages=[])
        await chat.ask("look", files=[PNG, b"%PDF-1.4 x"])
    rows = {}
    async with engine.begin() as connection:
        a, m = RECORDS.tables.attachments, RECORDS.tables.messages
        message = (await connection.execute(m.select().where(m.c.role == "user"))).mappings().one()
        for kind, data in (("image/svg+xml", files[1]), ("text/html", files[2]), ("image/png\r\nx: y", PNG)):
            sha256 = new_id().hex * 2
            rows[kind] = new_id()
            await connection.execute(
                RECORDS.tables.blobs.insert().values(
                    owner=None, sha256=sha256, size=len(data), data=data, created_at=message["created_at"]
                )
            )
            await connection.execute(
                a.insert().values(
                    chat_id=chat.id,
                    id=rows[kind],
                    message_id=message["id"],
                    position=9,
                    kind="image",
                    media_type=kind,
                    name='a"b/../\r\nc\u202egnp.svg',
                    size=len(data),
                    sha256=sha256,
                )
            )

    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        page = Page.of(await client.get(f"/chats/{chat.id}"))
        links = [link for link in page.links() if "/files/" in link]
        answers = {link: await client.get(link) for link in links}

    pictures = [attributes["src"] for attributes in page.named("img")]
    assert len(pictures) == 1
    assert len(set(links)) == 5
    for link, answer in answers.items():
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if link in pictures:
            assert answer.headers["content-type"] == "image/png"
            assert answer.content == PNG
        else:
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
            assert not re.search(r'[\r\n"/]', answer.headers["content-disposition"][30:])


async def test_the_list_is_filtered(engine: AsyncEngine) -> None:
    """By text in the title in any case, owner, provider, model, and members of the metadata of any type."""
    async with create_llm("openai", model="gpt-5-mini", api_key="sk-inspector-test") as llm:
        await create_chat(engine, llm, title="Größe %_", metadata={"team": "web", "tier": 3, "new": True})
        await create_chat(engine, llm, title="other", owner="ada", metadata={"team": "web"})
        await create_chat(engine, llm, title="third", owner="ada", model="gpt-5", metadata={"tier": "3"})

    assert await listed(engine) == ["third", "other", "Größe %_"]
    assert await listed(engine, "title=GRÖSSE") == ["Größe %_"]
    assert await listed(engine, "title=%25_") == ["Größe %_"]
    assert await listed(engine, "owner=ada") == ["third", "other"]
    assert await listed(engine, "owner=ada&metadata=team%3Dweb") == ["other"]
    assert await listed(engine, "metadata=tier%3D3") == ["third", "Größe %_"]
    assert await listed(engine, "metadata=tier%3D3,new%3Dtrue") == ["Größe %_"]
    assert await listed(engine, "model=gpt-5&provider=openai") == ["third"]
    assert await listed(engine, "provider=anthropic") == []
    assert await listed(engine, "state=running") == []


async def test_a_running_and_an_interrupted_turn_are_told_apart(engine: AsyncEngine) -> None:
    """A chat whose lease is good is running; when the lease is over, its worker is gone."""
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        running = await create_chat(engine, llm, title="running one")
        gone = await create_chat(engine, llm, title="gone one")
    chats = RECORDS.tables.chats
    async with engine.begin() as connection:
        row = (await connection.execute(chats.select().where(chats.c.id == running.id))).mappings().one()
        for chat, years in ((running, 1), (gone, -1)):
            until = row["created_at"].replace(year=row["created_at"].year + years, day=1)
            held = {"active_turn_id": new_id(), "lease_owner": "w", "lease_until": until}
            await connection.execute(update(chats).where(chats.c.id == chat.id).values(held))

    assert await listed(engine, "state=running") == ["running one"]
    assert await listed(engine, "state=interrupted") == ["gone one"]


async def test_the_list_has_pages(engine: AsyncEngine) -> None:
    """Each chat is on one page, newest first, and the link to older ones keeps the filters."""
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        for number in range(120):
            await create_chat(engine, llm, title=f"{'even' if number % 2 == 0 else 'odd'} {number}")
    titles: list[str] = []
    path: str | None = "/?title=even"
    pages = 0
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        while path is not None:
            response = await client.get(path)
            titles += re.findall(r"<bdi>(.*?)</bdi></a>", response.text)
            following = [a["href"] for a in Page.of(response).named("a") if a.get("rel") == "next"]
            path = following[0] if following else None
            pages += 1

    assert titles == [f"even {number}" for number in range(118, -1, -2)]
    assert pages == 2


async def test_other_owners_are_not_there(engine: AsyncEngine) -> None:
    """An inspector for one owner shows his chats, messages, files and costs; others are not found."""
    async with speaking(Says(text="a"), Says(text="b")) as server, Speaker("anthropic").llm(server) as llm:
        mine = await create_chat(engine, llm, title="mine", owner="ada")
        await mine.ask("go", files=[PNG])
        theirs = await create_chat(engine, llm, title="theirs", owner="bob")
        await theirs.ask("go", files=[PNG])

    file = next(link for link in (await seen(engine, f"/chats/{theirs.id}")).links() if "/files/" in link)
    unknown = UUID(int=7)
    async with visitor(create_inspector(engine, token=TOKEN, owner="ada")) as client:
        found = await client.get(f"/chats/{mine.id}")
        paths = ("", "/messages/0", file.removeprefix(f"/chats/{theirs.id}"))
        hidden = [await client.get(f"/chats/{theirs.id}{path}") for path in paths]
        missing = [await client.get(f"/chats/{unknown}{path}") for path in paths]
        overview = Page.of(await client.get("/overview"))

    assert found.status_code == 200
    for one, other in zip(hidden, missing, strict=True):
        assert one.status_code == other.status_code == 404
        assert one.text.replace(str(theirs.id), "ID") == other.text.replace(str(unknown), "ID")
    assert await listed(engine, owner="ada") == ["mine"]
    assert await listed(engine, "owner=bob", owner="ada") == ["mine"]
    assert await listed(engine, owner=None) == []
    assert " 1 requests" in f" {overview.words}"


ADDRESSES = (
    ("/chats/no-id", 404),
    (f"/chats/{UUID(int=1)}", 404),
    (f"/chats/{UUID(int=1)}/messages/0", 404),
    (f"/chats/{UUID(int=1)}/messages/-1", 404),
    (f"/chats/{UUID(int=1)}/messages/{'9' * 40}", 404),
    (f"/chats/{UUID(int=1)}/files/{UUID(int=2)}", 404),
    (f"/chats/{UUID(int=1)}/files/x", 404),
    ("/static/../app.py", 404),
    ("/static/%2e%2e%2fapp.py", 404),
    ("/?after=garbage", 400),
    (f"/?after={cursor('0001-01-01T00:00:00+23:59')}", 400),
    (f"/?after={cursor('9999-12-31T23:59:59-23:59')}", 400),
    (f"/?after={cursor('2026-01-01T00:00:00')}", 400),
    (f"/?after={cursor('0001-01-01T00:00:00+00:00')}", 200),
    ("/?after=%ED%A0%80", 400),
    ("/?title=%ED%A0%80%00&metadata=%00%3D%00&model=%00", 200),
    (f"/?owner={'x' * 256}", 400),
    (f"/?provider={'%00' * 200}", 400),
    (f"/?{'&' * 60_000}", 200),
    ("/%ff%fe", 404),
    ("/?state=odd", 400),
    ("/?metadata=no-sign", 400),
    (f"/?title={'x' * 501}", 400),
    (f"/chats/{UUID(int=1)}?first=x", 400),
    ("/overview?days=x", 400),
    ("/overview?days=100000", 200),
)


async def test_addresses_that_lead_nowhere_say_so(engine: AsyncEngine) -> None:
    """An id that is none, a place that is none or a filter that cannot be meant is a page that says so."""
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        for path, status in ADDRESSES:
            response = await client.get(path)

            assert response.status_code == status, path
            assert "Traceback" not in response.text


async def test_costs_are_exact_and_by_model(engine: AsyncEngine) -> None:
    """The overview has a line a model and a day with exact sums; what has no price is not counted as nothing."""
    prices = {"claude-haiku-4-5": Price(input=Decimal("0.1"), output=Decimal("0.2"))}
    script = [Says(text="a", usage=(10, 1)), Says(text="b", usage=(1_000_000, 0))]
    async with speaking(*script) as server, Speaker("anthropic").llm(server, prices=prices) as llm:
        chat = await create_chat(engine, llm, owner="ada")
        await chat.ask("go")
        await chat.ask("go")

    page = await seen(engine, "/overview?days=7")

    assert "0.100001200000 US dollars" in {a.get("title", "") for a in page.named("span")}
    assert "claude-haiku-4-5" in page.words
    assert len(page.named("rect")) > 2
    assert page.named("polyline")


async def test_encrypted_chats_are_shown_with_their_keys(engine: AsyncEngine) -> None:
    """With the keys the inspector shows what is sealed; without them it says what is missing, and nothing else."""
    encryption = Encryption(keys={"k1": bytes(range(32))})
    async with speaking(Says(text="hidden answer")) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="hidden title", encryption=encryption)
        await chat.ask("hidden question", files=[PNG])
        await create_chat(engine, llm, title="plain title")
        await create_chat(engine, llm, messages=[{"role": "user", "content": "hidden"}], encryption=encryption)

    page = await seen(engine, f"/chats/{chat.id}", encryption=encryption)
    picture = page.named("img")[0]["src"]
    async with visitor(create_inspector(engine, token=TOKEN, encryption=encryption)) as client:
        content = (await client.get(picture)).content
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        blind = await client.get(f"/chats/{chat.id}")

    assert await listed(engine) == ["(encrypted)", "plain title", "(encrypted)"]
    assert await listed(engine, "title=title") == ["plain title"]
    assert "NODELLM_ENCRYPTION_KEYS" in blind.text
    assert "hidden answer" in page.text
    assert content == PNG
    assert await listed(engine, "title=HIDDEN", encryption=encryption) == ["hidden title"]
    assert blind.status_code == 503
    assert "hidden" not in blind.text


async def test_what_is_too_long_is_cut_and_can_be_had_whole(engine: AsyncEngine) -> None:
    """A page shows the first 20,000 characters of a text, and leads to all of it as plain text."""
    text = "line\n" * 20_000 + "the end"
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        chat = await create_chat(engine, llm, messages=[{"role": "user", "content": text}])

    page = await seen(engine, f"/chats/{chat.id}")
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        whole = await client.get(f"/chats/{chat.id}/messages/0")
        none = await client.get(f"/chats/{chat.id}/messages/1")

    assert "the end" not in page.text
    # It has a box of its own that the keyboard reaches; a short one has none.
    assert [a["tabindex"] for a in page.named("div") if a.get("class") == "said long"] == ["0"]
    assert f"/chats/{chat.id}/messages/0" in page.links()
    assert whole.text == f"[user]\n{text}\n"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert none.status_code == 404
