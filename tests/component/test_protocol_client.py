"""The line protocol's client: against a real server on loopback, and against a mere wire."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_twisted
from line_role import CountRole, SqlRole, Wire
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from waiting import until

from trough import errors
from trough.access.gate import Gate
from trough.access.tokens import Credential, server_proof_of, stored_of
from trough.protocols.line.client import LineConnection, connect
from trough.protocols.line.messages import Matching
from trough.protocols.line.pending_calls import Call
from trough.protocols.line.query_replies import Summary
from trough.protocols.line.server import LineServerFactory, ServerLimits

reactor: Any = installed_reactor


@dataclass
class Listener:
    """Keeps what it is told; pauses the call at the first rows if asked to."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    call: Call | None = None

    def state(self, segment: str, mark: str) -> None:
        self.told.append(("state", segment, mark))

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        self.told.append(("columns", segment, names))

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        self.told.append(("rows", segment, rows))
        if self.call is not None:
            self.call.pause()

    def done(self, segment: str, count: int) -> None:
        self.told.append(("done", segment, count))

    def failed(self, segment: str, error: errors.TroughError) -> None:
        self.told.append(("failed", segment, error))


@dataclass
class Site:
    """A server and a connection to it."""

    counts: CountRole
    sql: SqlRole
    factory: LineServerFactory
    connection: LineConnection

    @property
    def server(self) -> Any:
        """The server's side of the connection."""
        (server,) = self.factory._connections
        return server


#: What the server publishes, wherever it listens.
ADDRESS = "w01.example:6440"


@asynccontextmanager
async def site(
    limits: ServerLimits | None = None,
    token: str | None = None,
    told: str | None = None,
    address: str = ADDRESS,
) -> AsyncIterator[Site]:
    """A server with both roles on a port of its own.

    :param token: that the server wants; `told` is the one that the client has
    :param address: that the client takes for the server's
    """
    counts, sql = CountRole(reactor), SqlRole()
    verbs = {**counts.verbs(), **sql.verbs()}
    gate = Gate(token, addresses=[ADDRESS])
    factory = LineServerFactory("worker", "w01", verbs, reactor, limits, gate=gate)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    connection = None
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        credential = Credential.of(told) if told else None
        connection = await connect(endpoint, reactor, credential, address)
        yield Site(counts, sql, factory, connection)
    finally:
        if connection is not None:
            await connection.close()
        await port.stopListening()
        await factory.drain(0)


async def failure_of(deferred: Deferred[Any]) -> Exception:
    """What `deferred` fails with."""
    try:
        await deferred
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


TABLE = "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2.5, NULL), (9e999, x'00ff');"


# -- against a server -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_query() -> None:
    """Rows arrive as Python's values, each segment's end is told, and the sum at last."""
    async with site() as here:
        here.sql.add("s1", TABLE)
        here.sql.add("s2", "CREATE TABLE t (a, b)")
        here.sql.moved["s3"] = errors.Moved("x", "w07", "other:6440")
        listener = Listener()
        call = here.connection.query(
            ["s1", "s2", "s3", "s4"], "SELECT a, b FROM t", listener=listener
        )
        summary = await call.done
        assert (summary.segments, summary.failed, summary.rows) == (4, 2, 3)
        assert not summary.complete
        (
            *told,
            (_, _, moved),
            (_, _, lost),
        ) = sorted(listener.told, key=lambda told: told[1])
        assert told == [
            ("columns", "s1", ("a", "b")),
            ("rows", "s1", [[1, "x"], [2.5, None], [math.inf, b"\x00\xff"]]),
            ("done", "s1", 3),
            ("columns", "s2", ("a", "b")),
            ("done", "s2", 0),
        ]
        assert isinstance(moved, errors.Moved)
        assert (moved.node, moved.line) == ("w07", "other:6440")
        assert isinstance(lost, errors.NoSuchSegment)


@pytest_twisted.ensureDeferred
async def test_parameters() -> None:
    """Every kind of value goes there and comes back the same."""
    async with site() as here:
        here.sql.add("s", "")
        sent = [None, -(2**63), 2**63 - 1, 0.1, -math.inf, "ä b\n{3}\n", b"\0\n", "x" * 100000]
        listener = Listener()
        places = ", ".join("?" * len(sent))
        call = here.connection.query(["s"], f"SELECT {places}", sent, listener=listener)
        await call.done
        assert listener.told[1] == ("rows", "s", [sent])
        listener = Listener()
        named = {"a": 1, "b": "x y"}
        await here.connection.query(["s"], "SELECT :b, :a", named, listener=listener).done
        assert listener.told[1] == ("rows", "s", [["x y", 1]])


