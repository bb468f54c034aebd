"""Tokens with rights on real processes, and what a foreign row of the registry collects."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from processes import Machine, http, until_blocking
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import GIVE_UP, until

from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import READ, WRITE, Copy, Worker

ROLES = (READ, WRITE)

SCHEMA = b"CREATE TABLE t (name TEXT)"


def admin(path: Path, *arguments: str) -> str:
    """What ``trough-admin token`` prints for a file."""
    program = str(Path(sys.executable).with_name("trough-admin"))
    done = subprocess.run(
        [program, "token", arguments[0], "--file", str(path), *arguments[1:]],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


class Guarded:
    """A sync server and two workers that want tokens.

    :ivar tokens: by name
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / "tokens.json"
        self.tokens = {
            "peers": admin(self.file, "add", "peers", "--right", "peer"),
            "boss": admin(self.file, "add", "boss", *_each("--right", *_ALL)),
            "reader": admin(self.file, "add", "reader", "--right", "read"),
            "crawler": admin(
                *(self.file, "add", "crawler", "--segments", "ait-*"),
                *_each("--right", "read", "write", "provision", "promote"),
            ),
        }
        self.audit = directory / "audit.log"
        settings = {"TOKENS_FILE": str(self.file), "PEER_TOKEN": self.tokens["peers"]}
        settings["AUDIT_LOG"] = str(self.audit)
        self.machine = Machine(directory, MINIMUM_ASSIGNMENTS="1", **settings)

    def start(self) -> None:
        """Start all, and make two segments, written by w1."""
        self.machine.sync("s1").wait_ready()
        for name in ("w1", "w2"):
            self.machine.worker(name).wait_ready()
        assert self.sync("boss", "PUT", "schema/t/sql", SCHEMA)[0] == 201
        for segment in ("ait-1", "other"):
            body = json.dumps({"segment": segment, "schema": "t"}).encode()
            status, answer = self.call("boss", "POST", "w1", "SYNC_LOCAL_PORT", "provision", body)
            assert status == 200, answer
            assert self.write("boss", segment) == 200

    def call(
        self, who: str, method: str, name: str, key: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Call a port, showing somebody's token."""
        url = f"{self.machine.url(name, key)}{path}"
        return http(method, url, body, {"Authorization": f"Bearer {self.tokens[who]}"})

    def sync(
        self, who: str, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Call the sync server."""
        return self.call(who, method, "s1", "SYNC_SERVER_PORT", path, body)

    def read(self, who: str, worker: str, segment: str) -> int:
        """The status of a read."""
        path = f"?segment={segment}"
        return self.call(who, "POST", worker, "READ_PORT", path, b"SELECT name FROM t")[0]

    def write(self, who: str, segment: str, worker: str = "w1") -> int:
        """The status of a write."""
        path = f"?segment={segment}"
        sql = b"INSERT INTO t VALUES ('x')"
        return self.call(who, "POST", worker, "WRITE_PORT", path, sql)[0]


_ALL = ("read", "write", "provision", "promote", "delete", "schema", "admin")


def _each(option: str, *values: str) -> list[str]:
    return [word for value in values for word in (option, value)]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A cluster with tokens."""
    made = Guarded(tmp_path_factory.mktemp("tokens"))
    with made.machine:
        made.start()
        yield made


def test_each_token_does_what_it_is_for(guarded):
    """A read token reads, and does nothing else; a limited one only with its segments."""
    assert guarded.read("reader", "w1", "other") == 200
    assert guarded.write("reader", "other") == 403
    assert guarded.sync("reader", "POST", "promote", b'{"segment": "other"}')[0] == 403
    assert guarded.sync("reader", "GET", "status")[0] == 403
    assert guarded.read("crawler", "w1", "ait-1") == 200
    assert guarded.write("crawler", "ait-1") == 200
    assert guarded.read("crawler", "w1", "other") == 403
    assert guarded.write("crawler", "other") == 403
    for segment, status in (("ait-1", 200), ("ait-2", 200), ("other", 403)):
        body = json.dumps({"segment": segment}).encode()
        assert guarded.sync("crawler", "POST", "provision", body)[0] == status
    assert guarded.sync("crawler", "DELETE", "segment/ait-1")[0] == 403
    assert guarded.sync("boss", "GET", "status")[0] == 200


def test_servers_pass_requests_on_for_those_who_may(guarded):
    """A read and a write that the other worker serves; it is known by its own token there."""
    assert guarded.read("crawler", "w2", "ait-1") == 200
    assert guarded.write("crawler", "ait-1", "w2") == 200
    assert guarded.read("crawler", "w2", "other") == 403


def test_gather_is_whole_or_refused(guarded):
    """Segments that a token is not for are named, if the client named them; a pattern that
    matches them is refused as well."""

    def gather(who: str, **what: object) -> tuple[int, dict]:
        body = json.dumps({"sql": "SELECT count(*) FROM t", "seconds": 60, **what}).encode()
        status, answer = guarded.sync(who, "POST", "gather", body)
        return status, json.loads(answer)

    status, answer = gather("reader", segments=["ait-1", "other"])
    assert (status, answer["missing"]) == (200, {})
    assert gather("crawler", segments=["ait-1"])[0] == 200
    status, answer = gather("crawler", segments=["ait-1", "other"])
    assert (status, answer["code"]) == (403, "forbidden")
    assert "not for segment other" in answer["error"]
    assert gather("crawler", matching="^ait-1$")[0] == 200
    status, answer = gather("crawler", matching="1|other")
    assert status == 403 and "other" not in answer["error"]


def line(guarded: Guarded, name: str, key: str, *requests: str) -> list[str]:
    """What each request of one connection is answered, its last line."""
    address = ("127.0.0.1", int(guarded.machine.processes[name].settings[key]))
    last = []
    with socket.create_connection(address, GIVE_UP) as connection:
        lines = connection.makefile("rw", encoding="utf-8", newline="\n")
        assert lines.readline().rstrip().endswith("auth=token")
        for request in requests:
            lines.write(f"1 {request}\n")
            lines.flush()
            answer = lines.readline()
            while answer.split(" ")[1].rstrip() not in ("OK", "END", "ERR"):
                answer = lines.readline()
            last.append(answer.rstrip())
    return last


def test_the_line_protocol_knows_the_same_rights(guarded):
    """AUTH takes each token, and each verb what the token is for."""
    said = line(
        *(guarded, "w1", "LINE_PORT", f"AUTH {guarded.tokens['crawler']}"),
        *("QUERY ait-1 SELECT 1", "QUERY ait-1,other SELECT 1", "QUERY ~. SELECT 1"),
        *("WRITE ait-1 INSERT INTO t VALUES (1)", "WRITE other DELETE FROM t", "STATUS"),
    )
    assert [text.split(" ")[1:3] for text in said] == [
        ["OK"],
        ["END", "segments=1"],
        ["ERR", "forbidden"],
        ["ERR", "forbidden"],
        ["OK", "changes=1"],
        ["ERR", "forbidden"],
        ["ERR", "forbidden"],
    ]
    said = line(
        *(guarded, "s1", "SYNC_LINE_PORT", f"AUTH {guarded.tokens['crawler']}"),
        *("WHERE ait-1", "WHERE other", "WHERE ~.", "DELETE ait-1", "PUT-SCHEMA x SELECT 1"),
    )
    assert [text.split(" ")[1:3] for text in said] == [
        ["OK"],
        ["END", "copies=2"],
        *[["ERR", "forbidden"]] * 4,
    ]


def test_a_token_is_replaced_and_removed(guarded):
    """Both are good after a rotation; what is removed is refused within seconds, also on a
    connection that is open."""
    former = guarded.tokens["reader"]
    guarded.tokens["reader"] = admin(guarded.file, "rotate", "reader")
    until_blocking(lambda: guarded.read("reader", "w1", "other") == 200, "the new token")
    address = ("127.0.0.1", int(guarded.machine.processes["w1"].settings["LINE_PORT"]))
    with socket.create_connection(address, GIVE_UP) as connection:
        lines = connection.makefile("rw", encoding="utf-8", newline="\n")
        lines.write(f"1 AUTH {former}\n2 QUERY other SELECT 1\n")
        lines.flush()
        said = [lines.readline() for _ in range(6)]
        assert said[-1].startswith("2 END segments=1 failed=0")
        admin(guarded.file, "remove", "reader", "--id", former.split("_")[1])

        def refused() -> bool:
            lines.write("3 QUERY other SELECT 1\n")
            lines.flush()
            answer = lines.readline()
            while answer.split(" ")[1] not in ("END", "ERR"):
                answer = lines.readline()
            return answer.startswith("3 ERR unauthorized")

        until_blocking(refused, "the former token to be refused")
    assert guarded.read("reader", "w1", "other") == 200


def test_ways_to_show_a_token_over_http(guarded):
    """Basic with any user; nothing without a token but the health."""
    url = f"{guarded.machine.url('w1', 'READ_PORT')}?segment=other"
    shown = base64.b64encode(f"me:{guarded.tokens['boss']}".encode()).decode()
    assert http("POST", url, b"SELECT 1", {"Authorization": f"Basic {shown}"})[0] == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}):
        assert http("POST", url, b"SELECT 1", headers)[0] == 401
    assert http("GET", f"{guarded.machine.url('w1', 'SYNC_LOCAL_PORT')}health")[0] == 200


