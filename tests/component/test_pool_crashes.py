"""Executors that are killed, stopped, or held up, at any moment."""

import json
import os
import random
import signal
import socket
import struct
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import (
    DEAF,
    ENDLESS,
    answer,
    ask,
    kill,
    pids,
    running_pool,
    write,
    written,
)
from segments_on_disk import SCHEMA, content, make_segment
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs
from waiting import until

from trough import errors
from trough.executors.messages import (
    ExecutorFrameParser,
    LargeData,
    PartMerged,
    PartPieces,
)
from trough.executors.pool import group, supervisor
from trough.executors.pool.child_socket import ChildSocket
from trough.executors.pool.pool import Framing, Outcome, ReadLimits, Target

ensure = pytest_twisted.ensureDeferred
SLOW_REGEXP = f"SELECT '{'a' * 40}b' REGEXP '(a*)*c'"


@pytest.fixture
def targets(tmp_path):
    """Forty small segments."""
    base = make_segment(tmp_path / "base.sqlite", 50)
    made = []
    for n in range(40):
        os.link(base, f"{tmp_path}/{n}.sqlite")
        made.append(Target(str(n), f"{tmp_path}/{n}.sqlite", 1, False))
    return made


@pytest.fixture
def large(tmp_path):
    """A segment of some megabytes."""
    return Target("large", make_segment(tmp_path / "large.sqlite", 100_000), 1, False)


async def runs(pool, number=1):
    """Until so many executors are held up by what they run."""
    await until(
        lambda: sum(each["held_up"] for each in pool.status()["executors"]) >= number,
        "an executor to be held up",
    )


@ensure
async def test_a_query_whose_executor_dies_is_asked_once_more(targets):
    """And not a second time, for it may be the cause; others are not taken for it."""
    async with running_pool(executors=1) as pool:
        endless = ask(pool, targets[0], ENDLESS)
        await runs(pool)
        (first,) = pids(pool)[:1]
        kill(first)
        await until(lambda: pool.status()["restarts"] == 1, "its successor")
        others = [ask(pool, target, "SELECT 1") for target in targets]
        await gatherResults([other.outcome for other in others])
        assert endless.ends == []
        await runs(pool)
        # Not one that was slow to answer the others, and has nothing any more.
        (second,) = [each for each in pool.status()["executors"] if each["load"]]
        kill(second["pid"])
        outcome = await endless.outcome
        assert "t FAIL 0 unavailable the process that was asking segment 0 died" in endless.text
        assert outcome == Outcome(segments=1, failed=1)
        assert all(other.ends == [Outcome(segments=1, rows=1)] for other in others)


@pytest.mark.parametrize("framing", Framing)
@ensure
async def test_a_query_that_was_told_in_part_is_not_told_again(large, framing):
    """It fails, for nobody knows where to go on."""
    async with running_pool(executors=1) as pool:
        asked = ask(pool, large, "SELECT * FROM crawled_url", framing=framing)
        asked.job.pause()
        await asked.first
        for pid in pids(pool):
            kill(pid)
        outcome = await asked.outcome
        assert outcome.failed == 1
        if framing is Framing.LINES:
            assert asked.text.count(" COLS ") == 1
            assert asked.text.splitlines()[-1].startswith("t FAIL large unavailable ")
        else:
            assert isinstance(outcome.error, errors.Unavailable)
            assert not asked.text.endswith("]\n")


@ensure
async def test_many_segments_are_answered_once_each_whatever_dies(targets, large):
    """Executors are killed all the while; no segment is lost, none told twice."""
    async with running_pool(executors=2) as pool:
        chance = random.Random(7)
        for _ in range(12):
            asked = ask(pool, [*targets, large], "SELECT id FROM crawled_url")
            victims = pids(pool)
            if victims:
                await asked.first
                kill(chance.choice(victims))
            await asked.outcome
            (outcome,) = asked.ends
            lines = asked.text.splitlines()
            ends = sorted(line.split()[2] for line in lines if line.split()[1] in ("DONE", "FAIL"))
            assert ends == sorted(target.segment for target in [*targets, large])
            assert outcome.segments == 41
            failed = [line for line in lines if " FAIL " in line]
            assert len(failed) == outcome.failed
            for target in targets:
                rows = [line for line in lines if line.startswith(f"t ROWS {target.segment} ")]
                if f"t DONE {target.segment} 50" in lines:
                    assert sum(len(json.loads(x.split(" ", 3)[3])) for x in rows) == 50


