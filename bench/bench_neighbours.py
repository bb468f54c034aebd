"""Point reads beside ordinary heavy use: python bench/bench_neighbours.py

One client reads by key, alone and then while others use the same worker: a hundred open scans
whose readers are slow, a bulk load, and fetches of segments, as while another worker is drained.
The figure is the ratio of the 99th percentiles, which is to be at most 5. Other work on the machine
makes it worse, so the idle part is measured before and after.

    python bench/bench_neighbours.py [--reads N] [--scans N] [--fetches N] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bench_attacks import percentile, prepare
from table import machine
from trough_server import Server

from trough.model import canonical_path

#: Rows of the segment that is scanned: about 10 MB as JSON.
SCANNED = 100_000

#: Rows of one write of the bulk load.
BATCH = 1000

#: Seconds between two portions that a slow reader takes, and their bytes.
PAUSE, PORTION = 0.2, 1 << 14


class Neighbours:
    """Everybody else who uses a server, in a process of their own: the client that is measured
    is not to wait for them.

    :param home: of the server; its canonical storage is a directory there
    :param scans: open scans
    :param fetches: segments that come to be fetched
    """

    def __init__(self, ports: dict[str, int], home: Path, scans: int, fetches: int) -> None:
        self._ports = ports
        self._home = home
        self._ended = multiprocessing.Event()
        self._written = multiprocessing.Value("q", 0, lock=False)
        self._scans = scans
        self._fetches = fetches
        self._process = multiprocessing.Process(target=self._run)

    @property
    def written(self) -> int:
        """Rows that the bulk load has stored."""
        return int(self._written.value)

    def __enter__(self) -> Neighbours:
        self._process.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._process.join()

    def _run(self) -> None:
        threads = [threading.Thread(target=work) for work in (self._scan, self._load, self._put)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _scan(self) -> None:
        """Keep all scans open; each gets a portion now and then, and begins again at its end."""
        request = b"POST /?segment=scanned HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n"
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", self._ports["READ_PORT"])
            opened = [
                stack.enter_context(socket.create_connection(address, 30))
                for _ in range(self._scans)
            ]
            for each in opened:
                each.sendall(request + b"SELECT * FROM t")
            while not self._ended.wait(PAUSE):
                for each in opened:
                    each.recv(PORTION)

    def _load(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["WRITE_PORT"])
        with contextlib.closing(connection):
            while not self._ended.is_set():
                rows = ",".join(f"('http://example.com/{n}', 200)" for n in range(BATCH))
                sql = f"INSERT INTO loaded VALUES {rows}"
                if not self.written:
                    sql = f"CREATE TABLE loaded (url, status); {sql}"
                connection.request("POST", "/?segment=written", sql)
                if connection.getresponse().read() != b"OK\n":
                    raise SystemExit("the bulk load was refused")
                self._written.value += BATCH

    def _put(self) -> None:
        """Put segments into canonical storage, for the worker to fetch."""
        for number in range(self._fetches):
            path = self._home / "canonical" / canonical_path(f"{500_000 + number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._home / "small.sqlite", path)
            if self._ended.is_set():
                return


def make_segments(home: Path) -> None:
    """The segment that is scanned, and a small one."""
    for path, rows in (
        (home / "canonical" / canonical_path("scanned"), SCANNED),
        (home / "small.sqlite", 50),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
            database.executemany(
                "INSERT INTO t VALUES (?, ?)",
                ((n, f"http://example.com/a/page/{n}/{'x' * 50}") for n in range(rows)),
            )
        database.close()


def until_served(server: Server) -> None:
    """Return once the segment that is scanned can be read."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        reading = http.client.HTTPConnection("127.0.0.1", server.ports["READ_PORT"], timeout=60)
        with contextlib.closing(reading):
            reading.request("POST", "/?segment=scanned", "SELECT 1 AS b")
            if reading.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise SystemExit("the segment that is scanned was never served")


def measure(home: Path, reads: int, scans: int, fetches: int) -> dict[str, float]:
    """Milliseconds of the 99th percentile before, beside and after the neighbours."""
    make_segments(home)
    with Server(home, EXECUTORS="2", MINIMUM_ASSIGNMENTS="1") as server:
        prepare(server)
        until_served(server)
        percentile(server, reads)  # so that all is loaded
        before = percentile(server, reads)
        server.reset_peak()
        with Neighbours(server.ports, home, scans, fetches) as neighbours:
            time.sleep(3.0)
            beside = percentile(server, reads)
        after = percentile(server, reads)
        return {
            "before": before,
            "beside": beside,
            "after": after,
            "ratio": beside / max(before, after),
            "loaded": neighbours.written,
            "peak": server.peak(),
        }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reads", type=int, default=1000, help="point reads of each part")
    parser.add_argument("--scans", type=int, default=100, help="scans that are open all the while")
    parser.add_argument("--fetches", type=int, default=2000, help="segments that are fetched")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trough-bench-") as home:
        found = measure(Path(home), options.reads, options.scans, options.fetches)
    print(machine())
    print(
        "p99 of point reads, ms: {before:.1f} alone before, {beside:.1f} beside the others, "
        "{after:.1f} alone after; {ratio:.1f} times".format(**found)
    )
    print("{loaded:,} rows were loaded meanwhile".format(**found))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **found}, indent=1))


if __name__ == "__main__":
    main()
