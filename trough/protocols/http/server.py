"""HTTP for existing clients: the common parts of all resources.

Resources check parameters, pass them on, and write the results. Rules are in other packages. One
place turns an error into a response. The query ports answer errors as text that begins with
``500 Server Error: ``, with any status: existing clients check only for "not 200", and strip
those words to get the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, resource, server
from twisted.web.http import NO_BODY_CODES, NO_CONTENT
from zope.interface import implementer

from trough import errors
from trough.access.gate import TICKET_SECONDS, Gate, wrong_token
from trough.access.rights import EVERY_RIGHT, PEER, Grant
from trough.access.wrong_tokens import WrongTokens
from trough.metrics.totals import RequestTotals
from trough.protocols.http.browser_guard import BrowserGuard, may_be_browser
from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.http.idle_timer import IdleTimer
from trough.protocols.http.request_line import escaped
from trough.protocols.http.short_path import WholeRequest, whole_request
from trough.protocols.peer import encrypts, peer_of, shows_certificate
from trough.util.flush_batch import FlushBatch

_log = Logger()

#: Of a body that is too large, this many times the limit is read and dropped, so that the
#: client sees the answer and can keep its connection. A client that announces more, or asks
#: before sending, is answered at once. The connection of a client that sends more is reset.
PATIENCE = 16

#: Seconds that requests have to answer once a shutdown has cancelled them.
CANCEL_SECONDS = 2.0

#: Seconds in which the headers of a request have to come, all of them, and then its body.
HEADER_SECONDS, BODY_SECONDS = 60, 600

#: Seconds between two looks whether a client is there that has ended its side, and in which
#: the answer has to begin to one of HTTP/1.0, which cannot be looked for.
LOOKS, UNSURE = 1, 5
_IS_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The first bytes of a peer that uses TLS on a port without it, and its answer: otherwise it
#: would wait for the end of a line that never comes.
_TLS = b"\x16\x03"
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis port speaks no TLS\n"

REASON_PREFIX = b"500 Server Error: "

#: The header with the code of an answer's error (trough/errors.py).
CODE_HEADER = b"x-trough-error"

#: The header that marks an answer's rows as the last promoted state.
STATE_HEADER = b"x-trough-state"

#: Headers that describe rows, and not an error.
_OF_ANSWERS = (b"etag", b"cache-control", b"content-encoding")

#: No page may run or show what is answered, nor take it for another type.
_PROTECTING = {
    b"vary": b"Accept, Accept-Encoding, Origin",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}

#: Headers that a page of a configured origin may see.
_EXPOSED = b"etag, x-trough-error, x-trough-state, x-trough-missing"

#: Where a server that has a token to prove gets a challenge, and then a ticket.
CHALLENGE_PATH, TICKET_PATH = b"/peer/challenge", b"/peer/ticket"

#: Names the token and the address of the client whose request a server passes on.
CLIENT_HEADER = b"x-trough-client"

#: The scheme of ``Authorization`` in which a proof is sent: a token's id, challenge, proof, and
#: the client's own nonce, over which the server proves itself.
PROOF = "Trough-Proof"

#: Names the trace of a request, in the format of the W3C.
TRACE_HEADER = b"traceparent"
_TRACE = re.compile(
    r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)

_UNREAD = (
    b"HTTP/1.1 413 Request Entity Too Large\r\n"
    b"Connection: close\r\n"
    b"X-Trough-Error: too-large\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


class _Discard(BytesIO):
    """Takes a body that is not read: it is too large, or from a stranger."""

    def write(self, data: Any) -> int:
        return len(data)


class Request(server.Request):
    """A request whose body has a limit, and whose headers hold no more than needed."""

    max_body = 64 * 1024 * 1024
    too_large = False
    channel: Any
    content: BytesIO
    site: Site
    #: What the client may do, once that was checked.
    grant: Grant | None = None
    #: Further keys of the request's entry in the audit log, where it has one.
    about: dict[str, object] | None = None
    #: Ends the work for the request, which then answers with the resulting error.
    cancel_work: Callable[[], object] | None = None
    #: Called when the client is gone before the end of the answer.
    when_gone: Callable[[], object] | None = None
    _received = 0
    _answered = False

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > self.max_body:
            self._refuse_body(length)
        elif not self.channel.site.resource.is_authorized(self):
            # The resource answers it; until then a stranger takes no memory.
            self.content = _Discard()
        else:
            # In memory at any size: the limit bounds it, and a temporary file on disk
            # would only be read back at once.
            self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.max_body and not self.too_large:
            self._refuse_body(self._received)
        if self._received > self.max_body * PATIENCE:
            self.abort()
            return
        self.content.write(data)

    def _refuse_body(self, length: int) -> None:
        self.too_large = True
        self.content = _Discard()
        waits = self.requestHeaders.getRawHeaders(b"expect", [b""])[0].lower() == b"100-continue"
        if waits or length > self.max_body * PATIENCE:
            self._refuse_unread(waits)

    def _refuse_unread(self, waits: bool) -> None:
        """Answer now, and let the connection end: what follows is not worth reading.

        :param waits: whether the client sends its body only on request; for another client the
            connection stays open, or the bytes already sent would reset it before the client
            sees the answer
        """
        self.requestHeaders.removeHeader(b"expect")
        self._answered = True
        said = REASON_PREFIX + str(self.body_too_large()).encode() + b"\n"
        self.channel.write(_UNREAD % (len(said), said))
        if waits:
            self.channel.loseConnection()

    def body_too_large(self) -> errors.TooLarge:
        """What is wrong with a body that is too large."""
        return errors.TooLarge(f"the body has more than {self.max_body} bytes", "send it in parts")

    def process(self) -> None:
        """Serve the request, now that its body is here."""
        if self._answered:
            self.channel.loseConnection()
        else:
            self.path = _path_of(self.path)
            super().process()

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; one with a length leaves in one piece with its headers."""
        if self.startedWriting or self._needs_care():
            super().write(data)
        else:
            self.startedWriting = True
            self.sentLength = len(data)
            lines = [b"%b %d %b\r\n" % (self.clientproto, self.code, self.code_message)]
            for name, values in self.responseHeaders.getAllRawHeaders():
                lines += [b"%b: %b\r\n" % (name, value) for value in values]
            self.channel.send(b"%b\r\n%b" % (b"".join(lines), data))

    def _needs_care(self) -> bool:
        """Whether Twisted has to look at an answer: it has no body, or headers that are made
        when it is written."""
        headers = self.responseHeaders
        return bool(
            not headers.hasHeader(b"content-length")
            or not headers.hasHeader(b"content-type")
            or self.finished
            or self._disconnected
            or self.method == b"HEAD"
            or self.code in NO_BODY_CODES
            or self.cookies
            or self.etag is not None
            or self.lastModified is not None
            or self._encoder is not None
        )

    def finish(self) -> None:
        super().finish()
        self.site.ended(self)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        # The site does not have a request before it is whole.
        if self.site is not None:
            self.site.ended(self, lost=True)
        gone, self.when_gone = self.when_gone, None
        if gone is not None:
            gone()

    def abort(self) -> None:
        """Reset the connection, so that the client does not take what was sent for an answer."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def tell(self, **more: object) -> None:
        """Add what the request is about to its entry in the audit log."""
        if self.about is not None:
            self.about |= more

    def note(self, act: str, outcome: str, **more: object) -> None:
        """Note in the audit log, if there is one, what this request did.

        See :meth:`trough.access.audit.AuditLog.note`.
        """
        audit = self.site.resource.gate.audit
        if audit is None:
            return
        token, via = self.allowed.name, ""
        if self.allowed.rights & PEER and (client := self.getHeader(CLIENT_HEADER)):
            token, _, peer = client.decode("utf-8", "replace").rpartition(" ")
            via = self.channel.client
        else:
            peer = self.channel.client
        audit.note(act, outcome, token, peer, via=via, **more)

    @property
    def allowed(self) -> Grant:
        """What the client may do, which was looked at before."""
        assert self.grant is not None
        return self.grant

    def header(self, name: str) -> list[str]:
        """All values of a header; a client may send what is no UTF-8."""
        values = self.requestHeaders.getRawHeaders(name.encode(), [])
        return [value.decode("utf-8", "replace") for value in values]

    def body(self) -> bytes:
        """The whole body."""
        return bytes(self.content.getvalue())


@implementer(IHalfCloseableProtocol)
class Channel(IdleTimer, http.HTTPChannel):
    """A connection; an answer leaves once it is whole, without another turn of the reactor.

    Who ends his side after a request is answered: a script that pipes requests into ``nc``
    does so. A client that is killed looks the same until something is sent to it; that is an
    interim answer, which clients pass over (RFC 9110, section 15.2) and HTTP/1.0 did not have.

    :ivar client: who is at the other end
    """

    site: Site
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
        super().connectionLost(reason)
        self.end_timer()

    # A peer that sends a byte now and then is not silent, and would stay connected without limit.

    def dataReceived(self, data: bytes) -> None:
        if self._between:
            whole = whole_request(data, self.site.max_body)
            if whole is not None:
                self._take(whole)
                return
        self._whole = self._between = False
        super().dataReceived(data)
        if self._whole:
            self._stop_clock()
        elif self._arrival is None and not self._handlingRequest and self.transport.connected:
            if data.startswith(_TLS):
                self.transport.write(_NO_TLS)
                self.loseConnection()
                return
            self._arrival = self.callLater(HEADER_SECONDS, self.forceAbortClient)

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
        super().requestDone(request)
        if not self._handlingRequest:
            self.site.connections.became_idle(self)
            self._between = nothing_more and bool(self.persistent)
        if self._write_some is None:
            self.site.bunch.at_end(self._send_now)
        if not self.persistent:
            self.setTimeout(self.site.timeOut)  # of a peer that does not take the rest
        elif self._peer_ended:
            self._go_on_or_close()

    def readConnectionLost(self) -> None:
        """The peer sends no more, and may be gone."""
        ended, self._peer_ended = self._peer_ended, True
        if not ended and not self.transport.disconnecting:
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


class Site(server.Site):
    """A site of one port.

    :param max_body: bytes; a greater body is answered with 413
    :param guard: refuses what browsers send for web pages
    :param connections: of all sites of the process; None: of this one
    :param totals: count requests; None: of this one
    :ivar bunch: the batch of what answers the requests
    """

    noisy = False
    protocol = Channel  # type: ignore[assignment]

    def __init__(
        self,
        root: resource.Resource,
        reactor: Any,
        max_body: int,
        bunch: FlushBatch | None = None,
        guard: BrowserGuard | None = None,
        connections: ConnectionTable | None = None,
        totals: RequestTotals | None = None,
    ) -> None:
        request = type("Request", (Request,), {"max_body": max_body})
        # Clients such as curl send SQL with the content type of a form. Parsed as a form, each
        # ``=`` in it would be a parameter.
        super().__init__(
            root,
            requestFactory=request,
            parsePOSTFormSubmission=False,
            reactor=reactor,
            timeout=600,
        )
        self.displayTracebacks = False
        self._clock = reactor
        self.seconds = reactor.seconds
        self.max_body = max_body
        self.bunch = bunch or FlushBatch(reactor)
        self.guard = guard or BrowserGuard()
        # An empty table is false.
        self.connections = ConnectionTable(reactor.seconds) if connections is None else connections
        self._totals = totals or RequestTotals()
        #: Requests, and when each began.
        self._under_way: dict[Request, float] = {}
        self._idle: Deferred[None] | None = None

    def began(self, request: Request) -> None:
        """A request has begun; it is forgotten by itself at its end."""
        self._under_way[request] = self._clock.seconds()

    def ended(self, request: Request, lost: bool = False) -> None:
        """A request is answered, or its client is gone."""
        began = self._under_way.pop(request, None)
        if began is not None:
            outcome = "lost" if lost else _outcome_of(request)
            seconds = self._clock.seconds() - began
            self._totals.of("http", self.resource.verb_of(request)).add(outcome, seconds)
            if request.requestHeaders.hasHeader(TRACE_HEADER):
                _log_trace(request, outcome, seconds)
        if not self._under_way and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    async def drain(self, seconds: float) -> None:
        """Let the requests under way end; the port has been closed before.

        A request that is not done in time is cancelled, and answers so. A connection is reset only
        where a part of an answer was sent: no client may take that for a whole one.

        :param seconds: after which requests are cancelled
        """
        if await self._is_idle_within(seconds):
            return
        for request in list(self._under_way):
            if request.startedWriting:
                request.abort()
            elif request.cancel_work is not None:
                request.cancel_work()
        if not await self._is_idle_within(CANCEL_SECONDS):
            for request in list(self._under_way):
                request.abort()

    async def _is_idle_within(self, seconds: float) -> bool:
        if self._under_way:
            self._idle = Deferred()
            try:
                await self._idle.addTimeout(seconds, self._clock)
            except TimeoutError:
                self._idle = None
        return not self._under_way

    def log(self, request: http.Request) -> None:
        """Access logs are not kept: what matters is logged where it is known."""


class Resource(resource.Resource):
    """A resource whose errors become responses in one place.

    :param gate: knows what tokens give; None: no client needs one
    :cvar segment_in_host: whether ``Host: ID.anything`` may name a segment
    :cvar needs: rights of which the client has to have one, for any request
    """

    isLeaf = True
    error_as_json = True
    #: What the requests of a port are called in the metrics.
    verb = "other"
    segment_in_host = False
    needs = EVERY_RIGHT

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__()
        self.gate = gate or Gate()

    def render(self, request: Request) -> int:
        request.site.began(request)
        try:
            if request.too_large:
                raise request.body_too_large()
            if may_be_browser(name for name, _ in request.requestHeaders.getAllRawHeaders()):
                request.site.guard.check(
                    request.method.decode("ascii", "replace"), request.header, self.segment_in_host
                )
            if request.method == b"OPTIONS" and _answer_preflight(request):
                return server.NOT_DONE_YET
            if request.path in (CHALLENGE_PATH, TICKET_PATH):
                self._answer_peer(request)
            else:
                self._authenticate(request)
                self.handler(request)(request)
        except errors.Unauthorized as error:
            self._refuse(request, error)
        except Exception:
            self.fail(request, Failure())
        return server.NOT_DONE_YET

    def verb_of(self, request: Request) -> str:
        """What a request is called in the metrics; one of a fixed set."""
        return self.verb

    def handler(self, request: Request) -> Callable[[Request], None]:
        """What serves this request.

        :raises trough.errors.TroughError: nothing does
        """
        raise NotImplementedError

    def is_authorized(self, request: Request) -> bool:
        """Whether a request, of which only the headers need be here, may be served."""
        grant = self._grant(request)
        return grant is not None and bool(grant.rights & self.needs)

    def _grant(self, request: Request) -> Grant | None:
        if request.grant is None:
            request.grant = self.gate.grant_of_header(request.getHeader(b"authorization"))
        return request.grant

    def _authenticate(self, request: Request) -> None:
        grant = self._grant(request)
        if grant is None and request.getHeader(b"authorization"):
            raise wrong_token()
        if grant is None:
            raise errors.Unauthorized(
                "this server wants a token", "send the header Authorization: Bearer TOKEN"
            )
        grant.check(self.needs)
        if grant.rights == PEER:
            self.gate.check_certificate(grant, lambda: shows_certificate(request.transport))

    def _refuse(self, request: Request, error: errors.Unauthorized) -> None:
        """Answer a client that has no token, or later if it has a wrong one."""
        for scheme in (b"Bearer", b"Basic"):
            request.responseHeaders.addRawHeader(b"www-authenticate", scheme + b' realm="Trough"')
        client, wrong = request.channel.client, self.gate.wrong
        delay = wrong.delay(client) if request.getHeader(b"authorization") else 0.0
        if delay is None:
            request.abort()
        elif delay:
            later = request.channel.callLater(delay, self.fail, request, Failure(error))
            request.notifyFinish().addBoth(lambda _: _end_wait(later, wrong, client))
        else:
            self.fail(request, Failure(error))

    def _answer_peer(self, request: Request) -> None:
        """Challenge another server, or give it a ticket for what it proved.

        :raises trough.errors.NotFound: this server asks for no token
        """
        if not self.gate.is_closed:
            raise errors.NotFound("this server asks for no token")
        if request.path == CHALLENGE_PATH:
            write_json(request, 200, {"nonce": self.gate.challenge()})
            return
        header = request.getHeader(b"authorization") or b""
        words = header.decode("latin-1").split(" ")
        if len(words) not in (4, 5) or words[0] != PROOF:
            raise wrong_token()
        proved = self.gate.grant_of_proof(*words[1:])
        if proved is None:
            raise wrong_token()
        grant, server_proof = proved
        ticket = self.gate.new_ticket(grant)
        answer = {"ticket": ticket, "seconds": TICKET_SECONDS, "proof": server_proof}
        write_json(request, 200, answer)

    def run(self, request: Request, work: Coroutine[Any, Any, Any]) -> None:
        """Await `work`, and write the response that it returns."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        request.cancel_work = request.cancel_work or running.cancel
        gone = request.notifyFinish()
        gone.addErrback(lambda _: running.cancel())
        running.addCallback(self._respond, request)
        running.addErrback(lambda failure: self.fail(request, failure))

    def _respond(self, answer: Any, request: Request) -> None:
        if answer is None or finished(request):
            return
        status, content_type, body = answer
        write_response(request, status, content_type, body)

    def fail(self, request: Request, failure: Failure) -> None:
        """Answer with an error; once a part of the answer is out, cut it off.

        A response that ends without its closing bracket, on a connection that is reset,
        is one that no client can take for a whole one.
        """
        if finished(request):
            return
        error = failure.value
        if isinstance(error, CancelledError):  # by a shutdown: the client is still there
            error = errors.Cancelled("the server is shutting down", "ask again in a moment")
        if not isinstance(error, errors.TroughError):
            _log.failure("{uri}: failed", failure=failure, uri=request.uri)
            error = errors.TroughError("an error inside the server, which is in its log")
        if isinstance(error, errors.Forbidden) and request.grant and request.about is None:
            what = f"{request.method.decode('latin-1')} {request.path.decode('latin-1')}"
            request.note("refused", error.code, request=what[:200], reason=error.message)
        if request.startedWriting:
            _log.warn("{uri}: cut off: {reason}", uri=request.uri, reason=error)
            request.abort()
            return
        for name in _OF_ANSWERS:
            request.responseHeaders.removeHeader(name)
        request.setHeader(CODE_HEADER, error.code.encode())
        if self.error_as_json:
            said: dict[str, str] = {"error": str(error), "code": error.code}
            if isinstance(error, errors.Moved):
                said["node"] = error.node
            write_json(request, error.status, said)
        else:
            body = REASON_PREFIX + str(error).encode("utf-8", "replace") + b"\n"
            write_response(request, error.status, b"text/plain; charset=utf-8", body)


