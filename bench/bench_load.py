"""``trough-load`` beside ``sqlite-utils insert``, on one CSV file, in one run.

Rates of a shared machine say little by themselves; the ratio, and the processor time, do.
With ``--large`` a second file shows that memory does not grow with the number of rows.

    python bench/bench_load.py [--rows N] [--large N]

sqlite-utils is measured where it is installed (``pip install sqlite-utils``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from trough_server import Server

from trough.client import TroughClient

BIN = Path(sys.executable).parent
SCHEMA = "CREATE TABLE t (id INTEGER, timestamp TEXT, status INTEGER, url TEXT);"


def write_csv(path: Path, rows: int) -> None:
    """A table of a crawl's columns."""
    with path.open("w") as file:
        file.write("id,timestamp,status,url\n")
        for number in range(rows):
            file.write(f"{number},2026-01-02 03:04:05,200,http://example.com/path/{number}\n")


def run(name: str, *arguments: object, **environment: str) -> tuple[float, float, int]:
    """Run a program: seconds, seconds of processor time, and peak memory in MiB."""
    begun = time.monotonic()
    process = os.posix_spawn(
        str(BIN / name), [name, *map(str, arguments)], {**os.environ, **environment}
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")
    return (
        time.monotonic() - begun,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss >> 10,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        with Server(home / "trough"):
            url = f"sqlite://{home}/trough/registry.db"
            with TroughClient(url) as client:
                client.register_schema("bench", SCHEMA)
            measure(home, url, options.rows, options.large)


def measure(home: Path, url: str, rows: int, large: int) -> None:
    """Load both files, and print a line for each program."""
    file = home / "rows.csv"
    to = ["-u", url, "--schema", "bench", "--table", "t", "--no-promote"]
    write_csv(file, rows)
    others: list[float] = []
    print(f"{'program':14} {'rows':>10} {'seconds':>8} {'CPU s':>8} {'MiB':>6}")
    for turn in range(2):
        if shutil.which("sqlite-utils", path=str(BIN)):
            found = run(
                "sqlite-utils", "insert", home / f"{turn}.db", "t", file, "--csv", "--silent"
            )
            show("sqlite-utils", rows, found)
            others.append(found[0])
        found = run("trough-load", *to, "--segment", f"bench-{turn}", file)
        show("trough-load", rows, found)
        if others:
            print(f"{'ratio':14} {found[0] / others[-1]:19.2f}")
    if large:
        write_csv(file, large)
        show("trough-load", large, run("trough-load", *to, "--segment", "large", file))


def show(name: str, rows: int, found: tuple[float, float, int]) -> None:
    """A line of the table."""
    seconds, processor, memory = found
    print(f"{name:14} {rows:10,} {seconds:8.1f} {processor:8.1f} {memory:6}", flush=True)


if __name__ == "__main__":
    main()
