"""GATHER beside the plain fan-out: python bench/bench_gather.py [--segments N] [--rows N]

A Trough of its own serves the segments. The same Twisted client asks the same query of all
of them, once as a plain fan-out whose rows are counted and dropped, once as GATHER, in turn;
the machine is shared, so what counts is the ratio of the two medians, and the peak of
memory that the client grew by. The last lines are GATHER's other ways, each beside SQLite
on one database with all the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from trough_server import Server
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from trough.cluster_client.client import Cluster
from trough.metadata.open import open_metadata
from trough.model import canonical_path
from trough.sql.sqlite import sqlite3

reactor: Any = installed_reactor

SCHEMA = (
    "CREATE TABLE crawled_url (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME,"
    " status_code INTEGER, size BIGINT, seconds REAL, url VARCHAR(4000), host VARCHAR(255))"
)
GROUPED = "SELECT status_code, count(*), sum(size) FROM crawled_url GROUP BY status_code"
OTHERS = {
    "group by 97 hosts, avg, having, top 10": (
        "SELECT host, count(*), avg(size) FROM crawled_url WHERE status_code = 200 "
        "GROUP BY host HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 10"
    ),
    "exact sum of reals": "SELECT status_code, sum(seconds) FROM crawled_url GROUP BY 1",
    "count(DISTINCT)": "SELECT count(DISTINCT host), count(DISTINCT size) FROM crawled_url",
    "top 10 by size": "SELECT size, url FROM crawled_url ORDER BY size DESC, url LIMIT 10",
    "a filter that few rows pass": "SELECT url FROM crawled_url WHERE size = 7 AND id % 50 = 1",
    "shipped: window function": (
        "SELECT status_code, max(r) FROM (SELECT status_code, rank() OVER "
        "(PARTITION BY status_code ORDER BY size) AS r FROM crawled_url) GROUP BY 1"
    ),
}


def rows_of(segment: int, count: int) -> list[tuple[Any, ...]]:
    """What a segment holds."""
    return [
        (
            f"2026-01-01T00:00:{row % 60:02}Z",
            (200, 200, 404, 301)[(row + segment) % 4],
            row * 7,
            row * 0.013 + segment,
            f"http://host-{row % 97}.example/a/page/{row}",
            f"host-{row % 97}.example",
        )
        for row in range(count)
    ]


INSERT = (
    "INSERT INTO crawled_url (timestamp, status_code, size, seconds, url, host) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


def make_segments(home: Path, names: list[str], rows: int) -> sqlite3.Connection:
    """Segments in canonical storage; one database in memory with all their rows."""
    union = sqlite3.connect(":memory:", check_same_thread=False)
    union.execute(SCHEMA)
    for number, name in enumerate(names):
        path = home / "canonical" / canonical_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path)
        with database:
            database.execute(SCHEMA)
            database.executemany(INSERT, rows_of(number, rows))
        database.close()
        union.executemany(INSERT, rows_of(number, rows))
    return union


def wait_until_served(server: Server, count: int) -> None:
    """Return once the worker has all segments."""
    url = f"http://127.0.0.1:{server.ports['SYNC_LOCAL_PORT']}/status"
    while True:
        with urllib.request.urlopen(url) as response:
            if int(json.load(response)["segments"]) >= count:
                return
        time.sleep(0.2)


class Counting:
    """A listener that counts rows and drops them."""

    def __init__(self) -> None:
        self.count = 0

    def state(self, segment: str, mark: str) -> None:
        pass

    def columns(self, segment: str, names: Any) -> None:
        pass

    def rows(self, segment: str, rows: list[Any]) -> None:
        self.count += len(rows)

    def done(self, segment: str, count: int) -> None:
        pass

    def failed(self, segment: str, error: Exception) -> None:
        raise error

    def restarted(self, segment: str) -> bool:
        return True


async def plain(cluster: Cluster, names: list[str], sql: str) -> float:
    """Seconds of a plain fan-out."""
    began = time.perf_counter()
    await cluster.query(names, sql, listener=Counting()).done
    return time.perf_counter() - began


async def gathered(cluster: Cluster, names: list[str], sql: str) -> tuple[float, list[Any]]:
    """Seconds of a GATHER, and its answer."""
    began = time.perf_counter()
    result = await cluster.gather(names, sql)
    return time.perf_counter() - began, result.rows


def comparable(rows: list[Any]) -> list[str]:
    """Rows without order, and reals without their last bit."""
    return sorted(
        repr([float(f"{value:.14g}") if isinstance(value, float) else value for value in row])
        for row in rows
    )


def megabytes() -> float:
    """The client's peak of memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(arguments: argparse.Namespace, home: Path) -> None:
    """Everything, on a server below `home`."""
    names = [f"{300_000 + number}" for number in range(arguments.segments)]
    union = make_segments(home, names, arguments.rows)
    server = Server(home, EXECUTORS="2", KEPT_HANDLES="6000")
    server.start()
    cluster = Cluster(open_metadata(f"sqlite://{home}/registry.db", reactor), reactor)
    try:
        wait_until_served(server, len(names))
        await cluster.open()
        await compare(cluster, names, arguments.repeat)
        await others(cluster, names, union)
    finally:
        await cluster.close()
        server.stop()


async def compare(cluster: Cluster, names: list[str], repeat: int) -> None:
    """The GROUP BY that the goal is about."""
    for _ in range(2):
        await plain(cluster, names, GROUPED)
        await gathered(cluster, names, GROUPED)
    before = megabytes()
    fan_out, merged = [], []
    for _ in range(repeat):
        fan_out.append(await plain(cluster, names, GROUPED))
        merged.append((await gathered(cluster, names, GROUPED))[0])
    one, other = statistics.median(fan_out), statistics.median(merged)
    print(f"{GROUPED}\n  over {len(names)} segments, medians of {repeat}:")
    print(f"  plain fan-out {one:.3f} s, {len(names) / one:,.0f} segments/s")
    print(f"  GATHER        {other:.3f} s, {len(names) / other:,.0f} segments/s")
    print(f"  ratio         {other / one:.2f}, the goal is at most 1.3")
    print(f"  the client's memory grew by {megabytes() - before:.0f} MB")


async def others(cluster: Cluster, names: list[str], union: sqlite3.Connection) -> None:
    """The other ways of answering, beside one database with everything."""
    for what, sql in OTHERS.items():
        seconds, rows = await gathered(cluster, names, sql)
        began = time.perf_counter()
        expected = union.execute(sql).fetchall()
        bare = time.perf_counter() - began
        assert comparable(rows) == comparable(expected), what
        print(f"{what}: {seconds:.3f} s; one SQLite with all rows in memory: {bare:.3f} s")


def main() -> None:
    """Parse the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trough-bench-") as home:
        react(lambda _: Deferred.fromCoroutine(measure(arguments, Path(home))))


if __name__ == "__main__":
    main()
