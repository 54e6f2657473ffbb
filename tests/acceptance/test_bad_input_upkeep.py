"""Bad input to what keeps a database: purge, verify, keys and their rotation, persistence, redaction, the doctor."""

from __future__ import annotations

import base64
import copy
import math
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from nodellm_orm import (
    ANY_OWNER,
    ConfigurationError,
    Encryption,
    EncryptionError,
    Persistence,
    SchemaVersionError,
    StorageError,
    create_chat,
    interrupted_turns,
    load_chat,
    make_engine,
    purge,
    rotate_keys,
    verify,
)
from nodellm_orm.models import Base, ChatRecord
from nodellm_orm.store.schema import downgrade
from nodellm_orm.upkeep.doctor.database import check_database
from tests.acceptance.refusing import LONG, SECRET, each, faults_of, refused, rows
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from tests.acceptance.refusing import Case
    from tests.integration.databases import DatabaseKind

SPEAKER = Speaker("openai_chat")
UNKNOWN: Final = UUID("01890000-0000-7000-8000-000000000000")
KEYS: Final = {"2026-11": Encryption.generate_key()}
ENCRYPTION: Final = Encryption(keys=KEYS)
NO_COUNT: Final = (0, -1, 1.5, "2", True, math.nan, [1], LONG, 10**30)
NO_OWNER: Final = (5, UNKNOWN, b"ann", ["ann"], "x" * 256)
NO_RECORDS: Final = (5, Base, ChatRecord, {"chats": 1}, "llm_")


@pytest.fixture
async def llm() -> AsyncIterator[LLM]:
    """A client whose model answers once."""
    async with SPEAKER.server(Says(text="Hello")) as server, SPEAKER.llm(server) as llm:
        yield llm


@pytest.fixture
async def chat(engine: AsyncEngine, llm: LLM) -> Chat:
    """A chat of Ann's with one turn."""
    chat = await create_chat(engine, llm, owner="ann", title=SECRET, metadata={"team": "web"})
    await chat.ask(SECRET)
    return chat


def wrong_databases() -> Iterator[tuple[Any, str]]:
    """What people give as a session by mistake."""
    engine = create_engine("sqlite://")
    for synchronous in (engine, Session(engine), sessionmaker(engine)):
        yield synchronous, "create_async_engine|AsyncEngine"
    for foreign in (None, 5, b"x", "postgresql://me:canary.7Qw3rTz9LmX2bVn5@host/db", ENCRYPTION, AsyncEngineLike):
        yield foreign, "pass an AsyncEngine, an async_sessionmaker or an AsyncSession"
    yield AsyncSession(), "async_sessionmaker\\(engine\\)"
    engine.dispose()


class AsyncEngineLike:
    """Something of the host's own."""


@pytest.mark.usefixtures("chat")
async def test_what_is_no_database_is_refused(engine: AsyncEngine) -> None:
    """A sync engine, a URL, keys in the place of the session: refused by name, without the URL's password."""
    calls: dict[str, Callable[[Any], object]] = {
        "purge": lambda session: purge(session, owner="ann"),
        "verify": verify,
        "rotate": lambda session: rotate_keys(session, ENCRYPTION),
        "interrupted": interrupted_turns,
    }
    for session, says in wrong_databases():
        for name, call in calls.items():
            await refused(engine, each(name, [session], says, call))
        if not isinstance(session, str):
            (check,) = await check_database(session)
            assert (check.status, bool(check.remedy)) == ("error", True)


@pytest.mark.usefixtures("chat")
async def test_a_purge_that_cannot_be_meant_deletes_nothing(engine: AsyncEngine) -> None:
    """No age and no owner, ages of the wrong kind, numbers that are none, a yes in the wrong type: every row stays."""

    def ann(**options: Any) -> object:
        return purge(engine, owner="ann", **options)

    ends = (
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
    )
    await refused(
        engine,
        [
            ("nothing", (lambda: purge(engine), "told what to delete")),
            *each("owner", [ANY_OWNER], "told what to delete", lambda v: purge(engine, owner=v)),
            *each("owner", NO_OWNER, "owner (is a text|has 256)", lambda v: purge(engine, owner=v)),
            *each(
                "older_than",
                [90, "90d", 1.5, math.nan, True, date(2020, 1, 1), [1], LONG],
                "is a timedelta or an aware datetime",
                lambda v: ann(older_than=v),
            ),
            *each("older_than", [datetime(2020, 1, 1)], "give an aware datetime", lambda v: ann(older_than=v)),  # noqa: DTZ001 — the mistake
            *each("older_than", [-timedelta(days=1), timedelta.min], "0 or more", lambda v: ann(older_than=v)),
            *each("older_than", ends, "no date in UTC", lambda v: ann(older_than=v)),
            *each("limit", NO_COUNT, "give 1 or more", lambda v: ann(limit=v)),
            *each("batch", [*NO_COUNT, None, 10_001], "from 1 to 10000", lambda v: ann(batch=v)),
            *each("keep_labels", ["no", "yes", 0, 1, None, []], "True or False", lambda v: ann(keep_labels=v)),
            *each("progress", [5, "print", [print], LONG], "progress is a function", lambda v: ann(progress=v)),
            *each("records", NO_RECORDS, r"define_records\(\) gave", lambda v: ann(records=v)),
        ],
    )
    for older_than in (timedelta.max, timedelta(days=40_000), datetime.min.replace(tzinfo=UTC)):
        report = await purge(engine, older_than=older_than, owner="ann")
        assert (report.chats, report.complete) == (0, True)


