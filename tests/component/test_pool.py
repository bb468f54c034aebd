"""The pool: reads, writes and files by way of executors, and its limits."""

import json
import os
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import (
    ENDLESS,
    LIMITS,
    answer,
    ask,
    pids,
    running_pool,
    write,
    written,
)
from msgspec.structs import replace
from segments_on_disk import SCHEMA, content, damage, make_segment
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from waiting import until

from trough import errors
from trough.executors.child.tasks import SIDE_BY_SIDE
from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, ReadLimits, Target

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def targets(tmp_path):
    """Three small segments."""
    return [Target(n, make_segment(tmp_path / f"{n}.sqlite", 5), 1, False) for n in "abc"]


@pytest.fixture
def large(tmp_path):
    """A segment of some megabytes."""
    return Target("large", make_segment(tmp_path / "large.sqlite", 100_000), 1, False)


# -- reading --------------------------------------------------------------------------


@ensure
async def test_one_segment_in_lines_and_in_objects(targets):
    """The bytes are finished, and the outcome counts."""
    async with running_pool() as pool:
        text = "SELECT id, url FROM crawled_url WHERE id < ?"
        lines, outcome = await answer(pool, targets[0], text, (2,))
        assert lines == (
            't COLS a ["id","url"]\n'
            't ROWS a [[0,"http://example.org/0"],[1,"http://example.org/1"]]\n'
            "t DONE a 2\n"
        )
        assert outcome == Outcome(segments=1, rows=2)
        text = "SELECT id FROM crawled_url WHERE id < :n"
        objects, outcome = await answer(pool, targets[0], text, {"n": 2}, framing=Framing.OBJECTS)
        assert objects == '[{"id":0},\n{"id":1}]\n'
        assert outcome == Outcome(segments=1, rows=2)
        objects, outcome = await answer(pool, targets[0], text, {"n": -2}, framing=Framing.OBJECTS)
        assert (objects, outcome) == ("[]\n", Outcome(segments=1))


@ensure
async def test_many_segments_each_with_its_end(targets, tmp_path):
    """One that is missing and one that is damaged fail for themselves."""
    damage(targets[1].path, 0, 1)
    missing = Target("m", str(tmp_path / "m.sqlite"), 1, False)
    async with running_pool() as pool:
        text, outcome = await answer(
            pool, [*targets, missing], "SELECT id FROM crawled_url ORDER BY 1"
        )
    lines = text.splitlines()
    assert [line for line in lines if " ROWS a " in line] == ["t ROWS a [[0],[1],[2],[3],[4]]"]
    assert any(line.startswith("t FAIL b corrupt b.sqlite is damaged") for line in lines)
    assert any(line.startswith("t FAIL m corrupt ") for line in lines)
    assert "t DONE c 5" in lines
    assert sorted(outcome.corrupt) == ["b", "m"]
    assert outcome == Outcome(segments=4, failed=2, rows=10, corrupt=outcome.corrupt)


@ensure
async def test_one_damaged_segment_is_told_in_either_framing(targets):
    """By name, so that its copy can be replaced."""
    damage(targets[0].path, 0, 1)
    told = []
    async with running_pool() as pool:
        pool.when_damaged = told.append
        text, outcome = await answer(pool, targets[0], "SELECT * FROM crawled_url")
        assert text.startswith("t FAIL a corrupt ")
        assert outcome == Outcome(segments=1, failed=1, corrupt=("a",))
        text, outcome = await answer(
            pool, targets[0], "SELECT * FROM crawled_url", framing=Framing.OBJECTS
        )
        assert (text, outcome.failed, outcome.corrupt) == ("", 1, ("a",))
        assert told == [("a",), ("a",)]
        assert isinstance(outcome.error, errors.CorruptSegment)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", errors.BadSql),
        (b"SELECT \xff", errors.BadSql),
        ("SELECT \0", errors.BadSql),
        ("DROP TABLE crawled_url", errors.ForbiddenSql),
        ("ATTACH 'x' AS y", errors.ForbiddenSql),
    ],
)
@ensure
async def test_what_is_wrong_with_the_text_is_told_once(targets, text, error):
    """As the error of the whole request, however many segments it was for."""
    async with running_pool() as pool:
        for asked in (targets[:1], targets):
            told, outcome = await answer(pool, asked, text)
            assert told == ""
            assert type(outcome.error) is error
            assert outcome.failed == outcome.segments == len(asked)


