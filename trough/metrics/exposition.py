"""A process in Prometheus' text format: its totals, its status, and what the system knows.

The metrics of a status are listed in two tables, so that the guide's list can be tested against
them. The library's global registry is not used: a process may have two roles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from trough.metrics.executor_measures import MEASURES
from trough.metrics.histogram import cumulative
from trough.metrics.totals import BOUNDS, RequestTotals

#: The content type of :func:`exposition`.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

#: Where a number stands in a status: keys, one after the other.
Path = tuple[str, ...]

# Name, help, and place in the status of a worker. A name that ends in _total is a counter's.
_OF_WORKERS: tuple[tuple[str, str, Path], ...] = (
    ("trough_ready", "1 while the process can serve.", ("ready",)),
    ("trough_segments", "Local copies.", ("segments",)),
    ("trough_local_bytes", "Bytes of local copies.", ("bytes",)),
    ("trough_capacity_bytes", "Bytes that local copies may take.", ("capacity",)),
    ("trough_writable_segments", "Segments that are written here.", ("writable_count",)),
    ("trough_unpromoted_segments", "Segments with unpromoted writes.", ("unpromoted", "count")),
    ("trough_unpromoted_bytes", "Bytes of these segments.", ("unpromoted", "bytes")),
    (
        "trough_replicated_segments",
        "Segments whose writes go to followers.",
        ("replication", "replicated"),
    ),
    (
        "trough_under_replicated_segments",
        "Of these, with fewer followers than wanted.",
        ("replication", "under_replicated"),
    ),
    (
        "trough_under_replicated_seconds",
        "For how long the oldest of these has had too few.",
        ("replication", "under_replicated_seconds"),
    ),
    (
        "trough_followed_segments",
        "Segments of others that this worker follows.",
        ("replication", "following"),
    ),
    (
        "trough_replication_sent_bytes_total",
        "Bytes of logs and bases that were sent to followers.",
        ("replication", "sent_bytes"),
    ),
    (
        "trough_refused_writes_total",
        "Writes that were refused for lack of disk.",
        ("disk", "refused_writes"),
    ),
    (
        "trough_refused_promotions_total",
        "Promotions that were refused for lack of disk.",
        ("disk", "refused_promotions"),
    ),
    ("trough_unpublished_rows", "Rows that have yet to be published.", ("unpublished",)),
    ("trough_reconciler_assigned", "Segments assigned to the worker.", ("reconciler", "assigned")),
    ("trough_reconciler_queued", "Segments that wait for a look.", ("reconciler", "queued")),
    ("trough_reconciler_active", "Segments that are looked at.", ("reconciler", "active")),
    ("trough_reconciler_put_off", "Segments put off after a failure.", ("reconciler", "put_off")),
    ("trough_reconciler_looks_total", "Looks at segments.", ("reconciler", "looks")),
    ("trough_reconciler_failures_total", "Looks that failed.", ("reconciler", "failed")),
    (
        "trough_replication_lag_bytes",
        "What the slowest follower lacks of a segment's log.",
        ("replication", "lag_bytes"),
    ),
    (
        "trough_replication_lag_seconds",
        "Since the slowest follower made progress.",
        ("replication", "lag_seconds"),
    ),
    ("trough_result_cache_bytes", "Bytes of kept answers.", ("result_cache", "bytes")),
    ("trough_result_cache_hits_total", "Segments answered from these.", ("result_cache", "found")),
    ("trough_result_cache_misses_total", "Those that were not.", ("result_cache", "missed")),
    ("trough_executor_restarts_total", "Executors started again.", ("executors", "restarts")),
    ("trough_queries_running", "Queries that executors have.", ("executors", "queries")),
    ("trough_writes_running", "Writes that executors have.", ("executors", "writes")),
    ("trough_rows_total", "Rows that executors answered.", ("executors", "totals", "rows")),
    (
        "trough_answer_bytes_total",
        "Bytes that executors answered.",
        ("executors", "totals", "bytes"),
    ),
    ("trough_writes_total", "Writes that are on disk.", ("executors", "totals", "writes")),
    ("trough_changes_total", "Rows that writes changed.", ("executors", "totals", "changes")),
    ("trough_cold_segments", "Cold segments answered for.", ("cold", "segments")),
    ("trough_cold_cache_bytes", "Bytes of the cold cache in use.", ("cold", "bytes")),
    ("trough_cold_waiting", "Reads that wait for room in it.", ("cold", "waiting")),
    ("trough_cold_hits_total", "Cold reads that were in the cache.", ("cold", "hits")),
    ("trough_cold_fetches_total", "Cold segments fetched.", ("cold", "fetches")),
    ("trough_cold_evictions_total", "Cold segments evicted.", ("cold", "evictions")),
)

# The same of a sync server.
_OF_SYNC: tuple[tuple[str, str, Path], ...] = (
    ("trough_ready", "1 while the process can serve.", ("ready",)),
    ("trough_leader", "1 while this server leads.", ("leads",)),
    ("trough_leader_generation", "Number of the leadership.", ("generation",)),
    ("trough_gathers_running", "GATHERs that run.", ("gather", "running")),
    ("trough_gather_cache_hits_total", "GATHERs answered again.", ("gather", "found")),
    ("trough_gather_cache_misses_total", "Those that were not.", ("gather", "missed")),
    ("trough_write_locks", "Write locks that there are.", ("write_locks",)),
    ("trough_leader_rounds_total", "Rounds of the leader.", ("leadership", "rounds")),
    ("trough_leader_moves_total", "Copies that were moved.", ("leadership", "moves")),
    (
        "trough_assignments_put_total",
        "Assignments that were made.",
        ("leadership", "assignments_put"),
    ),
    (
        "trough_assignments_removed_total",
        "Assignments that were removed.",
        ("leadership", "assignments_removed"),
    ),
    (
        "trough_canonical_segments",
        "Segments in canonical storage.",
        ("leadership", "placement", "segments"),
    ),
    (
        "trough_lost_copies",
        "Copies that segments lack.",
        ("leadership", "placement", "lost_copies"),
    ),
    ("trough_moving_copies", "Copies on the way.", ("leadership", "placement", "moving")),
    (
        "trough_doubting_a_loss",
        "1 while many segments are missing at once.",
        ("leadership", "doubting_a_loss"),
    ),
    (
        "trough_clock_difference_seconds",
        "Between the RethinkDB servers.",
        ("leadership", "clocks_differ_by"),
    ),
)


def exposition(status: Mapping[str, Any], totals: RequestTotals) -> bytes:
    """All metrics of one process, as the text that Prometheus scrapes.

    :param status: of a worker or of a sync server, as ``GET /status`` gives it
    """
    registry = CollectorRegistry()
    registry.register(_Collector(status, totals))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, status: Mapping[str, Any], totals: RequestTotals) -> None:
        self._status = status
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield from _of_requests(self._totals)
        worker = status["role"] == "worker"
        for name, text, path in _OF_WORKERS if worker else _OF_SYNC:
            value = _at(status, path)
            if value is not None:
                family = _counter if name.endswith("_total") else GaugeMetricFamily
                yield family(name, text, value=float(value))
        yield from _of_stores(status)
        yield from (_of_worker if worker else _of_cluster)(status)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name.removesuffix("_total"), text, value=value)


def _at(status: Mapping[str, Any], path: Path) -> Any:
    found: Any = status
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _of_requests(totals: RequestTotals) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "trough_requests",
        "Requests that ended, by outcome: ok, lost, or the code of the error.",
        labels=["protocol", "verb", "outcome"],
    )
    for verb, counted in sorted(totals.verbs.items()):
        for outcome, number in sorted(counted.outcomes().items()):
            requests.add_metric((*verb, outcome), number)
    yield requests
    seconds = HistogramMetricFamily(
        "trough_request_seconds", "From a request to its answer.", labels=["protocol", "verb"]
    )
    for verb, counted in sorted(totals.verbs.items()):
        buckets = list(cumulative(BOUNDS, counted.buckets))
        seconds.add_metric(verb, buckets, counted.seconds)
    yield seconds


def _histogram(
    name: str, text: str, label: str, bounds: Sequence[float], found: Mapping[str, Sequence[float]]
) -> Metric:
    """A histogram with one label.

    :param found: numbers of :class:`trough.metrics.histogram.Histogram`, by the label's value
    """
    family = HistogramMetricFamily(name, text, labels=[label] if label else [])
    for value, numbers in sorted(found.items()):
        buckets = list(cumulative(bounds, numbers[:-1]))
        family.add_metric([value] if label else [], buckets, numbers[-1])
    return family


def _of_stores(status: Mapping[str, Any]) -> Iterator[Metric]:
    away = status["metadata"]["away_since"]
    yield GaugeMetricFamily(
        "trough_metadata_away",
        "1 while the metadata store does not answer.",
        float(away is not None),
    )
    calls = status["storage"].get("calls") or {}
    for name in ("running", "waiting"):
        yield GaugeMetricFamily(
            f"trough_storage_calls_{name}",
            f"Calls of canonical storage that are {name}.",
            calls.get(name, 0),
        )


def _of_worker(status: Mapping[str, Any]) -> Iterator[Metric]:
    oldest = status["unpromoted"]["oldest"]
    yield GaugeMetricFamily(
        "trough_unpromoted_age_seconds",
        "Since the oldest write that is not promoted; 0 without one.",
        max(0.0, time.time() - oldest) if oldest else 0.0,
    )
    yield GaugeMetricFamily(
        "trough_aside_files", "Files of unpromoted writes kept aside.", len(status["aside"])
    )
    yield GaugeMetricFamily(
        "trough_transfers_running", "Copies on the way.", len(status["transfers"])
    )
    processes = status["executors"]["executors"]
    for name, text, count in _EXECUTORS:
        family = GaugeMetricFamily(name, text, labels=["kind"])
        for kind in ("read", "write", "maintenance"):
            family.add_metric(
                [kind], sum(count(p) for p in processes if p["name"].startswith(kind))
            )
        yield family
    yield from _of_executors(status["executors"]["measured"])
    yield from _of_transfers(status["transfer_totals"])


# Name, help, and what executors call it; the first two by the kind of executor.
_MEASURED: tuple[tuple[str, str, str], ...] = (
    ("trough_executor_queue_seconds", "From an executor's receipt of work to its turn.", "queue"),
    ("trough_executor_turn_seconds", "One turn of a query, a commit, or other work.", "turn"),
    ("trough_commit_seconds", "A commit, which waits until the disk has it (fsync).", "commit"),
    ("trough_commit_writes", "Writes that share a commit.", "group"),
    ("trough_wal_bytes", "Bytes of a write-ahead log after a commit.", "log"),
)


def _of_executors(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[Metric]:
    for name, text, what in _MEASURED:
        by_kind = {kind: found[what] for kind, found in measured.items()}
        if what in ("queue", "turn"):
            yield _histogram(name, text, "kind", MEASURES[what], by_kind)
        elif "write" in by_kind:  # those that commit
            yield _histogram(name, text, "", MEASURES[what], {"": by_kind["write"]})


def _of_transfers(totals: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    seconds = {direction: each["seconds"] for direction, each in totals.items()}
    text = "Transfers from and to canonical storage that succeeded."
    yield _histogram("trough_transfer_seconds", text, "direction", BOUNDS, seconds)
    for name, text, key in (
        ("trough_transfer_failures", "Those that failed.", "failed"),
        ("trough_transfer_bytes", "Bytes that they moved.", "bytes"),
    ):
        family = CounterMetricFamily(name, text, labels=["direction"])
        for direction, each in totals.items():
            family.add_metric([direction], each[key])
        yield family


_EXECUTORS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("trough_executors", "Executor processes.", lambda process: 1),
    ("trough_executors_blocked", "Those busy with a long step.", lambda p: bool(p["held_up"])),
    ("trough_executor_memory_bytes", "Memory of these.", lambda p: p.get("memory") or 0),
)


def _of_cluster(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "trough_workers_seen", "Workers in the metadata store.", len(status["workers"])
    )
    yield GaugeMetricFamily(
        "trough_workers_in_trouble",
        "Workers that report a trouble.",
        sum(bool(worker["trouble"]) for worker in status["workers"]),
    )
    placed = _at(status, ("leadership", "placement", "workers"))
    if placed is not None:
        states = GaugeMetricFamily(
            "trough_workers", "Workers that the leader places on, by state.", labels=["state"]
        )
        for state in ("live", "draining", "waiting", "dead"):
            states.add_metric([state], sum(each["state"] == state for each in placed.values()))
        yield states
    skipped = _at(status, ("leadership", "skipped_files"))
    if skipped is not None:
        yield GaugeMetricFamily(
            "trough_skipped_files", "Files in storage that are no segments.", len(skipped)
        )
    away = _at(status, ("leadership", "storage_away"))
    if away is not None:
        yield GaugeMetricFamily(
            "trough_storage_away", "1 while canonical storage does not answer.", float(bool(away))
        )
