"""GATHER over HTTP: ``POST /gather`` and ``GET /gather?...`` of a sync server.

An answer of up to :data:`HELD` bytes is complete before its first byte is sent, so a failure
becomes an error response. A longer one streams, no faster than the client reads. A failure then
resets the connection, so that no client takes a part for a whole answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.encoder_pool import EncoderPool
from trough.gather.errors import SegmentsFailed
from trough.model import segment_named, segment_of_word, segment_word
from trough.protocols.gather_service import Gathered, Gatherer
from trough.protocols.http.encoded_body import EncodedBody
from trough.protocols.http.headers import MISSING_HEADER, MISSING_SEGMENTS_HEADER, STATE_HEADER
from trough.protocols.http.json_body import json_object
from trough.protocols.http.request import Request, finished
from trough.protocols.http.resource import prepare_read
from trough.protocols.http.url_query import UrlQuery, answer_head, url_query
from trough.protocols.limits import check_number_of_ids
from trough.protocols.line.arguments import (
    GatherArguments,
    checked_ids,
    parse_seconds,
    refuses_stale,
)
from trough.protocols.line.values import parameters_of
from trough.sql.rows import names_json
from trough.util.quoting import quoted
from trough.util.slices import SLICE, in_slices
from trough.util.waiting import BackPressure
from trough.util.wording import counted

#: Bytes of an answer that are kept until it is known to be whole.
HELD = 4 * 1024 * 1024

#: Segments that a header names.
_NAMED = 20

_URL_OPTIONS = frozenset({"segments", "matching", "seconds", "partial", "within", "stale", "each"})

_OPTIONAL = {*_URL_OPTIONS, "parameters"}
_KINDS: dict[str, tuple[type, ...]] = {
    "segments": (list,),
    "parameters": (list, dict),
    "seconds": (int, float),
    "partial": (bool,),
    "within": (bool,),
    "each": (bool,),
    "stale": (str,),
}


async def answer_gather(request: Request, gatherer: Gatherer) -> None:
    """Answer a request whose body is a JSON object, as ``docs/gather.rst`` describes it.

    :raises trough.errors.TroughError: what is wrong with it, or why there is no answer
    """
    asked = gather_arguments(request)
    asked.segments = await checked_ids(asked.segments, segment_named)
    await _answer_as_json(gatherer, asked, _Answer(request), "partial: true")


async def answer_gather_url(request: Request, gatherer: Gatherer, encoders: EncoderPool) -> None:
    """Answer a GET, in any format.

    :raises trough.errors.TroughError: see :func:`answer_gather`
    """
    prepare_read(request)
    request.setHeader(b"cache-control", b"no-store")
    query = url_query(request, _URL_OPTIONS)
    asked = gather_url_arguments(query)
    if request.method == b"HEAD":
        answer_head(request, query)
    elif query.reply.is_plain:
        asked.segments = await checked_ids(asked.segments, segment_of_word)
        await _answer_as_json(gatherer, asked, _Answer(request), "partial=yes")
    else:
        asked.segments = await checked_ids(asked.segments, segment_of_word)
        await _answer_encoded(gatherer, asked, _EncodedAnswer(request, query, encoders))


async def _answer_as_json(
    gatherer: Gatherer, asked: GatherArguments, answer: _Answer, offer: str
) -> None:
    try:
        gathered = await gatherer.gather(asked, answer.send, answer.grant)
    except SegmentsFailed as failed:
        failed.offer(offer)
        raise
    answer.finish(*await _members(gathered))


async def _answer_encoded(
    gatherer: Gatherer, asked: GatherArguments, answer: _EncodedAnswer
) -> None:
    try:
        await answer.finish(await gatherer.gather(asked, answer.send, answer.grant))
    except BaseException as reason:
        if isinstance(reason, SegmentsFailed):
            reason.offer("partial=yes")
        answer.abandon()
        raise


def gather_url_arguments(query: UrlQuery) -> GatherArguments:
    """The URL of a request, checked.

    :raises trough.errors.BadRequest: naming the parameter
    """
    options = query.options
    if ("segments" in options) == ("matching" in options):
        raise errors.BadRequest("the URL has to have one of segments= and matching=")
    named = options.get("segments")
    segments = () if named is None else tuple(named.split(","))
    check_number_of_ids(len(segments))
    seconds = options.get("seconds")
    return GatherArguments(
        segments,
        options.get("matching"),
        query.sql,
        query.parameters,
        None if seconds is None else parse_seconds(seconds),
        _is_yes(options, "partial"),
        _is_yes(options, "within"),
        refuses_stale(options.get("stale", "allow")),
        _is_yes(options, "each"),
    )


def _is_yes(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "no").lower()
    if value not in ("yes", "no"):
        raise errors.BadRequest(f"{name}={value[:40]}", "yes or no")
    return value == "yes"


def gather_arguments(request: Request) -> GatherArguments:
    """The body of a request, checked.

    :raises trough.errors.BadRequest: naming the key
    """
    body = json_object(request, {"sql"}, _OPTIONAL, _KINDS)
    if ("segments" in body) == ("matching" in body):
        raise errors.BadRequest("the body has to have one of segments and matching")
    segments = tuple(body.get("segments", ()))
    check_number_of_ids(len(segments))
    if len(segments) <= SLICE:
        segments = tuple(map(segment_named, segments))
    seconds = body.get("seconds")
    if seconds is not None and not 0 < seconds < 1e15:
        raise errors.BadRequest(
            f"seconds is {quoted(seconds, 40)}", "a number of seconds, more than 0"
        )
    parameters = body.get("parameters")
    return GatherArguments(
        segments,
        body.get("matching"),
        body["sql"],
        None if parameters is None else parameters_of(parameters),
        seconds,
        body.get("partial", False),
        body.get("within", False),
        refuses_stale(body.get("stale", "allow")),
        body.get("each", False),
    )


class _EncodedAnswer:
    """An answer on its way through an encoder.

    Its formats have no place for segments that are missing. Headers name them where the answer
    is short enough to be held back; a longer one is cut off.
    """

    def __init__(self, request: Request, query: UrlQuery, encoders: EncoderPool) -> None:
        self._request = request
        self.grant = request.allowed
        self._as_json = query.reply.format == "json"
        self._separator = ""
        self._pressure = BackPressure()
        self._failure: Failure | None = None
        self._over: Deferred[None] = Deferred()
        self._body = EncodedBody(
            request, query.reply, encoders, self._failed, self._flow, held=HELD
        )
        request.notifyFinish().addBoth(self._end)

    async def send(self, names: tuple[str, ...], rows: str) -> None:
        """Encode some rows, and wait until the encoder and the client have taken most.

        :raises trough.errors.TroughError: they do not fit the format
        """
        if self._as_json:
            text = f"{self._separator}{rows}" if rows else _head(names)
            self._separator = ",\n" if rows else ""
        else:
            text = f"r ROWS - [{rows}]\n" if rows else f"r COLS - {names_json(names)}\n"
        self._body.write(text.encode("utf-8", "replace"))
        if self._body.is_paused:
            self._pressure.pause()
            await self._pressure.ready()
        if self._failure is not None:
            self._failure.raiseException()

    async def finish(self, gathered: Gathered) -> None:
        """All rows were taken; return when the answer has ended.

        :raises trough.errors.Unavailable: the answer can no longer name what is missing
        """
        if self._as_json:
            self._body.write(_tail(*await _members(gathered)).encode("utf-8", "replace"))
        elif gathered.missing or gathered.stale:
            self._set_headers(gathered)
        self._body.end()
        await self._over

    def _set_headers(self, gathered: Gathered) -> None:
        missing = gathered.missing
        if missing and self._body.is_streaming:
            raise errors.Unavailable(
                f"{counted(len(missing), 'segment')} missing from an answer that is under way",
                "format=json names them at its end",
            )
        if missing:
            named = ",".join(map(segment_word, islice(missing, _NAMED)))
            self._request.setHeader(MISSING_HEADER, b"%d" % len(missing))
            self._request.setHeader(MISSING_SEGMENTS_HEADER, named.encode())
        if gathered.stale:
            marks = ",".join(sorted(set(gathered.stale.values())))
            self._request.setHeader(STATE_HEADER, marks.encode())

    def abandon(self) -> None:
        """There will be no whole answer."""
        self._body.abandon()

    def _flow(self, pause: bool) -> None:
        if not pause:
            self._pressure.resume()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._flow(False)
        self._end(failure)

    def _end(self, result: object) -> None:
        if not self._over.called:
            self._over.callback(result if result is self._failure else None)


def _head(names: tuple[str, ...]) -> str:
    return f'{{"columns":{names_json(names)},"rows":['


def _tail(missing: str, stale: str) -> str:
    marks = f',"stale":{{{stale}}}' if stale else ""
    return f'],"missing":{{{missing}}}{marks}}}\n'


async def _members(gathered: Gathered) -> tuple[str, str]:
    """What is missing, and what is stale, as members of JSON objects."""
    missing = await in_slices(
        lambda some: (
            f"{json.dumps(segment)}: {json.dumps({'error': str(error), 'code': error.code})}"
            for segment, error in some
        ),
        list(gathered.missing.items()),
    )
    stale = await in_slices(
        lambda some: (f"{json.dumps(segment)}: {json.dumps(mark)}" for segment, mark in some),
        list(gathered.stale.items()),
    )
    return ", ".join(missing), ", ".join(stale)


class _Answer:
    """The answer while it is being written; a producer once it streams."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.grant = request.allowed
        self._held: list[bytes] = []
        self._size = 0
        self._separator = ""
        self._streaming = False
        self._pressure = BackPressure()

    async def send(self, names: tuple[str, ...], rows: str) -> None:
        """Send some rows, and wait until the client has read what it has to."""
        if not rows:
            self._write(_head(names))
            return
        self._write(f"{self._separator}{rows}")
        self._separator = ",\n"
        await self._pressure.ready()

    def finish(self, missing: str, stale: str) -> None:
        """All rows were taken.

        :param missing: the members of an object, as JSON; likewise `stale`, if there are any
        """
        self._write(_tail(missing, stale))
        if finished(self._request):
            return
        if self._streaming:
            self._request.unregisterProducer()
        else:
            self._request.setHeader(b"content-length", b"%d" % self._size)
            self._begin()
        self._request.finish()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._size += len(data)
        if self._streaming:
            self._request.write(data)
            return
        self._held.append(data)
        if self._size > HELD:
            self._streaming = True
            self._begin()
            self._request.registerProducer(self, True)

    def _begin(self) -> None:
        self._request.setHeader(b"content-type", b"application/json")
        held, self._held = self._held, []
        self._request.write(b"".join(held))

    # -- for the transport -----------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._pressure.pause()

    def resumeProducing(self) -> None:
        self._pressure.resume()

    def stopProducing(self) -> None:
        """The client is gone, and the request's end cancels what goes on."""