@pytest_twisted.ensureDeferred
async def test_write() -> None:
    """A write tells what it changed, or fails with the server's reason."""
    async with site() as here:
        here.sql.add("s", "CREATE TABLE t (a)")
        answer = await here.connection.write("s", "INSERT INTO t VALUES (?), (?)", ["x", "\n"])
        assert answer.fields["changes"] == 2
        assert here.sql.segments["s"].execute("SELECT * FROM t").fetchall() == [("x",), ("\n",)]
        error = await failure_of(here.connection.write("s", "INSERT INTO missing VALUES (1)"))
        assert isinstance(error, errors.BadSql) and "missing" in str(error)
        assert isinstance(await failure_of(here.connection.write("no", "x")), errors.NoWriteLock)


@pytest_twisted.ensureDeferred
async def test_awkward_sql() -> None:
    """SQL with ends of lines, with what looks like a literal, or long, arrives as it is."""
    async with site() as here:
        here.sql.add("s", "")
        for text in ("'a\n\r\nb'", "'{7}'\n--{7}", "'{3}' --{3}", f"'{'x' * 70000}'", "1 -- \r"):
            listener = Listener()
            await here.connection.query(["s"], f"SELECT {text}", listener=listener).done
            value = here.sql.segments["s"].execute(f"SELECT {text}").fetchone()[0]
            assert listener.told[1] == ("rows", "s", [[value]]), text


@pytest_twisted.ensureDeferred
async def test_ten_thousand_segments() -> None:
    """A list of ids that fits no line is sent and answered whole."""
    async with site() as here:
        for number in range(200):
            here.sql.add(f"{number}", "")
        ids = [f"{number}" for number in range(10000)]
        listener = Listener()
        summary = await here.connection.query(ids, "SELECT 1", listener=listener).done
        assert (summary.segments, summary.failed, summary.rows) == (10000, 9800, 200)


@pytest_twisted.ensureDeferred
async def test_patterns_and_odd_ids() -> None:
    """Patterns choose segments, blanks in them survive, and a tilde in front of an id does."""
    async with site() as here:
        for segment in ("~odd", "a-1", "a-2", "b"):
            here.sql.add(segment, "")

        async def asked(segments: Any) -> list[str]:
            listener = Listener()
            await here.connection.query(segments, "SELECT 1", listener=listener).done
            return [told[1] for told in listener.told if told[0] == "done"]

        assert await asked(Matching("^a")) == ["a-1", "a-2"]
        assert await asked(Matching("a-1|no such")) == ["a-1"]
        assert await asked(["~odd"]) == ["~odd"]
        assert await asked(["~odd", "b"]) == ["~odd", "b"]
        for wrong in ([], ["a:b"], ["a/b"], [".a"], ["x\n"]):
            with pytest.raises(errors.BadRequest):
                here.connection.query(wrong, "SELECT 1", listener=Listener())
        assert here.connection.requests == 0


@pytest_twisted.ensureDeferred
async def test_commands() -> None:
    """A command's lines and fields come back; its error is raised."""
    async with site() as here:
        answer = await here.connection.command("ECHO", "hello there")
        assert answer.lines == [("INFO", "hello there")]
        answer = await here.connection.command("COUNT", "3")
        assert [word for word, _ in answer.lines] == ["ROWS"] * 3
        assert answer.fields == {"rows": 3}
        assert isinstance(await failure_of(here.connection.command("NO")), errors.ProtocolError)


@pytest_twisted.ensureDeferred
async def test_thousands_at_once() -> None:
    """More requests than a server takes at once are all answered, each with its own."""
    async with site(ServerLimits(requests=50)) as here:
        here.sql.add("s", "")
        listeners = [Listener() for _ in range(3000)]
        calls = [
            here.connection.query(["s"], "SELECT ?", [number], listener=listener)
            for number, listener in enumerate(listeners)
        ]
        summaries = await gatherResults([call.done for call in calls])
        assert all(summary.complete for summary in summaries)
        assert [listener.told[1][2] for listener in listeners] == [[[n]] for n in range(3000)]


@pytest_twisted.ensureDeferred
async def test_cancel() -> None:
    """A cancelled call says so once the server has; others go on."""
    async with site() as here:
        count = here.connection.command("COUNT", "1000000")
        await until(lambda: here.counts.jobs, "the counting to begin")
        count.cancel()
        assert isinstance(await failure_of(count), CancelledError)
        await until(lambda: here.counts.jobs[0].cancelled, "the server to hear of it")
        await until(lambda: not here.connection.requests, "the last line")
        assert (await here.connection.command("PING")).fields == {}


