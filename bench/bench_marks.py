"""What it costs to note that a segment is dirty: python bench/bench_marks.py --locks 500

Starts one RethinkDB server on loopback (RETHINKDB names the program) and makes a registry. On each
it takes locks, marks each of them dirty, one after the other, and all of them clean at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from trough.metadata import Metadata
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.metadata.url import RethinkAddress

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from rethinkdb_server import running_server

reactor: Any = installed_reactor


async def measure(name: str, store: Metadata, count: int) -> None:
    """Print milliseconds of processor and wall time for each lock."""
    await store.open()
    locks = [await store.take_lock(f"{number:06}", "w1") for number in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    dirty = [replace(lock, dirty_since=lock.acquired_on + 1.0) for lock in locks]
    for lock in dirty:
        await store.mark_dirty(lock)
    report(name, "dirty", count, wall, cpu)
    wall, cpu = time.perf_counter(), time.process_time()
    await store.mark_clean(dirty)
    report(name, "clean", count, wall, cpu)
    await store.close()


def report(name: str, what: str, count: int, wall: float, cpu: float) -> None:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name}: {what} {wall / count * 1e3:.2f} ms, {cpu / count * 1e3:.2f} ms CPU a lock")


def main(_: Any) -> Deferred[None]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=int, default=500)
    options = parser.parse_args()

    async def run() -> None:
        with running_server("bench") as server, tempfile.TemporaryDirectory() as directory:
            rethink = RethinkMetadata(RethinkAddress((server.host,), "bench"), reactor)
            await measure("RethinkDB", rethink, options.locks)
            registry = SqliteMetadata(Path(directory) / "registry.db", reactor)
            await measure("registry", registry, options.locks)

    return Deferred.fromCoroutine(run())


if __name__ == "__main__":
    react(main)
