"""How a worker comes to hold what it is meant to, on a real registry and directory."""

from dataclasses import replace

import pytest
import pytest_twisted
from waiting import until
from worker_parts import HeldUp, occupied, running_worker

import trough.worker.look_scheduler
from trough import errors
from trough.metadata import AssignmentChanges
from trough.model import Assignment, Leader
from trough.worker.look_scheduler import PARALLEL


async def lead(worker):
    """A leader, by name alone."""
    return await worker.metadata.campaign(Leader("s1", "s1", "http://s1/", ttl=600.0))


async def assign(worker, leader, segment, node="w1"):
    """Assign the present canonical copy."""
    found = await worker.storage.find(segment)
    row = Assignment(segment, node, 0, found.path, found.size, found.modified)
    await worker.metadata.change_assignments(leader, [row], [])
    return found


@pytest_twisted.ensureDeferred
async def test_news_that_come_during_a_look_are_looked_at_after_it(tmp_path):
    """A version that is told of while an earlier one is being fetched need not wait for
    the next round of what was put off."""
    async with running_worker(tmp_path, retry=3600.0) as worker:
        leader = await lead(worker)
        worker.put_canonical("300001", rows=3)
        with occupied(worker.catalogue_thread):
            earlier = await assign(worker, leader, "300001")
            fetched = worker.directory / "segments" / earlier.path
            await until(fetched.exists, "the earlier version")
            worker.put_canonical("300001", rows=3000)
            later = await assign(worker, leader, "300001")
            await until(lambda: worker.controller.looks.status["queued"], "the news")
        await until(
            lambda: (
                (copy := worker.segments.get("300001")) is not None
                and copy.entry.canonical.version == later.version
            ),
            "the later version",
        )


@pytest_twisted.ensureDeferred
async def test_a_copy_is_not_deleted_because_it_is_there_itself(tmp_path):
    """Taken from this worker and given back at once, a copy stays: what the store says of
    this worker is no reason to think that others hold the segment."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        worker.put_canonical("300001")
        await assign(worker, leader, "300001")
        await until(lambda: worker.segments.get("300001"), "the copy")
        await worker.controller.publisher.published()
        copy = worker.segments.get("300001")
        # As if the watch had told of the first half so far.
        worker.controller.reconciler.assignments_changed(
            AssignmentChanges(full=False, removed=["300001"])
        )
        await until(lambda: not worker.controller.looks.status["active"], "the look")
        assert worker.segments.get("300001") is copy


@pytest_twisted.ensureDeferred
async def test_a_copy_whose_file_this_worker_does_not_see_is_late(tmp_path):
    """Another storage may be mounted here than the leader sees. It comes with the file."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        late = worker.controller.reconciler.late
        path = worker.put_canonical("300001")
        found = await worker.storage.find("300001")
        row = Assignment("300001", "w1", 0, found.path, found.size, found.modified)
        hidden = path.with_name(".hidden")
        path.rename(hidden)
        await worker.metadata.change_assignments(leader, [row], [])
        await until(lambda: late.count, "the copy to be late")
        hidden.rename(path)
        await until(lambda: worker.segments.get("300001"), "the copy")
        assert late.count == 0
        path.unlink()
        again = replace(row, segment="300002")
        await worker.metadata.change_assignments(leader, [again], [])
        await until(lambda: late.count, "the second one to be late")
        await worker.metadata.change_assignments(leader, [], [("w1", "300002")])
        await until(lambda: not late.count, "the end of its assignment")


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_the_looks_under_way(tmp_path):
    """What comes after may take away what a look still needs to clean up behind itself."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        worker.put_canonical("300001")
        looks = worker.controller.looks
        ended, fetch = [], worker.segments.fetch

        async def fetch_and_tidy_up(wanted):
            try:
                await fetch(wanted)
            finally:
                await worker.catalogue_thread.run(ended.append, wanted.segment)

        worker.segments.fetch = fetch_and_tidy_up
        with occupied(worker.threads):
            await assign(worker, leader, "300001")
            await until(lambda: looks.status["active"], "the look")
            await looks.stopService()
            assert ended == ["300001"]
            looks.look_at(["300001"])
            assert not looks.status["active"]


@pytest_twisted.ensureDeferred
async def test_a_lock_that_was_freed_is_noticed_while_many_segments_are_fetched(tmp_path):
    """Whether a segment may still be written is not to wait for any transfer."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("written")
        await worker.written("written", "INSERT INTO t VALUES (1)")
        leader = await lead(worker)
        for number in range(PARALLEL):
            worker.put_canonical(f"30000{number}")
        looks = worker.controller.looks
        with occupied(worker.threads):
            for number in range(PARALLEL):
                await assign(worker, leader, f"30000{number}")
            await until(lambda: looks.status["active"] == PARALLEL, "the looks")
            await worker.metadata.release_lock(await worker.metadata.lock_of("written"))
            await until(lambda: worker.segments.get("written") is None, "the news")
            assert looks.status["active"] > PARALLEL
        await until(worker.segments.aside, "the file that goes aside")


