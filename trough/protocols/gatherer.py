"""GATHER as a server offers it, whichever protocol asks.

:class:`Gatherer` runs requests over a client of the server's own, a few at once and each
with a deadline; :func:`some_rows` makes their rows JSON, in pieces that keep memory and the
reactor's turns small. Neither knows a connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from trough import errors
from trough.cluster import Cluster
from trough.cluster.gathers import AT_ONCE, Receive, ids_of
from trough.protocols.arguments import GatherArguments
from trough.sql.rows import Row, array_of_rows

#: Bytes of JSON from which rows are sent on.
PIECE = 65536


@dataclass(frozen=True, slots=True)
class Gathered:
    """How a request was answered.

    :ivar segments: how many it was about
    :ivar missing: of these, the ones that failed, where that was allowed, and why
    """

    segments: int
    missing: Mapping[str, errors.TroughError]


class Gatherer:
    """Answers GATHERs, a few at once: each may have a temporary file of a gigabyte.

    :param cluster: the client to ask with; connected by the first request
    :param seconds: the deadline of a request that does not say one
    :param max_seconds: the most that a request may ask for
    :param clock: the reactor, for deadlines
    """

    def __init__(self, cluster: Cluster, seconds: float, max_seconds: float, clock: Any) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._max_seconds = max_seconds
        self._clock = clock
        self._turns = DeferredSemaphore(AT_ONCE)

    async def gather(self, asked: GatherArguments, receive: Receive) -> Gathered:
        """Answer one; see :meth:`trough.cluster.Cluster.gather`.

        The deadline is for all of it: waiting for a turn, and for a slow reader too.

        :param receive: takes the names of the columns and some rows, at least once
        :raises trough.errors.TroughError: there is no exact answer, or segments failed
        """
        seconds = min(asked.seconds or self._seconds, self._max_seconds)
        late = errors.DeadlineExceeded(f"no whole answer within {seconds:g} s")
        answering = Deferred.fromCoroutine(self._answer(asked, seconds, receive))
        return await answering.addTimeout(seconds, self._clock, lambda *_: Failure(late))

    async def _answer(self, asked: GatherArguments, seconds: float, receive: Receive) -> Gathered:
        await self._turns.acquire()
        try:
            await self._cluster.open()
            pattern = asked.pattern
            segments = await ids_of(self._cluster, asked.segments if pattern is None else pattern)
            result = await self._cluster.gather(
                segments,
                asked.sql,
                asked.parameters,
                partial=asked.partial,
                within=asked.within,
                seconds=seconds,
                receive=receive,
            )
        finally:
            self._turns.release()
        return Gathered(len(segments), result.missing)


def some_rows(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """`rows` as JSON arrays with commas between them, in pieces of about :data:`PIECE`."""
    pieces: list[str] = []
    size = 0
    for row in rows:
        values: Row = tuple(row)
        pieces.append(array_of_rows([values])[1:-1])
        size += len(pieces[-1])
        if size >= PIECE:
            yield ",".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield ",".join(pieces)
