"""Puts a worker, a sync server, or both together from settings.

Only this module names concrete stores. Everything here builds and returns. A part that uses the
network or starts a process does so when its service starts. The first entry of a stack starts first
and stops last: listeners stop before what serves them, and threads last.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application import service, strports
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.web.resource import Resource

from trough import __version__, errors
from trough.access.gate import Gate
from trough.access.services import build_gate
from trough.cluster_client.client import Cluster
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.kept_answers import MOST
from trough.cluster_client.replication_peers import ReplicationPeers
from trough.example import Example, Welcome
from trough.executors.pool.encoder_pool import EncoderPool
from trough.executors.pool.pool import ExecutorPool
from trough.executors.pool.task_pool import TaskPool
from trough.gather import leftovers
from trough.leader import cluster_status
from trough.leader.term import Leadership, Policy
from trough.metadata import Metadata
from trough.metadata import url as metadata_url
from trough.metadata.open import open_metadata
from trough.metadata.schemas import Schemas
from trough.metrics.history import INTERVAL, History, requests_so_far
from trough.metrics.totals import RequestTotals
from trough.model import Leader, Lock, Worker
from trough.protocols.address_limit import AddressLimit
from trough.protocols.gather_service import Gatherer
from trough.protocols.http.browser_guard import BrowserGuard
from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.http.manager import ManagerResource
from trough.protocols.http.manager_client import ManagerClient
from trough.protocols.http.proxy import Proxy
from trough.protocols.http.query import ReadResource, WriteResource
from trough.protocols.http.site import Site
from trough.protocols.line.framing import FramingLimits as LineLimits
from trough.protocols.line.replication_verbs import ReplicationVerbs
from trough.protocols.line.replies import Verb
from trough.protocols.line.server import (
    LineServerFactory,
    ServerLimits,
    most_line_connections,
)
from trough.protocols.line.sync_verbs import SyncVerbs
from trough.protocols.line.worker_verbs import WorkerVerbs
from trough.protocols.segment_search import SegmentSearch
from trough.settings import Settings
from trough.settings.checks import check_exposed
from trough.storage import Storage
from trough.storage.open import directory_of, open_storage
from trough.sync import MasterSyncController
from trough.tls.client import ClientTls
from trough.util import confinement
from trough.util.confined_files import OwnFiles
from trough.util.confinement import Confinement
from trough.util.descriptors import raise_limit
from trough.util.flush_batch import FlushBatch
from trough.util.periodic import Periodic
from trough.util.private_files import GroupAccess, make_private, tighten, tighten_database
from trough.util.readiness import ReadinessNotifier
from trough.util.services import FatalExit, Listener, ServiceStack, StartHook, StopHook
from trough.util.threads import ThreadPoolService
from trough.worker import local_files
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

if TYPE_CHECKING:
    from trough.protocols.tls_listener import ServerTls

_log = Logger()

#: Bytes of a disk that count as none: a write-ahead log grows by some megabytes.
LEAST_FREE = 16 << 20

#: Bytes of a body that carries an order or a schema.
MAX_MANAGER_BODY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Common:
    """What a worker and a sync server of one process share."""

    settings: Settings
    reactor: Any
    metadata: Metadata
    storage: Storage
    threads: ThreadPoolService
    schemas: Schemas
    stack: ServiceStack
    bunch: FlushBatch
    tasks: TaskPool
    connections: ConnectionTable
    encoders: EncoderPool
    gate: Gate
    server_tls: ServerTls | None
    peer_tls: ClientTls


def build_worker(settings: Settings, reactor: Any) -> service.IService:
    """A worker."""
    _announce("worker", settings, f", local data {settings.local_data}")
    common = _build_common(settings, reactor)
    worker = _add_worker(common)
    ReadinessNotifier(
        "worker", lambda: worker.ready, _worker_addresses(settings), reactor
    ).setServiceParent(common.stack)
    return common.stack


def build_sync(settings: Settings, reactor: Any) -> service.IService:
    """A sync server."""
    _announce("sync server", settings)
    common = _build_common(settings, reactor)
    controller = _add_sync(common)
    ReadinessNotifier(
        "sync server", lambda: controller.ready, _sync_addresses(settings), reactor
    ).setServiceParent(common.stack)
    return common.stack


def build_node(settings: Settings, reactor: Any, example: bool = False) -> service.IService:
    """A sync server and a worker in one process.

    :param example: whether to put a small example into an empty Trough
    """
    common = _build_common(settings, reactor)
    controller = _add_sync(common)
    worker = _add_worker(common)
    made = Example(controller, common.schemas, worker, settings) if example else None
    ReadinessNotifier(
        "trough",
        lambda: controller.ready and worker.ready,
        {**_worker_addresses(settings), **_sync_addresses(settings)},
        reactor,
        Welcome(settings, made),
    ).setServiceParent(common.stack)
    return common.stack


def _announce(role: str, settings: Settings, more: str = "") -> None:
    # A mistyped server name shows up here, and not after the first time limit.
    _log.info(
        "{role} {node} starts: Trough {version}, metadata {metadata}, storage {storage}{more}",
        role=role,
        node=settings.hostname,
        version=__version__,
        metadata=settings.metadata_url,
        storage=settings.storage_url,
        more=more,
    )


def _build_common(settings: Settings, reactor: Any) -> _Common:
    check_exposed(settings)
    server_tls = _server_tls(settings, reactor)
    raise_limit()  # before the ports take their shares of it
    stack = ServiceStack()
    gate = build_gate(settings, reactor, stack)
    # Again, for twistd sets the mask that its --umask asks for when all is built.
    StartHook(make_private).setServiceParent(stack)
    group = GroupAccess[settings.group_access.upper()]
    registry = _registry(settings)
    if registry is not None:
        _make_private_registry(registry, group)
    tasks = TaskPool(reactor, confinement=_confinement(settings))
    StartHook(_report_what_is_missing).setServiceParent(stack)
    threads = ThreadPoolService("trough-work", 4, reactor)
    threads.setServiceParent(stack)
    storage = open_storage(
        settings.storage_url,
        reactor,
        user=settings.hdfs_user,
        proxy=settings.hdfs_proxy,
        ca=settings.hdfs_tls,
        threads=settings.copy_thread_pool_size,
        own=own_files(settings),
        group=group,
    )
    metadata = open_metadata(
        settings.metadata_url,
        reactor,
        user=settings.rethinkdb_user,
        password=settings.rethinkdb_password or "",
        ca=settings.rethinkdb_tls,
        locate=storage.location,
        # Those that match patterns against an embedded registry open it, and run no SQL of
        # anybody; those that run SQL may not.
        tasks=tasks if registry is None else None,
    )
    StopHook(metadata.close).setServiceParent(stack)
    StopHook(lambda: _awaited(storage.close())).setServiceParent(stack)
    StopHook(tasks.close).setServiceParent(stack)
    schemas = Schemas(metadata, tasks)
    connections = ConnectionTable(reactor.seconds, each=settings.connections_per_address)
    bunch = FlushBatch(reactor)
    encoders = EncoderPool(reactor)
    StopHook(encoders.close).setServiceParent(stack)
    peer_tls = ClientTls(settings.tls, reactor, peers=True)
    if settings.tls.insists:
        peer_tls.context()  # unusable TLS settings are found out now
    return _Common(
        settings,
        reactor,
        metadata,
        storage,
        threads,
        schemas,
        stack,
        bunch,
        tasks,
        connections,
        encoders,
        gate,
        server_tls,
        peer_tls,
    )


def _server_tls(settings: Settings, reactor: Any) -> ServerTls | None:
    """For all listeners; None if they use no TLS, and OpenSSL is not loaded."""
    if not settings.tls.serves:
        return None
    from trough.protocols.tls_listener import ServerTls
    from trough.tls.contexts import check_own_name

    server_tls = ServerTls(settings.tls, reactor)
    check_own_name(settings.tls, settings.external_ip)
    return server_tls


def _confinement(settings: Settings) -> Confinement:
    """The files that processes which run SQL may use."""
    folders = tuple(str(Path(settings.local_data) / name) for name in local_files.FOLDERS)
    if (elsewhere := _snapshots(settings)) is not None:
        folders += (str(elsewhere),)
    mount = settings.cold_root
    return Confinement((mount,) if mount else (), folders, files=True)


def _report_what_is_missing() -> None:
    for part in confinement.missing():
        _log.warn("executors are confined without {part}: this kernel has none", part=part)


def _registry(settings: Settings) -> Path | None:
    """The file of the embedded metadata store, if that is where everything is written down."""
    address = metadata_url.parse(settings.metadata_url)
    return address.path if isinstance(address, metadata_url.SqliteAddress) else None


def _make_private_registry(registry: Path, group: GroupAccess) -> None:
    """:raises trough.errors.BadSettings: this user may not have it there"""
    try:
        tighten_database(registry, group)
    except OSError as reason:
        raise errors.BadSettings(
            f"METADATA_URL: {registry} cannot be used: {reason.strerror}",
            "name a file in a directory that this user may write to",
        ) from reason


def own_files(settings: Settings) -> OwnFiles:
    """What is never a segment, whatever name it gets in canonical storage."""
    data, registry, snapshots = Path(settings.local_data), _registry(settings), _snapshots(settings)
    secrets = (settings.tokens_file, settings.audit_log, settings.tls_key)
    return OwnFiles(
        (
            local_files.catalogue_path(data),
            *([registry] if registry else []),
            *(Path(path) for path in secrets if path),
        ),
        (data, *([snapshots] if snapshots else [])),
    )


async def _awaited(deferred: Deferred[Any]) -> Any:
    return await deferred


# -- a worker ---------------------------------------------------------------------


def _add_worker(common: _Common) -> LocalSyncController:
    settings, reactor, stack = common.settings, common.reactor, common.stack
    directory = Path(settings.local_data)
    storage_root = directory_of(settings.storage_url)
    if storage_root is not None:
        check_apart(directory, storage_root, _registry(settings))
    data = DataDirectory(directory, settings.hostname, _snapshots(settings))
    tighten(directory)
    catalogue_thread = ThreadPoolService("trough-catalogue", 1, reactor)
    pool = _executor_pool(common)
    segments = Segments(
        directory,
        common.storage,
        pool,
        common.threads,
        catalogue_thread,
        now=reactor.seconds,
        snapshots=_snapshots(settings),
    )
    logs_threads = ThreadPoolService("trough-logs", 4, reactor)
    peers = ConnectionPool(reactor, common.gate.credential, common.peer_tls)
    StopHook(peers.close).setServiceParent(stack)

    def replicate(shared: Shared, myself: Worker, taken: Callable[[Lock], None]) -> Replication:
        return Replication(
            shared,
            myself,
            _replication_settings(settings),
            LogFiles(directory),
            ReplicationPeers(peers).send,
            run=logs_threads.run,
            taken=taken,
            clock=reactor,
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
        replicate=None if settings.run_as_cold_storage_node else replicate,
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


def _snapshots(settings: Settings) -> Path | None:
    """A directory of this worker alone, for it is emptied at the start."""
    if settings.snapshot_directory is None:
        return None
    return Path(settings.snapshot_directory) / f"trough-snapshots-{settings.hostname}"


def _executor_pool(common: _Common) -> ExecutorPool:
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
        bunch=common.bunch,
        tasks=common.tasks,
        confinement=_confinement(settings),
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


def _cold_segments(common: _Common, pool: ExecutorPool) -> ColdSegments | None:
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
    common: _Common, controller: LocalSyncController, queries: QueryService
) -> None:
    settings, reactor = common.settings, common.reactor
    gate = common.gate
    proxy = Proxy(reactor, gate.credential, common.peer_tls)
    totals = RequestTotals()
    StopHook(proxy.close).setServiceParent(common.stack)
    verbs = WorkerVerbs(queries, common.tasks).table()
    if controller.replication is not None:
        verbs |= ReplicationVerbs(controller.replication.obey).table()
    _listen_line(common, "LINE_PORT", "worker", verbs, totals)
    aside = AsideFiles(controller)
    history = _history(common, totals, lambda: worker_status.numbers_of(controller))
    manager = ManagerResource(
        controller, common.schemas, gate, totals=totals, aside=aside, history=history
    )
    _listen_http(common, "SYNC_LOCAL_PORT", manager, MAX_MANAGER_BODY, totals)
    writes = WriteResource(queries, proxy, gate)
    _listen_http(common, "WRITE_PORT", writes, settings.max_write_body, totals)
    reads = ReadResource(queries, proxy, common.encoders, gate)
    _listen_http(common, "READ_PORT", reads, settings.max_sql_length, totals)


def _history(
    common: _Common, totals: RequestTotals, numbers: Callable[[], dict[str, float]]
) -> History:
    """The last hour of some numbers, which begins with the service."""
    history = History(lambda: {**requests_so_far(totals.status()), **numbers()}, time.time)
    Periodic("samples", INTERVAL, history.take, common.reactor).setServiceParent(common.stack)
    return history


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


# -- a sync server ------------------------------------------------------------------


def _add_sync(common: _Common) -> MasterSyncController:
    settings, reactor, stack = common.settings, common.reactor, common.stack
    peers = ManagerClient(reactor, common.gate.credential, common.peer_tls)
    controller = MasterSyncController(
        _sync_row(settings),
        common.metadata,
        common.storage,
        _leadership(common),
        peers,
        is_cold=settings.is_cold,
        election_cycle=settings.election_cycle,
        holder_wait=settings.holder_wait,
        clock=reactor,
    )
    StopHook(peers.close).setServiceParent(stack)
    cluster = Cluster(
        common.metadata,
        reactor,
        common.gate.credential,
        gather_memory=settings.gather_memory,
        kept_answers=min(MOST, settings.result_cache),
        tls=common.peer_tls,
    )
    StartHook(lambda: _prepare_gathers(common, cluster)).setServiceParent(stack)
    # Before the controller, and so closed after it, for it takes the metadata store along.
    StopHook(cluster.close).setServiceParent(stack)
    gatherer = Gatherer(cluster, settings.query_seconds, settings.max_query_seconds, reactor)
    controller.setServiceParent(stack)
    verbs = SyncVerbs(controller, common.schemas, gatherer).table()
    totals = RequestTotals()
    _listen_line(common, "SYNC_LINE_PORT", "sync", verbs, totals)
    manager = ManagerResource(
        controller,
        common.schemas,
        common.gate,
        gatherer,
        controller.leadership.files_of,
        encoders=common.encoders,
        totals=totals,
        search=SegmentSearch(common.metadata, reactor),
        history=_history(
            common, totals, lambda: cluster_status.numbers_of(controller.leadership.status())
        ),
    )
    _listen_http(common, "SYNC_SERVER_PORT", manager, MAX_MANAGER_BODY, totals)
    return controller


def _prepare_gathers(common: _Common, cluster: Cluster) -> None:
    """Have a process for the first GATHER, and remove what killed ones left long ago."""
    cluster.warm_gathers()
    common.threads.run(leftovers.sweep).addErrback(
        lambda failure: _log.failure("temporary files of GATHERs were not removed", failure)
    )


def _sync_row(settings: Settings) -> Leader:
    return Leader(
        node=settings.hostname,
        identity=uuid.uuid4().hex,
        url=settings.url(settings.sync_server_port),
        line=settings.line_address(settings.sync_line_port),
        ttl=settings.leader_ttl,
    )


def _leadership(common: _Common) -> Leadership:
    settings = common.settings
    policy = Policy(
        settings.copies_for,
        settings.is_cold,
        settings.maximum_assignments,
        settings.move_grace,
        settings.moves_per_second,
        settings.listing_interval,
        settings.full_listing_interval,
        min(settings.worker_ttl / 3, 5.0),
    )
    planning = ThreadPoolService("trough-planning", 1, common.reactor)
    planning.setServiceParent(common.stack)
    tls = common.settings.tls
    return Leadership(common.metadata, common.storage, policy, planning, common.reactor, tls=tls)


# -- listening -------------------------------------------------------------------------


def _listen_http(
    common: _Common, key: str, root: Resource, max_body: int, totals: RequestTotals
) -> None:
    guard = _guard(common.settings)
    site = Site(
        root,
        common.reactor,
        max_body,
        common.bunch,
        guard,
        connections=common.connections,
        totals=totals,
    )
    StopHook(lambda: site.drain(common.settings.shutdown_seconds)).setServiceParent(common.stack)
    _listen(common, key, site, _PLAIN_HTTP)


def _guard(settings: Settings) -> BrowserGuard:
    machine = os.uname().nodename
    names = [settings.hostname, settings.external_ip, machine, machine.partition(".")[0]]
    return BrowserGuard([*names, *(settings.http_hosts or ())], settings.http_origins or ())


def _listen_line(
    common: _Common, key: str, role: str, verbs: dict[str, Verb], totals: RequestTotals
) -> None:
    settings = common.settings
    factory = LineServerFactory(
        role,
        settings.hostname,
        verbs,
        common.reactor,
        gate=common.gate,
        bunch=common.bunch,
        limits=ServerLimits(
            LineLimits(settings.max_line, settings.max_literal),
            half_message=settings.message_seconds,
            connections=most_line_connections(),
        ),
        totals=totals,
        addresses=AddressLimit(settings.connections_per_address, common.reactor.seconds),
    )
    StopHook(lambda: factory.drain(settings.shutdown_seconds)).setServiceParent(common.stack)
    _listen(common, key, factory, _PLAIN_LINE)


#: The answer to a peer without TLS on a port with TLS.
_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nX-Trough-Error: bad-request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    b"500 Server Error: this port speaks TLS (ask https://)\n"
)
_PLAIN_LINE = b"* BYE bad-request this port speaks TLS (connect with TLS)\n"


def _listen(common: _Common, key: str, factory: IProtocolFactory, plain_answer: bytes) -> None:
    """:param plain_answer: to a peer without TLS, if this process uses TLS"""
    address, port = common.settings.bind_address, getattr(common.settings, key.lower())
    common.gate.serve(f"{common.settings.url_host}:{port}")
    kind = "tcp6" if ":" in address else "tcp"
    if common.server_tls is not None:
        factory = common.server_tls.listener(factory, plain_answer)
    listening = strports.service(
        f"{kind}:{port}:interface={quoteStringArgument(address)}:backlog=1024",
        factory,
        common.reactor,
    )
    Listener(listening, f"{address} port {port}", key).setServiceParent(common.stack)


def _worker_addresses(settings: Settings) -> dict[str, str]:
    return {
        "read": settings.url(settings.read_port),
        "write": settings.url(settings.write_port),
        "worker line": settings.line_address(settings.line_port),
        "worker manager": settings.url(settings.sync_local_port),
    }


def _sync_addresses(settings: Settings) -> dict[str, str]:
    return {
        "sync": settings.url(settings.sync_server_port),
        "sync line": settings.line_address(settings.sync_line_port),
        "metadata": settings.metadata_url,
    }
