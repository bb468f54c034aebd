"""The stores that the contract suite of the metadata interface runs on.

A store that is being tried can be opened any number of times, as by several processes,
and aged, as if nobody had renewed anything for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from trough.metadata import Metadata
from trough.metadata.blocking import BlockingMetadata
from trough.metadata.sqlite.blocking import BlockingSqlite
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import Assignment, Copy, Leader, Worker


class Stores:
    """One store, opened by as many as a test needs."""

    def __init__(self) -> None:
        self.opened: list[Metadata] = []
        self.opened_blocking: list[BlockingMetadata] = []

    def make(self) -> Metadata:
        raise NotImplementedError

    def make_blocking(self) -> BlockingMetadata:
        raise NotImplementedError

    async def age(self, seconds: float) -> None:
        """Let the store's time go on by so much."""
        raise NotImplementedError

    async def open(self) -> Metadata:
        store = self.make()
        self.opened.append(store)
        await store.open()
        return store

    def open_blocking(self) -> BlockingMetadata:
        store = self.make_blocking()
        self.opened_blocking.append(store)
        return store

    async def close(self) -> None:
        for blocking in self.opened_blocking:
            blocking.close()
        for store in self.opened:
            await store.close()


class EmbeddedStores(Stores):
    """The registry in a file of the test's own, with a clock that can be put forward."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "registry.db"
        self._offset = 0.0

    def clock(self) -> float:
        return time.time() + self._offset

    def make(self) -> SqliteMetadata:
        return SqliteMetadata(self.path, reactor, self.clock)

    def make_blocking(self) -> BlockingMetadata:
        return BlockingSqlite(self.path, self.clock)

    async def age(self, seconds: float) -> None:
        self._offset += seconds


class Notices:
    """A listener that can be waited on."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._waiting: list[tuple[Callable[[list[Any]], Any], Deferred[Any]]] = []

    def __call__(self, notice: Any) -> None:
        self.all.append(notice)
        for entry in list(self._waiting):
            enough, deferred = entry
            if enough(self.all):
                self._waiting.remove(entry)
                deferred.callback(None)

    async def until(self, enough: Callable[[list[Any]], Any], seconds: float = 60) -> None:
        """Wait until the notices so far are enough; `seconds` is a safety net."""
        if enough(self.all):
            return
        deferred: Deferred[Any] = Deferred()
        self._waiting.append((enough, deferred))
        await deferred.addTimeout(seconds, reactor)


def candidate(name: str, ttl: float = 10.0) -> Leader:
    return Leader(name, f"{name}-identity", f"http://{name}:6111/", f"{name}:6110", ttl=ttl)


def worker(name: str, **fields: Any) -> Worker:
    values: dict[str, Any] = {
        "identity": f"{name}-identity",
        "line": f"{name}:6440",
        "read_url": f"http://{name}:6444/",
        "write_url": f"http://{name}:6222/",
        "manager_url": f"http://{name}:6112/",
        "capacity": 1 << 40,
        "available_bytes": 1 << 39,
        "load": 0.5,
        "ttl": 30.0,
    }
    return Worker(name, **{**values, **fields})


def copy(segment: str, node: str, role: str = "trough-read", **fields: Any) -> Copy:
    return Copy(segment, node, role, f"http://{node}:6444/?segment={segment}", **fields)


def assignment(segment: str, node: str, **fields: Any) -> Assignment:
    values: dict[str, Any] = {"ring": 0, "path": f"{segment}.sqlite", "size": 1, "modified": 1}
    return Assignment(segment, node, **{**values, **fields})


async def gathered(pages: Any) -> list[Any]:
    """All rows of an iterator of pages."""
    return [row async for page in pages for row in page]
