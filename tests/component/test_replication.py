"""Replicated writes on two or three workers in this process: real stores, executors and disks."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_twisted
from replicated_workers import ReplicatedWorkers
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until
from worker_parts import HeldUp, WorkerParts

from trough import errors
from trough.replication.choice import member_of
from trough.replication.orders import OrderKind
from trough.sql import log_mark
from trough.worker import replication
from trough.worker.log_files import LogFiles
from trough.worker.old_replicas import OldReplicas
from trough.worker.queries import QueryLimits, QueryService
from trough.worker.read_rule import UNCONFIRMED

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


@async_test
async def test_a_silent_follower_leaves_the_row_first(tmp_path: Path) -> None:
    """Then the write is acknowledged without it; when it is back it follows again."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        workers.cut.add(("w1", "w2"))
        await first.written("s", INSERT.format(1))
        assert (await workers.lock("s")).followers == frozenset()
        workers.cut.clear()
        await workers.until_followed_by("s", "w2")
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == [0, 1]


@async_test
@pytest.mark.parametrize("meanwhile", ["", "its last frame is damaged", "its log is removed"])
async def test_a_follower_that_comes_back_continues_its_copy(
    tmp_path: Path, meanwhile: str
) -> None:
    """It gets what it lacks, also in place of a damaged frame, and a base if its log is gone."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        await workers.kill("w2")
        await first.written("s", INSERT.format(1))
        assert (await workers.lock("s")).followers == frozenset()
        (log,) = (tmp_path / "w2").rglob("log.*")
        if "damaged" in meanwhile:
            content = bytearray(log.read_bytes())
            content[-1] ^= 1
            log.write_bytes(content)
        elif meanwhile:
            log.unlink()
        workers.sent.clear()
        await workers.start("w2")
        await workers.until_followed_by("s", "w2")
        assert (("w2", OrderKind.BASE) in workers.sent) is ("removed" in meanwhile)
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == [0, 1]


@async_test
async def test_another_worker_replaces_a_lost_follower(tmp_path: Path) -> None:
    """It gets a base, and has all rows when it takes over."""
    async with running(tmp_path, 3) as workers:
        first = await written(workers)
        lock = await workers.lock("s")
        (follower,) = {member.node for member in lock.followers}
        (other,) = {"w2", "w3"} - {follower}
        await workers.kill(follower)
        await first.written("s", INSERT.format(1))
        await workers.until_followed_by("s", other)
        await first.written("s", INSERT.format(2))
        await workers.kill("w1")
        await workers.until_written_on(other, "s")
        assert await workers.rows(other, "s") == [0, 1, 2]


@async_test
async def test_a_holder_that_nobody_answers_refuses_writes(tmp_path: Path) -> None:
    """Neither follower nor store: a write under way ends unknown, a later one is refused."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        workers.cut.add(("w1", "w2"))
        first.metadata.cut_off = True
        outcome = await first.write("s", INSERT.format(1)).outcome
        assert isinstance(outcome.error, errors.OutcomeUnknown)
        with pytest.raises(errors.UnderReplicated, match="neither its followers nor"):
            first.write("s", INSERT.format(2))
        first.metadata.cut_off = False
        workers.cut.clear()
        await until(lambda: is_writable(first), "writes are taken again")
        await first.written("s", INSERT.format(3))
        assert await workers.rows("w1", "s") == [0, 1, 3]


@async_test
async def test_a_restarted_holder_goes_on_under_a_later_epoch(tmp_path: Path) -> None:
    """Its follower is still in the row, and gets what is written then."""
    async with running(tmp_path) as workers:
        await written(workers)
        before = await workers.lock("s")
        await workers.kill("w1")
        first = await workers.start("w1")
        await first.written("s", INSERT.format(1))
        lock = await workers.lock("s")
        assert (lock.holder, lock.followers) == (before.holder, before.followers)
        assert lock.epoch > before.epoch
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == [0, 1]


@async_test
async def test_a_lost_holder_comes_back_as_a_follower(tmp_path: Path) -> None:
    """And takes over in its turn; what it wrote before is aside."""
    async with running(tmp_path) as workers:
        await written(workers)
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        await workers["w2"].written("s", INSERT.format(1))
        first = await workers.start("w1")
        await workers.until_followed_by("s", "w1")
        await workers["w2"].written("s", INSERT.format(2))
        await workers.kill("w2")
        await workers.until_written_on("w1", "s")
        assert await workers.rows("w1", "s") == [0, 1, 2]
        assert len(first.segments.aside()) == 1


