"""Readers that judge each answer while everything dies: is it stale, and does it say so?

The promise (docs/design.rst, *What an answer promises*): an answer without a mark contains every
write that was acknowledged before the question was sent, unless the write lock changed hands and
the worker had no way to know it. That exception ends one heartbeat interval and a half after the
change (or the interval and one second, if that is longer).

The checker knows nothing but what clients know: when which write was acknowledged, and by whom.
It learns of a change of the writer by the first acknowledgement, which is later than the change,
and a question is asked later than it says. Both make it lenient. What it adds to the promise is
the time for which processes here wait for a processor: it measures that, by its own waits. On the
way to an answer, the store, the worker and its executor may wait so, one after the other.
"""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from http.client import HTTPException

from cluster_nodes import Cluster
from waiting import GIVE_UP

#: Processes that wait for a processor one after the other: see above.
IN_TURN = 3

#: Seconds between two questions of a thread.
PAUSE = 0.05


@dataclass(frozen=True)
class Stale:
    """An answer without a mark that lacks acknowledged rows."""

    segment: str
    worker: str
    missing: int
    #: Seconds between the first acknowledgement by the present holder and the question.
    since_change: float


class Acknowledged:
    """When which rows were acknowledged, and by which worker's port.

    A lock that an operator frees gives up what was not promoted: :meth:`give_up` forgets it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, set[int]] = defaultdict(set)
        self._kept: dict[str, set[int]] = defaultdict(set)
        self._given_up: dict[str, int] = defaultdict(int)
        self._holder: dict[str, str] = {}
        self._changed: dict[str, float] = {}

    def note(self, segment: str, numbers: list[int], url: str, since: int) -> None:
        """A write was acknowledged.

        :param since: what :meth:`times_given_up` told when it was sent
        """
        now = time.monotonic()
        with self._lock:
            if since != self._given_up[segment]:
                return
            if self._holder.get(segment) != url:
                self._holder[segment] = url
                self._changed[segment] = now
            self._rows[segment].update(numbers)

    def note_promoted(self, segment: str, numbers: set[int]) -> None:
        """These are in the canonical copy, whoever gives up what."""
        with self._lock:
            self._kept[segment] |= numbers

    def give_up(self, segment: str) -> None:
        """A lock is freed: right before, and right after."""
        with self._lock:
            self._given_up[segment] += 1
            self._rows[segment] = set(self._kept[segment])
            self._holder.pop(segment, None)

    def times_given_up(self, segment: str) -> int:
        """How often :meth:`give_up` was called."""
        with self._lock:
            return self._given_up[segment]

    def expected(self, segment: str) -> tuple[set[int], float, int]:
        """The rows that an answer has to have, when the holder changed, and how often rows were
        given up until now."""
        with self._lock:
            changed = self._changed.get(segment, float("-inf"))
            return set(self._rows[segment]), changed, self._given_up[segment]


class Readers:
    """Threads that read any segment on any worker, and judge the answers.

    :ivar answers: without a mark, that were judged
    :ivar marked: with one
    :ivar stale: answers that break the promise
    :ivar worst: seconds after a change of the holder in which an unmarked answer lacked rows
    :ivar late: seconds that a wait of this process took longer than it should have, at most
    """

    def __init__(
        self,
        cluster: Cluster,
        acknowledged: Acknowledged,
        segments: list[str],
        heartbeat: float,
        seed: int,
        threads: int = 2,
    ) -> None:
        self.answers = self.marked = 0
        self.stale: list[Stale] = []
        self.worst = self.late = 0.0
        self._promised = max(1.5 * heartbeat, heartbeat + 1.0)
        self._cluster = cluster
        self._acknowledged = acknowledged
        self._segments = segments
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._read, args=(random.Random(f"{seed}.reader.{number}"),))
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have every thread end what it is at, and wait."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _read(self, dice: random.Random) -> None:
        while not self._pause():
            segment, worker = dice.choice(self._segments), dice.choice(self._cluster.workers)
            rows, changed, given_up = self._acknowledged.expected(segment)
            asked = time.monotonic()
            answer = self._ask(worker, segment)
            if answer is None or given_up != self._acknowledged.times_given_up(segment):
                continue
            found, mark = answer
            self._judge(segment, worker, rows - found, asked - changed, mark)

    def _pause(self) -> bool:
        """Wait, and note for how much longer than that; whether to end."""
        began = time.monotonic()
        over = self._over.wait(PAUSE)
        if not over:
            self.late = max(self.late, time.monotonic() - began - PAUSE)
        return over

    def _judge(
        self, segment: str, worker: str, missing: set[int], since_change: float, mark: str
    ) -> None:
        with self._lock:
            if mark:
                self.marked += 1
                return
            self.answers += 1
            if not missing:
                return
            self.worst = max(self.worst, since_change)
            if since_change > self._promised + IN_TURN * self.late:
                self.stale.append(Stale(segment, worker, len(missing), since_change))

    def _ask(self, worker: str, segment: str) -> tuple[set[int], str] | None:
        """The rows of an answer and its mark; None where it was refused, or broke off."""
        url = self._cluster.read_url(worker, segment)
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, b"SELECT n FROM t"), timeout=GIVE_UP
            ) as response:
                mark = response.headers.get("x-trough-state", "")
                return {row["n"] for row in json.loads(response.read())}, mark
        except (OSError, ValueError, HTTPException):
            return None
