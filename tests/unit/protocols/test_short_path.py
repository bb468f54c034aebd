"""The short path of HTTP gives the answer that Twisted's parser and writer give.

Two connections get the same bytes in the same pieces. One is as it is; the other one recognises
no request at one look, and writes through Twisted alone. Whatever they send, serve and keep is
compared.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import Clock, StringTransport
from twisted.python.failure import Failure
from twisted.web import server as twisted_server

from trough import errors
from trough.access.gate import Gate
from trough.protocols.http.channel import Channel
from trough.protocols.http.request import Request, write_response
from trough.protocols.http.resource import Resource
from trough.protocols.http.short_path import whole_request
from trough.protocols.http.site import Site

MOST = 64

POST = b"POST /?segment=1 HTTP/1.1\r\nHost: w1\r\nContent-Length: 4\r\n\r\n2222"


class Echo(Resource):
    """Answers what it was asked, in the way that the body names."""

    error_as_json = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[tuple[Any, ...]] = []
        self.kept: list[Request] = []

    def handler(self, request: Request) -> Any:
        headers = sorted((name, list(values)) for name, values in _headers(request))
        self.seen.append(
            (request.method, request.uri, request.path, request.args, headers, request.body())
        )
        if request.method != b"POST":
            raise errors.MethodNotAllowed("no", "POST")
        return self.answer

    def fail(self, request: Request, failure: Failure) -> None:
        self.seen.append((type(failure.value), request.body()))
        super().fail(request, failure)

    def answer(self, request: Request) -> None:
        body = request.body()
        if body.startswith(b"late"):
            self.kept.append(request)
        elif body.startswith(b"stream"):
            request.setHeader(b"content-type", b"text/plain")
            request.write(b"a")
            request.write(b"b")
            request.finish()
        elif body.startswith(b"fail"):
            raise errors.NoSuchSegment("not here", "elsewhere")
        elif body.startswith(b"none"):
            write_response(request, 204, b"", b"")
        else:
            write_response(request, 200, b"application/json", b"[" + body + b"]")


def _headers(request: Request) -> Any:
    return request.requestHeaders.getAllRawHeaders()


class Socket(StringTransport):
    """A transport that takes what it has room for at once, and keeps the rest in order."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.held = b""

    def writeSomeData(self, data: bytes) -> int:
        assert not self.held, "past what was to leave before"
        taken = data[: self.room]
        self.room -= len(taken)
        super().write(taken)
        return len(taken)

    def write(self, data: bytes) -> None:
        self.held += data
        taken, self.held = self.held[: self.room], self.held[self.room :]
        self.room -= len(taken)
        super().write(taken)

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def sent(self) -> bytes:
        return re.sub(rb"Date: [^\r]*", b"Date: now", self.value() + self.held)


class LongChannel(Channel):
    """Recognises no request at one look."""

    @property  # type: ignore[override]
    def _between(self) -> bool:
        return False

    @_between.setter
    def _between(self, value: bool) -> None:
        pass


class Peer:
    """One connection, and what can be seen of it."""

    def __init__(self, short: bool, room: int, token: str) -> None:
        self.clock = Clock()
        self.resource = Echo(Gate(token)) if token else Echo()
        self.site = Site(self.resource, self.clock, MOST)
        if not short:
            self.site.protocol = LongChannel  # type: ignore[assignment]
            plain = {"write": twisted_server.Request.write, "max_body": MOST}
            self.site.requestFactory = type("Plain", (Request,), plain)
        self.transport = Socket(room)
        self.channel: Any = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def answer_late(self) -> None:
        while self.resource.kept:
            request = self.resource.kept.pop(0)
            if not request._disconnected:
                write_response(request, 200, b"text/plain", b"at last")

    def state(self) -> tuple[Any, ...]:
        return (
            self.transport.sent(),
            self.transport.disconnecting,
            self.transport.disconnected,
            self.resource.seen,
            len(self.resource.kept),
            len(self.site._under_way),
            self.site._totals.status(),
            len(self.site.connections._strangers),
            len(self.site.connections._idle),
        )


