"""A worker's segments on real files, executors and stores: what a bad moment does to them."""

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import LIMITS, Collected, answer
from small_disk import mounted, without_room
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import HeldUp, WorkerParts, occupied, running_worker

from trough import errors
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import Assignment, Leader, canonical_path


def noted(worker, segment):
    """What the catalogue on disk says about unpromoted writes."""
    with closing(sqlite3.connect(worker.directory / "catalogue.db")) as catalogue:
        query = "SELECT unpromoted FROM local_copy WHERE segment = ?"
        return bool(catalogue.execute(query, (segment,)).fetchone()[0])


def replaced_but_open(worker):
    """Paths of files that are in no directory any more, and that executors have open."""
    found = []
    for executor in worker.pool.status()["executors"]:
        for descriptor in Path(f"/proc/{executor['pid']}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                found.append(str(descriptor.readlink()))
    return [path for path in found if path.endswith(".sqlite (deleted)")]


@pytest_twisted.ensureDeferred
async def test_no_write_is_answered_before_the_catalogue_knows_of_any(tmp_path):
    """While the first write after a promotion waits for the catalogue, a second one does
    not overtake it: killed then, the worker would not know that it holds unpromoted rows."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.writable("300002")
        await worker.written("300002", "INSERT INTO t VALUES (1)")
        with occupied(worker.catalogue_thread):
            early = [worker.write("300001", f"INSERT INTO t VALUES ({n})") for n in (1, 2)]
            # Handed to the same executor later, and so answered later.
            await worker.written("300002", "INSERT INTO t VALUES (2)")
            assert not noted(worker, "300001")
            assert [write.ends for write in early] == [[], []]
        for write in early:
            assert (await write.outcome).error is None
        assert noted(worker, "300001")


@pytest_twisted.ensureDeferred
async def test_writes_are_refused_from_the_moment_the_lock_is_given_up(tmp_path):
    """A promotion under way does not keep a segment open for writes whose lock is lost."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        with occupied(worker.threads):
            promoting = Deferred.fromCoroutine(worker.controller.promote("300001"))
            retiring = Deferred.fromCoroutine(worker.segments.retire("300001"))
            with pytest.raises(errors.NoWriteLock):
                worker.write("300001", "INSERT INTO t VALUES (2)")
        await promoting
        assert await retiring is None
        assert worker.segments.aside() == []


@pytest_twisted.ensureDeferred
async def test_no_write_is_called_done_that_ends_after_the_lock_is_given_up(tmp_path):
    """It goes aside with the others, and its client is told where it may be."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("a")
        write = worker.write("a", "INSERT INTO t VALUES (1)")
        await worker.controller.writer.give_up("a", 1, "it is another one's")
        error = (await write.outcome).error
        assert isinstance(error, errors.OutcomeUnknown) and "keeps aside" in str(error)
        assert len(worker.segments.aside()) == 1


@pytest_twisted.ensureDeferred
async def test_unpromoted_writes_that_cannot_be_moved_aside_stay(tmp_path):
    """Where ``aside/`` cannot be written to, the file stays in its place and no fetch
    replaces it; once it can, the writes are moved there."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        aside = worker.directory / "aside"
        shutil.rmtree(aside)
        aside.write_text("in the way")
        with pytest.raises(errors.Unavailable, match="aside"):
            await worker.segments.retire("300001")
        wanted = await worker.storage.find("300001")
        with pytest.raises(errors.LockHeld):
            await worker.segments.fetch(wanted)
        aside.unlink()
        name = await worker.segments.retire("300001")
        with closing(sqlite3.connect(aside / name)) as kept:
            assert kept.execute("SELECT n FROM t").fetchall() == [(0,), (1,)]


@pytest_twisted.ensureDeferred
async def test_a_lock_is_released_though_the_catalogue_cannot_forget_its_segment(tmp_path):
    """As on a full disk: the file is aside by then, nothing is written any more, and an entry
    without a file is forgotten at the next start."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        with closing(sqlite3.connect(worker.directory / "catalogue.db")) as catalogue:
            catalogue.execute(
                "CREATE TRIGGER full BEFORE DELETE ON local_copy"
                " BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
            )
            await worker.controller.writer.give_up("300001", 1, "it is another one's")
            catalogue.execute("DROP TRIGGER full")
        assert await worker.metadata.lock_of("300001") is None
        assert len(worker.segments.aside()) == 1
    async with running_worker(tmp_path) as worker:
        assert not worker.refused and worker.segments.writable() == []


@pytest_twisted.ensureDeferred
async def test_a_copy_that_the_catalogue_has_no_room_for_takes_none_either(tmp_path):
    """Nobody would know of its file, and the next try needs the room."""
    with mounted(tmp_path / "w1", "4m") as disk:
        async with running_worker(tmp_path) as worker:
            worker.put_canonical("300001")
            wanted = await worker.storage.find("300001")
            arrived = HeldUp(worker.storage, "fetch", done=True)
            fetching = Deferred.fromCoroutine(worker.segments.fetch(wanted))
            await arrived.reached
            with without_room(disk):
                arrived.go_on()
                with pytest.raises(errors.DiskFull, match="no room for the catalogue"):
                    await fetching
            assert not list((disk / "segments").rglob("*.sqlite"))
            await worker.segments.fetch(wanted)
            assert worker.segments.get("300001") is not None


@pytest_twisted.ensureDeferred
async def test_a_crash_between_the_lock_and_its_file_leaves_a_copy_that_can_be_written(tmp_path):
    """A worker killed after it noted that it writes a segment, and before the file was
    made ready for that, writes it after the next provisioning."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        lock = await worker.metadata.take_lock("300001", "w1")
    with closing(sqlite3.connect(worker.directory / "catalogue.db")) as catalogue, catalogue:
        catalogue.execute("UPDATE local_copy SET epoch = ?", (lock.epoch,))
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "DELETE FROM crawled_url")


