"""Asks a worker through its manager's port to promote each segment that it writes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from trough import errors
from trough.access.tokens import Credential
from trough.admin.console import Console
from trough.cli import metadata_url
from trough.metadata import Metadata
from trough.model import Worker
from trough.protocols.http.manager_client import PROMOTION_TIMEOUT, ManagerClient
from trough.tls.client import ClientTls
from trough.util.wording import counted

#: Failures that are printed, at most; they often have one cause.
SHOWN = 10


async def living_worker(metadata: Metadata, node: str) -> Worker:
    """The row of the worker `node`.

    :raises trough.errors.Unavailable: the worker is not alive
    """
    worker = await metadata.worker(node)
    if worker is None:
        raise errors.Unavailable(
            f"{node} is not alive, and can promote nothing", "start it again, or see free-locks"
        )
    return worker


async def promote_all(console: Console, worker: Worker) -> bool:
    """Promote each segment that a worker writes; print the failures.

    :return: whether all segments are promoted
    """
    node = worker.node
    segments = [lock.segment for lock in await console.metadata.locks(node)]
    token = metadata_url.access_token(os.environ)
    credential = Credential.of(token) if token else None
    manager = ManagerClient(console.clock, credential, ClientTls(console.tls, console.clock))
    try:
        failed = await _promote(console, manager, worker, segments)
    finally:
        await manager.close()
    for segment, reason in list(failed.items())[:SHOWN]:
        console.say(f"  {segment}: {reason}")
    written = counted(len(segments), "segment")
    console.say(
        f"{node} writes {written}: {len(segments) - len(failed)} promoted, {len(failed)} not."
    )
    return not failed


async def _promote(
    console: Console, manager: ManagerClient, worker: Worker, segments: Sequence[str]
) -> dict[str, str]:
    """The segments that cannot be promoted, with the reasons."""
    failed: dict[str, str] = {}
    url = f"{worker.manager_url}promote"
    progress = console.progress(len(segments), "promoted", "Ctrl-C stops")
    try:
        for segment in segments:
            progress.draw()
            try:
                await manager.call("POST", url, {"segment": segment}, PROMOTION_TIMEOUT)
            except errors.TroughError as reason:
                lock = await console.metadata.lock_of(segment)
                # A worker that is being drained gives up a lock as soon as its segment is promoted.
                if lock is not None and lock.node == worker.node:
                    failed[segment] = " ".join(str(reason).split())
            progress.done += 1
            progress.failed = len(failed)
    finally:
        progress.clear()
    return failed