HEADERS = [
    *(b"Host: w1", b"Host:w1", b"User-Agent: curl/8", b"Accept: */*", b"X-A:\t b \t", b"X-B:"),
    *(b"Connection: keep-alive", b"Connection: close", b"connection: Keep-Alive, TE"),
    *(b"Expect: 100-continue", b"Cookie: a=b; c", b"Transfer-Encoding: chunked"),
    *(b"Authorization: Bearer right", b"Authorization: Bearer wrong", b"Content-Length: 4"),
    *(b"Content-Type: application/x-www-form-urlencoded", b" folded", b"Broken", b"Bro ken: x"),
    *(b"Origin: http://evil.example", b"X-C: \x00", b"X-D: a\nb", b"Content-Length: +4"),
]
BODIES = [b"1", b"2222", b"late", b"stream", b"fail", b"none", b"", b"x" * MOST, b"x" * (MOST + 1)]
LINES = [
    *([b"POST /?segment=1 HTTP/1.1"] * 4),
    *(b"POST /?segment=%C3%BC&a=1&a=2&b HTTP/1.1", b"POST / HTTP/1.1", b"POST /?s=1 HTTP/1.0"),
    *(b"GET /?segment=1 HTTP/1.1", b"HEAD /?segment=1 HTTP/1.1", b"post /?segment=1 HTTP/1.1"),
    *(b"POST http://w1/?segment=1 HTTP/1.1", b"POST /a/b?segment=1 HTTP/1.1", b"POST  /? HTTP/1.1"),
]


#: What follows a request in the same piece.
BETWEEN = [
    *([b""] * 6),
    *(b"\r\n", b"POST /?segment=2 HTTP/1.1\r\nHost: w2\r\n", POST[:-1], POST, b"\r"),
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request; most of them are as clients send them."""
    body = draw(st.sampled_from(BODIES))
    line = draw(st.sampled_from(LINES))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    if draw(st.integers(0, 9)):
        headers.insert(draw(st.integers(0, len(headers))), b"Content-Length: %d" % len(body))
    return b"\r\n".join([line, *headers, b"", body])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Pieces in which bytes arrive: requests, what may stand between them, or anything."""
    parts = draw(st.lists(requests(), min_size=1, max_size=4))
    if draw(st.integers(0, 3)):
        between = draw(st.lists(st.sampled_from(BETWEEN), min_size=len(parts)))
        return [part + more for part, more in zip(parts, between, strict=False)]
    stream = bytearray(b"".join(parts))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(stream) - 1))
        stream[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\r\n", b" ", b"\n", b"\x00", b"9", b"POST"])
        )
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    edges = [0, *cuts, len(stream)]
    return [bytes(stream[a:b]) for a, b in itertools.pairwise(edges) if a < b]


