"""Connections of the HTTP ports, without a network: who does not take an answer."""

from twisted.internet.defer import Deferred
from twisted.internet.testing import Clock, StringTransport

from trough.access.gate import Gate
from trough.protocols.http.channel import BODY_SECONDS, HEADER_SECONDS, LOOKS, UNSURE
from trough.protocols.http.request import write_response
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import CANCEL_SECONDS, Site

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n%s\r\n"


class Answering(Resource):
    """Answers each request at once."""

    def handler(self, request):
        return lambda request: write_response(request, 200, b"text/plain", b"here")


class AnsweringLate(Resource):
    """Answers when told to."""

    def handler(self, request):
        return self.keep

    def keep(self, request):
        self.request = request

    def answer(self):
        write_response(self.request, 200, b"text/plain", b"here")


class Peer:
    """A client that has taken nothing of what was sent to it."""

    def __init__(self, resource=None, max_body=1000):
        self.clock = Clock()
        self.transport = StringTransport()
        self.site = Site(resource or Answering(), self.clock, max_body)
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)


def test_a_peer_that_never_takes_the_last_answer_is_thrown_out():
    """After which the connection was to end; it would be kept for ever."""
    peer = Peer()
    peer.channel.dataReceived(REQUEST % b"Connection: close\r\n")
    assert peer.transport.value().endswith(b"here")
    assert peer.transport.disconnecting
    peer.clock.advance(peer.site.timeOut)
    assert peer.transport.disconnected
    assert not peer.clock.getDelayedCalls()


def test_a_peer_that_ends_his_side_has_time_to_take_the_last_answer():
    """He has shown that he is there by asking for the connection's end."""
    peer = Peer()
    peer.channel.dataReceived(REQUEST % b"Connection: close\r\n")
    peer.channel.readConnectionLost()
    peer.clock.advance(UNSURE)
    assert not peer.transport.disconnected


def test_a_peer_that_ends_his_side_is_answered_however_long_that_takes():
    """Until then he is told every now and then that something will come; afterwards there is
    nothing that he could ask."""
    resource = AnsweringLate()
    peer = Peer(resource)
    peer.channel.dataReceived(REQUEST % b"")
    peer.channel.readConnectionLost()
    peer.clock.pump([LOOKS] * 9)
    assert peer.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n" * 9
    resource.answer()
    assert peer.transport.value().count(b"100 Continue") == 9
    assert peer.transport.value().endswith(b"here")
    assert peer.transport.disconnecting


