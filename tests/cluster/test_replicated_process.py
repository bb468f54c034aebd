"""Real processes: the holder of a lock is killed and its disk removed, and no acknowledged row is
missing.

``TROUGH_REPLICATION_RUNS`` says how often (1); ``make replicated`` does it a hundred times.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, read, until_blocking
from replicated_history import Writers, judge

RUNS = int(os.environ.get("TROUGH_REPLICATION_RUNS", "1"))

SCHEMA = b"CREATE TABLE t (row TEXT)"
SEGMENT = "replicated"


@pytest.mark.parametrize("pair", PAIRS[:2])
@pytest.mark.parametrize("run", range(RUNS))
def test_a_lost_holder_takes_no_acknowledged_row_along(
    tmp_path: Path, request: pytest.FixtureRequest, pair: str, run: int
) -> None:
    """kill -9 during the writes of some clients, and its data directory is removed at once; its
    follower writes on, and has all that was acknowledged, each row once."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 3, WRITE_COPIES="2") as cluster:
        cluster.start()
        sync = cluster.url("s1", "SYNC_SERVER_PORT")
        until_blocking(lambda: len(cluster.store.workers()) == 3, "all workers are known")
        assert http("PUT", f"{sync}schema/rows/sql", SCHEMA)[0] == 201
        body = json.dumps({"segment": SEGMENT, "schema": "rows"}).encode()
        status, answer = http("POST", f"{sync}provision", body)
        assert status == 200, answer
        holder = cluster.holder(json.loads(answer)["write_url"])
        with Writers(sync, [SEGMENT], 8) as writers:
            until_blocking(lambda: len(writers.acknowledged(SEGMENT)) > 100 + run, "rows")
            cluster.processes[holder].kill()
            shutil.rmtree(cluster.directory / holder)
            lost = time.monotonic()
            until_blocking(
                lambda: len(writers.acknowledged(SEGMENT, lost)) > 100, "rows after the loss"
            )
        lock = next(each for each in cluster.store.locks() if each.segment == SEGMENT)
        assert lock.node != holder
        rows = read(cluster.read_url(lock.node, SEGMENT), "SELECT row FROM t")
        judge(writers.attempts, SEGMENT, [each["row"] for each in rows])
        first = min(each.ended for each in writers.acknowledged(SEGMENT, lost))
        print(f"{pair}: {len(rows)} rows; written again after {first - lost:.1f} s")