@async_test
async def test_a_take_over_from_a_live_holder_loses_no_acknowledged_row(tmp_path: Path) -> None:
    """Writes are under way when the follower takes the lock: each is acknowledged and there, or
    its client learns that it may not be."""
    async with running(tmp_path) as workers:
        first, second = await written(workers), workers["w2"]
        lock = await workers.lock("s")
        writes = [first.write("s", INSERT.format(number)) for number in range(1, 6)]
        taking = Deferred.fromCoroutine(second.controller.replication.take_overs.take_over(lock))
        number = 5
        while is_writable(first):
            number += 1
            try:
                writes.append(first.write("s", INSERT.format(number)))
            except errors.NoWriteLock:
                break
            await until(lambda write=writes[-1]: write.ends, "the end of a write")
        assert await taking
        await until(lambda: all(write.ends for write in writes), "the end of all writes")
        outcomes = [write.ends[0] for write in writes]
        kept = [n for n, outcome in enumerate(outcomes, 1) if outcome.error is None]
        assert all(
            isinstance(outcome.error, errors.OutcomeUnknown | errors.NoWriteLock | None)
            for outcome in outcomes
        )
        await second.written("s", INSERT.format(1000))
        rows = await workers.rows("w2", "s")
        assert set(kept) <= set(rows)
        assert len(set(rows)) == len(rows)


@async_test
async def test_a_former_holder_keeps_no_file_of_the_log_open(tmp_path: Path) -> None:
    """Not even while something still refers to what sent it."""
    async with running(tmp_path) as workers:
        first, second = await written(workers), workers["w2"]
        copy = first.segments.get("s")
        assert copy is not None
        sender = copy.replicated
        log = f"{copy.target.path}-wal"
        assert sender is not None
        await first.written("s", INSERT.format(1))
        await sender.read_part(0, sender.end)
        assert log in open_files()
        assert await second.controller.replication.take_overs.take_over(await workers.lock("s"))
        await until(lambda: log not in open_files(), "the end of the log's descriptor")
        with pytest.raises(errors.Unavailable, match="is no longer read"):
            await sender.read_part(0, sender.end)


def open_files() -> set[str]:
    """Paths that this process has open, those of removed files without a remark."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(each.readlink()).removesuffix(" (deleted)"))
    return found


@async_test
async def test_a_log_that_begins_again_is_followed(tmp_path: Path, monkeypatch) -> None:
    """The WAL is brought into the database again and again while clients write."""
    monkeypatch.setattr(replication, "CHECKPOINT", 20_000)
    async with running(tmp_path) as workers:
        first = await written(workers)
        replicated = first.segments.get("s").replicated
        begun, number = replicated.checkpointed, 0
        while replicated.checkpointed == begun or number < 300:
            number += 1
            await first.written("s", INSERT.format(number))
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        assert await workers.rows("w2", "s") == list(range(number + 1))


@async_test
async def test_what_was_promoted_is_replaced_by_who_took_over(tmp_path: Path) -> None:
    """The new holder promotes all, and the lock is given back without followers."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        await first.controller.promote("s")
        await first.written("s", INSERT.format(1))
        await workers.kill("w1")
        await workers.until_written_on("w2", "s")
        second = workers["w2"]
        await second.written("s", INSERT.format(2))
        await second.controller.promote("s")
        copy = second.segments.get("s")
        assert not copy.entry.unpromoted
        await second.controller.writer.give_up("s", copy.entry.epoch, "the test")
        assert await second.metadata.lock_of("s") is None
        assert await workers.rows("w2", "s") == [0, 1, 2]


@async_test
async def test_a_drained_holder_hands_its_lock_over(tmp_path: Path) -> None:
    """Unpromoted writes and all, while clients write; nothing goes aside, and no write is lost."""
    async with running(tmp_path, 3) as workers:
        first = await written(workers)
        (follower,) = {member.node for member in (await workers.lock("s")).followers}
        writes = [first.write("s", INSERT.format(number)) for number in range(1, 6)]
        assert await first.controller.replication.handing_over.one("s")
        await until(lambda: all(write.ends for write in writes), "the end of all writes")
        kept = [n for n, write in enumerate(writes, 1) if write.ends[0].error is None]
        assert (await workers.lock("s")).node == follower
        await workers[follower].written("s", INSERT.format(1000))
        assert set(kept) <= set(await workers.rows(follower, "s"))
        assert first.segments.get("s") is None
        assert first.segments.aside() == []
        with pytest.raises(errors.NoWriteLock):
            first.write("s", INSERT.format(7))


