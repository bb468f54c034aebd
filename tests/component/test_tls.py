"""TLS on real sockets: listeners, clients that verify them, and what each is told otherwise."""

from __future__ import annotations

import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from certificates import CertificateAuthority
from line_role import CountRole
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from waiting import EXPECTED_WITHIN, until
from web_servers import Listening

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import PEER, READ
from trough.access.tokens import Credential, new_token
from trough.client.http import Connections, NotSent
from trough.cluster_client.connection_pool import ConnectionPool
from trough.protocols.http.manager_client import ManagerClient
from trough.protocols.http.request import Request, write_json
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site
from trough.protocols.line.blocking import BlockingConnection
from trough.protocols.line.server import LineServerFactory
from trough.protocols.peer import shows_certificate
from trough.protocols.tls_listener import HANDSHAKE_SECONDS, ServerTls
from trough.tls import TlsFiles
from trough.tls.client import ClientTls

PLAIN = b"this port speaks TLS\n"
UNKNOWN_CA = "its certificate is signed by a CA that is not known here"


class Echo(Resource):
    """Says what it was sent, and whether by a process of the cluster."""

    needs = PEER | READ

    def handler(self, request):
        return self.answer

    def answer(self, request: Request) -> None:
        peer = shows_certificate(request.transport)
        write_json(request, 200, {"length": len(request.body()), "peer": peer})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes may take long on a machine that has much else to do."""
    for module in ("trough.client.http", "trough.protocols.line.blocking"):
        monkeypatch.setattr(f"{module}.CONNECT_SECONDS", float(EXPECTED_WITHIN))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ca")


@asynccontextmanager
async def web(files: TlsFiles | None, gate: Gate | None = None) -> AsyncIterator[Listening]:
    """An HTTP server with these files; without any, one without TLS."""
    site = Site(Echo(gate), reactor, 1 << 20)
    tls = ServerTls(files, reactor) if files is not None else None
    factory = site if tls is None else tls.listener(site, PLAIN)
    async with Listening(reactor, factory) as listening:
        if gate is not None:
            gate.serve(f"127.0.0.1:{listening.port}")
        yield listening
        assert not site.connections or await until(lambda: not site.connections, "closing")


@asynccontextmanager
async def line(files: TlsFiles | None, gate: Gate | None = None) -> AsyncIterator[Listening]:
    """Likewise of the line protocol."""
    role = CountRole(reactor)
    served = LineServerFactory("worker", "w01", role.verbs(), reactor, gate=gate)
    tls = ServerTls(files, reactor) if files is not None else None
    factory = served if tls is None else tls.listener(served, b"* BYE bad-request TLS\n")
    async with Listening(reactor, factory) as listening:
        yield listening


async def asked(listening: Listening, files: TlsFiles, peers: bool = False, scheme="https") -> dict:
    """What a sync server's client is answered."""
    client = ManagerClient(reactor, None, ClientTls(files, reactor, peers))
    url = f"{scheme}://127.0.0.1:{listening.port}/"
    try:
        return await client.call("POST", url, {"a": 1}, EXPECTED_WITHIN)
    finally:
        await client.close()


async def refused(listening: Listening, files: TlsFiles, **how) -> str:
    """Why the same client is not."""
    with pytest.raises(errors.TroughError) as caught:
        await asked(listening, files, **how)
    return str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_request_over_tls(authority):
    """A client that knows the CA is answered, and blocking ones are as well."""
    files = authority.issue()
    client = TlsFiles(ca=authority.ca)
    async with web(files) as listening:
        assert await asked(listening, client) == {"length": 8, "peer": False}
        url = f"https://127.0.0.1:{listening.port}/"
        assert (await blocking(url, client)).status == 200


async def blocking(url: str, files: TlsFiles):
    """The answer to a request of the blocking client."""
    connections = Connections(tls=files)
    try:
        return await deferToThread(
            connections.request, "POST", url, b"x" * 500_000, timeout=EXPECTED_WITHIN
        )
    finally:
        connections.close()


