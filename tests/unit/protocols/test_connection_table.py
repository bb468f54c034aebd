"""HTTP connections make room for each other."""

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.http.request import write_response
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Asked(Resource):
    """Keeps its requests."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def handler(self, request):
        return self.requests.append


def site(most):
    """A site with a table of its own, its resource and its connections' maker."""
    clock = Clock()
    asked = Asked()
    table = ConnectionTable(clock.seconds, most)
    made = Site(asked, clock, 100, connections=table)

    def connect():
        channel, transport = made.buildProtocol(None), StringTransport()
        transport.abortConnection = lambda: setattr(transport, "aborted", True)
        transport.aborted = False
        channel.makeConnection(transport)
        return channel, transport

    return table, asked, connect


def closed(*connections):
    """Which of these were closed."""
    return [transport.aborted for _, transport in connections]


def test_who_never_asked_goes_first_and_then_who_is_idle_longest():
    """A connection with a request under way stays; then it is the new one that goes."""
    table, asked, connect = site(3)
    served, silent, busy = connect(), connect(), connect()
    served[0].dataReceived(ASK)
    write_response(asked.requests[0], 200, b"text/plain", b"x")
    busy[0].dataReceived(ASK)
    first = connect()
    assert closed(served, silent, busy, first) == [False, True, False, False]
    first[0].dataReceived(ASK)
    second = connect()
    assert closed(served, busy, first, second) == [True, False, False, False]
    second[0].dataReceived(ASK)
    third = connect()
    assert closed(busy, first, second, third) == [False, False, False, True]
    assert len(table) == 3


def test_a_connection_that_was_served_is_idle_again():
    """And one that ended takes no room."""
    table, asked, connect = site(2)
    first, second = connect(), connect()
    for channel, _ in (second, first):
        channel.dataReceived(ASK)
        write_response(asked.requests[-1], 200, b"text/plain", b"x")
    third = connect()
    assert closed(first, second, third) == [False, True, False]
    first[0].connectionLost(Failure(ConnectionError()))
    fourth = connect()
    assert closed(third, fourth) == [False, False]
    assert len(table) == 2
