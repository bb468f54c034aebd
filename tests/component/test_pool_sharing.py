"""Executors are shared between clients: none can keep the others from being answered."""

import os
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import DEAF, ENDLESS, ask, running_pool, write
from segments_on_disk import SCHEMA, content, make_segment
from twisted.internet.defer import gatherResults
from waiting import until

from trough import errors
from trough.executors.pool import supervisor
from trough.executors.pool.pool import Outcome, ReadLimits, Target
from trough.sql.queries import Framing
from trough.util import core_priority

ensure = pytest_twisted.ensureDeferred
INSERT = f"INSERT INTO crawled_url(id) {ENDLESS.replace('count(*)', 'i')}"
#: Some tenths of a second of one step.
LONG = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000) "
    "SELECT max(i) FROM n"
)


@pytest.fixture(name="targets")
def _targets(tmp_path):
    return [Target(str(n), make_segment(tmp_path / f"{n}.sqlite", 1), 1, False) for n in range(16)]


async def segments(pool, directory, number):
    """Some new segments that can be written."""
    found = [Target(f"w{n}", str(directory / f"w{n}.sqlite"), 1, True) for n in range(number)]
    for target in found:
        await pool.create(target, SCHEMA)
    return found


def held_up(pool, kind):
    """How many executors of a kind are blocked."""
    named = [each for each in pool.status()["executors"] if each["name"].startswith(kind)]
    return sum(each["held_up"] for each in named)


@pytest.mark.parametrize("long", [ENDLESS, DEAF], ids=["endless", "deaf"])
@ensure
async def test_endless_reads_leave_room_for_short_ones(targets, long):
    """Although there are more of them than executors, each of another client and text."""
    async with running_pool(executors=2, max_executors=4) as pool:
        endless = [ask(pool, targets[n % 16], f"{long} -- {n}", client=f"c{n}") for n in range(10)]
        for _ in range(3):
            others = [ask(pool, target, "SELECT 1", client="other") for target in targets]
            await gatherResults([each.outcome for each in others])
            assert all(each.ends == [Outcome(segments=1, rows=1)] for each in others)
        for each in endless:
            each.job.cancel()


@pytest.mark.parametrize("most", [2, 8])
@ensure
async def test_a_short_read_does_not_wait_for_a_dozen_endless_ones(targets, most):
    """Neither while these begin nor later, whether or not there may be more executors."""
    async with running_pool(executors=2, max_executors=most) as pool:
        await gatherResults([ask(pool, target, "SELECT 1").outcome for target in targets])
        endless = [ask(pool, targets[n], f"{ENDLESS} -- {n}", client=f"c{n}") for n in range(12)]
        within = ReadLimits(2.0)
        for n in range(40):
            read = ask(pool, targets[n % 16], "SELECT 1", client="other", limits=within)
            assert await read.outcome == Outcome(segments=1, rows=1), n
        several = ask(pool, targets, "SELECT 1", client="other", limits=within)
        assert await several.outcome == Outcome(segments=16, rows=16)
        assert not any(each.ends for each in endless)
        for each in endless:
            each.job.cancel()


@ensure
async def test_an_answer_does_not_wait_for_the_next_clients_step(targets):
    """Although that step, which cannot be interrupted, begins in the same executor at once."""
    async with running_pool(executors=1, max_executors=1) as pool:
        await ask(pool, targets[0], "SELECT 1").outcome
        short = ask(pool, targets[0], "SELECT 1", client="short")
        deaf = ask(pool, targets[1], DEAF, client="deaf")
        assert await short.outcome == Outcome(segments=1, rows=1)
        assert not deaf.ends
        deaf.job.cancel()


@ensure
async def test_a_long_step_runs_with_a_lower_priority(targets):
    """Of a read and of a write, until it ends or is cancelled."""
    if not core_priority.can_raise():
        pytest.skip("priority cannot be raised again here: RLIMIT_NICE is below 20")
    async with running_pool(executors=1, write_executors=1) as pool:
        pids = [each["pid"] for each in pool.status()["executors"][:2]]

        def priorities():
            return [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids]

        assert priorities() == [0, 0]
        (target,) = await segments(pool, Path(targets[0].path).parent, 1)
        long = [ask(pool, targets[0], ENDLESS), write(pool, target, INSERT)]
        await until(lambda: priorities() == [core_priority.LOWERED] * 2, "both to be lowered")
        for each in long:
            each.job.cancel()
        await until(lambda: priorities() == [0, 0], "both to be raised again")
        assert await ask(pool, targets[0], "SELECT 1").outcome == Outcome(segments=1, rows=1)