@pytest.mark.parametrize("kind", ["other CA", "other name", "expired", "not yet", "system"])
@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_not_believed(authority, tmp_path, kind):
    """Both clients name the host and the fault, and send nothing."""
    files, client = authority.issue(), TlsFiles(ca=authority.ca)
    fault = UNKNOWN_CA
    if kind == "other CA":
        client = TlsFiles(ca=CertificateAuthority(tmp_path / "other").ca)
    elif kind == "system":
        client = TlsFiles()
    elif kind == "other name":
        files, fault = authority.issue("w07.example", "10.0.0.7"), "certificate is "
    elif kind == "expired":
        files, fault = authority.issue(began=40, renew=True), "its certificate has expired"
    else:
        files = authority.issue(began=-2, renew=True)
        fault = "its certificate is not valid yet"
    async with web(files) as listening:
        reason = await refused(listening, client)
        assert fault in reason and f"127.0.0.1:{listening.port}" in reason
        if kind == "other name":
            assert "is for 10.0.0.7, w07.example and not for 127.0.0.1" in reason
        with pytest.raises(NotSent) as caught:
            await blocking(f"https://127.0.0.1:{listening.port}/", client)
        assert fault in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_the_line_protocol_over_tls(authority):
    """Requests and answers travel, also more than one record of TLS holds."""
    client = ClientTls(TlsFiles(ca=authority.ca), reactor)
    async with line(authority.issue()) as listening:
        pool = ConnectionPool(reactor, None, client)
        connection = await pool.to(f"tls://127.0.0.1:{listening.port}")
        text = "a" * 60_000
        for _ in range(3):
            answer = await connection.command("ECHO", text)
            assert answer.lines == [("INFO", text)]
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_a_line_client_without_a_reactor(authority, tmp_path):
    """The shell's short way verifies as well, and names the fault."""

    def ask(address: str, files: TlsFiles) -> str:
        connection = BlockingConnection(address, None, files)
        try:
            steps = connection.query(["300001"], "b" * 60_000, None, Ignored(), 0.1)
            return next(str(step) for step in steps if step is not None)
        finally:
            connection.close()

    client = TlsFiles(ca=authority.ca)
    async with line(authority.issue()) as listening:
        address = f"tls://127.0.0.1:{listening.port}"
        with pytest.raises(errors.BadRequest, match="QUERY"):
            await deferToThread(ask, address, client)  # the role has no such verb
        other = TlsFiles(ca=CertificateAuthority(tmp_path / "other").ca)
        with pytest.raises(errors.Unavailable, match=UNKNOWN_CA):
            await deferToThread(ask, address, other)
        with pytest.raises(errors.Unavailable, match="speaks no TLS"):
            await deferToThread(ask, address.removeprefix("tls://"), client)


class Ignored:
    """A listener that is told nothing."""


@pytest_twisted.ensureDeferred
async def test_a_line_server_that_is_not_believed(authority, tmp_path):
    """The error names the address and the fault."""
    client = ClientTls(TlsFiles(ca=CertificateAuthority(tmp_path / "other").ca), reactor)
    async with line(authority.issue()) as listening:
        pool = ConnectionPool(reactor, None, client)
        address = f"tls://127.0.0.1:{listening.port}"
        with pytest.raises(errors.Unavailable, match=f"{address}: {UNKNOWN_CA}"):
            await pool.to(address)
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_tls_to_a_port_without_it(authority):
    """The client says so; the server goes on."""
    client = TlsFiles(ca=authority.ca)
    async with web(None) as listening:
        assert "does not speak TLS" in await refused(listening, client)
        with pytest.raises(NotSent, match="does not speak TLS"):
            await blocking(f"https://127.0.0.1:{listening.port}/", client)
        assert (await asked(listening, TlsFiles(), scheme="http"))["length"] == 8
    async with line(None) as listening:
        pool = ConnectionPool(reactor, None, ClientTls(client, reactor))
        with pytest.raises(errors.Unavailable, match="does not speak TLS"):
            await pool.to(f"tls://127.0.0.1:{listening.port}")
        await pool.close()


@pytest_twisted.ensureDeferred
async def test_a_client_with_tls_asks_no_server_without(authority):
    """A row with http:// in it does not get the token; INSECURE allows it."""
    client = TlsFiles(ca=authority.ca)
    async with web(None) as listening, line(None) as plain_line:
        assert "speaks no TLS" in await refused(listening, client, scheme="http")
        with pytest.raises(NotSent, match="speaks no TLS"):
            await blocking(listening.url, client)
        pool = ConnectionPool(reactor, Credential.of("sesame-sesame"), ClientTls(client, reactor))
        with pytest.raises(errors.Unavailable, match="speaks no TLS"):
            await pool.to(f"127.0.0.1:{plain_line.port}")
        await pool.close()
        insecure = dataclasses.replace(client, plain=True)
        assert (await asked(listening, insecure, scheme="http"))["length"] == 8


