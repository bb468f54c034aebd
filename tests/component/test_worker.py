"""What a worker decides by itself."""

import shutil

import pytest
import pytest_twisted
from executor_pools import answer
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import WorkerParts, occupied, running_worker

from trough import errors
from trough.metadata.sqlite.store import SqliteMetadata
from trough.worker.timing import Timing


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
    assert Timing(10.0, 10.0, 3600.0, lock_idle).is_idle(unwritten, draining) is idle


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


@pytest_twisted.ensureDeferred
async def test_a_worker_whose_disk_is_missing_gives_no_lock_back(tmp_path):
    """Not mounted, say, after a restart: what it wrote is not lost yet, and it is for a person
    to say that it is. With its disk it goes on."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
    away = worker.directory.rename(tmp_path / "away")
    worker = WorkerParts(tmp_path)
    await worker.start()
    assert "300001" in str(worker.refused[0]) and "free-locks w1" in str(worker.refused[0])
    await worker.stop()
    worker.directory.rmdir()
    away.rename(worker.directory)
    async with running_worker(tmp_path) as worker:
        assert not worker.refused
        await worker.written("300001", "INSERT INTO t VALUES (2)")


@pytest_twisted.ensureDeferred
async def test_an_older_image_of_a_disk_is_refused(tmp_path):
    """Restored from a snapshot, it lacks acknowledged rows of one segment and all of another one:
    nothing is given back or promoted. The newest disk goes on, also after a kill."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await _counted_on(worker)
    newest, image = worker.directory, tmp_path / "image"
    shutil.copytree(newest, image)
    async with running_worker(tmp_path) as worker:
        assert not worker.refused
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        await worker.writable("300002")
        await _counted_on(worker)
    newest.rename(tmp_path / "newest")
    image.rename(newest)
    worker = await WorkerParts(tmp_path).start()
    assert "older state of this disk" in str(worker.refused[0])
    assert "free-locks w1" in str(worker.refused[0])
    assert len(await worker.metadata.locks("w1")) == 2
    await worker.stop()
    shutil.rmtree(newest)
    (tmp_path / "newest").rename(newest)
    async with running_worker(tmp_path) as worker:
        assert not worker.refused
        await worker.written("300001", "INSERT INTO t VALUES (2)")


async def _counted_on(worker):
    """Return once the metadata store has a greater counter than now."""
    before = await worker.metadata.disk_counter("w1")

    async def grown():
        return await worker.metadata.disk_counter("w1") > before

    await until(grown, "a greater counter")


@pytest_twisted.ensureDeferred
async def test_an_older_image_without_locks_is_taken_up(tmp_path):
    """Nothing that was acknowledged is missing; its counter goes on above the one known."""
    async with running_worker(tmp_path) as worker:
        await worker.metadata.note_disk_counter("w1", 100)
    async with running_worker(tmp_path) as worker:
        assert not worker.refused
        await worker.writable("300001")
        await _counted_on(worker)
        assert await worker.metadata.disk_counter("w1") > 100


@pytest_twisted.ensureDeferred
async def test_a_new_worker_that_holds_no_locks_starts(tmp_path):
    """Also under the name of one that is gone, whose locks were freed."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.metadata.release_lock(await worker.metadata.lock_of("300001"))
    worker.directory.rename(tmp_path / "away")
    async with running_worker(tmp_path) as worker:
        assert not worker.refused
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (1)")


class HeldUpRegistry(SqliteMetadata):
    """A registry in which copies are published once `may_publish` fires."""

    def __init__(self, path):
        super().__init__(path, reactor)
        self.may_publish = Deferred()

    async def publish_copies(self, copies):
        if not self.may_publish.called:
            await self.may_publish
        await super().publish_copies(copies)


@pytest_twisted.ensureDeferred
async def test_a_worker_is_ready_once_its_copies_are_published(tmp_path):
    """Whoever starts one after the other, as soon as the last one is ready, loses no copy."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
    registry = HeldUpRegistry(tmp_path / "registry.db")
    again = WorkerParts(tmp_path, registry)
    starting = Deferred.fromCoroutine(again.start())
    await until(lambda: again.controller.registered, "the registration")
    assert not again.controller.ready
    registry.may_publish.callback(None)
    await starting
    assert again.controller.ready and "300001" in await registry.copies_of(["300001"])
    await again.stop()
