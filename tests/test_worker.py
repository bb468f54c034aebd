"""What a worker decides by itself."""

import pytest
import pytest_twisted
from executor_pools import answer
from waiting import until
from worker_parts import occupied, running_worker

from trough import errors
from trough.worker import Timing


@pytest.mark.parametrize(
    ("lock_idle", "unwritten", "draining", "idle"),
    [
        (10.0, 9.9, False, False),
        (10.0, 10.0, False, True),
        (0.0, 1e9, False, False),
        (0.0, 0.0, True, True),
        (10.0, 0.0, True, True),
    ],
)
def test_when_a_write_lock_is_given_up(lock_idle, unwritten, draining, idle):
    """After the time that the settings say, never for 0, at once on a worker being drained."""
    assert Timing(lock_idle=lock_idle).is_idle(unwritten, draining) is idle


@pytest_twisted.ensureDeferred
async def test_storage_that_hangs_holds_up_neither_reads_nor_writes(tmp_path):
    """As a mount does whose server is gone: every thread for short calls waits in the kernel,
    and the status says so."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        calls = worker.storage._calls
        with occupied(calls):
            await until(lambda: calls.status()["running"] == calls.size, "a storage that hangs")
            with pytest.raises(errors.Unavailable, match="silent for"):
                await worker.storage.find("300001")
            await worker.written("300001", "INSERT INTO t VALUES (1)")
            target = worker.segments.get("300001").target
            text, outcome = await answer(worker.pool, target, "SELECT n FROM t")
            assert outcome.error is None and "[[0],[1]]" in text
            told = (await worker.controller.status())["storage"]["calls"]
            assert (told["running"], told["waiting"]) == (calls.size, 1)
            assert told["longest_seconds"] > 0


@pytest_twisted.ensureDeferred
async def test_a_worker_that_is_drained_no_more_goes_on_writing(tmp_path):
    """What it heard at its last heartbeat, that it is being drained, is over by now."""
    async with running_worker(tmp_path, heartbeat=600.0, retry=600.0) as worker:
        store, controller = worker.metadata, worker.controller
        await store.set_draining("w1", True)
        await controller._beat()
        await store.set_draining("w1", False)
        await worker.writable("300001")
        await controller.writer._retire_idle()
        await worker.written("300001", "INSERT INTO t VALUES (1)")


@pytest_twisted.ensureDeferred
async def test_a_worker_that_is_drained_writes_no_more(tmp_path):
    """Once all is promoted; before that, it goes on."""
    async with running_worker(tmp_path, heartbeat=600.0, retry=600.0) as worker:
        store, controller = worker.metadata, worker.controller
        await worker.writable("300001")
        await worker.writable("300002")
        await worker.written("300002", "INSERT INTO t VALUES (1)")
        await store.set_draining("w1", True)
        await controller._beat()
        await controller.writer._retire_idle()
        with pytest.raises(errors.NoWriteLock):
            worker.write("300001", "INSERT INTO t VALUES (1)")
        await worker.written("300002", "INSERT INTO t VALUES (2)")
        assert [lock.segment for lock in await store.locks("w1")] == ["300002"]


@pytest_twisted.ensureDeferred
async def test_a_copy_is_not_deleted_while_another_worker_writes_the_segment(tmp_path):
    """Nor is it said to be nowhere by a worker that has no copy."""
    async with running_worker(tmp_path) as worker:
        store, controller = worker.metadata, worker.controller
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        for segment in ("300001", "300002"):
            lock = await store.take_lock(segment, "w2")
            with pytest.raises(errors.LockHeld, match="w2"):
                await controller.delete(segment)
            await store.release_lock(lock)
        assert worker.segments.get("300001") is not None
        await controller.delete("300001")
        assert worker.segments.get("300001") is None
