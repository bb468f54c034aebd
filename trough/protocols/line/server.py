"""The line protocol's server transport: feed, dispatch, write, close.

It does not depend on roles. It looks a verb up in the mapping that it was given, and calls its
handler with the request and a :class:`trough.protocols.line.replies.Reply`. If a peer does not
read, the server pauses its jobs. If a peer sends too many requests at once, the server reads no
more from it. A lost connection cancels its jobs.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import ANYBODY, Grant
from trough.metrics.totals import RequestTotals
from trough.protocols.address_limit import AddressLimit
from trough.protocols.line.common_verbs import common_verbs
from trough.protocols.line.dispatch import Requests
from trough.protocols.line.framing import FramingLimits, RequestParser
from trough.protocols.line.large_lines import LargeLines
from trough.protocols.line.messages import Greeting, format_error
from trough.protocols.line.replies import Reply, Verb
from trough.protocols.line.write_buffer import WriteBuffer
from trough.protocols.peer import encrypts, peer_of, shows_certificate
from trough.protocols.unread_answers import MAX_UNSENT, UnreadAnswers, in_transport
from trough.util.flush_batch import FlushBatch
from trough.util.waiting import Waiters

_log = Logger()


#: Seconds between two entries in the log about a full port.
_LOG_EVERY = 60.0

#: Requests of one connection that are taken up in one turn of the reactor. Answering as many as
#: one read of the socket may hold would delay every other connection by a tenth of a second.
A_TURN = 2048

#: A request has to be whole after so many times the silence that ends it. Otherwise a byte now and
#: then would keep a connection without limit.
WHOLE_MESSAGE = 10

#: Seconds that requests have to answer once a shutdown has cancelled them.
CANCEL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one peer may use; sizes in bytes, times in seconds.

    :ivar strangers: what may be sent before authentication
    :ivar requests: under way on one connection; when so many are, it is not read from
        until half of them are answered. Likewise `held`, the size of those requests
    :ivar unsent: replies that a peer has not taken; from here on its jobs are paused,
        and at four times as much it is not read from
    :ivar half_message: silence in the middle of a request
    :ivar idle: silence with nothing under way, or without taking any reply
    :ivar linger: for a peer to read why its connection is closed
    :ivar connections: of all peers
    """

    peers: FramingLimits = field(default_factory=FramingLimits)
    strangers: FramingLimits = field(default_factory=lambda: FramingLimits(8192, 8192))
    requests: int = 10000
    held: int = 128 << 20
    unsent: int = 1 << 20
    half_message: float = 60.0
    idle: float = 3600.0
    linger: float = 2.0
    connections: int = 10000


