"""An independent checker asks in a loop while servers are killed and segments deleted: every
answer that is not partial has to be the truth.

``TROUGH_COMPLETE_SECONDS`` says how long (15), ``TROUGH_CHAOS_SEED`` with which seed, and
``TROUGH_COMPLETE_PAIR`` on which engines (registry+directory). ``make checker`` takes half an
hour.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time

from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, until_blocking, write

SECONDS = float(os.environ.get("TROUGH_COMPLETE_SECONDS", "15"))
SEED = int(os.environ.get("TROUGH_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PAIR = os.environ.get("TROUGH_COMPLETE_PAIR", PAIRS[0])
SEGMENTS = 24
QUESTION = json.dumps({"matching": "^k", "sql": "SELECT count(*) FROM t"}).encode()


class Checker(threading.Thread):
    """Asks how many rows there are; each segment has one.

    :ivar most: segments that may exist; `least`, those that surely do
    :ivar wrong: answers that were not the truth
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.most = self.least = SEGMENTS
        self.wrong: list[str] = []
        self.told = self.refused = 0
        self._cluster = cluster
        self._over = threading.Event()

    def run(self) -> None:
        dice = random.Random(SEED + 1)
        while not self._over.wait(0.01):
            url = self._cluster.url(dice.choice(self._cluster.syncs), "SYNC_SERVER_PORT")
            most = self.most
            status, answer = http("POST", f"{url}gather", QUESTION, seconds=30)
            least = self.least
            if status != 200:
                self.refused += 1
                continue
            self.told += 1
            ((count,),) = json.loads(answer)["rows"]
            if not least <= count <= most:
                self.wrong.append(f"{count} rows, and not {least} to {most}: {answer!r}")

    def stop(self) -> None:
        """End, and wait for the end."""
        self._over.set()
        self.join()


def _kill(cluster: Cluster, name: str) -> None:
    cluster.processes[name].kill()


def _revive(cluster: Cluster) -> None:
    cluster.revive()


def _delete(cluster: Cluster, checker: Checker, left: list[str]) -> None:
    segment = left.pop()
    checker.least -= 1
    url = cluster.url("s1", "SYNC_SERVER_PORT")
    # Until it answers, the segment may be there or not.
    until_blocking(
        lambda: http("DELETE", f"{url}segment/{segment}")[0] in (204, 404), f"{segment} deleted"
    )
    checker.most -= 1


def test_every_answer_is_the_truth(tmp_path, request):
    """While workers and a sync server are killed and come back, and segments are deleted."""
    dice = random.Random(SEED)
    engines = open_engines(PAIR, tmp_path, request)
    settings = {"MINIMUM_ASSIGNMENTS": "2", "WRITE_LOCK_IDLE": "1"}
    with Cluster(tmp_path, engines, syncs=2, workers=3, **settings) as cluster:
        cluster.start()
        cluster.wait_for_leader()
        left = [f"k{number:02}" for number in range(SEGMENTS)]
        for segment in left:
            write(
                cluster.provision("s1", segment)["write_url"],
                "CREATE TABLE t (a); INSERT INTO t VALUES (1)",
            )
            cluster.promote("s1", segment)
        checker = Checker(cluster)
        checker.start()
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not checker.wrong:
                _kill(cluster, dice.choice(["s2", *cluster.workers]))
                # Locked segments are not deleted: only what is certain is tried.
                unlocked = set(left) - {lock.segment for lock in cluster.store.locks()}
                doomed = [segment for segment in left if segment in unlocked][-1:]
                _revive(cluster)
                if doomed and len(left) > SEGMENTS // 2:
                    left.remove(doomed[0])
                    left.append(doomed[0])
                    _delete(cluster, checker, left)

            def told_again() -> bool:
                return bool(checker.wrong) or checker.told > told

            told = checker.told
            until_blocking(told_again, "an answer when all are back")
        finally:
            checker.stop()
        print(f"seed {SEED}: {checker.told} answers, {checker.refused} refusals")
        assert not checker.wrong, f"seed {SEED}: {checker.wrong[:3]}"
