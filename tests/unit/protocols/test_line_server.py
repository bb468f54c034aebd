"""Connections of the line protocol, without a network: how much one takes of a turn."""

from __future__ import annotations

import re

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from trough.access.gate import Gate
from trough.protocols.line.server import A_TURN, LineServer, LineServerFactory, ServerLimits


class Transport(StringTransport):
    """One that can end its own side, as TCP can."""

    def loseWriteConnection(self) -> None:
        self.loseConnection()


def test_many_requests_at_once_take_turns_with_other_connections() -> None:
    """One read of the socket may hold thousands; they are answered in order, some a turn."""
    clock, transport = Clock(), Transport()
    limits = ServerLimits(unsent=1 << 24)
    factory = LineServerFactory("worker", "w01", {}, clock, limits)
    server = factory.buildProtocol(None)
    server.makeConnection(transport)
    number = 4 * A_TURN + 10

    def answered() -> list[int]:
        return [int(tag) for tag in re.findall(rb"^([0-9]+) OK", transport.value(), re.M)]

    server.dataReceived(b"".join(b"%d PING\n" % tag for tag in range(number)))
    assert len(answered()) == A_TURN
    assert transport.producerState == "paused"
    clock.advance(0)
    assert answered() == list(range(number))
    assert transport.producerState == "producing"
    server.dataReceived(b"x PING\n" * A_TURN + b"y PING\n" * A_TURN)
    transport.loseConnection()
    server.connectionLost()
    assert not clock.getDelayedCalls()


def trickle(server: LineServer, clock: Clock, data: bytes, seconds: float) -> None:
    """Send a byte every twenty seconds for so long."""
    for _ in range(int(seconds / 20)):
        clock.advance(20)
        server.dataReceived(data)


@pytest.mark.parametrize("begin", [b"1 PI", b"1 QUERY {9999}\n"], ids=["line", "literal"])
def test_a_request_that_trickles_ends_the_connection(begin: bytes) -> None:
    """It is never silent, and never whole. One in time leaves nothing behind."""
    clock, transport = Clock(), Transport()
    clock.advance(1000)  # a clock that begins at 0 would hide what is taken for "never"
    server = LineServerFactory("worker", "w01", {}, clock).buildProtocol(None)
    server.makeConnection(transport)
    trickle(server, clock, b"1 PING\n", 2000)
    assert not transport.disconnecting
    server.dataReceived(b"1 PING\n" + begin)
    trickle(server, clock, b"x", 560)
    assert not transport.disconnecting
    trickle(server, clock, b"x", 120)
    assert b"* BYE timeout a request without its end for 600 s" in transport.value()


def test_a_stranger_has_less_time() -> None:
    """As long as half a request may be silent."""
    clock, transport = Clock(), Transport()
    clock.advance(1000)
    gate = Gate("a-secret-token")
    server = LineServerFactory("worker", "w01", {}, clock, gate=gate).buildProtocol(None)
    server.makeConnection(transport)
    server.dataReceived(b"1 AUTH ")
    trickle(server, clock, b"x", 120)
    assert b"* BYE timeout a request without its end for 60 s" in transport.value()
