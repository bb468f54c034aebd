"""An independent checker asks in a loop while the cluster is disturbed: every answer that is not
partial has to be the truth.

Servers are killed, frozen and cut off from the metadata store, workers are drained, local copies
damaged, segments made and deleted. ``TROUGH_COMPLETE_SECONDS`` says how long (15),
``TROUGH_CHAOS_SEED`` with which seed, and ``TROUGH_COMPLETE_PAIR`` on which engines
(registry+directory). ``make checker`` takes half an hour.
"""

from __future__ import annotations

import os
import random
import time

from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from complete_checker import Checker, Disturber, Segments, links_of
from processes import until_blocking

SECONDS = float(os.environ.get("TROUGH_COMPLETE_SECONDS", "15"))
SEED = int(os.environ.get("TROUGH_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PAIR = os.environ.get("TROUGH_COMPLETE_PAIR", PAIRS[0])
SEGMENTS = 24


def test_every_answer_is_the_truth(tmp_path, request):
    """While everything that may happen to a cluster happens."""
    dice = random.Random(SEED)
    engines = open_engines(PAIR, tmp_path, request)
    settings = {"MINIMUM_ASSIGNMENTS": "2", "WRITE_LOCK_IDLE": "1"}
    with Cluster(tmp_path, engines, syncs=2, workers=3, **settings) as cluster:
        segments = Segments()
        links = links_of(cluster)
        disturber = Disturber(cluster, segments, dice, links)
        cluster.start()
        cluster.wait_for_leader()
        disturber.add_segments(SEGMENTS)
        checker = Checker(cluster, segments, SEED + 1)
        checker.start()
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not checker.wrong:
                disturber.disturb()

            answered = checker.answered
            until_blocking(
                lambda: bool(checker.wrong) or checker.answered > answered,
                "an answer when all are back",
            )
        finally:
            checker.stop()
            for link in links.values():
                link.close()
        print(
            f"seed {SEED}, {PAIR}: {checker.answered} answers, {checker.refused} refusals, "
            f"{dict(disturber.done)}"
        )
        if checker.wrong:
            print(*disturber.log[-40:], *checker.wrong[:3], sep="\n")
            for name, process in cluster.processes.items():
                print(name, *process.lines[-60:], sep="\n  ")
        assert not checker.wrong, f"seed {SEED}"