@given(
    pieces=streams(),
    room=st.sampled_from([1 << 20, 1 << 20, 0, 100, 400]),
    token=st.sampled_from(["", "right"]),
    late=st.lists(st.booleans(), min_size=8, max_size=8),
    ends=st.booleans(),
    patient=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_stream_gets_the_same_answer(
    pieces: list[bytes], room: int, token: str, late: list[bool], ends: bool, patient: bool
) -> None:
    """However it is cut, whatever of it can be sent at once, and whenever it is answered."""
    short, long = peers = [Peer(True, room, token), Peer(False, room, token)]
    for piece, answered in zip(pieces, late, strict=False):
        for peer in peers:
            if not (peer.transport.disconnecting or peer.transport.disconnected):
                peer.channel.dataReceived(piece)
            if answered:
                peer.answer_late()
            peer.clock.advance(1)
        assert short.state() == long.state()
    if ends:
        for peer in peers:
            peer.channel.readConnectionLost()
            peer.clock.pump([1] * 3)
        assert short.state() == long.state()
    for peer in peers:
        if not patient:
            peer.answer_late()
    assert short.state() == long.state()
    for seconds in (59, 2, 539, 2, 600):
        for peer in peers:
            peer.clock.advance(seconds)
        assert short.state() == long.state()
    for peer in peers:
        peer.channel.connectionLost(Failure(ConnectionDone()))
        assert not peer.clock.getDelayedCalls() and not peer.site._under_way
    assert short.state() == long.state()


def test_what_nearly_all_clients_send_is_recognised() -> None:
    """Else the short path would be right, and of no use."""
    whole = whole_request(POST, MOST)
    assert whole is not None
    assert whole.target == b"/?segment=1" and whole.body == b"2222"
    assert whole.headers == [(b"Host", b"w1"), (b"Content-Length", b"4")]


@pytest.mark.parametrize(
    "data",
    [
        *(POST[:-1], POST + b"x", POST + POST, POST.replace(b"POST", b"GET"), b"", b"\r\n" + POST),
        *(
            POST.replace(b"1.1", b"1.0"),
            POST.replace(b"Host", b"Expect"),
            POST.replace(b"4", b"65"),
        ),
        POST.replace(b"Host: w1", b"Transfer-Encoding: chunked"),
        POST.replace(b"Host: w1", b"Connection: close"),
        POST.replace(b"Host: w1", b"Content-Length: 4"),
        POST.replace(b"w1", b"w" * 9000),
        POST.replace(b"w1", b"w\x001"),
    ],
)
def test_the_parser_gets_what_is_otherwise(data: bytes) -> None:
    """Half a request, more than one, and whatever changes how the connection goes on."""
    assert whole_request(data, MOST) is None


def test_a_stranger_is_refused_on_the_short_path() -> None:
    """A request without the token is not served, and one with it is, on one connection."""
    peer = Peer(True, 1 << 20, "right")
    peer.channel.dataReceived(POST)
    assert b" 401 " in peer.transport.sent()
    # Of what a stranger sends nothing is kept.
    assert peer.resource.seen == [(errors.Unauthorized, b"")]
    peer.transport.clear()
    peer.channel.dataReceived(POST.replace(b"Host: w1", b"Authorization: Bearer right"))
    assert peer.transport.sent().endswith(b"[2222]") and len(peer.resource.seen) == 2


LATE = POST.replace(b"2222", b"late")


def test_a_request_may_take_longer_than_an_idle_connection() -> None:
    """The time of silence counts from the answer on, and from the last request."""
    peer = Peer(True, 1 << 20, "")
    peer.channel.dataReceived(LATE)
    peer.clock.advance(10 * peer.site.timeOut)
    assert not peer.transport.disconnecting
    peer.answer_late()
    assert peer.transport.sent().endswith(b"at last")
    peer.clock.advance(peer.site.timeOut - 1)
    peer.channel.dataReceived(POST)
    peer.clock.advance(peer.site.timeOut - 1)
    assert not peer.transport.disconnecting
    peer.clock.advance(1)
    assert peer.transport.disconnecting


def test_what_comes_before_the_answer_waits_for_it() -> None:
    """Requests are answered in their order, and one at a time."""
    peer = Peer(True, 1 << 20, "")
    peer.channel.dataReceived(LATE)
    peer.channel.dataReceived(POST)
    assert not peer.transport.sent() and len(peer.resource.seen) == 1
    peer.answer_late()
    first, second = peer.transport.sent().split(b"HTTP/1.1 200 OK")[1:]
    assert first.endswith(b"at last") and second.endswith(b"[2222]")


def test_an_answer_does_not_pass_what_the_transport_holds() -> None:
    """An interim answer that is not out yet leaves first; the transport checks it."""
    peer = Peer(True, 0, "")
    peer.channel.dataReceived(LATE)
    peer.channel.readConnectionLost()
    peer.clock.advance(2)
    peer.answer_late()
    assert peer.transport.held.startswith(b"HTTP/1.1 100 Continue")
    assert peer.transport.held.endswith(b"at last")