@ensure
async def test_a_step_gives_way_before_it_counts_as_long(targets, monkeypatch):
    """What it holds up has not been noticed yet."""
    if not core_priority.can_raise():
        pytest.skip("priority cannot be raised again here: RLIMIT_NICE is below 20")
    monkeypatch.setattr(supervisor, "_LONG", 3600.0)
    async with running_pool(executors=1) as pool:
        pid = pool.status()["executors"][0]["pid"]
        long = ask(pool, targets[0], ENDLESS)
        lowered = core_priority.LOWERED
        await until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == lowered, "it to be lowered")
        assert not held_up(pool, "read")
        long.job.cancel()


@ensure
async def test_what_is_handed_back_is_asked_again_once(targets):
    """Of every segment one answer, however often others had their turn meanwhile."""
    async with running_pool(executors=2, max_executors=4) as pool:
        long = [ask(pool, targets[:4], LONG, client=f"c{n}") for n in range(3)]
        alone = ask(pool, targets[0], LONG, client="alone", framing=Framing.OBJECTS)
        while not all(each.ends for each in (*long, alone)):
            await gatherResults([ask(pool, each, "SELECT 1").outcome for each in targets[:4]])
        assert {each.ends[0] for each in long} == {Outcome(segments=4, rows=4)}
        assert [each.text.count("[[700000]]") for each in long] == [4] * 3
        assert alone.text == '[{"max(i)":700000}]\n'


@ensure
async def test_long_reads_that_had_to_wait_are_answered(targets):
    """By the same rows, whoever was taken off an executor meanwhile."""
    async with running_pool(executors=1, max_executors=4) as pool:
        asked = [ask(pool, targets[n], LONG, client=f"c{n}") for n in range(12)]
        asked += [ask(pool, targets, LONG, client="many")]
        await gatherResults([each.outcome for each in asked])
        assert {each.ends[0] for each in asked[:-1]} == {Outcome(segments=1, rows=1)}
        assert asked[-1].ends == [Outcome(segments=16, rows=16)]
        assert all(each.text.count("[[700000]]") == 1 for each in asked[:-1])
        assert asked[-1].text.count("[[700000]]") == 16


@ensure
async def test_a_read_that_waits_for_a_long_one_ends_at_its_deadline(targets):
    """Or when it is cancelled, or the pool stops."""
    async with running_pool(executors=1, max_executors=2) as pool:
        first = ask(pool, targets[0], ENDLESS, client="a")
        await until(lambda: held_up(pool, "read"), "the first to run")
        late, cancelled, last = (
            ask(pool, targets[n], ENDLESS, client=f"c{n}", limits=ReadLimits(seconds))
            for n, seconds in enumerate((2.0, 60.0, 60.0))
        )
        await until(lambda: len(list(pool._reads.long._all())) == 3, "all to wait")
        cancelled.job.cancel()
        assert isinstance(cancelled.ends[0].error, errors.Cancelled)
        assert isinstance((await late.outcome).error, errors.DeadlineExceeded)
        first.job.cancel()
        await until(lambda: not pool._reads.long, "the last to have its turn")
    assert isinstance(last.ends[0].error, errors.Cancelled)


@ensure
async def test_endless_writes_leave_room_for_those_of_other_segments(tmp_path):
    """Those that waited behind one included. What was endless is undone at its time."""
    async with running_pool(write_executors=1, max_write_executors=4) as pool:
        targets = await segments(pool, tmp_path, 8)
        endless = [
            write(pool, target, INSERT, client=f"c{n}", limits=ReadLimits(60.0, running=8.0))
            for n, target in enumerate(targets[:6])
        ]
        behind = [
            write(pool, targets[6], "INSERT INTO crawled_url(id) VALUES (?)", (n,), client="other")
            for n in range(100)
        ]
        await gatherResults([each.outcome for each in behind])
        assert {each.ends[0] for each in behind} == {Outcome(segments=1, changes=1)}
        assert [row[0] for row in content(targets[6].path)] == list(range(100))
        later = write(pool, targets[7], "INSERT INTO crawled_url(id) VALUES (1)", client="other")
        assert (await later.outcome).changes == 1
        for each in endless:
            assert isinstance((await each.outcome).error, errors.DeadlineExceeded)
        assert [content(target.path) for target in targets[:6]] == [[]] * 6


@ensure
async def test_a_write_that_is_moved_can_be_cancelled(tmp_path):
    """It is not applied, and those beside it are."""
    async with running_pool(write_executors=1, max_write_executors=2) as pool:
        first, second = await segments(pool, tmp_path, 2)
        endless = write(pool, first, INSERT, client="a")
        await until(lambda: held_up(pool, "write"), "it to run")
        writes = [
            write(pool, second, f"INSERT INTO crawled_url(id) VALUES ({n})") for n in range(3)
        ]
        writes[1].job.cancel()
        await gatherResults([each.outcome for each in writes])
        assert isinstance(writes[1].ends[0].error, errors.Cancelled)
        assert [row[0] for row in content(second.path)] == [0, 2]
        endless.job.cancel()
        assert isinstance((await endless.outcome).error, errors.Cancelled)


