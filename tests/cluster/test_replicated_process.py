"""Real processes: the holder of a lock is killed and its disk removed, and no acknowledged row is
missing.

``TROUGH_REPLICATION_RUNS`` says how often (1), and ``TROUGH_REPLICATION_CLIENTS`` how many clients
write (8); ``make replicated`` does it a hundred times with 64.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, read, until_blocking, write
from replicated_history import Writers, judge

from trough.model import Lock

RUNS = int(os.environ.get("TROUGH_REPLICATION_RUNS", "1"))
CLIENTS = int(os.environ.get("TROUGH_REPLICATION_CLIENTS", "8"))

SCHEMA = b"CREATE TABLE t (row TEXT)"
SEGMENT = "replicated"


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_lost_holder_takes_no_acknowledged_row_along(
    tmp_path: Path, request: pytest.FixtureRequest, pair: str, run: int
) -> None:
    """kill -9 during the writes of some clients, and its data directory is removed at once; its
    follower writes on, and has all that was acknowledged, each row once."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 3, WRITE_COPIES="2") as cluster:
        holder, sync = begin(cluster), cluster.url("s1", "SYNC_SERVER_PORT")
        with Writers(sync, [SEGMENT], CLIENTS) as writers:
            until_blocking(lambda: len(writers.acknowledged(SEGMENT)) > 100 + 17 * run, "rows")
            cluster.processes[holder].kill()
            shutil.rmtree(cluster.directory / holder)
            lost = time.monotonic()
            until_blocking(
                lambda: len(writers.acknowledged(SEGMENT, lost)) > 100, "rows after the loss"
            )
        assert lock_of(cluster).node != holder
        rows = rows_of(cluster)
        judge(writers.attempts, SEGMENT, rows)
        first = min(each.ended for each in writers.acknowledged(SEGMENT, lost))
        print(f"{pair}: {len(rows)} rows; written again after {first - lost:.1f} s")


@pytest.mark.parametrize("pair", PAIRS)
def test_holders_and_followers_that_die_in_turn(
    tmp_path: Path, request: pytest.FixtureRequest, pair: str
) -> None:
    """The holder is killed, its follower is killed, the holder stands still for longer than its
    TTL and goes on, and one is stopped in order: no acknowledged row is missing or twice."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 3, WRITE_COPIES="2") as cluster:
        begin(cluster)
        sync = cluster.url("s1", "SYNC_SERVER_PORT")
        with Writers(sync, [SEGMENT], 4) as writers:
            for strike in (kill_holder, kill_follower, freeze_holder, stop_holder):
                until_blocking(lambda: lock_of(cluster).followers, "a follower")
                victim = strike(cluster)
                since = time.monotonic()
                until_blocking(
                    lambda since=since: len(writers.acknowledged(SEGMENT, since)) > 20,
                    f"rows after {strike.__name__}",
                )
                cluster.processes[victim].signal(signal.SIGCONT)
                cluster.revive()
        until_blocking(lambda: is_answered(cluster), "an answer of the last holder")
        judge(writers.attempts, SEGMENT, rows_of(cluster))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_rolling_restart(tmp_path: Path, request: pytest.FixtureRequest, pair: str) -> None:
    """Each worker is stopped and started in turn: it hands its segment over, and none of the
    writes is lost. The longest pause is printed."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 3, WRITE_COPIES="2") as cluster:
        begin(cluster)
        with Writers(cluster.url("s1", "SYNC_SERVER_PORT"), [SEGMENT], 4) as writers:
            for name in cluster.workers:
                until_blocking(lambda: lock_of(cluster).followers, "a follower")
                cluster.processes[name].stop()
                cluster.revive()
            since = time.monotonic()
            until_blocking(lambda: len(writers.acknowledged(SEGMENT, since)) > 20, "rows")
        until_blocking(lambda: is_answered(cluster), "an answer of the last holder")
        judge(writers.attempts, SEGMENT, rows_of(cluster))
        statuses = Counter(each.status for each in writers.attempts)
        pause = writers.longest_pause(SEGMENT)
        print(f"{pair}: attempts by status {dict(statuses)}, the longest pause {pause:.2f} s")


