"""The query ports of a worker: 6444 answers reads, 6222 takes writes.

A small answer goes out as one piece with its length; a large one streams, chunk by chunk,
no faster than the client reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import PEER, READ, WRITE
from trough.executors.pool.encoder_pool import EncoderPool
from trough.executors.pool.pool import OBJECTS, Outcome, ReadLimits
from trough.model import Copy, check_segment_id, segment_word
from trough.protocols.http import url_reads
from trough.protocols.http.headers import FORWARDED_HEADER, HOLDER_AWAY_HEADER, STATE_HEADER
from trough.protocols.http.proxy import NoConnection, Proxy, ProxyRefused
from trough.protocols.http.request import Request, as_text, finished, write_response
from trough.protocols.http.resource import Resource, prepare_read
from trough.protocols.http.url_query import answer_head, url_query
from trough.protocols.http.url_reads import UrlParameters
from trough.protocols.line.arguments import parse_rows, parse_seconds
from trough.worker.queries import LocalRead, QueryService
from trough.worker.writing import Write

_log = Logger()


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """The parameters of a query, all checked.

    :ivar limits: what was asked for, within what the server allows
    """

    segment: str
    limits: ReadLimits


def query_parameters(request: Request, queries: QueryService) -> QueryParameters:
    """Check the query string and the headers of a request.

    ``Host: ID.anything`` names the segment where ``?segment=`` is absent.

    :raises trough.errors.BadRequest: naming the parameter
    """
    arguments = request.args
    unknown = set(arguments) - {b"segment", b"seconds", b"rows"}
    if unknown:
        names = ", ".join(sorted(name.decode("utf-8", "replace") for name in unknown))
        raise errors.BadRequest(f"unknown parameters: {names}", "known: segment, seconds, rows")
    for name, values in arguments.items():
        if len(values) != 1:
            raise errors.BadRequest(f"the parameter {name.decode()} is given {len(values)} times")
    if b"segment" in arguments:
        segment = as_text(arguments[b"segment"][0])
    else:
        segment = _named_by_host(request)
    limits = _limits(request, queries, partial(_given, arguments))
    request.allowed.check_segment(check_segment_id(segment))
    return QueryParameters(segment, limits)


def _limits(
    request: Request, queries: QueryService, given: Callable[[str], str | None]
) -> ReadLimits:
    seconds, rows = given("seconds"), given("rows")
    return queries.limits(
        None if seconds is None else parse_seconds(seconds),
        None if rows is None else parse_rows(rows),
        request.channel.client,
    )


def _set_mark(request: Request, mark: str) -> None:
    if mark:
        request.setHeader(STATE_HEADER, mark.encode())


def _given(arguments: dict[bytes, list[bytes]], name: str) -> str | None:
    values = arguments.get(name.encode())
    return None if values is None else values[0].decode("utf-8", "replace")


def _named_by_host(request: Request) -> str:
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) > 1:
        raise errors.BadRequest("two Host headers name the segment", "add ?segment=ID to the URL")
    host = as_text(hosts[0] if hosts else b"")
    segment, dot, _ = host.partition(".")
    if not dot or host.replace(".", "").partition(":")[0].isdigit():
        raise errors.BadRequest("no segment is named", "add ?segment=ID to the URL")
    return segment


#: Options that the URL of a GET may have, besides those that each URL may have.
_READ_OPTIONS = frozenset({"segment", "seconds", "rows"})

#: What a read asks for, by POST or by GET.
Parameters = QueryParameters | UrlParameters


class ReadResource(Resource):
    """``POST /?segment=ID`` with one SELECT: its rows as a JSON array of objects.

    ``GET /?segment=ID&sql=SELECT...``: the same, or another format.
    """

    error_as_json = False
    segment_in_host = True
    needs = READ | PEER
    verb = "read"

    def __init__(
        self,
        queries: QueryService,
        proxy: Proxy,
        encoders: EncoderPool,
        gate: Gate | None = None,
    ) -> None:
        super().__init__(gate)
        self._queries = queries
        self._proxy = proxy
        self._encoders = encoders

    def handler(self, request: Request) -> Callable[[Request], None]:
        if request.method == b"POST":
            return self._handler(query_parameters(request, self._queries))
        if request.method in (b"GET", b"HEAD"):
            return self._url_handler(request)
        raise _not_allowed(request, b"GET, HEAD, POST")

    def _url_handler(self, request: Request) -> Callable[[Request], None]:
        prepare_read(request)
        parameters = self._url_parameters(request)
        if request.method == b"HEAD":
            return lambda request: answer_head(request, parameters.query)
        return self._handler(parameters)

    def _handler(self, parameters: Parameters) -> Callable[[Request], None]:
        if self._queries.has_to_wait:
            return lambda request: self.run(request, self._wait(request, parameters))
        return lambda request: self._serve(request, parameters)

    def _url_parameters(self, request: Request) -> UrlParameters:
        query = url_query(request, _READ_OPTIONS)
        segment = query.options.get("segment") or _named_by_host(request)
        limits = _limits(request, self._queries, query.options.get)
        request.allowed.check_segment(check_segment_id(segment))
        return UrlParameters(segment, limits, query)

    async def _wait(self, request: Request, parameters: Parameters) -> None:
        await self._queries.wait()
        self._serve(request, parameters)

    def _serve(self, request: Request, parameters: Parameters) -> None:
        reading = self._queries.local(parameters.segment)
        if reading is not None:
            self._read(request, reading, parameters)
        elif self._queries.is_cold(parameters.segment):
            self.run(request, self._read_cold(request, parameters))
        else:
            self.run(request, self._elsewhere(request, parameters))

    def _read(self, request: Request, reading: LocalRead, parameters: Parameters) -> None:
        _set_mark(request, reading.mark)
        if isinstance(parameters, UrlParameters):
            version = self._queries.version(parameters.segment)
            if url_reads.is_unmodified(request, url_reads.etag_of(version, parameters.query)):
                return
        self._start(request, self._queries.read, [reading.target], parameters)

    def _start(
        self, request: Request, read: Callable[..., Any], what: Any, parameters: Parameters
    ) -> None:
        if isinstance(parameters, QueryParameters):
            sql, bound = request.body(), None
        elif parameters.query.reply.is_plain:
            sql, bound = parameters.query.sql.encode(), parameters.query.parameters
        else:
            url_reads.start(self, request, self._encoders, parameters, read, what)
            return
        receiver = Streamed(self, request)
        receiver.job = read(what, sql, bound, parameters.limits, OBJECTS, "", receiver)
        receiver.watch()

    async def _read_cold(self, request: Request, parameters: Parameters) -> None:
        try:
            target = await self._queries.bring(parameters.segment)
        except (errors.Unavailable, errors.NoSuchSegment) as reason:
            if request.requestHeaders.hasHeader(FORWARDED_HEADER):
                raise  # the worker that passed it on asks the next one
            await self._elsewhere(request, parameters, reason)
            return
        _set_mark(request, self._queries.cold_mark)
        self._start(request, self._queries.read_cold, target, parameters)

    async def _elsewhere(
        self,
        request: Request,
        parameters: Parameters,
        reason: errors.TroughError | None = None,
    ) -> None:
        """Pass a read on, or answer as last promoted where the writer cannot be reached.

        This worker, the store and the worker that is asked all know with some delay where a
        segment is. So another worker is asked where one has lost the segment, or cannot read a
        cold one.

        :param reason: why this worker cannot read it itself, where it should
        """
        segment, asked_in_vain, moved_from = parameters.segment, set[str](), set[str]()
        if await self._queries.arrived([segment]) and (here := self._queries.local(segment)):
            self._read(request, here, parameters)
            return
        if reason is not None:
            asked_in_vain.add(self._queries.node)
        reason = reason or errors.Unavailable(
            f"segment {segment} has just moved", "ask again in a second"
        )
        reading = self._read_for_another(request, segment)
        passed_on = request.requestHeaders.hasHeader(FORWARDED_HEADER)
        while reading is None and not passed_on:
            copy = await self._next_copy(segment, asked_in_vain, reason)
            try:
                await self._pass_on(request, copy, parameters, moved_from)
            except errors.Moved:
                moved_from.add(copy.node)
                asked_in_vain.add(copy.node)
                reading = self._queries.local(segment)
            except ProxyRefused as failure:
                reason = failure
                asked_in_vain.add(copy.node)
            except NoConnection as failure:
                reason = failure
                asked_in_vain.add(copy.node)
                self._queries.reach.note(copy.node, False)
                reading = self._queries.local(segment)
            else:
                return
        if reading is None:
            if passed_on:
                reason = await self._why_not_here(segment)
            raise reason
        self._read(request, reading, parameters)

    async def _why_not_here(self, segment: str) -> errors.TroughError:
        """The worker that passed the request on may not know yet that all of it is gone."""
        reason = await self._queries.find_absence(segment)
        if isinstance(reason, errors.NoSuchSegment):
            return reason
        return errors.Moved(f"segment {segment} is not answered by {self._queries.node}", "")

    def _read_for_another(self, request: Request, segment: str) -> LocalRead | None:
        """An answer in place of a holder that the worker that passed this on cannot connect to."""
        holder = request.getHeader(HOLDER_AWAY_HEADER)
        if not holder:
            return None
        return self._queries.local(segment, holder.decode("ascii", "replace"))

    async def _next_copy(
        self, segment: str, asked_in_vain: set[str], reason: errors.TroughError
    ) -> Copy:
        try:
            return await self._queries.elsewhere(segment, asked_in_vain)
        except errors.NoSuchSegment:
            if asked_in_vain:  # there is one, which could not be asked
                raise reason from None
            raise
        except errors.Unavailable:
            # Why a cold worker refused explains more than that none is left to be asked.
            if asked_in_vain and self._queries.worker.is_cold(segment):
                raise reason from None
            raise

    async def _pass_on(
        self, request: Request, copy: Copy, parameters: Parameters, moved_from: set[str]
    ) -> None:
        headers = request.requestHeaders
        headers.setRawHeaders(FORWARDED_HEADER, [self._queries.node.encode()])
        holder = self._queries.worker.cluster.holder_elsewhere(parameters.segment)
        # One that answered that it writes the segment no more is not away.
        if holder is not None and holder.node not in {copy.node, *moved_from}:
            headers.setRawHeaders(HOLDER_AWAY_HEADER, [holder.node.encode()])
        refusable = self._queries.worker.is_cold(parameters.segment)
        url = copy.url
        if isinstance(parameters, UrlParameters):
            url = url_reads.forwarded_url(url, parameters, request)
        cluster = self._queries.worker.cluster
        question = self._proxy.forward(request, url, parameters.limits.seconds, refusable)
        try:
            await cluster.while_alive(copy.node, question)
        except CancelledError as failure:
            if copy.node in cluster.workers:
                raise
            raise NoConnection(f"no answer from {url}: worker {copy.node} is dead") from failure


class WriteResource(Resource):
    """``POST /?segment=ID`` with SQL: ``OK`` once all of it is on disk."""

    error_as_json = False
    segment_in_host = True
    needs = WRITE | PEER
    verb = "write"

    def __init__(self, queries: QueryService, proxy: Proxy, gate: Gate | None = None) -> None:
        super().__init__(gate)
        self._queries = queries
        self._proxy = proxy

    def handler(self, request: Request) -> Callable[[Request], None]:
        if request.method != b"POST":
            raise _not_allowed(request, b"POST")
        parameters = query_parameters(request, self._queries)
        if self._queries.writers.is_here(parameters.segment):
            return lambda request: self._write(request, parameters)
        return lambda request: self.run(request, self._route(request, parameters))

    def route_again(self, request: Request, parameters: QueryParameters) -> None:
        """Find the holder for a write that waited here while its segment was handed over."""
        self.run(request, self._route(request, parameters, again=False))

    async def _route(
        self, request: Request, parameters: QueryParameters, again: bool = True
    ) -> None:
        """Pass a write on to the lock's holder, or take the lock again and write here.

        :param again: whether a write that is refused here for want of the lock comes back
        """
        holder = await self._queries.writers.find(parameters.segment)
        # The worker that passed it on may not know yet that this one gave the lock up. What this
        # worker knows may be late, too. And no write may circle between workers.
        if holder is None or request.requestHeaders.hasHeader(FORWARDED_HEADER):
            self._write(request, parameters, again)
            return
        request.requestHeaders.setRawHeaders(FORWARDED_HEADER, [self._queries.node.encode()])
        url = f"{holder.write_url}?segment={segment_word(parameters.segment)}"
        await self._queries.worker.cluster.while_alive(
            holder.node, self._proxy.forward_write(request, url, parameters.limits.seconds)
        )

    def _write(self, request: Request, parameters: QueryParameters, again: bool = True) -> None:
        # A client that goes away does not take its write back: it may be on disk.
        again = again and not request.requestHeaders.hasHeader(FORWARDED_HEADER)
        receiver = _Written(self, request, parameters, again)
        try:
            job = self._queries.write(
                parameters.segment, request.body(), None, parameters.limits, receiver
            )
        except errors.NoWriteLock:
            if not again:
                raise
            self.route_again(request, parameters)
            return
        receiver.job = job
        request.cancel_work = job.cancel


def _not_allowed(request: Request, allowed: bytes) -> errors.MethodNotAllowed:
    request.setHeader(b"allow", allowed)
    return errors.MethodNotAllowed(
        f"{request.method.decode('ascii', 'replace')} is not for this port",
        "POST the SQL to /?segment=ID",
    )


class Streamed:
    """Brings the answer of a read to the client; a receiver of the executors' bytes.

    The first chunk waits for the second or for the end, whichever comes first.
    """

    job: Any = None

    def __init__(self, resource: Resource, request: Request) -> None:
        self._resource = resource
        self._request = request
        self._first: bytes | None = None
        self._streaming = False
        self._over = False

    def watch(self) -> None:
        """Cancel the query if the client goes away."""
        if not self._over:
            self._request.cancel_work = self.job.cancel
            self._request.when_gone = self._gone

    def _gone(self) -> None:
        if not self._over:
            self._over = True
            self.job.cancel()

    def data(self, chunk: bytes) -> None:
        """A further piece of the answer."""
        if self._over:
            return
        if self._streaming:
            self._request.write(chunk)
        elif self._first is None:
            self._first = chunk
        else:
            self._begin_streaming()
            self._request.write(chunk)

    def _begin_streaming(self) -> None:
        self._streaming = True
        self._request.setHeader(b"content-type", b"application/json")
        self._request.write(self._first or b"")
        self._request.registerProducer(self, True)

    def finished(self, outcome: Outcome) -> None:
        """The end of the answer, or the reason why there is none."""
        if self._over:
            return
        self._over = True
        # It knows this in turn; left together, both would wait for the collector.
        self.job = self._request.cancel_work = self._request.when_gone = None
        if self._streaming:
            self._request.unregisterProducer()
        if outcome.error is not None:
            self._resource.fail(self._request, Failure(outcome.error))
        elif self._streaming:
            self._request.finish()
        else:
            write_response(self._request, 200, b"application/json", self._first or b"[]\n")

    def pauseProducing(self) -> None:
        self.job.pause()

    def resumeProducing(self) -> None:
        self.job.resume()

    def stopProducing(self) -> None:
        self._gone()


class _Written:
    """Answers a write once its outcome is known.

    :param again: whether to look for the holder, if this worker has lost the lock meanwhile
    :ivar job: the write
    """

    def __init__(
        self, resource: WriteResource, request: Request, parameters: QueryParameters, again: bool
    ) -> None:
        self.job: Write | None = None
        self._resource = resource
        self._request = request
        self._parameters = parameters
        self._again = again

    def data(self, chunk: bytes) -> None:
        """A write sends no rows."""

    def finished(self, outcome: Outcome) -> None:
        """The write is on disk, or is not."""
        self._request.cancel_work = None
        job, self.job = self.job, None
        lost = isinstance(outcome.error, errors.NoWriteLock)  # and nothing was stored
        if lost and self._again and not finished(self._request):
            self._resource.route_again(self._request, self._parameters)
            return
        if self._resource.gate.audit is not None:
            result = "ok" if outcome.error is None else outcome.error.code
            epoch, sql = job.epoch if job is not None else 0, self._request.body()
            segment = self._parameters.segment
            self._request.note("write", result, segment=segment, epoch=epoch, sql=sql)
        if finished(self._request):
            return
        if outcome.error is not None:
            self._resource.fail(self._request, Failure(outcome.error))
        else:
            write_response(self._request, 200, b"text/plain; charset=utf-8", b"OK\n")