def test_the_audit_log_says_who_did_what(guarded):
    """Writes and orders with the token's name, also where they were passed on; what was refused;
    neither a token nor SQL."""
    for who, worker, segment in (("crawler", "w2", "ait-1"), ("reader", "w1", "other")):
        guarded.write(who, segment, worker)
    line(
        *(guarded, "w1", "LINE_PORT", f"AUTH {guarded.tokens['boss']}"),
        "WRITE other INSERT INTO nowhere VALUES ('secret')",
    )
    guarded.sync("boss", "POST", "promote", b'{"segment": "other"}')
    guarded.sync("crawler", "POST", "promote", b'{"segment": "other"}')
    guarded.sync("crawler", "DELETE", "segment/ait-1")
    guarded.sync("boss", "PUT", "schema/noted/sql", b"CREATE TABLE secret (a)")
    wanted = {
        ("s1", "put-schema", "ok", "boss"),
        ("s1", "promote", "ok", "boss"),
        ("s1", "promote", "forbidden", "crawler"),
        ("s1", "refused", "forbidden", "crawler"),
        ("w1", "promote", "ok", "peers"),
        ("w1", "write", "ok", "crawler"),
        ("w1", "write", "bad-sql", "boss"),
        ("w1", "refused", "forbidden", "reader"),
    }

    def entries() -> list[dict]:
        # The last line may be half written.
        text = guarded.audit.read_text().rpartition("\n")[0]
        return [json.loads(each) for each in text.splitlines()]

    def all_there() -> bool:
        found = {
            tuple(each.get(key) for key in ("node", "act", "outcome", "token"))
            for each in entries()
        }
        return wanted <= found

    until_blocking(all_there, "the entries")
    passed_on = [each for each in entries() if each.get("token") == "crawler" and "via" in each]
    assert passed_on and all(each["peer"] != each["via"] for each in passed_on)
    # A worker that refuses a write, or passes it on, knows no epoch.
    epochs = {each["epoch"] for each in entries() if each["act"] == "write" and "epoch" in each}
    assert epochs and all(epoch > 0 for epoch in epochs)
    text = guarded.audit.read_text()
    assert "secret" not in text
    for token in guarded.tokens.values():
        assert token.split("_", 2)[2] not in text


