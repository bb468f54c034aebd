"""No text that people read names an object of Python: answers, error texts, logs and tools."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http as ask
from processes import until_blocking, wait_until_known
from python_texts import python_texts
from waiting import GIVE_UP

SEGMENT, ROWS = "plain", 400_000
SCHEMA = b"CREATE TABLE t (n INTEGER, s TEXT)"

#: Requests that are refused: method, path behind the port, and body.
READS = [
    ("POST", "?segment=plain", b"SELEC 1"),
    ("POST", "?segment=plain", b"SELECT \xff"),
    ("POST", "?segment=plain", b"ATTACH 'x' AS y"),
    ("POST", "?segment=plain", b"SELECT regexp('(', 'x')"),
    ("POST", "?segment=plain", b"WITH RECURSIVE r(n) AS (VALUES(1) UNION ALL SELECT n+1 FROM r) "
     b"SELECT count(*) FROM r"),
    ("POST", "?segment=plain&limit=x", b"SELECT 1"),
    ("POST", "?segment=nowhere", b"SELECT 1"),
    ("POST", "?segment=a/b", b"SELECT 1"),
    ("GET", "?segment=plain&sql=SELECT%20x", None),
    ("PUT", "?segment=plain", b"x"),
]  # fmt: skip
WRITES = [
    ("POST", "?segment=plain", b"INSERT INTO nothing VALUES (1)"),
    ("POST", "?segment=nowhere", b"INSERT INTO t VALUES (1, 'x')"),
    ("POST", "?segment=plain", b"\x00"),
]
ORDERS = [
    ("POST", "provision", b"{"),
    ("POST", "provision", b'{"segment": ["x"]}'),
    ("POST", "provision", b'{"segment": "new", "schema": "none"}'),
    ("POST", "promote", b'{"segment": "nowhere"}'),
    ("PUT", "schema/bad/sql", b"CREATE TABEL t"),
    ("PUT", "schema/bad/sql", b"\xff"),
    ("DELETE", "segment/plain", None),
    ("POST", "gather", b'{"sql": "SELECT", "segments": ["plain"]}'),
    ("POST", "gather", b'{"sql": "SELECT x FROM t", "segments": ["plain"]}'),
    ("POST", "gather", b'{"sql": "SELECT 1 FROM t", "pattern": "("}'),
    ("POST", "gather", b'{"sqll": 1}'),
]
LINES = [
    "1 QUERY plain SELEC 1",
    '2 QUERY plain bind={"a":[1]} SELECT :a',
    "3 QUERY plain bind=nan SELECT 1",
    "4 WRITE plain INSERT INTO nothing VALUES (1)",
    "5 NOTHING at all",
    "6 QUERY plain seconds=x SELECT 1",
]


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_no_text_names_an_object(tmp_path: Path, request, pair) -> None:
    """Of refusals, of a holder that stands still, that breaks off, and that is killed, of storage
    that is away, and of tools whose servers are gone."""
    engines = open_engines(pair, tmp_path, request)
    with Cluster(tmp_path, engines, 1, 2, WRITE_COPIES="1", WORKER_TTL="40") as cluster:
        holder, other = begin(cluster)
        said = Said(cluster)
        said.refusals(holder, other)
        said.frozen(holder, other)
        said.cut_off(holder, other)
        said.storage_away(other)
        said.tools(engines.metadata_url)
        for process in cluster.processes.values():
            said.texts.append(process.output)
        cluster.processes["s1"].kill()
        said.tools(engines.metadata_url)
        assert [line for text in said.texts for line in python_texts(text)] == []


def begin(cluster: Cluster) -> tuple[str, str]:
    """Start all, with a large segment that one worker writes; its holder, and the other one."""
    cluster.start()
    sync = cluster.url("s1", "SYNC_SERVER_PORT")
    until_blocking(lambda: len(cluster.store.workers()) == 2, "both workers are known")
    wait_until_known(cluster.metadata_url)
    assert ask("PUT", f"{sync}schema/plain/sql", SCHEMA)[0] == 201
    url = cluster.provision("s1", SEGMENT, "plain")["write_url"]
    fill = (
        f"WITH RECURSIVE r(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM r LIMIT {ROWS}) "
        "INSERT INTO t SELECT n, 'some text of a row' FROM r"
    )
    assert ask("POST", url, fill.encode()) == (200, b"OK\n")
    cluster.promote("s1", SEGMENT)
    holder = cluster.holder(url)
    (other,) = {"w1", "w2"} - {holder}
    cluster.wait_for_copies(SEGMENT)
    assert ask("POST", url, b"INSERT INTO t VALUES (0, 'last')") == (200, b"OK\n")
    return holder, other


class Said:
    """Drives errors, and collects what is said of them.

    :ivar texts: all that people may read
    """

    def __init__(self, cluster: Cluster) -> None:
        self.texts: list[str] = []
        self._cluster = cluster

    def refusals(self, holder: str, other: str) -> None:
        """By both workers, and by the sync server."""
        for worker in (holder, other):
            for key, requests in (("READ_PORT", READS), ("WRITE_PORT", WRITES)):
                self._all(self._cluster.url(worker, key), requests)
            for line in LINES:
                self.texts += self._cluster.say(worker, line)
        self._all(self._cluster.url("s1", "SYNC_SERVER_PORT"), ORDERS)
        self.texts += raw(self._cluster, other, b"\xff\xfe\n")
        self.texts += raw(self._cluster, other, b"GET / HTTP/1.1\r\n\r\n")

    def frozen(self, holder: str, other: str) -> None:
        """A read and a write are passed on to a worker that stands still."""
        self._cluster.processes[holder].signal(signal.SIGSTOP)
        read = self._cluster.read_url(other, SEGMENT) + "&seconds=1"
        write = self._cluster.url(other, "WRITE_PORT") + f"?segment={SEGMENT}&seconds=1"
        for url, sql in ((read, b"SELECT 1"), (write, b"INSERT INTO t VALUES (1, 'x')")):
            self.texts.append(ask("POST", url, sql)[1].decode())
        self._cluster.processes[holder].signal(signal.SIGCONT)

    def cut_off(self, holder: str, other: str) -> None:
        """A read is passed on to a worker that is killed before its answer is whole."""
        port = int(self._cluster.processes[other].settings["READ_PORT"])

        def begun() -> http.client.HTTPResponse | None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
            connection.request("POST", f"/?segment={SEGMENT}", b"SELECT * FROM t")
            response = connection.getresponse()
            return response if "x-trough-state" not in response.headers else None

        response = until_blocking(begun, "an answer of the holder")
        response.read(1000)
        self._cluster.processes[holder].kill()
        with pytest.raises((http.client.HTTPException, OSError)):
            response.read()
        self._cluster.processes[other].wait_for("cut off")
        self._all(self._cluster.url("s1", "SYNC_SERVER_PORT"), [
            ("POST", "provision", b'{"segment": "plain", "schema": "plain"}'),
            ("POST", "promote", b'{"segment": "plain"}'),
        ])  # fmt: skip

    def storage_away(self, other: str) -> None:
        """A promotion while canonical storage is gone."""
        self._cluster.provision("s1", "second", "plain")
        canonical = self._cluster.canonical
        canonical.rename(canonical.with_name("gone"))
        self._all(self._cluster.url("s1", "SYNC_SERVER_PORT"), [
            ("POST", "promote", b'{"segment": "second"}'),
            ("POST", "provision", b'{"segment": "third", "schema": "plain"}'),
        ])  # fmt: skip
        canonical.with_name("gone").rename(canonical)

    def tools(self, url: str) -> None:
        """What the shell and the administration tool print."""
        for words in (
            ["trough-admin", "-u", url, "status"],
            ["trough-admin", "-u", url, "status", "--json"],
            ["trough-admin", "-u", url, "free-lock", "--yes", "nowhere"],
            ["trough-admin", "-u", url, "aside", "compare", "w1", "x"],
            ["trough-shell", "-u", url, "-e", "SELECT * FROM t LIMIT 1", SEGMENT],
            ["trough-shell", "-u", url, "-e", "SELECT x FROM t", SEGMENT],
            ["trough-shell", "-u", url, "-e", ".promote", SEGMENT],
        ):
            program = Path(sys.executable).with_name(words[0])
            done = subprocess.run(
                [program, *words[1:]], capture_output=True, text=True, timeout=GIVE_UP
            )
            self.texts += [done.stdout, done.stderr]

    def _all(self, base: str, requests: list[tuple[str, str, bytes | None]]) -> None:
        for method, path, body in requests:
            status, text = ask(method, base + path + ("&seconds=1" if "?" in path else ""), body)
            assert status >= 400 or path == "provision" or path == "promote", (path, body, text)
            self.texts.append(text.decode())


def raw(cluster: Cluster, worker: str, sent: bytes) -> list[str]:
    """What the line port answers to these bytes."""
    port = int(cluster.processes[worker].settings["LINE_PORT"])
    with socket.create_connection(("127.0.0.1", port), GIVE_UP) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile(encoding="utf-8").read().splitlines()
