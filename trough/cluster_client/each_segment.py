"""One query that each segment answers by itself: rows of all of them, with their segment.

Nothing is planned or merged, so any read of one segment will do, and rows are passed on in the
order in which they arrive. The first column is ``_segment``. All rows have the columns of the
segment that answered first; a segment with others fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trough import errors
from trough.cluster_client.gather_driver import GatherCluster, GatherResult, Receive, Rows
from trough.gather.errors import failure, stale_refused
from trough.protocols.line.values import Parameters, Value
from trough.util.waiting import Waiters

#: The first column.
SEGMENT = "_segment"


async def ask_each(
    cluster: GatherCluster,
    segments: Sequence[str],
    sql: str,
    parameters: Parameters | None,
    *,
    partial: bool,
    seconds: float | None,
    receive: Receive,
    refuse_stale: bool,
) -> GatherResult:
    """Have each segment answer; cancelling the Deferred that this becomes ends it everywhere.

    :param partial: answer from the segments that do not fail
    :param receive: takes the names and some rows, at least once; the workers pause while what it
        returns is waited for
    :raises trough.errors.TroughError: segments failed
    """
    taker = _Taker(receive)
    job = cluster.query(segments, sql, parameters, listener=taker, seconds=seconds)
    taker.job = job
    try:
        stats = await job.done
        await taker.handed_on()
    except errors.Cancelled:
        if taker.failure is not None:
            taker.failure.raiseException()
        raise
    finally:
        job.cancel()
    missing = {**stats.failed, **taker.different}
    if missing and not partial:
        raise failure(missing, len(segments), rest=True)
    if refuse_stale and taker.stale:
        raise stale_refused(taker.stale, len(segments))
    if not taker.has_handed_on:
        waited_for = receive(taker.names or (SEGMENT,), [])
        if waited_for is not None:
            await waited_for
    return GatherResult(taker.names or (SEGMENT,), missing=missing, stale=taker.stale)


class _Taker:
    """Listens to the workers, and passes rows on, one portion after the other.

    :ivar job: the query under way
    :ivar failure: of who receives them
    :ivar different: segments that answer other columns than the first one
    """

    job: Any = None

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._first = ""
        self._ready: Rows = []
        self._busy = False
        self._idle: Waiters[None] = Waiters()
        self.failure: Failure | None = None
        self.names: tuple[str, ...] = ()
        self.has_handed_on = False
        self.different: dict[str, errors.TroughError] = {}
        self.stale: dict[str, str] = {}

    def state(self, segment: str, mark: str) -> None:
        """See :class:`trough.protocols.line.query_replies.QueryListener`; so for the others."""
        self.stale[segment] = mark

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        """Compare the columns with those of the first segment."""
        names = (SEGMENT, *names)
        if not self.names:
            self.names, self._first = names, segment
        if names != self.names:
            text = f"its columns are not those of segment {self._first}, which answered first"
            self.different[segment] = errors.BadRequest(text, "name the columns, or use AS")

    def rows(self, segment: str, rows: list[list[Value]]) -> None:
        """Pass rows on, or keep them while earlier ones are waited for."""
        if segment in self.different:
            return
        self._ready += [(segment, *row) for row in rows]
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._hand_on()).addErrback(self._stop)

    def done(self, segment: str, count: int) -> None:
        """The segment has answered."""

    def failed(self, segment: str, error: errors.TroughError) -> None:
        """The segment has no answer; the job counts it."""

    def restarted(self, segment: str) -> bool:
        """Rows that were passed on cannot be taken back."""
        return False

    async def handed_on(self) -> None:
        """Return when all rows were taken; raises what the receiver raised."""
        if self._busy:
            await self._idle.wait()
        if self.failure is not None:
            self.failure.raiseException()

    async def _hand_on(self) -> None:
        while self._ready:
            portion, self._ready = self._ready, []
            self.has_handed_on = True
            waited_for: Awaitable[None] | None = self._receive(self.names, portion)
            if waited_for is not None:
                self.job.pause()
                await waited_for
                self.job.resume()
        self._rest()

    def _stop(self, failure: Failure) -> None:
        self.failure = failure
        self._rest()
        self.job.cancel()

    def _rest(self) -> None:
        self._busy = False
        self._idle.fire(None)
