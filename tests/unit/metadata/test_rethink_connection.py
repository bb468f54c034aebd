"""One connection to RethinkDB, without a server."""

import pytest
from rethinkdb.ast import expr
from twisted.internet.testing import Clock, StringTransport

from trough.metadata.rethinkdb.connection import ConnectionLost, RethinkConnection
from trough.metadata.url import RethinkAddress


@pytest.fixture
def connection():
    """One that was just made; what it asks before the handshake counts as well."""
    address = RethinkAddress((("h", 28015),), "trough")
    connection = RethinkConnection(address, "h:28015", Clock())
    connection.ready.addErrback(lambda failure: None)
    connection.makeConnection(StringTransport())
    return connection


def test_a_lost_connection_fails_all_even_if_one_gives_up_another(connection):
    """Who hears of the loss may take back what else it had asked; the others hear of it
    all the same, and do not wait for their deadlines."""
    first, second, third = [connection.ask(expr(n), 30.0) for n in range(3)]
    first.addErrback(lambda failure: second.cancel())
    second.addErrback(lambda failure: None)
    connection.connectionLost()
    failure = third.result
    third.addErrback(lambda failure: None)
    assert failure.check(ConnectionLost)
