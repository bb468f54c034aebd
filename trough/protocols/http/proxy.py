"""Passes a read, or a write, on to the worker that can answer it, streaming both ways.

The client reads, the other worker sends. Each waits for the other: this worker pauses the
connection to the other one. A response that breaks off there breaks off here.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers

from trough import errors
from trough.access.tokens import Credential
from trough.protocols.http.credentials import ProvingAgent
from trough.protocols.http.headers import (
    CLIENT_HEADER,
    CODE_HEADER,
    FORWARDED_HEADER,
    HOLDER_AWAY_HEADER,
    REASON_PREFIX,
    STATE_HEADER,
    TRACE_HEADER,
)
from trough.protocols.http.request import Request, finished, write_response
from trough.protocols.http.response_body import read_content
from trough.tls import TlsFiles
from trough.tls.client import ClientTls
from trough.util.error_text import error_text, innermost
from trough.util.tls_problems import tls_problem

# Not the client's token, which is for this worker alone.
_PASSED_ON = (
    *(b"content-type", TRACE_HEADER, b"tracestate"),
    *(FORWARDED_HEADER, HOLDER_AWAY_HEADER),
)
#: Of a GET, besides.
_PASSED_ON_OF_GET = (b"accept", b"accept-encoding", b"if-none-match")
_PASSED_BACK = (
    *(b"content-type", STATE_HEADER, CODE_HEADER),
    *(b"content-encoding", b"etag", b"cache-control"),
)

#: Seconds to establish a connection, and beyond a query's own for its answer to begin.
PATIENCE = 5.0


class NoConnection(errors.Unavailable):
    """Not one byte of an answer came: the client can still get another answer."""


class ProxyRefused(errors.Unavailable):
    """The other worker cannot answer now; another one may."""


#: Codes of refusals for which another worker may not have the reason.
_ELSEWHERE = {
    cls.code
    for cls in (
        errors.Unavailable,
        errors.CorruptSegment,
        errors.DiskFull,
        errors.NoSuchSegment,
        errors.TroughError,
    )
}


class Proxy:
    """Forwards requests; one for all requests of a port.

    :param credential: proved to the other worker, which then takes the client for allowed
    :param tls: whom to believe; None: the CAs of the system
    """

    def __init__(
        self,
        reactor: Any,
        credential: Credential | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self._reactor = reactor
        self._connections = HTTPConnectionPool(reactor, persistent=True)
        self._connections.maxPersistentPerHost = 16
        self._tls = tls or ClientTls(TlsFiles(), reactor)
        kept = Agent(reactor, self._tls, connectTimeout=PATIENCE, pool=self._connections)
        self._agent = ProvingAgent(kept, credential, reactor)
        once = Agent(reactor, self._tls, connectTimeout=PATIENCE)
        self._writing = ProvingAgent(once, credential, reactor)

    async def forward(
        self, request: Request, url: str, seconds: float, refusable: bool = False
    ) -> None:
        """Send `request` to `url`, and its answer to the client.

        :param seconds: that the query may take on the other worker
        :param refusable: whether the request can be answered elsewhere, where this one cannot
        :raises Refused: `refusable` is set, and it cannot answer; it is not the client's fault
        :raises NoConnection: the other worker cannot be connected to, or is silent
        :raises trough.errors.Moved: it has the segment no more, or not yet
        :raises trough.errors.Unavailable: it broke off
        :raises trough.errors.Cancelled: it was cancelled after the answer had begun
        :raises CancelledError: it was cancelled before
        """
        self._check_url(url)
        method, body = (b"GET", b"") if request.method == b"GET" else (b"POST", request.body())
        asking: Deferred[Any] = Deferred.fromCoroutine(
            self._agent.request(method, url.encode(), _passed_on(request), body)
        )
        try:
            response = await asking.addTimeout(seconds + PATIENCE, self._reactor)
        except CancelledError:
            raise
        except Exception as failure:  # Twisted's connection errors share no base
            raise NoConnection(f"no answer from {url}: {error_text(failure)}") from failure
        code = (response.headers.getRawHeaders(CODE_HEADER) or [b""])[0].decode()
        if code == errors.Moved.code:
            said = (await read_content(response, url)).decode("utf-8", "replace")
            raise errors.Moved(f"{url}: {said}", "")
        if refusable and code in _ELSEWHERE:
            said = (await read_content(response, url)).decode("utf-8", "replace")
            raise ProxyRefused(f"{url}: {said.removeprefix(REASON_PREFIX.decode()).strip()}")
        request.setResponseCode(response.code)
        for name in _PASSED_BACK:
            for value in response.headers.getRawHeaders(name, []):
                request.responseHeaders.setRawHeaders(name, [value])
        relay = _Relay(request, url)
        response.deliverBody(relay)
        try:
            await relay.done
        except CancelledError as failure:
            raise errors.Cancelled(f"{url} broke off", "ask again in a moment") from failure

    async def forward_write(self, request: Request, url: str, seconds: float) -> None:
        """Send a write to `url`, once, and its answer to the client.

        It goes by a new connection. The other worker may have closed a kept one; then it would be
        unknown whether the write arrived.

        :param seconds: that the write may take on the other worker
        :raises trough.errors.NoWriteLock: the other worker cannot be connected to
        :raises trough.errors.OutcomeUnknown: it was sent, and no answer came
        """
        try:
            self._check_url(url)
        except NoConnection as error:
            raise errors.NoWriteLock(error.message, error.hint) from error
        target = f"{url}&seconds={seconds:g}".encode()
        asking: Deferred[Any] = Deferred.fromCoroutine(
            self._writing.request(b"POST", target, _passed_on(request), request.body())
        )
        try:
            response = await asking.addTimeout(seconds + PATIENCE, self._reactor)
            content = await read_content(response, url)
        except ConnectError as failure:
            raise errors.NoWriteLock(
                f"{url} cannot be connected to: {error_text(failure)}",
                "provision the segment again",
            ) from failure
        except (Exception, CancelledError) as failure:
            problem = tls_problem(innermost(failure))
            if problem is not None:  # of the handshake, before which nothing is sent
                raise errors.NoWriteLock(
                    f"{url} cannot be connected to: {problem}", "provision the segment again"
                ) from failure
            raise errors.OutcomeUnknown(
                f"the write was passed on to {url}, and no answer came: {error_text(failure)}",
                "it may be on disk or not: look before writing again",
            ) from failure
        for name in _PASSED_BACK:
            for value in response.headers.getRawHeaders(name, []):
                request.responseHeaders.setRawHeaders(name, [value])
        if not finished(request):
            write_response(request, response.code, b"", content)

    def _check_url(self, url: str) -> None:
        """Keep a client's token from a worker without TLS, where TLS is required."""
        try:
            self._tls.check_url(url)
        except errors.Unavailable as error:
            raise NoConnection(error.message, error.hint) from error

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._connections.closeCachedConnections()


def _passed_on(request: Request) -> Headers:
    """The headers of a request that the other worker is to see."""
    headers = Headers()
    names = _PASSED_ON + _PASSED_ON_OF_GET if request.method == b"GET" else _PASSED_ON
    client = f"{request.allowed.name} {request.channel.client}"
    headers.addRawHeader(CLIENT_HEADER, client.encode())
    for name in names:
        for value in request.requestHeaders.getRawHeaders(name, []):
            headers.addRawHeader(name, value)
    return headers


class _Relay(Protocol):
    """Writes what arrives from the worker to the client's request."""

    def __init__(self, request: Request, url: str) -> None:
        self._request = request
        self._url = url
        self.done: Deferred[None] = Deferred(lambda _: self._stop())

    transport: Any

    def connectionMade(self) -> None:
        self._request.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        if not finished(self._request):
            self._request.write(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        if self.done.called:
            return
        if finished(self._request):
            self.done.callback(None)
            return
        self._request.unregisterProducer()
        if reason.check(ResponseDone):
            self._request.finish()
            self.done.callback(None)
        else:
            assert reason.value is not None
            problem = f"{self._url} broke off: {error_text(reason.value)}"
            self.done.errback(errors.Unavailable(problem))

    def _stop(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()
