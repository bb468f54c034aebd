"""A process with a token sends requests only to servers that prove that they know it.

Rogue listeners answer what they like. None of them gets SQL, a body or a token.
"""

from __future__ import annotations

import pytest
import pytest_twisted
from towns import Town, settled
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN
from web_servers import Listening, WebServer

from trough import errors
from trough.access.gate import Gate
from trough.access.tokens import Credential
from trough.cluster_client.client import Cluster
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.router import SegmentRouter
from trough.metadata.sqlite.store import SqliteMetadata
from trough.model import READ, Copy, Worker
from trough.protocols.http.headers import CHALLENGE_PATH, TICKET_PATH
from trough.protocols.http.manager_client import ManagerClient
from trough.protocols.line.blocking import BlockingConnection
from trough.protocols.line.common_verbs import common_verbs
from trough.protocols.line.server import LineServerFactory

TOKEN = "s3cret-of-the-cluster"
SERVER = Credential.of(TOKEN, insists=True)
CLIENT = Credential.of(TOKEN)

#: What no rogue may hear: of the SQL, the body of an order, the token, and of a ticket.
SECRETS = (b"SELECT", b"INSERT", b"bait", TOKEN.encode(), b"Trough-Ticket", b"Bearer", b" AUTH ")

MADE_UP = "0" * 64


class Rogue(Listening):
    """A listener that answers by a function of the bytes that came last.

    :ivar heard: all that was sent to it
    """

    def __init__(self, answer, greeting: bytes = b"") -> None:
        self.heard = b""
        self._answer = answer
        self._greeting = greeting
        factory = Factory()
        factory.buildProtocol = lambda address: _Conversation(self)
        super().__init__(reactor, factory)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def check_that_nothing_was_told(self) -> None:
        """It was asked, and heard none of the secrets."""
        assert self.heard
        for secret in SECRETS:
            assert secret not in self.heard


class _Conversation(Protocol):
    def __init__(self, rogue: Rogue) -> None:
        self._rogue = rogue

    def connectionMade(self) -> None:
        self.transport.write(self._rogue._greeting)

    def dataReceived(self, data: bytes) -> None:
        self._rogue.heard += data
        answer = self._rogue._answer(data)
        if answer is None:
            self.transport.abortConnection()
        else:
            self.transport.write(answer)


def web(status: int, body: bytes) -> bytes:
    """A response over HTTP."""
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


CHALLENGE = web(200, b'{"nonce": "1f.ab.cd"}')


def after_a_challenge(answer: bytes):
    """Gives a challenge, then `answer` to all else."""
    return lambda data: CHALLENGE if CHALLENGE_PATH in data else answer


OVER_HTTP = {
    "404": lambda data: web(404, b'{"error": "no such route"}'),
    "401": lambda data: web(401, b""),
    "405": lambda data: web(405, b""),
    "500": lambda data: web(500, b"500 Server Error: x"),
    "503": lambda data: web(503, b""),
    "redirect": lambda data: b"HTTP/1.1 307 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "empty object": lambda data: web(200, b"{}"),
    "empty": lambda data: web(200, b""),
    "no object": lambda data: web(200, b'["nonce"]'),
    "nonce of a wrong type": lambda data: web(200, b'{"nonce": 7}'),
    "deep": lambda data: web(200, b"[" * 60_000),
    "large": lambda data: web(200, b" " * 200_000),
    "hung up": lambda data: None,
    "401 for the proof": after_a_challenge(web(401, b"")),
    "404 for the proof": after_a_challenge(web(404, b"")),
    "no ticket": after_a_challenge(web(200, b"{}")),
    "made-up ticket": after_a_challenge(web(200, b'{"ticket": "ab", "seconds": 600}')),
    "made-up proof": after_a_challenge(
        web(200, b'{"ticket": "ab", "seconds": 600, "proof": "%b"}' % MADE_UP.encode())
    ),
    "proof of a wrong type": after_a_challenge(
        web(200, b'{"ticket": "ab", "seconds": 600, "proof": ["\xc3\xa9"]}')
    ),
}


@pytest.mark.parametrize("answer", OVER_HTTP.values(), ids=OVER_HTTP.keys())
@pytest_twisted.ensureDeferred
async def test_a_rogue_over_http_gets_challenge_and_proof_alone(answer):
    """Whatever it answers, the order itself is not sent to it."""
    manager = ManagerClient(reactor, SERVER)
    async with Rogue(answer) as rogue:
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match="no answer from"):
                await manager.call("POST", f"{rogue.url}promote", {"segment": "bait"})
        rogue.check_that_nothing_was_told()
        requests = [line for line in rogue.heard.split(b"\r\n") if line.endswith(b"HTTP/1.1")]
        assert {line.split(b" ")[1] for line in requests} <= {CHALLENGE_PATH, TICKET_PATH}
    await manager.close()


def greeting(auth: str) -> bytes:
    """The first line of a server."""
    return f"TROUGH 1 worker w01 max-line=65536 auth={auth}\n".encode()


def line_server(answer_to_proof: str):
    """Answers PROVE with this, and CHALLENGE as a server does."""

    def answer(data: bytes) -> bytes:
        tag, verb = data.split()[:2]
        said = {b"CHALLENGE": "OK nonce=1f.ab.cd", b"PROVE": answer_to_proof}.get(verb, "OK")
        return b"%b %b\n" % (tag, said.encode())

    return answer


