"""One connection to RethinkDB, for Twisted.

The official driver makes the terms, the handshake, the encoding and the errors. Its own
Twisted transport is left alone: there, a lost connection leaves its queries pending for
ever, and there is one host, the global reactor and no IPv6 address. Promised here: every
query has a deadline, and a connection that is lost, or silent for longer than two pings,
fails everything on it at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from rethinkdb import errors as reql
from rethinkdb import ql2_pb2
from rethinkdb.ast import DB, ReQLDecoder, ReQLEncoder, expr
from rethinkdb.handshake import HandshakeV1_0
from rethinkdb.net import Query, Response
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.metadata import UserRefused
from trough.metadata.url import RethinkAddress
from trough.util.tls_problems import tls_problem
from trough.util.waiting import Waiters

_log = Logger()

_QUERY = ql2_pb2.Query.QueryType
_RESPONSE = ql2_pb2.Response.ResponseType
_HEADER = struct.Struct("<QL")

# Times stay numbers: turning them into datetimes and back takes longer than the query.
_DECODER = ReQLDecoder({"time_format": "raw"})
_ONE = expr(1)

_NEW_USER = "trough-admin rethinkdb-users makes one"

#: A connection is asked for a sign of life as often, and given up after as long again:
#: a server that was stopped or unplugged closes nothing.
PING = 5.0

#: A query that waits for longer than this, while nothing at all comes, has the server
#: asked at once; and one that owes that sign for longer than this counts as silent.
OWED = 0.5
SILENT = 0.5


class ConnectionLost(errors.Unavailable):
    """The connection ended before the answer came."""


class Feed:
    """A running changefeed.

    :ivar ended: fires, always with a failure, when it is over
    """

    def __init__(
        self, connection: RethinkConnection, query: Query, rows: Callable[[list[Any]], None]
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self.rows = rows
        self._connection = connection
        self._query = query

    def stop(self, reason: Exception | None = None) -> None:
        """End it; `rows` is not called any more. Idempotent.

        :param reason: what `ended` fails with
        """
        if not self.ended.called:
            self._connection.stop(self._query)
            self.fail(reason or errors.Cancelled("the changefeed was stopped"))

    def fail(self, error: Exception) -> None:
        """Report the end of the connection."""
        self.rows = lambda rows: None
        if not self.ended.called:
            self.ended.errback(error)


class RethinkConnection(Protocol):
    """One connection: handshake, then queries side by side.

    :ivar ready: fires when queries can be sent, or with why not. Without a password nobody proves
        anything, so queries do not wait for the server's last word of the handshake.
    :ivar gone: why nothing can be asked any more, or None
    """

    transport: ITCPTransport

    def __init__(
        self, address: RethinkAddress, peer: str, reactor: Any, ping: float = PING
    ) -> None:
        self.peer = peer
        self.ready: Deferred[RethinkConnection] = Deferred()
        self._when_lost: Waiters[None] = Waiters()
        self._reactor = reactor
        self._database = address.database
        self._proves = bool(address.password)
        host, _, port = peer.rpartition(":")
        self._handshake = HandshakeV1_0(
            ReQLDecoder(), ReQLEncoder(), host, port, address.user, address.driver_password
        )
        self._buffer = bytearray()
        self._receive = self._receive_handshake
        self._next_token = 1
        self._waiting: dict[int, tuple[Query, Deferred[Any]]] = {}
        self._feeds: dict[int, tuple[Query, Feed]] = {}
        self.gone: Exception | None = None
        self._ping_seconds = ping
        self._pinging = LoopingCall(self._look)
        self._pinging.clock = reactor
        self._pinged = reactor.seconds()
        self._pings = False
        # The oldest query at the last look, if nothing came since.
        self._stuck: int | None = None

    # -- queries ---------------------------------------------------------------

    def ask(
        self, term: Any, seconds: float, options: Mapping[str, Any] | None = None
    ) -> Deferred[Any]:
        """Run a query whose result is one value.

        :param seconds: after which it is given up
        :return: the value; times in it are as RethinkDB writes them. Fails with the
            driver's errors, or with :class:`ConnectionLost`
        """
        if self.gone is not None:
            return defer.fail(self.gone)
        query = self._start(term, options or {})
        deferred: Deferred[Any] = Deferred(lambda _: self.stop(query))
        self._waiting[query.token] = (query, deferred)
        return deferred.addTimeout(
            seconds, self._reactor, lambda result, after: _silent(self.peer, result, after)
        )

    def feed(self, term: Any, rows: Callable[[list[Any]], None]) -> Feed:
        """Start a changefeed.

        :param rows: called with each batch
        """
        query = self._start(term, {})
        feed = Feed(self, query, rows)
        self._feeds[query.token] = (query, feed)
        if self.gone is not None:
            feed.fail(self.gone)
        return feed

    def stop(self, query: Query) -> None:
        """Cancel this query on the server."""
        self._waiting.pop(query.token, None)
        self._feeds.pop(query.token, None)
        self._send(Query(_QUERY.STOP, query.token, None, None))

    def when_lost(self) -> Deferred[None]:
        """Fires when the connection is gone."""
        return self._when_lost.wait() if self.connected else defer.succeed(None)

    @property
    def silent_since(self) -> float | None:
        """When a sign of life was asked for that should have come by now; else None."""
        late = self._pings and self._reactor.seconds() - self._pinged > SILENT
        return self._pinged if late else None

    def close(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _start(self, term: Any, options: Mapping[str, Any]) -> Query:
        query = Query(_QUERY.START, self._next_token, term, {"db": DB(self._database), **options})
        self._next_token += 1
        self._send(query)
        return query

    def _send(self, query: Query) -> None:
        if self.gone is None:
            self.transport.write(query.serialize(ReQLEncoder()))

    async def _look(self) -> None:
        oldest = next(iter(self._waiting), None)
        stuck = oldest is not None and oldest == self._stuck
        self._stuck = oldest
        if stuck or self._reactor.seconds() - self._pinged >= self._ping_seconds:
            await self._ping()

    async def _ping(self) -> None:
        self._pinged, self._pings = self._reactor.seconds(), True
        try:
            await self.ask(_ONE, self._ping_seconds)
        except Exception as error:
            if self.gone is None:
                _log.warn("RethinkDB at {peer} is silent: {error}", peer=self.peer, error=error)
                self.close()
        else:
            self._pings = False

    # -- bytes -----------------------------------------------------------------

    def connectionMade(self) -> None:
        self._handshake.reset()
        self._write_handshake(None)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        self._stuck = None
        try:
            self._receive()
        except Exception as error:
            self._end(error if isinstance(error, errors.TroughError) else _not_understood(error))
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        problem = tls_problem(reason.value)
        self._end(
            errors.Unavailable(f"RethinkDB at {self.peer}: {problem}")
            if problem is not None
            else ConnectionLost(f"the connection to RethinkDB at {self.peer} was lost")
        )
        if self._pinging.running:
            self._pinging.stop()
        self._when_lost.fire(None)

    def _end(self, error: Exception) -> None:
        """Fail everything that waits, once."""
        if self.gone is not None:
            return
        self.gone = error
        waiting, self._waiting = self._waiting, {}
        feeds, self._feeds = self._feeds, {}
        if not self.ready.called:
            self.ready.errback(error)
        for _, deferred in waiting.values():
            if not deferred.called:  # given up by one that has just heard of this
                deferred.errback(error)
        for _, feed in feeds.values():
            feed.fail(error)

    def _receive_handshake(self) -> None:
        while (end := self._buffer.find(b"\0")) >= 0:
            message = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            request = self._write_handshake(message)
            if request and not self._proves:
                self._begin()
            if request is not None:
                continue
            self._receive = self._receive_responses
            if self._proves:
                self._begin()
            self._receive()
            return

    def _begin(self) -> None:
        self._pinged = self._reactor.seconds()
        self._pinging.start(min(OWED, self._ping_seconds), now=False)
        self.ready.callback(self)

    def _write_handshake(self, answer: bytes | None) -> Any:
        request = self._handshake.next_message(answer)
        if request:
            self.transport.write(request)
        return request

    def _receive_responses(self) -> None:
        start, end = 0, len(self._buffer)
        while end - start >= _HEADER.size:
            token, length = _HEADER.unpack_from(self._buffer, start)
            body = start + _HEADER.size
            if end - body < length:
                break
            start = body + length
            self._dispatch(token, bytes(self._buffer[body:start]))
        del self._buffer[:start]

    def _dispatch(self, token: int, data: bytes) -> None:
        if token in self._waiting:
            query, deferred = self._waiting.pop(token)
            response = Response(token, data, _DECODER)
            if response.type == _RESPONSE.SUCCESS_ATOM:
                deferred.callback(response.data[0])
            elif response.type == _RESPONSE.SUCCESS_SEQUENCE:
                deferred.callback(response.data)
            else:
                deferred.errback(response.make_error(query))
        elif token in self._feeds:
            query, feed = self._feeds[token]
            response = Response(token, data, _DECODER)
            if response.type == _RESPONSE.SUCCESS_PARTIAL:
                self._send(Query(_QUERY.CONTINUE, token, None, None))
                feed.rows(response.data)
            else:
                del self._feeds[token]
                feed.fail(response.make_error(query))
        # Else it is the last word on a query that was stopped.


def _not_understood(error: Exception) -> Exception:
    if isinstance(error, reql.ReqlAuthError):
        return UserRefused(f"RethinkDB refuses the user: {error.message}", _NEW_USER)
    return ConnectionLost(f"not understood: {plain(error)}")


def _silent(peer: str, result: Any, after: float) -> Any:
    if isinstance(result, Failure) and result.check(defer.CancelledError):
        raise errors.Unavailable(f"RethinkDB at {peer} did not answer within {after:.1f} s")
    return result


def plain(error: Exception) -> str:
    """An error in one line."""
    return str(getattr(error, "message", "") or error or type(error).__name__).splitlines()[0]