def prepare_read(request: Request) -> None:
    """Set the headers that limit who may read the answer to a GET that runs a query.

    :raises trough.errors.ForeignPage: a web page sends it, and may not
    """
    guard = request.site.guard
    guard.check_read(request.header)
    origin = guard.shared_with(request.header).encode()
    for name, value in _PROTECTING.items():
        request.setHeader(name, value)
    if origin:
        request.setHeader(b"access-control-allow-origin", origin)
        request.setHeader(b"access-control-expose-headers", _EXPOSED)
        request.setHeader(b"cross-origin-resource-policy", b"cross-origin")


def _answer_preflight(request: Request) -> bool:
    """Let a page of a configured origin send its GET; whether this is such a page."""
    guard = request.site.guard
    if not guard.is_preflight(request.header):
        return False
    request.setHeader(b"access-control-allow-origin", guard.shared_with(request.header).encode())
    request.setHeader(b"access-control-allow-methods", b"GET")
    request.setHeader(b"access-control-allow-headers", b"authorization, if-none-match")
    request.setHeader(b"vary", b"Origin")
    write_response(request, http.NO_CONTENT, b"", b"")
    return True


def _end_wait(later: IDelayedCall, wrong: WrongTokens, client: str) -> None:
    """The answer to a wrong token was sent, or its client is gone."""
    wrong.answered(client)
    if later.active():
        later.cancel()


