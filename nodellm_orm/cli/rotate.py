"""The command `rotate-keys`: encrypt with the current key what another one, or none, has encrypted."""

import asyncio
from typing import Annotated, Final

import typer

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, OwnRecords, opened
from nodellm_orm.store import rotation
from nodellm_orm.store.encryption import Encryption

EXAMPLES: Final = """
Example:

  NODELLM_ENCRYPTION_KEYS=2026-11:$NEW,2025-11:$OLD nodellm-orm rotate-keys -d postgresql://app@localhost/app
"""


def rotate_keys(
    *,
    batch: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Rows a transaction.")] = 100,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Encrypt everything with the first key of NODELLM_ENCRYPTION_KEYS, while the database is in use.

    The other keys are for reading what they have encrypted. Exits with 1 while anything is left under them.
    """
    if not asyncio.run(_rotate(database, records, batch)):
        raise typer.Exit(1)


async def _rotate(database: str, records: str | None, batch: int) -> bool:
    encryption = Encryption.from_environment()
    async with opened(database, records) as (engine, stored):
        report = await rotation.rotate_keys(engine, encryption, batch=batch, records=stored)
    for value in report.unreadable:
        remarks().print(value.reason, soft_wrap=True, markup=False, highlight=False)
    left = "nothing is left" if not report.left else f"{report.left} are left"
    results().print(
        f"{report.rotated} rows are encrypted anew with key {encryption.current!r}; {left}.", soft_wrap=True
    )
    return not report.left
