"""What a leader does when a store fails in the midst of a round, or is another one."""

import os

import pytest
import pytest_twisted
from cluster_engines import PAIRS, open_engines
from test_leadership import ME, House
from twisted.internet.defer import ensureDeferred
from twisted.logger import capturedLogs, formatEvent
from waiting import until

from trough import errors
from trough.leader import term
from trough.model import Assignment, canonical_path


@pytest.fixture
def house(request, tmp_path):
    """A registry, a directory, and a leadership."""
    house = House(open_engines(PAIRS[0], tmp_path, request))
    yield house
    pytest_twisted.blockon(ensureDeferred(house.close()))


@pytest.mark.parametrize("kind", [errors.Unavailable, RuntimeError])
@pytest.mark.parametrize("call", ["save_rings", "change_assignments"])
@pytest_twisted.ensureDeferred
async def test_a_plan_that_was_not_written_is_made_again(house, monkeypatch, call, kind):
    """Whatever a round fails with, the assignments that it had planned come later."""
    await house.open("w1", "w2")
    carry_out, failed = getattr(house.metadata, call), []

    async def fail_once(*arguments):
        if not failed:
            failed.append(call)
            raise kind("the store fails")
        return await carry_out(*arguments)

    monkeypatch.setattr(house.metadata, call, fail_once)
    house.put("300001")
    await house.lead()
    await until(lambda: house.assigned("300001"), "the assignments")
    assert failed


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_deleted_while_a_plan_is_written_stays_deleted(house, monkeypatch):
    """The plan was made before; what it holds beside is assigned. A new segment of the same id,
    with a file of the same version, is assigned as any other."""
    await house.open("w1", "w2")
    house.put("300001")
    house.put("300002")
    version = (house.canonical / canonical_path("300001")).stat()
    write, left = house.metadata.change_assignments, []

    async def change_assignments(*arguments):
        if not left:
            house.hand.remove(canonical_path("300001"))
            await house.metadata.forget_segment("300001")
        answer = await write(*arguments)
        left.append(await house.assigned("300001"))
        return answer

    monkeypatch.setattr(house.metadata, "change_assignments", change_assignments)
    await house.lead()
    await until(lambda: house.assigned("300002"), "the other segment")
    rounds = house.leadership.status()["rounds"]
    await until(lambda: house.leadership.status()["rounds"] > rounds + 2, "further rounds")
    assert left and not any(left)
    assert await house.assigned("300001") == []
    house.put("300001")
    times = (version.st_atime_ns, version.st_mtime_ns)
    os.utime(house.canonical / canonical_path("300001"), ns=times)
    await until(lambda: house.assigned("300001"), "the new one")


@pytest_twisted.ensureDeferred
async def test_another_storage_with_as_many_segments_is_doubted(house):
    """A new leader that finds none of the known segments, but as many others, takes no
    assignment away: it may be another cluster's root that is mounted there."""
    await house.open("w1", "w2")
    known = [f"3{number:05}" for number in range(150)]
    leader = await house.metadata.campaign(ME)
    rows = [Assignment(segment, "w1", 0, canonical_path(segment), 1, 1) for segment in known]
    await house.metadata.change_assignments(leader, rows, [])
    for number in range(150):
        house.put(f"4{number:05}")
    await house.lead()
    await until(lambda: house.leadership.status()["doubting_a_loss"], "the doubt")
    rounds = house.leadership.status()["rounds"]
    await until(lambda: house.leadership.status()["rounds"] > rounds + 3, "further rounds")
    assert await house.assigned(known[-1]) == ["w1"]


@pytest_twisted.ensureDeferred
async def test_rounds_that_fail_are_reported(house, monkeypatch):
    """In the log and in the leader's trouble, once they fail for longer than a hiccup, with the
    reason, also if it is a fault of ours; and no more once they go on."""
    monkeypatch.setattr(term, "HICCUP", 0.2)
    await house.open("w1")
    workers, failing = house.metadata.workers, [True]

    async def fail():
        if failing:
            raise RuntimeError("a row that nobody expected")
        return await workers()

    monkeypatch.setattr(house.metadata, "workers", fail)
    with capturedLogs() as events:
        await house.lead()
        assert house.leadership.stopped == ""
        await until(lambda: house.leadership.stopped, "the report")
        line = "1 rounds failed: a row that nobody expected; see the guide"
        await until(lambda: any(line in str(formatEvent(each)) for each in events), "the line")
    assert "RuntimeError: a row that nobody expected" in house.leadership.trouble
    assert "see The leader's rounds fail" in house.leadership.trouble
    assert house.leadership.status()["stopped"] == house.leadership.stopped
    failing.clear()
    await until(lambda: house.leadership.trouble == "", "a round")
