"""What a worker publishes, what it does not, and what becomes of unanswered promotions."""

import shutil
import sqlite3
import time
from contextlib import closing

import pytest
import pytest_twisted
from segments_on_disk import damage
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from waiting import until
from worker_parts import running_worker

from trough import errors
from trough.model import canonical_path
from trough.worker.auto_promotion import AutoPromotion
from trough.worker.unpromoted import Unpromoted


def rows_of(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT n FROM t").fetchall()


@pytest_twisted.ensureDeferred
async def test_a_rename_that_is_carried_out_late_is_known_for_the_workers_own(tmp_path):
    """As by a NameNode that stood still: the next promotion is on its way by then. It fails,
    and the one after it succeeds; nothing goes aside."""
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        canonical = worker.canonical / canonical_path("300001")
        publish, late = worker.storage.publish, tmp_path / "late"

        async def unanswered(source, *rest):
            shutil.copy(source, late)
            raise errors.Unavailable("no answer")

        async def meanwhile(*args):
            late.replace(canonical)
            return await publish(*args)

        for number, way, error in (
            (1, unanswered, errors.Unavailable),
            (2, meanwhile, errors.Conflict),
        ):
            await worker.written("300001", f"INSERT INTO t VALUES ({number})")
            worker.storage.publish = way
            with pytest.raises(error):
                await worker.controller.promote("300001")
        worker.storage.publish = publish
        assert not await worker.segments.is_overwritten(await worker.storage.find("300001"))
        await worker.written("300001", "INSERT INTO t VALUES (3)")
        await worker.controller.promote("300001")
        assert worker.segments.aside() == []
        assert worker.segments.get("300001").entry.publishing == ""


@pytest_twisted.ensureDeferred
async def test_a_damaged_copy_does_not_replace_the_canonical_one(tmp_path):
    """Its bytes can be copied all the same; the promotion is refused, what is damaged goes
    aside whole, and the segment can be written again as last promoted."""
    fill = "INSERT INTO t WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i LIMIT {}) "
    async with running_worker(tmp_path) as worker:
        await worker.writable("300001")
        await worker.written("300001", fill.format(100_000) + "SELECT n FROM i")
        await worker.pool.forget("300001")
        damage(worker.segments.get("300001").target.path, 50, 51)
        with pytest.raises(errors.CorruptSegment, match=r"300001.* is damaged"):
            await worker.controller.promote("300001")
        assert rows_of(worker.canonical / canonical_path("300001")) == [(0,)]
        assert len(worker.segments.aside()) == 1
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        await worker.controller.promote("300001")
        assert rows_of(worker.canonical / canonical_path("300001")) == [(0,), (1,)]


@pytest_twisted.ensureDeferred
async def test_rows_that_break_a_constraint_are_no_damage(tmp_path):
    """They came to be before the constraint, or in another program, and are promoted."""
    make = (
        "CREATE TABLE t (n NOT NULL CHECK (n < 5)); PRAGMA ignore_check_constraints = 1;"
        "INSERT INTO t VALUES (9)"
    )
    path = tmp_path / "canonical" / canonical_path("300001")
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(make)
    async with running_worker(tmp_path) as worker:
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "INSERT INTO t VALUES (1)")
        await worker.controller.promote("300001")
        assert rows_of(path) == [(9,), (1,)]


