"""A worker, put together from settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.replication_peers import ReplicationPeers
from trough.cluster_client.write_peers import WritePeers
from trough.composition.common import Common, confinement_of, history_of, registry_of, snapshots_of
from trough.composition.listening import MAX_MANAGER_BODY, listen_http, listen_line
from trough.executors.pool.pool import ExecutorPool
from trough.metrics.totals import RequestTotals
from trough.model import Lock, Worker
from trough.protocols.http.manager import ManagerResource
from trough.protocols.http.proxy import Proxy
from trough.protocols.http.query import ReadResource, WriteResource
from trough.protocols.line.replication_verbs import ReplicationVerbs
from trough.protocols.line.worker_verbs import WorkerVerbs
from trough.replication.orders import VERSION
from trough.settings import Settings
from trough.storage.open import directory_of
from trough.util.private_files import tighten
from trough.util.services import FatalExit, StopHook
from trough.util.threads import ThreadPoolService
from trough.worker import status as worker_status
from trough.worker.aside_files import AsideFiles
from trough.worker.cold_cache import ColdSegments
from trough.worker.controller import LocalSyncController
from trough.worker.data_directory import DataDirectory, check_apart
from trough.worker.log_files import LogFiles
from trough.worker.queries import QueryLimits, QueryService
from trough.worker.replication import Replication, ReplicationSettings
from trough.worker.segments import Segments
from trough.worker.shared import Shared
from trough.worker.timing import Timing

#: Bytes of a disk that count as none: a write-ahead log grows by some megabytes.
LEAST_FREE = 16 << 20


def add_worker(common: Common) -> LocalSyncController:
    """Put a worker's parts into the stack; its ports are last."""
    settings, reactor, stack = common.settings, common.reactor, common.stack
    data = _data_directory(settings)
    catalogue_thread = ThreadPoolService("trough-catalogue", 1, reactor)
    logs_threads = ThreadPoolService("trough-logs", 4, reactor)
    pool = _executor_pool(common)
    segments = Segments(
        Path(settings.local_data),
        common.storage,
        pool,
        common.threads,
        catalogue_thread,
        now=reactor.seconds,
        snapshots=snapshots_of(settings),
    )
    controller = LocalSyncController(
        _worker_row(settings, data.identity),
        common.metadata,
        common.storage,
        segments,
        _worker_timing(settings),
        measure=_measure(settings, segments),
        is_cold=settings.is_cold,
        refuse=FatalExit(reactor),
        executors=lambda: pool.status(),
        copy_ttl=settings.copy_ttl,
        cold=_cold_segments(common, pool),
        clock=reactor,
        replicate=_replicate(common, logs_threads),
    )
    if controller.replication is not None:
        pool.when_committed = controller.replication.committed
        pool.when_log_broken = controller.replication.log_broken
    queries = QueryService(controller, pool, _query_limits(settings), reactor)
    for child in (data, catalogue_thread, logs_threads, pool, controller):
        child.setServiceParent(stack)
    _listen_as_worker(common, controller, queries)
    # Last, and so the first to stop: no client may be sent here once ports are closed.
    StopHook(controller.sign_off).setServiceParent(stack)
    return controller


def _data_directory(settings: Settings) -> DataDirectory:
    """:raises trough.errors.BadSettings: LOCAL_DATA cannot be used"""
    directory = Path(settings.local_data)
    storage_root = directory_of(settings.storage_url)
    if storage_root is not None:
        check_apart(directory, storage_root, registry_of(settings))
    data = DataDirectory(directory, settings.hostname, snapshots_of(settings))
    tighten(directory)
    return data


def _replicate(
    common: Common, threads: ThreadPoolService
) -> Callable[[Shared, Worker, Callable[[Lock], None]], Replication] | None:
    """Makes the replication of a worker's writes; None for a worker that takes none."""
    settings = common.settings
    if settings.run_as_cold_storage_node:
        return None
    peers = ConnectionPool(common.reactor, common.gate.credential, common.peer_tls)
    StopHook(peers.close).setServiceParent(common.stack)

    def replicate(shared: Shared, myself: Worker, taken: Callable[[Lock], None]) -> Replication:
        return Replication(
            shared,
            myself,
            _replication_settings(settings),
            LogFiles(Path(settings.local_data)),
            ReplicationPeers(peers).send,
            run=threads.run,
            taken=taken,
            clock=common.reactor,
        )

    return replicate