@ensure
async def test_what_waits_behind_a_long_query_is_asked_elsewhere(targets):
    """One that SQLite can do nothing about included."""
    for long in (ENDLESS, DEAF, SLOW_REGEXP):
        async with running_pool(executors=2, max_executors=4) as pool:
            held = [ask(pool, target, long) for target in targets[:2]]
            await runs(pool)
            waiting = [ask(pool, target, "SELECT 1") for target in targets]
            many = ask(pool, targets, "SELECT 1")
            await gatherResults([each.outcome for each in [*waiting, many]])
            assert many.ends == [Outcome(segments=40, rows=40)]
            assert [each.ends for each in held] == [[], []]
            for each in held:
                each.job.cancel()


@ensure
async def test_what_was_in_line_before_the_long_query_was_known_is_moved(targets):
    """Handed over in one frame with it; a helper takes it where all are held up."""
    async with running_pool(executors=1, max_executors=3) as pool:
        held = [ask(pool, targets[n], ENDLESS) for n in range(2)]
        many = ask(pool, targets, "SELECT count(*) FROM crawled_url")
        singles = [ask(pool, target, "SELECT 1") for target in targets]
        await many.outcome
        await gatherResults([each.outcome for each in singles])
        assert many.ends == [Outcome(segments=40, rows=40)]
        ends = sorted(int(x.split()[2]) for x in many.text.splitlines() if " DONE " in x)
        assert ends == list(range(40))
        assert len(pids(pool)) == 3
        assert all(each.ends == [] for each in held)
        for each in held:
            each.job.cancel()


@ensure
async def test_the_pool_does_not_grow_beyond_its_limit(targets):
    """What is more waits, until its deadline at most."""
    async with running_pool(executors=1, max_executors=1) as pool:
        held = ask(pool, targets[0], DEAF)
        await runs(pool)
        waiting = ask(pool, targets[5], "SELECT 1", limits=ReadLimits(0.2))
        patient = ask(pool, targets[6], "SELECT 1")
        outcome = await waiting.outcome
        assert outcome.failed == 1
        assert len(pids(pool)) == 1
        assert patient.ends == []
        held.job.cancel()  # which it does not hear, so that it is killed
        await patient.outcome


@pytest.mark.parametrize("together", [True, False], ids=["one request", "many requests"])
@ensure
async def test_one_client_holds_up_half_of_the_executors(targets, together):
    """Asked of all segments at once, or one by one; others are answered meanwhile."""
    async with running_pool(executors=2, max_executors=4) as pool:
        if together:
            held = [ask(pool, targets, ENDLESS)]
        else:
            held = [ask(pool, target, f"{ENDLESS} -- {n}") for n, target in enumerate(targets)]
        await runs(pool, 2)
        others = [ask(pool, target, "SELECT 1", client="other") for target in targets]
        await gatherResults([each.outcome for each in others])
        await ask(pool, targets, "SELECT count(*) FROM crawled_url", client="other").outcome
        # One that was slow to answer the others counts as held up until it is looked at.
        await until(
            lambda: sum(each["held_up"] for each in pool.status()["executors"]) == 2, "the others"
        )
        for each in held:
            each.job.cancel()


