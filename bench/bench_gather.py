"""GATHER beside SQLite over one file with all rows: python bench/bench_gather.py

A Trough of its own, with two executors, serves the segments, and the Twisted client asks. Each
line is measured in one run with its baseline, GATHER and SQLite in turn: the machine is shared,
so what counts is the ratio of the two medians. Answers are compared, too. There are two worlds,
200 segments of 20,000 rows and 10,000 segments of 200 rows, and the tables of TPC-H over 16
segments, which SQLite has indexes for. Nothing is kept of an answer meanwhile.

The fourth world is 100,000 segments of 20 rows, and a question that is asked again: with all that
is kept, with what the worker kept alone, and after a change of one segment. Then questions for one
URL each, without and with filters of the column.

    python bench/bench_gather.py [--world few|many|tpch|kept] [--repeat N] [--part SHARE]
        [--only WORD]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import tpch
from trough_server import Server
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from trough.cluster_client.client import Cluster
from trough.metadata.open import open_metadata
from trough.model import canonical_path
from trough.sql.functions import Functions
from trough.sql.sqlite import sqlite3

reactor: Any = installed_reactor

SCHEMA = (
    "CREATE TABLE crawled_url (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME,"
    " status_code INTEGER, size BIGINT, seconds REAL, url VARCHAR(4000), host VARCHAR(255))"
)
INSERT = (
    "INSERT INTO crawled_url (timestamp, status_code, size, seconds, url, host) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
GROUPED = "SELECT status_code, count(*), sum(size) FROM crawled_url GROUP BY status_code"
TOP3 = (
    "SELECT status_code, size, url FROM (SELECT status_code, size, url, row_number() OVER "
    "(PARTITION BY status_code ORDER BY size DESC, url, seconds) AS r FROM crawled_url) "
    "WHERE r <= 3 ORDER BY 1, 2, 3"
)
SHARE = (
    "SELECT status_code, count(*) * 1.0 / (SELECT count(*) FROM crawled_url) "
    "FROM crawled_url GROUP BY 1"
)
JOIN = (
    "SELECT a.host, count(*) FROM crawled_url a JOIN (SELECT host, max(size) AS most "
    "FROM crawled_url GROUP BY host) b ON a.host = b.host AND a.size = b.most GROUP BY 1"
)


@dataclass(frozen=True)
class Query:
    """A line of the table.

    :ivar goals: for few large segments, and for many small ones
    """

    what: str
    sql: str
    goals: tuple[float, float]


QUERIES = (
    Query("GROUP BY status", GROUPED, (0.5, 1.0)),
    Query(
        "top 10 hosts, HAVING, avg",
        "SELECT host, count(*), avg(size) FROM crawled_url WHERE status_code = 200 "
        "GROUP BY host HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 10",
        (0.5, 1.0),
    ),
    Query("LIKE", "SELECT count(*) FROM crawled_url WHERE url LIKE '%page/19%'", (0.5, 1.0)),
    Query("REGEXP", "SELECT count(*) FROM crawled_url WHERE url REGEXP 'e/1.*9$'", (0.5, 1.0)),
    Query(
        "a filter that few rows pass",
        "SELECT url FROM crawled_url WHERE size = 7 AND status_code = 404 ORDER BY url",
        (0.5, 1.0),
    ),
    Query(
        "exact sum of reals",
        "SELECT status_code, sum(seconds) FROM crawled_url GROUP BY 1",
        (0.5, 1.0),
    ),
    Query(
        "top 10 by size",
        "SELECT size, url FROM crawled_url ORDER BY 1 DESC, 2 LIMIT 10",
        (0.5, 1.0),
    ),
    Query("count(*)", "SELECT count(*) FROM crawled_url", (1.0, 10.0)),
    Query("count(DISTINCT host)", "SELECT count(DISTINCT host) FROM crawled_url", (1.2, 2.0)),
    Query(
        "UNION ALL of two counts",
        "SELECT 'ok', count(*) FROM crawled_url WHERE status_code = 200 UNION ALL "
        "SELECT 'gone', count(*) FROM crawled_url WHERE status_code = 404",
        (0.6, 0.6),
    ),
    Query(
        "WITH one grouped SELECT",
        f"WITH g(s, n, b) AS ({GROUPED}) SELECT s, n FROM g WHERE n > 1 ORDER BY n DESC, s",
        (0.6, 0.6),
    ),
    Query("FROM one grouped SELECT", f"SELECT count(*) FROM ({GROUPED})", (0.6, 0.6)),
    Query("share of a total", SHARE, (0.6, 0.6)),
    Query("window: top 3 of each group", TOP3, (1.2, 1.2)),
    Query("median", "SELECT status_code, median(size) FROM crawled_url GROUP BY 1", (1.2, 1.2)),
    Query("join with a grouped SELECT", JOIN, (1.2, 1.2)),
)
TPCH = (
    Query("TPC-H Q19", tpch.Q19, (10.0, 10.0)),
    Query("TPC-H Q21", tpch.Q21, (10.0, 10.0)),
)


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


def connect(path: Path) -> Any:
    """A database in a file, with the functions that Trough adds to SQL."""
    connection = sqlite3.connect(path, check_same_thread=False)
    Functions().add_to(connection)
    return connection


class World:
    """Segments in canonical storage below `home`, and a file with all of their rows."""

    def __init__(self, home: Path, count: int) -> None:
        self.home = home
        self.names = [f"{300_000 + number}" for number in range(count)]
        self.union = connect(home / "union.sqlite")

    def segment(self, name: str) -> Any:
        """The canonical copy of a segment, to be filled."""
        path = self.home / "canonical" / canonical_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(path)

    def fill(self, rows: int) -> None:
        """Rows of a crawl, for each segment."""
        self.union.execute(SCHEMA)
        for number, name in enumerate(self.names):
            mine = rows_of(number, rows)
            database = self.segment(name)
            with database:
                database.execute(SCHEMA)
                database.executemany(INSERT, mine)
            database.close()
            self.union.executemany(INSERT, mine)
        self.union.commit()

    def fill_tpch(self, orders: int) -> None:
        """TPC-H's rows, dealt out; SQLite has indexes for its queries."""
        made = tpch.rows(orders)
        tpch.fill(self.union, made)
        self.union.executescript(tpch.INDEXES + "ANALYZE;")
        for number, name in enumerate(self.names):
            database = self.segment(name)
            with database:
                tpch.fill(database, made, slice(number, None, len(self.names)))
            database.close()


