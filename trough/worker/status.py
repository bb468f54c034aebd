"""The status that a worker reports: ``/status`` on 6112, and STATUS in the line protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from trough.util.clocks import time_of_day

if TYPE_CHECKING:
    from trough.worker.controller import LocalSyncController

#: Segments that are written here, of which the status names as many at most.
NAMED = 1000


def status_of(worker: LocalSyncController, clock: IReactorTime) -> dict[str, Any]:
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
        "aside": worker.segments.aside(),
        "disk": worker.refusals.status(),
        "transfers": worker.segments.transfers,
        "storage": worker.storage.status(),
        "unpublished": worker.publisher.behind,
        "reconciler": worker.reconciler.status,
        "executors": worker.executors(),
        "cold": worker.cold.status() if worker.cold is not None else None,
    }


def _metadata(worker: LocalSyncController, clock: IReactorTime) -> dict[str, Any]:
    absence = worker.metadata.absence
    return {
        "away_since": time_of_day(absence.since, clock) if absence else None,
        "reason": absence.reason if absence else None,
        "last_heartbeat": worker.beaten,
    }


def _written(worker: LocalSyncController) -> dict[str, Any]:
    writable = worker.segments.writable()
    return {
        "writable": [
            {"segment": entry.segment, "epoch": entry.epoch, "unpromoted": entry.unpromoted}
            for entry in writable[:NAMED]
        ],
        "writable_count": len(writable),
    }
