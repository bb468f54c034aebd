"""Writes over the line protocol that reach a worker without the segment's write lock."""

from __future__ import annotations

import json
from pathlib import Path

from cluster_engines import Engines
from cluster_nodes import Cluster
from processes import http, read, until_blocking
from storages import DirectoryHand

SEGMENT = "elsewhere"


def test_a_write_is_passed_on_to_the_holder(tmp_path: Path) -> None:
    """Once, with its parameters and with the holder's error; and where the holder is lost, the
    worker takes over and writes itself."""
    engines = Engines(f"sqlite://{tmp_path}/registry.db", DirectoryHand(tmp_path / "canonical"))
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2") as cluster:
        holder = begin(cluster)
        (other,) = {"w1", "w2"} - {holder}
        until_blocking(lambda: cluster.store.locks()[0].followers, "a follower")
        insert = f'WRITE {SEGMENT} bind=["a-b"] INSERT INTO t VALUES (?)'
        (answer,) = cluster.say(other, f"1 {insert}")
        assert answer.startswith("1 OK changes=1 "), answer
        (answer,) = cluster.say(other, f"2 WRITE {SEGMENT} INSERT INTO nothing VALUES (1)")
        assert answer.startswith("2 ERR bad-sql ") and "nothing" in answer, answer
        (answer,) = cluster.say(other, f"3 WRITE {SEGMENT} passed=yes INSERT INTO t VALUES ('x')")
        assert answer.startswith("3 ERR no-lock "), answer
        assert read(cluster.read_url(holder, SEGMENT), "SELECT row FROM t") == [{"row": "a-b"}]
        cluster.processes[holder].kill()
        until_blocking(
            lambda: cluster.say(other, f"4 {insert}")[0].startswith("4 OK changes=1 "),
            "a write on the worker that took over",
        )
        assert cluster.store.locks()[0].node == other
        rows = read(cluster.read_url(other, SEGMENT), "SELECT row FROM t")
        assert rows == [{"row": "a-b"}] * 2


def begin(cluster: Cluster) -> str:
    """Start all, and make the segment writable; the name of its holder."""
    cluster.start()
    sync = cluster.url("s1", "SYNC_SERVER_PORT")
    until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
    assert http("PUT", f"{sync}schema/rows/sql", b"CREATE TABLE t (row TEXT)")[0] == 201
    body = json.dumps({"segment": SEGMENT, "schema": "rows"}).encode()
    status, answer = http("POST", f"{sync}provision", body)
    assert status == 200, answer
    return cluster.holder(json.loads(answer)["write_url"])
