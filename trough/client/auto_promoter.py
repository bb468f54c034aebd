"""Promotes, in rounds, the segments that were written to.

It has a daemon thread that sleeps between rounds. If a promotion fails, the next round tries it
again, and the other segments of the round go on. After a fork, the child promotes what it wrote to,
and the parent the rest. How a segment is promoted is an argument.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable


class AutoPromoter:
    """Promotes what was noted down.

    :param promote: promotes a segment; called on the promoter's thread
    :param interval: seconds between two rounds
    """

    def __init__(
        self, promote: Callable[[str], object], interval: float, logger: logging.Logger
    ) -> None:
        self._promote = promote
        self._interval = interval
        self._logger = logger
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._dirty: set[str] = set()
        self._stopping = threading.Event()
        self._process = os.getpid()
        threading.Thread(target=self._run, name="TroughClient-promoter", daemon=True).start()

    def note(self, segment: str) -> None:
        """Promote `segment` in the next round; on any thread."""
        if self._process != os.getpid() and not self._stopping.is_set():
            self._begin()  # threads do not come along into a forked process
        with self._lock:
            self._dirty.add(segment)

    def forget(self, segment: str) -> None:
        """Do not promote it, unless it is noted again; on any thread."""
        with self._lock:
            self._dirty.discard(segment)

    def stop(self) -> None:
        """End after the round under way, without another one; on any thread."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._round()

    def _round(self) -> None:
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        self._logger.info("promoting %s trough segments", len(dirty))
        for segment in sorted(dirty):
            if self._stopping.is_set():
                return
            try:
                self._promote(segment)
            except Exception:  # any failure: the other segments and rounds go on
                self._logger.exception("problem promoting segment %s", segment)
                self.note(segment)
