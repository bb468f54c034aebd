"""Executors that cannot be started, or die as soon as they are."""

import os
import resource
import signal
from contextlib import contextmanager

import pytest
import pytest_twisted
from executor_pools import ENDLESS, ask, kill, pids, running_pool, write
from segments_on_disk import SCHEMA, make_segment
from waiting import until

from trough import errors
from trough.executors.pool import supervisor
from trough.executors.pool.pool import ReadLimits, Target

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def targets(tmp_path):
    """Three small segments."""
    base = make_segment(tmp_path / "base.sqlite", 50)
    for n in range(3):
        os.link(base, f"{tmp_path}/{n}.sqlite")
    return [Target(str(n), f"{tmp_path}/{n}.sqlite", 1, False) for n in range(3)]


@pytest.fixture
def written(tmp_path):
    """A segment that is yet to be created, and written."""
    return Target("s", str(tmp_path / "s.sqlite"), 1, True)


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch):
    for seconds in ("_TOO_SOON", "_GRACE", "_CHECK"):
        monkeypatch.setattr(supervisor, seconds, 0.05)


@contextmanager
def no_descriptors():
    """This process can open nothing, as one that its clients have used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@ensure
async def test_what_is_meant_for_the_group_ends_none_that_is_yet_to_start(targets, number):
    """Ctrl-C right after the start: the front ends them in order, and nothing is logged."""
    async with running_pool(executors=1) as pool:
        for pid in pids(pool, ""):
            os.kill(pid, number)
        await ask(pool, targets, "SELECT 1").outcome
        assert pool.status()["restarts"] == 0


@ensure
async def test_a_write_s_deadline_holds_although_no_process_lives(written):
    """Where each one dies at once; nothing of it was begun."""
    async with running_pool(executors=1) as pool:
        for executor in pool._all():
            executor._arguments[2] = "no number"
        for pid in pids(pool, "write"):
            kill(pid)
        outcome = await write(pool, written, "CREATE TABLE t (n)", limits=ReadLimits(0.3)).outcome
        assert isinstance(outcome.error, errors.DeadlineExceeded)


@ensure
async def test_executors_are_replaced_once_there_are_descriptors_again(targets, written):
    """What they had waits for their successors, or fails where nobody will do it again."""
    async with running_pool(executors=1) as pool:
        await pool.create(written, SCHEMA)
        endless = ask(pool, targets[0], ENDLESS)
        behind = ask(pool, targets[1], "SELECT 1 AS one")
        await until(
            lambda: any(each["held_up"] for each in pool.status()["executors"]), "the endless one"
        )
        running = pids(pool) + pids(pool, "write")
        with no_descriptors():
            for pid in running:
                kill(pid)
            await until(lambda: not pids(pool) + pids(pool, "write"), "their end")
            late = write(pool, written, "DELETE FROM crawled_url", limits=ReadLimits(0.1))
            assert isinstance((await late.outcome).error, errors.DeadlineExceeded)
            waiting = ask(pool, targets[2], "SELECT 2 AS two")
            writing = write(pool, written, "INSERT INTO crawled_url(id) VALUES(1)")
            with pytest.raises(errors.Unavailable, match="Too many open files"):
                await pool.check(written)
        assert (await waiting.outcome).rows == 1
        assert (await writing.outcome).changes == 1
        assert (await behind.outcome).rows == 1
        endless.job.cancel()
        await pool.check(written)
