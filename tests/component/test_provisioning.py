"""How a worker comes to write a segment while others do something to it at the same time."""

import pytest
import pytest_twisted
from executor_pools import answer
from twisted.internet.defer import CancelledError, Deferred
from waiting import until
from worker_parts import HeldUp, running_worker

from trough import errors
from trough.model import READ, WRITE, Assignment, Copy, Leader, Lock

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"


async def asked(worker, segment, sql):
    """What a worker's own file answers."""
    return (await answer(worker.pool, worker.segments.get(segment).target, sql))[0]


@pytest_twisted.ensureDeferred
async def test_a_deleted_segment_comes_back_empty(tmp_path):
    """A worker that has not dropped its copy of a deleted segment yet does not bring the
    deleted rows back when the segment is provisioned there again."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        found = await worker.storage.find("300001")
        await worker.segments.fetch(found)
        await worker.storage.delete(found)
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "CREATE TABLE t (n)")
        assert "crawled_url" not in await asked(worker, "300001", TABLES)


@pytest_twisted.ensureDeferred
async def test_the_size_is_that_of_the_segment_by_now(tmp_path):
    """What was written since it came, or was made, counts."""
    async with running_worker(tmp_path) as worker:
        made = await worker.controller.provision("300001", "default")
        await worker.written("300001", "CREATE TABLE t AS SELECT hex(zeroblob(100000)) AS text")
        written = await worker.controller.provision("300001", "default")
        assert made["size"] > 0 and written["size"] > made["size"] + 200_000


@pytest_twisted.ensureDeferred
async def test_a_segment_that_should_be_there_is_not_made_anew(tmp_path):
    """A file that is missing where the leader saw it is being deleted, or was moved, or its
    mount is gone: whoever provisions the segment is told to wait, and nothing is made."""
    async with running_worker(tmp_path) as worker:
        leader = await worker.metadata.campaign(Leader("s1", "s1", "http://s1/", ttl=600.0))
        row = Assignment("300001", "w2", 0, "300/300001.sqlite", 4096, 1)
        await worker.metadata.change_assignments(leader, [row], [])
        with pytest.raises(errors.Unavailable, match="is not at 300/300001"):
            await worker.controller.provision("300001", "default")
        assert worker.segments.get("300001") is None
        assert await worker.metadata.lock_of("300001") is None


@pytest_twisted.ensureDeferred
async def test_a_copy_that_goes_while_it_is_provisioned_is_not_replaced_by_an_empty_one(tmp_path):
    """Found, and then deleted here before it could be made writable, a segment has to be
    provisioned again."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.segments.fetch(await worker.storage.find("300001"))
        checking = HeldUp(worker.metadata, "check_lock")
        provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        await checking.reached
        await worker.segments.drop("300001")
        checking.go_on()
        with pytest.raises(errors.Unavailable, match="300001"):
            await provisioning
        assert worker.segments.get("300001") is None
        assert await worker.metadata.lock_of("300001") is None


@pytest_twisted.ensureDeferred
async def test_a_copy_that_was_provisioned_meanwhile_is_not_collected(tmp_path):
    """Others hold the segment, so that a copy too many is about to go; once it is written
    it stays, and stays published."""
    async with running_worker(tmp_path, retry=3600.0) as worker:
        metadata, looks = worker.metadata, worker.controller.looks
        worker.put_canonical("300001")
        found = await worker.storage.find("300001")
        await worker.segments.fetch(found)
        leader = await metadata.campaign(Leader("s1", "s1", "http://s1/", ttl=600.0))
        row = Assignment("300001", "w2", 0, found.path, found.size, found.modified)
        await metadata.change_assignments(leader, [row], [])
        await metadata.publish_copies([Copy("300001", "w2", READ, "http://w2/")])
        counting = HeldUp(metadata, "copies_of")
        looks.look_at(["300001"])
        await counting.reached
        await worker.controller.provision("300001", "default")
        counting.go_on()
        await until(lambda: not looks.status["active"], "the end of the look")
        await worker.controller.publisher.published()
        copies = (await metadata.copies_of(["300001"]))["300001"]
        assert {copy.role for copy in copies if copy.node == "w1"} == {READ, WRITE}
        await worker.written("300001", "DELETE FROM crawled_url")


