"""Connections of one address."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from trough.protocols.address_limit import AddressLimit
from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site
from trough.protocols.line.server import LineServerFactory


class Wire(StringTransport):
    """A transport from an address."""

    def __init__(self, host: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 4000))
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def test_so_many_of_one_address_and_no_more() -> None:
    """Another address is another matter, and who leaves makes room."""
    limit = AddressLimit(2, Clock().seconds)
    assert [limit.joined(f"10.0.0.1:{port}") for port in range(3)] == [True, True, False]
    assert limit.joined("10.0.0.2:1")
    limit.left("10.0.0.1:0")
    assert limit.joined("10.0.0.1:9")
    assert [limit.joined(f"2001:db8::{port}:80") for port in range(3)] == [True, True, False]
    assert all(AddressLimit(0, Clock().seconds).joined("10.0.0.1:1") for _ in range(9))


def test_it_is_logged_once_a_minute() -> None:
    """However many are refused."""
    clock, said = Clock(), []

    def observe(event: dict[str, Any]) -> None:
        said.append(event["refused"])

    limit = AddressLimit(1, clock.seconds)
    globalLogPublisher.addObserver(observe)
    try:
        for _ in range(10):
            limit.joined("10.0.0.1:1")
        clock.advance(60)
        limit.joined("10.0.0.1:1")
    finally:
        globalLogPublisher.removeObserver(observe)
    assert said == [1, 10]


def connect(maker: Any, host: str = "10.0.0.1") -> tuple[Any, Wire]:
    """A connection from an address."""
    made, wire = maker.buildProtocol(None), Wire(host)
    made.makeConnection(wire)
    return made, wire


def test_a_line_port_refuses_the_next_one() -> None:
    """One that was refused takes no place."""
    clock = Clock()
    limit = AddressLimit(2, clock.seconds)
    port = LineServerFactory("worker", "w", {}, clock, addresses=limit)
    first, second, third = connect(port), connect(port), connect(port)
    assert [wire.aborted for _, wire in (first, second, third)] == [False, False, True]
    assert not connect(port, "10.0.0.2")[1].aborted
    third[0].connectionLost(Failure(ConnectionDone()))
    assert connect(port)[1].aborted
    first[0].connectionLost(Failure(ConnectionDone()))
    assert not connect(port)[1].aborted


class Waiting(Resource):
    """Answers nothing."""

    def handler(self, request: Any) -> Any:
        return lambda request: None


def test_over_http_it_replaces_an_idle_one_of_the_same_address() -> None:
    """So whoever holds many connections keeps nobody out; where none is idle it is refused."""
    clock = Clock()
    table = ConnectionTable(clock.seconds, 100, each=2)
    port = Site(Waiting(), clock, 100, connections=table)
    other, first, second = connect(port, "10.0.0.2"), connect(port), connect(port)
    third = connect(port)
    assert [wire.aborted for _, wire in (other, first, second, third)] == [
        False,
        True,
        False,
        False,
    ]
    for busy, _ in (second, third):
        busy.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    fourth = connect(port)
    assert [wire.aborted for _, wire in (second, third, fourth)] == [False, False, True]
    assert len(table) == 3
