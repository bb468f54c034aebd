"""Replicated writes beside workers of an earlier version, as in an upgrade worker by worker."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from replicated_workers import ReplicatedWorkers
from waiting import until
from worker_parts import WorkerParts

async_test = pytest_twisted.ensureDeferred

INSERT = "INSERT INTO t VALUES ({})"


@async_test
async def test_no_segment_has_followers_until_all_workers_are_new(tmp_path: Path) -> None:
    """Its lock is as an earlier version writes it; then the next write gives it a follower, which
    has all rows when it takes over."""
    workers = ReplicatedWorkers(tmp_path)
    try:
        first = await workers.start("w1")
        await workers.start("w2", replication=0)
        await first.controller.provision("s", "default")
        await first.written("s", "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        lock = await workers.lock("s")
        assert (lock.disk, lock.followers) == ("", frozenset())
        trouble = first.controller.replication.trouble()
        assert "workers of an earlier version are alive: w2" in trouble

        await workers.kill("w2")
        await workers.start("w2")
        await until_all_are_new(first)
        assert first.controller.replication.trouble() == ""
        await until_replicated(workers)
        await workers.until_followed_by("s", "w2")
        rows = await workers.rows("w1", "s")
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == rows
    finally:
        await workers.stop()


@async_test
async def test_a_follower_stays_where_an_earlier_worker_comes_back(tmp_path: Path) -> None:
    """Segments that are replicated stay so; further ones are not."""
    workers = ReplicatedWorkers(tmp_path)
    try:
        first = await workers.start("w1")
        await workers.start("w2")
        await first.controller.provision("s", "default")
        await first.written("s", "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        await workers.until_followed_by("s", "w2")
        await workers.start("w3", replication=0)
        await first.written("s", INSERT.format(1))
        await workers.until_followed_by("s", "w2")
        await first.controller.provision("plain", "default")
        assert (await workers.lock("plain")).disk == ""
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == [0, 1]
    finally:
        await workers.stop()


async def until_all_are_new(worker: WorkerParts) -> None:
    """Wait until a worker knows no other one of an earlier version."""
    replication = worker.controller.replication
    await until(lambda: replication.is_on, "all workers are new")


async def until_replicated(workers: ReplicatedWorkers) -> None:
    """Write until a write is replicated: the worker looks at its segments from time to time."""
    first, written = workers["w1"], 0

    async def replicated() -> bool:
        nonlocal written
        written += 1
        await first.written("s", INSERT.format(written))
        return bool((await workers.lock("s")).disk)

    await until(replicated, "a write is replicated")
