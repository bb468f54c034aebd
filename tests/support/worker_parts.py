"""A worker's parts in the process of the test: real engines, real executors, no ports."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from executor_pools import LIMITS, Collected
from segments_on_disk import make_segment
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from waiting import until

from trough.executors.pool.pool import ExecutorPool
from trough.metadata import Metadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import Lock, Worker, canonical_path
from trough.replication.orders import VERSION
from trough.storage.open import open_storage
from trough.util.threads import ThreadPoolService
from trough.worker.controller import LocalSyncController
from trough.worker.replication import Replication
from trough.worker.segments import Segments
from trough.worker.shared import Shared
from trough.worker.timing import Timing


class WorkerParts:
    """One worker, ``w1`` unless told else.

    :param replication: the version of the orders in its row; 0: as a worker of an earlier version
    :ivar refused: reasons for which it would not run
    """

    def __init__(
        self,
        directory: Path,
        metadata: Metadata | None = None,
        name: str = "w1",
        ttl: float = 600.0,
        replication: int = VERSION,
        replicate: Callable[[Shared, Worker, Callable[[Lock], None]], Replication] | None = None,
        **timing: float,
    ) -> None:
        self.directory = directory / name
        self.directory.mkdir(exist_ok=True)
        self.canonical = directory / "canonical"
        self.metadata = metadata or SqliteMetadata(directory / "registry.db", reactor)
        self.storage = open_storage(f"file://{self.canonical}", reactor)
        self.threads = ThreadPoolService("work", 4, reactor)
        self.catalogue_thread = ThreadPoolService("catalogue", 1, reactor)
        self.pool = ExecutorPool(reactor, executors=1, write_executors=1)
        self.segments = Segments(
            self.directory,
            self.storage,
            self.pool,
            self.threads,
            self.catalogue_thread,
            now=reactor.seconds,
        )
        self.refused: list[Exception] = []
        url = "http://127.0.0.1:1/"
        line = f"{name}:1" if replicate is not None else ""
        self.controller = LocalSyncController(
            Worker(
                name,
                f"identity of {name}",
                line,
                url,
                url,
                url,
                10**12,
                10**12,
                ttl=ttl,
                replication=replication,
            ),
            self.metadata,
            self.storage,
            self.segments,
            Timing(**{"heartbeat": 0.1, "retry": 0.1, "full": 600.0, "lock_idle": 0.0, **timing}),
            measure=lambda: (0.0, 10**12),
            is_cold=lambda segment: False,
            refuse=self.refused.append,
            executors=dict,
            copy_ttl=86400.0,
            cold=None,
            clock=reactor,
            replicate=replicate,
        )
        if self.controller.replication is not None:
            self.pool.when_committed = self.controller.replication.committed
            self.pool.when_log_broken = self.controller.replication.log_broken

    async def start(self) -> WorkerParts:
        """Run, and wait until it serves."""
        for part in (self.threads, self.catalogue_thread, self.pool, self.controller):
            if not part.running:
                part.startService()
        await until(lambda: self.controller.ready or self.refused, "the worker")
        await self.storage.open()
        return self

    async def stop(self) -> None:
        """End in order, without signing off: others take it for killed."""
        await self.controller.stopService()
        for part in (self.pool, self.catalogue_thread, self.threads):
            await part.stopService()
        await self.storage.close()
        await self.metadata.close()

    def put_canonical(self, segment: str, rows: int = 3) -> Path:
        """A segment in canonical storage, put there by hand."""
        path = self.canonical / canonical_path(segment)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return Path(make_segment(path, rows))

    def write(self, segment: str, sql: str) -> Collected:
        """Begin a write."""
        collected = Collected()
        collected.job = self.controller.writer.write(segment, sql, None, LIMITS, collected)
        return collected

    async def written(self, segment: str, sql: str) -> None:
        """Write, which has to succeed."""
        outcome = await self.write(segment, sql).outcome
        assert outcome.error is None, outcome.error

    async def writable(self, segment: str) -> None:
        """Have a new segment with the table ``t (n)`` and one row, wholly promoted."""
        await self.controller.provision(segment, "default")
        await self.written(segment, "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        await self.controller.promote(segment)


@asynccontextmanager
async def running_worker(directory: Path, **options: Any) -> AsyncIterator[WorkerParts]:
    """A worker that runs while the block does."""
    worker = WorkerParts(directory, **options)
    try:
        yield await worker.start()
    finally:
        await worker.stop()


@contextmanager
def occupied(threads: ThreadPoolService) -> Iterator[None]:
    """All threads of a pool are busy while the block lasts: what is asked of it waits."""
    gate = threading.Event()
    for _ in range(threads.size):
        threads.run(gate.wait)
    try:
        yield
    finally:
        gate.set()


class HeldUp:
    """The next call of a method, which does not go on before it is told to.

    :param done: whether it is held up once it is done, and not before it begins
    :ivar reached: fires when it is held up
    """

    def __init__(self, owner: Any, method: str, done: bool = False) -> None:
        self.reached: Deferred[None] = Deferred()
        self._may_go_on: Deferred[None] = Deferred()
        call = getattr(owner, method)

        async def held_up(*args: Any) -> Any:
            setattr(owner, method, call)
            result = await call(*args) if done else None
            # Not from within here: whoever waits may cancel what goes on.
            reactor.callLater(0, self.reached.callback, None)
            await self._may_go_on
            return result if done else await call(*args)

        setattr(owner, method, held_up)

    def go_on(self) -> None:
        """Let it go on."""
        self._may_go_on.callback(None)
