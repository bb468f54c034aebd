"""What a second copy of each write costs: three workers with WRITE_COPIES 2 beside three with 1.

Both clusters run at the same time, and are measured in turn, since the machine is shared: what
counts is the ratio. The time of a flush is printed, because it decides about the ratio. The workers
share one disk, so its flushes of both copies would add up. Therefore the files are in memory, and
each flush takes 2 ms (--flush-ms). With --flush-ms 0 the files are on the disk of TMPDIR.

    python bench/bench_replication.py [--quick] [--flush-ms N] [--segments N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load_clients as clients
import slow_flush
from table import machine
from trough_cluster import Cluster, Process

from trough.model import canonical_path
from trough.replication.holder_log import WalReader

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, url TEXT)"
INSERT = b"INSERT INTO t (url) VALUES ('http://example.com/')"
SEGMENT = "bench"
PASSES = 3


#: Prints the median of a flush of one page, in seconds.
FLUSHES = """
import os, statistics, sys, time
found = []
with open(sys.argv[1], "wb", buffering=0) as file:
    for _ in range(100):
        file.write(bytes(4120))
        began = time.perf_counter()
        os.fdatasync(file.fileno())
        found.append(time.perf_counter() - began)
print(statistics.median(found))
"""


def flush_seconds(directory: Path, environment: Mapping[str, str]) -> float:
    """The median of a flush of one page, in a process like the workers'."""
    command = [sys.executable, "-c", FLUSHES, str(directory / "flushed")]
    env = {**os.environ, **environment}
    return float(subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout)


def rate(holder: Process, count: int) -> float:
    """Writes a second of 64 clients."""
    requests = [clients.http_request(SEGMENT, INSERT)] * count
    return count / clients.http(holder.ports["WRITE_PORT"], requests, 64)


def median(holder: Process, count: int) -> float:
    """The median of one client's writes, in seconds."""
    request = [clients.http_request(SEGMENT, INSERT)]
    found = [clients.http(holder.ports["WRITE_PORT"], request, 1) for _ in range(count)]
    return statistics.median(found)


def log_bytes(holder: Process) -> int:
    """Where the log of the segment ends."""
    return int(WalReader(holder.data / "segments" / canonical_path(SEGMENT)).end())


def compare(
    name: str, one: Callable[[], float], two: Callable[[], float], unit: str, scale: float = 1.0
) -> None:
    """Measure both in turn, and print the medians and their ratio."""
    pairs = [(one(), two()) for _ in range(PASSES)]
    alone, both = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(
        f"{name:<44} {alone * scale:>10,.2f} {both * scale:>10,.2f} {both / alone:>6.2f}  {unit}",
        flush=True,
    )


def measure(home: Path, quick: bool, flush_ms: float, segments: int) -> None:
    """Print the table."""
    environment = slow_flush.environment(home / "slow", flush_ms) if flush_ms else {}
    single, double = (Cluster(home / str(copies), copies, environment) for copies in (1, 2))
    try:
        holders = [each.provision(SEGMENT, SCHEMA) for each in (single, double)]
        for holder in holders:
            rate(holder, 64)
        print(f"{machine()}; a flush takes {flush_seconds(home, environment) * 1e3:.2f} ms")
        print(f"{'work':<44} {'1 copy':>10} {'2 copies':>10} {'ratio':>6}")
        count, alone = (300, 20) if quick else (5_000, 300)
        compare("writes of 64 clients", *(lambda h=h: rate(h, count) for h in holders), "/ s")
        compare("write of one client, median", *(lambda h=h: median(h, alone) for h in holders),
                "ms", 1e3)  # fmt: skip
        traffic(holders[1], count)
        many_segments(double, segments)
    finally:
        single.stop()
        double.stop()


def traffic(holder: Process, count: int) -> None:
    """Compare what the holder sent with its log."""
    log, sent = log_bytes(holder), sent_bytes(holder)
    rate(holder, count)
    log, sent = log_bytes(holder) - log, sent_bytes(holder) - sent
    print(f"{'sent to the follower':<44} {log:>10,} {sent:>10,} {sent / log:>6.3f}  bytes")


def sent_bytes(holder: Process) -> int:
    """Bytes of logs and bases that a worker has sent."""
    return int(holder.status()["replication"]["sent_bytes"])


def many_segments(cluster: Cluster, count: int) -> None:
    """Write many segments in turn, and print what the processes take."""
    print(f"{count} segments, each written once, with 2 copies; all workers together")
    for number in range(count + 1):
        if number % (count // 3) == 0:
            memory = sum(each.memory() for each in cluster.workers)
            open_files = sum(each.descriptors() for each in cluster.workers)
            print(f"  after {number:>6,} {memory >> 20:>6} MB {open_files:>6} descriptors")
        if number < count:
            segment = f"many-{number}"
            holder = cluster.provision(segment, SCHEMA)
            request = clients.http_request(segment, INSERT)
            clients.http(holder.ports["WRITE_PORT"], [request], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument(
        "--flush-ms", type=float, default=2.0, help="time of each flush; 0: that of the disk"
    )
    parser.add_argument("--segments", type=int, help="how many are written in turn")
    options = parser.parse_args()
    segments = options.segments or (60 if options.quick else 3_000)
    memory = "/dev/shm" if options.flush_ms else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        measure(Path(directory), options.quick, options.flush_ms, segments)


if __name__ == "__main__":
    main()