OVER_LINE = {
    "OK": "OK",
    "made-up proof": f"OK proof={MADE_UP}",
    "another field": "OK changes=1",
    "document": 'OK {"proof": 1}',
    "refusal": "ERR unauthorized not the token",
    "cut": f"OK proof={MADE_UP[:10]}",
}


@pytest.mark.parametrize("answer", OVER_LINE.values(), ids=OVER_LINE.keys())
@pytest.mark.parametrize("credential", [SERVER, CLIENT], ids=["server", "client"])
@pytest_twisted.ensureDeferred
async def test_a_rogue_of_the_line_protocol_gets_challenge_and_proof_alone(
    tmp_path, answer, credential
):
    """A query that waits for the authentication is not sent to it."""
    town = Town(tmp_path)
    town.cluster = Cluster(town.metadata, reactor, credential)
    await town.cluster.open()
    async with Rogue(line_server(answer), greeting("token")) as rogue:
        await town.worker("w1", rogue.address, "bait")
        query, _ = town.query(["bait"], "SELECT 1")
        try:
            assert "bait" in (await settled(query.done)).failed
        except errors.Unauthorized:
            assert "unauthorized" in answer
        assert b" PROVE " in rogue.heard
        rogue.check_that_nothing_was_told()
        await town.cluster.close()


@pytest.mark.parametrize("answer", OVER_LINE.values(), ids=OVER_LINE.keys())
@pytest_twisted.ensureDeferred
async def test_the_blocking_client_wants_a_proof(answer):
    """It makes no connection to a rogue."""
    async with Rogue(line_server(answer), greeting("token")) as rogue:
        with pytest.raises((errors.Unavailable, errors.Unauthorized)):
            await _blocking(rogue.address, TOKEN)
        assert b" PROVE " in rogue.heard
        rogue.check_that_nothing_was_told()


def _blocking(address: str, token: str) -> Deferred[None]:
    def connect() -> None:
        BlockingConnection(address, token).close()

    return deferToThread(connect).addTimeout(EXPECTED_WITHIN, reactor)


@pytest_twisted.ensureDeferred
async def test_a_server_asks_no_rogue_that_asks_for_no_token(tmp_path):
    """A greeting with `auth=none` is not enough for a server. It is for a client."""
    for credential, told in ((SERVER, False), (CLIENT, True)):
        town = Town(tmp_path)
        town.cluster = Cluster(town.metadata, reactor, credential)
        await town.cluster.open()
        async with Rogue(
            lambda data: b"%b ERR bad-sql x\n" % data.split()[0], greeting("none")
        ) as rogue:
            await town.worker("w1", rogue.address, "bait")
            query, _ = town.query(["bait"], "SELECT 1")
            try:
                failed = (await settled(query.done)).failed
            except errors.BadSql:  # what it answers to a query
                assert told
            else:
                assert "prove that it belongs" in str(failed["bait"])
            assert (b"SELECT" in rogue.heard) == told
            await town.cluster.close()


@pytest_twisted.ensureDeferred
async def test_a_client_asks_an_open_server_over_http():
    """A client with a token works on a server without tokens; another server's process does
    not, unless INSECURE is set."""

    def answer(method, uri, body):
        return (404, b'{"error": "none"}') if uri.startswith("/peer/") else (200, b'{"a": 1}')

    async with WebServer(reactor, answer) as server:
        for credential, works in ((CLIENT, True), (SERVER, False)):
            manager = ManagerClient(reactor, credential)
            call = manager.call("POST", f"{server.url}promote", {"segment": "s"})
            if works:
                assert await call == {"a": 1}
            else:
                with pytest.raises(errors.Unavailable, match="INSECURE"):
                    await call
            await manager.close()
    assert Gate(TOKEN, insists=False).credential == CLIENT
    assert Gate(TOKEN).credential == SERVER


@pytest_twisted.ensureDeferred
async def test_servers_of_one_cluster_prove_themselves_to_each_other():
    """Over the line protocol, as its clients do it; a server with another token does not."""
    gate = Gate(TOKEN)
    factory = LineServerFactory("worker", "w01", common_verbs(), reactor, gate=gate)
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    address = f"127.0.0.1:{listening.getHost().port}"
    gate.serve(address)
    pool, other = ConnectionPool(reactor, SERVER), ConnectionPool(reactor, Credential.of("x"))
    try:
        assert (await (await pool.to(address)).command("PING")).lines == []
        await _blocking(address, TOKEN)
        with pytest.raises(errors.Unauthorized):
            await other.to(address)
    finally:
        await pool.close()
        await other.close()
        await listening.stopListening()
        await factory.drain(0)


@pytest_twisted.ensureDeferred
async def test_a_worker_that_began_a_moment_ago_is_not_taken_for_an_original_one(tmp_path):
    """A copy on a worker that the client does not know yet: the workers are looked up again."""
    metadata, clock = SqliteMetadata(tmp_path / "registry.db", reactor), Clock()
    await metadata.open()
    router = SegmentRouter(metadata, clock)
    for number, segment in enumerate("st"):
        clock.advance(1)
        node, address = f"w{number}", f"127.0.0.1:{number}"
        await metadata.register_worker(Worker(node, node, line=address, ttl=3600.0))
        await metadata.publish_copies([Copy(segment, node, READ, f"http://x/?segment={segment}")])
        assert (await router.find([segment]))[segment].line == address
    await metadata.close()
