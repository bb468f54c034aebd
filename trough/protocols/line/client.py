"""The line protocol's client: one connection to one server.

Any number of requests can be under way at once. Each is answered, or fails when the connection
ends: with :class:`trough.errors.Unavailable`, after a write with
:class:`trough.errors.OutcomeUnknown`. A listener that pauses stops the reading, and so the
server, and so SQLite. The client detects a server that sends nothing any more. It does not
reconnect and does not ask other servers: that is :mod:`trough.cluster_client.client`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.access.tokens import Credential
from trough.protocols.line.framing import FINAL, ReplyParser
from trough.protocols.line.handshake import ReplyLine, handshake
from trough.protocols.line.messages import (
    Greeting,
    Matching,
    format_query,
    format_request,
    format_segments,
    format_word,
    format_write,
    parse_error,
)
from trough.protocols.line.pending_calls import (
    Call,
    CommandAnswer,
    PendingCommand,
    PendingRequest,
    RawRequest,
)
from trough.protocols.line.query_replies import QueryListener
from trough.protocols.line.values import Parameters
from trough.protocols.line.write_buffer import WriteBuffer
from trough.sql.column_filters import FilterTest
from trough.util.flush_batch import FlushBatch
from trough.util.tls_problems import tls_problem
from trough.util.waiting import ended

_log = Logger()


class LineConnection(Protocol):
    """A connection to a server of the line protocol.

    :param credential: to prove where the server asks for it; no token is ever sent, and no
        request before the server has proved that it knows the token, too. Without one, queries
        do not wait for the greeting, since the server has nothing to prove.
    :param address: of the server, ``host:port``, as it is published; a proof is for it alone
    :param silence: seconds without a byte, while something is asked, after which the
        server is pinged; as many more, and it is given up
    :param parser: of what the server sends
    :ivar greeting: fires when requests are taken, or fails: the server is no Trough,
        refuses the token, or does not prove that it knows it. Requests may be made before;
        they wait.
    :ivar closed: fires when the connection is gone
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        credential: Credential | None = None,
        address: str = "",
        silence: float = 30.0,
        *,
        parser: ReplyParser | None = None,
    ) -> None:
        self.greeting: Deferred[Greeting] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._clock = clock
        self._address = address
        self._eager = credential is None
        self._handshake = handshake(credential, address)
        self._silence = silence
        self._parser = parser or ReplyParser()
        self._greeted = False
        self._early: list[bytes] | None = []  # requests made before the server was ready
        self._pending: dict[bytes, PendingRequest] = {}
        self._last_tag = 0
        self._paused: set[bytes] = set()
        self._delivering = False
        self._ended: errors.TroughError | None = None  # why nothing can be asked any more
        self._watch: IDelayedCall | None = None
        self._heard = False
        self._pinged = False
        self._outbox: WriteBuffer | None = None

    # -- asking ----------------------------------------------------------------------------

    def query(
        self,
        segments: Iterable[str] | Matching,
        sql: str,
        parameters: Parameters | None = None,
        *,
        listener: QueryListener,
        seconds: float | None = None,
        rows: int | None = None,
        keep: bool = False,
        tests: Sequence[FilterTest] = (),
        encoded: bool = False,
        trace: str = "",
        merge: str = "",
    ) -> Call:
        """Ask segments that the server holds.

        :param seconds: the deadline, or None for the server's own
        :param rows: most rows of one segment
        :param keep: whether answers may be kept, and come from what was kept
        :param tests: with `keep`, what a segment needs to have rows
        :param encoded: the listener takes rows as JSON
        :param trace: a ``traceparent`` of the W3C, or empty
        :param merge: rules by which rows of several segments become one
        :raises trough.errors.BadRequest: no segment, a segment's id or a parameter that
            cannot be one; nothing was sent
        """
        tag = self._tag()
        request = format_query(
            tag, segments, sql, parameters, seconds, rows, keep, tests, trace, merge
        )
        call = Call(self, tag, listener, encoded=encoded)
        # A read does no harm where it is refused, so it may come before the greeting.
        self._ask(tag, call, request, at_once=self._eager)
        return call

    def write(
        self,
        segment: str,
        sql: str,
        parameters: Parameters | None = None,
        *,
        seconds: float | None = None,
    ) -> Deferred[CommandAnswer]:
        """Run SQL in one transaction; fires once it is on disk, with ``changes``.

        :raises trough.errors.BadRequest: as in `query`
        """
        tag = self._tag()
        request = format_write(tag, segment, sql, parameters, seconds)
        command = PendingCommand(self, tag, f"a write to segment {segment}")
        self._ask(tag, command, request)
        return command.done

    def command(self, verb: str, *arguments: str, **named: str) -> Deferred[CommandAnswer]:
        """Ask anything else, as in ``command("PROVISION", "300001", schema="crawled_url")``.

        :param arguments: in their order; those by name follow the first one
        """
        words = [format_word(word.encode()) for word in arguments]
        options = [format_word(named[name].encode(), f"{name}=".encode()) for name in named]
        return self.request(verb, [*words[:1], *options, *words[1:]])

    def where(self, segments: Iterable[str] | Matching) -> Deferred[CommandAnswer]:
        """Ask a sync server who holds segments."""
        return self.request("WHERE", [format_segments(segments)])

    def raw(self, request: bytes, line: Callable[[bytes, bytes], object]) -> bytes:
        """Send ``VERB arguments``; `line` is called with word and rest of each reply.

        Nothing is decoded, and nothing checked.

        :return: the tag
        """
        tag = self._tag()
        self._ask(tag, RawRequest(line), b"%b %b\n" % (tag, request))
        return tag

    @property
    def requests(self) -> int:
        """How many are under way."""
        return len(self._pending)

    def close(self) -> Deferred[None]:
        """Close the connection; what is under way fails. Idempotent."""
        self._end(errors.Unavailable("this client closed the connection"))
        if self.transport is not None:
            self.transport.abortConnection()
        return ended(self.closed)

    # -- for calls ---------------------------------------------------------------------------

    def cancel(self, tag: bytes) -> None:
        """See :class:`trough.protocols.line.pending_calls.Asker`."""
        if tag in self._pending:
            self._send(b"%b CANCEL %b\n" % (_IGNORED, tag))

    def pause(self, tag: bytes) -> None:
        """See :class:`trough.protocols.line.pending_calls.Asker`."""
        if tag in self._pending:
            if not self._paused:
                self.transport.pauseProducing()
            self._paused.add(tag)

    def resume(self, tag: bytes) -> None:
        """See :class:`trough.protocols.line.pending_calls.Asker`."""
        if tag not in self._paused:
            return
        self._paused.discard(tag)
        if not self._paused and self._ended is None:
            self._heard = True
            self._clock.callLater(0, self._read_on)

    def _read_on(self) -> None:
        # In a turn of its own: the listener that resumes may be inside a call with rows.
        self._deliver()
        if not self._paused and self._ended is None:
            self.transport.resumeProducing()

    # -- the conversation ----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin the handshake."""
        self._outbox = WriteBuffer(
            self.transport, FlushBatch(self._clock), sys.maxsize, _nothing, _nothing
        )
        if request := next(self._handshake):
            self._outbox.send(request)
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._watch = self._clock.callLater(self._silence, self._check_silence)

    def dataReceived(self, data: bytes) -> None:
        """Pass lines to the calls that they belong to."""
        self._heard = True
        try:
            self._parser.receive_data(data)
        except errors.FramingLost as error:
            self._give_up(errors.Unavailable(str(error)))
        self._deliver()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what is under way."""
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        if self._outbox is not None:
            self._outbox.abandon()
        self._parser.close()
        problem = tls_problem(reason.value)
        message = problem or f"the connection was lost: {reason.getErrorMessage()}"
        self._end(errors.Unavailable(message))
        self.closed.callback(None)

    def _deliver(self) -> None:
        pending, paused = self._pending, self._paused
        if self._delivering or paused:
            return
        self._delivering = True
        try:
            for tag, word, rest in self._parser.replies():
                asked = pending.get(tag)
                if asked is None:
                    self._hear(tag, word, rest)
                    continue
                if word in FINAL:
                    del pending[tag]
                try:
                    asked.line(word, rest)
                except Exception as error:  # a listener's: the call fails with it
                    asked.broken(error)
                if paused:
                    return
        except errors.FramingLost as error:
            self._give_up(errors.Unavailable(str(error)))
        finally:
            self._delivering = False

    def _hear(self, tag: bytes, word: bytes, rest: bytes) -> None:
        """Take a line that answers no request of ours."""
        if self._ended is not None:
            return
        if word == b"BYE" and self._greeted:
            self._give_up(errors.Unavailable(f"the server said goodbye: {parse_error(rest)}"))
        elif self._early is not None:
            self._shake_hands((tag, word, rest))
        elif word == b"ERR" and tag == b"*":
            _log.warn("refused by the server: {error}", error=parse_error(rest))

    def _shake_hands(self, reply: ReplyLine) -> None:
        self._greeted = True
        assert self._outbox is not None
        try:
            if request := self._handshake.send(reply):
                self._outbox.send(request)
        except StopIteration as done:
            self._open(done.value)
        except errors.FramingLost:
            raise
        except errors.TroughError as error:
            self.greeting.errback(error)
            self._give_up(type(error)(f"{self._address}: {error}" if self._address else str(error)))

    def _open(self, greeting: Greeting) -> None:
        early, self._early = self._early or [], None
        for request in early:
            self._send(request)
        self.greeting.callback(greeting)

    def _give_up(self, error: errors.TroughError) -> None:
        self._end(error)
        self.transport.abortConnection()

    def _end(self, error: errors.TroughError) -> None:
        """Fail everything, and all that is asked from now on."""
        if self._ended is not None:
            return
        self._ended = error
        pending, sent = list(self._pending.values()), self._early is None
        self._pending.clear()
        self._paused.clear()
        for asked in pending:
            asked.lost(error, sent)
        if not self.greeting.called:
            self.greeting.errback(error)

    def _check_silence(self) -> None:
        waiting = self._pending or self._early is not None
        if self._heard or self._paused or not waiting:
            self._pinged = False
        elif not self._greeted:
            self._give_up(
                errors.Unavailable(
                    f"no greeting came within {self._silence:g} s", "does the port speak TLS?"
                )
            )
            return
        elif self._pinged:
            self._give_up(errors.Unavailable(f"the server was silent for {2 * self._silence:g} s"))
            return
        else:
            self._pinged = True
            self._send(b"%b PING\n" % _IGNORED)
        self._heard = False
        self._watch = self._clock.callLater(self._silence, self._check_silence)

    # -- sending ---------------------------------------------------------------------------------

    def request(
        self, verb: str, arguments: list[bytes], changes: str = ""
    ) -> Deferred[CommandAnswer]:
        """Ask anything else, with arguments in the form in which they are sent.

        :param changes: what the request changes, for the error if the answer is lost
        """
        tag = self._tag()
        command = PendingCommand(self, tag, changes)
        self._ask(tag, command, format_request(tag, verb.encode(), *arguments))
        return command.done

    def _tag(self) -> bytes:
        self._last_tag += 1
        return b"%d" % self._last_tag

    def _ask(
        self, tag: bytes, asked: PendingRequest, request: bytes, at_once: bool = False
    ) -> None:
        if self._ended is not None:
            asked.lost(self._ended, False)
            return
        self._pending[tag] = asked
        if at_once and self._outbox is not None:
            self._outbox.send(request)
        else:
            self._send(request)

    def _send(self, request: bytes) -> None:
        if self._early is not None:
            self._early.append(request)
        elif self._outbox is not None and self._ended is None:
            self._outbox.send(request)


# Tag of what is sent without wanting an answer. No request of ours has it.
_IGNORED = b"-"


def _nothing() -> None:
    """The caller bounds what waits to be sent."""


class _Connections(Factory):
    """Makes connections; see :class:`LineConnection` for the parameters."""

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        credential: Credential | None,
        address: str,
        new_parser: Callable[[], ReplyParser],
    ) -> None:
        self._clock = clock
        self._credential = credential
        self._address = address
        self._new_parser = new_parser

    def buildProtocol(self, addr: object) -> LineConnection:
        """A new connection."""
        return LineConnection(
            self._clock, self._credential, self._address, parser=self._new_parser()
        )


async def connect(
    endpoint: IStreamClientEndpoint,
    clock: IReactorTime,
    credential: Credential | None = None,
    address: str = "",
    *,
    opened: Callable[[LineConnection], object] = lambda connection: None,
    new_parser: Callable[[], ReplyParser] = ReplyParser,
) -> LineConnection:
    """A connection that is ready to be asked; see :class:`LineConnection`.

    :param opened: called with the connection before it is greeted
    :param new_parser: makes the parser of what the server sends
    :raises trough.errors.Unavailable: no server listens, or it is not Trough
    :raises trough.errors.Unauthorized: the token is missing or wrong
    """
    try:
        protocol = await endpoint.connect(_Connections(clock, credential, address, new_parser))
    except (ConnectError, OSError) as error:
        raise errors.Unavailable(f"cannot connect: {error}") from error
    connection = cast(LineConnection, protocol)
    opened(connection)
    try:
        await connection.greeting
    except BaseException:  # a cancelled wait, too, leaves no connection behind
        connection.transport.abortConnection()
        raise
    return connection