@pytest_twisted.ensureDeferred
async def test_nothing_is_written_any_more_once_another_one_is_known_to_hold_the_lock(tmp_path):
    """The store, asked strictly, may not answer for half a minute; a later epoch says all."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        checking = HeldUp(worker.metadata, "check_lock")
        await worker.metadata.release_lock(await worker.metadata.lock_of("300001"))
        other = await worker.metadata.take_lock("300001", "w2")
        await until(lambda: worker.controller.cluster.locks.get("300001") == other, "the news")
        with pytest.raises(errors.NoWriteLock):
            worker.write("300001", "INSERT INTO t VALUES (2)")
        checking.go_on()
        await until(worker.segments.aside, "the file that goes aside")


@pytest_twisted.ensureDeferred
async def test_a_copy_that_a_failed_provisioning_brought_is_published(tmp_path):
    """It is what is assigned, so that nothing is left to be fetched; and may be the only one."""
    async with running_worker(tmp_path) as worker:
        leader = await lead(worker)
        worker.put_canonical("300001")
        take_lock = worker.metadata.take_lock

        async def unanswered(*_):
            raise errors.Unavailable("no answer")

        worker.metadata.take_lock = unanswered
        with pytest.raises(errors.Unavailable, match="no answer"):
            await worker.controller.provision("300001", "default")
        worker.metadata.take_lock = take_lock
        copy = worker.segments.get("300001")
        await assign(worker, leader, "300001")
        await until(lambda: worker.metadata.copies_of(["300001"]), "the news of the copy")
        assert worker.segments.get("300001") is copy


@pytest_twisted.ensureDeferred
async def test_what_was_put_off_is_tried_in_portions_until_one_succeeds(tmp_path, monkeypatch):
    """A full disk refuses one copy like another, and there may be very many; once there is
    room, none has to wait for the next portion."""
    monkeypatch.setattr(trough.worker.look_scheduler, "TRIES", 2)
    async with running_worker(tmp_path, retry=3600.0) as worker:
        leader, looks = await lead(worker), worker.controller.looks
        tried, fetch = [], worker.segments.fetch

        async def no_room(wanted):
            tried.append(wanted.segment)
            raise errors.DiskFull("no room")

        worker.segments.fetch = no_room
        names = [f"30000{number}" for number in range(7)]
        for name in names:
            worker.put_canonical(name)
            await assign(worker, leader, name)
        await until(lambda: looks.status["put_off"] == len(names), "a full disk")
        tried.clear()
        for portion in (2, 4, 6, 7, 9):  # the last one begins again
            await looks.retry()
            assert len(tried) == portion
            assert looks.status["put_off"] == len(names)
        assert sorted(tried[:7]) == names
        worker.segments.fetch = fetch
        await looks.retry()
        await until(lambda: len(worker.segments) == len(names), "all copies")
        assert looks.status["put_off"] == 0
