"""A whole cluster over TLS with tokens, on a real RethinkDB with TLS: servers, tools, clients."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from certificates import CertificateAuthority
from processes import Machine, free_ports, until_blocking
from rethinkdb import RethinkDB
from rethinkdb_server import RethinkServer
from waiting import GIVE_UP

from trough.client import TroughClient, TroughException

TOKEN = "open-sesame-open"

r = RethinkDB()


class Secured:
    """A RethinkDB with TLS and users, a sync server and two workers.

    :ivar url: of the metadata store, for clients, which only read it
    """

    def __init__(self, directory: Path) -> None:
        self.authority = CertificateAuthority(directory / "ca")
        self.ca = self.authority.ca
        files = self.authority.issue("127.0.0.1")
        self.database = RethinkServer(
            "secured", directory, "--initial-password", "superuser",
            "--driver-tls-cert", str(files.certificate), "--driver-tls-key", str(files.key),
        )  # fmt: skip
        self.machine = Machine(
            directory,
            f"rethinkdb://127.0.0.1:{self.database.port}/trough_configuration",
            RETHINKDB_TLS=self.ca,
            AUTH_TOKEN=TOKEN,
            TLS_CERT=str(files.certificate),
            TLS_KEY=str(files.key),
            TLS_CA=self.ca,
            TLS_PEER_CA=self.ca,
        )
        self.url = ""

    def start(self) -> None:
        self.database.start()
        admin = self._url("admin", "superuser")
        done = self.tool("trough-admin", "-u", admin, "rethinkdb-users")
        assert done.returncode == 0, done.stderr
        words = [line.split("=", 1)[1] for line in done.stdout.splitlines() if "=" in line]
        self.machine._settings |= {"RETHINKDB_USER": words[0], "RETHINKDB_PASSWORD": words[1]}
        self.url = self._url(words[2], words[3])
        for process in (self.machine.sync("s1"), self.machine.worker("w1"),
                        self.machine.worker("w2")):  # fmt: skip
            process.wait_ready()

    def _url(self, user: str, password: str) -> str:
        host = f"127.0.0.1:{self.database.port}"
        return f"rethinkdb://{user}:{password}@{host}/trough_configuration?tls_ca={self.ca}"

    def tool(self, name: str, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess:
        """Run a tool with the CA and a token, as a person's machine has them."""
        program = str(Path(sys.executable).with_name(name))
        environ = {**os.environ, "TLS_CA": self.ca, "AUTH_TOKEN": token}
        return subprocess.run(
            [program, *arguments], env=environ, capture_output=True, text=True, timeout=GIVE_UP,
            check=False,
        )  # fmt: skip

    def port(self, name: str, key: str) -> str:
        """The URL of a port."""
        return f"https://127.0.0.1:{self.machine.processes[name].settings[key]}/"

    def client(self, **options) -> TroughClient:
        return TroughClient(self.url, token=TOKEN, tls_ca=self.ca, **options)


@pytest.fixture(scope="module")
def secured(tmp_path_factory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("secured"))
    try:
        with secured.machine:
            secured.start()
            yield secured
    finally:
        secured.database.kill()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes may take long on a machine that has much else to do."""
    monkeypatch.setattr("trough.client.http.CONNECT_SECONDS", GIVE_UP)


def test_a_client_that_exists(secured):
    """The blocking client provisions, writes, reads and promotes, with the reader's user."""
    with secured.client() as client:
        client.register_schema("numbers", "CREATE TABLE t (n INTEGER)")
        client.write("300001", "INSERT INTO t VALUES (%s)", (7,), schema_id="numbers")
        assert client.read("300001", "SELECT n FROM t") == [{"n": 7}]
        assert client.promote("300001")["remote_path"]
        assert client.read_url("300001").startswith("https://")
        url = client.write_url("300001")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(
        url, b"INSERT INTO t VALUES (8)", headers=headers, verify=secured.ca, timeout=GIVE_UP
    )
    assert (answer.status_code, answer.text) == (200, "OK\n")
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(url, b"INSERT INTO t VALUES (9)", headers=headers, timeout=GIVE_UP)


def test_reads_and_writes_travel_between_workers(secured):
    """Any worker answers for another one: proxied over TLS, with both sides' certificates."""
    with secured.client() as client:
        client.write("300002", "CREATE TABLE t (n INTEGER)")
        client.write("300002", "INSERT INTO t VALUES (1)")
        client.promote("300002")
        client.write("300002", "INSERT INTO t VALUES (2)")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for worker in ("w1", "w2"):
        url = f"{secured.port(worker, 'READ_PORT')}?segment=300002"

        def rows(url: str = url) -> object:
            answer = requests.post(
                url, "SELECT sum(n) AS s FROM t", headers=headers, verify=secured.ca,
                timeout=GIVE_UP,
            )  # fmt: skip
            return answer.json() if answer.status_code == 200 else None

        until_blocking(lambda rows=rows: rows() == [{"s": 3}], "the holder's rows")