@pytest_twisted.ensureDeferred
async def test_cancel_a_query() -> None:
    """Its listener hears nothing more from the moment on."""
    async with site() as here:
        here.sql.add("s", "")
        listener = Listener()
        call = here.connection.query(["s"], "SELECT 1", listener=listener)
        call.cancel()
        call.cancel()
        assert isinstance(await failure_of(call.done), errors.Cancelled)
        assert listener.told == []
        call = here.connection.query(["s"], "SELECT 1", listener=listener)
        call.done.cancel()
        assert isinstance(await failure_of(call.done), errors.Cancelled)


MANY = (
    "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 20000) SELECT n FROM n"
)


@pytest_twisted.ensureDeferred
async def test_pause() -> None:
    """A paused listener is left alone, and then hears the rest, in order."""
    async with site() as here:
        here.sql.add("s", "")
        listener = Listener()
        call = listener.call = here.connection.query(["s"], MANY, listener=listener)
        await until(lambda: len(listener.told) == 2, "the first rows")
        for _ in range(5):
            await deferLater(reactor, 0)
            assert len(listener.told) == 2
        ping = here.connection.command("PING")
        listener.call = None
        call.resume()
        assert (await call.done).rows == 20000
        rows = [row for told in listener.told if told[0] == "rows" for (row,) in told[2]]
        assert rows == list(range(1, 20001))
        await ping


@pytest_twisted.ensureDeferred
async def test_a_pause_reaches_the_server() -> None:
    """While the client does not read, what the server sends stops at its job."""
    async with site(ServerLimits(unsent=100000)) as here:
        here.sql.add("s", "")
        listener = Listener()
        call = listener.call = here.connection.query(["s"], "SELECT 1", listener=listener)
        await until(lambda: listener.told, "the pause")
        count = here.connection.command("COUNT", "20000")
        await until(lambda: here.counts.jobs and here.counts.jobs[0].paused, "the job to rest")
        sent = here.counts.jobs[0].sent
        assert sent < 20000
        call.resume()
        assert (await count).fields == {"rows": 20000}
        assert (await call.done).complete


@pytest_twisted.ensureDeferred
async def test_cancel_while_paused() -> None:
    """Cancelling ends the pause as well."""
    async with site() as here:
        here.sql.add("s", "")
        listener = Listener()
        call = listener.call = here.connection.query(["s"], MANY, listener=listener)
        await until(lambda: len(listener.told) == 2, "the first rows")
        call.cancel()
        assert isinstance(await failure_of(call.done), errors.Cancelled)
        assert (await here.connection.command("PING")).fields == {}


@pytest_twisted.ensureDeferred
async def test_a_listener_that_fails() -> None:
    """Its call fails with its exception, and no other call does."""

    class Failing(Listener):
        def rows(self, segment: str, rows: list[list[Any]]) -> None:
            raise ZeroDivisionError(segment)

    async with site() as here:
        here.sql.add("s", "")
        failing = here.connection.query(["s"], MANY, listener=Failing())
        whole = here.connection.query(["s"], MANY, listener=Listener())
        assert isinstance(await failure_of(failing.done), ZeroDivisionError)
        assert (await whole.done).rows == 20000


@pytest_twisted.ensureDeferred
async def test_the_server_dies() -> None:
    """Everything under way fails at once, a write with an unknown outcome; so does the next."""
    async with site() as here:
        here.sql.add("s", "")
        wait = here.connection.command("WAIT")
        count = here.connection.command("COUNT", "1000000")
        write = here.connection.request("WAIT", [], "a write to segment s")
        await until(lambda: len(here.counts.waiting) == 2, "the requests to arrive")
        here.server.transport.abortConnection()
        for deferred in (wait, count):
            assert type(await failure_of(deferred)) is errors.Unavailable
        assert isinstance(await failure_of(write), errors.OutcomeUnknown)
        later = here.connection.query(["s"], "SELECT 1", listener=Listener())
        assert type(await failure_of(later.done)) is errors.Unavailable
        assert type(await failure_of(here.connection.write("s", "x"))) is errors.Unavailable


