"""A sync server and three workers of their own for a measurement, all on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trough_server import free_ports, wait_ready

PORTS = {
    "trough-sync": ("SYNC_SERVER_PORT", "SYNC_LINE_PORT"),
    "trough-worker": ("READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "LINE_PORT"),
}


class Process:
    """One server."""

    def __init__(self, plugin: str, name: str, home: Path, **settings: str) -> None:
        names = PORTS[plugin]
        self.name = name
        self.data = home / name
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", plugin],
            env={
                **os.environ,
                "HOSTNAME": name,
                "EXTERNAL_IP": "127.0.0.1",
                "METADATA_URL": f"sqlite://{home}/registry.db",
                "STORAGE_URL": f"file://{home}/canonical",
                "LOCAL_DATA": str(self.data),
                "EXECUTORS": "1",
                "WRITE_EXECUTORS": "1",
                **{key: str(port) for key, port in self.ports.items()},
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Return once it can serve."""
        wait_ready(self._process)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def status(self) -> dict[str, Any]:
        """What a worker says of itself."""
        url = f"http://127.0.0.1:{self.ports['SYNC_LOCAL_PORT']}/status"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)

    def memory(self) -> int:
        """Bytes of memory of the front process now."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

    def descriptors(self) -> int:
        """Open descriptors of the front process and the executors."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(
            len(list(Path(f"/proc/{each}/fd").iterdir())) for each in (pid, *map(int, children))
        )


class Cluster:
    """Three workers and a sync server below `home`.

    :param copies: disks on which each acknowledged write is
    :param environment: further variables of its processes
    """

    def __init__(self, home: Path, copies: int, environment: Mapping[str, str]) -> None:
        home.mkdir(parents=True)
        settings = {"WRITE_COPIES": str(copies), "HEARTBEAT_INTERVAL": "1", **environment}
        self.sync = Process("trough-sync", "s1", home, **settings)
        self.workers = [Process("trough-worker", f"w{n}", home, **settings) for n in (1, 2, 3)]
        for process in (self.sync, *self.workers):
            process.wait_ready()

    def stop(self) -> None:
        """Stop all."""
        for process in (*self.workers, self.sync):
            process.stop()

    def provision(self, segment: str, schema: str) -> Process:
        """Have a segment made writable; the worker that writes it."""
        url = f"http://127.0.0.1:{self.sync.ports['SYNC_SERVER_PORT']}/"
        putting = urllib.request.Request(f"{url}schema/bench/sql", schema.encode(), method="PUT")
        urllib.request.urlopen(putting).close()
        body = json.dumps({"segment": segment, "schema": "bench"}).encode()
        with urllib.request.urlopen(f"{url}provision", body) as answer:
            port = json.load(answer)["write_url"].split(":")[2].partition("/")[0]
        return next(each for each in self.workers if each.ports["WRITE_PORT"] == int(port))
