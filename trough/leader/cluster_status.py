"""A sync server's view of the cluster, with the metadata store or without it.

People ask for a status most often when something is wrong. So a store that is known to be away is
not waited for: the status has its last answer with the time of it, since when the store is away,
and why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from trough.metadata import Metadata
from trough.model import Worker
from trough.util.background_refresh import BackgroundRefresh
from trough.util.clocks import time_of_day

#: Seconds that a status waits for a store that has answered so far.
PATIENCE = 1.0


class ClusterStatus:
    """The workers and the number of write locks, as last seen."""

    def __init__(self, metadata: Metadata, clock: IReactorTime) -> None:
        self._metadata = metadata
        self._clock = clock
        self._patience = BackgroundRefresh(PATIENCE, clock)
        self._workers: list[Worker] = []
        self._locks: int | None = None
        self._as_of: float | None = None

    async def status(self) -> dict[str, Any]:
        """What is known, brought up to date if that can be done soon; JSON-able.

        Times are seconds since the epoch; ``as_of`` is that of ``workers``. Before the store
        has answered for the first time there are none, and ``write_locks`` is None.
        """
        await self._patience.give(self._look, self._metadata.absence is not None)
        absence = self._metadata.absence
        since, reason = self._patience.away_since, self._patience.reason
        if since is not None and absence is not None:
            since, reason = absence.since, absence.reason
        if since is not None:
            since = time_of_day(since, self._clock)
        return {
            "metadata": {"away_since": since, "reason": reason, "as_of": self._as_of},
            "workers": [_told(worker) for worker in self._workers],
            "write_locks": self._locks,
        }

    async def look(self) -> None:
        """Keep a recent answer for the time when the store is away, and notice its return.
        Cheap enough to run periodically."""
        await self._patience.give(self._look_at_workers, self._metadata.absence is not None)

    async def _look_at_workers(self) -> None:
        now = time.time()
        self._workers = await self._metadata.workers()
        self._as_of = now

    async def _look(self) -> None:
        await self._look_at_workers()
        # Only this one needs a majority of RethinkDB's servers.
        self._locks = await self._metadata.count_locks()


def _told(worker: Worker) -> dict[str, Any]:
    return {
        "node": worker.node,
        "line": worker.line,
        "read_url": worker.read_url,
        "load": worker.load,
        "available_bytes": worker.available_bytes,
        "capacity": worker.capacity,
        "cold_storage": worker.cold_storage,
        "draining": worker.draining,
        "last_heartbeat": worker.last_heartbeat,
        "trouble": worker.trouble,
        "unpromoted": worker.unpromoted,
        "unpromoted_since": worker.unpromoted_since,
    }


def numbers_of(term: Mapping[str, Any] | None) -> dict[str, float]:
    """Numbers of this moment, for :class:`trough.metrics.history.History`.

    :param term: the status of the leader's term; None: this server does not lead
    """
    placement = (term or {}).get("placement") or {}
    return {
        "moves_total": (term or {}).get("moves", 0),
        "lost_copies": placement.get("lost_copies", 0),
        "moving_copies": placement.get("moving", 0),
    }