def test_the_tools(secured):
    """Shell (one segment, several, GATHER), loader and admin verify, and say what they lack."""
    with secured.client() as client:
        client.write("300003", "CREATE TABLE t (n INTEGER)")
        client.write("300003", "INSERT INTO t VALUES (5)")
    shell = ("trough-shell", "-u", secured.url, "-f", "CSV")
    for statement, said in (
        ("SELECT n FROM t", "5"),
        ("GATHER SELECT sum(n) AS s FROM t", "5"),
    ):
        done = secured.tool(*shell, "300003", "-e", statement)
        assert done.returncode == 0 and said in done.stdout.split(), done.stderr
    rows = secured.machine.directory / "rows.jsonl"
    rows.write_text('{"n": 6}\n')
    load = ("trough-load", "-u", secured.url, "--segment", "300003", "--table", "t", str(rows))
    done = secured.tool(*load)
    assert done.returncode == 0, done.stderr
    status = json.loads(secured.tool("trough-admin", "-u", secured.url, "status", "--json").stdout)
    assert "leader" in status, status
    assert status["leader"]["node"] == "s1"
    environ = {**os.environ, "AUTH_TOKEN": TOKEN}
    environ.pop("TLS_CA", None)
    program = str(Path(sys.executable).with_name("trough-shell"))
    done = subprocess.run(
        [program, *shell[1:], "300003", "-e", "SELECT 1"],
        env=environ, capture_output=True, text=True, timeout=GIVE_UP, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "signed by a CA that is not known here" in done.stderr


def test_without_tls_or_token_nobody_gets_in(secured):
    """Plain HTTP is told that TLS is spoken; TLS without a token is refused as before."""
    secure = secured.port("w1", "READ_PORT")
    plain = secure.replace("https://", "http://")
    answer = requests.post(f"{plain}?segment=300001", b"SELECT 1", timeout=GIVE_UP)
    assert answer.status_code == 400 and "this port speaks TLS" in answer.text
    answer = requests.post(
        f"{secure}?segment=300001", b"SELECT 1", verify=secured.ca, timeout=GIVE_UP
    )
    assert answer.status_code == 401
    port = int(secured.machine.processes["w1"].settings["LINE_PORT"])
    with socket.create_connection(("127.0.0.1", port), GIVE_UP) as connection:
        connection.sendall(b"1 PING\n")
        assert b"this port speaks TLS" in connection.recv(4096)
    with TroughClient(secured.url, token=TOKEN, tls_ca=None) as client:
        with pytest.raises(TroughException, match="CA that is not known here"):
            client.read("300001", "SELECT 1")


def test_a_foreign_row_collects_nothing(secured, tmp_path):
    """A row of the registry leads to a listener without TLS, and to one with a certificate of
    another CA: neither is sent a byte of a request."""
    foreign = CertificateAuthority(tmp_path / "foreign").issue("127.0.0.1")
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as listener:
        port = listener.getsockname()[1]
        with r.connect(
            "127.0.0.1", secured.database.port, user="admin", password="superuser",
            ssl={"ca_certs": secured.ca},
        ) as connection:  # fmt: skip
            services = r.db("trough_configuration").table("services")
            for scheme in ("http", "https"):
                row = services.get_all("300001", index="segment").filter(
                    {"role": "trough-read"}
                ).nth(0).run(connection)  # fmt: skip
                copy = {
                    **row,
                    "id": f"trough-read:{row['node']}:foreign-{scheme}",
                    "segment": f"foreign-{scheme}",
                    "url": f"{scheme}://127.0.0.1:{port}/?segment=x",
                }
                services.insert(copy, conflict="replace").run(connection)
        with secured.client() as client, pytest.raises(TroughException, match="speaks no TLS"):
            client.read("foreign-http", "SELECT 1")
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(foreign.certificate), str(foreign.key))
        listener.settimeout(GIVE_UP)

        def answer() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return  # closed, at the end
                try:
                    with context.wrap_socket(plain, server_side=True) as tls:
                        heard.append(tls.recv(4096))
                except OSError:
                    heard.append(b"")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with secured.client() as client:
            for _ in range(2):
                with pytest.raises(TroughException, match="CA that is not known here"):
                    client.read("foreign-https", "SELECT 1")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(GIVE_UP)
    assert heard and b"".join(heard) == b""


def test_certificates_are_renewed_while_it_runs(secured):
    """All servers use the new one for new connections, and peers go on with each other."""
    before = shown(secured, "w1")
    secured.authority.issue("127.0.0.1", renew=True)
    for name in ("w1", "w2", "s1"):
        until_blocking(lambda name=name: shown(secured, name) != before, "the new certificate")
    with secured.client() as client:
        client.write("300004", "CREATE TABLE t (n INTEGER)")
        assert client.promote("300004")["remote_path"]
    for name in ("w1", "w2", "s1"):
        assert "Traceback" not in secured.machine.processes[name].output


def shown(secured: Secured, name: str) -> str:
    key = "SYNC_SERVER_PORT" if name == "s1" else "READ_PORT"
    port = int(secured.machine.processes[name].settings[key])
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=GIVE_UP)