def test_a_peer_of_http_1_0_that_ends_his_side_is_answered_soon_or_not():
    """It has no interim answers, by which could be found out whether he is there."""
    resource = AnsweringLate()
    peer = Peer(resource)
    peer.channel.dataReceived(b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
    peer.channel.readConnectionLost()
    assert not peer.transport.disconnecting
    peer.clock.advance(UNSURE)
    assert not peer.transport.value()
    assert peer.transport.disconnecting


class Waiting(Resource):
    """Waits for ever, in a coroutine."""

    error_as_json = False

    def handler(self, request):
        return lambda request: self.run(request, self._wait())

    async def _wait(self):
        await Deferred()


def test_a_shutdown_cancels_what_is_under_way_and_says_so():
    """503 with the code, on a connection that is not reset."""
    peer = Peer(Waiting())
    peer.channel.dataReceived(REQUEST % b"")
    draining = Deferred.fromCoroutine(peer.site.drain(10))
    peer.clock.advance(9)
    assert peer.transport.value() == b""
    peer.clock.advance(1)
    assert draining.called
    answer = peer.transport.value()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"X-Trough-Error: cancelled" in answer
    assert not peer.transport.disconnected


def test_a_shutdown_resets_what_does_not_end():
    """Nothing can be answered for it: the process ends."""
    peer = Peer(AnsweringLate())
    peer.channel.dataReceived(REQUEST % b"")
    draining = Deferred.fromCoroutine(peer.site.drain(10))
    peer.clock.advance(10)
    assert not peer.transport.disconnected
    peer.clock.advance(CANCEL_SECONDS)
    assert draining.called and peer.transport.disconnected


def test_headers_that_trickle_end_the_connection():
    """Each byte ends the silence, and none of them the request."""
    peer = Peer()
    peer.channel.dataReceived(b"POST / HTTP/1.1\r\nX: ")
    for _ in range(HEADER_SECONDS // 20):
        assert not peer.transport.disconnected
        peer.clock.advance(20)
        peer.channel.dataReceived(b"x")
    assert peer.transport.disconnected


def test_a_body_that_trickles_ends_the_connection():
    """It has longer than the headers."""
    peer = Peer()
    peer.channel.dataReceived(b"POST / HTTP/1.1\r\n")
    peer.channel.dataReceived(b"Content-Length: 900\r\n\r\n")
    for _ in range(BODY_SECONDS // 20):
        assert not peer.transport.disconnected
        peer.clock.advance(20)
        peer.channel.dataReceived(b"x")
    assert peer.transport.disconnected


def test_a_request_in_time_leaves_no_clock_behind():
    """In however many pieces it came; the connection goes on."""
    peer = Peer()
    for byte in (REQUEST % b"") * 2:
        peer.channel.dataReceived(bytes([byte]))
    assert peer.transport.value().count(b"here") == 2
    peer.clock.advance(HEADER_SECONDS + 1)
    assert not peer.transport.disconnected


def test_a_stranger_takes_no_memory():
    """What it sends is not kept; it is told why."""
    peer = Peer(Answering(Gate("a-secret-token")))
    peer.channel.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + b"x" * 800)
    (request,) = peer.channel.requests
    assert request.body() == b""
    peer.channel.dataReceived(b"x" * 100)
    assert peer.transport.value().startswith(b"HTTP/1.1 401 ")


class Echoing(Resource):
    """Answers with the body, at once."""

    def handler(self, request):
        return lambda request: write_response(request, 200, b"text/plain", request.body() + b";")


def answers(transport):
    """What was answered, in order; no header of an answer has this."""
    head, *rest = transport.value().split(b"HTTP/1.1 200 OK\r\n")
    assert head == b""
    return [answer.partition(b"\r\n\r\n")[2] for answer in rest]


def posted(body):
    """A request that is pipelined."""
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_many_requests_at_once_take_turns_with_other_connections():
    """One read of the socket may hold a thousand; they are answered in order, some a turn."""
    peer = Peer(Echoing())
    bodies = [b"%d" % number * (number % 7) for number in range(1000)]
    peer.channel.dataReceived(b"".join(map(posted, bodies)))
    assert 0 < len(answers(peer.transport)) < 150
    assert peer.transport.producerState == "paused"
    peer.clock.advance(0)
    assert answers(peer.transport) == [body + b";" for body in bodies]
    assert peer.transport.producerState == "producing"


def test_a_body_in_tiny_chunks_takes_turns_with_other_connections():
    """Each chunk costs the parser as much as a large one."""
    peer = Peer(Echoing(), 10_000)
    peer.channel.dataReceived(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.channel.dataReceived(b"1\r\nx\r\n" * 5000)
    (request,) = peer.channel.requests
    assert 0 < len(request.body()) < 1000
    assert peer.transport.producerState == "paused"
    peer.channel.dataReceived(b"0\r\n\r\n" + posted(b"next"))
    peer.clock.advance(0)
    assert answers(peer.transport) == [b"x" * 5000 + b";", b"next;"]


def test_what_waits_for_a_request_keeps_its_order():
    """Requests behind one that takes long, more of them than one turn takes."""
    for first_part in (1, 50, 4096, 5000, 9000):
        late = AnsweringLate()
        peer = Peer(late)
        stream = b"".join(posted(b"%d" % number * 40) for number in range(200))
        peer.channel.dataReceived(stream[:first_part])
        peer.channel.dataReceived(stream[first_part:])
        for number in range(200):
            peer.clock.advance(0)
            assert late.request.body() == b"%d" % number * 40
            late.answer()
        assert len(answers(peer.transport)) == 200


def test_a_peer_that_ends_his_side_has_all_requests_answered():
    """Also those that wait for the next turn."""
    peer = Peer(Echoing())
    peer.channel.dataReceived(b"".join(posted(b"%d" % number) for number in range(300)))
    peer.channel.readConnectionLost()
    peer.clock.advance(0)
    assert answers(peer.transport) == [b"%d;" % number for number in range(300)]
    assert peer.transport.disconnecting
