"""Point reads of one client while another attacks: python bench/bench_attacks.py

A Trough of its own is asked by one client, request after request, alone and then while eleven
attacks go on together. The figure is the ratio of the 99th percentiles, which is to be at most 5,
and the peak of the front's memory, which is to stay below 300 MB. Other work on the machine makes
the ratio worse, so the idle part is measured before and after.

    python bench/bench_attacks.py [--reads N]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from trough_server import Server

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"
ROW = "SELECT printf('%.*c', 50000000, 'y') AS x"
NESTED = "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' REGEXP '^(a+)+$'"

#: Seconds that the attacks have to begin before reads are measured.
BEFORE = 3.0

#: Seconds of one round of the attacks that last longest.
ROUND = 5.0


def large_row(size: int) -> str:
    """A query that each segment answers with one row of so many bytes."""
    return f"SELECT b, printf('%.*c', {size}, 'y') AS x FROM t WHERE a = 1"


class Attacker:
    """Eleven attacks on one server, each of them again and again, in a process of their own: the
    client that is measured is not to wait for them.
    """

    def __init__(self, server: Server) -> None:
        self._ports = server.ports
        self._ended = multiprocessing.Event()
        self._process = multiprocessing.Process(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin all of them."""
        self._process.start()

    def stop(self) -> None:
        """End them, and close their connections."""
        self._ended.set()
        self._process.kill()
        self._process.join()

    def _run(self) -> None:
        threads = [
            threading.Thread(target=self._repeat, args=(attack,)) for attack in self.attacks()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def attacks(self) -> tuple[Callable[[], None], ...]:
        """Each is one round of an attack."""
        return (
            self.endless_reads,
            self.endless_writes,
            self.answers_that_nobody_reads,
            self.large_rows,
            self.large_rows_of_gathers,
            self.idle_connections,
            self.large_bodies,
            self.pattern_in_a_gather,
            self.pattern_in_a_schema,
            self.many_ids,
            self.patterns_over_ids,
        )

    def _repeat(self, attack: Callable[[], None]) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                attack()
            self._ended.wait(0.05)

    @contextlib.contextmanager
    def _sending(self, port: str, *texts: str, seconds: float = 5.0) -> Iterator[None]:
        """One connection for each text, kept until the block ends."""
        with contextlib.ExitStack() as stack:
            for text in texts:
                connection = socket.create_connection(("127.0.0.1", self._ports[port]), 10)
                stack.enter_context(connection)
                connection.sendall(text.encode())
            self._ended.wait(seconds)
            yield

    def _ask(self, port: str, method: str, path: str, body: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[port], timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body.encode())
            connection.getresponse().read()

    def endless_reads(self) -> None:
        texts = [f"1 QUERY point {ENDLESS.format('count(*)')} -- {n}\n" for n in range(8)]
        with self._sending("LINE_PORT", *texts):
            pass

    def endless_writes(self) -> None:
        sql = f"CREATE TABLE IF NOT EXISTS z (x); INSERT INTO z {ENDLESS.format('i')}"
        self._ask("WRITE_PORT", "POST", "/?segment=written&seconds=3", sql)

    def answers_that_nobody_reads(self) -> None:
        asked = "".join(f"{n} QUERY point SELECT printf('%.*c', 60000, 'y')\n" for n in range(3000))
        with self._sending("LINE_PORT", asked):
            pass

    def large_rows(self) -> None:
        head = f"POST /?segment=point HTTP/1.1\r\nHost: a\r\nContent-Length: {len(ROW)}\r\n\r\n"
        with self._sending("READ_PORT", *[head + ROW] * 4):
            pass

    def large_rows_of_gathers(self) -> None:
        texts = [f"1 GATHER point {large_row(size)}\n" for size in (90_000_000, 4_000_000)]
        with self._sending("SYNC_LINE_PORT", *texts * 8):
            pass

    def idle_connections(self) -> None:
        with self._sending("READ_PORT", *[""] * 200), self._sending("LINE_PORT", *[""] * 100):
            pass

    def large_bodies(self) -> None:
        head = "POST /?segment=nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n"
        with self._sending("WRITE_PORT", *[head + "x" * 10_000_000] * 2):
            pass

    def pattern_in_a_gather(self) -> None:
        asked = {"segments": ["point"], "seconds": 3, "sql": f"SELECT {NESTED}"}
        self._ask("SYNC_SERVER_PORT", "POST", "/gather", json.dumps(asked))

    def pattern_in_a_schema(self) -> None:
        sql = f"CREATE TABLE t (x); INSERT INTO t SELECT {NESTED}"
        self._ask("SYNC_SERVER_PORT", "PUT", "/schema/bad/sql", sql)

    def many_ids(self) -> None:
        ids = ",".join(map(str, range(130_000)))
        with self._sending("LINE_PORT", f"1 QUERY {{{len(ids)}}}\n{ids} SELECT 1\n"):
            pass

    def patterns_over_ids(self) -> None:
        with self._sending("SYNC_LINE_PORT", *["1 WHERE ~(e|x)+(a+)+$\n"] * 4, seconds=1):
            pass


def percentile(server: Server, reads: int, seconds: float = 0.0) -> float:
    """Milliseconds of the 99th percentile of so many point reads.

    :param seconds: that it goes on at least
    """
    times: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["READ_PORT"], timeout=60)
    end = time.monotonic() + seconds
    while len(times) < reads or time.monotonic() < end:
        number = len(times)
        began = time.monotonic()
        connection.request("POST", "/?segment=point", f"SELECT b FROM t WHERE a = {number % 1000}")
        answer = connection.getresponse().read()
        times.append(time.monotonic() - began)
        if not answer.startswith(b'[{"b":'):
            raise SystemExit(f"a point read was answered {answer[:200]!r}")
    return sorted(times)[int(len(times) * 0.99)] * 1000


def prepare(server: Server) -> None:
    """Make the segment that is read, and the one that is written."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["SYNC_SERVER_PORT"])
    rows = ",".join(f"({number}, 'value {number}')" for number in range(1000))
    for segment in ("point", "written"):
        connection.request("POST", "/provision", json.dumps({"segment": segment}))
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"provisioning: {answer.read()!r}")
        answer.read()
    writing = http.client.HTTPConnection("127.0.0.1", server.ports["WRITE_PORT"])
    sql = f"CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES {rows}"
    writing.request("POST", "/?segment=point", sql)
    if writing.getresponse().read() != b"OK\n":
        raise SystemExit("the segment could not be written")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reads", type=int, default=1000, help="point reads of each part")
    reads = parser.parse_args().reads
    with tempfile.TemporaryDirectory() as home:
        with Server(Path(home), EXECUTORS="2", MINIMUM_ASSIGNMENTS="1") as server:
            prepare(server)
            percentile(server, reads)  # so that all is loaded
            idle = [percentile(server, reads)]
            print(f"alone: {idle[0]:.1f} ms", flush=True)
            attacker = Attacker(server)
            attacker.start()
            time.sleep(BEFORE)
            attacked = percentile(server, reads, ROUND)
            peak = server.front_peak()
            print(f"attacked: {attacked:.1f} ms", flush=True)
            attacker.stop()
            time.sleep(BEFORE)
            idle.append(percentile(server, reads))
    print(f"p99 of point reads, alone: {idle[0]:.1f} ms before, {idle[1]:.1f} ms after")
    print(f"while eleven attacks go on: {attacked:.1f} ms, {attacked / max(idle):.1f} times")
    print(f"peak of the front: {peak >> 20} MiB")


if __name__ == "__main__":
    main()