@pytest_twisted.ensureDeferred
async def test_a_lock_whose_release_comes_late_is_not_written_under(tmp_path):
    """A release that was not answered may be carried out at any time: what is provisioned
    meanwhile has a lock of its own."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        before = await worker.metadata.lock_of("300001")
        release = worker.metadata.release_lock

        async def unanswered(lock: Lock) -> None:
            raise errors.Unavailable("no answer")

        worker.metadata.release_lock = unanswered
        with pytest.raises(errors.Unavailable):
            await worker.controller.writer.give_up("300001", before.epoch, "a test")
        worker.metadata.release_lock = release
        await worker.controller.provision("300001", "default")
        with pytest.raises(errors.Fenced):
            await release(before)
        lock = await worker.metadata.lock_of("300001")
        assert lock.epoch == worker.segments.get("300001").entry.epoch > before.epoch


@pytest_twisted.ensureDeferred
async def test_a_provisioning_is_carried_out_though_nobody_waits_for_it(tmp_path):
    """Whoever ordered it goes away while the lock is taken: no lock stays behind without a
    segment that could be written, or read, under it."""
    async with running_worker(tmp_path) as worker:
        taking = HeldUp(worker.metadata, "take_lock", done=True)
        provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        await taking.reached
        provisioning.cancel()
        with pytest.raises(CancelledError):
            await provisioning
        taking.go_on()
        await until(lambda: worker.segments.get("300001"), "the segment")
        await worker.written("300001", "CREATE TABLE t (n)")


@pytest_twisted.ensureDeferred
async def test_a_worker_that_stops_waits_for_what_it_provisions(tmp_path):
    """And leaves no lock behind for what it did not come to."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        checking = HeldUp(worker.metadata, "check_lock")
        provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        await checking.reached
        await worker.controller.provisioning.stopService()
        with pytest.raises(CancelledError):
            await provisioning
        assert await worker.metadata.lock_of("300001") is None


@pytest_twisted.ensureDeferred
async def test_a_segment_is_not_locked_while_its_first_copy_is_fetched(tmp_path):
    """Which may take long: others answer for it meanwhile, and nobody could once it is locked
    by a worker that has it not."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        fetching = HeldUp(worker.storage, "fetch")
        provisioning = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        await fetching.reached
        assert await worker.metadata.lock_of("300001") is None
        fetching.go_on()
        await provisioning
        await worker.written("300001", "DELETE FROM crawled_url")


@pytest_twisted.ensureDeferred
async def test_nothing_is_fetched_for_a_segment_that_another_one_writes(tmp_path):
    """It would be in vain."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.metadata.take_lock("300001", "w2")
        with pytest.raises(errors.Moved, match="w2"):
            await worker.controller.provision("300001", "default")
        assert worker.segments.get("300001") is None


@pytest_twisted.ensureDeferred
async def test_a_new_segment_that_stored_nothing_can_be_undone(tmp_path):
    """Refused writes leave nothing; neither file, lock, entry nor row stays."""
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default", "loader")
        refused = worker.write("300001", "INSERT INTO nowhere VALUES (1)")
        assert (await refused.outcome).error is not None
        await until(lambda: worker.segments.get("300001").writes.idle, "the end of the write")
        await worker.controller.undo_provision("300001", "loader")
        assert worker.segments.get("300001") is None
        assert await worker.metadata.lock_of("300001") is None
        assert not [*worker.directory.rglob("300001*")] and worker.segments.aside() == []
        with pytest.raises(errors.Conflict):
            await worker.controller.undo_provision("300001", "loader")
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "CREATE TABLE t (n)")


async def _written(worker):
    await worker.written("300001", "CREATE TABLE t (n)")


async def _provisioned_by_another(worker):
    await worker.controller.provision("300001", "default")


async def _promoted(worker):
    await worker.controller.promote("300001")


@pytest.mark.parametrize("use", [_written, _provisioned_by_another, _promoted])
@pytest_twisted.ensureDeferred
async def test_what_somebody_uses_is_not_undone(tmp_path, use):
    """Written to, promoted, or provisioned by another client that is about to write."""
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default", "loader")
        await use(worker)
        with pytest.raises(errors.Conflict, match="unused"):
            await worker.controller.undo_provision("300001", "loader")
        await worker.written("300001", "CREATE TABLE u (n)")
        assert (await worker.metadata.lock_of("300001")).node == "w1"


@pytest_twisted.ensureDeferred
async def test_a_segment_that_was_there_before_is_not_undone(tmp_path):
    """Provisioned, but not created, by the client that wants it undone."""
    async with running_worker(tmp_path) as worker:
        worker.put_canonical("300001")
        await worker.controller.provision("300001", "default", "loader")
        with pytest.raises(errors.Conflict):
            await worker.controller.undo_provision("300001", "loader")
        assert worker.segments.get("300001").writable


@pytest_twisted.ensureDeferred
async def test_a_provisioning_that_meets_the_undoing_makes_the_segment_anew(tmp_path):
    """It waits, and its writes are stored."""
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default", "loader")
        releasing = HeldUp(worker.metadata, "release_lock")
        undoing = Deferred.fromCoroutine(worker.controller.undo_provision("300001", "loader"))
        await releasing.reached
        again = Deferred.fromCoroutine(worker.controller.provision("300001", "default"))
        releasing.go_on()
        await undoing
        await again
        await worker.written("300001", "CREATE TABLE t (n)")
        assert "t" in await asked(worker, "300001", TABLES)