@pytest_twisted.ensureDeferred
async def test_what_nobody_promotes_is_promoted_after_a_time(tmp_path):
    """Without a client, and again after each further write; how long it waited is kept."""
    async with running_worker(tmp_path, promote_after=0.2) as worker:
        await worker.controller.provision("300001", "default")
        await worker.written("300001", "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        entry = worker.segments.get("300001").entry
        canonical = worker.canonical / canonical_path("300001")
        for number in (0, 1):
            await until(lambda: not entry.unpromoted, "the promotion")
            assert entry.dirty_since == 0.0
            assert rows_of(canonical)[-1] == (number,)
            await worker.written("300001", f"INSERT INTO t VALUES ({number + 1})")


@pytest_twisted.ensureDeferred
async def test_nothing_is_promoted_before_its_time(tmp_path):
    """The oldest is due first; what was promoted is not due."""
    async with running_worker(tmp_path) as worker:
        for segment in ("old", "older", "promoted"):
            await worker.writable(segment)
            await worker.written(segment, "INSERT INTO t VALUES (1)")
        worker.segments.get("older").entry.dirty_since -= 50
        worker.segments.get("old").entry.dirty_since -= 20
        await worker.controller.promote("promoted")
        now = time.time()
        promoting = AutoPromotion(
            worker.segments, worker.controller.promote, lambda: True, 30.0, reactor
        )
        assert promoting.due(now) == ["older"]
        assert promoting.due(now + 20) == ["older", "old"]
        assert promoting.due(now + 1000) == ["older", "old"]


@pytest_twisted.ensureDeferred
async def test_a_promotion_that_failed_is_a_trouble_until_one_succeeds(tmp_path):
    """Also one that a client ordered, and long before the worker promotes by itself."""
    async with running_worker(tmp_path) as worker:
        troubles = worker.controller.failed_promotions
        publish = worker.storage.publish

        async def refused(*args):
            raise errors.Unavailable("storage is away")

        for segment in ("300001", "300002"):
            await worker.writable(segment)
            await worker.written(segment, "INSERT INTO t VALUES (1)")
        worker.storage.publish = refused
        for segment in ("300001", "300002"):
            with pytest.raises(errors.Unavailable, match="storage is away"):
                await worker.controller.promote(segment)
        assert troubles.trouble == "2 segments cannot be promoted (see Promotions fail)"
        with pytest.raises(errors.TroughError):
            await worker.controller.promote("not a segment/")
        worker.storage.publish = publish
        await worker.controller.promote("300001")
        assert troubles.trouble == "1 segment cannot be promoted (see Promotions fail)"
        await worker.controller.promote("300002")
        assert troubles.trouble == ""


@pytest_twisted.ensureDeferred
async def test_what_waits_for_a_promotion_is_counted(tmp_path):
    """With bytes and the oldest age; an operator hears of what has waited far too long."""
    async with running_worker(tmp_path) as worker:
        assert Unpromoted(worker.segments, lambda: True, 30.0, reactor).status() == {
            "count": 0,
            "bytes": 0,
            "oldest": None,
        }
        for segment in ("old", "older", "promoted"):
            await worker.writable(segment)
            await worker.written(segment, "INSERT INTO t VALUES (1)")
        await worker.controller.promote("promoted")
        oldest = worker.segments.get("older").entry.dirty_since = 1000.0
        unpromoted = Unpromoted(worker.segments, lambda: True, 30.0, reactor)
        unpromoted.startService()
        try:
            await until(lambda: unpromoted.bytes, "a look at the files")
        finally:
            await maybeDeferred(unpromoted.stopService)
        expected = await worker.segments.size_of("old") + await worker.segments.size_of("older")
        assert unpromoted.status() == {"count": 2, "bytes": expected, "oldest": oldest}
        waiting = unpromoted.waiting()
        assert unpromoted.trouble(waiting, oldest + 120) == ""
        assert unpromoted.trouble(waiting, oldest + 121) == (
            "writes have waited for a promotion since 1970-01-01 00:16 UTC (see Promotions fail)"
        )
        never = Unpromoted(worker.segments, lambda: True, 0.0, reactor)
        assert never.trouble(waiting, oldest + 10**6) == ""
        told = (await worker.controller.status())["unpromoted"]
        assert (told["count"], told["oldest"]) == (2, oldest)
        await until_beat(worker, oldest)


async def until_beat(worker, oldest):
    """Wait until the worker's row says since when its oldest write waits."""

    async def seen():
        rows = await worker.controller.metadata.workers()
        return [(row.unpromoted, row.unpromoted_since) for row in rows] == [(2, oldest)]

    await until(seen, "the heartbeat")
