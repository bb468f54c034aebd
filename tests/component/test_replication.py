"""Replicated writes on two or three workers in this process: real stores, executors and disks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest_twisted
from replicated_workers import ReplicatedWorkers

async_test = pytest_twisted.ensureDeferred

INSERT = "INSERT INTO t VALUES ({})"


@asynccontextmanager
async def running(directory: Path, count: int = 2) -> AsyncIterator[ReplicatedWorkers]:
    """So many workers with WRITE_COPIES 2."""
    workers = ReplicatedWorkers(directory)
    try:
        for number in range(count):
            await workers.start(f"w{number + 1}")
        yield workers
    finally:
        await workers.stop()


@async_test
async def test_a_write_is_on_the_follower_before_it_is_acknowledged(tmp_path: Path) -> None:
    """The lock's row names the follower, and the follower has the log's end on its disk."""
    async with running(tmp_path) as workers:
        first = workers["w1"]
        await first.controller.provision("s", "default")
        lock = await first.metadata.lock_of("s")
        assert lock is not None
        assert {member.node for member in lock.followers} == {"w2"}
        await first.written("s", "CREATE TABLE t (n)")
        await first.written("s", INSERT.format(1))
        copy = first.segments.get("s")
        assert copy is not None and copy.replicated is not None
        followed = workers["w2"].controller.replication.followed
        async with followed.log_of("s") as log:
            assert log.end == copy.replicated.end > 0


@async_test
async def test_a_follower_takes_over_all_acknowledged_rows(tmp_path: Path) -> None:
    """When the holder's row is gone, the follower writes under the next epoch."""
    async with running(tmp_path) as workers:
        first, second = workers["w1"], workers["w2"]
        await first.controller.provision("s", "default")
        await first.written("s", "CREATE TABLE t (n)")
        for number in range(20):
            await first.written("s", INSERT.format(number))
        before = await second.metadata.lock_of("s")
        assert before is not None
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        lock = await second.metadata.lock_of("s")
        assert lock is not None
        assert (lock.node, lock.epoch > before.epoch) == ("w2", True)
        await second.written("s", INSERT.format(20))
        assert await workers.rows("w2", "s") == list(range(21))