@pytest_twisted.ensureDeferred
async def test_a_request_without_tls_is_told_why(authority):
    """What is not TLS is answered in plain words, then the connection ends."""
    async with web(authority.issue()) as listening:
        for request in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"1 PING\n"):
            assert await deferToThread(plain_answer, listening.port, request) == PLAIN


def plain_answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), EXPECTED_WITHIN) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(4096):
            answer += data
        return answer


@pytest_twisted.ensureDeferred
async def test_processes_show_each_other_certificates(authority, tmp_path):
    """With TLS_PEER_CA a process of the cluster is known by its certificate; a client without
    one is served as well, and one with another CA's is refused."""
    files = dataclasses.replace(authority.issue(), peer_ca=authority.ca)
    async with web(files) as listening:
        assert (await asked(listening, files, peers=True))["peer"] is True
        assert (await asked(listening, TlsFiles(ca=authority.ca)))["peer"] is False
        stranger = CertificateAuthority(tmp_path / "other").issue()
        url = f"https://127.0.0.1:{listening.port}/"
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(stranger.certificate, stranger.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await deferToThread(ask_with, context, listening.port)
        assert (await blocking(url, TlsFiles(ca=authority.ca))).status == 200


def ask_with(context: ssl.SSLContext, port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), EXPECTED_WITHIN) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        answer = connection.recv(4096)
        if not answer:
            raise ConnectionError("closed")
        return answer


@pytest.mark.parametrize("token", ["peer", "all rights"])
@pytest_twisted.ensureDeferred
async def test_a_stolen_token_of_a_server_needs_its_certificate(authority, token):
    """With TLS_PEER_CA the token of a server is taken from a process with a certificate alone;
    one with all rights is a client's as well."""
    text = new_token()
    peer, chosen = (text, None) if token == "peer" else (None, text)
    files = dataclasses.replace(authority.issue(), peer_ca=authority.ca)
    client, credential = TlsFiles(ca=authority.ca), Credential.of(text)
    gate = Gate(chosen or "another-token", peer, certificates=True)
    async with web(files, gate) as web_port, line(files, gate) as line_port:
        gate.serve(f"127.0.0.1:{line_port.port}")
        for shown, is_peer in ((files, True), (client, False)):
            how = ClientTls(shown, reactor, peers=is_peer)
            manager = ManagerClient(reactor, credential, how)
            pool = ConnectionPool(reactor, credential, how)
            url = f"https://127.0.0.1:{web_port.port}/"
            if is_peer or token == "all rights":
                assert (await manager.call("POST", url, {"a": 1}))["length"] == 8
                await pool.to(f"tls://127.0.0.1:{line_port.port}")
            else:
                with pytest.raises(errors.Unauthorized, match="certificate of this cluster"):
                    await manager.call("POST", url, {"a": 1})
                with pytest.raises(errors.Unauthorized, match="certificate of this cluster"):
                    await pool.to(f"tls://127.0.0.1:{line_port.port}")
            await manager.close()
            await pool.close()


