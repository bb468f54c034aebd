"""Functions of untrusted input, called in processes that are killed where they must be."""

import os
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from waiting import until

from trough import errors
from trough.executors.pool.task_pool import TaskPool
from trough.metadata import patterns
from trough.sql.sqlite import check_schema
from trough.util import core_priority

#: Keeps Python's matcher busy for years.
EVIL, VICTIM = "(a+)+$", "a" * 60 + "!"

#: Keeps Python's compiler busy for seconds: each class is folded character by character.
SLOW_TO_COMPILE = "(?i)" + "[!-\uffff]" * 190

IDS = ["300001", "300002", "ait-1", "AIT-1", "a" * 40 + "!"]


@pytest.fixture
def pool():
    made = TaskPool(reactor, 2, 32 << 20)
    yield made
    Deferred.fromCoroutine(made.close())


async def failure_of(called: Deferred) -> BaseException:
    """What a call fails with."""
    with pytest.raises(errors.TroughError) as raised:
        await called
    return raised.value


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("", IDS),
        ("^3000", ["300001", "300002"]),
        ("ait", ["ait-1"]),
        ("^a.*1$", ["ait-1"]),
        ("(ait|AIT)-1", ["ait-1", "AIT-1"]),
        (r"\d{6}", ["300001", "300002"]),
        ("nothing", []),
    ],
)
@ensureDeferred
async def test_patterns_are_searched_for(pool, pattern, matched):
    """A pattern is found anywhere in an id, case matters, and order is kept."""
    assert await patterns.matching(pool, pattern, IDS) == matched


@ensureDeferred
async def test_ids_beyond_a_portion_are_found(pool, monkeypatch):
    """Portions are put together in the order of the ids."""
    monkeypatch.setattr(patterns, "PORTION", 7)
    ids = [str(number) for number in range(100)]
    assert await patterns.matching(pool, "5$", ids) == [each for each in ids if each[-1] == "5"]


@ensureDeferred
async def test_what_is_no_pattern_is_named(pool):
    """A broken pattern is the caller's mistake, with ids and without."""
    for ids in (IDS, []):
        with pytest.raises(errors.BadRequest, match=r"not a regular expression: '\(a'"):
            await patterns.matching(pool, "(a", ids)


@ensureDeferred
async def test_a_long_pattern_is_refused(pool):
    """It says how long a pattern may be."""
    with pytest.raises(errors.BadRequest, match="a pattern of 1001 characters") as refusal:
        await patterns.matching(pool, "x" * 1001, IDS)
    assert "1000" in refusal.value.hint


@ensureDeferred
async def test_endless_calls_delay_others_by_their_slices_only(pool, monkeypatch):
    """Many of them, each another one, and all of them are told why they ended."""
    monkeypatch.setattr(patterns, "PORTION_SECONDS", 0.5)
    evil = [
        Deferred.fromCoroutine(patterns.matching(pool, f"{EVIL}|x{number}", [VICTIM]))
        for number in range(2)
    ]
    evil += [
        Deferred.fromCoroutine(patterns.matching(pool, f"{SLOW_TO_COMPILE}{number}", IDS))
        for number in range(2)
    ]
    assert await patterns.matching(pool, "^ait", IDS) == ["ait-1"]
    assert not any(each.called for each in evil)
    for each in evil:
        told = await failure_of(each)
        assert isinstance(told, errors.DeadlineExceeded), told
        assert "simplify the pattern" in told.hint


@ensureDeferred
async def test_a_function_of_sql_that_cannot_be_interrupted_is_killed(pool):
    """SQLite looks at no clock in the midst of one; other schemas are tried meanwhile."""
    long = "CREATE TABLE t AS SELECT instr(zeroblob(9000000), zeroblob(1000000) || x'01')"
    killed = pool.run(0.5, check_schema, long)
    await pool.run(1.0, check_schema, "CREATE TABLE t(a)")
    assert isinstance(await failure_of(killed), errors.DeadlineExceeded)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(500000000))", "more memory"),
        (
            "CREATE TABLE t(x); INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL "
            "SELECT n + 1 FROM c) SELECT zeroblob(1000000) FROM c",
            "more memory|64 MiB",
        ),
        ("CREATE TABLE t AS SELECT printf('%.*c', 400000000, 'x')", "more memory"),
        ("CREATE TABLE t AS SELECT replace(hex(zeroblob(4000000)), '0', hex(zeroblob(9)))", "more"),
    ],
)
@ensureDeferred
async def test_memory_is_bounded(pool, schema, reason):
    """It ends with a reason, and the process can go on."""
    with pytest.raises(errors.BadSchema, match=reason):
        await pool.run(3.0, check_schema, schema)
    await pool.run(3.0, check_schema, "CREATE TABLE t(a)")


