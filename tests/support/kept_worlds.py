"""A worker in the process of the test, asked by a Twisted client over its line protocol, and what
its segments hold by a second way."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from worker_parts import WorkerParts

from trough.cluster_client.client import Cluster
from trough.executors.pool.task_pool import TaskPool
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import canonical_path
from trough.protocols.line.server import LineServerFactory
from trough.protocols.line.worker_verbs import WorkerVerbs
from trough.worker.queries import QueryLimits, QueryService

SCHEMA = "CREATE TABLE t (n INTEGER)"


class KeptWorld(WorkerParts):
    """A worker and a client of it; segments have the table ``t (n)``.

    :param kept: bytes of answers that the worker keeps
    """

    def __init__(self, directory: Path, kept: int = 1 << 20) -> None:
        super().__init__(directory)
        limits = QueryLimits(60.0, 600.0, 60.0, 0, 1 << 20, kept)
        self.queries = QueryService(self.controller, self.pool, limits, reactor)
        self.tasks = TaskPool(reactor)
        verbs = WorkerVerbs(self.queries, self.tasks).table()
        factory = LineServerFactory("worker", "w1", verbs, reactor)
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        line = f"127.0.0.1:{self.port.getHost().port}"
        self.controller.myself = replace(self.controller.myself, line=line)
        self.cluster = Cluster(SqliteMetadata(directory / "registry.db", reactor), reactor)
        # A client that keeps no whole answers: what it gathers it asks for each time.
        self.asking = Cluster(
            SqliteMetadata(directory / "registry.db", reactor), reactor, kept_answers=0
        )

    async def put(self, segment: str, *values: int) -> None:
        """Have a segment that is only read hold these values, by a new canonical copy."""
        await self.put_filled(segment, lambda database: fill(database, values))

    async def put_filled(self, segment: str, fill: Callable[[sqlite3.Connection], object]) -> None:
        """Have a segment that is only read hold what `fill` does to an empty database."""
        path = self.canonical / canonical_path(segment)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.made")
        made.unlink(missing_ok=True)
        with closing(sqlite3.connect(made)) as database, database:
            fill(database)
        made.replace(path)
        await self.bring(segment)

    async def bring(self, segment: str) -> None:
        """Have the canonical copy of a segment here."""
        found = await self.storage.find(segment)
        assert found is not None
        await self.segments.fetch(found)
        await self.publish(segment, writable=False)

    async def publish(self, segment: str, *, writable: bool) -> None:
        """Have the client find a segment here."""
        self.controller.publisher.serve(segment, writable)
        await self.controller.publisher.published()

    async def gathered(self, segments: list[str], sql: str, *arguments: Any, **options: Any) -> Any:
        """The rows of a GATHER."""
        return (await self.cluster.gather(segments, sql, *arguments, **options)).rows


def fill(database: sqlite3.Connection, values: Iterable[int]) -> None:
    """Make the table with these values."""
    database.execute(SCHEMA)
    database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])


@asynccontextmanager
async def kept_world(directory: Path, **options: Any) -> AsyncIterator[KeptWorld]:
    """One that runs while the block does."""
    world = KeptWorld(directory, **options)
    try:
        await world.start()
        await world.cluster.open()
        await world.asking.open()
        yield world
    finally:
        await world.cluster.close()
        await world.asking.close()
        await world.port.stopListening()
        await world.stop()
        await world.tasks.close()
