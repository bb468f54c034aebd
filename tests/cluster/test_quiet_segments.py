"""What a store that is away costs writers: the first write to a quiet, promoted segment alone."""

import contextlib
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, read, until_blocking, write

ROW = b"INSERT INTO t VALUES (1)"
COUNT = "SELECT count(*) AS n FROM t"


@contextlib.contextmanager
def _away(cluster, request):
    """Nobody can write to the metadata store while the block lasts."""
    if request.param == PAIRS[1]:
        server = request.getfixturevalue("rethinkdb_server")
        server.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            server.signal(signal.SIGCONT)
    else:
        path = cluster.metadata_url.removeprefix("sqlite://")
        with contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as held:
            held.execute("BEGIN IMMEDIATE")
            yield


@pytest.fixture(params=PAIRS[:2])
def cluster(tmp_path, request):
    """One sync server and one worker, on each store."""
    with Cluster(tmp_path, open_engines(request.param, tmp_path, request), 1, 1) as cluster:
        cluster.away = lambda: _away(cluster, request)
        yield cluster.start()


def test_only_the_first_write_to_a_quiet_segment_needs_the_store(cluster):
    """Segments that are not promoted are written to as ever; the other refusal says why, stores
    nothing, and ends with the outage. Both are read all the while."""
    urls = {}
    for segment in ("quiet", "busy"):
        urls[segment] = cluster.provision("s1", segment)["write_url"]
        write(urls[segment], "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
    cluster.promote("s1", "quiet")
    until_blocking(lambda: "quiet" in _clean(cluster), "a clean lock")
    with cluster.away(), ThreadPoolExecutor(1) as threads:
        refused = threads.submit(http, "POST", urls["quiet"], ROW)
        written = 0
        while not wait([refused], 0.2).done:
            assert http("POST", urls["busy"], ROW) == (200, b"OK\n")
            written += 1
            assert read(cluster.read_url("w1", "quiet"), COUNT) == [{"n": 1}]
        status, answer = refused.result()
        assert status == 503 and b"all of it is promoted" in answer, answer
        assert read(cluster.read_url("w1", "busy"), COUNT) == [{"n": 1 + written}]
    until_blocking(lambda: http("POST", urls["quiet"], ROW)[0] == 200, "a write")
    assert read(cluster.read_url("w1", "quiet"), COUNT) == [{"n": 2}]
    assert "quiet" not in _clean(cluster)


def _clean(cluster) -> set[str]:
    """The segments whose lock a leader may release."""
    return {lock.segment for lock in cluster.store.locks() if lock.is_clean}
