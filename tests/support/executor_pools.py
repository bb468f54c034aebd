"""Pools of executors for tests, and receivers that remember."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, ReadLimits, Target

#: Seconds: a safety net, far from what anything here takes.
LIMITS = ReadLimits(seconds=60.0)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
#: For hours, and SQLite calls nobody meanwhile, so that only a kill ends it.
DEAF = "SELECT instr(printf('%.*c', 40000000, 'a'), printf('%.*c', 20000000, 'a') || 'b')"


class Collected:
    """A receiver that keeps all, and a job that can be awaited.

    :ivar chunks: what came
    :ivar outcome: fires with the end
    :ivar first: fires with the first chunk
    """

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.outcome: Deferred[Outcome] = Deferred()
        self.first: Deferred[bytes] = Deferred()
        self.ends: list[Outcome] = []
        self.job = None

    def data(self, chunk: bytes) -> None:
        assert not self.ends, "data after the end"
        self.chunks.append(chunk)
        if not self.first.called:
            self.first.callback(chunk)

    def finished(self, outcome: Outcome) -> None:
        self.ends.append(outcome)
        self.outcome.callback(outcome)

    @property
    def text(self) -> str:
        return b"".join(self.chunks).decode()

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


@asynccontextmanager
async def running_pool(**settings):
    """A pool that runs while the block does; two readers and a writer unless told else."""
    settings = {"executors": 2, "write_executors": 1, **settings}
    pool = ExecutorPool(reactor, **settings)
    pool.startService()
    try:
        yield pool
    finally:
        await pool.stopService()


def ask(
    pool,
    targets,
    text,
    parameters=None,
    limits=LIMITS,
    framing=Framing.LINES,
    tag="t",
    client="",
    **more,
):
    """Begin a query."""
    limits = replace(limits, client=client)
    collected = Collected()
    if isinstance(targets, Target):
        targets = [targets]
    collected.job = pool.read(targets, text, parameters, limits, framing, tag, collected, **more)
    return collected


async def answer(pool, targets, text, parameters=None, **more):
    """The text and the outcome of a query."""
    collected = ask(pool, targets, text, parameters, **more)
    outcome = await collected.outcome
    return collected.text, outcome


def write(pool, target, text, parameters=None, limits=LIMITS, client=""):
    """Begin a write."""
    limits = replace(limits, client=client)
    collected = Collected()
    collected.job = pool.write(target, text, parameters, limits, collected)
    return collected


async def written(pool, target, text, parameters=None, limits=LIMITS):
    """The outcome of a write."""
    return await write(pool, target, text, parameters, limits).outcome


def pids(pool, kind="read"):
    """Of those of the pool's executors of one kind that run just now."""
    named = [each for each in pool.status()["executors"] if each["name"].startswith(kind)]
    return [each["pid"] for each in named if each["pid"] is not None]


def kill(pid):
    """End an executor that this test's pool started."""
    os.kill(pid, signal.SIGKILL)
