"""Calls between Trough processes."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.web.server import NOT_DONE_YET
from waiting import until
from web_servers import WebServer

from trough import errors
from trough.protocols.http.manager_client import ManagerClient


@pytest_twisted.ensureDeferred
async def test_a_worker_whose_row_names_no_manager_is_refused_with_the_reason():
    """Such are the rows of an original installation's workers."""
    with pytest.raises(errors.Unavailable, match="original installation"):
        await ManagerClient(reactor).call("POST", "provision", {"segment": "s"})


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_is_no_call_in_vain():
    """Whoever gave the order is gone: no other worker is to be tried with it."""
    peers = ManagerClient(reactor)
    async with WebServer(reactor, lambda *asked: (200, NOT_DONE_YET)) as server:
        url = f"{server.url}provision"
        calling = Deferred.fromCoroutine(peers.call("POST", url, {"a": "b"}))
        await until(lambda: server.requests, "the request")
        calling.cancel()
        with pytest.raises(CancelledError):
            await calling
        with pytest.raises(errors.Unavailable, match="no answer"):
            await peers.call("POST", url, {"a": "b"}, seconds=0.1)
    with pytest.raises(errors.Unavailable, match="no answer"):
        await peers.call("POST", url, {"a": "b"})
    await peers.close()


class _Leaving(Protocol):
    """Closes its connection at the first bytes of a request."""

    def dataReceived(self, data):
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_process_that_dies_while_it_is_asked_gives_no_answer():
    """What a killed holder's connection ends with may come before all was sent to it."""
    peers = ManagerClient(reactor)
    listening = reactor.listenTCP(0, Factory.forProtocol(_Leaving), interface="127.0.0.1")
    url = f"http://127.0.0.1:{listening.getHost().port}/promote"
    try:
        with pytest.raises(errors.Unavailable, match="no answer from"):
            await peers.call("POST", url, {"segment": "x" * 50_000_000})
    finally:
        await listening.stopListening()
        await peers.close()
