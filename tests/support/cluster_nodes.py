"""A whole cluster of Trough processes, as an operator and as its clients see it."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from cluster_engines import Engines
from processes import Machine, http, until_blocking
from waiting import GIVE_UP

from trough import errors
from trough.metadata.blocking import BlockingMetadata
from trough.metadata.open_blocking import open_blocking
from trough.model import READ, WRITE, Copy, canonical_path

#: What the last line of an answer of the line protocol says.
LAST = ("OK", "END", "ERR")


class Cluster(Machine):
    """Sync servers ``s1``, ``s2``..., workers ``w1``, ``w2``..., and their engines."""

    def __init__(
        self, directory: Path, engines: Engines, syncs: int = 3, workers: int = 4, **settings: str
    ) -> None:
        super().__init__(directory, engines.metadata_url, engines.storage_url, **settings)
        self.hand = engines.hand
        self.syncs = [f"s{number + 1}" for number in range(syncs)]
        self.workers = [f"w{number + 1}" for number in range(workers)]
        self._store: BlockingMetadata | None = None

    def start(self) -> Cluster:
        """Start all, and wait until they serve."""
        self.revive()
        return self

    def revive(self) -> None:
        """Start whoever does not run, and wait until all serve."""
        for name in (*self.syncs, *self.workers):
            if name not in self.processes or not self.processes[name].running:
                self.sync(name) if name in self.syncs else self.worker(name)
        for name in (*self.syncs, *self.workers):
            self.processes[name].wait_ready()

    @property
    def store(self) -> BlockingMetadata:
        """The metadata store, as clients open it."""
        if self._store is None:
            self._store = open_blocking(self.metadata_url)
        return self._store

    # -- who does what -----------------------------------------------------------

    def leader(self) -> str | None:
        """The one that all running sync servers take for the leader, or None."""
        running = [name for name in self.syncs if self.processes[name].running]
        names = {self.status(name)["leader"] for name in running}
        return names.pop() if len(names) == 1 else None

    def wait_for_leader(self, *not_these: str) -> str:
        """The leader, once there is one that is not among those."""

        def found() -> str | None:
            name = self.leader()
            return name if name and name not in not_these else None

        return until_blocking(found, "one leader")

    def holder(self, write_url: str) -> str:
        """The worker that a write URL leads to."""
        return next(
            name for name in self.workers if write_url.startswith(self.url(name, "WRITE_PORT"))
        )

    def copies(self, segment: str, role: str = READ) -> list[Copy]:
        """Live copies of a segment, as clients find them."""
        found = self.store.copies_of([segment]).get(segment, [])
        return [copy for copy in found if copy.role == role]

    def readers(self, segment: str) -> set[str]:
        """Names of the workers that have a live copy."""
        return {copy.node for copy in self.copies(segment)}

    def writers(self, segment: str) -> set[str]:
        """Names of the workers that say that they write a segment."""
        return {copy.node for copy in self.copies(segment, WRITE)}

    def readers_by_disk(self, segment: str) -> list[str]:
        """Names of the workers that have the file, whatever any store says."""
        return [
            name
            for name in self.workers
            if (self.directory / name / "segments" / canonical_path(segment)).exists()
        ]

    def wait_for_copies(self, segment: str, count: int = 2) -> set[str]:
        """The readers, once there are so many."""

        def found() -> set[str] | None:
            readers = self.readers(segment)
            return readers if len(readers) == count else None

        return until_blocking(found, f"{count} copies of {segment}")

    def wait_for_death(self, worker: str) -> None:
        """Return once a worker counts as dead."""

        def is_dead() -> bool:
            with suppress(errors.Unavailable):  # the store may fail over meanwhile
                return worker not in {each.node for each in self.store.workers()}
            return False

        until_blocking(is_dead, f"the death of {worker} to be known")

    # -- asking -------------------------------------------------------------------

    def read_url(self, worker: str, segment: str) -> str:
        """Where to read a segment on one worker."""
        return f"{self.url(worker, 'READ_PORT')}?segment={segment}"

    def answers(self, worker: str, segment: str, sql: str, rows: list) -> bool:
        """Whether a worker answers with exactly these rows now."""
        status, answer = http("POST", self.read_url(worker, segment), sql.encode())
        return status == 200 and json.loads(answer) == rows

    def say(self, worker: str, request: str) -> list[str]:
        """All lines of a worker's answer to a request of the line protocol."""
        tag = request.partition(" ")[0]
        address = ("127.0.0.1", int(self.processes[worker].settings["LINE_PORT"]))
        with socket.create_connection(address, GIVE_UP) as connection:
            lines = connection.makefile("rw", encoding="utf-8", newline="\n")
            lines.readline()  # the greeting
            lines.write(f"{request}\n")
            lines.flush()
            answer = [lines.readline().rstrip("\n")]
            while answer[-1].startswith(f"{tag} ") and answer[-1].split(" ")[1] not in LAST:
                answer.append(lines.readline().rstrip("\n"))
        return answer

    def order(self, verb: str, segment: str, sync: str = "") -> tuple[int, str]:
        """Status and answer of ``provision`` or ``promote``, through any sync server."""
        sync = sync or next(name for name in self.syncs if self.processes[name].running)
        body = json.dumps({"segment": segment}).encode()
        status, answer = http("POST", self.url(sync, "SYNC_SERVER_PORT") + verb, body)
        return status, answer.decode()

    def canonical_rows(self, segment: str, sql: str) -> list[tuple]:
        """The rows of a query on the canonical copy, which has to be whole."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "canonical.sqlite")
            path.write_bytes(self.hand.read(canonical_path(segment)))
            return rows_of(path, sql)

    def admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``trough-admin`` on this cluster."""
        program = str(Path(sys.executable).with_name("trough-admin"))
        return subprocess.run(
            [program, "--url", self.metadata_url, *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )


def rows_of(path: Path, sql: str) -> list[tuple]:
    """The rows of a query on a database that nobody writes; it has to be undamaged."""
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute(sql).fetchall()
