"""Real RethinkDB servers for the tests, on loopback, each in a directory of its own.

``RETHINKDB`` names the program, else it is looked for on the PATH; where there is none,
tests that need it are skipped and say so, unless ``TROUGH_REQUIRE_RETHINKDB`` is set,
as in CI: then they fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from metadata_stores import Stores
from network import Host
from processes import free_ports
from rethinkdb import RethinkDB
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from trough.metadata import Metadata
from trough.metadata.blocking import BlockingMetadata
from trough.metadata.rethinkdb.blocking import BlockingRethink
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.rethinkdb.terms import TABLES
from trough.metadata.url import RethinkAddress

r = RethinkDB()


def program() -> str:
    """The server's executable; skips the test that asks where there is none."""
    found = shutil.which(os.environ.get("RETHINKDB", "rethinkdb"))
    if found is None:
        reason = "no RethinkDB here: set RETHINKDB to its executable"
        if os.environ.get("TROUGH_REQUIRE_RETHINKDB"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class RethinkServer:
    """One server, which can be stopped in various ways and started again."""

    def __init__(
        self, name: str, directory: Path, *options: str, machine: Host | None = None
    ) -> None:
        self.name = name
        self.address = machine.address if machine is not None else "127.0.0.1"
        self._before = machine.before if machine is not None else ()
        self.port, self.cluster_port = free_ports(2)
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.output: list[str] = []

    def start(self, *join: RethinkServer) -> None:
        """Run it until it says that it is ready."""
        command = [
            *self._before,
            program(),
            "--directory", str(self._directory / self.name),
            "--server-name", self.name,
            "--bind", self.address,
            "--driver-port", str(self.port),
            "--cluster-port", str(self.cluster_port),
            "--no-http-admin",
            "--no-update-check",
            "--cache-size", "128",
            "--cores", "2",
            *self._options,
        ]  # fmt: skip
        if (self._directory / self.name).exists():
            # A server's name and password are those of its directory.
            at = command.index("--server-name")
            del command[at : at + 2]
            if "--initial-password" in command:
                at = command.index("--initial-password")
                del command[at : at + 2]
        for other in join:
            command += ["--join", f"{other.address}:{other.cluster_port}"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            if line.startswith("Server ready"):
                break
        else:
            raise AssertionError("RethinkDB did not start:\n" + "".join(self.output))
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            self.output.extend(process.stdout)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would; harmless where it has ended."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @property
    def host(self) -> tuple[str, int]:
        return (self.address, self.port)

    def connect(self, **options: Any) -> Any:
        """A connection of the plain driver, as an existing client opens it."""
        return r.connect(self.address, self.port, **options)


@contextmanager
def running_server(name: str) -> Iterator[RethinkServer]:
    """A server in an empty directory, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="trough-rethinkdb-"))
    server = RethinkServer(name, directory)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def rethinkdb_server():
    """One server for all tests that do not stop it."""
    with running_server("one") as server:
        yield server


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may stop."""
    server = RethinkServer("own", tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def rethinkdb_cluster(tmp_path):
    """Three servers that know each other."""
    servers = [RethinkServer(name, tmp_path) for name in ("first", "second", "third")]
    try:
        servers[0].start()
        servers[1].start(servers[0])
        servers[2].start(servers[0], servers[1])
        yield servers
    finally:
        for server in servers:
            server.kill()


class RethinkStores(Stores):
    """A database on one server or several."""

    def __init__(self, *servers: RethinkServer, database: str = "trough_test") -> None:
        super().__init__()
        self.server = servers[0]
        self.address = RethinkAddress(tuple(server.host for server in servers), database)

    def make(self) -> Metadata:
        return RethinkMetadata(self.address, reactor)

    def make_blocking(self) -> BlockingMetadata:
        return BlockingRethink(self.address)

    @property
    def url(self) -> str:
        return str(self.address)

    def plain(self) -> Any:
        """A connection of the plain driver to the database."""
        return self.server.connect(db=self.address.database)

    def empty(self) -> None:
        """Leave the tables of an earlier test as they were new."""
        with self.plain() as connection:
            if self.address.database in r.db_list().run(connection):
                for table in set(TABLES) & set(r.table_list().run(connection)):
                    r.table(table).delete(durability="soft").run(connection)

    async def age(self, seconds: float) -> None:
        await deferToThread(self._age, seconds)

    def _age(self, seconds: float) -> None:
        with self.plain() as connection:
            for field in ("first_heartbeat", "last_heartbeat", "reaped_on"):
                r.table("services").filter(r.row.has_fields(field)).update(
                    {field: r.row[field] - seconds}
                ).run(connection)


@pytest.fixture
def rethinkdb_stores(rethinkdb_server):
    """An empty database on the common server."""
    stores = RethinkStores(rethinkdb_server)
    stores.empty()
    yield stores
    pytest_twisted.blockon(Deferred.fromCoroutine(stores.close()))