@ensure
async def test_helpers_end_when_there_is_nothing_to_do(targets, monkeypatch):
    """After a while; the first ones stay. That is no failure to be logged."""
    monkeypatch.setattr(group, "_HELPER_STAYS", 0.2)
    monkeypatch.setattr(supervisor, "_IDLE_LOOK", 0.1)
    async with running_pool(executors=1, max_executors=3) as pool:
        before = pids(pool)
        held = ask(pool, targets[0], ENDLESS)
        waiting = ask(pool, targets[1], "SELECT 1")
        await waiting.outcome
        assert len(pids(pool)) == 2
        [helper] = pool._reads.group.helpers
        with capturedLogs() as logged:
            held.job.cancel()
            await until(lambda: pids(pool) == before, "the helper to be dismissed")
            await until(lambda: helper.pid is None, "its process to end")
        assert logged == []
        assert pool.status()["restarts"] == 0


@ensure
async def test_an_executor_that_ignores_a_deadline_is_killed(targets):
    """What it ran is tried once more and then fails; the rest is answered."""
    async with running_pool(executors=1, max_executors=1) as pool:
        await answer(pool, targets[0], "SELECT 1")
        deaf = ask(pool, targets[0], DEAF, limits=ReadLimits(2.0))
        await runs(pool)
        others = [ask(pool, target, "SELECT 1") for target in targets]
        outcome = await deaf.outcome
        assert outcome.failed == 1
        await gatherResults([other.outcome for other in others])
        assert all(other.ends == [Outcome(segments=1, rows=1)] for other in others)
        assert pool.status()["restarts"] >= 1


@ensure
async def test_a_stopped_executor_is_replaced_too(targets):
    """It says nothing, and does nothing, and is at no query."""
    async with running_pool(executors=1, max_executors=1) as pool:
        await answer(pool, targets[0], "SELECT 1")
        (pid,) = pids(pool)
        os.kill(pid, signal.SIGSTOP)
        stuck = ask(pool, targets[0], "SELECT 1", limits=ReadLimits(0.2))
        assert (await stuck.outcome).failed == 1
        _, outcome = await answer(pool, targets[0], "SELECT 1")
        assert outcome.rows == 1
        assert pids(pool) != [pid]


@ensure
async def test_a_file_that_ends_while_it_is_mapped_is_damaged(large):
    """The process dies of it; the segment is named, and nothing else is harmed."""
    async with running_pool(executors=1) as pool:
        asked = ask(pool, large, "SELECT * FROM crawled_url")
        asked.job.pause()
        await asked.first
        os.truncate(large.path, 8192)
        asked.job.resume()
        outcome = await asked.outcome
        assert outcome.failed == 1
        assert outcome.corrupt == ("large",)


# -- writes ---------------------------------------------------------------------------


@ensure
async def test_a_write_that_was_begun_has_an_unknown_outcome_and_others_are_applied(tmp_path):
    """Those that wait for another segment go to the successor."""
    async with running_pool(max_write_executors=1) as pool:
        first, second = [
            Target(name, str(tmp_path / f"{name}.sqlite"), 1, True) for name in ("a", "b")
        ]
        for target in (first, second):
            await pool.create(target, SCHEMA)
        endless = write(pool, first, f"INSERT INTO crawled_url(id) {ENDLESS}")
        await runs(pool)
        waiting = [
            write(pool, second, f"INSERT INTO crawled_url(id) VALUES({n})") for n in range(20)
        ]
        (pid,) = pids(pool, "write")
        kill(pid)
        outcome = await endless.outcome
        assert isinstance(outcome.error, errors.OutcomeUnknown)
        await gatherResults([each.outcome for each in waiting])
        assert all(each.ends == [Outcome(segments=1, changes=1)] for each in waiting)
        assert len(content(second.path)) == 20
        assert content(first.path) == []