def wait_until_served(server: Server, count: int) -> None:
    """Return once the worker has all segments."""
    url = f"http://127.0.0.1:{server.ports['SYNC_LOCAL_PORT']}/status"
    while True:
        with urllib.request.urlopen(url) as response:
            if int(json.load(response)["segments"]) >= count:
                return
        time.sleep(0.2)


async def gathered(cluster: Cluster, names: list[str], sql: str) -> tuple[float, list[Any]]:
    """Seconds of a GATHER, and its answer."""
    began = time.perf_counter()
    result = await cluster.gather(names, sql)
    return time.perf_counter() - began, result.rows


class Processors:
    """Seconds of processor time: of the server, its executors, this client, its GATHER processes.

    Others use the machine, too, and wall time tells of them as well.
    """

    def __init__(self, server: Server) -> None:
        self._sessions = {os.getsid(0), os.getsid(server.pids()[0])}
        self._before = self._now()

    def _now(self) -> float:
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) in self._sessions:
                    # Its own, and that of children that ended, as GATHER processes do.
                    ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def used(self) -> float:
        """Since it was made."""
        return self._now() - self._before


def bare(union: Any, sql: str) -> tuple[float, list[Any]]:
    """Seconds of SQLite over one file, and its answer."""
    began = time.perf_counter()
    rows = union.execute(sql).fetchall()
    return time.perf_counter() - began, rows


def comparable(rows: list[Any]) -> list[str]:
    """Rows without order, and reals without their last bits."""
    return sorted(
        repr([float(f"{value:.12g}") if isinstance(value, float) else value for value in row])
        for row in rows
    )


async def measure(world: World, queries: list[Query], place: int, repeat: int) -> None:
    """All queries, on a server."""
    server = Server(world.home, EXECUTORS="2", KEPT_HANDLES="6000", RESULT_CACHE="0")
    server.start()
    cluster = Cluster(
        open_metadata(f"sqlite://{world.home}/registry.db", reactor), reactor, kept_answers=0
    )
    try:
        wait_until_served(server, len(world.names))
        await cluster.open()
        for query in queries:
            await line(cluster, world, query, query.goals[place], repeat, server)
    finally:
        await cluster.close()
        server.stop()


async def measure_kept(world: World) -> None:
    """A question that is asked again."""
    server = Server(world.home, EXECUTORS="2", KEPT_HANDLES="6000")
    server.start()
    url = f"sqlite://{world.home}/registry.db"
    cluster = Cluster(open_metadata(url, reactor), reactor)
    forgetful = Cluster(open_metadata(url, reactor), reactor, kept_answers=0)
    try:
        wait_until_served(server, len(world.names))
        await cluster.open()
        await forgetful.open()
        _, expected = bare(world.union, GROUPED)
        server.reset_peak()
        peak = server.peak()
        for what, asked in (
            ("the first time", cluster),
            ("again", cluster),
            ("again, by what the worker kept", forgetful),
        ):
            expected = await kept_line(asked, world, what, expected, server)
        grown = (server.peak() - peak) >> 20
        await cluster.write(world.names[0], "UPDATE crawled_url SET status_code = 500")
        world.union.execute("UPDATE crawled_url SET status_code = 500 WHERE rowid <= 20")
        _, expected = bare(world.union, GROUPED)
        await kept_line(cluster, world, "one segment was written", expected, server)
        await kept_line(cluster, world, "again", expected, server)
        print(f"  the server's processes grew by {grown} MB")
        await measure_pruned(cluster, world, server)
    finally:
        await cluster.close()
        await forgetful.close()
        server.stop()


