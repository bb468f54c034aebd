"""``trough-shell -e`` beside ``litecli -e``: what one short query costs a script.

Both run in turns, for on a shared machine only neighbours compare. Processor time is the
figure that means something there.

    python bench/bench_shell.py [--runs N] [--litecli PATH]

litecli is measured where it is found (``pip install litecli``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from trough_server import Server

from trough.client import TroughClient

BIN = Path(sys.executable).parent
QUIET = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]


def run(*command: str) -> tuple[float, float]:
    """Run a program: seconds, and seconds of processor time."""
    begun = time.monotonic()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=QUIET)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{command[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime


def measure(runs: int, commands: dict[str, list[str]]) -> None:
    """Run them in turns, and print the medians and their ratio to the last one."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            found[name].append(run(*command))
    # The first turn found cold files.
    medians = {
        name: [statistics.median(figure) for figure in zip(*figures[1:], strict=True)]
        for name, figures in found.items()
    }
    last = medians[list(medians)[-1]]
    print(f"{'program':14} {'seconds':>8} {'CPU s':>8} {'ratio':>8} {'CPU ratio':>10}")
    for name, (seconds, processor) in medians.items():
        print(
            f"{name:14} {seconds:8.3f} {processor:8.3f} {seconds / last[0]:8.2f} "
            f"{processor / last[1]:10.2f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--litecli", default=shutil.which("litecli", path=str(BIN)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        server = Server(home / "trough")
        server.start()
        try:
            url = f"sqlite://{home}/trough/registry.db"
            with TroughClient(url) as client:
                client.write("bench", "CREATE TABLE t (id INTEGER)")
            query = ["-u", url, "bench", "-e", "SELECT 1"]
            commands = {
                "trough-shell": [str(BIN / "trough-shell"), *query],
                "python": [sys.executable, "-c", "pass"],
            }
            if options.litecli:
                commands["litecli"] = [options.litecli, str(home / "x.db"), "-e", "SELECT 1"]
            measure(options.runs, commands)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
