"""Equal GATHERs around a change of the writer: an answer without a mark has every row that was
acknowledged before, or its worker had no way to know of the change for so short a time."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import QUICK, http, until_blocking, wait_until_known, write

SEGMENT = "changes"
SQL = "SELECT n, count(*) FROM t GROUP BY n ORDER BY n"
HEARTBEAT = float(QUICK["HEARTBEAT_INTERVAL"])

#: Seconds after a change in which a worker may not know of it (docs/design.rst, *What an answer
#: promises*), and as many for processes that wait for a processor.
PROMISED = 2 * max(1.5 * HEARTBEAT, HEARTBEAT + 1.0)


class Judge:
    """Writes rows and asks for all of them.

    :ivar worst: seconds after the change of an unmarked answer that lacked rows, at most
    """

    def __init__(self, cluster: Cluster) -> None:
        self.worst = 0.0
        self._cluster = cluster
        self._rows = 0

    def write(self, worker: str) -> None:
        """Write one more row through a worker, once it or another one takes it."""
        # One that is passed on to a worker that stands still waits for its own time limit.
        url = f"{self._cluster.url(worker, 'WRITE_PORT')}?segment={SEGMENT}&seconds=2"
        sql = f"INSERT INTO t VALUES ({self._rows})".encode()
        until_blocking(lambda: http("POST", url, sql)[0] == 200, f"a write through {worker}", 60)
        self._rows += 1

    def holder(self) -> str | None:
        """Name of the worker that has the write lock."""
        return next((lock.node for lock in self._cluster.store.locks()), None)

    def ask(self) -> dict:
        """An answer of GATHER."""
        url = self._cluster.url("s1", "SYNC_SERVER_PORT") + "gather"
        body = json.dumps({"sql": SQL, "segments": [SEGMENT]}).encode()

        def found() -> dict | None:
            status, answer = http("POST", url, body)
            return json.loads(answer) if status == 200 else None

        return until_blocking(found, "an answer")

    def is_whole(self, answer: dict) -> bool:
        """Whether it has all rows, each once, and no mark."""
        return answer["rows"] == [[n, 1] for n in range(self._rows)] and "stale" not in answer

    def after(self, change: Callable[[], None]) -> None:
        """Have a whole answer kept, change the writer and write a row, and judge all answers
        until there are whole ones again."""
        until_blocking(lambda: self.is_whole(self.ask()), "a whole answer")
        assert self.is_whole(self.ask())
        change()
        changed = time.monotonic()

        def judged() -> bool:
            asked = time.monotonic() - changed
            answer = self.ask()
            if self.is_whole(answer):
                return True
            if "stale" not in answer:
                self.worst = max(self.worst, asked)
                assert asked < PROMISED, answer
            return False

        until_blocking(judged, "a whole answer after the change")
        until_blocking(lambda: time.monotonic() - changed > PROMISED, "the promise to be due")
        assert self.is_whole(self.ask())


@pytest.mark.parametrize("copies", ["1", "2"])
@pytest.mark.parametrize("pair", PAIRS[:2])
def test_a_kept_answer_is_no_older_than_its_workers_know(tmp_path, request, pair, copies) -> None:
    """The lock goes to another worker: after it was given up, and while its holder stands still
    and wakes up as if nothing had happened."""
    engines = open_engines(pair, tmp_path, request)
    settings = {"WRITE_COPIES": copies, "WRITE_LOCK_IDLE": "1"}
    with Cluster(tmp_path, engines, 1, 2, **settings) as cluster:
        judge = begin(cluster)
        for worker in (*cluster.workers, *cluster.workers):
            cluster.promote("s1", SEGMENT)
            until_blocking(lambda: judge.holder() is None, "the lock to be given up")
            judge.after(lambda worker=worker: judge.write(worker))
        for worker in cluster.workers:
            cluster.promote("s1", SEGMENT)
            if copies == "1":  # a lock without a follower stays with its holder
                until_blocking(lambda: judge.holder() is None, "the lock to be given up")
            judge.after(lambda worker=worker: take_from_frozen(cluster, judge, worker))
        print(f"unmarked answers lacked rows {judge.worst:.2f} s after a change, at most")


def begin(cluster: Cluster) -> Judge:
    """Start all, with a segment that both workers have."""
    cluster.start()
    until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
    wait_until_known(cluster.metadata_url)
    write(cluster.provision("s1", SEGMENT)["write_url"], "CREATE TABLE t (n INTEGER)")
    cluster.promote("s1", SEGMENT)
    cluster.wait_for_copies(SEGMENT)
    return Judge(cluster)


def take_from_frozen(cluster: Cluster, judge: Judge, worker: str) -> None:
    """Stop the holder, or else `worker`; write through the other one, and have it go on."""
    holder = judge.holder() or worker
    (other,) = set(cluster.workers) - {holder}
    cluster.processes[holder].signal(signal.SIGSTOP)
    cluster.wait_for_death(holder)
    judge.write(other)
    cluster.processes[holder].signal(signal.SIGCONT)