@pytest_twisted.ensureDeferred
async def test_an_old_version_of_tls_is_refused(authority):
    """TLS 1.1 is not spoken, TLS 1.2 is."""
    async with web(authority.issue()) as listening:
        context = ssl.create_default_context(cafile=authority.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert b"200 OK" in await deferToThread(ask_with, context, listening.port)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            await deferToThread(ask_with, context, listening.port)


@pytest_twisted.ensureDeferred
async def test_a_new_certificate_is_used_without_a_restart(authority):
    """New connections get it; one that cannot be used changes nothing and is logged once."""
    clock = Seconds()
    files, client = authority.issue(), TlsFiles(ca=authority.ca)
    site = Site(Echo(), reactor, 1 << 20)
    tls = ServerTls(files, clock)
    logged: list[str] = []

    def observe(event):
        if event["log_namespace"] == "trough.protocols.tls_listener":
            logged.append(event.get("text", ""))

    globalLogPublisher.addObserver(observe)
    try:
        async with Listening(reactor, tls.listener(site, PLAIN)) as listening:
            first = await deferToThread(serial, listening.port)
            authority.issue(renew=True)
            assert await deferToThread(serial, listening.port) == first
            clock.now += 2
            second = await deferToThread(serial, listening.port)
            assert second != first
            Path(files.certificate).write_text("half a certificate")
            for _ in range(3):
                clock.now += 2
                assert await deferToThread(serial, listening.port) == second
            Path(files.certificate).unlink()
            clock.now += 2
            assert await deferToThread(serial, listening.port) == second
            authority.issue(renew=True)
            clock.now += 2
            assert await deferToThread(serial, listening.port) not in (first, second)
            assert (await asked(listening, client))["length"] == 8
    finally:
        globalLogPublisher.removeObserver(observe)
    unusable = [text for text in logged if "stays in use" in text]
    assert len(unusable) == 2  # once for each state of the files
    assert files.certificate in unusable[0] and "no certificate in PEM" in unusable[0]
    assert "No such file" in unusable[1]
    assert len([text for text in logged if text.startswith("read again")]) == 2


class Seconds:
    """The reactor, with seconds that pass as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.long = Clock()

    def seconds(self) -> float:
        return self.now

    def callLater(self, seconds: float, *call):
        return (self.long if seconds > 1 else reactor).callLater(seconds, *call)

    def __getattr__(self, name: str):
        return getattr(reactor, name)


def serial(port: int) -> bytes:
    """The certificate that is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), EXPECTED_WITHIN) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True)


@pytest_twisted.ensureDeferred
async def test_half_a_handshake_is_a_stranger(authority):
    """It counts as a connection, and ends when its time is over, with or without bytes."""
    clock = Seconds()
    site = Site(Echo(), reactor, 1 << 20)
    factory = ServerTls(authority.issue(), clock).listener(site, PLAIN)
    async with Listening(reactor, factory) as listening:
        for sent, answer in ((b"", PLAIN), (b"\x16\x03\x01\x02\x00\x01", b"")):
            closed = deferToThread(silent_until_closed, listening.port, sent)
            await until(partial(has_taken, factory, len(sent)), "the bytes")
            assert len(site.connections) == 1
            clock.long.advance(HANDSHAKE_SECONDS)
            assert await closed == answer
            await until(lambda: len(site.connections) == 0, "it to be forgotten")


def has_taken(factory, size: int) -> bool:
    """Whether a connection is there that was sent so many bytes."""
    return any(connection._taken == size for connection in factory.protocols)


def silent_until_closed(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), EXPECTED_WITHIN) as connection:
        connection.sendall(sent)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_never_ends_is_cut_off(authority):
    """Bytes of a handshake are bounded, and a full table closes those in a handshake first."""
    site = Site(Echo(), reactor, 1 << 20)
    site.connections.most = 2
    tls = ServerTls(authority.issue(), reactor)
    async with Listening(reactor, tls.listener(site, PLAIN)) as listening:
        waiting = [
            socket.create_connection(("127.0.0.1", listening.port), EXPECTED_WITHIN)
            for _ in range(4)
        ]
        client = TlsFiles(ca=authority.ca)
        assert (await asked(listening, client))["length"] == 8
        for each in waiting:
            each.close()
        await until(lambda: len(site.connections) == 0, "all connections to end")


@pytest_twisted.ensureDeferred
async def test_a_connection_is_closed_after_its_answer(authority):
    """A client that wants the connection closed sees TLS end in order, not a cut."""
    async with web(authority.issue()) as listening:
        context = ssl.create_default_context(cafile=authority.ca)
        assert b"200 OK" in await deferToThread(read_to_the_end, context, listening.port)


def read_to_the_end(context: ssl.SSLContext, port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), EXPECTED_WITHIN) as plain,
        context.wrap_socket(
            plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        answer = b""
        while data := connection.recv(4096):
            answer += data
        return answer


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_waited_for(authority):
    """Answers that a peer does not read pile up nowhere: its requests stop being taken."""
    done: Deferred[None] = Deferred()
    async with line(authority.issue()) as listening:
        pool = ConnectionPool(reactor, None, ClientTls(TlsFiles(ca=authority.ca), reactor))
        connection = await pool.to(f"tls://127.0.0.1:{listening.port}")
        answers = [connection.command("ECHO", "b" * 60_000) for _ in range(200)]
        connection.transport.pauseProducing()
        reactor.callLater(0.1, done.callback, None)
        await done
        connection.transport.resumeProducing()
        for each in answers:
            assert (await each).lines == [("INFO", "b" * 60_000)]
        await pool.close()
