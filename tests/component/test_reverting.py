"""A segment that is written returns to its last promoted state, and nothing is deleted."""

import sqlite3
from contextlib import closing

import pytest
import pytest_twisted
from executor_pools import answer
from twisted.internet.defer import Deferred
from worker_parts import HeldUp, running_worker

from trough import errors


async def rows(worker):
    """What the worker's own copy has."""
    target = worker.segments.get("300001").target
    return (await answer(worker.pool, target, "SELECT n FROM t ORDER BY n"))[0]


@pytest_twisted.ensureDeferred
async def test_writes_since_the_promotion_go_aside(tmp_path):
    """The segment is as it was promoted and stays writable, under a later epoch; the file aside
    has all that was written."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        promoted = await worker.storage.find("300001")
        before = await rows(worker)
        await worker.written("300001", "INSERT INTO t VALUES (1), (2)")
        epoch = worker.segments.get("300001").entry.epoch
        told = await worker.controller.revert("300001")
        assert told["unpromoted"] and told["writable"] and told["node"] == "w1"
        assert told["promoted_at"] == promoted.modified / 1000
        assert await rows(worker) == before
        assert worker.segments.aside() == [told["aside"]]
        with closing(sqlite3.connect(worker.directory / "aside" / told["aside"])) as kept:
            assert kept.execute("SELECT n FROM t").fetchall() == [(0,), (1,), (2,)]
        assert (await worker.metadata.lock_of("300001")).epoch > epoch
        await worker.written("300001", "INSERT INTO t VALUES (3)")


@pytest_twisted.ensureDeferred
async def test_a_preview_changes_nothing(tmp_path):
    """It only says what would be given up; the same where there is nothing to give up."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        assert not (await worker.controller.revert("300001"))["unpromoted"]
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        written = await rows(worker)
        told = await worker.controller.revert("300001", preview=True)
        assert told["unpromoted"] and told["aside"] is None and told["size"] > 0
        assert await rows(worker) == written and worker.segments.aside() == []


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_reverted(tmp_path):
    """Never promoted, not written, or without its canonical copy: refused, all is kept."""
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "CREATE TABLE t (n); INSERT INTO t VALUES (7)")
        with pytest.raises(errors.Conflict, match="never promoted"):
            await worker.controller.revert("300001")
        with pytest.raises(errors.NoWriteLock):
            await worker.controller.revert("300002")
        await worker.controller.promote("300001")
        await worker.written("300001", "INSERT INTO t VALUES (8)")
        await worker.storage.delete(await worker.storage.find("300001"))
        with pytest.raises(errors.Conflict, match="is not at"):
            await worker.controller.revert("300001")
        assert "8" in str(await rows(worker)) and worker.segments.aside() == []


@pytest_twisted.ensureDeferred
async def test_it_is_carried_out_though_nobody_waits(tmp_path):
    """A client that leaves in the midst leaves no segment half reverted."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        before = await rows(worker)
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        releasing = HeldUp(worker.metadata, "release_lock")
        reverting = Deferred.fromCoroutine(worker.controller.revert("300001"))
        await releasing.reached
        reverting.addErrback(lambda _: None).cancel()
        releasing.go_on()
        await worker.controller.provision("300001", "default")
        assert await rows(worker) == before and len(worker.segments.aside()) == 1
