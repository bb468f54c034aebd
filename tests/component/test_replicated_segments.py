"""Segments whose WAL is replicated, written by executors: positions, checkpoints, kills."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import pytest_twisted
from executor_pools import answer, kill, pids, running_pool, write, written
from segments_on_disk import content, make_segment
from twisted.internet.defer import gatherResults

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Outcome, Target
from trough.replication.holder_log import WalReader
from trough.replication.shadow import Shadow

ensure = pytest_twisted.ensureDeferred
INSERT = "INSERT INTO crawled_url(url) VALUES(?)"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target("1", make_segment(tmp_path / "1.sqlite", 3), 1, True)


async def begin(pool: ExecutorPool, target: Target) -> WalReader:
    """Have a segment be replicated from now on."""
    await pool.make_writable(target)
    await pool.begin_log(target)
    return WalReader(Path(target.path))


@ensure
async def test_a_commit_is_reported_before_its_writes(target: Target) -> None:
    """The sender of the log is called before the disk is flushed."""
    async with running_pool() as pool:
        events: list[tuple[str, int | None]] = []
        pool.when_committed = lambda segment, generation, end: events.append((segment, end))
        with closing(await begin(pool, target)) as log:
            for _ in range(3):
                outcome = await written(pool, target, INSERT, ("x",))
                events.append(("written", outcome.position))
            ends = [end for name, end in events if name == "1"]
            assert [name for name, _ in events] == ["1", "written"] * 3
            assert [end for name, end in events if name == "written"] == ends
            assert sorted(set(ends)) == ends
            assert log.end() == ends[-1]


@ensure
async def test_a_segment_without_a_log_has_no_positions(target: Target) -> None:
    """Nothing is reported, and the writes are answered as ever."""
    async with running_pool() as pool:
        commits: list[int] = []
        pool.when_committed = lambda segment, generation, end: commits.append(end)
        await pool.make_writable(target)
        assert (await written(pool, target, INSERT, ("x",))).position is None
        assert commits == []


@ensure
async def test_a_checkpoint_is_made_when_it_is_ordered(target: Target) -> None:
    """And refused at any other position than the end of the log."""
    async with running_pool() as pool:
        with closing(await begin(pool, target)) as log:
            first = (await written(pool, target, INSERT, ("x",))).position
            last = (await written(pool, target, INSERT, ("y",))).position
            assert first is not None
            assert last is not None
            with pytest.raises(errors.Unavailable, match="acknowledged up to"):
                await pool.checkpoint_log(target, first)
            await pool.checkpoint_log(target, last)
            assert Path(f"{target.path}-wal").stat().st_size == 0
            assert log.end() == last
            after = (await written(pool, target, INSERT, ("z",))).position
            assert after is not None
            assert after > last
            text, _ = await answer(pool, target, "SELECT count(*) FROM crawled_url")
            assert "[6]" in text


@ensure
async def test_a_retired_segment_is_one_file(target: Target) -> None:
    """Its log ends, and a later one begins at nothing."""
    async with running_pool() as pool:
        (await begin(pool, target)).close()
        assert (await written(pool, target, INSERT, ("x",))).position
        await pool.retire(target)
        assert [path.name for path in Path(target.path).parent.iterdir()] == ["1.sqlite"]
        with closing(await begin(pool, target)) as log:
            assert log.end() == 0


@ensure
async def test_a_log_that_breaks_is_reported(target: Target) -> None:
    """The write that finds the broken log reports it to the holder, as does each later one."""
    async with running_pool() as pool:
        broken: list[tuple[str, int, str]] = []
        pool.when_log_broken = lambda *report: broken.append(report)
        (await begin(pool, target)).close()
        await written(pool, target, INSERT, ("x",))
        assert broken == []
        Path(f"{target.path}-wal").unlink()
        for kind in (errors.OutcomeUnknown, errors.LogBroken):
            outcome = await written(pool, target, INSERT, ("y",))
            assert isinstance(outcome.error, kind)
        assert {report[:2] for report in broken} == {("1", 1)}
        assert len(broken) == 2
        assert "removed or replaced" in broken[0][2]


class Replica:
    """A follower that is sent each commit at once.

    :ivar acknowledged: URLs of the writes that are on both disks
    """

    def __init__(self, log: WalReader, directory: Path) -> None:
        self.log = log
        self.follower = Shadow(directory, reserve=0)
        for part in log.base(log.end()):
            self.follower.add_base(part)
        self.acknowledged: list[str] = []

    def committed(self, segment: str, generation: int, end: int) -> None:
        while self.follower.end < end:
            self.follower.append(self.log.read(self.follower.end, end, 1 << 14))

    def noting(self, url: str) -> Callable[[Outcome], Outcome]:
        """Takes the outcome of the write of `url`."""

        def ended(outcome: Outcome) -> Outcome:
            if outcome.error is None:
                assert outcome.position is not None
                assert outcome.position <= self.follower.end
                self.acknowledged.append(url)
            else:
                assert isinstance(outcome.error, errors.Unavailable)
            return outcome

        return ended


@ensure
async def test_killed_executors_lose_nothing_that_was_acknowledged(
    target: Target, tmp_path: Path
) -> None:
    """The executor that writes is killed while it commits; the follower takes over at the end."""
    chance = random.Random(3)
    async with running_pool() as pool:
        log = await begin(pool, target)
        with closing(log):
            replica = Replica(log, tmp_path / "copy")
            pool.when_committed = replica.committed
            for number in range(12):
                writes = []
                for each in range(40):
                    url = f"http://example.org/{number}/{each}"
                    collected = write(pool, target, INSERT, (url + "x" * chance.randint(0, 3000),))
                    collected.outcome.addCallback(replica.noting(url))
                    writes.append(collected)
                if number % 3:
                    await writes[chance.randint(0, 20)].outcome
                    for pid in pids(pool, "write"):
                        kill(pid)
                await gatherResults([each.outcome for each in writes])
                end = log.end()
                replica.committed("1", 1, end)
                if number % 2:
                    with suppress(errors.Unavailable):  # killed a moment ago, and not missed yet
                        await pool.checkpoint_log(target, end)
            taken = tmp_path / "taken.sqlite"
            assert replica.follower.take_over(taken) == log.end()
    rows = [url for (url,) in content(taken, "SELECT rtrim(url, 'x') FROM crawled_url")]
    assert len(replica.acknowledged) > 100
    assert [url for url in replica.acknowledged if rows.count(url) != 1] == []
    assert rows == [u for (u,) in content(target.path, "SELECT rtrim(url, 'x') FROM crawled_url")]
