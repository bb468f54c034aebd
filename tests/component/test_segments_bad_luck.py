"""A worker's segments when a disk is full, a file is gone, or a step fails half-way: what is
known in memory stays what lies on the disk, and the next try succeeds."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import LIMITS, Collected, answer
from small_disk import mounted, without_room
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import HeldUp, WorkerParts, running_worker

from trough import errors
from trough.worker.local_files import COMPANIONS


def fill(disk):
    """Leave no room; returns the file that takes it."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filling


def remove(worker, segment):
    """As somebody does who tidies up in the wrong place."""
    path = worker.segments.get(segment).target.path
    for companion in ("", *COMPANIONS):
        Path(f"{path}{companion}").unlink(missing_ok=True)


async def bring(worker, segment, rows=3):
    """Have a copy of what was put into canonical storage by hand."""
    worker.put_canonical(segment, rows)
    found = await worker.storage.find(segment)
    await worker.segments.fetch(found)
    return found


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("unpromoted", [False, True])
async def test_a_written_file_that_somebody_removed_gives_its_lock_back(tmp_path, unpromoted):
    """There is nothing to be kept aside, and the segment is written again as last promoted."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        if unpromoted:
            await worker.written("300001", "INSERT INTO t VALUES (1)")
        remove(worker, "300001")
        if unpromoted:
            with pytest.raises(errors.CorruptSegment, match="is gone"):
                await worker.controller.promote("300001")
        else:
            await worker.controller.writer.give_up("300001", 1, "a test")
        assert await worker.metadata.lock_of("300001") is None
        assert worker.segments.aside() == []
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (2)")
        target = worker.segments.get("300001").target
        assert "[[0],[2]]" in (await answer(worker.pool, target, "SELECT n FROM t"))[0]


@pytest_twisted.ensureDeferred
async def test_a_file_that_somebody_removed_is_fetched_anew(tmp_path):
    """It is no reason to say that there is no such segment."""
    async with running_worker(tmp_path) as worker:
        await bring(worker, "300001")
        remove(worker, "300001")
        target = worker.segments.get("300001").target
        text, outcome = await answer(worker.pool, target, "SELECT 1")
        assert text.startswith("t FAIL 300001 corrupt the file 300001.sqlite is gone")
        await worker.controller.damaged(outcome.corrupt)
        target = worker.segments.get("300001").target
        assert "[[1]]" in (await answer(worker.pool, target, "SELECT 1"))[0]


@pytest_twisted.ensureDeferred
async def test_a_damaged_copy_is_fetched_once_however_many_queries_met_it(tmp_path):
    """Each of them tells of it; what replaced it is not replaced for the next one."""
    async with running_worker(tmp_path) as worker:
        await bring(worker, "300001")
        fetch, fetched = worker.storage.fetch, []

        def counted(wanted, *rest):
            fetched.append(wanted.segment)
            return fetch(wanted, *rest)

        worker.storage.fetch = counted
        telling = [Deferred.fromCoroutine(worker.controller.damaged(["300001"])) for _ in range(3)]
        for told in telling:
            await told
        assert fetched == ["300001"]


@pytest_twisted.ensureDeferred
async def test_a_copy_that_cannot_be_dropped_now_is_dropped_later(tmp_path):
    """Until then it is known: nobody would ever remove its file."""
    async with running_worker(tmp_path) as worker:
        await bring(worker, "300001")
        forget = worker.pool.forget
        worker.pool.forget = lambda segment: defer.fail(errors.Unavailable("not now"))
        with pytest.raises(errors.Unavailable, match="not now"):
            await worker.controller.delete("300001")
        worker.pool.forget = forget
        await worker.controller.delete("300001")
        assert not list(worker.directory.rglob("300001.sqlite"))


@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_told_holds_nothing_up(tmp_path):
    """The write has ended all the same: the segment can be promoted and brought to rest."""

    class Failing(Collected):
        def finished(self, outcome):
            super().finished(outcome)
            raise ZeroDivisionError

    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        failing = Failing()
        worker.controller.writer.write("300001", "INSERT INTO t VALUES (1)", None, LIMITS, failing)
        assert (await failing.outcome).error is None
        await worker.controller.promote("300001")
        retiring = Deferred.fromCoroutine(worker.segments.retire("300001"))
        assert await retiring.addTimeout(30, reactor) is None


@pytest_twisted.ensureDeferred
async def test_a_damaged_file_does_not_take_the_room_of_its_successor(tmp_path):
    """Where both do not fit, the damaged one goes first."""
    with mounted(tmp_path / "w1", "3m") as disk:
        async with running_worker(tmp_path) as worker:
            found = await bring(worker, "300001", 30_000)
            assert 2 * found.size > shutil.disk_usage(disk).total > found.size
            await worker.controller.damaged(["300001"])
            await worker.segments.fetch(found)
            assert worker.segments.get("300001") is not None


@pytest_twisted.ensureDeferred
async def test_a_copy_is_known_for_the_version_that_it_is_of(tmp_path):
    """Also where the catalogue has no room to be told that it replaced an earlier one: what is
    written to it would be taken for changes to the earlier one."""
    with mounted(tmp_path / "w1", "4m") as disk:
        async with running_worker(tmp_path) as worker:
            await bring(worker, "300001")
            worker.put_canonical("300001", 50)
            newer = await worker.storage.find("300001")
            arrived = HeldUp(worker.storage, "fetch", done=True)
            fetching = Deferred.fromCoroutine(worker.segments.fetch(newer))
            await arrived.reached
            with without_room(disk):
                arrived.go_on()
                with pytest.raises(errors.DiskFull, match="no room for the catalogue"):
                    await fetching
            assert worker.segments.get("300001").entry.canonical.version == newer.version
            await worker.controller.provision("300001", "default")
            await worker.written("300001", "DELETE FROM crawled_url")
            await worker.controller.promote("300001")


@pytest_twisted.ensureDeferred
async def test_a_worker_that_starts_on_a_full_disk_waits_for_room(tmp_path):
    """It goes on by itself once there is some, with all that it had."""
    with mounted(tmp_path / "w1", "4m") as disk:
        async with running_worker(tmp_path) as worker:
            await worker.writable("300001")
            await worker.written("300001", "INSERT INTO t VALUES (1)")
        filling = fill(disk)
        worker = WorkerParts(tmp_path)
        pausing = HeldUp(worker.controller, "_pause")
        starting = Deferred.fromCoroutine(worker.start())
        try:
            await until(lambda: pausing.reached.called or worker.refused, "the first try")
            assert not worker.refused and not worker.controller.loaded
            filling.unlink()
            pausing.go_on()
            await starting
            await worker.written("300001", "INSERT INTO t VALUES (2)")
        finally:
            await worker.stop()


@pytest_twisted.ensureDeferred
async def test_a_snapshot_that_cannot_fit_is_not_begun(tmp_path):
    """It would fill the disk, and writes to all segments would be refused meanwhile; with room
    it succeeds, though somebody removed the directory that it goes to."""
    with mounted(tmp_path / "w1", "8m") as disk:
        async with running_worker(tmp_path) as worker:
            await worker.writable("300001")
            await worker.written("300001", "INSERT INTO t VALUES (zeroblob(1000000))")
            await worker.pool.forget("300001")  # so that all of it is in the file
            filling = fill(disk)
            with filling.open("r+b") as file:
                file.truncate(filling.stat().st_size - 500_000)
            snapshots, snapshot = [], worker.pool.snapshot
            worker.pool.snapshot = snapshots.append
            with pytest.raises(errors.DiskFull, match="bytes are needed"):
                await worker.controller.promote("300001")
            assert snapshots == []
            worker.pool.snapshot = snapshot
            filling.unlink()
            (disk / "snapshots").rmdir()
            await worker.controller.promote("300001")
            assert not worker.segments.get("300001").entry.unpromoted
