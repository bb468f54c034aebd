"""A connection over HTTP: when it is read, when its answers leave, when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IWriteDescriptor
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import _IdentityTransferDecoder
from zope.interface import implementer

from trough.protocols.http.idle_timer import IdleTimer
from trough.protocols.http.request_line import escaped
from trough.protocols.http.short_path import WholeRequest, whole_request
from trough.protocols.peer import encrypts, peer_of
from trough.protocols.unread_answers import in_transport

#: Seconds in which the headers of a request have to come, all of them, and then its body.
HEADER_SECONDS, BODY_SECONDS = 60, 600

#: Seconds between two looks whether a client is there that has ended its side, and in which
#: the answer has to begin to one of HTTP/1.0, which cannot be looked for.
LOOKS, UNSURE = 1, 5
_IS_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Bytes of requests that are parsed in one turn of the reactor: a hundred requests, or chunks of a
#: body. What one read of the socket may hold would delay every other connection by a fifth of a
#: second.
A_TURN = 4096

#: The first bytes of a peer that uses TLS on a port without it, and its answer: otherwise it
#: would wait for the end of a line that never comes.
_TLS = b"\x16\x03"
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis port speaks no TLS\n"


@implementer(IHalfCloseableProtocol)
class Channel(IdleTimer, http.HTTPChannel):
    """A connection; an answer leaves once it is whole, without another turn of the reactor.

    Who ends his side after a request is answered: a script that pipes requests into ``nc``
    does so. A client that is killed looks the same until something is sent to it; that is an
    interim answer, which clients pass over (RFC 9110, section 15.2) and HTTP/1.0 did not have.

    :ivar client: who is at the other end
    """

    site: Any  # a trough.protocols.http.site.Site
    transport: Any
    client = ""
    _has_descriptor = False
    _host: Any = None
    _peer: Any = None
    #: Whether there is nothing of a request here, and Twisted's parser waits for a first line.
    _between = True
    #: Passes bytes to the kernel, while the transport is known to hold nothing that would have
    #: to leave before them.
    _write_some: Callable[[bytes], Any] | None = None
    _peer_ended = False
    _whole = False
    _in_headers = False
    _arrival: Any = None
    #: What arrived and waits for the next turn of the reactor.
    _rest = b""
    #: Whether data comes that arrived earlier, before `_rest`.
    _plays_back = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self.client = peer_of(self.transport)
        self._has_descriptor = not encrypts(self.transport) and bool(
            IWriteDescriptor.providedBy(self.transport)
        )
        if not encrypts(self.transport):
            self._write_some = getattr(self.transport, "writeSomeData", None)
        self.site.connections.joined(self)

    # Each request asks for both addresses, which the system knows.

    def getHost(self) -> Any:
        if self._host is None:
            self._host = self.transport.getHost()
        return self._host

    def getPeer(self) -> Any:
        if self._peer is None:
            self._peer = self.transport.getPeer()
        return self._peer

    def seconds(self) -> float:
        return self.site.seconds()

    def make_room(self) -> None:
        """Close at once, for there are too many connections."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._stop_clock()
        self.site.connections.left(self)
        self.site.unread.has_room(self)
        super().connectionLost(reason)
        self.end_timer()

    # A peer that sends a byte now and then is not silent, and would stay connected without limit.

    def dataReceived(self, data: bytes) -> None:
        if self._busyReceiving:  # what Twisted's parser kept of an earlier call
            super().dataReceived(data)
            return
        if self._rest:
            self._rest = data + self._rest if self._plays_back else self._rest + data
            return
        if self._between:
            whole = whole_request(data, self.site.max_body)
            if whole is not None:
                self._take(whole)
                return
        self._whole = self._between = False
        if len(data) > A_TURN and not self._takes_body():
            data, self._rest = data[:A_TURN], data[A_TURN:]
            self.callLater(0, self._take_rest)
        super().dataReceived(data)
        if self._rest and self.transport.connected and not self.transport.disconnecting:
            self.transport.pauseProducing()  # an answer in between has it read on
        if self._whole:
            self._stop_clock()
        elif self._arrival is None and not self._handlingRequest and self.transport.connected:
            if data.startswith(_TLS):
                self.transport.write(_NO_TLS)
                self.loseConnection()
                return
            self._arrival = self.callLater(HEADER_SECONDS, self.forceAbortClient)

    def _takes_body(self) -> bool:
        """Whether what comes is not parsed: the body of a request that states its length, or
        what waits for the end of a request."""
        return self._handlingRequest or isinstance(self._transferDecoder, _IdentityTransferDecoder)

    def _take_rest(self) -> None:
        rest, self._rest = self._rest, b""
        if self.transport.disconnecting or not self.transport.connected:
            return
        if not (self._handlingRequest or self._waitingForTransport):
            self.transport.resumeProducing()
        self.dataReceived(rest)
        closing = self.transport.disconnecting or not self.transport.connected
        if self._peer_ended and not (closing or self._rest or self._handlingRequest):
            self.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        if line and not self._in_headers:
            self._in_headers = True
            line = escaped(line)
        super().lineReceived(line)

    def allHeadersReceived(self) -> None:
        self._in_headers = False
        if self._arrival is not None:
            self._arrival.reset(BODY_SECONDS)
        self.site.connections.began(self)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        self._whole = True
        super().allContentReceived()

    def _take(self, whole: WholeRequest) -> None:
        """Do what Twisted's parser does with a request of which nothing is to come."""
        self._between = False
        request = self.requestFactory(self, 0)
        for name, value in whole.headers:
            request.requestHeaders.addRawHeader(name, value)
        self.requests.append(request)
        self.site.connections.began(self)
        request.gotLength(len(whole.body))
        request.handleContentChunk(whole.body)
        if self.timeOut:
            self._savedTimeOut = self.setTimeout(None)
        self._handlingRequest = True
        self.setRawMode()
        request.requestReceived(b"POST", whole.target, b"HTTP/1.1")

    def send(self, data: bytes) -> None:
        """Send an answer that is whole, past the transport where that holds nothing."""
        transport, write_some = self.transport, self._write_some
        if write_some is not None and transport.connected and not transport.disconnecting:
            written = write_some(data)
            if written == len(data):
                return
            # Of a lost connection, which is no number, the transport finds out as well.
            data = data[written:] if isinstance(written, int) else data
        self._write_some = None
        transport.write(data)

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        super().pauseProducing()
        self.site.unread.became_full(self)

    def resumeProducing(self) -> None:
        """The transport has taken all."""
        self.site.unread.has_room(self)
        super().resumeProducing()

    def unread_bytes(self) -> int:
        """See :class:`trough.protocols.unread_answers._Connection`."""
        return in_transport(self.transport)

    def drop_unread(self) -> None:
        """See :class:`trough.protocols.unread_answers._Connection`."""
        self.transport.abortConnection()

    # Other data may stay in the transport for a while. It does not report when all is sent, so
    # answers of this connection go through it from now on.

    def write(self, data: bytes) -> None:
        self._write_some = None
        super().write(data)

    def writeHeaders(self, *arguments: Any) -> None:
        self._write_some = None
        super().writeHeaders(*arguments)

    def _send100Continue(self) -> None:
        self._write_some = None
        super()._send100Continue()

    def _stop_clock(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and arrival.active():
            arrival.cancel()

    def requestDone(self, request: http.Request) -> None:
        nothing_more = not (self._buffer or any(self._dataBuffer))
        self._plays_back = True
        super().requestDone(request)
        self._plays_back = False
        if not self._handlingRequest:
            self.site.connections.became_idle(self)
            self._between = nothing_more and bool(self.persistent)
        if self._write_some is None:
            self.site.flush_batch.at_end(self._send_now)
        if not self.persistent:
            self.setTimeout(self.site.timeOut)  # of a peer that does not take the rest
        elif self._peer_ended and not (self._rest or self._busyReceiving):
            self._go_on_or_close()

    def readConnectionLost(self) -> None:
        """The peer sends no more, and may be gone."""
        ended, self._peer_ended = self._peer_ended, True
        if not (ended or self._rest or self.transport.disconnecting):
            self._go_on_or_close()

    def writeConnectionLost(self) -> None:
        """Never called, for this side is not ended alone."""

    def _go_on_or_close(self) -> None:
        if self._handlingRequest:
            # Most are answered before the client has to be looked for.
            self.setTimeout(LOOKS if self._takes_interim_answers() else UNSURE)
        else:
            self.loseConnection()

    def timeoutConnection(self) -> None:
        if self.transport.disconnecting:
            self.transport.abortConnection()
        elif not self._peer_ended:
            super().timeoutConnection()
        elif self.requests[0].startedWriting:
            self.setTimeout(UNSURE)  # sending finds out whether the client is there
        elif self._takes_interim_answers():
            # The second one fails if the client was not there to take the first.
            self.write(_IS_THERE)
            self.setTimeout(LOOKS)
        else:
            self.loseConnection()

    def _takes_interim_answers(self) -> bool:
        return bool(self.requests[0].clientproto == b"HTTP/1.1")

    def _send_now(self) -> None:
        transport = self.transport
        # A transport that is to close does so when the reactor finds that all is sent. One that
        # encrypts has no descriptor of its own. The result of this call may be a lost connection:
        # the reactor finds that out as well.
        going_on = transport.connected and not transport.disconnecting
        if going_on and self._has_descriptor:
            transport.doWrite()
