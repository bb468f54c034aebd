"""Writes that are cancelled before their executor has come to them."""

import pytest_twisted
from executor_pools import running_pool, write
from segments_on_disk import SCHEMA, content

from trough import errors
from trough.executors.pool.pool import Target


@pytest_twisted.ensureDeferred
async def test_a_write_that_is_cancelled_at_once_harms_no_other(tmp_path):
    """It is not applied; those beside it are, by the same process."""
    async with running_pool() as pool:
        target = Target("s", str(tmp_path / "s.sqlite"), 1, True)
        await pool.create(target, SCHEMA)
        first, cancelled, last = (
            write(pool, target, f"INSERT INTO crawled_url(id) VALUES({n})") for n in range(3)
        )
        cancelled.job.cancel()
        assert (await first.outcome).changes == 1
        assert isinstance((await cancelled.outcome).error, errors.Cancelled)
        assert (await last.outcome).changes == 1
        assert [row[0] for row in content(target.path)] == [0, 2]
        assert pool.status()["restarts"] == 0