async def test_what_a_callback_raises_is_the_callers_and_leaves_whole_transactions(
    engine: AsyncEngine, llm: LLM
) -> None:
    """An error of ``progress`` reaches the caller as it is; what is done is done, and the next run does the rest."""
    await (await create_chat(engine, llm, owner="ann")).ask("go")

    class OwnError(Exception):
        """The caller's."""

    def failing(_: object) -> None:
        raise OwnError

    async def failing_later(_: object) -> None:
        raise OwnError

    for progress in (failing, failing_later):
        await create_chat(engine, llm, owner="ann", title="x")
        with pytest.raises(OwnError):
            await verify(engine, progress=progress)
        with pytest.raises(OwnError):
            await rotate_keys(engine, ENCRYPTION, progress=progress)
        with pytest.raises(OwnError):
            await purge(engine, owner="ann", progress=progress)
    assert (await verify(engine, encryption=ENCRYPTION)).ok
    told: list[object] = []

    async def listen(report: object) -> None:
        told.append(report)

    await create_chat(engine, llm, owner="ann", title="x")
    assert (await verify(engine, encryption=ENCRYPTION, progress=listen)).ok
    await rotate_keys(engine, ENCRYPTION, progress=listen)
    assert (await purge(engine, owner="ann", progress=listen)).complete
    assert len(told) > 0


async def test_a_verification_that_cannot_be_meant_is_refused(engine: AsyncEngine, chat: Chat) -> None:
    """Ids that are none, another owner's chat, numbers and keys that are none."""

    def checked(**options: Any) -> object:
        return verify(engine, **options)

    await refused(
        engine,
        [
            *each("chat_id", ["nope", "", 5, b"x", [chat.id], LONG], "a UUID or its text", lambda v: verify(engine, v)),
            *each("chat_id", [UNKNOWN, str(UNKNOWN)], "for this owner; check", lambda v: verify(engine, v)),
            *each(
                "owner", ["bob", "Ann", "", None], "for this owner; check", lambda v: checked(chat_id=chat.id, owner=v)
            ),
            *each("owner", NO_OWNER, "owner (is a text|has 256)", lambda v: checked(owner=v)),
            *each("records", NO_RECORDS, r"define_records\(\) gave", lambda v: checked(records=v)),
            *each("encryption", [5, SECRET, KEYS, Encryption], "make it: Encryption", lambda v: checked(encryption=v)),
            *each("limit", [*NO_COUNT, None], "give 1 or more", lambda v: checked(limit=v)),
            *each("progress", [5, "print", [print]], "progress is a function", lambda v: checked(progress=v)),
        ],
    )


