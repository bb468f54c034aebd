"""GATHER over HTTP: ``POST /gather`` of a sync server.

An answer of up to :data:`HELD` bytes is complete before its first byte is sent, so that
whatever fails is told as an error. A longer one streams, no faster than the client reads;
what fails then resets the connection, so that nobody takes the rest for a whole answer.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from trough import errors
from trough.gather.errors import SegmentsFailed
from trough.model import segment_named
from trough.protocols.gather_service import Gatherer
from trough.protocols.http.json_body import json_object
from trough.protocols.http.server import Request, finished
from trough.protocols.limits import check_number_of_ids
from trough.protocols.line.arguments import GatherArguments, checked_ids, refuses_stale
from trough.protocols.line.values import parameters_of
from trough.sql.rows import names_json
from trough.util.slices import SLICE, in_slices

#: Bytes of an answer that are kept until it is known to be whole.
HELD = 4 * 1024 * 1024

_OPTIONAL = {"segments", "matching", "parameters", "seconds", "partial", "within", "stale"}
_KINDS: dict[str, tuple[type, ...]] = {
    "segments": (list,),
    "parameters": (list, dict),
    "seconds": (int, float),
    "partial": (bool,),
    "within": (bool,),
    "stale": (str,),
}


async def answer_gather(request: Request, gatherer: Gatherer) -> None:
    """Answer a request whose body is a JSON object, as ``docs/gather.rst`` describes it.

    :raises trough.errors.TroughError: what is wrong with it, or why there is no answer
    """
    asked = gather_arguments(request)
    asked.segments = await checked_ids(asked.segments, segment_named)
    answer = _Answer(request)
    try:
        gathered = await gatherer.gather(asked, answer.send)
    except SegmentsFailed as failed:
        failed.offer("partial: true")
        raise
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
    answer.finish(", ".join(missing), ", ".join(stale))


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
        raise errors.BadRequest(f"seconds is {seconds!r:.40}", "a number of seconds, more than 0")
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
    )


class _Answer:
    """The answer while it is being written; a producer once it streams."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._held: list[bytes] = []
        self._size = 0
        self._separator = ""
        self._streaming = False
        self._slow: Deferred[None] | None = None

    async def send(self, names: tuple[str, ...], rows: str) -> None:
        """Send some rows, and wait until the client has read what it has to."""
        if not rows:
            self._write(f'{{"columns":{names_json(names)},"rows":[')
            return
        self._write(f"{self._separator}{rows}")
        self._separator = ",\n"
        if self._slow is not None:
            await self._slow

    def finish(self, missing: str, stale: str) -> None:
        """All rows were taken.

        :param missing: the members of an object, as JSON; likewise `stale`, if there are any
        """
        marks = f',"stale":{{{stale}}}' if stale else ""
        self._write(f'],"missing":{{{missing}}}{marks}}}\n')
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
        if self._slow is None:
            self._slow = Deferred()

    def resumeProducing(self) -> None:
        slow, self._slow = self._slow, None
        if slow is not None and not slow.called:
            slow.callback(None)

    def stopProducing(self) -> None:
        """The client is gone, and the request's end cancels what goes on."""
