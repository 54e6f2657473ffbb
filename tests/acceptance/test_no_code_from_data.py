"""Nothing that is stored, received or configured is ever loaded as code, and importing opens no connection."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select, update

from nodellm_orm import OpaquePart, create_chat, load_chat
from nodellm_orm.providers.registry import Registry
from nodellm_orm.store.records import RECORDS
from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted([*(ROOT / "nodellm_orm").rglob("*.py"), *(ROOT / "migrations").rglob("*.py")])
DANGEROUS_MODULES: Final = {
    *("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "joblib"),
    *("yaml", "ruamel", "xml", "code", "codeop", "runpy", "zipimport", "pydoc", "ctypes", "imp", "pkgutil"),
}
NAMED_ELSEWHERE: Final = {
    # The command's own modules, whose names are in its table of commands.
    "nodellm_orm/cli/commands.py": "import_module(f'nodellm_orm.cli.{self.module}')",
    # What a person names as his own code, by --records or its variable, on the command line and nowhere else.
    "nodellm_orm/cli/own.py": "importlib.import_module(name)",
}
"""The only imports by a name that does not stand beside them."""
DANGEROUS_CALLS: Final = {"eval", "exec", "compile", "__import__", "breakpoint", "globals"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The packages that a module imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


@pytest.mark.fault("E13")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_can_turn_data_into_code(path: Path) -> None:
    """No unpickling, no YAML, no evaluation, and no import by a name that is not in the source or a person's own."""
    tree = ast.parse(path.read_text("utf-8"))
    assert set(imports(tree)).isdisjoint(DANGEROUS_MODULES)
    constants = {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[argument]):
                named = ast.unparse(argument) in constants | imported and ast.unparse(argument).isupper()
                named |= NAMED_ELSEWHERE.get(path.relative_to(ROOT).as_posix()) == ast.unparse(node)
                assert isinstance(argument, ast.Constant) or named, f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Name(id=name)):
                assert name not in DANGEROUS_CALLS, f"line {node.lineno}: {ast.unparse(node)}"
            case _:
                pass


@pytest.mark.fault("E13")
async def test_what_a_later_release_wrote_is_passed_through(engine: AsyncEngine) -> None:
    """A part of an unknown kind, whatever class it names, is kept as it is, and the chat goes on."""
    speaker = Speaker("openai_chat")
    kind = {"kind": "os.system", "class": "subprocess.Popen", "args": ["touch /tmp/owned"], "__reduce__": [1.50]}
    reduced = json.dumps(
        [{"kind": "text", "text": "Hello"}, kind, {"kind": "text", "text": "!!python/object:os.system"}]
    )
    async with speaker.server(Says(text="Hello"), Says(text="Still here")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("Hi")
        messages = RECORDS.tables.messages
        async with engine.begin() as connection:
            await connection.execute(update(messages).where(messages.c.role == "assistant").values(parts=reduced))
        again = await load_chat(engine, llm, chat.id)
        part: Any = again.messages[1].parts[1]
        assert isinstance(part, OpaquePart)
        assert json.loads(part.payload)["unknown_part"] == kind
        assert (await again.ask("And?")).content == "Still here"
        async with engine.connect() as connection:
            assert (await connection.scalar(select(messages.c.parts).where(messages.c.role == "assistant"))) == reduced


# ── what importing does ───────────────────────────────────────────────────────────────────────────────────────────────

FORBIDDEN: Final = """
import socket, sys

def refused(*arguments, **named):
    raise AssertionError(f"a connection was opened: {arguments!r}")

class Refused(socket.socket):
    def __init__(self, *arguments, **named):
        refused(*arguments)

socket.socket = Refused
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = socket.socketpair = refused
"""
CLIENTS: Final = """
from nodellm_orm import *

for name in sys.argv[1:]:
    options = {"region": "eu-west-1"} if name == "bedrock" else {}
    if name in ("openai_compatible", "azure"):
        options["base_url"] = "http://127.0.0.1:1/v1"
    prices = {"m": Price(input=1, output=2)}
    llm = create_llm(name, model="m", api_key="k", environ={}, prices=prices, **options)
    repr(llm), llm.chat(instructions="Be brief.").render("Hello"), llm.model_info("gpt-5-mini")
for url in ("sqlite:///chats.db", "postgresql://a:b@127.0.0.1:1/c", "mysql://a:b@127.0.0.1:1/c"):
    make_engine(url)
print("done")
"""
MODULES: Final = """
from importlib import import_module

for name in sys.argv[1:]:
    import_module(name)
print("done")
"""


@pytest.mark.fault("E24")
@pytest.mark.parametrize("what", ["clients", "modules"])
def test_nothing_is_fetched_before_something_is_asked(what: str, tmp_path: Path) -> None:
    """In a process that may open no socket: every module is imported, every provider's client, chat and price made."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if path.is_relative_to(ROOT / "nodellm_orm") and path.name != "__main__.py"
    ]
    clients = [name for name in Registry().names if name != "local"]
    program, names = (CLIENTS, clients) if what == "clients" else (MODULES, modules)
    done = subprocess.run(  # noqa: S603 — our own program
        [sys.executable, "-c", FORBIDDEN + program, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("E24")
def test_a_process_that_may_open_no_socket_is_one(tmp_path: Path) -> None:
    """The trap of the test above works: asking is refused there."""
    program = f"{FORBIDDEN}\nimport httpx\nhttpx.get('http://127.0.0.1:1/')"
    done = subprocess.run(  # noqa: S603 — our own program
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "a connection was opened" in done.stderr