def test_writes_to_the_former_holder_are_passed_on(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Clients that keep a URL write on while its worker is drained: those that wait for the
    hand-over, too, are passed on to the new holder."""
    engines = open_engines(PAIRS[0], tmp_path, request)
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2") as cluster:
        old = begin(cluster, 2)
        with Writers(cluster.url("s1", "SYNC_SERVER_PORT"), [SEGMENT], 8) as writers:
            until_blocking(lambda: lock_of(cluster).followers, "a follower")
            until_blocking(lambda: len(writers.acknowledged(SEGMENT)) > 50, "rows")
            assert cluster.admin("drain", old).returncode == 0
            until_blocking(lambda: lock_of(cluster).node != old, "another holder")
            since = time.monotonic()
            until_blocking(lambda: len(writers.acknowledged(SEGMENT, since)) > 50, "rows")
        judge(writers.attempts, SEGMENT, rows_of(cluster))
        assert not [each.refusal for each in writers.attempts if not each.acknowledged]
        written_to = cluster.url(old, "WRITE_PORT")
        assert {(each.worker, each.status) for each in writers.attempts} == {(written_to, 200)}


def test_a_holder_that_stops_is_noticed_by_no_reader(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each worker answers with all rows while the segment is handed over."""
    engines = open_engines(PAIRS[0], tmp_path, request)
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="2") as cluster:
        holder = begin(cluster, 2)
        (other,) = {"w1", "w2"} - {holder}
        until_blocking(lambda: lock_of(cluster).followers, "a follower")
        write(f"{cluster.url(holder, 'WRITE_PORT')}?segment={SEGMENT}", "INSERT INTO t VALUES (1)")
        stopping = threading.Thread(target=cluster.processes[holder].stop)
        stopping.start()
        while stopping.is_alive():
            assert read(cluster.read_url(other, SEGMENT), "SELECT row FROM t") == [{"row": "1"}]
        assert lock_of(cluster).node == other


def begin(cluster: Cluster, workers: int = 3) -> str:
    """Start all, and make the segment writable; the name of its holder."""
    cluster.start()
    sync = cluster.url("s1", "SYNC_SERVER_PORT")
    until_blocking(lambda: len(cluster.store.workers()) == workers, "all workers are known")
    assert http("PUT", f"{sync}schema/rows/sql", SCHEMA)[0] == 201
    body = json.dumps({"segment": SEGMENT, "schema": "rows"}).encode()
    status, answer = http("POST", f"{sync}provision", body)
    assert status == 200, answer
    return cluster.holder(json.loads(answer)["write_url"])


def lock_of(cluster: Cluster) -> Lock:
    """The segment's write lock."""
    return next(each for each in cluster.store.locks() if each.segment == SEGMENT)


def rows_of(cluster: Cluster) -> list[str]:
    """What is in the segment, by its holder."""
    url = cluster.read_url(lock_of(cluster).node, SEGMENT)
    return [each["row"] for each in read(url, "SELECT row FROM t")]


def is_answered(cluster: Cluster) -> bool:
    """Whether the segment's holder writes it."""
    return lock_of(cluster).node in cluster.writers(SEGMENT)


def kill_holder(cluster: Cluster) -> str:
    """kill -9; its name."""
    holder = lock_of(cluster).node
    cluster.processes[holder].kill()
    return holder


def kill_follower(cluster: Cluster) -> str:
    """kill -9; its name."""
    follower = next(iter(lock_of(cluster).followers)).node
    cluster.processes[follower].kill()
    return follower


def freeze_holder(cluster: Cluster) -> str:
    """SIGSTOP, until another worker has the lock; its name."""
    holder = lock_of(cluster).node
    cluster.processes[holder].signal(signal.SIGSTOP)
    until_blocking(lambda: lock_of(cluster).node != holder, "another holder")
    return holder


def stop_holder(cluster: Cluster) -> str:
    """As an operator does; its name."""
    holder = lock_of(cluster).node
    cluster.processes[holder].stop()
    return holder
