"""A Trough of its own for a measurement, and what memory it takes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, all different."""
    with ExitStack() as listening:
        return [
            int(listening.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
            for _ in range(count)
        ]


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Return once a server can serve.

    :raises RuntimeError: it ended instead; with its output
    """
    output = process.stdout
    assert output is not None
    lines = []
    for line in output:
        lines.append(line)
        if " is ready: " in line:
            # A full pipe would stop the server.
            threading.Thread(target=output.read, daemon=True).start()
            return
    raise RuntimeError("a server did not start:\n" + "".join(lines))


class Server:
    """``twistd trough`` below `home`, on ports of its own; a context manager.

    :param tree: a directory with the Trough to start; None for this one. Where it has a
        ``.venv``, that one's packages are used.
    """

    PORTS = (
        "READ_PORT",
        "WRITE_PORT",
        "SYNC_LOCAL_PORT",
        "LINE_PORT",
        "SYNC_SERVER_PORT",
        "SYNC_LINE_PORT",
    )

    def __init__(self, home: Path, tree: Path | None = None, **settings: str) -> None:
        self.home = home
        self._tree = tree or Path(__file__).parents[1]
        self.ports = dict(zip(self.PORTS, free_ports(len(self.PORTS)), strict=True))
        self._settings = {name: str(port) for name, port in self.ports.items()} | settings
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return once it can serve."""
        own = self._tree / ".venv" / "bin" / "twistd"
        self._process = subprocess.Popen(
            [
                str(own if own.exists() else Path(sys.executable).with_name("twistd")),
                "--nodaemon",
                "--pidfile=",
                "trough",
                "--home",
                str(self.home),
            ],
            env={**os.environ, "PYTHONPATH": str(self._tree), **self._settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_ready(self._process)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """Of the front process and the executors."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [self._process.pid, *map(int, children.read_text().split())]

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU that the front and its child processes have used so far."""
        front, *children = map(_cpu, self.pids())
        return front, sum(children)

    def reset_peak(self) -> None:
        """Begin to measure the peak of memory anew."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Bytes of memory that all processes together had at most, each at its own peak."""
        return sum(map(_peak, self.pids()))

    def front_peak(self) -> int:
        """Bytes of memory that the front process alone had at most."""
        return _peak(self.pids()[0])


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def _cpu(pid: int) -> float:
    # What clock_getcpuclockid() answers, which Python has for threads alone: nanoseconds of
    # all threads. /proc counts in hundredths of a second, which is as long as a short pass.
    return time.clock_gettime((~pid << 3) | 2)