def _path_of(target: bytes) -> bytes:
    """The path that a request asks for, where it may name the whole URL (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if separator and b"/" not in scheme else target


def _log_trace(request: Request, outcome: str, seconds: float) -> None:
    """Log a request that its client traces and samples (https://www.w3.org/TR/trace-context/)."""
    trace = (request.getHeader(TRACE_HEADER) or b"").decode("ascii", "replace")
    match = _TRACE.fullmatch(trace)
    if match is not None and int(match["flags"], 16) & 1:
        _log.info(
            "trace {trace}, span {span}: {method} {path}, {outcome}, {seconds} s",
            trace=match["trace"],
            span=match["span"],
            method=request.method.decode("ascii", "replace"),
            path=request.path.decode("utf-8", "replace")[:200],
            outcome=outcome,
            seconds=round(seconds, 4),
        )


def _outcome_of(request: Request) -> str:
    if request.code < 400:
        return "ok"
    codes = request.responseHeaders.getRawHeaders(CODE_HEADER) or [b"other"]
    return codes[0].decode()


def as_text(data: bytes) -> str:
    """A name out of a request. What is not UTF-8 is refused: another name would be meant.

    :raises trough.errors.BadRequest: it is not UTF-8
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise errors.BadRequest(
            f"not UTF-8: {ascii(data[:80])[1:]}", "escape it in a URL: %C3%BC is one letter"
        ) from error


def finished(request: Request) -> bool:
    """Whether nothing can be written to `request` any more."""
    return bool(request.finished or request._disconnected)


def write_response(request: Request, status: int, content_type: bytes, body: bytes) -> None:
    """Answer with a whole body, and end the request."""
    request.setResponseCode(status)
    if content_type:
        request.setHeader(b"content-type", content_type)
    if status != NO_CONTENT:
        request.setHeader(b"content-length", b"%d" % len(body))
    if request.method != b"HEAD" and body:
        request.write(body)
    request.finish()


def write_json(request: Request, status: int, answer: object) -> None:
    """Answer with JSON, and end the request."""
    body = json.dumps(answer).encode() + b"\n"
    write_response(request, status, b"application/json", body)


def as_json(answer: object, status: int = 200) -> tuple[int, bytes, bytes]:
    """A response for :meth:`Resource.run`."""
    return status, b"application/json", json.dumps(answer).encode() + b"\n"
