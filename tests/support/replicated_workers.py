"""Workers that replicate their writes to each other, in the process of the test.

Stores, executors, logs and disks are real; orders pass by a function call in place of a connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from executor_pools import LIMITS, Collected
from twisted.internet import reactor
from waiting import until
from worker_parts import WorkerParts

from trough import errors
from trough.executors.pool.pool import Framing
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import Lock, Worker
from trough.replication.orders import VERSION, Order, OrderKind, Reply
from trough.util.threads import ThreadPoolService
from trough.worker.log_files import LogFiles
from trough.worker.replication import Replication, ReplicationSettings
from trough.worker.shared import Shared


class CutMetadata(SqliteMetadata):
    """A registry that changes and reads no locks while it is cut off."""

    cut_off = False

    async def change_lock(self, expected: Lock, wanted: Lock) -> Lock | None:
        self._check()
        return await super().change_lock(expected, wanted)

    async def lock_of(self, segment: str) -> Lock | None:
        self._check()
        return await super().lock_of(segment)

    def _check(self) -> None:
        if self.cut_off:
            raise errors.Unavailable("cut off by the test")


class ReplicatedWorkers:
    """Some workers with one registry.

    :ivar cut: pairs of sender and receiver between which nothing passes
    :ivar sent: receiver and kind of each order that arrived
    """

    def __init__(self, directory: Path, copies: int = 2, timeout: float = 2.0) -> None:
        self._directory = directory
        self._settings = ReplicationSettings(copies, timeout)
        self._running: dict[str, WorkerParts] = {}
        self._threads = ThreadPoolService("logs", 4, reactor)
        self._threads.startService()
        self.cut: set[tuple[str, str]] = set()
        self.sent: list[tuple[str, OrderKind]] = []

    def __getitem__(self, name: str) -> WorkerParts:
        return self._running[name]

    async def start(self, name: str, replication: int = VERSION) -> WorkerParts:
        """Start a worker, or start it again.

        :param replication: the version of the orders in its row; 0: as a worker of an earlier
            version
        """

        def replicate(shared: Shared, myself: Worker, taken: Callable[[Lock], None]) -> Replication:
            return Replication(
                shared,
                myself,
                self._settings,
                LogFiles(self._directory / name),
                lambda line, order: self._send(name, line, order),
                run=self._threads.run,
                taken=taken,
                clock=reactor,
            )

        metadata = CutMetadata(self._directory / "registry.db", reactor)
        worker = WorkerParts(
            self._directory, metadata, name, ttl=3.0, replication=replication, replicate=replicate
        )
        self._running[name] = worker
        await worker.start()
        for each in self._running.values():
            await until(lambda w=each: name in w.controller.cluster.workers, f"{name} is seen")
        return worker

    async def kill(self, name: str) -> None:
        """End a worker, which signs off from nothing."""
        await self._running.pop(name).stop()

    async def stop(self) -> None:
        """End all workers."""
        for name in list(self._running):
            await self.kill(name)
        await self._threads.stopService()

    async def until_written_on(self, name: str, segment: str) -> None:
        """Wait until a worker writes a segment."""

        def writes() -> bool:
            copy = self[name].segments.get(segment)
            return copy is not None and copy.takes_writes and not copy.paused

        await until(writes, f"{name} writes {segment}")

    async def lock(self, segment: str) -> Lock:
        """The lock, by any worker's store."""
        worker = next(iter(self._running.values()))
        lock = await super(CutMetadata, worker.metadata).lock_of(segment)
        assert lock is not None
        return lock

    async def until_followed_by(self, segment: str, *names: str) -> None:
        """Wait until the lock's row names these followers, and no others."""

        async def named() -> bool:
            lock = await self.lock(segment)
            return {member.node for member in lock.followers} == set(names)

        await until(named, f"{segment} is followed by {names}")

    async def rows(self, name: str, segment: str) -> list[Any]:
        """The numbers in table ``t``."""
        worker = self[name]
        copy = worker.segments.get(segment)
        assert copy is not None
        collected = Collected()
        worker.pool.read(
            [copy.target],
            "SELECT n FROM t ORDER BY n",
            None,
            LIMITS,
            Framing.OBJECTS,
            "t",
            collected,
        )
        outcome = await collected.outcome
        assert outcome.error is None, outcome.error
        return [row["n"] for row in json.loads(collected.text)]

    async def _send(self, sender: str, line: str, order: Order) -> Reply:
        name = line.partition(":")[0]
        worker = self._running.get(name)
        if worker is None or (sender, name) in self.cut:
            raise errors.Unavailable(f"{name} cannot be reached")
        self.sent.append((name, order.kind))
        return await worker.controller.replication.obey(order)