@ensure
async def test_mistakes_that_only_sqlite_finds_are_told_by_segment(targets):
    """For another one it may be right; objects have no other place than the outcome."""
    async with running_pool() as pool:
        text, outcome = await answer(pool, targets, "SELECT * FROM nowhere")
        assert text.count("bad-sql no such table: nowhere") == 3
        assert outcome == Outcome(segments=3, failed=3)
        text, outcome = await answer(
            pool, targets[0], "SELECT * FROM nowhere", framing=Framing.OBJECTS
        )
        assert (text, str(outcome.error)) == ("", "no such table: nowhere")


@ensure
async def test_no_segment_at_all_is_an_end_at_once(targets):
    """But not before the call has returned."""
    async with running_pool() as pool:
        asked = ask(pool, [], "SELECT 1")
        assert asked.ends == []
        assert await asked.outcome == Outcome()


@ensure
async def test_parameters_that_do_not_travel_are_refused_at_once(targets):
    """Before anything is sent."""
    async with running_pool() as pool:
        for parameters in ([object()], {"a": []}, ((1, 2),)):
            with pytest.raises(errors.BadRequest, match="parameter of type"):
                ask(pool, targets, "SELECT ?", parameters)
        text, _ = await answer(pool, targets[0], "SELECT ?, ?, ?", [True, None, b"\x00"])
        assert '[[1,null,{"blob":"AA=="}]]' in text
        _, outcome = await answer(pool, targets[0], "SELECT ?", (2**70,))
        assert outcome.failed == 1


@ensure
async def test_a_limit_of_rows_is_for_each_segment(targets):
    """Those within it are answered."""
    async with running_pool() as pool:
        limits = ReadLimits(60, rows=3)
        text, outcome = await answer(
            pool, targets, "SELECT id FROM crawled_url LIMIT 4", limits=limits
        )
        assert text.count(" limit the answer has more than 3 rows") == 3
        assert outcome.failed == 3
        _, outcome = await answer(
            pool, targets, "SELECT id FROM crawled_url LIMIT 3", limits=limits
        )
        assert outcome == Outcome(segments=3, rows=9)


@ensure
async def test_a_large_answer_is_whole(large):
    """In either framing; and what it is made of is bounded."""
    expected = content(large.path)
    async with running_pool() as pool:
        asked = ask(pool, large, "SELECT * FROM crawled_url", framing=Framing.OBJECTS)
        assert await asked.outcome == Outcome(segments=1, rows=100_000)
        assert [tuple(each.values()) for each in json.loads(asked.text)] == expected
        assert max(map(len, asked.chunks)) < 1_000_000
        text, _ = await answer(pool, large, "SELECT * FROM crawled_url")
    found = [
        tuple(row)
        for line in text.splitlines()
        if " ROWS " in line
        for row in json.loads(line.split(" ", 3)[3])
    ]
    assert found == expected


@ensure
async def test_a_receiver_that_does_not_read_is_sent_a_bounded_amount(large):
    """And holds up nobody; it goes on where it was."""
    async with running_pool(executors=1) as pool:
        slow = ask(pool, large, "SELECT * FROM crawled_url")
        slow.job.pause()
        await slow.first
        for _ in range(20):
            _, outcome = await answer(pool, large, "SELECT count(*) FROM crawled_url")
            assert outcome.rows == 1
        assert slow.size < 1_500_000
        assert slow.ends == []
        slow.job.resume()
        assert await slow.outcome == Outcome(segments=1, rows=100_000)


@ensure
async def test_a_receiver_that_never_reads_is_ended_at_its_deadline(large):
    """Whatever it asked."""
    async with running_pool() as pool:
        slow = ask(pool, large, "SELECT * FROM crawled_url", limits=ReadLimits(0.3))
        slow.job.pause()
        outcome = await slow.outcome
        assert outcome.failed == 1
        # On a busy machine the executor may not even have started.
        late = isinstance(outcome.error, errors.DeadlineExceeded)
        assert late or "t FAIL large timeout " in slow.text