@ensure
async def test_no_answered_write_is_lost_and_none_applied_twice(tmp_path, monkeypatch):
    """Writers are killed at any moment, many times; what is unknown may be either."""
    monkeypatch.setattr(supervisor, "_TOO_SOON", 0.1)
    async with running_pool() as pool:
        target = Target("s", str(tmp_path / "s.sqlite"), 1, True)
        await pool.create(target, "CREATE TABLE t(a)")
        chance = random.Random(11)
        jobs = []
        for _ in range(15):
            batch = [
                write(pool, target, "INSERT INTO t VALUES(?)", (len(jobs) + n,)) for n in range(60)
            ]
            jobs += batch
            await batch[chance.randrange(60)].outcome
            for pid in pids(pool, "write"):
                kill(pid)
        await gatherResults([job.outcome for job in jobs])
        outcomes = [outcome for job in jobs for outcome in job.ends]
        there = [a for (a,) in content(target.path, "SELECT a FROM t ORDER BY a")]
        assert len(there) == len(set(there)), "a write was applied twice"
        sure = {n for n, outcome in enumerate(outcomes) if outcome.error is None}
        unknown = {n for n, o in enumerate(outcomes) if isinstance(o.error, errors.OutcomeUnknown)}
        assert len(sure | unknown) == len(jobs) == len(outcomes)
        assert sure <= set(there) <= sure | unknown
        assert sure
        assert content(target.path, "PRAGMA integrity_check") == [("ok",)]


@ensure
async def test_a_call_whose_executor_dies_fails_and_leaves_nothing(tmp_path):
    """A snapshot, which may be asked for again."""
    path = make_segment(tmp_path / "s.sqlite", 300_000)
    target = Target("s", path, 1, False)
    copies = tmp_path / "copies"
    copies.mkdir()
    async with running_pool() as pool:
        await pool.check(target)
        made = pool.snapshot(target, str(copies / "copy.sqlite"))
        await until(lambda: os.listdir(copies) or made.called, "it to begin")  # noqa: PTH208
        (pid,) = pids(pool, "maintenance")
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: state(pid) == "T", "its standstill")
        if (copies / "copy.sqlite").exists():
            os.kill(pid, signal.SIGCONT)
            await made
        else:
            kill(pid)
            with pytest.raises(errors.Unavailable, match="snapshot"):
                await made
            assert not (copies / "copy.sqlite").exists()
        await pool.snapshot(target, str(copies / "copy.sqlite"))
        assert len(content(copies / "copy.sqlite")) == 300_000


def state(pid):
    """What the system says that a process does; T: it was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def forgetting(pool, target):
    """A query that holds an executor up, and a segment that is being forgotten meanwhile."""
    held = ask(pool, target, DEAF)
    await runs(pool)
    return held, pool.forget("7")


@ensure
async def test_forgetting_is_done_where_the_process_is_gone(targets):
    """A dead one has nothing open."""
    async with running_pool(executors=1, max_executors=1) as pool:
        held, forgotten = await forgetting(pool, targets[0])
        (pid,) = pids(pool)
        kill(pid)
        await forgotten
        held.job.cancel()


@ensure
async def test_forgetting_that_is_cancelled_fails_as_such(targets):
    """With one error of ours, and not with Twisted's wrapping of one of several."""
    async with running_pool(executors=2, max_executors=2) as pool:
        held, forgotten = await forgetting(pool, targets[0])
        forgotten.cancel()
        with pytest.raises(errors.Cancelled):
            await forgotten
        for pid in pids(pool):
            kill(pid)
        held.job.cancel()


@ensure
async def test_a_cancelled_snapshot_ends(tmp_path):
    """And leaves nothing."""
    path = make_segment(tmp_path / "s.sqlite", 300_000)
    copies = tmp_path / "copies"
    copies.mkdir()
    target = Target("s", path, 1, False)
    async with running_pool() as pool:
        await pool.check(target)
        made = pool.snapshot(target, str(copies / "copy.sqlite"))
        made.cancel()
        with pytest.raises(errors.Cancelled):
            await made
        await pool.check(target)
        assert os.listdir(copies) == []  # noqa: PTH208


@ensure
async def test_a_writer_that_dies_again_and_again_is_started_again_and_again(tmp_path):
    """Not at once, so that a machine without memory is not made worse."""
    async with running_pool() as pool:
        target = Target("s", str(tmp_path / "s.sqlite"), 1, True)
        await pool.create(target, SCHEMA)
        for n in range(3):
            for pid in pids(pool, "write"):
                kill(pid)
            outcome = await written(pool, target, f"INSERT INTO crawled_url(id) VALUES({n})")
            assert outcome.changes == 1 or isinstance(outcome.error, errors.OutcomeUnknown)
        assert pool.status()["restarts"] >= 2