@async_test
async def test_a_holder_whose_disk_fails_hands_its_lock_over(tmp_path: Path) -> None:
    """Its log cannot be stored any more, so a follower writes, with all acknowledged rows."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        copy = first.segments.get("s")
        assert copy is not None
        Path(f"{copy.target.path}-wal").unlink()  # SQLite does not notice
        outcome = await first.write("s", INSERT.format(1)).outcome
        assert isinstance(outcome.error, errors.OutcomeUnknown)
        assert "removed or replaced" in str(outcome.error)
        await workers.until_written_on("w2", "s")
        await workers["w2"].written("s", INSERT.format(2))
        assert set(await workers.rows("w2", "s")) - {1} == {0, 2}
        await until(lambda: not is_writable(first), "the first worker writes no more")


@async_test
async def test_a_broken_log_is_given_up_through_the_store(tmp_path: Path) -> None:
    """The holder reaches the store and no follower: so the row says that a follower may take the
    lock."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        workers.cut.add(("w1", "w2"))
        wal_of(first).unlink()
        await first.write("s", INSERT.format(1)).outcome
        await workers.until_written_on("w2", "s")
        assert set(await workers.rows("w2", "s")) - {1} == {0}


@async_test
async def test_a_broken_log_is_not_served_after_a_restart(tmp_path: Path) -> None:
    """Nobody could take the lock over before. The disk records it, so the follower writes on."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        await first.written("s", INSERT.format(1))
        first.metadata.cut_off = True
        await workers.kill("w2")
        wal_of(first).unlink()
        outcome = await first.write("s", INSERT.format(2)).outcome
        assert isinstance(outcome.error, errors.OutcomeUnknown)
        database = Path(first.segments.get("s").target.path)
        await until(lambda: log_mark.is_broken(database), "the record")
        for _ in range(3):  # a look neither moves it aside nor releases its lock
            await first.controller.reconciler.look("s")
        assert (await workers.lock("s")).node == "w1"
        await workers.kill("w1")
        again = await workers.start("w1")
        assert again.segments.get("s") is None
        await workers.start("w2")
        await workers.until_written_on("w2", "s")
        assert set(await workers.rows("w2", "s")) - {2} == {0, 1}


@async_test
async def test_an_old_image_of_a_follower_takes_nothing_over(tmp_path: Path) -> None:
    """It lacks rows that it confirmed. So it counts as another disk, which no row names."""
    async with running(tmp_path) as workers:
        first, second = await written(workers), workers["w2"]
        counter = second.directory / "counter"
        await until(counter.exists, "the follower's counter")
        image = tmp_path / "image"
        shutil.copytree(second.directory, image)
        before = int((image / "counter").read_text())
        # The store has the first later one when there is a second.
        await until(lambda: int(counter.read_text()) > before + 1, "later counters")
        await first.written("s", INSERT.format(1))
        for name in ("w1", "w2"):
            await workers.kill(name)
        shutil.rmtree(second.directory)
        image.rename(second.directory)
        second = await workers.start("w2")
        assert member_of(second.controller.myself) not in (await workers.lock("s")).followers
        await second.controller.replication.take_overs._take_over_all()
        assert (await workers.lock("s")).node == "w1"
        await workers.start("w1")
        await workers.until_followed_by("s", "w2")
        assert await workers.rows("w1", "s") == [0, 1]


@async_test
async def test_a_follower_without_room_leaves_the_row(tmp_path: Path) -> None:
    """It can join as often as it likes, and stores nothing: writes go on with another one."""
    async with running(tmp_path, 3) as workers:
        first = await written(workers)
        (follower,) = {member.node for member in (await workers.lock("s")).followers}
        async with workers[follower].controller.replication.followed.log_of("s") as log:
            log._reserve = 1 << 60
        await first.written("s", INSERT.format(1))
        (other,) = {"w2", "w3"} - {follower}
        await workers.until_followed_by("s", other)


@async_test
async def test_a_follower_that_is_drained_is_replaced(tmp_path: Path) -> None:
    """Another one has entered the row before it leaves."""
    async with running(tmp_path, 3) as workers:
        first = await written(workers)
        (follower,) = {member.node for member in (await workers.lock("s")).followers}
        (other,) = {"w2", "w3"} - {follower}
        await first.metadata.set_draining(follower, True)
        await workers.until_followed_by("s", other)


@async_test
async def test_a_drained_holder_leaves_as_many_copies_as_before(tmp_path: Path) -> None:
    """The next holder has a follower from the first moment on, and all rows."""
    async with running(tmp_path, 3) as workers:
        first = await written(workers)
        await first.metadata.set_draining("w1", True)

        async def taken() -> bool:
            lock = await workers.lock("s")
            assert lock.node == "w1" or lock.followers
            return lock.node != "w1"

        await until(taken, "another holder")
        holder = (await workers.lock("s")).node
        await workers.until_written_on(holder, "s")
        assert await workers.rows(holder, "s") == [0]


@async_test
@pytest.mark.parametrize("promoted", [True, False])
async def test_a_promoted_copy_stays_for_readers(tmp_path: Path, promoted: bool) -> None:
    """When its writer hands the segment over; what is not promoted is removed."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        if promoted:
            await first.controller.promote("s")
        assert await first.controller.replication.handing_over.one("s")
        copy = first.segments.get("s")
        assert (copy is not None) == promoted
        assert copy is None or (not copy.writable and await workers.rows("w1", "s") == [0])
        assert await workers.rows("w2", "s") == [0]