@pytest_twisted.ensureDeferred
async def test_the_server_drains() -> None:
    """A server that shuts down answers what it has begun; what comes later is refused."""
    async with site() as here:
        wait = here.connection.command("WAIT")
        await until(lambda: here.counts.waiting, "the request to arrive")
        drained = Deferred.fromCoroutine(here.factory.drain(60))
        assert isinstance(
            await failure_of(here.connection.command("ECHO", "x")), errors.Unavailable
        )
        next(iter(here.counts.waiting.values())).callback("x")
        assert (await wait).fields == {"word": "x"}
        await drained
        error = await failure_of(here.connection.command("PING"))
        assert "shutting down" in str(error)


@pytest_twisted.ensureDeferred
async def test_authentication() -> None:
    """The token is proved when it is asked for; without it, or with another, nothing is."""
    async with site(token="s3cret words", told="s3cret words") as here:
        assert (await here.connection.command("ECHO", "x")).lines == [("INFO", "x")]
    for told in (None, "other"):
        with pytest.raises(errors.Unauthorized):
            async with site(token="s3cret", told=told):
                pass
    async with site(told="needless") as here:
        await here.connection.command("PING")


@pytest_twisted.ensureDeferred
async def test_a_proof_is_for_one_address() -> None:
    """A listener that passes a challenge of this server on cannot use what it gets."""
    with pytest.raises(errors.Unauthorized):
        async with site(token="s3cret", told="s3cret", address="elsewhere.example:6440"):
            pass
    async with site(token="s3cret", told="s3cret", address=ADDRESS.upper()) as here:
        await here.connection.command("ECHO", "x")


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    """A port that is closed is an error like any other."""
    port = reactor.listenTCP(
        0, LineServerFactory("worker", "w", {}, reactor), interface="127.0.0.1"
    )
    number = port.getHost().port
    await port.stopListening()
    with pytest.raises(errors.Unavailable, match="cannot connect"):
        await connect(TCP4ClientEndpoint(reactor, "127.0.0.1", number), reactor)


# -- against a wire --------------------------------------------------------------------------


