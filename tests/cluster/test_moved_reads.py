"""Reads that come to a worker which has the segment no longer."""

import sqlite3
from dataclasses import replace

import pytest
import pytest_twisted
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, read
from twisted.internet import reactor

from trough.metadata.open import open_metadata
from trough.model import READ, Copy

COUNT = "SELECT count(*) AS n FROM t"


@pytest.fixture
def cluster(tmp_path, request):
    """Four workers that say seldom how loaded they are; two have a copy of ``moved``."""
    engines = open_engines(PAIRS[0], tmp_path, request)
    seldom = {"WORKER_TTL": "2000", "HEARTBEAT_INTERVAL": "600"}
    with Cluster(tmp_path, engines, syncs=1, **seldom) as cluster:
        cluster.start()
        # Not before all are there, or copies would move to whoever comes last.
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE TABLE t (n)")
            engines.hand.put("by-hand/moved.sqlite", database.serialize())
        yield cluster


@pytest_twisted.async_yield_fixture
async def metadata(cluster):
    """The store that the workers publish in."""
    metadata = open_metadata(cluster.metadata_url, reactor)
    await metadata.open()
    yield metadata
    await metadata.close()


@pytest_twisted.ensureDeferred
async def test_a_read_is_passed_on_to_whoever_has_the_segment(cluster, metadata):
    """Who has what is known with some delay: where the worker that a read was passed on to
    has the segment no more, the next one is asked, and the client notices nothing. Where
    nobody is left, it is told to ask again."""
    readers = cluster.wait_for_copies("moved")
    asked, wrong = sorted(set(cluster.workers) - readers)
    url = cluster.read_url(asked, "moved")
    await metadata.publish_copies([Copy("moved", wrong, READ, cluster.read_url(wrong, "moved"))])
    for worker in await metadata.workers():
        await metadata.beat(replace(worker, load=0.0 if worker.node == wrong else 9.0))
    assert read(url, COUNT) == [{"n": 0}]
    for name in readers:
        await metadata.withdraw_copies(name, ["moved"], READ)
    status, answer = http("POST", url, COUNT.encode())
    assert status == 503 and b"ask again" in answer