@pytest_twisted.ensureDeferred
async def test_a_damaged_copy_that_is_written_and_wholly_promoted_is_replaced(tmp_path):
    """SQLite cannot bring a damaged file to rest; it goes aside, the lock is given back,
    and the canonical copy can take its place."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.pool.forget("300001")
        path = worker.directory / "segments" / canonical_path("300001")
        with path.open("r+b") as file:
            file.write(b"\xa5" * 4096)
        await worker.controller.damaged(["300001"])
        assert worker.segments.get("300001") is None
        assert await worker.metadata.lock_of("300001") is None
        assert len(worker.segments.aside()) == 1
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (1)")


@pytest_twisted.ensureDeferred
async def test_a_damaged_copy_is_replaced_once_canonical_storage_is_back(tmp_path):
    """With canonical storage away a damaged copy is fetched as soon as it is back, and not
    only when everything is compared the next time."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        wanted = await worker.storage.find("300001")
        leader = await worker.metadata.campaign(Leader("s1", "s1", "http://s1/", ttl=600.0))
        rows = [Assignment("300001", "w1", 0, wanted.path, wanted.size, wanted.modified)]
        await worker.metadata.change_assignments(leader, rows, [])
        await until(lambda: worker.segments.get("300001"), "the copy")
        damaged, away = worker.segments.get("300001"), tmp_path / "away"
        worker.canonical.rename(away)
        await worker.controller.damaged(["300001"])
        assert worker.segments.get("300001") is None
        away.rename(worker.canonical)
        await until(lambda: worker.segments.get("300001") not in (None, damaged), "a new copy")


@pytest_twisted.ensureDeferred
async def test_a_lock_that_was_lost_during_the_fetch_makes_nothing_writable(tmp_path):
    """An operator frees the lock while a worker still fetches the segment, and another one
    takes it: the first one does not write."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        worker.put_canonical("300001", rows=50)
        with occupied(worker.threads):
            provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
            lock = await until(lambda: worker.metadata.lock_of("300001"), "the lock")
            await worker.metadata.release_lock(lock)
            other = await worker.metadata.take_lock("300001", "w2")
            await until(
                lambda: worker.controller.cluster.locks.get("300001") == other,
                "the news of the other",
            )
        with pytest.raises(errors.Unavailable, match="lost"):
            await provisioning
        assert not worker.segments.get("300001").writable
        assert await worker.metadata.lock_of("300001") == other
        # Or it would answer for what the other one writes.
        assert worker.controller.cluster.locks.get("300001") == other


class LateStore(SqliteMetadata):
    """A registry that takes its time for the release of a lock.

    :ivar late: what the release waits for, if anything
    """

    late: Deferred | None = None

    async def release_lock(self, lock):
        if self.late is not None:
            await self.late
        await super().release_lock(lock)


@pytest_twisted.ensureDeferred
async def test_a_lock_that_is_being_released_is_not_written_under(tmp_path):
    """Provisioned again while its lock is still on the way back, a segment is written
    under a lock of its own."""
    store = LateStore(tmp_path / "registry.db", reactor)
    async with running_worker(tmp_path, metadata=store) as worker:
        await worker.writable("300001")
        store.late = Deferred()
        writer = worker.controller.writer
        giving_up = Deferred.fromCoroutine(writer.give_up("300001", 1, "a test"))
        await until(lambda: not worker.segments.get("300001").writable, "the retirement")
        provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        for number in range(20):  # time enough for a provisioning that waits for nothing
            await worker.metadata.schema("default")
            await worker.metadata.take_lock(f"other{number}", "w2")
        late, store.late = store.late, None
        late.callback(None)
        await giving_up
        await provisioning
        lock = await worker.metadata.lock_of("300001")
        assert lock is not None
        assert lock.epoch == worker.segments.get("300001").entry.epoch


@pytest_twisted.ensureDeferred
async def test_a_write_that_is_refused_is_not_waited_for(tmp_path):
    """The executors were never given it, and so never tell of its end."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        nothing = Collected()
        with pytest.raises(errors.BadRequest):
            worker.controller.writer.write("300001", "DELETE FROM t", [object()], LIMITS, nothing)
        await worker.controller.promote("300001")
        assert (
            await Deferred.fromCoroutine(worker.segments.retire("300001")).addTimeout(30, reactor)
            is None
        )


