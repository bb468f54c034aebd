"""How many requests a second the line protocol carries: python bench/bench_line.py

Server and client are two processes of this machine that talk over loopback, as they do
in production. The server's role answers every query at once with finished lines and runs
no SQL, so the figures are the protocol's own; with --sql it asks real executors for a row
by its key, from one of a hundred segments. Parser figures are of one process and no socket.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react

from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, Target
from trough.executors.pool.pool import FramingLimits as PoolLimits
from trough.protocols.line.arguments import parse_query_arguments
from trough.protocols.line.client import LineConnection, connect
from trough.protocols.line.framing import FramingLimits, LineRequest, ReplyParser, RequestParser
from trough.protocols.line.replies import Handler, QueryReply, Reply, Verb, table
from trough.protocols.line.server import LineServerFactory

reactor: Any = installed_reactor
SQL = "SELECT status_code, url FROM crawled_url WHERE id = 77"
SEGMENTS = itertools.cycle(f"{number}" for number in range(300000, 300100))
QUERY = f"QUERY 300001 {SQL}".encode()
_OUTCOME = Outcome(segments=1, rows=1)


def canned(request: LineRequest, reply: Reply) -> None:
    """Answer a query the way a worker does, with the rows known beforehand."""
    arguments = parse_query_arguments(request)
    tag, segment = request.tag.encode(), arguments.segments[0].encode()
    answer = QueryReply(reply)
    answer.data(
        b'%b COLS %b ["status_code","url"]\n%b ROWS %b [[200,"http://example.com/"]]\n'
        b"%b DONE %b 1\n" % (tag, segment, tag, segment, tag, segment)
    )
    answer.finished(_OUTCOME)


def asking(pool: ExecutorPool, targets: dict[str, Target]) -> Handler:
    """Answers queries by executors."""
    limits = PoolLimits(60.0)

    def query(request: LineRequest, reply: Reply) -> None:
        asked = parse_query_arguments(request)
        wanted = [targets[segment] for segment in asked.segments]
        answer = QueryReply(reply)
        reply.follow(
            pool.read(wanted, asked.sql, asked.parameters, limits, Framing.LINES, reply.tag, answer)
        )

    return query


def make_segments(directory: str) -> dict[str, Target]:
    """A hundred segments of 200 rows."""
    targets = {}
    for segment in (f"{number}" for number in range(300000, 300100)):
        path = f"{directory}/{segment}.sqlite"
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE crawled_url (id INTEGER PRIMARY KEY, url, status_code)")
            database.executemany(
                "INSERT INTO crawled_url VALUES (?, ?, 200)",
                ((row, f"http://example.com/{row}") for row in range(200)),
            )
        database.close()
        targets[segment] = Target(segment, path, 1, False)
    return targets


def serve(sql: bool) -> None:
    """Be the server; print the port."""
    handler: Handler = canned
    if sql:
        directory = tempfile.TemporaryDirectory()
        pool = ExecutorPool(reactor, executors=2, write_executors=1)
        handler = asking(pool, make_segments(directory.name))
        reactor.callWhenRunning(pool.startService)
        reactor.addSystemEventTrigger("before", "shutdown", pool.stopService)
    verbs = table(Verb("QUERY", "<ids> SQL", "rows", handler, "1 QUERY 300001 SELECT 1"))
    port = reactor.listenTCP(
        0, LineServerFactory("worker", "bench", verbs, reactor), interface="127.0.0.1"
    )
    print(port.getHost().port, flush=True)
    reactor.run()


class _Listener:
    """Takes decoded rows."""

    def state(self, segment: str, mark: str) -> None:
        pass

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        pass

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        pass

    def done(self, segment: str, count: int) -> None:
        pass

    def failed(self, segment: str, error: Exception) -> None:
        raise error


def ask_raw(connection: LineConnection, ended: Callable[[], None]) -> None:
    """One query whose answer stays bytes."""

    def line(word: bytes, rest: bytes) -> None:
        if word == b"END":
            ended()

    connection.raw(f"QUERY {next(SEGMENTS)} {SQL}".encode(), line)


def ask_decoded(connection: LineConnection, ended: Callable[[], None]) -> None:
    """One query whose rows become Python's values."""
    call = connection.query([next(SEGMENTS)], SQL, listener=_Listener())
    call.done.addCallback(lambda _: ended())