@ensureDeferred
async def test_cancelling_kills_the_call(pool):
    """The process is gone, and another one answers."""
    evil = Deferred.fromCoroutine(patterns.matching(pool, EVIL, [VICTIM]))
    await patterns.matching(pool, "^ait", IDS)
    evil.addErrback(lambda _: None)
    evil.cancel()
    await until(lambda: pool.status() == {"running": 0, "waiting": 0}, "the end of the process")
    assert await patterns.matching(pool, "^ait", IDS) == ["ait-1"]


@ensureDeferred
async def test_a_process_that_dies_is_replaced(pool):
    """What it did is tried once more, fails then, and may be asked again."""
    with pytest.raises(errors.Unavailable, match="the process died"):
        await pool.run(1.0, os._exit, 1)
    assert await patterns.matching(pool, "^ait", IDS) == ["ait-1"]


@ensureDeferred
async def test_cancelling_hits_no_other_call(pool):
    """A process that is killed for nothing answers no call after its last one."""
    for _ in range(20):
        cancelled = pool.run(1.0, patterns.matching_portion, "x", IDS)
        others = [pool.run(1.0, patterns.matching_portion, "^ait", IDS) for _ in range(3)]
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        assert await gatherResults(others) == [("ait-1",)] * 3


@ensureDeferred
async def test_a_long_call_gives_way_to_short_work(pool):
    """Its process has a lower priority until it ends, and another call has the usual one."""
    if not core_priority.can_raise():
        pytest.skip("priority cannot be raised again here: RLIMIT_NICE is below 20")

    def priorities(processes):
        return [os.getpriority(os.PRIO_PROCESS, each._process.pid) for each in processes]

    endless = pool.run(60.0, patterns.matching_portion, EVIL, [VICTIM])
    endless.addErrback(lambda _: None)
    await until(lambda: priorities(pool._busy) == [core_priority.LOWERED], "it to be lowered")
    assert await patterns.matching(pool, "^ait", IDS) == ["ait-1"]
    assert priorities(pool._idle) == [0]
    endless.cancel()
    # More than its first slice on most machines, and not endless.
    assert await pool.run(60.0, patterns.matching_portion, "(x+x+)+y", ["x" * 24]) == ()
    assert set(priorities(pool._idle)) == {0}


@ensureDeferred
async def test_closing_ends_everything():
    """Calls that run, calls that wait, and later ones."""
    pool = TaskPool(reactor, 1)
    calls = [pool.run(60.0, patterns.matching_portion, EVIL, [VICTIM]) for _ in range(3)]
    waiting = gatherResults([failure_and_type(each) for each in calls])
    await pool.close()
    calls_after = failure_and_type(pool.run(1.0, patterns.matching_portion, "", []))
    assert {*await waiting, await calls_after} == {errors.Cancelled}


def failure_and_type(called: Deferred) -> Deferred:
    return called.addErrback(lambda failure: failure.type)


@ensureDeferred
async def test_a_task_takes_no_module_from_where_it_is_started(pool, monkeypatch, tmp_path: Path):
    """A file called like one of Python's own, where somebody happens to be, is not run."""
    (tmp_path / "marshal.py").write_text("raise SystemExit('not the one that was meant')")
    (tmp_path / "socket.py").write_text("raise SystemExit('not the one that was meant')")
    monkeypatch.chdir(tmp_path)
    assert await patterns.matching(pool, "^(ait|AIT)", IDS) == ["ait-1", "AIT-1"]


@ensureDeferred
async def test_no_process_is_told_as_such(pool, monkeypatch, tmp_path: Path):
    """As where a limit on processes or open files is reached; it may pass."""
    with monkeypatch.context() as limited:
        limited.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(errors.Unavailable, match="no process can be started"):
            await patterns.matching(pool, EVIL, IDS)
    assert await patterns.matching(pool, "^ait", IDS) == ["ait-1"]