@pytest.mark.parametrize("framing", Framing)
@ensure
async def test_a_deadline_ends_an_endless_query(targets, framing):
    """The executor stays the same; another one may have been started for short queries."""
    async with running_pool(executors=1) as pool:
        before = pids(pool)
        text, outcome = await answer(
            pool, targets[0], ENDLESS, limits=ReadLimits(0.3), framing=framing
        )
        assert outcome.failed == 1
        assert isinstance(outcome.error, errors.DeadlineExceeded) or " timeout " in text
        assert set(before) <= set(pids(pool))


@ensure
async def test_a_cancelled_query_is_over_at_once(targets, large):
    """Its receiver is told before the call returns, and once."""
    async with running_pool(executors=1) as pool:
        for text, target in ((ENDLESS, targets[0]), ("SELECT * FROM crawled_url", large)):
            asked = ask(pool, target, text)
            if target is large:
                await asked.first
            asked.job.cancel()
            (outcome,) = asked.ends
            assert isinstance(outcome.error, errors.Cancelled)
            asked.job.cancel()
            asked.job.pause()
            asked.job.resume()
            assert len(asked.ends) == 1
            _, outcome = await answer(pool, targets[0], "SELECT 1")
            assert outcome.rows == 1


@ensure
async def test_a_thousand_cancelled_jobs_leave_nothing_behind(large):
    """Neither connections nor memory; the next query is answered."""
    async with running_pool(executors=1, max_executors=1) as pool:
        for _ in range(5):
            jobs = [ask(pool, large, "SELECT * FROM crawled_url") for _ in range(200)]
            await jobs[0].first
            for each in jobs:
                each.job.cancel()
        _, outcome = await answer(pool, large, "SELECT 1")
        assert outcome.rows == 1
        (pid,) = pids(pool)
        files = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
        assert len(files) < 20
        assert pool.status()["queries"] == 0


@ensure
async def test_a_receiver_that_raises_harms_nobody_else(targets):
    """It is logged; the others have their answers."""
    async with running_pool() as pool:
        bad = ask(pool, targets[0], "SELECT 1")
        bad.data = bad.finished = lambda _: 1 / 0
        _, outcome = await answer(pool, targets, "SELECT 1")
        assert outcome.rows == 3


@ensure
async def test_a_replaced_file_is_read_by_its_new_generation(targets, tmp_path):
    """Kept connections are on the old one."""
    async with running_pool(executors=1) as pool:
        count = "SELECT count(*) FROM crawled_url"
        text, _ = await answer(pool, targets[0], count)
        assert "[[5]]" in text
        os.replace(make_segment(tmp_path / "new.sqlite", 7), targets[0].path)  # noqa: PTH105
        new = Target("a", targets[0].path, 2, False)
        text, _ = await answer(pool, new, count)
        assert "[[7]]" in text


@ensure
async def test_forgotten_segments_are_closed_everywhere(targets):
    """Also where a query has to end first."""
    async with running_pool() as pool:
        await gatherResults([ask(pool, t, "SELECT 1").outcome for t in targets * 50])
        assert _open(pool, targets[0].path)
        for target in targets:
            await pool.forget(target.segment)
            assert not _open(pool, target.path)


def _open(pool, path):
    links = [link for pid in pids(pool, "") for link in Path(f"/proc/{pid}/fd").iterdir()]
    return any(path in str(link.readlink()) for link in links)


# -- writing --------------------------------------------------------------------------


