"""GATHER on a server, for both protocols.

:class:`Gatherer` runs requests over a client of the server's own, a few at once and each with a
deadline. It passes on their rows as JSON, in pieces that keep memory and the reactor's turns
small. It does not depend on connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from trough import errors
from trough.access.many_segments import check_many
from trough.access.rights import ANYBODY, Grant
from trough.cluster_client.client import Cluster
from trough.cluster_client.gather import AT_ONCE, segments_of
from trough.protocols.gather_slots import AdmissionQueue, Slot
from trough.protocols.line.arguments import GatherArguments
from trough.sql.json_rows import JsonRows
from trough.sql.rows import Row, array_of_rows

#: Bytes of JSON from which rows are sent on.
PIECE = 65536
#: Seconds for which an answer's reader may keep others waiting.
PATIENCE = 30.0
#: GATHERs at once that are short, or not known to be long; the others may be long.
SHORT = 8

#: Takes the names of the columns and rows as JSON arrays with commas between them, and
#: waits until the reader has taken most of what was sent.
Send = Callable[[tuple[str, ...], str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Gathered:
    """How a request was answered.

    :ivar segments: how many it was about
    :ivar rows: how many were sent
    :ivar missing: of the segments, those that failed, where that was allowed, and why
    :ivar stale: marks of those that did not answer their present state
    """

    segments: int
    rows: int
    missing: Mapping[str, errors.TroughError]
    stale: Mapping[str, str]


class Gatherer:
    """Answers GATHERs, a few at once: each has a process, and perhaps a file of one gigabyte.

    :param cluster: the client to ask with; connected by the first request
    :param seconds: the deadline of a request that names none
    :param max_seconds: the most that a request may ask for
    :param clock: the reactor, for deadlines
    :param short: GATHERs at once, beside `long` ones that have gone on for a while
    """

    def __init__(
        self,
        cluster: Cluster,
        seconds: float,
        max_seconds: float,
        clock: Any,
        short: int = SHORT,
        *,
        long: int = AT_ONCE - SHORT,
    ) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._max_seconds = max_seconds
        self._clock = clock
        self._turns = AdmissionQueue(short, PATIENCE, clock, long)

    def status(self) -> dict[str, int]:
        """Counts for the server's status."""
        return self._cluster.gather_status()

    async def gather(self, asked: GatherArguments, send: Send, grant: Grant = ANYBODY) -> Gathered:
        """Answer one; see :meth:`trough.cluster_client.client.Cluster.gather`.

        The deadline is for all of it: waiting for a turn, and for a slow reader too.

        :param send: called at least once, the first time without rows
        :param grant: what the client may do
        :raises trough.errors.Forbidden: there are segments that it is not for
        :raises trough.errors.TroughError: there is no exact answer, or segments failed
        """
        seconds = min(asked.seconds or self._seconds, self._max_seconds)
        late = errors.DeadlineExceeded(f"no whole answer within {seconds:g} s")
        answering = Deferred.fromCoroutine(self._answer(asked, seconds, send, grant))
        return await answering.addTimeout(seconds, self._clock, lambda *_: Failure(late))

    async def _answer(
        self, asked: GatherArguments, seconds: float, send: Send, grant: Grant
    ) -> Gathered:
        await check_many(grant, asked.segments)
        turn = await self._turns.take(lambda: running.cancel())
        running = Deferred.fromCoroutine(self._run(asked, seconds, send, turn, grant))
        try:
            return await running
        except (CancelledError, errors.Cancelled):
            if not turn.lost:
                raise
            if turn.is_too_long:
                raise errors.Unavailable(
                    "too many long GATHERs at once, and others waited", "ask again later"
                ) from None
            raise errors.DeadlineExceeded(
                f"this answer was not read for {self._turns.patience:g} s, and others waited"
            ) from None
        finally:
            turn.give_back()

    async def _run(
        self, asked: GatherArguments, seconds: float, send: Send, turn: Slot, grant: Grant
    ) -> Gathered:
        await self._cluster.open()
        pattern = asked.pattern
        wanted = asked.segments if pattern is None else pattern
        segments = await segments_of(self._cluster, wanted, asked.partial, self._clock)
        if pattern is not None:
            await check_many(grant, segments.ids, found=True)
        count = -1  # until the columns are known

        async def receive(names: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
            nonlocal count
            if count < 0:
                count = 0
                await turn.wait_for(send(names, ""))
            count += len(rows)
            for some in _some_rows(rows):
                await turn.wait_for(send(names, some))

        result = await self._cluster.gather(
            segments,
            asked.sql,
            asked.parameters,
            partial=asked.partial,
            within=asked.within,
            seconds=seconds,
            receive=receive,
            refuse_stale=asked.refuse_stale,
            when_long=turn.becomes_long,
            each=asked.each,
        )
        return Gathered(len(segments.ids), count, result.missing, result.stale)


def _some_rows(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """`rows` as JSON arrays with commas between them, in pieces of about :data:`PIECE`."""
    if isinstance(rows, JsonRows):
        # A worker sends them in pieces of such a size.
        yield rows.text.decode("utf-8", "replace")
        return
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
