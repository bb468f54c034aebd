"""A sync server, put together from settings."""

from __future__ import annotations

import uuid

from twisted.logger import Logger

from trough.cluster_client.client import Cluster
from trough.cluster_client.kept_answers import MOST
from trough.composition.common import Common, history_of
from trough.composition.listening import MAX_MANAGER_BODY, listen_http, listen_line
from trough.gather import leftovers
from trough.leader import cluster_status
from trough.leader.term import Leadership, Policy
from trough.metrics.totals import RequestTotals
from trough.model import Leader
from trough.protocols.gather_service import Gatherer
from trough.protocols.http.manager import ManagerResource
from trough.protocols.http.manager_client import ManagerClient
from trough.protocols.line.sync_verbs import SyncVerbs
from trough.protocols.segment_search import SegmentSearch
from trough.settings import Settings
from trough.sync import MasterSyncController
from trough.util.services import StartHook, StopHook
from trough.util.threads import ThreadPoolService

_log = Logger()


def add_sync(common: Common) -> MasterSyncController:
    """Put a sync server's parts into the stack; its ports are last."""
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
    controller.setServiceParent(stack)
    _listen_as_sync(common, controller, cluster)
    return controller


def _listen_as_sync(common: Common, controller: MasterSyncController, cluster: Cluster) -> None:
    settings, totals = common.settings, RequestTotals()
    gatherer = Gatherer(cluster, settings.query_seconds, settings.max_query_seconds, common.reactor)
    verbs = SyncVerbs(controller, common.schemas, gatherer).table()
    listen_line(common, "SYNC_LINE_PORT", "sync", verbs, totals)
    manager = ManagerResource(
        controller,
        common.schemas,
        common.gate,
        gatherer,
        controller.leadership.files_of,
        encoders=common.encoders,
        totals=totals,
        search=SegmentSearch(common.metadata, common.reactor),
        history=history_of(
            common, totals, lambda: cluster_status.numbers_of(controller.leadership.status())
        ),
    )
    listen_http(common, "SYNC_SERVER_PORT", manager, MAX_MANAGER_BODY, totals)


def _prepare_gathers(common: Common, cluster: Cluster) -> None:
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


def _leadership(common: Common) -> Leadership:
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


def sync_addresses(settings: Settings) -> dict[str, str]:
    """The addresses that a sync server reports when it is ready."""
    return {
        "sync": settings.url(settings.sync_server_port),
        "sync line": settings.line_address(settings.sync_line_port),
        "metadata": settings.metadata_url,
    }