@ensure
async def test_a_write_for_a_process_that_is_yet_to_start_can_be_cancelled(tmp_path):
    """Then it is over at once, and nothing waits for it."""
    async with running_pool() as pool:
        target = Target("s", str(tmp_path / "s.sqlite"), 1, True)
        await pool.create(target, SCHEMA)
        (pid,) = pids(pool, "write")
        kill(pid)
        await until(lambda: pids(pool, "write") != [pid], "its end to be noticed")
        for pid in filter(None, pids(pool, "write")):
            kill(pid)
            await until(lambda pid=pid: pids(pool, "write") != [pid], "its end to be noticed")
        first = write(pool, target, "INSERT INTO crawled_url(id) VALUES(1)")
        second = write(pool, target, "INSERT INTO crawled_url(id) VALUES(2)")
        first.job.cancel()
        assert isinstance(first.ends[0].error, errors.Cancelled)
        assert (await second.outcome).changes == 1
        assert len(content(target.path)) == 1


@ensure
async def test_a_deadline_holds_although_no_process_can_be_started(targets, monkeypatch):
    """Where each one dies at once, what waits is ended all the same."""
    monkeypatch.setattr(supervisor, "_TOO_SOON", 0.05)
    monkeypatch.setattr(supervisor, "_GRACE", 0.1)
    monkeypatch.setattr(supervisor, "_CHECK", 0.1)
    async with running_pool(executors=1) as pool:
        for executor in pool._reads.all():
            executor._arguments[2] = "no number"
        for pid in pids(pool):
            kill(pid)
        asked = ask(pool, targets[0], "SELECT 1", limits=ReadLimits(0.3))
        outcome = await asked.outcome
        assert outcome.failed == 1


@pytest.mark.parametrize("body", [b"\x01", b"\x91\x92\x63\x01"], ids=["no-list", "unknown-kind"])
@ensure
async def test_a_frame_that_no_executor_sends_ends_its_socket(body):
    """Its process is killed then, as when it had closed its end."""
    ours, theirs = socket.socketpair()
    lost = Deferred()
    ChildSocket(reactor, ours, ExecutorFrameParser().receive_data, lambda: lost.callback(None))
    theirs.sendall(struct.pack("<Q", len(body)) + body)
    await lost
    assert theirs.recv(1) == b""
    theirs.close()


@pytest.mark.parametrize(
    "sent",
    [
        lambda part: PartPieces(part, [2], [0], [b""]),
        lambda part: PartPieces(part, [0, ~2], [0, 0], [b"", b""]),
        lambda part: PartPieces(part, [0, 1], [0], [b""]),
        lambda part: PartPieces(part, [0], [1], [b""], [1]),
        lambda part: PartPieces(part, [0], [1], [b""], [-1]),
        lambda part: PartPieces(part, [~0], [0], [b""], [0]),
        lambda part: PartMerged(part, [0, 2], [1, 1], b""),
        lambda part: PartMerged(part, [-1], [1], b""),
        lambda part: PartMerged(part, [0, 1], [1], b""),
        lambda part: PartMerged(part, [0], [1], b"", [1], [b""]),
        lambda part: LargeData(part, 2, b"", False),
    ],
)
@ensure
async def test_an_answer_about_a_segment_that_was_not_asked_is_no_answer(targets, sent):
    """An executor that sends one is broken: the error ends its socket, and nothing is counted."""
    async with running_pool(executors=1) as pool:
        asked = ask(pool, targets[:2], ENDLESS, merge="s", keeper=lambda *_: None)
        (executor,) = [each for each in pool._reads.all() if each.outstanding]
        (number,) = executor.outstanding
        with pytest.raises(errors.ProtocolError):
            pool.received(executor, [sent(number)])
        assert not asked.chunks and not asked.ends
        asked.job.cancel()
        assert (await asked.outcome).rows == 0
