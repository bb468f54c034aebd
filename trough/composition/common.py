"""What a worker and a sync server of one process share.

The first entry of a stack starts first and stops last: listeners stop before what serves them, and
threads last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.access.gate import Gate
from trough.access.services import build_gate
from trough.executors.pool.encoder_pool import EncoderPool
from trough.executors.pool.task_pool import TaskPool
from trough.metadata import Metadata
from trough.metadata import url as metadata_url
from trough.metadata.open import open_metadata
from trough.metadata.schemas import Schemas
from trough.metrics.history import INTERVAL, History, requests_so_far
from trough.metrics.totals import RequestTotals
from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.unread_answers import UnreadAnswers
from trough.settings import Settings
from trough.settings.checks import check_exposed
from trough.storage import Storage
from trough.storage.open import open_storage
from trough.tls.client import ClientTls
from trough.util import confinement
from trough.util.confined_files import OwnFiles
from trough.util.confinement import Confinement
from trough.util.descriptors import raise_limit
from trough.util.flush_batch import FlushBatch
from trough.util.periodic import Periodic
from trough.util.private_files import (
    GroupAccess,
    check_database,
    make_private,
    tighten_database,
)
from trough.util.services import ServiceStack, StartHook, StopHook
from trough.util.threads import ThreadPoolService
from trough.worker import local_files

if TYPE_CHECKING:
    from trough.protocols.tls_listener import ServerTls


_log = Logger()


@dataclass(frozen=True, slots=True)
class Common:
    """What a worker and a sync server of one process share."""

    settings: Settings
    reactor: Any
    metadata: Metadata
    storage: Storage
    threads: ThreadPoolService
    schemas: Schemas
    stack: ServiceStack
    flush_batch: FlushBatch
    tasks: TaskPool
    connections: ConnectionTable
    unread: UnreadAnswers
    encoders: EncoderPool
    gate: Gate
    server_tls: ServerTls | None
    peer_tls: ClientTls


def build_common(settings: Settings, reactor: Any) -> Common:
    """Make what both need, in a stack that has its services."""
    check_exposed(settings)
    server_tls = _server_tls(settings, reactor)
    raise_limit()  # before the ports take their shares of it
    stack = ServiceStack()
    gate = build_gate(settings, reactor, stack)
    # Again, for twistd sets the mask that its --umask asks for when all is built.
    StartHook(make_private).setServiceParent(stack)
    StartHook(_report_what_is_missing).setServiceParent(stack)
    threads = ThreadPoolService("trough-work", 4, reactor)
    threads.setServiceParent(stack)
    tasks = TaskPool(reactor, confinement=confinement_of(settings))
    storage, metadata = _open_stores(settings, reactor, tasks)
    encoders = EncoderPool(reactor)
    StopHook(metadata.close).setServiceParent(stack)
    StopHook(lambda: _awaited(storage.close())).setServiceParent(stack)
    StopHook(tasks.close).setServiceParent(stack)
    StopHook(encoders.close).setServiceParent(stack)
    peer_tls = ClientTls(settings.tls, reactor, peers=True)
    if settings.tls.insists:
        peer_tls.context()  # unusable TLS settings are found out now
    return Common(
        settings=settings,
        reactor=reactor,
        metadata=metadata,
        storage=storage,
        threads=threads,
        schemas=Schemas(metadata, tasks),
        stack=stack,
        flush_batch=FlushBatch(reactor),
        tasks=tasks,
        connections=ConnectionTable(reactor.seconds, each=settings.connections_per_address),
        unread=UnreadAnswers(reactor, settings.max_unsent),
        encoders=encoders,
        gate=gate,
        server_tls=server_tls,
        peer_tls=peer_tls,
    )


def _open_stores(settings: Settings, reactor: Any, tasks: TaskPool) -> tuple[Storage, Metadata]:
    group = GroupAccess[settings.group_access.upper()]
    registry = registry_of(settings)
    if registry is not None:
        _make_private_registry(registry, group)
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
    return storage, metadata


def _server_tls(settings: Settings, reactor: Any) -> ServerTls | None:
    """For all listeners; None if they use no TLS, and OpenSSL is not loaded."""
    if not settings.tls.serves:
        return None
    from trough.protocols.tls_listener import ServerTls
    from trough.tls.contexts import check_own_name

    server_tls = ServerTls(settings.tls, reactor)
    check_own_name(settings.tls, settings.external_ip)
    return server_tls


def _report_what_is_missing() -> None:
    for part in confinement.missing():
        _log.warn("executors are confined without {part}: this kernel has none", part=part)


def history_of(
    common: Common, totals: RequestTotals, numbers: Callable[[], dict[str, float]]
) -> History:
    """The last hour of some numbers, which begins with the service."""
    history = History(lambda: {**requests_so_far(totals.status()), **numbers()}, time.time)
    Periodic("samples", INTERVAL, history.take, common.reactor).setServiceParent(common.stack)
    return history


def registry_of(settings: Settings) -> Path | None:
    """The file of the embedded metadata store, if that is where everything is written down."""
    address = metadata_url.parse(settings.metadata_url)
    return address.path if isinstance(address, metadata_url.SqliteAddress) else None


def _make_private_registry(registry: Path, group: GroupAccess) -> None:
    """:raises trough.errors.BadSettings: this user may not have it there"""
    try:
        tighten_database(registry, group)
        check_database(registry)
    except OSError as reason:
        raise errors.BadSettings(
            f"METADATA_URL: {reason.filename or registry} cannot be used: {reason.strerror}",
            "name a file that this user may write to, in a directory of the same kind",
        ) from reason


def own_files(settings: Settings) -> OwnFiles:
    """What is never a segment, whatever name it gets in canonical storage."""
    data, registry, snapshots = (
        Path(settings.local_data),
        registry_of(settings),
        snapshots_of(settings),
    )
    secrets = (settings.tokens_file, settings.audit_log, settings.tls_key)
    return OwnFiles(
        (
            local_files.catalogue_path(data),
            *([registry] if registry else []),
            *(Path(path) for path in secrets if path),
        ),
        (data, *([snapshots] if snapshots else [])),
    )


def snapshots_of(settings: Settings) -> Path | None:
    """A directory of this worker alone, for it is emptied at the start."""
    if settings.snapshot_directory is None:
        return None
    return Path(settings.snapshot_directory) / f"trough-snapshots-{settings.hostname}"


def confinement_of(settings: Settings) -> Confinement:
    """The files that processes which run SQL may use."""
    folders = tuple(str(Path(settings.local_data) / name) for name in local_files.FOLDERS)
    if (elsewhere := snapshots_of(settings)) is not None:
        folders += (str(elsewhere),)
    mount = settings.cold_root
    return Confinement((mount,) if mount else (), folders, files=True)


async def _awaited(deferred: Deferred[Any]) -> Any:
    return await deferred
