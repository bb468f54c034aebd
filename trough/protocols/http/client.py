"""HTTP for the Twisted client: workers and sync servers without the line protocol.

Workers of the original system answer SQL for one segment per request, a few at a time.
:mod:`trough.protocols.http.row_stream` reads their answers. This module does not choose the worker
for a segment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    PotentialDataLoss,
    ResponseDone,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from trough import errors
from trough.protocols.http.row_stream import RowLines
from trough.protocols.line.query_replies import QueryListener
from trough.tls import TlsFiles
from trough.tls.client import ClientTls
from trough.util.error_text import error_text, innermost
from trough.util.tls_problems import tls_problem

#: Seconds within which a server has to take a connection.
CONNECT_SECONDS = 5.0

#: Requests to one worker at a time. The original serves each with a process of its own.
REQUESTS_AT_ONCE = 8

#: Bytes of an answer that is read as a whole.
MAX_ANSWER = 64 << 20

_PREFIX = "500 Server Error: "
_JSON = "application/json"
_SQL = "application/sql;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answered:
    """How a query over HTTP ended; the listener has received all that there is."""

    segments: int


class HttpClient:
    """Kept connections to any number of HTTP servers.

    Only servers of the original system get such requests; they do not use tokens. No token is
    sent: the addresses come from the registry, which others may write.

    :param tls: the CAs to trust; None: the CAs of the system
    """

    def __init__(self, reactor: Any, tls: ClientTls | None = None) -> None:
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = REQUESTS_AT_ONCE
        # Below what servers wait: a request that meets the closing has an unknown outcome.
        self._pool.cachedConnectionTimeout = 20
        self._tls = tls or ClientTls(TlsFiles(), reactor)
        self._agent = Agent(reactor, self._tls, connectTimeout=CONNECT_SECONDS, pool=self._pool)

    async def close(self) -> None:
        """Close the connections that were kept."""
        await self._pool.closeCachedConnections()

    async def send(self, method: str, url: str, body: bytes, content_type: str) -> IResponse:
        """Send a request; the response's body is still to be read.

        :raises trough.errors.OutcomeUnknown: it was sent, and not answered
        :raises trough.errors.Unavailable: it was not sent
        """
        self._tls.check_url(url)
        headers = Headers({"content-type": [content_type]})
        producer = FileBodyProducer(BytesIO(body))
        try:
            return await self._agent.request(method.encode(), url.encode(), headers, producer)
        except CancelledError:
            raise
        except (ConnectError, DNSLookupError) as error:
            raise errors.Unavailable(f"cannot connect to {url}: {error}") from error
        except Exception as error:  # the transport's own, of many kinds
            problem = tls_problem(innermost(error))
            if problem is not None:
                raise errors.Unavailable(f"cannot connect to {url}: {problem}") from error
            raise errors.OutcomeUnknown(f"no answer from {url}: {error_text(error)}") from error

    async def order(self, method: str, url: str, document: Mapping[str, object] | None) -> Any:
        """Ask a sync server; its JSON, or None where it sends none.

        :raises trough.errors.TroughError: the leaf that the server's answer means
        """
        body = b"" if document is None else json.dumps(document).encode()
        response = await self.send(method, url, body, _JSON)
        content = await read_content(response, url)
        if response.code not in (200, 201, 204):
            raise error_of(response, content)
        return json.loads(content) if content.startswith((b"{", b"[")) else None

    async def write(self, url: str, sql: str) -> None:
        """Run SQL on the worker that `url` belongs to.

        :raises trough.errors.OutcomeUnknown: no answer came
        :raises trough.errors.TroughError: the leaf that the worker's answer means
        """
        response = await self.send("POST", url, sql.encode(), _SQL)
        content = await read_content(response, url)
        if response.code != 200:
            raise error_of(response, content)

    def query(
        self, urls: Mapping[str, str], sql: str, rows: int | None, listener: QueryListener
    ) -> HttpQuery:
        """Ask segments for rows, each at its URL.

        :param rows: most rows of one segment
        """
        return HttpQuery(self, urls, sql, rows, listener)


class HttpQuery:
    """A query under way, over as many requests as it has segments.

    :ivar done: fires when each segment has answered or failed
    """

    def __init__(
        self,
        client: HttpClient,
        urls: Mapping[str, str],
        sql: str,
        rows: int | None,
        listener: QueryListener,
    ) -> None:
        self._client = client
        self._sql = sql.encode()
        self._most = rows
        self._listener = listener
        self._slots = DeferredSemaphore(REQUESTS_AT_ONCE)
        self._bodies: set[RowLines] = set()
        self._asking: set[Deferred[None]] = set()
        self._left = len(urls)
        self._segments = len(urls)
        self.paused = False
        self.done: Deferred[Answered] = Deferred(lambda _: self.cancel())
        for segment, url in urls.items():
            asking = Deferred.fromCoroutine(self._ask(segment, url))
            self._asking.add(asking)
            asking.addBoth(self._finished, asking)

    def cancel(self) -> None:
        """End it; the listener gets no further calls. Idempotent."""
        self._fail(Failure(errors.Cancelled("cancelled by this client")))

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self.paused = True
        for body in self._bodies:
            body.pause()

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        for body in list(self._bodies):
            body.resume()

    async def _ask(self, segment: str, url: str) -> None:
        await self._slots.acquire()
        try:
            count = await self._read(segment, url)
        except errors.TroughError as error:
            self._listener.failed(segment, error)
        else:
            self._listener.done(segment, count)
        finally:
            self._slots.release()

    async def _read(self, segment: str, url: str) -> int:
        response = await self._client.send("POST", url, self._sql, _SQL)
        if response.code != 200:
            raise error_of(response, await read_content(response, url))
        for mark in response.headers.getRawHeaders("x-trough-state", ()):
            self._listener.state(segment, mark)
        body = RowLines(segment, self._listener, self._most, lambda: self.paused)
        self._bodies.add(body)
        try:
            response.deliverBody(body)
            return await body.done
        finally:
            self._bodies.discard(body)

    def _finished(self, result: object, asking: Deferred[None]) -> None:
        self._asking.discard(asking)
        self._left -= 1
        if isinstance(result, Failure):
            self._fail(result)
        elif not self._left and not self.done.called:
            self.done.callback(Answered(self._segments))

    def _fail(self, failure: Failure) -> None:
        if self.done.called:
            return
        self.done.errback(failure)
        for asking in list(self._asking):
            asking.cancel()


def error_of(response: IResponse, content: bytes) -> errors.TroughError:
    """The error in a response of another status than 200."""
    text = content.decode("utf-8", "replace").strip()
    if text.startswith("<"):  # a page for a browser
        text = ""
    refused = text.startswith(_PREFIX.strip())
    text = text.removeprefix(_PREFIX.strip()).strip()
    code = (response.headers.getRawHeaders("x-trough-error") or [""])[0]
    try:
        document = json.loads(content)
        text, code = document["error"], code or document.get("code", "")
    except (ValueError, KeyError, TypeError):
        pass
    if code == errors.Moved.code:
        return errors.NoSuchSegment(text)
    if code:
        return errors.from_code(code, text)
    if refused:
        return _refusal_of_the_original(text)
    kinds = {404: errors.NoSuchSegment, 503: errors.Unavailable, 401: errors.Unauthorized}
    return kinds.get(response.code, errors.TroughError)(text or f"status {response.code}")


def _refusal_of_the_original(text: str) -> errors.TroughError:
    """What an original worker means, whose only status is 500: most often that it, or its
    SQLite, does not take the SQL."""
    if not text:  # an assertion that the file is there
        return errors.NoSuchSegment("the worker has no file of this segment")
    if "cannot write to segment" in text:
        return errors.NoWriteLock(text)
    return errors.BadSql(text)


async def read_content(response: IResponse, url: str) -> bytes:
    """The whole body, up to :data:`MAX_ANSWER`.

    :raises trough.errors.OutcomeUnknown: it did not come whole
    """
    body = _Body()
    response.deliverBody(body)
    try:
        return await body.done
    except CancelledError:
        raise
    except Exception as error:
        raise errors.OutcomeUnknown(f"no whole answer from {url}: {error_text(error)}") from error


class _Body(Protocol):
    """Takes in a body, up to a limit."""

    transport: Any

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self.transport.stopProducing())

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._length += len(data)
        if self._length > MAX_ANSWER and not self.done.called:
            self.done.errback(errors.LimitExceeded(f"an answer of more than {MAX_ANSWER} bytes"))
            self.transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)
