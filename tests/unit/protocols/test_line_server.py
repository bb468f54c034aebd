"""Connections of the line protocol, without a network: how much one takes of a turn."""

from __future__ import annotations

import re

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from trough.protocols.line.server import A_TURN, LineServerFactory, ServerLimits


def test_many_requests_at_once_take_turns_with_other_connections() -> None:
    """One read of the socket may hold thousands; they are answered in order, some a turn."""
    clock, transport = Clock(), StringTransport()
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