def run(
    connection: LineConnection, ask: Callable[..., None], total: int, depth: int
) -> Deferred[None]:
    """`total` requests, `depth` at a time; fires when all are answered."""
    finished: Deferred[None] = Deferred()
    asked = answered = 0

    def ended() -> None:
        nonlocal asked, answered
        answered += 1
        if asked < total:
            asked += 1
            ask(connection, ended)
        elif answered == total:
            finished.callback(None)

    for _ in range(depth):
        asked += 1
        ask(connection, ended)
    return finished


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, without its executors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def report(name: str, server: int, total: int, work: Callable[[], Deferred[Any]]) -> None:
    """Print how fast `total` requests went, and what they cost on either side."""
    server_cpu, client_cpu, begun = cpu_of(server), time.process_time(), time.perf_counter()
    await work()
    seconds = time.perf_counter() - begun
    server_us = (cpu_of(server) - server_cpu) / total * 1e6
    client_us = (time.process_time() - client_cpu) / total * 1e6
    print(
        f"{name:32}: {total / seconds:10,.0f} requests/s,"
        f" CPU us a request: server {server_us:5.1f}, client {client_us:5.1f}"
    )


async def measure(port: int, server: int, total: int) -> None:
    """Every combination that the document quotes."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    connection = await connect(endpoint, reactor)
    for name, ask in (("undecoded", ask_raw), ("decoded", ask_decoded)):
        await run(connection, ask, 2000, 100)
        for depth, share in ((1, 10), (16, 2), (256, 1), (2048, 1)):
            await report(
                f"{depth} at a time, {name}",
                server,
                total // share,
                partial(run, connection, ask, total // share, depth),
            )
    connections = [await connect(endpoint, reactor) for _ in range(16)]
    await report(
        "16 connections of 64, undecoded",
        server,
        total,
        lambda: gatherResults([run(each, ask_raw, total // 16, 64) for each in connections]),
    )
    for each in (connection, *connections):
        await each.close()


def each(name: str, count: int, work: Callable[[], object]) -> None:
    """Print what one of `count` things takes, at best of some runs."""
    best = min(_timed(work) for _ in range(20))
    print(f"{name:32}: {best / count * 1e9:8,.0f} ns")


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def parsers() -> None:
    """The parts that need no socket."""
    request_data = b"q123 " + QUERY + b"\n"
    reply_data = (
        b'q1 COLS 300001 ["a"]\nq1 ROWS 300001 [[1]]\nq1 DONE 300001 1\nq1 END segments=1\n'
    )
    requests, replies = RequestParser(FramingLimits()), ReplyParser()

    def parse_requests() -> None:
        requests.receive_data(request_data * 800)
        while requests.next_request() is not None:
            pass

    def parse_replies() -> None:
        replies.receive_data(reply_data * 800)
        for _ in replies.replies():
            pass

    one = LineRequest("q1", "QUERY", QUERY[6:])
    bound = LineRequest("q1", "QUERY", b"300001 bind=[77] SELECT url FROM crawled_url WHERE id = ?")
    many = LineRequest(
        "q1", "QUERY", b",".join(b"%d" % (300000 + n) for n in range(10000)) + b" SELECT 1"
    )
    each("parse a request", 800, parse_requests)
    each("parse a reply line", 3200, parse_replies)
    each("arguments of a query", 1000, lambda: [parse_query_arguments(one) for _ in range(1000)])
    each("arguments with parameters", 1000,
         lambda: [parse_query_arguments(bound) for _ in range(1000)])  # fmt: skip
    each("arguments: an id out of 10,000", 10000, lambda: parse_query_arguments(many))


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--sql", action="store_true", help="ask executors")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.sql)
        return
    if not chosen.sql:
        parsers()
    command = [sys.executable, __file__, "--serve", *(["--sql"] if chosen.sql else [])]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        react(lambda _: Deferred.fromCoroutine(measure(port, server.pid, chosen.requests)), ())
    except SystemExit as end:
        if end.code:
            raise
    finally:
        server.terminate()
        server.wait()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory of the server: {peak:.0f} MB")


if __name__ == "__main__":
    main()
