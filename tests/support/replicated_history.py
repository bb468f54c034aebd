"""Clients that write while holders die, and the judgement of what they were answered.

Each row is written in one attempt, and its client, number and the worker that answered are kept.
The judge knows nothing of replication: an acknowledged row has to be there exactly once, whoever
holds the lock. So what a holder acknowledges after another one took over is found to be missing.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from processes import http

#: Seconds that a client waits for an answer: a worker that is gone refuses at once, and one that
#: stands still lets its clients wait.
ANSWER = 60.0


@dataclass(frozen=True)
class Attempt:
    """One row that a client tried to write.

    :ivar worker: base of the URL that it was sent to
    :ivar status: of HTTP; 0: there was no answer
    :ivar refusal: what was answered instead of success
    """

    segment: str
    row: str
    worker: str
    begun: float
    ended: float
    status: int
    refusal: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether it was answered with success."""
        return self.status == 200


class Writers:
    """Clients, each a thread: they write row after row, and provision where they are refused.

    :param sync: base URL of a sync server
    :param patience: seconds that each second client waits for an answer
    """

    def __init__(
        self, sync: str, segments: Iterable[str], clients: int, patience: float = ANSWER
    ) -> None:
        self.attempts: list[Attempt] = []
        self._patience = patience
        self._sync = sync
        self._segments = list(segments)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def acknowledged(self, segment: str, since: float = 0.0) -> list[Attempt]:
        """Attempts that succeeded and began after `since`."""
        return [
            each
            for each in list(self.attempts)
            if each.segment == segment and each.acknowledged and each.begun >= since
        ]

    def longest_pause(self, segment: str, since: float = 0.0) -> float:
        """The longest time without an acknowledgement, in seconds."""
        ends = sorted(each.ended for each in self.acknowledged(segment, since))
        begun = [since] if since else ends[:1]
        return max(b - a for a, b in itertools.pairwise([*begun, *ends]))

    def _write(self, client: int) -> None:
        segment = self._segments[client % len(self._segments)]
        url, number = "", 0
        seconds = self._patience if client % 2 else ANSWER
        while not self._stopping.is_set():
            if not url:
                url = self._provision(segment, seconds)
                continue
            number += 1
            row = f"{client}-{number}"
            begun = time.monotonic()
            sql = f"INSERT INTO t VALUES ('{row}')"
            status, answer = http("POST", url, sql.encode(), seconds=seconds)
            worker = url.partition("?")[0]
            refusal = "" if status == 200 else answer.decode("utf-8", "replace")
            attempt = Attempt(segment, row, worker, begun, time.monotonic(), status, refusal)
            self.attempts.append(attempt)
            if status != 200:
                url = ""

    def _provision(self, segment: str, seconds: float) -> str:
        body = json.dumps({"segment": segment}).encode()
        status, answer = http("POST", f"{self._sync}provision", body, seconds=seconds)
        if status == 200:
            return json.loads(answer)["write_url"]
        self._stopping.wait(0.1)
        return ""


def judge(attempts: list[Attempt], segment: str, rows: list[str]) -> None:
    """Compare what was acknowledged with what is there.

    :param rows: in the segment, at the end
    """
    counts = Counter(rows)
    twice = [row for row, count in counts.items() if count > 1]
    assert not twice, f"{segment}: rows are there more than once: {twice[:5]}"
    mine = [each for each in attempts if each.segment == segment]
    missing = [each for each in mine if each.acknowledged and each.row not in counts]
    assert not missing, f"{segment}: {len(missing)} acknowledged rows are missing: {missing[:3]}"
    strange = set(counts) - {each.row for each in mine}
    assert not strange, f"{segment}: rows that nobody wrote: {sorted(strange)[:5]}"
