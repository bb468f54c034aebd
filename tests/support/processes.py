"""Real Trough processes for tests: started, waited for, killed, and looked at afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from network import Host
from waiting import GIVE_UP, until_blocking

from trough.metadata.open_blocking import open_blocking

#: What makes failures show within seconds.
QUICK = {
    "ELECTION_CYCLE": "0.3",
    "WORKER_TTL": "2",
    "HEARTBEAT_INTERVAL": "0.3",
    "LISTING_INTERVAL": "0.2",
    "SYNC_LOOP_TIMING": "1",
    "MOVE_GRACE": "600",
    "SHUTDOWN_SECONDS": "5",
    "EXECUTORS": "1",
    "WRITE_EXECUTORS": "1",
    "MINIMUM_ASSIGNMENTS": "2",
}


#: Below those that the system gives to whoever asks for any port.
_PORTS = range(10_000, 32_000)
#: Not by the process's number, which two containers of one machine have in common.
_dice = random.SystemRandom()
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, and nobody gets by chance; each
    is given once."""
    ports: list[int] = []
    while len(ports) < count:
        port = _dice.choice(_PORTS)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given.add(port)
            ports.append(port)
    return ports


def ports_of_all() -> dict[str, str]:
    """Settings by which ``twistd trough``, that is all servers in one process, has ports for
    itself."""
    keys = ["READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "LINE_PORT"]
    keys += ["SYNC_SERVER_PORT", "SYNC_LINE_PORT"]
    return dict(zip(keys, map(str, free_ports(len(keys))), strict=True))


class TroughProcess:
    """One twistd process.

    :param plugin: ``trough``, ``trough-sync`` or ``trough-worker``
    :ivar lines: what it printed so far
    """

    def __init__(
        self,
        plugin: str,
        settings: dict[str, str],
        arguments: tuple[str, ...] = (),
        twistd: tuple[str, ...] = (str(Path(sys.executable).with_name("twistd")),),
    ) -> None:
        self.settings = settings
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._process = subprocess.Popen(
            [
                *twistd,
                "--nodaemon",
                "--pidfile=",
                plugin,
                *arguments,
            ],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self.lines.append("(end of output)")
            self._said.notify_all()

    @property
    def output(self) -> str:
        """All that it printed so far; where it has ended, all that it ever printed."""
        if not self.running:
            self._reader.join(GIVE_UP)
        return "\n".join(self.lines)

    @property
    def pid(self) -> int:
        """Of the front process."""
        return self._process.pid

    @property
    def stands_still(self) -> bool:
        """Whether it was stopped, and not told to go on since."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def wait_for(self, text: str, seconds: float = GIVE_UP) -> str:
        """The first line with `text` in it, once it was printed."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._said:
            over = self._said.wait_for(
                lambda: found() or "(end of output)" in self.lines, timeout=seconds
            )
        line = found()
        assert over and line, f"{text!r} was not printed; but:\n{self.output}"
        return line

    def wait_ready(self) -> TroughProcess:
        """Return itself once it can serve."""
        self.wait_for(" is ready: ")
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the front process alone."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would, and wait for its end."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(GIVE_UP)

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait(GIVE_UP)

    def wait(self) -> int:
        """Its exit status, once it has ended by itself."""
        return self._process.wait(GIVE_UP)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None


class Machine:
    """Trough processes of one machine, which share a registry and a directory.

    :param metadata_url: another store than the registry; likewise `storage_url`
    """

    def __init__(
        self,
        directory: Path,
        metadata_url: str = "",
        storage_url: str = "",
        **settings: str,
    ) -> None:
        self.directory = directory
        self.canonical = directory / "canonical"
        self.metadata_url = metadata_url or f"sqlite://{directory}/registry.db"
        self.storage_url = storage_url or f"file://{self.canonical}"
        self._settings = {**QUICK, **settings}
        self.processes: dict[str, TroughProcess] = {}
        #: Settings of single processes, by name.
        self.settings_of: dict[str, dict[str, str]] = {}
        #: Hosts of single processes, by name; all others run on this one.
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.running:
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGKILL)
                process.wait()

    def sync(self, name: str, **settings: str) -> TroughProcess:
        """Start, or start again, a sync server."""
        return self._start("trough-sync", name, settings)

    def worker(self, name: str, **settings: str) -> TroughProcess:
        """Start, or start again, a worker."""
        return self._start("trough-worker", name, settings)

    def worker_killed_at(self, name: str, step: str, when: str) -> TroughProcess:
        """Start a worker that kills itself at a step of a promotion; see killed_at.py."""
        script = str(Path(__file__).with_name("killed_at.py"))
        return self._start("trough-worker", name, {}, (sys.executable, script, step, when))

    def _start(
        self,
        plugin: str,
        name: str,
        settings: dict[str, str],
        twistd: tuple[str, ...] = (str(Path(sys.executable).with_name("twistd")),),
    ) -> TroughProcess:
        before = self.processes.get(name)
        if before is not None:
            ports = {key: value for key, value in before.settings.items() if key.endswith("_PORT")}
        else:
            keys = (
                ("SYNC_SERVER_PORT", "SYNC_LINE_PORT")
                if plugin == "trough-sync"
                else ("READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "LINE_PORT")
            )
            ports = dict(zip(keys, map(str, free_ports(len(keys))), strict=True))
        host = self.hosts.get(name)
        process = self.processes[name] = TroughProcess(
            plugin,
            {
                **self._settings,
                **ports,
                "HOSTNAME": name,
                "EXTERNAL_IP": self.address(name),
                **({} if host is None else {"BIND_ADDRESS": host.address}),
                "METADATA_URL": self.metadata_url,
                "STORAGE_URL": self.storage_url,
                "LOCAL_DATA": str(self.directory / name),
                **self.settings_of.get(name, {}),
                **settings,
            },
            twistd=(*host.before, *twistd) if host is not None else twistd,
        )
        return process

    def address(self, name: str) -> str:
        """Where others reach a process."""
        host = self.hosts.get(name)
        return host.address if host is not None else "127.0.0.1"

    def url(self, name: str, key: str) -> str:
        """Base URL of a port, by the key of its setting."""
        return f"http://{self.address(name)}:{self.processes[name].settings[key]}/"

    def status(self, name: str) -> dict:
        """What a process says about itself."""
        sync = "SYNC_SERVER_PORT" in self.processes[name].settings
        port = "SYNC_SERVER_PORT" if sync else "SYNC_LOCAL_PORT"
        return json.loads(http("GET", self.url(name, port) + "status")[1])

    def provision(self, sync: str, segment: str, schema: str = "default") -> dict:
        """Have a segment made writable; the answer."""
        body = json.dumps({"segment": segment, "schema": schema}).encode()
        status, answer = http("POST", self.url(sync, "SYNC_SERVER_PORT") + "provision", body)
        assert status == 200, answer
        return json.loads(answer)

    def promote(self, sync: str, segment: str) -> dict:
        """Have a segment promoted; the answer."""
        body = json.dumps({"segment": segment}).encode()
        status, answer = http("POST", self.url(sync, "SYNC_SERVER_PORT") + "promote", body)
        assert status == 200, answer
        return json.loads(answer)


def wait_until_known(metadata_url: str) -> None:
    """Return once a leader has looked through canonical storage, so that patterns are answered."""
    metadata = open_blocking(metadata_url)
    try:
        until_blocking(lambda: metadata.inventory().known, "the leader to know what there is")
    finally:
        metadata.close()


def http(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    seconds: float = GIVE_UP,
) -> tuple[int, bytes]:
    """Status and body of a call; 0 and the reason where there is no answer."""
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, HTTPException) as failure:
        return 0, str(failure).encode()


def write(url: str, sql: str) -> None:
    """Write, and insist on success."""
    status, answer = http("POST", url, sql.encode())
    assert (status, answer) == (200, b"OK\n"), answer


def read(url: str, sql: str) -> list[dict]:
    """The rows of a query, insisting on success."""
    status, answer = http("POST", url, sql.encode())
    assert status == 200, answer
    return json.loads(answer)


__all__ = [
    "Machine",
    "TroughProcess",
    "free_ports",
    "http",
    "read",
    "until_blocking",
    "wait_until_known",
    "write",
]
