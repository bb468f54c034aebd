"""Kept connections to servers of the line protocol, one to each address.

The pool opens a connection at its first use, shares it between all callers, and opens it again
after a loss. For a moment it does not retry an address that did not answer. So a thousand queries
for a dead worker's segments cost one attempt. The pool does not know the requests, and sends no
keepalives: the next user of a lost connection detects the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from trough import errors
from trough.access.tokens import Credential
from trough.model import line_host_and_port
from trough.protocols.line.client import LineConnection, connect
from trough.protocols.line.framing import ReplyParser
from trough.tls import TlsFiles
from trough.tls.client import ClientTls
from trough.util.waiting import Promised

#: Seconds within which a server has to take a connection.
CONNECT_SECONDS = 5.0

#: Seconds for which an address that did not answer is taken not to.
RETRY_SECONDS = 1.0


class ConnectionPool:
    """Connections by address.

    :param credential: to prove to servers that ask for it
    :param tls: whom to trust; None: the CAs of the system
    :param new_parser: makes the parser of what a server sends
    """

    def __init__(
        self,
        reactor: Any,
        credential: Credential | None = None,
        tls: ClientTls | None = None,
        *,
        new_parser: Callable[[], ReplyParser] = ReplyParser,
    ) -> None:
        self._reactor = reactor
        self._credential = credential
        self._tls = tls or ClientTls(TlsFiles(), reactor)
        self._new_parser = new_parser
        self._open: dict[str, LineConnection] = {}
        self._opening: dict[str, _Opening] = {}
        self._failed: dict[str, tuple[float, errors.TroughError]] = {}
        self._closed = False
        #: Addresses that somebody asked for, in order; a dictionary for the order.
        self._used: dict[str, None] = {}

    async def to(self, address: str) -> LineConnection:
        """The connection to ``host:port`` or ``tls://host:port``, ready for requests.

        :raises trough.errors.Unavailable: no server answers there
        :raises trough.errors.Unauthorized: the token is missing or wrong
        """
        return self._known(address) or await self._opened(address).ready.wait()

    async def for_queries(self, address: str) -> LineConnection:
        """As :meth:`to`, for queries alone.

        Without a credential the server has nothing to prove. So queries do not wait for its
        greeting, which saves a round trip.
        """
        connection = self._known(address)
        if connection is not None:
            return connection
        opening = self._opened(address)
        return await (opening.ready if self._credential else opening.connected).wait()

    def begin(self, address: str) -> None:
        """Begin to connect, for a caller that may come: nobody waits, and a failure is no error."""
        if not self._closed and address not in self._open:
            self._opened(address)

    @property
    def used(self) -> list[str]:
        """The addresses that somebody asked for, and that there is a connection to."""
        return [address for address in self._used if address in self._open]

    def _known(self, address: str) -> LineConnection | None:
        """The open connection, if there is one.

        :raises trough.errors.TroughError: there will be none for now
        """
        if self._closed:
            raise errors.Cancelled("this client was closed")
        self._used[address] = None
        connection = self._open.get(address)
        if connection is None:
            failed_at, error = self._failed.get(address, (0.0, None))
            if error is not None and self._reactor.seconds() - failed_at < RETRY_SECONDS:
                raise error
        return connection

    async def close(self) -> None:
        """Close all connections; what is asked on them fails. Idempotent."""
        self._closed = True
        for connection in list(self._open.values()):
            await connection.close()

    def _opened(self, address: str) -> _Opening:
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = _Opening()
            connecting = Deferred.fromCoroutine(self._connect(address, opening))
            connecting.addBoth(opening.end)
        return opening

    async def _connect(self, address: str, opening: _Opening) -> LineConnection:
        try:
            host, port, encrypted = line_host_and_port(address)
            endpoint = self._tls.endpoint(self._reactor, host, port, CONNECT_SECONDS, encrypted)
            connection = await connect(
                endpoint,
                self._reactor,
                self._credential,
                address,
                opened=opening.connected.fire,
                new_parser=self._new_parser,
            )
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


class _Opening:
    """A connection that is being made.

    :ivar connected: it can take queries that need no proof
    :ivar ready: the server has greeted, and has proved its token
    """

    def __init__(self) -> None:
        self.connected: Promised[LineConnection] = Promised()
        self.ready: Promised[LineConnection] = Promised()

    def end(self, result: Any) -> None:
        """Report the connection, or why there is none."""
        self.connected.fire(result)
        self.ready.fire(result)


def _naming(error: errors.TroughError, address: str) -> errors.TroughError:
    """The same error, saying which server it is about."""
    return type(error)(f"{address}: {error}")