@pytest_twisted.ensureDeferred
async def test_late_news_of_an_earlier_lock_do_not_end_a_later_one(tmp_path):
    """Asked whether a lock is in force, the store answers when that one was given back and
    the segment was provisioned again: what is written under the new one stays."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        writer = worker.controller.writer
        checking = HeldUp(worker.metadata, "check_lock")
        looking = Deferred.fromCoroutine(writer.check_lock("300001", 1))
        await checking.reached
        await writer.give_up("300001", 1, "a test")
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        checking.go_on()
        await looking
        await worker.written("300001", "INSERT INTO t VALUES (2)")
        assert worker.segments.aside() == []


@pytest_twisted.ensureDeferred
async def test_a_segment_that_cannot_be_brought_to_rest_holds_up_no_other_one(tmp_path):
    """One whose file somebody else has open, as in an SQLite shell, keeps its lock; the locks
    of the others are given back, and its own once the file is closed."""
    async with running_worker(tmp_path, lock_idle=1e-6, retry=3600.0) as worker:
        path = worker.directory / "segments" / canonical_path("300001")
        await worker.writable("300001")
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT * FROM t").fetchall()
            await worker.writable("300002")
            await worker.controller.writer._retire_idle()
            locks = await worker.metadata.locks("w1")
            assert [lock.segment for lock in locks] == ["300001"]
        await worker.controller.writer._retire_idle()
        await until(lambda: none_held(worker), "the release of the last lock")


async def none_held(worker):
    return not await worker.metadata.locks("w1")


@pytest_twisted.ensureDeferred
async def test_a_damaged_copy_that_is_deleted_is_not_published(tmp_path):
    """A query finds damage in a copy that waits to be deleted: there is nothing to serve."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        worker.put_canonical("300001", rows=50)
        newer = await worker.storage.find("300001")
        with occupied(worker.threads):
            one_by_one = [
                Deferred.fromCoroutine(work)
                for work in (
                    worker.segments.fetch(newer),
                    worker.segments.drop("300001"),
                    worker.controller.damaged(["300001"]),
                )
            ]
        for work in one_by_one:
            await work
        await worker.controller.publisher.published()
        assert await worker.metadata.copies_of(["300001"]) == {}


@pytest_twisted.ensureDeferred
async def test_a_retirement_that_takes_long_holds_up_no_other_segment(tmp_path):
    """A worker that comes back finds one of its locks lost: it writes its other segments
    while that one is still on its way aside, and that one no more."""
    async with running_worker(tmp_path) as worker:
        for segment in ("300001", "300002"):
            await worker.writable(segment)
            await worker.written(segment, "INSERT INTO t VALUES (1)")
        await worker.metadata.release_lock(await worker.metadata.lock_of("300001"))
    worker = WorkerParts(tmp_path)
    retiring = HeldUp(worker.pool, "retire")
    try:
        await worker.start()
        await retiring.reached
        await worker.written("300002", "INSERT INTO t VALUES (2)")
        with pytest.raises(errors.NoWriteLock):
            worker.write("300001", "INSERT INTO t VALUES (2)")
        assert not worker.segments.aside()
        retiring.go_on()
        await until(worker.segments.aside, "the file that goes aside")
    finally:
        await worker.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("damaged", [False, True])
async def test_a_replaced_copy_takes_no_room_any_more(tmp_path, damaged):
    """Executors that were asked close the former file, though nobody asks the segment
    again: until then its room would not be free, and no directory would show why."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        await answer(worker.pool, worker.segments.get("300001").target, "SELECT 1")
        worker.put_canonical("300001", rows=50)
        if damaged:
            await worker.segments.fetch_again(worker.segments.get("300001"))
        else:
            await worker.segments.fetch(await worker.storage.find("300001"))
        await until(lambda: not replaced_but_open(worker), "the end of the former file")
