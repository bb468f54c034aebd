"""The connections that servers keep to each other: one for each address, as long as it lasts."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor
from waiting import until

from trough import errors
from trough.cluster_client.connection_pool import ConnectionPool
from trough.protocols.line.common_verbs import common_verbs
from trough.protocols.line.server import LineServerFactory


def serving(port: int = 0):
    """A server of the line protocol, on a port of the loopback."""
    factory = LineServerFactory("worker", "w01", common_verbs(), reactor)
    return factory, reactor.listenTCP(port, factory, interface="127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_a_connection_that_ended_is_opened_again():
    """Callers share one connection. After a restart of the server they get a new one, and an
    error while there is no server."""
    factory, listening = serving()
    port = listening.getHost().port
    address = f"127.0.0.1:{port}"
    pool = ConnectionPool(reactor)
    try:
        first = await pool.to(address)
        assert await pool.to(address) is first
        await listening.stopListening()
        await factory.drain(0)
        await until(lambda: pool._known(address) is None, "the end of the connection")
        with pytest.raises(errors.Unavailable):
            await pool.to(address)
        factory, listening = serving(port)

        async def again() -> object:
            try:
                return await pool.to(address)
            except errors.Unavailable:  # for RETRY_SECONDS nobody tries
                return None

        second = await until(again, "another connection")
        assert second is not first
        assert (await second.command("PING")).lines == []
    finally:
        await pool.close()
        await listening.stopListening()
        await factory.drain(0)
