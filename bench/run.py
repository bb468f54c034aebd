"""``make bench``: a Trough on this machine beside bare SQLite in one process.

Each line is measured in one run with its baseline, since the machine is shared and no two
runs see the same one; what counts is the ratio. What costs little is measured three times,
and the fastest counts: others can only have made it slower. The client runs on the same
cores. Memory is that of all server processes, each at its own peak during the measurement.
The CPU that they used for one unit of work tells more than the rate where others use the
machine.

    python bench/run.py [--quick] [--tls] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load_clients as clients
from table import Line, Table, Work, machine
from trough_server import Server

from trough.model import canonical_path
from trough.tls.authority import CA_CERTIFICATE, make_ca, make_certificate

GROUP_BY = "SELECT status_code, count(*), sum(size) FROM crawled_url GROUP BY status_code"
POINT = "SELECT url, status_code, size FROM crawled_url WHERE id = {}"
INSERT = "INSERT INTO crawled_url (url, status_code, size) VALUES ('http://example.com/', 200, {})"
SCHEMA = (
    "CREATE TABLE crawled_url (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME,"
    " status_code INTEGER, size BIGINT, payload_size BIGINT, url VARCHAR(4000),"
    " mimetype VARCHAR(255), host VARCHAR(255))"
)

#: Of a measurement that costs little.
PASSES = 3


@dataclass(frozen=True)
class Scale:
    """How much is done; the quick one only shows that the benchmark works."""

    segments: int = 10_000
    segment_rows: int = 200
    http_reads: int = 10_000
    line_reads: int = 100_000
    sequential_reads: int = 8_000
    export_rows: int = 500_000
    http_writes: int = 2_000
    http_writes_shared: int = 10_000
    line_writes: int = 50_000
    batches: int = 200


QUICK = Scale(300, 50, 300, 3_000, 300, 20_000, 50, 300, 1_000, 5)


class Bench:
    """The measurements, on one server.

    :param tree: whose Trough is measured; None for that of this file
    :param tls: whether server and clients speak TLS
    """

    def __init__(
        self, home: Path, scale: Scale, tree: Path | None = None, tls: bool = False
    ) -> None:
        self.home = home
        self.scale = scale
        settings = {"EXECUTORS": "2", "WRITE_LOCK_IDLE": "86400", "KEPT_HANDLES": "6000"}
        self._scheme = "https" if tls else "http"
        self._context = ssl.create_default_context()
        if tls:
            settings |= self._certificate(home / "ca")
        self.server = Server(home, tree, **settings)
        self.names = [f"{300_000 + number}" for number in range(scale.segments)]

    def _certificate(self, directory: Path) -> dict[str, str]:
        """Make one, and have the clients believe it; the server's settings."""
        now = datetime.datetime.now(datetime.UTC)
        make_ca(directory, now)
        certificate, key = make_certificate(directory, ["127.0.0.1"], now)
        ca = str(directory / CA_CERTIFICATE)
        clients.use_tls(ca)
        self._context.load_verify_locations(ca)
        return {"TLS_CERT": str(certificate), "TLS_KEY": str(key), "TLS_CA": ca}

    # -- preparing ----------------------------------------------------------------

    def prepare(self) -> None:
        """Put the segments into canonical storage, and wait until all are served."""
        for number, name in enumerate(self.names):
            self._make(name, self.scale.segment_rows, number)
        self._make("export", self.scale.export_rows, 1)
        began = time.perf_counter()
        self.server.start()
        while self._count() < len(self.names) + 1:
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        print(f"{len(self.names) + 1} segments fetched and served after {seconds:.1f} s")

    def _make(self, name: str, rows: int, seed: int) -> None:
        path = self.home / "canonical" / canonical_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as database:
            database.execute(SCHEMA)
            database.executemany(
                "INSERT INTO crawled_url (timestamp, status_code, size, payload_size, url,"
                " mimetype, host) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        f"2026-01-01T00:00:{row % 60:02}Z",
                        (200, 200, 404, 301)[(row + seed) % 4],
                        row * 7,
                        row * 5,
                        f"http://host-{row % 97}.example/a/page/{row}",
                        "text/html",
                        f"host-{row % 97}.example",
                    )
                    for row in range(rows)
                ),
            )
        database.close()

    def _count(self) -> int:
        with urllib.request.urlopen(
            f"{self._scheme}://127.0.0.1:{self.server.ports['SYNC_LOCAL_PORT']}/status",
            context=self._context,
        ) as response:
            return int(json.load(response)["segments"])

    def _local(self, name: str) -> Path:
        return self.home / "worker" / "segments" / canonical_path(name)

    def _provision(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self._scheme}://127.0.0.1:{self.server.ports['SYNC_SERVER_PORT']}/provision",
            f'{{"segment": "{name}"}}'.encode(),
        )
        urllib.request.urlopen(request, context=self._context).read()
        self._write_once(name, SCHEMA)

    def _write_once(self, name: str, sql: str) -> None:
        port = self.server.ports["WRITE_PORT"]
        clients.http(port, [clients.http_request(name, sql.encode())], 1)

    # -- measuring -------------------------------------------------------------------

    def point_reads_http(self) -> Work:
        """16 connections, keep-alive."""
        count = self.scale.http_reads
        requests = [
            clients.http_request(self.names[number % 100], POINT.format(1 + number % 50).encode())
            for number in range(count)
        ]
        port = self.server.ports["READ_PORT"]
        return Work(
            "point reads over HTTP, 16 connections", "reads/s", count, "2,500",
            lambda: self._bare_points(count), lambda: clients.http(port, requests, 16),
            PASSES,
        )  # fmt: skip

    def point_reads_pipelined(self) -> Work:
        """One connection, a thousand requests under way."""
        count = self.scale.line_reads
        return Work(
            "point reads over the protocol, pipelined", "reads/s", count, "40,000",
            lambda: self._bare_points(count),
            lambda: clients.line_pipelined(
                self.server.ports["LINE_PORT"], self._line_points(count), b" END ", 1000
            ),
            PASSES,
        )  # fmt: skip

    def point_reads_sequential(self) -> Work:
        """One connection, one request at a time."""
        count = self.scale.sequential_reads
        return Work(
            "point reads over the protocol, sequential", "reads/s", count, "3,500",
            lambda: self._bare_points(count),
            lambda: clients.line_sequential(
                self.server.ports["LINE_PORT"], self._line_points(count), b" END "
            ),
            PASSES,
        )  # fmt: skip

    def _line_points(self, count: int) -> list[bytes]:
        return [
            b"q%d QUERY %b %b\n"
            % (
                number,
                self.names[number % 100].encode(),
                POINT.format(1 + number % 50).encode(),
            )
            for number in range(count)
        ]

    def _bare_points(self, count: int) -> float:
        databases = [sqlite3.connect(self._local(name)) for name in self.names[:100]]
        began = time.perf_counter()
        for number in range(count):
            databases[number % 100].execute(POINT.format(1 + number % 50)).fetchall()
        seconds = time.perf_counter() - began
        for database in databases:
            database.close()
        return seconds

    def group_by_cold(self) -> Work:
        """One request for all segments, right after a restart."""
        return self._group_by("cold handles", "6,000", self._bare_group_by, self._restart)

    def group_by_kept(self) -> Work:
        """The same again, with the executors' handles open."""
        return self._group_by("kept handles", "15,000", self._bare_group_by_kept)

    def _restart(self) -> None:
        self.server.stop()
        self.server.start()

    def _group_by(
        self,
        how: str,
        goal: str,
        bare: Callable[[], float],
        before: Callable[[], None] | None = None,
    ) -> Work:
        ids = ",".join(self.names).encode()
        request = b"g QUERY {%d}\n%b %b\n" % (len(ids), ids, GROUP_BY.encode())
        count = len(self.names)
        return Work(
            f"GROUP BY over {count} segments, {how}", "segments/s", count, goal, bare,
            lambda: clients.line_sequential(
                self.server.ports["LINE_PORT"], [request], b"g END "
            ),
            before=before,
        )  # fmt: skip

    def _bare_group_by(self) -> float:
        began = time.perf_counter()
        for name in self.names:
            database = sqlite3.connect(self._local(name))
            database.execute(GROUP_BY).fetchall()
            database.close()
        return time.perf_counter() - began

    def _bare_group_by_kept(self) -> float:
        # As many as one process may have open at once, and the rest counted alike.
        names = self.names[:500]
        databases = [sqlite3.connect(self._local(name)) for name in names]
        for database in databases:
            database.execute(GROUP_BY).fetchall()
        began = time.perf_counter()
        for database in databases:
            database.execute(GROUP_BY).fetchall()
        seconds = (time.perf_counter() - began) * len(self.names) / len(names)
        for database in databases:
            database.close()
        return seconds

    def export(self) -> Work:
        """Many rows as JSON; the baseline is the command line shell's JSON mode."""
        count = self.scale.export_rows
        request = clients.http_request("export", b"SELECT * FROM crawled_url")
        port = self.server.ports["READ_PORT"]

        def bare() -> float:
            began = time.perf_counter()
            subprocess.run(
                ["sqlite3", "-json", str(self._local("export")), "SELECT * FROM crawled_url"],
                stdout=subprocess.DEVNULL,
                check=True,
            )
            return time.perf_counter() - began

        clients.http_download(port, request)
        return Work(
            f"{count} rows to an HTTP client; bare: sqlite3 -json", "rows/s", count,
            "1/1.3 of it", bare, lambda: clients.http_download(port, request)[0],
        )  # fmt: skip

    def writes_http_1(self) -> Work:
        """One client, each write answered after its fsync."""
        return self._writes_http(1, self.scale.http_writes, "1,000")

    def writes_http_64(self) -> Work:
        """64 clients at once."""
        return self._writes_http(64, self.scale.http_writes_shared, "2,000")

    def _writes_http(self, connections: int, count: int, goal: str) -> Work:
        name = f"writes-http-{connections}"
        self._provision(name)
        requests = [
            clients.http_request(name, INSERT.format(number).encode()) for number in range(count)
        ]
        port = self.server.ports["WRITE_PORT"]
        return Work(
            f"single-row writes, HTTP, {connections} clients", "writes/s", count, goal,
            lambda: self._bare_writes(min(count, 2000)) * count / min(count, 2000),
            lambda: clients.http(port, requests, connections),
        )  # fmt: skip

    def writes_pipelined(self) -> Work:
        """The line protocol, a thousand writes under way."""
        count, name = self.scale.line_writes, "writes-line"
        self._provision(name)
        requests = [
            b"w%d WRITE %b %b\n" % (number, name.encode(), INSERT.format(number).encode())
            for number in range(count)
        ]
        return Work(
            "single-row writes, protocol, pipelined", "writes/s", count, "10,000",
            lambda: self._bare_writes(min(count, 2000)) * count / min(count, 2000),
            lambda: clients.line_pipelined(
                self.server.ports["LINE_PORT"], requests, b" OK ", 1000
            ),
        )  # fmt: skip

    def writes_batched(self) -> Work:
        """1,000 rows in one INSERT, one client."""
        count, name = self.scale.batches, "writes-batched"
        self._provision(name)
        values = ",".join(
            f"('http://example.com/page/{number}', 200, {number})" for number in range(1000)
        )
        sql = f"INSERT INTO crawled_url (url, status_code, size) VALUES {values}"
        requests = [clients.http_request(name, sql.encode())] * count
        port = self.server.ports["WRITE_PORT"]

        def bare() -> float:
            with self._scratch() as database:
                began = time.perf_counter()
                for _ in range(count):
                    database.execute(sql)
                return time.perf_counter() - began

        return Work(
            "batches of 1,000 rows, HTTP, 1 client", "rows/s", count * 1000, "222,000", bare,
            lambda: clients.http(port, requests, 1),
        )  # fmt: skip

    def _bare_writes(self, count: int) -> float:
        with self._scratch() as database:
            began = time.perf_counter()
            for number in range(count):
                database.execute(INSERT.format(number))
            return time.perf_counter() - began

    def _scratch(self) -> sqlite3.Connection:
        path = self.home / f"scratch-{time.monotonic_ns()}.sqlite"
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(SCHEMA)
        return database

    def measurements(self) -> list[Callable[[], Work]]:
        """All measurements, in the order of the table."""
        return [
            self.point_reads_http,
            self.point_reads_pipelined,
            self.point_reads_sequential,
            self.group_by_cold,
            self.group_by_kept,
            self.export,
            self.writes_http_1,
            self.writes_http_64,
            self.writes_pipelined,
            self.writes_batched,
        ]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--tls", action="store_true", help="server and clients speak TLS")
    parser.add_argument("--only", default="", help="measurements whose name has this in it")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    arguments = parser.parse_args()
    print(machine())
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="trough-bench-") as home:
        bench = Bench(Path(home), QUICK if arguments.quick else Scale(), tls=arguments.tls)
        bench.prepare()
        table = Table(bench.server)
        try:
            table.print_head()
            for measure in bench.measurements():
                if arguments.only in measure.__name__:
                    lines.append(table.measure(measure()))
                    table.print_line(lines[-1])
        finally:
            bench.server.stop()
    if arguments.json:
        rows = [asdict(line) for line in lines]
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