def _executor_pool(common: Common) -> ExecutorPool:
    settings = common.settings
    return ExecutorPool(
        common.reactor,
        executors=settings.executors,
        write_executors=settings.write_executors,
        max_executors=settings.max_executors,
        max_write_executors=settings.max_write_executors,
        memory=settings.executor_memory,
        kept_handles=settings.kept_handles,
        growth=settings.max_write_growth,
        segment_size=settings.max_segment_size,
        flush_batch=common.flush_batch,
        tasks=common.tasks,
        confinement=confinement_of(settings),
    )


def _replication_settings(settings: Settings) -> ReplicationSettings:
    return ReplicationSettings(
        settings.write_copies,
        settings.replication_timeout,
        settings.write_without_copies == "allow",
    )


def _worker_timing(settings: Settings) -> Timing:
    return Timing(
        heartbeat=settings.heartbeat_interval,
        retry=min(settings.sync_loop_timing, 10.0),
        full=max(settings.sync_loop_timing, 60.0),
        lock_idle=settings.write_lock_idle,
        promote_after=settings.promote_after,
    )


def _cold_segments(common: Common, pool: ExecutorPool) -> ColdSegments | None:
    """The cold segments of a worker that answers for those and no others."""
    settings = common.settings
    if not settings.run_as_cold_storage_node:
        return None
    return ColdSegments(
        Path(settings.local_data) / "cold",
        settings.cold_cache_bytes,
        settings.cold_path,
        common.storage,
        pool,
        threads=common.threads,
        clock=common.reactor,
    )


def _query_limits(settings: Settings) -> QueryLimits:
    return QueryLimits(
        settings.query_seconds,
        settings.max_query_seconds,
        settings.write_seconds,
        settings.max_rows,
        settings.max_sql_length,
        settings.result_cache,
        settings.slow_query_seconds,
    )


def _listen_as_worker(
    common: Common, controller: LocalSyncController, queries: QueryService
) -> None:
    settings, reactor = common.settings, common.reactor
    gate = common.gate
    proxy = Proxy(reactor, gate.credential, common.peer_tls)
    totals = RequestTotals()
    StopHook(proxy.close).setServiceParent(common.stack)
    peers = ConnectionPool(reactor, gate.credential, common.peer_tls)
    StopHook(peers.close).setServiceParent(common.stack)
    pass_on = WritePeers(peers, reactor).pass_on
    verbs = WorkerVerbs(queries, common.tasks, pass_on).table()
    if controller.replication is not None:
        verbs |= ReplicationVerbs(controller.replication.obey).table()
    listen_line(common, "LINE_PORT", "worker", verbs, totals)
    aside = AsideFiles(controller)
    history = history_of(common, totals, lambda: worker_status.numbers_of(controller))
    manager = ManagerResource(
        controller, common.schemas, gate, totals=totals, aside=aside, history=history
    )
    listen_http(common, "SYNC_LOCAL_PORT", manager, MAX_MANAGER_BODY, totals)
    writes = WriteResource(queries, proxy, gate)
    listen_http(common, "WRITE_PORT", writes, settings.max_write_body, totals)
    reads = ReadResource(queries, proxy, common.encoders, gate)
    listen_http(common, "READ_PORT", reads, settings.max_sql_length, totals)


def _worker_row(settings: Settings, identity: str) -> Worker:
    return Worker(
        node=settings.hostname,
        identity=identity,
        line=settings.line_address(settings.line_port),
        read_url=settings.url(settings.read_port),
        write_url=settings.url(settings.write_port),
        manager_url=settings.url(settings.sync_local_port),
        capacity=_capacity(settings),
        available_bytes=_capacity(settings),
        cold_storage=settings.run_as_cold_storage_node,
        ttl=settings.worker_ttl,
        replication=VERSION,
    )


def _capacity(settings: Settings) -> int:
    if settings.storage_in_bytes:
        return settings.storage_in_bytes
    disk = os.statvfs(settings.local_data)
    # The rest is for what is not a copy: write-ahead logs, snapshots, files kept aside.
    return disk.f_frsize * disk.f_blocks * 8 // 10


def _measure(settings: Settings, segments: Segments) -> Callable[[], tuple[float, int]]:
    capacity = _capacity(settings)

    def measure() -> tuple[float, int]:
        disk = os.statvfs(settings.local_data)
        left = disk.f_frsize * disk.f_bavail
        if left < min(LEAST_FREE, disk.f_frsize * disk.f_blocks // 100):
            left = 0  # the next write may be refused
        return os.getloadavg()[0], max(0, min(capacity - segments.used_bytes(), left))

    return measure


def worker_addresses(settings: Settings) -> dict[str, str]:
    """The addresses that a worker reports when it is ready."""
    return {
        "read": settings.url(settings.read_port),
        "write": settings.url(settings.write_port),
        "worker line": settings.line_address(settings.line_port),
        "worker manager": settings.url(settings.sync_local_port),
    }