class Client:
    """A client, seen from the server's side."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.clock = Clock()
        self.connection = LineConnection(self.clock, credential, ADDRESS)
        self.wire = Wire()
        self.connection.makeConnection(self.wire)

    def hear(self, *lines: str) -> list[str]:
        """Say lines to it; what it says to that."""
        self.connection.dataReceived("".join(f"{line}\n" for line in lines).encode())
        self.clock.advance(0)
        return self.wire.take()


GREETING = "TROUGH 1 worker w01 max-line=65536 max-literal=1000 max-requests=10 auth="


def _error(deferred: Deferred[Any]) -> Exception:
    found: list[Failure] = []
    deferred.addErrback(found.append)
    (failure,) = found
    assert isinstance(failure.value, Exception)
    return failure.value


def test_requests_wait_for_the_greeting() -> None:
    """With a token only a request for a challenge does not wait for the proof."""
    credential = Credential.of("s3cret")
    client = Client(credential)
    assert client.wire.take() == ["0 CHALLENGE"]
    client.connection.command("PING")
    client.connection.query(["s"], "SELECT 1", listener=Listener())
    assert client.hear(GREETING + "token") == []
    proof = credential.proof("a.b", ADDRESS)
    (proving,) = client.hear("0 OK nonce=a.b")
    *words, own = proving.split(" ")
    assert words == ["0", "PROVE", "chosen", "a.b", proof]
    server_proof = server_proof_of(stored_of(credential.key), own, "a.b", ADDRESS)
    assert client.hear(f"0 OK proof={server_proof}") == ["1 PING", "2 QUERY s SELECT 1"]
    assert client.connection.greeting.called


def test_a_server_without_tokens_is_asked_for_a_challenge_all_the_same() -> None:
    """Requests wait for the answer, so that it does not come later, when nothing is expected."""
    client = Client(Credential.of("s3cret"))
    client.connection.command("PING")
    assert client.hear(GREETING + "none") == ["0 CHALLENGE"]
    assert client.hear("0 ERR protocol no such verb") == ["1 PING"]


def test_a_client_without_a_token_asks_at_once() -> None:
    """A query does not wait for the greeting; what changes something does."""
    client = Client()
    client.connection.write("s", "x")
    call = client.connection.query(["s"], "SELECT 1", listener=Listener())
    client.clock.advance(0)
    assert client.wire.take() == ["2 QUERY s SELECT 1"]
    assert client.hear(GREETING + "none") == ["1 WRITE s x"]
    client.hear("2 END segments=1 failed=0 rows=0 ms=1")
    assert call.done.called


def test_a_query_that_came_before_the_greeting_fails_with_the_reason() -> None:
    """The server wants a token, and the error names it; a write was never sent."""
    client = Client()
    call = client.connection.query(["s"], "SELECT 1", listener=Listener())
    early = client.connection.write("s", "x")
    client.hear(GREETING + "token", "1 ERR unauthorized not authenticated")
    assert client.wire.aborted
    for failed in (client.connection.greeting, call.done, early):
        error = _error(failed)
        assert type(error) is errors.Unauthorized and "w01 wants a token" in str(error)


@pytest.mark.parametrize(
    "line", ["220 mail ready", "TROUGH 2 worker w01", "HTTP/1.1 400 Bad Request", ""]
)
def test_another_protocol(line: str) -> None:
    """What is not Trough is left alone, and everything asked of it fails."""
    client = Client()
    early = client.connection.write("s", "x")
    client.hear(line)
    assert client.wire.aborted
    assert isinstance(_error(client.connection.greeting), errors.Unavailable)
    assert type(_error(early)) is errors.Unavailable, "it was never sent"


def test_silence() -> None:
    """A server that says nothing is pinged, and given up if that changes nothing."""
    client = Client()
    client.hear(GREETING + "none")
    client.clock.advance(1000)
    assert client.wire.take() == [], "nothing is asked, so silence is as it should be"
    asked = client.connection.command("WAIT")
    assert client.wire.take() == ["1 WAIT"]
    client.clock.pump([30.0, 1.0])
    assert client.wire.take() == ["- PING"]
    client.hear("- OK")
    client.clock.pump([30.0, 30.0])
    assert client.wire.take() == ["- PING"]
    assert not asked.called
    client.clock.advance(30)
    assert "silent" in str(_error(asked))
    assert client.wire.aborted


def test_silence_instead_of_a_greeting() -> None:
    """Who does not greet is given up, and the time that is told is the time it took."""
    client = Client()
    client.clock.advance(30.0)
    error = _error(client.connection.greeting)
    assert isinstance(error, errors.Unavailable) and "30 s" in str(error)
    assert client.wire.aborted


def test_growth() -> None:
    """Words, fields and lines of a later version are skipped."""
    client = Client()
    client.hear(GREETING + "none later=1")
    listener = Listener()
    call = client.connection.query(["s"], "SELECT 1", listener=listener)
    client.hear(
        "* NOTE something new", "1 HINT s whatever", 'other COLS x []', 'nobody END rows=1',
        "1 DONE s 0", "1 END later=x complete=yes ms=1 rows=0 failed=0 segments=1",
    )  # fmt: skip
    found: list[Summary] = []
    call.done.addCallback(found.append)
    assert found == [Summary(1, 0, 0, 1, True)]
    assert listener.told == [("done", "s", 0)]


def test_nonsense_from_a_server() -> None:
    """A line that cannot be understood fails its call, and only that."""
    client = Client()
    client.hear(GREETING + "none")
    call = client.connection.query(["s"], "SELECT 1", listener=Listener())
    other = client.connection.command("PING")
    client.wire.take()
    assert client.hear("1 ROWS s [[") == ["- CANCEL 1"]
    assert isinstance(_error(call.done), errors.ProtocolError)
    client.hear("1 ERR cancelled x", "2 OK")
    assert other.called


def test_lost_in_the_middle_of_an_answer() -> None:
    """Half an answer is never taken for a whole one."""
    client = Client()
    client.hear(GREETING + "none")
    call = client.connection.query(["s"], "SELECT 1", listener=Listener())
    client.hear('1 COLS s ["1"]', "1 ROWS s [[1]]", "1 DONE s 1")
    client.connection.dataReceived(b"1 END segments=1 failed=0 rows=1 ms=0 complete=ye")
    client.connection.connectionLost(Failure(ConnectionLost()))
    assert isinstance(_error(call.done), errors.Unavailable)
    assert client.clock.getDelayedCalls() == []


def test_raw() -> None:
    """Undecoded lines are handed over as they are, the loss of the connection as an error."""
    client = Client()
    client.hear(GREETING + "none")
    heard: list[tuple[bytes, bytes]] = []
    client.connection.raw(b"QUERY s SELECT 1", lambda word, rest: heard.append((word, rest)))
    assert client.hear("1 DONE s 1", "1 END rows=1") == ["1 QUERY s SELECT 1"]
    client.connection.raw(b"QUERY s SELECT 1", lambda word, rest: heard.append((word, rest)))
    client.connection.connectionLost(Failure(ConnectionLost()))
    assert heard[:2] == [(b"DONE", b"s 1"), (b"END", b"rows=1")]
    assert heard[2][0] == b"ERR" and heard[2][1].startswith(b"unavailable ")