@ensure
async def test_a_segment_from_its_making_to_its_retirement(tmp_path):
    """Made, written, read while it is written, copied, checked, retired, read."""
    path = str(tmp_path / "s.sqlite")
    target = Target("s", path, 1, True)
    async with running_pool() as pool:
        await pool.create(target, SCHEMA)
        assert await written(pool, target, "INSERT INTO crawled_url(id) VALUES(1), (2)") == (
            Outcome(segments=1, changes=2)
        )
        text, _ = await answer(pool, target, "SELECT count(*) FROM crawled_url")
        assert "[[2]]" in text
        await pool.snapshot(target, str(tmp_path / "copy.sqlite"))
        await pool.check(target)
        assert content(tmp_path / "copy.sqlite") == content(path)
        await pool.retire(target)
        assert sorted(os.listdir(tmp_path)) == ["copy.sqlite", "s.sqlite"]  # noqa: PTH208
        still = Target("s", path, 2, False)
        text, _ = await answer(pool, still, "SELECT count(*) FROM crawled_url")
        assert "[[2]]" in text
        again = Target("s", path, 3, True)
        await pool.make_writable(again)
        assert (await written(pool, again, "DELETE FROM crawled_url")).changes == 2
        text, _ = await answer(pool, again, "SELECT count(*) FROM crawled_url")
        assert "[[0]]" in text


async def writable(pool, tmp_path, name="s"):
    """A new segment that can be written."""
    target = Target(name, str(tmp_path / f"{name}.sqlite"), 1, True)
    await pool.create(target, SCHEMA)
    return target


@ensure
async def test_a_thousand_writes_at_once_are_all_there(tmp_path):
    """Those that fail leave nothing; each has its own outcome."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        texts = [
            f"INSERT INTO crawled_url(id) VALUES({n})"
            + ("; INSERT INTO crawled_url(id) VALUES(0)" if n % 10 == 3 else "")
            for n in range(1_000)
        ]
        outcomes = await gatherResults([write(pool, target, text).outcome for text in texts])
        bad = [n for n, outcome in enumerate(outcomes) if outcome.failed]
        assert bad == list(range(3, 1_000, 10))
        assert all(isinstance(outcomes[n].error, errors.BadSql) for n in bad)
        assert [row[0] for row in content(target.path)] == [n for n in range(1_000) if n % 10 != 3]


@ensure
async def test_writes_of_one_segment_are_applied_in_their_order(tmp_path):
    """As they were handed to the pool, whatever else goes on."""
    async with running_pool(write_executors=2) as pool:
        segments = [await writable(pool, tmp_path, name) for name in "abcd"]
        jobs = [
            write(pool, target, f"INSERT INTO crawled_url(url) VALUES('{n}')")
            for n in range(200)
            for target in segments
        ]
        await gatherResults([job.outcome for job in jobs])
        for target in segments:
            query = "SELECT url FROM crawled_url ORDER BY rowid"
            assert [url for (url,) in content(target.path, query)] == list(map(str, range(200)))


@ensure
async def test_a_read_after_a_write_sees_it(tmp_path):
    """Each time, wherever it is read."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        for n in range(30):
            await written(pool, target, f"INSERT INTO crawled_url(id) VALUES({n})")
            reads = [ask(pool, target, "SELECT max(id) FROM crawled_url") for _ in range(3)]
            await gatherResults([read.outcome for read in reads])
            assert all(f"[[{n}]]" in read.text for read in reads)


@ensure
async def test_a_write_can_be_cancelled_until_it_is_committed(tmp_path):
    """Its outcome says which it was, and the segment agrees."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        endless = (
            "INSERT INTO crawled_url(id) WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        )
        running = write(pool, target, endless)
        waiting = write(pool, target, "INSERT INTO crawled_url(id) VALUES(-1)")
        last = write(pool, target, "INSERT INTO crawled_url(id) VALUES(-2)")
        await until(lambda: pool.status()["executors"][2]["held_up"], "the write to run")
        waiting.job.cancel()
        running.job.cancel()
        for each in (running, waiting):
            assert isinstance((await each.outcome).error, errors.Cancelled)
        assert (await last.outcome).changes == 1
        last.job.cancel()
        assert content(target.path) == [(-2, None, None, None)]


@ensure
async def test_a_write_ends_at_its_deadline(tmp_path):
    """And leaves nothing; those behind it are applied."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        endless = f"INSERT INTO crawled_url(id) {ENDLESS}"
        late = write(pool, target, endless, limits=ReadLimits(0.3))
        behind = write(pool, target, "INSERT INTO crawled_url(id) VALUES(-2)")
        assert isinstance((await late.outcome).error, errors.DeadlineExceeded)
        assert (await behind.outcome).changes == 1


