"""What a worker passes on to another one that then hangs."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, until_blocking, wait_until_known

SEGMENT = "300001"

#: Longer than a test waits for an answer.
LONG = "&seconds=3000"


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("pair", PAIRS[:2])
def test_nobody_waits_longer_than_a_hung_worker_lives(
    tmp_path: Path, request, pair, connected: bool
) -> None:
    """A write's outcome is unknown then, and a read comes from another copy, with a mark."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="1") as cluster:
        cluster.start()
        until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
        wait_until_known(cluster.metadata_url)
        url = cluster.provision("s1", SEGMENT)["write_url"]
        assert http("POST", url, b"CREATE TABLE t (n)") == (200, b"OK\n")
        cluster.promote("s1", SEGMENT)
        cluster.wait_for_copies(SEGMENT)
        holder = cluster.holder(url)
        (other,) = {"w1", "w2"} - {holder}
        assert cluster.answers(other, SEGMENT, "SELECT count(*) AS n FROM t", [{"n": 0}])
        if connected:
            cluster.say(other, f"1 WRITE {SEGMENT} DELETE FROM t")
        cluster.processes[holder].signal(signal.SIGSTOP)
        writing = f"{cluster.url(other, 'WRITE_PORT')}?segment={SEGMENT}{LONG}"
        reading = cluster.read_url(other, SEGMENT) + LONG
        with ThreadPoolExecutor() as clients:
            write = clients.submit(http, "POST", writing, b"INSERT INTO t VALUES (1)")
            read = clients.submit(http, "POST", reading, b"SELECT count(*) AS n FROM t")
            order = f"1 WRITE {SEGMENT} seconds=3000 INSERT INTO t VALUES (2)"
            line = clients.submit(cluster.say, other, order)
            status, said = write.result()
            assert status == 503
            assert b"was passed on" in said and b"look before writing again" in said
            # Over a connection that stands the write was sent, and over another one it was not.
            code = line.result()[-1].split()[2]
            assert code == ("outcome-unknown" if connected else "no-lock")
            assert read.result()[0] == 200