async def measure_pruned(cluster: Cluster, world: World, server: Server) -> None:
    """Questions for one URL each: all segments are opened, and then only some."""
    # Each segment has the same URLs, so these are in none.
    urls = [f"http://host-{number}.example/none" for number in range(100)]
    sql = "SELECT size, status_code FROM crawled_url WHERE url = '{}'"

    async def ask(what: str) -> None:
        text = sql.format(urls.pop())
        await kept_line(cluster, world, what, bare(world.union, text)[1], server, text)

    await ask("one URL, all segments opened")
    # Filters are made in the background, some at each question.
    pruned = 0
    while pruned < 0.9 * len(world.names) and len(urls) > 1:
        text = f"EXPLAIN ANALYZE {sql.format(urls.pop())}"
        plan = "\n".join(row[0] for row in (await gathered(cluster, world.names, text))[1])
        counts = re.findall(r"([\d,]+) pruned", plan)
        pruned = max((int(count.replace(",", "")) for count in counts), default=0)
        await deferLater(reactor, 5.0)
    await ask(f"another URL, {pruned:,} pruned")


async def kept_line(
    cluster: Cluster,
    world: World,
    what: str,
    expected: list[Any],
    server: Server,
    sql: str = GROUPED,
) -> list[Any]:
    """One line about a question that is asked again; its answer."""
    processors = Processors(server)
    seconds, rows = await gathered(cluster, world.names, sql)
    used = processors.used()
    assert comparable(rows) == comparable(expected), what
    print(f"  {what:32} {seconds:8.3f} s {used:8.3f} s", flush=True)
    return rows


async def line(
    cluster: Cluster, world: World, query: Query, goal: float, repeat: int, server: Server
) -> None:
    """One line of the table."""
    # The first time, SQLite reads the file, and executors may open the segments.
    _, expected = bare(world.union, query.sql)
    _, rows = await gathered(cluster, world.names, query.sql)
    assert comparable(rows) == comparable(expected), query.what
    seconds, others = [], []
    mine_used = others_used = 0.0
    for _ in range(repeat):
        processors = Processors(server)
        seconds.append((await gathered(cluster, world.names, query.sql))[0])
        mine_used += processors.used()
        before = time.process_time()
        others.append(bare(world.union, query.sql)[0])
        others_used += time.process_time() - before
    mine, other = statistics.median(seconds), statistics.median(others)
    met = "" if mine / other <= goal else "  missed"
    print(
        f"  {query.what:28} {mine:8.3f} s {other:8.3f} s {mine / other:7.2f} {goal:6g}"
        f" {mine_used / repeat:8.3f} s {others_used / repeat:8.3f} s{met}",
        flush=True,
    )


async def run(arguments: argparse.Namespace) -> None:
    """One world after the other."""
    worlds = ("few", "many", "tpch", "kept") if arguments.world is None else (arguments.world,)
    for name in worlds:
        queries = [
            each for each in (TPCH if name == "tpch" else QUERIES) if arguments.only in each.what
        ]
        with tempfile.TemporaryDirectory(prefix="trough-bench-") as home:
            segments, rows = {
                "few": (200, 20_000),
                "many": (10_000, 200),
                "tpch": (16, 15_000),
                "kept": (100_000, 20),
            }[name]
            segments = max(2, int(segments * arguments.part))
            world = World(Path(home), segments)
            if name == "tpch":
                world.fill_tpch(rows)
            else:
                world.fill(rows)
            if name == "kept":
                print(f"{segments:,} segments x {rows:,} rows, asked again     GATHER  CPU of all")
                await measure_kept(world)
                world.union.close()
                continue
            what = (
                f"{segments:,} segments x {rows:,} {'orders in all' if name == 'tpch' else 'rows'}"
            )
            print(
                f"{what:30} {'GATHER':>10} {'SQLite':>10} {'ratio':>7} {'goal':>6} CPU of both",
                flush=True,
            )
            await measure(world, queries, int(name == "many"), arguments.repeat)
            world.union.close()


def main() -> None:
    """Parse the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=("few", "many", "tpch", "kept"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--part", type=float, default=1.0, help="of the segments")
    parser.add_argument("--only", default="", help="a word of the lines that are measured")
    arguments = parser.parse_args()
    react(lambda _: Deferred.fromCoroutine(run(arguments)))


if __name__ == "__main__":
    main()
