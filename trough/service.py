"""Puts a worker, a sync server, or both together from settings.

The parts are made in :mod:`trough.composition`. Everything here and there builds and returns. A
part that uses the network or starts a process does so when its service starts.
"""

from __future__ import annotations

from typing import Any

from twisted.application import service
from twisted.logger import Logger

from trough import __version__
from trough.composition.common import build_common
from trough.composition.sync import add_sync, sync_addresses
from trough.composition.worker import add_worker, worker_addresses
from trough.example import Example, Welcome
from trough.settings import Settings
from trough.util.readiness import ReadinessNotifier

_log = Logger()


def build_worker(settings: Settings, reactor: Any) -> service.IService:
    """A worker."""
    _announce("worker", settings, f", local data {settings.local_data}")
    common = build_common(settings, reactor)
    worker = add_worker(common)
    ReadinessNotifier(
        "worker", lambda: worker.ready, worker_addresses(settings), reactor
    ).setServiceParent(common.stack)
    return common.stack


def build_sync(settings: Settings, reactor: Any) -> service.IService:
    """A sync server."""
    _announce("sync server", settings)
    common = build_common(settings, reactor)
    controller = add_sync(common)
    ReadinessNotifier(
        "sync server", lambda: controller.ready, sync_addresses(settings), reactor
    ).setServiceParent(common.stack)
    return common.stack


def build_node(settings: Settings, reactor: Any, example: bool = False) -> service.IService:
    """A sync server and a worker in one process.

    :param example: whether to put a small example into an empty Trough
    """
    common = build_common(settings, reactor)
    controller = add_sync(common)
    worker = add_worker(common)
    made = Example(controller, common.schemas, worker, settings) if example else None
    ReadinessNotifier(
        "trough",
        lambda: controller.ready and worker.ready,
        {**worker_addresses(settings), **sync_addresses(settings)},
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