@ensure
async def test_what_is_done_to_a_file_does_not_wait_for_a_long_query_on_another(targets, tmp_path):
    """Each executor is asked to close the file, also one that is in the midst of a query."""
    async with running_pool(executors=2, max_executors=4) as pool:
        endless = [ask(pool, targets[n], ENDLESS, client=f"c{n}") for n in range(4)]
        await until(lambda: held_up(pool, "read") >= 2, "them to run")
        (target,) = await segments(pool, tmp_path, 1)
        await pool.forget(target.segment)
        await pool.make_writable(target)
        assert not any(each.ends for each in endless)
        for each in endless:
            each.job.cancel()


BLOB = "INSERT INTO crawled_url(url) VALUES (zeroblob({}))"
MEGABYTE = 1 << 20


@ensure
async def test_a_write_may_add_so_much_and_no_more(tmp_path):
    """What is refused is undone; those beside it, which share its transaction, are applied."""
    async with running_pool(growth=16 * MEGABYTE) as pool:
        (target,) = await segments(pool, tmp_path, 1)
        writes = [
            write(pool, target, BLOB.format(n * MEGABYTE), client=f"c{n}")
            for n in (1, 10, 60, 2, 10)
        ]
        await gatherResults([each.outcome for each in writes])
        refused = writes[2].ends[0].error
        assert isinstance(refused, errors.LimitExceeded)
        assert "MAX_WRITE_GROWTH" in str(refused)
        assert [each.ends[0].error for each in writes if each is not writes[2]] == [None] * 4
        sizes = content(target.path, "SELECT length(url) FROM crawled_url")
        assert sorted(size for (size,) in sizes) == [n * MEGABYTE for n in (1, 2, 10, 10)]
        many = f"INSERT INTO crawled_url(url) {ENDLESS.replace('count(*)', 'zeroblob(9999)')}"
        assert isinstance((await write(pool, target, many).outcome).error, errors.LimitExceeded)
        assert content(target.path, "PRAGMA integrity_check") == [("ok",)]


@ensure
async def test_a_segment_may_grow_so_large_and_no_larger(tmp_path):
    """By however many writes; what is deleted makes room."""
    async with running_pool(segment_size=8 * MEGABYTE) as pool:
        (target,) = await segments(pool, tmp_path, 1)
        for n in range(3):
            assert (await write(pool, target, BLOB.format(2 * MEGABYTE)).outcome).changes == 1, n
        large = BLOB.format(4 * MEGABYTE)
        assert isinstance((await write(pool, target, large).outcome).error, errors.LimitExceeded)
        assert (await write(pool, target, "DELETE FROM crawled_url").outcome).changes == 3
        assert (await write(pool, target, large).outcome).changes == 1


@ensure
async def test_a_client_that_does_not_read_is_sent_no_answers_ahead(targets):
    """Of its thousand queries all that are left wait, and those of others do not."""
    async with running_pool(executors=2, max_executors=2) as pool:
        text = "SELECT printf('%.*c', 60000, 'y') x"
        slow = [ask(pool, targets[n % 16], text, client="slow") for n in range(1000)]
        await slow[0].first
        for each in slow:
            each.job.pause()
        # Two rounds: the first one is behind what was sent before the pause arrived.
        for _ in range(2):
            others = [ask(pool, target, "SELECT 1", client="other") for target in targets]
            await gatherResults([each.outcome for each in others])
        sent = sum(each.size for each in slow)
        assert sent < 40 * MEGABYTE
        await gatherResults(
            [ask(pool, each, "SELECT 1", client="other").outcome for each in targets]
        )
        assert sum(each.size for each in slow) == sent
        late = ask(pool, targets[0], text, client="slow", limits=ReadLimits(1.0))
        late.job.pause()
        assert "timeout" in (await late.outcome and late.text)
        for each in slow:
            each.job.resume()
        await gatherResults([each.outcome for each in slow if not each.ends])
        assert all(each.ends == [Outcome(segments=1, rows=1)] for each in slow)


@ensure
async def test_a_large_row_waits_for_its_reader(targets):
    """Of an object no more than a window is on its way; then all of it comes, as it is."""
    async with running_pool(executors=1, max_executors=1) as pool:
        text = "SELECT printf('%.*c', 20000000, 'y') x"
        asked = ask(pool, targets[0], text, framing=Framing.OBJECTS)
        asked.job.pause()
        await asked.first
        await ask(pool, targets[1], "SELECT 1").outcome
        assert asked.size < MEGABYTE
        asked.job.resume()
        assert await asked.outcome == Outcome(segments=1, rows=1)
        assert asked.text == f'[{{"x":"{"y" * 20_000_000}"}}]\n'