@pytest.mark.usefixtures("chat")
async def test_a_rotation_that_cannot_be_meant_is_refused(engine: AsyncEngine) -> None:
    """Keys that are none, numbers that are none, arguments in each other's place: no row is encrypted."""

    def rotated(**options: Any) -> object:
        return rotate_keys(engine, ENCRYPTION, **options)

    wrong = (None, SECRET, KEYS, 5, Encryption, engine)
    swapped: Any = (ENCRYPTION, engine)
    await refused(
        engine,
        [
            *each("encryption", wrong, "make it: Encryption", lambda v: rotate_keys(engine, v)),
            ("swapped", (lambda: rotate_keys(*swapped), "encryption is an Encryption, not AsyncEngine")),
            *each("batch", [*NO_COUNT, None, 10_001], "from 1 to 10000", lambda v: rotated(batch=v)),
            *each("progress", [5, "print"], "progress is a function", lambda v: rotated(progress=v)),
            *each("records", NO_RECORDS, r"define_records\(\) gave", lambda v: rotated(records=v)),
        ],
    )
    mistaken: Any = rotate_keys
    for unknown in ({"limit": 5}, {"owner": "ann"}, {"progres": print}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            await mistaken(engine, ENCRYPTION, **unknown)


async def test_keys_that_are_none_are_refused_and_never_shown(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed key, one in the place of its name or of ``current``, and a switch that is none show no character."""
    key = Encryption.generate_key()
    bare = base64.urlsafe_b64encode(SECRET.encode().ljust(32, b"x")).decode().rstrip("=")
    cases: list[tuple[str, Case]] = [
        *each("keys", [{}, None, []], "at least one key", lambda v: Encryption(keys=v)),
        *each(
            "keys", [key, SECRET, b"k" * 32, [key], {key}, 5], "a dict of keys by name", lambda v: Encryption(keys=v)
        ),
        *each("key", [SECRET, "é" * 40, LONG], "not base64|bytes", lambda v: Encryption(keys={"a": v})),
        *each("key", [b"short", b"", "", "AAAA"], "32 are needed", lambda v: Encryption(keys={"a": v})),
        *each("key", [5, None, [key]], "give 32 bytes", lambda v: Encryption(keys={"a": v})),
        *each(
            "name", ["", 5, None, "a b", "a:b", "x" * 65, LONG], "letters, digits", lambda v: Encryption(keys={v: key})
        ),
        *each("name", [bare, key], "write the name before the key", lambda v: Encryption(keys={v: "2026-11"})),
        *each(
            "current", ["b", 5, [], SECRET, key, LONG], "name the one", lambda v: Encryption(keys={"a": key}, current=v)
        ),
        *each("current", [None], "name the one", lambda v: Encryption(keys={"a": key, "b": key}, current=v)),
        *each("plain", ["no", 0, None], "True or False", lambda v: Encryption(keys={"a": key}, allow_plaintext=v)),
        ("pickle", (lambda: pickle.dumps(ENCRYPTION), "make it again")),
    ]
    await refused(engine, cases)
    for _, (call, _) in cases:
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert not [secret for secret in (bare, key, KEYS["2026-11"]) if secret in str(caught.value)]
    assert copy.deepcopy(ENCRYPTION) is ENCRYPTION
    for given in ("", " ", SECRET, f"a:{SECRET}", f"{bare}:a", f"a:{key},a:{key}", ":", f":{key}", ",", "a:"):
        monkeypatch.setenv("NODELLM_ENCRYPTION_KEYS", given)
        with pytest.raises(ConfigurationError) as caught:
            Encryption.from_environment()
        assert faults_of(caught.value, "") == []
        assert not [secret for secret in (bare, key) if secret in str(caught.value)]


async def test_content_without_its_key_is_an_error_that_names_the_key(engine: AsyncEngine, llm: LLM) -> None:
    """No key, another key under the same name, and plaintext where none is allowed: nothing is shown or changed."""
    chat = await create_chat(engine, llm, title=SECRET, instructions=SECRET, encryption=ENCRYPTION)
    another = Encryption(keys={"2026-11": Encryption.generate_key()})
    renamed = Encryption(keys={"2027": KEYS["2026-11"]})
    strict = Encryption(keys=KEYS, allow_plaintext=False)
    plain = await create_chat(engine, llm, instructions="Be brief.")
    await refused(
        engine,
        [
            *each(
                "encryption", [None, renamed], "2026-11.*give", lambda v: load_chat(engine, llm, chat.id, encryption=v)
            ),
            *each(
                "encryption", [another], "is another one; give", lambda v: load_chat(engine, llm, chat.id, encryption=v)
            ),
            *each(
                "encryption",
                [strict],
                "rotate_keys|allow_plaintext",
                lambda v: load_chat(engine, llm, plain.id, encryption=v),
            ),
            *each(
                "encryption",
                [5, SECRET, KEYS],
                "make it: Encryption",
                lambda v: load_chat(engine, llm, chat.id, encryption=v),
            ),
        ],
    )
    before = await rows(engine)
    report = await rotate_keys(engine, Encryption(keys={"2027": Encryption.generate_key()}, allow_plaintext=False))
    assert report.unreadable
    assert all("give" in value.reason or "key" in value.reason for value in report.unreadable)
    assert await rows(engine) == before
    with pytest.raises(EncryptionError):
        await load_chat(engine, llm, chat.id)


@pytest.mark.usefixtures("chat")
async def test_switches_and_redaction_that_cannot_be_meant_store_nothing(engine: AsyncEngine, llm: LLM) -> None:
    """The text "no" is no switch, a redaction is a plain function, and one that fails lets nothing be written."""

    class Later:
        """Callable, and async all the same."""

        async def __call__(self, text: str) -> str:
            return text

    async def later(text: str) -> str:
        return text

    def failing(_: str) -> str:
        raise RuntimeError(SECRET[:3])

    def made(**options: Any) -> object:
        return create_chat(engine, llm, title=SECRET, instructions=SECRET, **options)

    await refused(
        engine,
        [
            *each("content", ["no", 0, None, []], "True or False", lambda v: Persistence(content=v)),
            *each("thinking", ["no", 1, LONG], "True or False", lambda v: Persistence(thinking=v)),
            *each("tool_results", ["no", 1], "True or False", lambda v: Persistence(tool_results=v)),
            *each(
                "persist",
                [5, False, {"thinking": False}, Persistence],
                "persist is a Persistence",
                lambda v: made(persist=v),
            ),
            *each("redact", [5, "x", later, Later()], "make it a plain one", lambda v: made(redact=v)),
            *each(
                "redact",
                [failing, lambda: "", lambda _: None, lambda _: b""],
                "let it give a text",
                lambda v: made(redact=v),
            ),
            *each("encryption", [5, SECRET, KEYS, Encryption], "make it: Encryption", lambda v: made(encryption=v)),
        ],
    )
    with pytest.raises(TypeError, match="unexpected keyword"):
        Persistence(tools=False)  # type: ignore[call-arg]  # a mistake


@pytest.mark.usefixtures("chat")
async def test_sessions_that_cannot_be_committed_are_refused(engine: AsyncEngine) -> None:
    """Inside a block of the caller's, and on a closed session, nothing is deleted or encrypted."""
    calls: dict[str, Callable[[Any], object]] = {
        "purge": lambda session: purge(session, owner="ann"),
        "rotate": lambda session: rotate_keys(session, ENCRYPTION),
    }
    for name, call in calls.items():
        async with AsyncSession(engine) as session:
            async with session.begin():
                await refused(engine, each(name, [session], "leave the block first", call))
            async with session.begin_nested():
                await refused(engine, each(name, [session], r"begin_nested\(\)", call))
        final = AsyncSession(engine, close_resets_only=False)
        await final.close()
        await refused(engine, each(name, [final], "pass one that is open", call))


async def test_databases_without_tables_name_the_command(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """Missing tables, and those of an older revision, are an error with function and command that make them."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = create_async_engine(url)
        for session in (engine, async_sessionmaker(engine)):
            for asking in (
                purge(session, owner="ann"),
                purge(session, older_than=timedelta(days=1)),
                verify(session),
                verify(session, UNKNOWN),
                rotate_keys(session, ENCRYPTION),
                interrupted_turns(session),
            ):
                with pytest.raises(SchemaVersionError, match=r"migrate\(engine\).*nodellm-orm db upgrade"):
                    await asking
        await engine.dispose()


async def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    """A refused connection is an error of ours in every function, and shows neither password nor driver."""
    engine = create_async_engine(f"postgresql+asyncpg://me:{SECRET}@127.0.0.1:1/x")
    for asking in (purge(engine, owner="ann"), verify(engine), rotate_keys(engine, ENCRYPTION)):
        with pytest.raises(StorageError, match="check that it runs") as caught:
            await asking
        assert SECRET not in str(caught.value)
    await engine.dispose()


async def test_a_look_at_what_is_no_database_is_an_error_or_a_check(engine: AsyncEngine) -> None:
    """Arguments that are none are refused; a database that is none is what the doctor finds."""

    def looked(**options: Any) -> object:
        return check_database(engine, **options)

    await refused(
        engine,
        [
            *each("concurrency", NO_COUNT, "at least 1", lambda v: looked(concurrency=v)),
            *each("records", NO_RECORDS, r"define_records\(\) gave", lambda v: looked(records=v)),
            *each(
                "deadline",
                ["30", None, True, 0, -1, math.nan, math.inf, []],
                "number of seconds",
                lambda v: make_engine("sqlite:///x.db", deadline=v),
            ),
        ],
    )
    for deadline in ("30", None, True, 0, math.nan):
        (check,) = await check_database(engine, deadline=deadline)  # type: ignore[arg-type]  # a mistake
        assert (check.status, check.remedy) == ("error", "leave it out or give one, such as 30.0")
    for url in ("nonsense", f"postgresql://me:{SECRET}@127.0.0.1:1/x", f"oracle://me:{SECRET}@host/x", ""):
        (check,) = await check_database(url)
        assert (check.status, bool(check.remedy), SECRET in repr(check)) == ("error", True, False)


async def test_older_tables_are_a_finding_of_the_doctor(engine: AsyncEngine) -> None:
    """Tables behind this package are told with the command that upgrades them."""
    await downgrade(engine, revision="0001")
    (check,) = [check for check in await check_database(engine) if check.name == "migrations"]
    assert (check.status, "nodellm-orm db upgrade" in str(check.remedy)) == ("error", True)
