"""What the executors do in a second, beside bare SQLite: python bench/bench_pool.py

Everything runs in this run and on this machine: the pool with its front in this process,
and SQLite by itself in this process, doing the same work without a sandbox, a socket or
JSON. The machine may be shared, so what counts is the ratio; each pair is measured in
turns, and the best of each is told. Memory is the peak of the largest executor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, ReadLimits, Target
from trough.sql.sqlite import sqlite3

reactor: Any = installed_reactor

COLUMNS = (
    "id INTEGER PRIMARY KEY, timestamp DATETIME, status_code INTEGER, size BIGINT, "
    "payload_size BIGINT, url VARCHAR(4000), hop_path VARCHAR(255), is_seed_redirect BOOLEAN, "
    "via VARCHAR(255), mimetype VARCHAR(255), content_digest VARCHAR(255), "
    "seed VARCHAR(4000), is_duplicate BOOLEAN, warc_filename VARCHAR(255), "
    "warc_offset VARCHAR(255), host VARCHAR(255)"
)
GROUP_BY = "SELECT status_code, count(*) FROM crawled_url GROUP BY 1"
LIMITS = ReadLimits(600.0)
#: Requests under way at once, where they are pipelined.
DEPTH = 2000

Measure = Callable[[], Awaitable[float]]


def rows(number: int) -> Any:
    """Captures, about 340 bytes of JSON each."""
    for n in range(number):
        yield (
            *(n, f"2026-01-{n % 28 + 1:02d}T00:00:00", (200, 200, 404, 301)[n % 4]),
            *(n * 7919 % 100_000, n % 90_000, f"http://example{n % 97}.org/path/{n}"),
            *("LL", None, None, "text/html", None, None, 0, None, n, f"example{n % 97}.org"),
        )


def make(path: Path, number: int, wal: bool = False) -> None:
    """A segment with so many rows."""
    with closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"CREATE TABLE crawled_url({COLUMNS})")
        connection.execute("BEGIN")
        marks = ",".join("?" * 16)
        connection.executemany(f"INSERT INTO crawled_url VALUES({marks})", rows(number))
        connection.execute("COMMIT")


class Counting:
    """A receiver that counts, and fires at the end of all that it was given to."""

    def __init__(self, number: int) -> None:
        self.done: Deferred[None] = Deferred()
        self.left = number
        self.size = self.rows = 0
        self.errors: list[Any] = []

    def data(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def finished(self, outcome: Outcome) -> None:
        self.left -= 1
        self.rows += outcome.rows
        if outcome.failed:
            self.errors.append(outcome)
        if not self.left:
            self.done.callback(None)


async def timed(begin: Callable[[int, Counting], None], number: int, depth: int) -> float:
    """Requests a second, `depth` of them under way at once."""
    counting = Counting(number)
    sent = 0

    def more() -> None:
        nonlocal sent
        while sent < number and sent - (number - counting.left) < depth:
            begin(sent, counting)
            sent += 1
        if sent < number:
            reactor.callLater(0, more)

    began = time.perf_counter()
    if depth == 1:
        for n in range(number):
            one = Counting(1)
            begin(n, one)
            await one.done
    else:
        more()
        await counting.done
    if counting.errors:
        raise RuntimeError(counting.errors[0])
    return number / (time.perf_counter() - began)


class Bench:
    """The files, the pool, and what is measured on them."""

    def __init__(self, folder: Path, pool: ExecutorPool, rounds: int) -> None:
        self.folder = folder
        self.pool = pool
        self.rounds = rounds

    async def compare(self, what: str, unit: str, ours: Measure, bare: Measure) -> None:
        """Measure both in turns and print the best of each."""
        mine, theirs = [], []
        for _ in range(self.rounds):
            theirs.append(await bare())
            mine.append(await ours())
        best, other = max(mine), max(theirs)
        print(f"{what:48} {best:12,.0f} {other:12,.0f} {best / other:7.2f}  {unit}", flush=True)

    def target(self, name: object, writable: bool = False) -> Target:
        return Target(str(name), str(self.folder / f"{name}.sqlite"), 1, writable)

    # -- reads -------------------------------------------------------------------------

    async def points(self, what: str, columns: str, number: int, depth: int) -> None:
        """Rows by their key, from fifty segments in turn."""
        targets = [[self.target(n)] for n in range(50)]
        text = f"SELECT {columns} FROM crawled_url WHERE id = ?"
        kept = [sqlite3.connect(target.path) for (target,) in targets]

        def begin(n: int, receiver: Counting) -> None:
            values = (n % 200,)
            self.pool.read(targets[n % 50], text, values, LIMITS, Framing.LINES, "q1", receiver)

        async def bare() -> float:
            began = time.perf_counter()
            for n in range(number):
                kept[n % 50].execute(text, (n % 200,)).fetchall()
            return number / (time.perf_counter() - began)

        await self.compare(what, "requests/s", lambda: timed(begin, number, depth), bare)
        for connection in kept:
            connection.close()

    async def fan_out(self, number: int) -> None:
        """One GROUP BY over many small segments."""
        targets = [self.target(n) for n in range(number)]

        async def ask() -> float:
            receiver = Counting(1)
            began = time.perf_counter()
            self.pool.read(targets, GROUP_BY, None, LIMITS, Framing.LINES, "q1", receiver)
            await receiver.done
            if receiver.errors:
                raise RuntimeError(receiver.errors[0])
            return number / (time.perf_counter() - began)

        async def forget_and_ask() -> float:
            await gatherResults([self.pool.forget(target.segment) for target in targets])
            return await ask()

        async def bare_cold() -> float:
            began = time.perf_counter()
            for target in targets:
                address = f"file:{target.path}?mode=ro&immutable=1"
                with closing(sqlite3.connect(address, uri=True)) as connection:
                    connection.execute(GROUP_BY).fetchall()
            return number / (time.perf_counter() - began)

        await self.compare(
            f"GROUP BY over {number} segments, cold", "segments/s", forget_and_ask, bare_cold
        )
        some = targets[:1000]  # bare SQLite keeps 150 kB a connection
        kept = [
            sqlite3.connect(f"file:{target.path}?mode=ro&immutable=1", uri=True) for target in some
        ]

        async def bare_kept() -> float:
            began = time.perf_counter()
            for connection in kept:
                connection.execute(GROUP_BY).fetchall()
            return len(kept) / (time.perf_counter() - began)

        await bare_kept()
        await self.compare(f"GROUP BY over {number} segments, kept", "segments/s", ask, bare_kept)
        for connection in kept:
            connection.close()

    async def export(self, number: int) -> None:
        """All rows of a large segment as JSON objects."""
        make(self.folder / "large.sqlite", number)
        target = self.target("large")
        text = "SELECT * FROM crawled_url"

        async def ask(framing: Framing) -> float:
            receiver = Counting(1)
            began = time.perf_counter()
            self.pool.read([target], text, None, LIMITS, framing, "q1", receiver)
            await receiver.done
            return receiver.rows / (time.perf_counter() - began)

        async def shell() -> float:
            began = time.perf_counter()
            command = ["sqlite3", "-json", target.path, text]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            return number / (time.perf_counter() - began)

        async def python() -> float:
            began = time.perf_counter()
            with closing(sqlite3.connect(target.path)) as connection:
                cursor = connection.execute(text)
                names = [column[0] for column in cursor.description]
                while found := cursor.fetchmany(1000):
                    for row in found:
                        json.dumps(dict(zip(names, row, strict=True)))
            return number / (time.perf_counter() - began)

        what = f"{number} rows as objects; beside "
        if shutil.which("sqlite3"):
            objects = Framing.OBJECTS
            await self.compare(f"{what}sqlite3 -json", "rows/s", lambda: ask(objects), shell)
        await self.compare(f"{what}json.dumps", "rows/s", lambda: ask(Framing.OBJECTS), python)
        await self.compare("the same as lines", "rows/s", lambda: ask(Framing.LINES), python)

    # -- writes ------------------------------------------------------------------------

    async def writes(self, what: str, number: int, depth: int, size: int = 1) -> None:
        """Rows written, each request on disk when it is answered."""
        name = f"write-{depth}-{size}"
        target = self.target(name, writable=True)
        await self.pool.create(target, f"CREATE TABLE crawled_url({COLUMNS})")
        values = ",".join(
            f"(NULL,'2026-01-01T00:00:00',200,{n},{n},'http://example.org/{n}','LL',NULL,NULL,"
            f"'text/html',NULL,NULL,0,NULL,{n},'example.org')"
            for n in range(size)
        )
        text = f"INSERT INTO crawled_url VALUES{values}"
        make(self.folder / f"bare-{name}.sqlite", 0, wal=True)

        def begin(n: int, receiver: Counting) -> None:
            self.pool.write(target, text, None, LIMITS, receiver)

        async def ours() -> float:
            return size * await timed(begin, number, depth)

        async def bare() -> float:
            path = str(self.folder / f"bare-{name}.sqlite")
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                began = time.perf_counter()
                for _ in range(number := min(number_bare, 300)):
                    connection.execute(text)
                return size * number / (time.perf_counter() - began)

        number_bare = number
        await self.compare(what, "rows/s", ours, bare)


async def main(options: argparse.Namespace) -> None:
    """Run everything."""
    folder = Path(tempfile.mkdtemp(prefix="trough-bench-", dir=options.folder))
    pool = ExecutorPool(reactor, executors=options.executors)
    pool.startService()
    bench = Bench(folder, pool, options.rounds)
    try:
        for n in range(20):
            make(folder / f"{n}.sqlite", 200)
        for n in range(20, options.segments):
            shutil.copyfile(folder / f"{n % 20}.sqlite", folder / f"{n}.sqlite")
        print(f"{'':48} {'trough':>12} {'bare':>12} {'ratio':>7}")
        await bench.points("point reads, 2 columns, pipelined", "url, size", 60_000, DEPTH)
        await bench.points("point reads, 16 columns, pipelined", "*", 60_000, DEPTH)
        await bench.points("point reads, 2 columns, one by one", "url, size", 3_000, 1)
        await bench.fan_out(options.segments)
        await bench.export(options.rows)
        await bench.writes("single-row writes, one by one", 300, 1)
        await bench.writes("single-row writes, 64 at once", 5_000, 64)
        await bench.writes("single-row writes, pipelined", 20_000, DEPTH)
        await bench.writes("batches of 1,000 rows, one by one", 50, 1, 1000)
        await bench.writes("batches of 1,000 rows, 8 at once", 100, 8, 1000)
        status = pool.status()
        print(f"peak memory of an executor: {status['memory_peak'] / 1e6:,.0f} MB")
        print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    finally:
        await pool.stopService()
        shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where to put the files")
    arguments = parser.parse_args()
    react(lambda _reactor: Deferred.fromCoroutine(main(arguments)))