def test_the_shell_proves_its_token(guarded):
    """One segment, which it asks by itself, and several over the whole client."""
    program = str(Path(sys.executable).with_name("trough-shell"))
    url = f"sqlite://{guarded.machine.directory}/registry.db"
    for segments in (["ait-1"], ["ait-1", "other"]):
        for who, status in (("reader", 0), ("peers", 0), (None, 1)):
            token = {} if who is None else {"AUTH_TOKEN": guarded.tokens[who]}
            done = subprocess.run(
                [program, "-u", url, *segments, "-e", "SELECT 1 AS one"],
                env={**os.environ, **token},
                capture_output=True,
                text=True,
            )
            assert done.returncode == status, done.stderr
            assert ("one" in done.stdout) == (status == 0)


class Listener:
    """Takes whatever is sent to a port, and passes it on to a server, as a man in the middle
    would; what was sent is kept."""

    def __init__(self, target: int) -> None:
        self.heard = b""
        self._target = target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, keep in ((near, far, True), (far, near, False)):
                pumping = threading.Thread(
                    target=self._pump, args=(source, sink, keep), daemon=True
                )
                pumping.start()

    def _pump(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        try:
            while data := source.recv(65536):
                if keep:
                    self.heard += data
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def close(self) -> None:
        self._socket.close()


@pytest_twisted.ensureDeferred
async def test_a_foreign_row_collects_nothing(guarded):
    """A worker's row that leads to listeners gets no token from workers and sync servers. What
    they get opens nothing, even when they pass it on to a server and its challenges back."""
    settings = guarded.machine.processes["w2"].settings
    keys = ("READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT", "LINE_PORT")
    listeners = {key: Listener(int(settings[key])) for key in keys}
    read_url, write_url, manager_url, line = (f"127.0.0.1:{listeners[key].port}" for key in keys)
    rogue = Worker(
        node="rogue",
        identity="rogue",
        line=line,
        read_url=f"http://{read_url}/",
        write_url=f"http://{write_url}/",
        manager_url=f"http://{manager_url}/",
        ttl=3600.0,
    )
    metadata = SqliteMetadata(guarded.machine.directory / "registry.db", reactor)
    known = json.dumps({"segments": ["ait-1"], "sql": "SELECT name FROM t"}).encode()
    await metadata.open()
    try:
        # The sync server looked for workers a moment ago, so it does not know the rogue yet.
        assert (await deferToThread(guarded.sync, "boss", "POST", "gather", known))[0] == 200
        await metadata.register_worker(rogue)
        await metadata.take_lock("bait", "rogue")
        copies = [Copy("bait", "rogue", role, f"{rogue.read_url}?segment=bait") for role in ROLES]
        await metadata.publish_copies(copies)
        gather = json.dumps({"segments": ["bait"], "sql": "SELECT 1", "seconds": 20}).encode()
        calls = (
            lambda: guarded.sync("boss", "POST", "gather", gather)[0],
            lambda: guarded.read("boss", "w1", "bait"),
            lambda: guarded.write("boss", "bait", "w1"),
            lambda: guarded.sync("boss", "POST", "promote", b'{"segment": "bait"}')[0],
        )

        async def all_asked() -> bool:
            statuses = [await deferToThread(call) for call in calls]
            assert 200 not in statuses, statuses
            return (
                all(listener.heard for listener in listeners.values())
                and b"Trough-Proof" in listeners["READ_PORT"].heard
                and b" PROVE " in listeners["LINE_PORT"].heard
            )

        await until(all_asked, "each listener to be asked, and to get a proof")
    finally:
        await metadata.withdraw_worker(rogue)
        await metadata.close()
    for listener in listeners.values():
        listener.close()
        for token in guarded.tokens.values():
            assert token.split("_", 2)[2].encode() not in listener.heard
        for word in (b"Bearer", b"Basic", b"Trough-Ticket", b" AUTH ", b"SELECT", b"INSERT"):
            assert word not in listener.heard
