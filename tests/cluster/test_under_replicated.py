"""Real processes: a segment with fewer copies than wanted, as clients and an operator see it."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster_engines import Engines, rethink_url
from cluster_nodes import Cluster
from processes import http, read, until_blocking, write
from rethinkdb_server import RethinkServer
from storages import DirectoryHand
from waiting import GIVE_UP

from trough.model import Lock

SEGMENT = "alone"


def test_a_segment_with_one_copy_is_shown(tmp_path: Path) -> None:
    """The only follower is lost: writes go on, and status, metrics and trough-admin show it."""
    engines = Engines(f"sqlite://{tmp_path}/registry.db", DirectoryHand(tmp_path / "canonical"))
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2") as cluster:
        url, lock = replicated(cluster)
        assert shown(cluster, lock.node) == (0, 0)
        (follower,) = lock.followers
        cluster.processes[follower.node].kill()
        write(url, "INSERT INTO t VALUES (1)")
        assert not lock_of(cluster).followers
        until_blocking(lambda: shown(cluster, lock.node) == (1, 1), "one segment is shown")
        listed = cluster.admin("locks", "--without-follower")
        assert SEGMENT in listed.stdout, listed
        cluster.revive()
        until_blocking(lambda: lock_of(cluster).followers == {follower}, "the follower again")
        until_blocking(lambda: shown(cluster, lock.node) == (0, 0), "no segment is shown")
        assert SEGMENT not in cluster.admin("locks", "--without-follower").stdout


@pytest.mark.parametrize("allowed", [False, True])
def test_a_holder_that_reaches_neither_follower_nor_store(tmp_path: Path, allowed: bool) -> None:
    """It refuses writes, unless the operator wants them to be acknowledged with one copy."""
    store = RethinkServer("r1", tmp_path)
    store.start()
    engines = Engines(rethink_url(store), DirectoryHand(tmp_path / "canonical"))
    settings = {"WRITE_WITHOUT_COPIES": "allow"} if allowed else {}
    try:
        with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2", **settings) as cluster:
            url, lock = replicated(cluster)
            (follower,) = lock.followers
            store.signal(signal.SIGSTOP)
            cluster.processes[follower.node].signal(signal.SIGSTOP)
            answers = [written(url) for _ in range(3)]
            if allowed:
                assert answers == [(200, None)] * 3
            else:
                assert answers[0] == (503, "outcome-unknown")
                assert answers[1:] == [(503, "under-replicated")] * 2
            store.signal(signal.SIGCONT)
            cluster.processes[follower.node].signal(signal.SIGCONT)
            until_blocking(
                lambda: http("POST", url, b"INSERT INTO t VALUES (3)")[0] == 200, "a write"
            )
            until_blocking(lambda: lock_of(cluster).followers == {follower}, "the follower again")
            rows = read(cluster.read_url(lock.node, SEGMENT), "SELECT count(*) AS n FROM t")
            assert rows[0]["n"] >= (4 if allowed else 1)
    finally:
        store.signal(signal.SIGCONT)
        store.kill()


def replicated(cluster: Cluster) -> tuple[str, Lock]:
    """A segment with a table and a follower: its write URL, and its lock."""
    cluster.start()
    until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
    url = cluster.provision("s1", SEGMENT)["write_url"]
    write(url, "CREATE TABLE t (n)")
    until_blocking(lambda: lock_of(cluster).followers, "a follower")
    return url, lock_of(cluster)


def written(url: str) -> tuple[int, str | None]:
    """Status and code of the error of a write; None: there was none."""
    request = urllib.request.Request(url, b"INSERT INTO t VALUES (2)")
    try:
        with urllib.request.urlopen(request, timeout=GIVE_UP) as answer:
            return answer.status, answer.headers["X-Trough-Error"]
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers["X-Trough-Error"]


def lock_of(cluster: Cluster) -> Lock:
    """The segment's write lock."""
    return next(each for each in cluster.store.locks() if each.segment == SEGMENT)


def shown(cluster: Cluster, node: str) -> tuple[int, float]:
    """How many segments lack copies: by a worker's status, and by its metrics."""
    url = cluster.url(node, "SYNC_LOCAL_PORT")
    found: dict[str, dict[str, int]] = json.loads(http("GET", f"{url}status")[1])
    lines = http("GET", f"{url}metrics")[1].decode().splitlines()
    (count,) = (
        line.split()[-1] for line in lines if line.startswith("trough_under_replicated_segments")
    )
    return found["replication"]["under_replicated"], float(count)