@ensure
async def test_a_query_comes_late_to_a_segment_that_became_writable(targets, large):
    """It asks what became of the file, though it was asked before; the change need not wait."""
    before = [replace(large, segment=f"large-{n}") for n in range(SIDE_BY_SIDE)]
    async with running_pool(executors=1, max_executors=1) as pool:
        slow = ask(pool, [*before, *targets], "SELECT id FROM crawled_url")
        slow.job.pause()
        await slow.first
        target = replace(targets[1], generation=2, writable=True)
        await pool.make_writable(target)
        # Taken back from an executor that rests, and asked again; without that, only at the end.
        await until(lambda: "t DONE b 5\n" in slow.text, "what was taken back")
        slow.job.resume()
        outcome = await slow.outcome
    assert slow.text.count("t DONE b ") == 1
    assert outcome == Outcome(segments=7, rows=len(before) * 100_000 + 15)


@ensure
async def test_a_query_that_waits_for_a_change_can_be_cancelled(targets, large):
    """What it waited for goes on, and nothing is told after its end."""
    before = [replace(large, segment=f"large-{n}") for n in range(SIDE_BY_SIDE)]
    async with running_pool(executors=1, max_executors=1) as pool:
        slow = ask(pool, [*before, *targets], "SELECT id FROM crawled_url")
        slow.job.pause()
        await slow.first
        target = replace(targets[1], generation=2, writable=True)
        changing = pool.make_writable(target)
        slow.job.cancel()
        await changing
        (outcome,) = slow.ends
        assert isinstance(outcome.error, errors.Cancelled)
        text, _ = await answer(pool, target, "SELECT count(*) FROM crawled_url")
        assert "t ROWS b [[5]]" in text


