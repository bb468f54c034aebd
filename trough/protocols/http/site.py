"""A port over HTTP: its requests under way, and how it ends."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import TimeoutError
from twisted.logger import Logger
from twisted.web import http, resource, server

from trough.metrics.totals import RequestTotals
from trough.protocols.http.browser_guard import BrowserGuard
from trough.protocols.http.channel import Channel
from trough.protocols.http.connection_table import ConnectionTable
from trough.protocols.http.headers import CODE_HEADER, TRACE_HEADER
from trough.protocols.http.request import Request
from trough.protocols.unread_answers import MAX_UNSENT, UnreadAnswers
from trough.util.flush_batch import FlushBatch
from trough.util.trace_context import sampled
from trough.util.waiting import Waiters

_log = Logger()

#: Seconds that requests have to answer once a shutdown has cancelled them.
CANCEL_SECONDS = 2.0


class Site(server.Site):
    """A site of one port.

    :param max_body: bytes; a greater body is answered with 413
    :param guard: refuses what browsers send for web pages
    :param connections: of all sites of the process; None: of this one
    :param totals: count requests; None: of this one
    :param unread: bounds the answers that wait for clients, likewise
    :ivar flush_batch: the batch of what answers the requests
    """

    noisy = False
    protocol = Channel  # type: ignore[assignment]

    def __init__(
        self,
        root: resource.Resource,
        reactor: Any,
        max_body: int,
        flush_batch: FlushBatch | None = None,
        guard: BrowserGuard | None = None,
        *,
        connections: ConnectionTable | None = None,
        totals: RequestTotals | None = None,
        unread: UnreadAnswers | None = None,
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
        self.flush_batch = flush_batch or FlushBatch(reactor)
        self.guard = guard or BrowserGuard()
        # An empty table is false.
        self.connections = ConnectionTable(reactor.seconds) if connections is None else connections
        self._totals = totals or RequestTotals()
        self.unread = unread or UnreadAnswers(reactor, MAX_UNSENT)
        #: Requests, and when each began.
        self._under_way: dict[Request, float] = {}
        self._idle: Waiters[None] = Waiters()

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
        if not self._under_way and self._idle:
            self._idle.fire(None)

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
            with contextlib.suppress(TimeoutError):
                await self._idle.wait().addTimeout(seconds, self._clock)
        return not self._under_way

    def log(self, request: http.Request) -> None:
        """Access logs are not kept: what matters is logged where it is known."""


def _log_trace(request: Request, outcome: str, seconds: float) -> None:
    """Log a request that its client traces and samples."""
    trace = (request.getHeader(TRACE_HEADER) or b"").decode("ascii", "replace")
    if (ids := sampled(trace)) is not None:
        _log.info(
            "trace {trace}, span {span}: {method} {path}, {outcome}, {seconds} s",
            **ids,
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