@async_test
async def test_a_read_waits_for_a_take_over(tmp_path: Path) -> None:
    """Meanwhile the segment is not here, and will be."""
    async with running(tmp_path, 1) as workers:
        segments = workers["w1"].segments
        with segments.arriving("s"):
            waiting = Deferred.fromCoroutine(segments.arrived(["other", "s"]))
            assert not waiting.called
        assert await waiting
        assert not await segments.arrived(["other", "s"])


@async_test
async def test_a_read_while_a_lock_is_taken_over(tmp_path: Path) -> None:
    """The lock's row names the new holder before its copy has the newest rows. A read waits for
    these, and one that came before carries a mark."""
    async with running(tmp_path) as workers:
        first = await written(workers)
        await first.controller.promote("s")
        second = workers["w2"]
        assert await first.controller.replication.handing_over.one("s")
        await workers.until_written_on("w2", "s")
        await workers.until_followed_by("s", "w1")
        await second.written("s", INSERT.format(1))
        assert await workers.rows("w1", "s") == [0]
        limits = QueryLimits(60.0, 600.0, 60.0, 0, 1 << 20)
        queries = QueryService(first.controller, first.pool, limits, reactor)
        finding = HeldUp(first.storage, "find")
        handing = Deferred.fromCoroutine(second.controller.replication.handing_over.one("s"))

        def is_holder() -> bool:
            lock = first.controller.cluster.locks.get("s")
            return lock is not None and lock.node == "w1"

        try:
            await until(is_holder, "the notice of the new lock")
            reading = queries.local("s")
            assert reading is None or reading.mark == UNCONFIRMED
            await until(lambda: first.segments.is_arriving("s"), "the take-over's last step")
            assert queries.local("s") is None
        finally:
            finding.go_on()
        assert await handing
        await workers.until_written_on("w1", "s")
        present = queries.local("s")
        assert present is not None and present.mark == ""
        assert await workers.rows("w1", "s") == [0, 1]


@async_test
async def test_a_replica_that_no_lock_names_is_removed(tmp_path: Path) -> None:
    """At the second look that finds the same; one that a lock names stays."""
    async with running(tmp_path) as workers:
        first, second = await written(workers), workers["w2"]
        old = OldReplicas(
            member_of(second.controller.myself),
            second.metadata,
            LogFiles(second.directory),
            second.controller.replication.followed,
            second.threads.run,
            clock=reactor,
        )
        await old.look()
        await old.look()
        assert LogFiles(second.directory).replicas() == ["s"]
        await first.controller.promote("s")
        await first.controller.writer.give_up("s", first.segments.get("s").entry.epoch, "the test")
        await old.look()
        assert LogFiles(second.directory).replicas() == ["s"]
        await old.look()
        assert LogFiles(second.directory).replicas() == []


def wal_of(worker: WorkerParts) -> Path:
    """The WAL of the segment that a worker writes."""
    copy = worker.segments.get("s")
    assert copy is not None
    return Path(f"{copy.target.path}-wal")


async def written(workers: ReplicatedWorkers) -> WorkerParts:
    """A segment with one row, which ``w1`` writes and another worker follows."""
    first = workers["w1"]
    await first.controller.provision("s", "default")
    await first.written("s", "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
    assert len((await workers.lock("s")).followers) == 1
    return first


def is_writable(worker: WorkerParts) -> bool:
    copy = worker.segments.get("s")
    return copy is not None and copy.takes_writes and not copy.replicated.is_blocked
