"""Calls between Trough processes."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import NOT_DONE_YET
from waiting import until
from web_servers import WebServer

from trough import errors
from trough.peers import Peers


@pytest_twisted.ensureDeferred
async def test_a_worker_whose_row_names_no_manager_is_refused_with_the_reason():
    """Such are the rows of an original installation's workers."""
    with pytest.raises(errors.Unavailable, match="original installation"):
        await Peers(reactor).call("POST", "provision", {"segment": "s"})


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_is_no_call_in_vain():
    """Whoever gave the order is gone: no other worker is to be tried with it."""
    peers = Peers(reactor)
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
