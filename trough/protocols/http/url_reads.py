"""Reads of one segment by GET, on a worker's read port.

``GET /?segment=ID&sql=SELECT...`` answers as the POST does, or in another format. Its ``ETag``
names the version of a promoted segment that the answer is from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from twisted.python.failure import Failure
from twisted.web import http

from trough import __version__, errors
from trough.executors.pool.encoder_pool import EncoderPool
from trough.executors.pool.pool import Framing, Outcome, ReadLimits
from trough.protocols.http.encoded_body import EncodedBody
from trough.protocols.http.request import Request, finished
from trough.protocols.http.resource import Resource
from trough.protocols.http.url_query import UrlQuery

#: Words of SQL whose value is not a function of the segment alone.
_CHANGING = re.compile(
    r"\b(?:random\w*|date|time|datetime|julianday|unixepoch|strftime|timediff|current_\w+"
    r"|last_insert_rowid|total_changes|changes|sqlite_\w+|pragma\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class UrlParameters:
    """A read by GET.

    :ivar limits: see :class:`trough.executors.pool.pool.ReadLimits`
    """

    segment: str
    limits: ReadLimits
    query: UrlQuery


def etag_of(version: str, query: UrlQuery) -> bytes:
    """The tag of an answer; empty where two answers from one version may differ.

    :param version: of the segment; empty where it has none that stays
    """
    if not version or _CHANGING.search(query.sql):
        return b""
    parameters = query.parameters
    bound = sorted(parameters.items()) if isinstance(parameters, dict) else parameters
    asked = (version, query.sql, query.options.get("rows"), bound, query.reply, __version__)
    return (
        b'"%s"' % hashlib.sha256(repr(asked).encode("utf-8", "replace")).hexdigest()[:32].encode()
    )


def is_unmodified(request: Request, tag: bytes) -> bool:
    """Set how long the answer holds; whether the client has it already, and was answered so.

    :param tag: of :func:`etag_of`
    """
    if not tag:
        request.setHeader(b"cache-control", b"no-store")
        return False
    # Asked about each time, for a segment may be promoted at any time.
    shared = b"private" if request.getHeader(b"authorization") else b"public"
    request.setHeader(b"cache-control", shared + b", no-cache")
    if request.setETag(tag) is http.CACHED:
        request.finish()
        return True
    return False


def start(
    resource: Resource,
    request: Request,
    encoders: EncoderPool,
    parameters: UrlParameters,
    read: Callable[..., Any],
    what: Any,
) -> None:
    """Have executors answer, and an encoder write the answer.

    :param read: one of the reading methods of :class:`trough.worker.queries.QueryService`
    """
    receiver = _EncodedRead(resource, request, encoders, parameters.query)
    query = parameters.query
    framing = Framing.OBJECTS if query.reply.format == "json" else Framing.LINES
    try:
        receiver.job = read(
            what, query.sql.encode(), query.parameters, parameters.limits, framing, "r", receiver
        )
    except errors.TroughError:
        receiver.body.abandon()
        raise
    request.cancel_work = receiver.job.cancel
    request.notifyFinish().addErrback(receiver.gone)


class _EncodedRead:
    """Takes what the executors answer."""

    job: Any = None

    def __init__(
        self, resource: Resource, request: Request, encoders: EncoderPool, query: UrlQuery
    ) -> None:
        self._resource = resource
        self._request = request
        self._over = False
        self.body = EncodedBody(request, query.reply, encoders, self._fail, self._flow)

    def data(self, chunk: bytes) -> None:
        """A further piece of the answer."""
        self.body.write(chunk)

    def finished(self, outcome: Outcome) -> None:
        """The end of the answer, or the reason why there is none."""
        self._end()
        if outcome.error is not None:
            self.body.abandon()
            self._fail(Failure(outcome.error))
        else:
            self.body.end()  # a segment that failed has written a line about it

    def gone(self, _: Failure) -> None:
        """The client is gone."""
        self.body.abandon()
        self._fail(Failure(errors.Cancelled("the client is gone")))

    def _flow(self, pause: bool) -> None:
        if self.job is not None:
            self.job.pause() if pause else self.job.resume()

    def _fail(self, failure: Failure) -> None:
        job = self.job
        self._end()
        if job is not None:
            job.cancel()
        if not finished(self._request):
            self._resource.fail(self._request, failure)

    def _end(self) -> None:
        # They know each other; left together, they would wait for the garbage collector.
        self.job = self._request.cancel_work = None


def forwarded_url(url: str, parameters: UrlParameters, request: Request) -> str:
    """Where another worker answers the same request.

    :param url: of its copy
    """
    asked = [(name, value) for name, values in request.args.items() for value in values]
    if b"segment" not in request.args:
        asked.append((b"segment", parameters.segment.encode()))
    return urlunsplit(urlsplit(url)._replace(query=urlencode(asked)))
