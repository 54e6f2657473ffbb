"""The soak: many chats, many processes, everything breaks; then nothing may be stuck, lost, doubled or mixed up.

``make soak``, or ``python -m tests.soak.run --seconds 60 --chats 100 --workers 8 --databases sqlite,postgresql,mysql``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nodellm_orm import create_chat, migrate
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.forks import FORKS
from tests.integration.databases import DatabaseKind
from tests.soak import worker
from tests.soak.census import Findings, inspect, settle
from tests.soak.provider import Provider
from tests.soak.servers import missing, own_database
from tests.soak.worker import LEASE, Shift, client_for, engine_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess
    from uuid import UUID

    from tests.soak.servers import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much, and how long."""

    kind: DatabaseKind
    chats: int = 100
    workers: int = 8
    seconds: float = 60.0
    seed: int = 0


class Crew:
    """The processes at work: one that is killed is replaced at once."""

    def __init__(self, plan: Plan, shift: dict[str, Any]) -> None:
        self._plan = plan
        self._shift = shift
        self._chance = random.Random(plan.seed)  # noqa: S311 — a load, not a secret
        self._started = 0
        self._live: list[BaseProcess] = []
        self.killed = 0
        self.died: list[int] = []
        """How processes ended that nobody has killed."""

    def hire(self) -> None:
        """Start processes until there are enough."""
        for process in [p for p in self._live if not p.is_alive()]:
            self.died.append(process.exitcode or 0)
            self._live.remove(process)
        while len(self._live) < self._plan.workers:
            shift = Shift(**self._shift, seed=self._plan.seed * 1_000_000 + self._started)
            process = FORKS.Process(target=worker.main, args=(shift,), daemon=True)
            process.start()
            self._started += 1
            self._live.append(process)

    def kill_one(self) -> None:
        """Kill a process that has no say in it."""
        process = self._chance.choice(self._live)
        process.kill()
        process.join()
        self._live.remove(process)
        self.killed += 1

    def dismiss(self) -> None:
        """Kill everybody."""
        for process in self._live:
            process.kill()
        for process in self._live:
            process.join()
        self._live.clear()


async def soak(plan: Plan) -> Findings:
    """One soak on one database.

    Args:
        plan: how much of it.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        diary = Path(folder) / "diary"
        diary.touch()
        provider = Provider(plan.seed)
        async with own_database(plan.kind) as database, LoopbackServer(provider) as server:
            engine = engine_for(database.url)
            await migrate(engine)
            chats = await _open_chats(plan, database, server.url)
            crew = Crew(plan, {"database": database.url, "chats": tuple(chats), "url": server.url, "diary": diary})
            counts = await _break_things(plan, crew, database)
            crew.dismiss()
            await asyncio.sleep(LEASE + 1)
            stuck = await settle(engine, server.url, chats, diary)
            findings = await inspect(engine, chats, diary, provider.books)
            await engine.dispose()
    findings.violations += stuck
    findings.violations += [f"a process ended by itself with {status}" for status in crew.died]
    findings.counts.update(counts)
    findings.counts["kills"] = crew.killed
    findings.counts["requests at the provider"] = sum(provider.books.received.values())
    return findings


async def _open_chats(plan: Plan, database: Database, url: str) -> list[UUID]:
    engine = engine_for(database.url)
    async with client_for(url) as llm:
        chats = [(await create_chat(engine, llm, instructions="Repeat.")).id for _ in range(plan.chats)]
    await engine.dispose()
    return chats


async def _break_things(plan: Plan, crew: Crew, database: Database) -> dict[str, int]:
    counts = {"connections ended": 0, "servers restarted": 0}
    began = time.monotonic()
    restarts = [began + plan.seconds * share for share in (0.35, 0.7)]
    crew.hire()
    while (now := time.monotonic()) < began + plan.seconds:
        await asyncio.sleep(crew_pause(plan))
        crew.kill_one()
        crew.hire()
        with suppress(Exception):  # the server may be on its way up
            counts["connections ended"] += await database.terminate_connections()
        if restarts and now > restarts[0]:
            restarts.pop(0)
            counts["servers restarted"] += await database.restart()
    return counts


def crew_pause(plan: Plan) -> float:
    """Seconds between two kills: each process lives for some seconds, and there are some in a short soak, too."""
    return min(12.0 / plan.workers, plan.seconds / 5)


def told(plan: Plan, findings: Findings) -> str:
    """What came of it, for people."""
    words = ", ".join(f"{count:,} {name}" for name, count in sorted(findings.counts.items()))
    head = f"{plan.kind}: {plan.chats} chats, {plan.workers} processes, {plan.seconds:g} s, seed {plan.seed}"
    lines = [
        f"{head}: {len(findings.violations)} violations",
        f"  {words}",
        *(f"  VIOLATION {violation}" for violation in findings.violations[:20]),
    ]
    return "\n".join(lines)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it on every database that there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311 — a load, not a secret
    parser.add_argument("--databases", default=",".join(get_args(DatabaseKind)))
    given = parser.parse_args(arguments)
    bad = 0
    for kind in given.databases.split(","):
        if (name := missing(kind)) is not None:
            _tell(f"{kind}: skipped, {name} is not installed")
            continue
        plan = Plan(kind=kind, chats=given.chats, workers=given.workers, seconds=given.seconds, seed=given.seed)
        findings = asyncio.run(soak(plan))
        _tell(told(plan, findings))
        bad += len(findings.violations)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
