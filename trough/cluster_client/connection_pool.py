"""Kept connections to servers of the line protocol, one to each address.

The pool opens a connection at its first use, shares it between all callers, and opens it again
after a loss. For a moment it does not retry an address that did not answer. So a thousand queries
for a dead worker's segments cost one attempt. The pool does not know the requests, and sends no
keepalives: the next user of a lost connection detects the loss.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from trough import errors
from trough.access.tokens import Credential
from trough.model import line_host_and_port
from trough.protocols.line.client import LineConnection, connect
from trough.tls import TlsFiles
from trough.tls.client import ClientTls

#: Seconds within which a server has to take a connection.
CONNECT_SECONDS = 5.0

#: Seconds for which an address that did not answer is taken not to.
RETRY_SECONDS = 1.0


class ConnectionPool:
    """Connections by address.

    :param credential: to prove to servers that ask for it
    :param tls: whom to trust; None: the CAs of the system
    """

    def __init__(
        self, reactor: Any, credential: Credential | None = None, tls: ClientTls | None = None
    ) -> None:
        self._reactor = reactor
        self._credential = credential
        self._tls = tls or ClientTls(TlsFiles(), reactor)
        self._open: dict[str, LineConnection] = {}
        self._opening: dict[str, list[Deferred[LineConnection]]] = {}
        self._failed: dict[str, tuple[float, errors.TroughError]] = {}
        self._closed = False

    async def to(self, address: str) -> LineConnection:
        """The connection to ``host:port`` or ``tls://host:port``, ready for requests.

        :raises trough.errors.Unavailable: no server answers there
        :raises trough.errors.Unauthorized: the token is missing or wrong
        """
        if self._closed:
            raise errors.Cancelled("this client was closed")
        connection = self._open.get(address)
        if connection is not None:
            return connection
        failed_at, error = self._failed.get(address, (0.0, None))
        if error is not None and self._reactor.seconds() - failed_at < RETRY_SECONDS:
            raise error
        return await self._opened(address)

    async def close(self) -> None:
        """Close all connections; what is asked on them fails. Idempotent."""
        self._closed = True
        for connection in list(self._open.values()):
            await connection.close()

    def _opened(self, address: str) -> Deferred[LineConnection]:
        waiting: Deferred[LineConnection] = Deferred()
        waiters = self._opening.get(address)
        if waiters is not None:
            waiters.append(waiting)
            return waiting
        waiters = self._opening[address] = [waiting]
        opening = Deferred.fromCoroutine(self._connect(address))
        # One caller may stop waiting; the connection is for all.
        opening.addBoth(self._tell, waiters)
        return waiting

    async def _connect(self, address: str) -> LineConnection:
        try:
            host, port, encrypted = line_host_and_port(address)
            endpoint = self._tls.endpoint(self._reactor, host, port, CONNECT_SECONDS, encrypted)
            connection = await connect(endpoint, self._reactor, self._credential, address)
        except ValueError as error:
            raise errors.Unavailable(str(error)) from error
        except errors.TroughError as error:
            self._failed[address] = (self._reactor.seconds(), _naming(error, address))
            raise self._failed[address][1] from error
        finally:
            del self._opening[address]
        self._failed.pop(address, None)
        if self._closed:
            connection.close()
            raise errors.Cancelled("this client was closed")
        self._open[address] = connection
        connection.closed.addCallback(lambda _: self._open.pop(address, None))
        return connection

    @staticmethod
    def _tell(result: Any, waiters: list[Deferred[LineConnection]]) -> None:
        for waiting in waiters:
            waiting.callback(result)


def _naming(error: errors.TroughError, address: str) -> errors.TroughError:
    """The same error, saying which server it is about."""
    return type(error)(f"{address}: {error}")
