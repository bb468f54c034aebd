"""HTTP for callers that block: kept connections, shared by any number of threads.

It sends a request to a server at most once. A failure tells whether the server can have acted on
it: :class:`NotSent` or :class:`NoAnswer`. That decides whether a write may be repeated, and
general HTTP libraries hide it. Connecting has a short limit of its own: a host that is gone costs
seconds, and not the long wait that an answer may take. Proxies named in the environment are not
used: the callers are crawlers, whose environment often names the proxy that they crawl through.
After a fork, the child opens connections of its own.
"""

from __future__ import annotations

import http.client
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from trough import errors
from trough.tls import TlsFiles
from trough.tls.blocking import reloaded_context
from trough.util.tls_problems import tls_problem

if TYPE_CHECKING:
    import ssl

    from trough.tls.reloading import Reloading

_log = logging.getLogger("trough.client")

#: Seconds within which a server has to take a connection.
CONNECT_SECONDS = 5.0

#: Seconds that an unused connection is kept. Twisted's servers close one after 60, and a
#: request that meets the closing is a write of unknown outcome: stay well below.
IDLE_SECONDS = 20.0

#: Idle connections to one server that are kept.
KEPT_PER_SERVER = 32

_REDIRECTS = frozenset({307, 308})
_MAX_REDIRECTS = 4
# Characters that may stand in a URL as they are; what else is there (a segment id of old
# with a blank in it) is escaped, since the URL was built without escaping.
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


class NotSent(errors.Unavailable):
    """The server never had the whole request: sending it again is safe."""


class NoAnswer(errors.Unavailable):
    """The request was sent, and no whole answer came: it may have been carried out."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that arrived whole.

    :ivar status: HTTP status
    :ivar reason: the words beside the status
    :ivar headers: by name in lower case
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


class Connections:
    """Kept connections to any number of servers; every method is for any thread.

    :param clock: monotonic seconds
    :param tls: whom to believe; None: the CAs of the system
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, tls: TlsFiles | None = None
    ) -> None:
        self._clock = clock
        self._tls = tls or TlsFiles()
        self._contexts: Reloading[ssl.SSLContext] | None = None
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[tuple[http.client.HTTPConnection, float]]] = {}
        self._closed = False
        self._process = os.getpid()

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float,
    ) -> Response:
        """Send a request and wait for its whole answer, following redirects that keep
        the method.

        :param timeout: longest silence of the server, in seconds
        :raises NotSent: no server, or it closed before it had the request
        :raises NoAnswer: the server closed or fell silent after it had the request
        """
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._exchange(method, _parsed(url), body, headers or {}, timeout)
            location = response.headers.get("location", "")
            if response.status not in _REDIRECTS or not location:
                return response
            url = urljoin(url, location)
        raise NotSent(f"{method} {url}: more than {_MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """Close idle connections now, and those in use after their answer. Idempotent."""
        self._leave_behind()
        with self._lock:
            self._closed = True
            kept, self._idle = self._idle, {}
        for connections in kept.values():
            for connection, _ in connections:
                connection.close()

    def _exchange(
        self,
        method: str,
        url: SplitResult,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> Response:
        what = f"{method} {url.geturl()}"
        connection = self._take(url) or self._connected(url, what)
        whole = False
        try:
            connection.sock.settimeout(timeout)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            unsent = _send(connection, method, target, body, headers)
            try:
                answer, content = _received(connection, what, timeout)
            except NoAnswer as error:
                if unsent:
                    raise NotSent(f"{what}: closed before all was sent: {unsent}") from error
                raise
            whole = not answer.will_close
        finally:
            if not (whole and self._keep(url, connection)):
                connection.close()
        named = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status, answer.reason, named, content)

    def _connected(self, url: SplitResult, what: str) -> http.client.HTTPConnection:
        """A new connection, over which a host with TLS has proved who it is."""
        connection = self._unconnected(url, what)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            problem = tls_problem(error) or error
            raise NotSent(f"{what}: cannot connect: {problem}") from error
        return connection

    def _unconnected(self, url: SplitResult, what: str) -> http.client.HTTPConnection:
        host = url.hostname or ""
        if url.scheme == "https":
            if self._contexts is None:
                self._contexts = reloaded_context(self._tls.known_ca, self._clock, _log.warning)
            return http.client.HTTPSConnection(
                host, url.port, timeout=CONNECT_SECONDS, context=self._contexts.current()
            )
        if self._tls.insists:
            raise NotSent(
                f"{what}: this server speaks no TLS, and TLS_CA says that it has to",
                "set TLS_CERT and TLS_KEY there",
            )
        return http.client.HTTPConnection(host, url.port, timeout=CONNECT_SECONDS)

    def _leave_behind(self) -> None:
        """After a fork: the connections belong to the parent, and a thread that held the lock
        does not exist here to release it."""
        if self._process != os.getpid():
            self._lock, self._idle, self._process = threading.Lock(), {}, os.getpid()

    def _take(self, url: SplitResult) -> http.client.HTTPConnection | None:
        """A kept connection that its server has not closed meanwhile, if there is one."""
        self._leave_behind()
        while True:
            with self._lock:
                idle = self._idle.get((url.scheme, url.netloc))
                if not idle:
                    return None
                connection, since = idle.pop()
            if self._clock() - since < IDLE_SECONDS and not _closed_by_server(connection):
                return connection
            connection.close()

    def _keep(self, url: SplitResult, connection: http.client.HTTPConnection) -> bool:
        with self._lock:
            idle = self._idle.setdefault((url.scheme, url.netloc), [])
            if self._closed or len(idle) >= KEPT_PER_SERVER:
                return False
            idle.append((connection, self._clock()))
            return True


def _parsed(url: str) -> SplitResult:
    parts = urlsplit(quote(url, safe=_URL_SAFE))
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise NotSent(f"not an HTTP URL with a host: {url!r}")
    return parts


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> OSError | None:
    """Send a request; return the error if not all of it was sent.

    The server cannot have the whole body then. But it may have sent a reason before it closed (too
    large, for one), so the caller still reads an answer.
    """
    try:
        connection.request(method, target, body, dict(headers))
    except OSError as error:
        return error
    return None


def _received(
    connection: http.client.HTTPConnection, what: str, timeout: float
) -> tuple[http.client.HTTPResponse, bytes]:
    try:
        answer = connection.getresponse()
        return answer, answer.read()
    except TimeoutError as error:
        raise NoAnswer(f"{what}: no answer in {timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{what}: no whole answer: {error or type(error).__name__}") from error


def _closed_by_server(connection: http.client.HTTPConnection) -> bool:
    # Between two exchanges the server has nothing to say: whatever can be read is the
    # end of the connection, or something that would be taken for the next answer.
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
