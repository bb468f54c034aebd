"""Which write locks a dead worker's leader may release is known before a write is answered."""

import pytest
import pytest_twisted
from cluster_engines import rethink_url
from executor_pools import answer
from metadata_stores import candidate
from twisted.internet import reactor
from waiting import until
from worker_parts import HeldUp, WorkerParts, running_worker

from trough import errors
from trough.metadata.open import open_metadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.worker import dirty_marks


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A lock becomes clean as soon as its segment is promoted."""
    monkeypatch.setattr(dirty_marks, "QUIET", 0.0)


@pytest.fixture(params=["embedded", "rethinkdb"])
def options(request, tmp_path):
    """What a worker is made with, on each metadata store."""
    if request.param == "embedded":
        return {}
    server = request.getfixturevalue("rethinkdb_server")
    return {"metadata": open_metadata(rethink_url(server), reactor)}


async def clean(worker, segment="300001"):
    """Wait until the metadata store has the lock as clean."""

    async def is_clean():
        lock = await worker.metadata.lock_of(segment)
        return lock is not None and lock.is_clean

    await until(is_clean, "a clean lock")


async def rows(worker, segment="300001"):
    """What the worker's own copy has."""
    target = worker.segments.get(segment).target
    return (await answer(worker.pool, target, "SELECT n FROM t ORDER BY n"))[0]


@pytest_twisted.ensureDeferred
async def test_a_lock_is_dirty_before_the_first_write_is_answered(tmp_path, options):
    """Also before it is submitted; and clean again once the write is promoted."""
    async with running_worker(tmp_path, **options) as worker:
        await worker.controller.provision("300001", "default")
        assert not (await worker.metadata.lock_of("300001")).is_clean
        await worker.written("300001", "CREATE TABLE t (n)")
        await worker.controller.promote("300001")
        await clean(worker)
        before = await rows(worker)
        marking = HeldUp(worker.metadata, "mark_dirty")
        writes = [worker.write("300001", f"INSERT INTO t VALUES ({n})") for n in (1, 2)]
        await marking.reached
        assert await rows(worker) == before
        assert not any(write.outcome.called for write in writes)
        marking.go_on()
        for write in writes:
            assert (await write.outcome).error is None
        assert not (await worker.metadata.lock_of("300001")).is_clean
        await worker.controller.promote("300001")
        await clean(worker)


@pytest_twisted.ensureDeferred
async def test_a_mark_is_made_once_in_a_dirty_period(tmp_path, options):
    """Whatever is written, and never while a segment that is written to is promoted."""
    async with running_worker(tmp_path, **options) as worker:
        marks, mark = [], worker.metadata.mark_dirty

        async def counted(lock):
            marks.append(lock.segment)
            await mark(lock)

        worker.metadata.mark_dirty = counted
        await worker.writable("300001")
        assert marks == []
        await clean(worker)
        for number in range(5):
            await worker.written("300001", f"INSERT INTO t VALUES ({number})")
        assert marks == ["300001"]


@pytest_twisted.ensureDeferred
async def test_a_write_that_cannot_be_noted_is_refused(tmp_path):
    """Nothing is stored, and the lock stays clean; the next one is tried again."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await clean(worker)
        before, mark = await rows(worker), worker.metadata.mark_dirty

        async def silent(lock):
            raise errors.Unavailable("the store is away")

        worker.metadata.mark_dirty = silent
        outcome = await worker.write("300001", "INSERT INTO t VALUES (1)").outcome
        assert isinstance(outcome.error, errors.Unavailable)
        assert "all of it is promoted" in str(outcome.error)
        assert await rows(worker) == before
        assert not worker.segments.get("300001").entry.unpromoted
        worker.metadata.mark_dirty = mark
        await worker.written("300001", "INSERT INTO t VALUES (2)")


@pytest_twisted.ensureDeferred
async def test_nothing_is_written_under_a_lock_that_was_released(tmp_path, options):
    """A worker that comes back is fenced at its first write, whatever it has heard."""
    async with running_worker(tmp_path, **options) as worker:
        await worker.writable("300001")
        await clean(worker)
        before = await rows(worker)
        for watch in worker.controller._watches:
            watch.stop()  # it hears of nothing
        leader = await worker.metadata.campaign(candidate("s1"))
        assert await worker.metadata.release_clean_locks(leader, "w1") == ["300001"]
        outcome = await worker.write("300001", "INSERT INTO t VALUES (1)").outcome
        assert isinstance(outcome.error, errors.NoWriteLock)
        await until(lambda: not worker.segments.get("300001").writable, "a copy that is only read")
        assert await rows(worker) == before
        assert worker.segments.aside() == []


@pytest_twisted.ensureDeferred
async def test_marks_outlive_a_restart(tmp_path):
    """A clean lock is marked at the next write, and a dirty one becomes clean by a promotion."""
    registry = SqliteMetadata(tmp_path / "registry.db", reactor)
    await registry.open()
    async with running_worker(tmp_path) as worker:
        for segment in ("300001", "300002"):
            await worker.writable(segment)
            await clean(worker, segment)
        await worker.written("300002", "INSERT INTO t VALUES (1)")
    again = await WorkerParts(tmp_path).start()  # the same disk, name and identity
    try:
        assert not (await registry.lock_of("300002")).is_clean
        await again.written("300001", "INSERT INTO t VALUES (2)")
        assert not (await registry.lock_of("300001")).is_clean
        for segment in ("300001", "300002"):
            await again.controller.promote(segment)
            await clean(again, segment)
    finally:
        await again.stop()
        await registry.close()
