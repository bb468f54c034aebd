"""The status that a worker reports: ``/status`` on 6112, and STATUS in the line protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from trough.metadata import Metadata
from trough.model import Worker
from trough.storage import Storage
from trough.util.clocks import time_of_day
from trough.worker.cold_cache import ColdSegments
from trough.worker.confirmation import Confirmation
from trough.worker.look_scheduler import LookScheduler
from trough.worker.publisher import Publisher
from trough.worker.reconciler import Reconciler
from trough.worker.refusals import Refusals
from trough.worker.replication import Replication
from trough.worker.segments import Segments
from trough.worker.unpromoted import Unpromoted

#: Segments that are written here, of which the status names as many at most.
NAMED = 1000


class Reported(Protocol):
    """The parts of a worker that its status covers."""

    @property
    def myself(self) -> Worker: ...
    @property
    def ready(self) -> bool: ...
    @property
    def metadata(self) -> Metadata: ...
    @property
    def storage(self) -> Storage: ...
    @property
    def segments(self) -> Segments: ...
    @property
    def cold(self) -> ColdSegments | None: ...
    @property
    def publisher(self) -> Publisher: ...
    @property
    def reconciler(self) -> Reconciler: ...
    @property
    def looks(self) -> LookScheduler: ...
    @property
    def confirmation(self) -> Confirmation: ...
    @property
    def unpromoted(self) -> Unpromoted: ...
    @property
    def replication(self) -> Replication | None: ...
    @property
    def refusals(self) -> Refusals: ...
    @property
    def beaten(self) -> float | None: ...
    @property
    def executors(self) -> Callable[[], dict[str, Any]]: ...
    @property
    def result_cache(self) -> Callable[[], dict[str, int]]: ...


def status_of(worker: Reported, clock: IReactorTime) -> dict[str, Any]:
    """What `worker` holds and does; JSON-able."""
    return {
        "role": "worker",
        "node": worker.myself.node,
        "ready": worker.ready,
        "state": worker.confirmation.state,
        "metadata": _metadata(worker, clock),
        "segments": len(worker.segments),
        "bytes": worker.segments.used_bytes(),
        "capacity": worker.myself.capacity,
        "load": worker.myself.load,
        **_written(worker),
        "unpromoted": worker.unpromoted.status(),
        "replication": worker.replication.status() if worker.replication is not None else None,
        "aside": worker.segments.aside(),
        "disk": worker.refusals.status(),
        "transfers": worker.segments.transfers.running,
        "transfer_totals": worker.segments.transfers.totals(),
        "storage": worker.storage.status(),
        "unpublished": worker.publisher.behind,
        "reconciler": {
            "assigned": len(worker.reconciler.assigned or ()),
            "late": worker.reconciler.late.count,
            **worker.looks.status,
        },
        "executors": worker.executors(),
        "result_cache": worker.result_cache(),
        "cold": worker.cold.status() if worker.cold is not None else None,
    }


def numbers_of(worker: Reported) -> dict[str, float]:
    """Numbers of this moment, for :class:`trough.metrics.history.History`."""
    executors = worker.executors()
    return {
        "rows_total": executors["totals"]["rows"],
        "writes_total": executors["totals"]["writes"],
        "executor_memory_bytes": sum(each.get("memory", 0) for each in executors["executors"]),
        "local_bytes": worker.segments.used_bytes(),
        "unpromoted_segments": worker.unpromoted.waiting().count,
        "transfers": len(worker.segments.transfers.running),
    }


def _metadata(worker: Reported, clock: IReactorTime) -> dict[str, Any]:
    absence = worker.metadata.absence
    return {
        "away_since": time_of_day(absence.since, clock) if absence else None,
        "reason": absence.reason if absence else None,
        "last_heartbeat": worker.beaten,
    }


def _written(worker: Reported) -> dict[str, Any]:
    writable = worker.segments.writable()
    return {
        "writable": [
            {"segment": entry.segment, "epoch": entry.epoch, "unpromoted": entry.unpromoted}
            for entry in writable[:NAMED]
        ],
        "writable_count": len(writable),
    }
