"""The commands with encryption: what the keys in the environment open is shown, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import Encryption, create_chat, create_llm, make_engine, migrate
from nodellm_orm.testing import LoopbackServer, anthropic_body, json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from nodellm_orm import Chat
    from tests.acceptance.cli.shell import Shell

OLD: Final = Encryption.generate_key()
NEW: Final = Encryption.generate_key()


@pytest.fixture
async def chat(tmp_path: Path) -> Chat:
    """An encrypted chat in the shell's own database."""
    engine = make_engine(f"sqlite:///{tmp_path / 'chats.db'}")
    await migrate(engine)
    server = LoopbackServer([json_answer(anthropic_body("zebrafinch-answer"))])
    encryption = Encryption(keys={"old": OLD})
    async with server, create_llm("anthropic", base_url=server.url, api_key="sk-test") as llm:
        chat = await create_chat(engine, llm, model="claude-haiku-4-5", encryption=encryption)
        await chat.ask("zebrafinch-question")
    await engine.dispose()
    return chat


async def test_commands_read_with_the_keys_of_the_environment(shell: Shell, chat: Chat) -> None:
    """With the key, `chats` and `show` tell what was said; without it, one line says which key is missing."""
    with_key = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"old:{OLD}")
    assert "zebrafinch-question" in (await with_key.run("chats")).out
    assert "zebrafinch-answer" in (await with_key.run("show", str(chat.id))).out
    for command in (("chats",), ("show", str(chat.id)), ("chats", "--json")):
        refused = await shell.run(*command)
        assert (refused.code, refused.out) == (1, "")
        assert "encrypted with key 'old', which was not given" in " ".join(refused.err.split())
        assert "s1:old" not in refused.err


async def test_keys_are_changed_from_the_shell(shell: Shell, chat: Chat) -> None:
    """`rotate-keys` encrypts with the first key, tells what is left, and the old key is needed no more."""
    both = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"new:{NEW},old:{OLD}")
    only_new = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"new:{NEW}")
    refused = await only_new.run("rotate-keys")
    assert refused.code == 1
    assert "are left" in refused.out
    assert "which was not given" in refused.err
    done = await both.run("rotate-keys", "--batch", "2")
    assert done.code == 0
    assert "with key 'new'; nothing is left" in done.out
    assert (await both.run("rotate-keys")).out.startswith("0 rows")
    assert "zebrafinch-answer" in (await only_new.run("show", str(chat.id))).out


async def test_rotation_needs_keys(shell: Shell) -> None:
    """Without keys in the environment, the command says where to put them."""
    refused = await shell.run("rotate-keys")
    assert refused.code == 1
    assert "NODELLM_ENCRYPTION_KEYS is not set" in " ".join(refused.err.split())
