"""The scripts are found where users have them: in a checkout, in an installed wheel, and on Alembic's command line."""

from __future__ import annotations

import asyncio
import os
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.store import revisions
from nodellm_orm.store.schema import check

ROOT = Path(__file__).parents[2]
MIGRATE = """
import asyncio, sys
from nodellm_orm.store import revisions
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.schema import check, migrate

async def main():
    engine = make_engine(sys.argv[1])
    await migrate(engine)
    await check(engine)
    await engine.dispose()
    print(revisions.location())

asyncio.run(main())
"""


async def run(*arguments: str, folder: Path, **environment: str) -> str:
    """Run Python in a folder, and give what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().strip()


def unpack(folder: Path) -> set[str]:
    """Unpack the only wheel of a folder beside it, and give the names of the scripts in it."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
        return {name for name in archive.namelist() if "/_migrations/" in name}


def test_in_a_checkout_the_scripts_are_beside_the_package() -> None:
    """Whoever works on the package runs the scripts of the working tree."""
    assert revisions.location() == ROOT / "migrations"


async def test_a_wheel_brings_the_scripts_along(tmp_path: Path) -> None:
    """What is installed from a wheel has its templates, and migrates: proved where the checkout cannot be seen."""
    await run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), folder=ROOT)
    names = unpack(tmp_path)
    package = Path("nodellm_orm")
    pages = {file.relative_to(ROOT) for file in (ROOT / package).glob("*/markup/*")}
    assert {package / "cli/markup/usage.html", package / "cli/markup/usage.css"} <= pages
    assert [file for file in pages if not (tmp_path / "site" / file).is_file()] == []
    scripts = {f"versions/{Path(script.path).name}" for script in revisions.scripts().walk_revisions()}
    assert names == {f"nodellm_orm/_migrations/{name}" for name in {"env.py", "script.py.mako", *scripts}}

    where = await run(
        "-P", "-c", MIGRATE, f"sqlite:///{tmp_path}/chats.db", folder=tmp_path, PYTHONPATH=str(tmp_path / "site")
    )

    assert where == str(tmp_path / "site" / "nodellm_orm" / "_migrations")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/chats.db")
    await check(engine)
    await engine.dispose()


async def test_alembic_s_command_line_works_at_the_root(tmp_path: Path) -> None:
    """``alembic upgrade head`` with the repository's ini file, on the database that the environment names."""
    database = f"sqlite:///{tmp_path}/chats.db"

    await run("-m", "alembic", "upgrade", "head", folder=ROOT, NODELLM_DATABASE_URL=database)

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/chats.db")
    await check(engine)
    await engine.dispose()


async def test_alembic_s_command_line_writes_sql() -> None:
    """``alembic upgrade head --sql`` needs no connection, and knows other prefixes."""
    script = await run(
        "-m",
        "alembic",
        "-x",
        "prefix=chat_",
        "upgrade",
        "head",
        "--sql",
        folder=ROOT,
        NODELLM_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
    )

    assert "CREATE TABLE chat_messages" in script
    assert "CREATE TABLE chat_alembic_version" in script
    assert "llm_" not in script


@pytest.mark.parametrize("folder", ["migrations", "migrations/versions"])
def test_nothing_but_scripts_is_in_the_folder(folder: str) -> None:
    """The folder is shipped as it is, so nothing else may lie in it."""
    files = {path.suffix for path in (ROOT / folder).iterdir() if path.is_file()}

    assert files <= {".py", ".mako"}