def most_line_connections() -> int:
    """Connections of one port: HTTP has half of the descriptors, and two ports a third."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(ServerLimits().connections, files // 6), 16)


@implementer(IHalfCloseableProtocol)
class LineServer(Protocol):
    """One connection; made by :class:`LineServerFactory`.

    What verbs may use of it: :class:`trough.protocols.line.replies.ReplyConnection` and, for the
    common ones, :class:`trough.protocols.line.common_verbs.VerbSession`.
    """

    transport: Any  # of TCP, TLS or a UNIX socket

    def __init__(self, factory: LineServerFactory) -> None:
        self._factory = factory
        self.verbs = factory.verbs
        self.gate = factory.gate
        self.grant = ANYBODY
        self.attempts = 0
        self.jobs_paused = False
        self.client = ""
        self.seconds = factory.clock.seconds
        self._limits = factory.limits
        self._flush_batch = factory.flush_batch
        self._parser = RequestParser(self._limits.peers)
        self._requests = Requests(self, self.verbs, factory.totals, factory.gate.audit)
        self._taking = False
        self._next_turn: IDelayedCall | None = None
        self._reading = True
        self._farewell: bytes | None = None  # once there is one, nothing is taken up
        self._quitting: Reply | None = None
        self._closing = False
        self._thrown_out = False
        self._peer_ended = False
        self._timer: IDelayedCall | None = None
        self._moved = 0.0  # when bytes went either way last
        self._began = 0.0  # when the request began that is not whole yet; 0: there is none

    # -- a connection's life -----------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        limits, clock = self._limits, self._factory.clock
        self._outbox = WriteBuffer(
            self.transport,
            self._flush_batch,
            limits.unsent,
            self.pause_jobs,
            self._drained,
            stalled=lambda: self._factory.unread.became_full(self),
        )
        self._large = LargeLines(self, self._outbox)
        self.large_line = self._large.begin
        self.send = self._outbox.send
        self.client = peer_of(self.transport)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # replies are written in whole bunches
        self._moved = self.seconds()
        self._timer = clock.callLater(limits.half_message, self._check_silence)
        self.send(self._factory.greeting)
        if self.gate.is_closed:
            self._parser.set_limits(limits.strangers)
            self._requests.refusal = errors.Unauthorized(
                "not authenticated", "AUTH <token> comes first"
            )
        self._factory.joined(self)

    def dataReceived(self, data: bytes) -> None:
        """Take up the requests in `data`."""
        if self._farewell is None:
            self._moved = self.seconds()
            self._parser.receive_data(data)
            with self._flush_batch:
                self._take_requests()

    def readConnectionLost(self) -> None:
        """The peer sends no more: it is gone, unless it sent QUIT, as a script does that pipes
        its input into nc."""
        self._peer_ended = True
        if self._quitting is None or self._closing:
            self._requests.abandon()
            self._close()

    def writeConnectionLost(self) -> None:
        """The peer's machine has all that it gets; the peer may still have to close."""
        self._set_timer(self._limits.linger, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what went on for this connection."""
        self._farewell = self._farewell or b""
        self._closing = True
        for call in (self._timer, self._next_turn):
            if call is not None and call.active():
                call.cancel()
        self._outbox.abandon()
        self._factory.unread.has_room(self)
        self._requests.abandon()
        self._factory.left(self)

    def quit(self, reply: Reply | None, farewell: bytes) -> None:
        """Take up nothing more; when all is answered, answer `reply`, send the reason, close."""
        if self._farewell is None:
            self._farewell = farewell
            self._quitting = reply
            self._close_if_done()

    def drain(self) -> None:
        """Refuse further requests, and quit when those under way are answered."""
        self._requests.refusal = errors.Unavailable(f"{self._factory.node} is shutting down")
        if not self._requests:
            self.quit(None, format_error(self._requests.refusal))

    def cancel_all(self) -> None:
        """Cancel what is under way, for a shutdown; each request answers with the result.

        If a peer has all its answers, and BYE, and does not close, its connection is closed.
        """
        if self._closing:
            self.transport.loseConnection()
        self._requests.cancel()

    def end_now(self, error: errors.TroughError) -> None:
        """As :meth:`throw_out`, of a connection that :meth:`cancel_all` has not ended."""
        if self._closing:
            self.transport.abortConnection()
        else:
            self.throw_out(error)

    def throw_out(self, error: errors.TroughError) -> None:
        """Cancel everything, send the reason, close."""
        self._requests.abandon()
        self._quitting = None
        self._thrown_out = True
        self._farewell = format_error(error)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._closing or len(self._requests) > (self._quitting is not None):
            return
        assert self._farewell is not None
        self._closing = True
        if self._quitting is not None:
            self._quitting.ok()
        self.send(b"* BYE %b\n" % self._farewell)
        self._close()

    def _close(self) -> None:
        """Close once the peer has taken what was sent, for which one that is not thrown out
        has time."""
        self._closing = True
        self._farewell = self._farewell or b""
        self._outbox.close()
        # Closing outright while something unread is waiting would reset the connection,
        # and the peer might never see why. So it gets the end of our side first.
        if self._peer_ended or encrypts(self.transport):  # TLS cannot end one side
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self._read_on()
        limits = self._limits
        patience = limits.linger if self._thrown_out else limits.idle
        self._set_timer(patience, self.transport.abortConnection)

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._factory.clock.callLater(seconds, call)

    def _check_silence(self) -> None:
        limits, silence = self._limits, self.seconds() - self._moved
        stranger = isinstance(self._requests.refusal, errors.Unauthorized)
        idle = limits.half_message if stranger else limits.idle
        whole = limits.half_message * (1 if stranger else WHOLE_MESSAGE)
        if self._reading and self._began and self.seconds() - self._began >= whole:
            self.throw_out(errors.DeadlineExceeded(f"a request without its end for {whole:g} s"))
        elif self._reading and self._parser.is_midway() and silence >= limits.half_message:
            self.throw_out(
                errors.DeadlineExceeded(f"half a request, and silence for {silence:.0f} s")
            )
        elif silence >= idle and (self._outbox.full or not self._requests):
            self.throw_out(errors.DeadlineExceeded(f"idle for {silence:.0f} s"))
        else:
            clock = self._factory.clock
            self._timer = clock.callLater(limits.half_message, self._check_silence)

    # -- requests ------------------------------------------------------------------------

    def _take_requests(self) -> None:
        if self._taking or self._next_turn is not None:
            return
        self._taking = True
        left = A_TURN
        try:
            requests, outbox, limits = self._requests, self._outbox, self._limits
            take, held, unsent = requests.take, limits.held, 4 * limits.unsent
            next_request = self._parser.next_request
            room = 0  # for as many requests there is surely some
            while self._farewell is None:
                if not room or requests.held > held or outbox.unsent > unsent:
                    if self._has_enough(1):
                        self._stop_reading()
                        return
                    room = limits.requests - len(requests)
                room -= 1
                if not left:
                    self._go_on_next_turn()
                    return
                left -= 1
                request = next_request()
                if request is None:
                    if not self._parser.is_midway():
                        self._began = 0.0
                    elif not self._began or left < A_TURN - 1:
                        self._began = self._moved
                    self._read_on()
                    return
                take(request)
        except errors.FramingLost as error:
            self.throw_out(error)
        finally:
            self._taking = False

    def _go_on_next_turn(self) -> None:
        self._stop_reading()
        self._next_turn = self._factory.clock.callLater(0, self._take_more)

    def _take_more(self) -> None:
        self._next_turn = None
        if self._farewell is None:
            with self._flush_batch:
                self._take_requests()

    def _has_enough(self, share: int) -> bool:
        """Whether as much as allowed, or that divided by `share`, is going on."""
        limits = self._limits
        return (
            len(self._requests) * share >= limits.requests
            or self._requests.held * share > limits.held
            or self._outbox.unsent * share > 4 * limits.unsent
        )

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    # -- for replies and verbs -------------------------------------------------------------

    def ended(self, reply: Reply) -> None:
        """See :class:`trough.protocols.line.replies.ReplyConnection`."""
        requests = self._requests
        requests.ended(reply)
        if self._farewell is not None:
            self._close_if_done()
        elif not self._reading and not self._has_enough(2):
            self._take_requests()
        refusal = requests.refusal
        if refusal is not None and not requests and isinstance(refusal, errors.Unavailable):
            self.quit(None, format_error(refusal))

    def find(self, tag: str) -> Reply | None:
        """See :class:`trough.protocols.line.common_verbs.VerbSession`."""
        return self._requests.get(tag)

    def admit(self, grant: Grant) -> None:
        """See :class:`trough.protocols.line.common_verbs.VerbSession`."""
        self.grant = grant
        self._parser.set_limits(self._limits.peers)
        if isinstance(self._requests.refusal, errors.Unauthorized):
            self._requests.refusal = None

    def shows_certificate(self) -> bool:
        """See :class:`trough.protocols.line.common_verbs.VerbSession`."""
        return shows_certificate(self.transport)

    def after(self, seconds: float) -> Deferred[None]:
        """See :class:`trough.protocols.line.common_verbs.VerbSession`."""
        return deferLater(self._factory.clock, seconds)

    def pause_jobs(self) -> None:
        """Have everything that goes on send no more. Idempotent."""
        if not self.jobs_paused:
            self.jobs_paused = True
            self._requests.pause()

    def resume_jobs(self) -> None:
        """Undo :meth:`pause_jobs`."""
        if self.jobs_paused:
            self.jobs_paused = False
            self._requests.resume()

    def unread_bytes(self) -> int:
        """See :class:`trough.protocols.unread_answers._Connection`."""
        return self._outbox.unsent + in_transport(self.transport)

    def drop_unread(self) -> None:
        """See :class:`trough.protocols.unread_answers._Connection`."""
        self.cut()

    def cut(self) -> None:
        """End the connection at once, in the middle of a line or not."""
        self._farewell = self._farewell or b""
        self._closing = True
        self.transport.abortConnection()

    def _drained(self) -> None:
        self._moved = self.seconds()
        self._factory.unread.has_room(self)
        if self._large.is_sending:
            self._large.drained()
        else:
            self.resume_jobs()
        if not self._reading and not self._has_enough(2):
            self._take_requests()


class LineServerFactory(Factory):
    """Makes the connections of one port.

    :param role: ``worker`` or ``sync``; the greeting has it, likewise `node`
    :param verbs: the role's verbs, beside the common verbs
    :param gate: knows what tokens give; None: no client needs one
    :param flush_batch: the batch of what answers the requests; None: of its own
    :param totals: count requests; None: of its own
    :param addresses: how many connections of one address; None: any number
    :param unread: bounds the answers that wait in all connections; None: in those of this port
    """

    noisy = False

    def __init__(
        self,
        role: str,
        node: str,
        verbs: Mapping[str, Verb],
        clock: IReactorTime,
        limits: ServerLimits | None = None,
        *,
        gate: Gate | None = None,
        flush_batch: FlushBatch | None = None,
        totals: RequestTotals | None = None,
        addresses: AddressLimit | None = None,
        unread: UnreadAnswers | None = None,
    ) -> None:
        self.node = node
        self._addresses = addresses or AddressLimit(0, clock.seconds)
        self.unread = unread or UnreadAnswers(clock, MAX_UNSENT)
        self._log_after = 0.0
        self.flush_batch = flush_batch or FlushBatch(clock)
        self.verbs = {**verbs, **common_verbs()}
        totals = totals or RequestTotals()
        self.totals = {verb: totals.of("line", verb) for verb in (*self.verbs, "other")}
        self.clock = clock
        self.limits = limits or ServerLimits()
        self.gate = gate or Gate()
        peers = self.limits.peers
        auth = "token" if self.gate.is_closed else "none"
        self.greeting = Greeting(
            role, node, peers.max_line, peers.max_literal, self.limits.requests, auth
        ).line()
        self._connections: set[LineServer] = set()
        self._draining = False
        self._left: Waiters[None] = Waiters()  # the last connection

    def buildProtocol(self, addr: object) -> LineServer:
        """A new connection."""
        return LineServer(self)

    def joined(self, connection: LineServer) -> None:
        """A connection was made."""
        if not self._addresses.joined(connection.client):
            connection.transport.abortConnection()
            return
        self._connections.add(connection)
        if self._draining:
            connection.drain()
        elif len(self._connections) > self.limits.connections:
            most = self.limits.connections
            self._log_that_it_is_full(most)
            if len(self._connections) > most + max(most // 8, 1):
                # Many get this error now, and each takes a descriptor until it has read it.
                connection.transport.abortConnection()
            else:
                connection.throw_out(errors.Unavailable(f"{most} connections, which is all"))

    def left(self, connection: LineServer) -> None:
        """A connection is gone."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._addresses.left(connection.client)
        if not self._connections:
            self._left.fire(None)

    def _log_that_it_is_full(self, most: int) -> None:
        now = self.clock.seconds()
        if now < self._log_after:
            return
        self._log_after = now + _LOG_EVERY
        _log.warn(
            "{most} connections to a port of the line protocol, which is all; further ones are "
            "refused. LimitNOFILE allows more.",
            most=most,
        )

    async def drain(self, seconds: float) -> None:
        """Refuse new requests, let those under way end, send BYE, close.

        The port has been closed before. Returns when no connection is left.

        :param seconds: after which what still goes on is cancelled
        """
        self._draining = True
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            steps = [
                self.clock.callLater(seconds, self._cancel),
                self.clock.callLater(seconds + CANCEL_SECONDS, self._throw_out),
            ]
            await self._left.wait()
            for step in steps:
                if step.active():
                    step.cancel()

    def _cancel(self) -> None:
        for connection in list(self._connections):
            connection.cancel_all()

    def _throw_out(self) -> None:
        for connection in list(self._connections):
            connection.end_now(errors.Cancelled(f"{self.node} is shutting down"))
