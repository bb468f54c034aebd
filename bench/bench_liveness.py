"""What it costs RethinkDB to know who lives: python bench/bench_liveness.py --copies 200000

Starts one RethinkDB server on loopback (RETHINKDB names the program). Registers workers, and
publishes their copies through the backend that Trough uses. Counts the rows that the *server*
says it wrote while all workers beat once a second: with no copy, and with all of them. Then one
worker falls silent. Clients look for its copies, and for those of the others, until its own are
gone. The leader removes its rows.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater, react

from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.url import RethinkAddress
from trough.model import READ, Copy, Leader, Worker

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from rethinkdb_server import RethinkServer, r, running_server

reactor: Any = installed_reactor
COPY_TTL = 86400.0
#: Rows of one call of the publisher.
BATCH = 500


def pause(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


def written(server: RethinkServer) -> int:
    """Rows that the server has written in all its life, by its own count."""
    with server.connect() as connection:
        found = list(r.db("rethinkdb").table("stats").run(connection))
    return sum(
        row["query_engine"]["written_docs_total"] for row in found if row["id"][0] == "server"
    )


class Bench:
    """One database, and the workers in it."""

    def __init__(self, server: RethinkServer, options: argparse.Namespace) -> None:
        self.server = server
        self.options = options
        self.metadata = RethinkMetadata(RethinkAddress((server.host,), "bench"), reactor)
        self.workers = [
            Worker(f"w{number:02}", f"identity-{number}", f"h{number}:6440",
                   f"http://h{number}:6444/", f"http://h{number}:6222/",
                   f"http://h{number}:6112/", ttl=options.ttl)
            for number in range(options.workers)
        ]  # fmt: skip
        self.beating: dict[str, LoopingCall] = {}
        self.heartbeat = {worker.node: 0.0 for worker in self.workers}

    def segments(self, number: int) -> list[str]:
        """Those that a worker has copies of."""
        each = self.options.copies // len(self.workers)
        return [str(300_000 + number * each + count) for count in range(each)]

    async def publish(self, number: int) -> None:
        """All copies of one worker, as its publisher does it."""
        worker, segments = self.workers[number], self.segments(number)
        for start in range(0, len(segments), BATCH):
            rows = [
                Copy(segment, worker.node, READ, worker.read_url, 0.1, COPY_TTL)
                for segment in segments[start : start + BATCH]
            ]
            await self.metadata.publish_copies(rows)

    def begin_to_beat(self) -> None:
        for number, worker in enumerate(self.workers):
            loop = self.beating[worker.node] = LoopingCall(
                lambda each=worker: Deferred.fromCoroutine(self._beat(each))
            )
            reactor.callLater(number / len(self.workers), loop.start, 1.0)

    async def _beat(self, worker: Worker) -> None:
        self.heartbeat[worker.node] = time.monotonic()
        await self.metadata.beat(worker)

    async def writes_per_worker(self) -> float:
        """Rows written for each worker and second while nothing happens but beats."""
        before, began = written(self.server), time.monotonic()
        await pause(self.options.seconds)
        count, taken = written(self.server) - before, time.monotonic() - began
        return count / taken / len(self.workers)

    async def kill_one(self) -> None:
        """Silence a worker; tell when its copies are gone, and how the others fared."""
        victim = self.workers[0].node
        loop = self.beating.pop(victim)
        loop.stop()
        last = self.heartbeat[victim]
        own, others = self.segments(0)[:100], self.segments(1)[:100]
        slowest, missing = 0.0, 0
        while True:
            began = time.monotonic()
            seen = await self.metadata.copies_of([*own, *others])
            slowest = max(slowest, time.monotonic() - began)
            missing += sum(segment not in seen for segment in others)
            if not any(segment in seen for segment in own):
                break
            await pause(0.05)
        gone = time.monotonic() - last
        print(
            f"one worker silent, its copies gone after {gone:8.2f} s (TTL {self.options.ttl:g} s)"
        )
        print(f"  copies of the others missing meanwhile {missing:6}")
        print(f"  slowest look-up of 200 segments        {slowest * 1000:6.0f} ms")
        leader = await self.metadata.campaign(Leader("s1", "i", "http://s1/", "s1:1", ttl=600.0))
        began = time.monotonic()
        reaped = await self.metadata.reap(leader)
        taken = time.monotonic() - began
        count = len(self.segments(0))
        print(
            f"  reaping {reaped[0]}: {count} rows in    {taken:8.2f} s, {count / taken:.0f} rows/s"
        )

    async def run(self) -> None:
        """The whole, in order."""
        await self.metadata.open()
        for worker in self.workers:
            await self.metadata.register_worker(worker)
        self.begin_to_beat()
        await pause(2.0)
        print(f"{len(self.workers)} workers beat once a second")
        print(
            f"rows written a worker and second, no copies   {await self.writes_per_worker():6.2f}"
        )
        began = time.monotonic()
        await gatherResults(
            [Deferred.fromCoroutine(self.publish(n)) for n in range(len(self.workers))]
        )
        taken = time.monotonic() - began
        copies = self.options.copies
        print(f"{copies} copies published in {taken:.1f} s, {copies / taken:.0f} rows/s")
        rate = await self.writes_per_worker()
        print(f"rows written a worker and second, {copies} copies {rate:6.2f}")
        await self.kill_one()
        for loop in self.beating.values():
            loop.stop()
        await pause(1.0)  # beats under way
        await self.metadata.close()


def main(_: Any) -> Deferred[None]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--copies", type=int, default=100_000, help="of all workers together")
    parser.add_argument("--ttl", type=float, default=10.0, help="of a worker, in seconds")
    parser.add_argument("--seconds", type=float, default=10.0, help="to count beats for")
    options = parser.parse_args()

    async def run() -> None:
        with running_server("bench") as server:
            await Bench(server, options).run()

    return Deferred.fromCoroutine(run())


if __name__ == "__main__":
    react(main)