@ensure
async def test_a_damaged_segment_is_told_by_a_write(tmp_path):
    """By name, so that whoever can may do something about it."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        await pool.forget("s")
        damage(target.path, 0, 1)
        told = []
        pool.when_damaged = told.append
        outcome = await written(pool, target, "DELETE FROM crawled_url")
        assert isinstance(outcome.error, errors.CorruptSegment)
        assert outcome.corrupt == ("s",)
        assert told == [("s",)]
        with pytest.raises(errors.CorruptSegment):
            await pool.check(target)


@ensure
async def test_a_schema_that_does_not_run_makes_no_segment(tmp_path):
    """Nor does one over a file that is there."""
    async with running_pool() as pool:
        target = Target("s", str(tmp_path / "s.sqlite"), 1, True)
        with pytest.raises(errors.BadSchema):
            await pool.create(target, "CREATE TABLE a(b); nonsense")
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        await pool.create(target, "")
        with pytest.raises(errors.Conflict):
            await pool.create(target, "")


@ensure
async def test_reads_wait_while_a_file_changes_its_kind(tmp_path, large):
    """And are asked of it as it is then, with every row of every write."""
    async with running_pool() as pool:
        old = ask(pool, large, "SELECT * FROM crawled_url")
        new = Target("large", large.path, 2, True)
        made = pool.make_writable(new)
        waiting = ask(pool, large, "SELECT count(*) FROM crawled_url")
        both = ask(pool, [large], "SELECT count(*) FROM crawled_url")
        await made
        assert (await old.outcome).rows == 100_000
        assert "[[100000]]" in waiting.text or (await waiting.outcome).rows == 1
        await both.outcome
        await written(pool, new, "DELETE FROM crawled_url WHERE id > 0")
        text, _ = await answer(pool, new, "SELECT count(*) FROM crawled_url")
        assert "[[1]]" in text
        retired = pool.retire(new)
        with pytest.raises(errors.Unavailable, match="being changed"):
            await pool.retire(new)
        text, _ = await answer(pool, new, "SELECT count(*) FROM crawled_url")
        assert "[[1]]" in text
        await retired


@ensure
async def test_a_wal_does_not_grow_without_bound(tmp_path):
    """A reader that rests keeps it from being emptied; afterwards it is."""
    async with running_pool() as pool:
        target = await writable(pool, tmp_path)
        await written(
            pool,
            target,
            "INSERT INTO crawled_url(url) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
            "SELECT i + 1 FROM n LIMIT 50000) SELECT hex(i) FROM n",
        )
        slow = ask(pool, target, "SELECT * FROM crawled_url")
        slow.job.pause()
        await slow.first
        wal = tmp_path / "s.sqlite-wal"
        for n in range(20):
            await written(pool, target, f"UPDATE crawled_url SET size = {n}")
        grown = wal.stat().st_size
        assert grown > 20_000_000
        slow.job.cancel()
        await pool.forget("s")
        for n in range(3):
            await written(pool, target, f"UPDATE crawled_url SET size = {n} WHERE id < 5000")
        assert wal.stat().st_size < 17_000_000


@ensure
async def test_ten_thousand_segments_in_one_request(tmp_path):
    """Each answered once, cold and kept."""
    base = make_segment(tmp_path / "base.sqlite", 20)
    many = []
    for n in range(10_000):
        path = f"{tmp_path}/{n}.sqlite"
        os.link(base, path)
        many.append(Target(str(n), path, 1, False))
    text = "SELECT status_code, count(*) FROM crawled_url GROUP BY 1"
    async with running_pool() as pool:
        for _ in range(2):
            told, outcome = await answer(pool, many, text)
            assert outcome == Outcome(segments=10_000, rows=30_000)
            done = sorted(int(x.split()[2]) for x in told.splitlines() if " DONE " in x)
            assert done == list(range(10_000))


# -- life -----------------------------------------------------------------------------


@ensure
async def test_a_pool_that_does_not_run_refuses(targets):
    """Before its start, and after its end."""
    pool = ExecutorPool(reactor, executors=1)
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            ask(pool, targets, "SELECT 1")
        with pytest.raises(errors.Unavailable):
            write(pool, targets[0], "SELECT 1")
        with pytest.raises(errors.Unavailable):
            await pool.check(targets[0])
        pool.startService()
        await pool.stopService()


@ensure
async def test_stopping_finishes_writes_and_ends_reads(tmp_path, large):
    """No process is left, and nobody waits for ever."""
    pool = ExecutorPool(reactor, executors=1, write_executors=1)
    pool.startService()
    target = await writable(pool, tmp_path)
    await pool.check(target)
    processes = pids(pool, "")
    assert len(processes) == 3
    writes = [write(pool, target, f"INSERT INTO crawled_url(id) VALUES({n})") for n in range(500)]
    endless = ask(pool, large, ENDLESS)
    slow = ask(pool, large, "SELECT * FROM crawled_url")
    slow.job.pause()
    stopped = pool.stopService()
    with pytest.raises(errors.Unavailable):
        write(pool, target, "SELECT 1")
    await stopped
    assert all(each.ends == [Outcome(segments=1, changes=1)] for each in writes)
    assert isinstance(endless.ends[0].error, errors.Cancelled)
    assert len(slow.ends) == 1
    assert len(content(target.path)) == 500
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    pool.startService()
    _, outcome = await answer(pool, large, "SELECT 1")
    assert outcome.rows == 1
    await pool.stopService()


@ensure
async def test_the_status_is_json(targets):
    """With what people want to know of each executor."""
    async with running_pool() as pool:
        await answer(pool, targets, "SELECT 1")
        status = json.loads(json.dumps(pool.status()))
        names = [each["name"] for each in status["executors"]]
        assert names == ["read-1", "read-2", "write-1"]
        assert status["queries"] == status["writes"] == status["restarts"] == 0
        assert all(each["pid"] and each["memory_peak"] > 0 for each in status["executors"])
        assert LIMITS.rows == 0


@ensure
async def test_a_pool_that_stops_says_so_to_whoever_has_files_closed():
    """Once, and as an error of ours: not as one of several that nobody handles."""
    pool = ExecutorPool(reactor, executors=2, write_executors=1)
    pool.startService()
    stopped = pool.stopService()
    with pytest.raises(errors.Unavailable):
        await pool.forget("300001")
    await stopped
