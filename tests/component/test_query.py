"""Where a worker has a segment read that it has no copy of."""

import pytest_twisted
from twisted.internet import reactor
from worker_parts import running_worker

from trough.model import READ, WRITE, Copy, Worker
from trough.worker.queries import QueryLimits, QueryService


@pytest_twisted.ensureDeferred
async def test_a_published_writer_is_read_before_the_lock_is_heard_of(tmp_path):
    """It has the newest rows, however loaded it is; without one the least loaded is read."""
    async with running_worker(tmp_path) as worker:
        for node, load in (("w2", 9.0), ("w3", 1.0)):
            row = Worker(node, node, "", *["http://127.0.0.1:1/"] * 3, load=load, ttl=600.0)
            await worker.metadata.register_worker(row)
            await worker.metadata.publish_copies([Copy("a", node, READ, "http://127.0.0.1:1/")])
        limits = QueryLimits(60.0, 600.0, 60.0, 0, 1 << 20)
        queries = QueryService(worker.controller, worker.pool, limits, reactor)
        assert (await queries.copies_elsewhere(["a"]))["a"].node == "w3"
        await worker.metadata.publish_copies([Copy("a", "w2", WRITE, "http://127.0.0.1:1/")])
        assert (await queries.copies_elsewhere(["a"]))["a"].node == "w2"
        assert (await queries.copies_elsewhere(["a"], avoid=["w2"]))["a"].node == "w3"
