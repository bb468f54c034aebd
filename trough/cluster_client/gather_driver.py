"""GATHER over the Twisted client.

:func:`gather` asks what a :class:`trough.gather.GatherSession` wants asked, tells it what comes
back, and hands on the answer as it takes shape. It knows no transport but the cluster's
``query``, and plans and runs the final step where it is told to, for these block.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from trough import errors
from trough.gather.errors import stale_refused
from trough.gather.session import GatherSession, SegmentRequest
from trough.gather.temp_database import GatherLimits

#: Rows of the answer that are handed on at once.
BUNCH = 1000

Rows = list[Sequence[Any]]


class GatherCall(Protocol):
    """A query under way, as the Twisted client has it."""

    done: Deferred[Any]

    def cancel(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class GatherCluster(Protocol):
    """What is needed of the Twisted client, :class:`trough.cluster_client.client.Cluster`."""

    def query(
        self,
        segments: Iterable[str],
        sql: str,
        parameters: Any = None,
        *,
        listener: Any,
        seconds: float | None = None,
    ) -> GatherCall: ...


@dataclass(slots=True)
class GatherResult:
    """An answer.

    :ivar names: of its columns
    :ivar rows: all of them, if nobody else received them
    :ivar missing: segments that failed, where that was allowed, and why
    :ivar stale: segments in the answer whose state need not be the present one, with their
        marks: ``last-promoted`` or ``unconfirmed``
    """

    names: tuple[str, ...] = ()
    rows: Rows = field(default_factory=list)
    missing: Mapping[str, errors.TroughError] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)


async def gather(
    cluster: GatherCluster,
    segments: Iterable[str],
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    clock: Any,
    partial: bool = False,
    within: bool = False,
    seconds: float | None = None,
    now: float | None = None,
    limits: GatherLimits | None = None,
    receive: Callable[[tuple[str, ...], Rows], Awaitable[None] | None] | None = None,
    in_thread: Callable[..., Deferred[Any]] = maybeDeferred,
    exist: bool = False,
    refuse_stale: bool = False,
) -> GatherResult:
    """Answer `sql` over `segments` as if their tables were one.

    Cancelling the Deferred that this becomes ends it everywhere.

    :param clock: the reactor, for the deadline
    :param partial: answer from the segments that do not fail
    :param within: rows of different segments never meet
    :param seconds: the deadline for all of it, or None
    :param now: see :func:`trough.gather.planner.plan`
    :param receive: takes the names and some rows at a time, at least once; while what it
        returns is waited for, the workers pause. Without it, rows are in the result
    :param in_thread: calls a blocking function with its arguments, on a thread
    :param exist: all of `segments` exist: one that is found nowhere cannot be read now
    :param refuse_stale: whether to fail where a segment did not answer its present state
    :raises trough.errors.TroughError: there is no exact answer, or segments failed
    """
    gathering = GatherSession(
        sql, segments, parameters, partial=partial, within=within, now=now, limits=limits
    )
    result = GatherResult()
    receive = receive or _collector(result)
    running = _Running(cluster, gathering, clock, seconds, receive, in_thread, exist)
    try:
        await running.ask_everything()
        if refuse_stale and running.stale:
            raise stale_refused(running.stale, len(gathering.segments))
        await running.hand_on_result()
    except CancelledError:
        gathering.stop(errors.Cancelled("cancelled by this client"))
        raise
    finally:
        await running.close()
    result.names, result.missing = gathering.names, gathering.missing
    result.stale = running.stale
    return result


def _collector(result: GatherResult) -> Callable[[tuple[str, ...], Rows], None]:
    def collect(_: tuple[str, ...], rows: Rows) -> None:
        result.rows += rows

    return collect


class _Running:
    """One gathering under way; the listener of its queries.

    Rows that may be handed on go one bunch after the other, and the queries are paused
    while one is waited for.
    """

    def __init__(
        self,
        cluster: GatherCluster,
        gathering: GatherSession,
        clock: Any,
        seconds: float | None,
        receive: Callable[[tuple[str, ...], Rows], Awaitable[None] | None],
        in_thread: Callable[..., Deferred[Any]],
        exist: bool,
    ) -> None:
        self._cluster = cluster
        self._gathering = gathering
        self._clock = clock
        self._end = None if seconds is None else clock.seconds() + seconds
        self._receive = receive
        self._in_thread = in_thread
        self._exist = exist
        #: Marks of the segments whose state need not be the present one.
        self.stale: dict[str, str] = {}
        self._late = None
        if seconds is not None:
            error = errors.DeadlineExceeded(f"no answer within {seconds:g} s")
            self._late = clock.callLater(seconds, self._stop, error)
        self._calls: list[GatherCall] = []
        self._handing_on: Deferred[None] | None = None
        self._refusal: Failure | None = None
        # A step may be under way on a thread when everything is closed.
        self._lock = threading.Lock()
        self._received = False
        self._closed = False

    # -- asking ----------------------------------------------------------------------------

    async def ask_everything(self) -> None:
        """Go round after round, until nothing is left to ask."""
        while requests := await self._in_thread(self._next_requests):
            try:
                for request in requests:
                    self._calls.append(self._ask(request))
                for call in self._calls:
                    await self._over(call)
                await self._handed_on()
            finally:
                for call in self._calls:
                    call.cancel()
                self._calls = []

    def _next_requests(self) -> list[SegmentRequest]:
        with self._lock:
            return self._gathering.next_requests()

    def _ask(self, request: SegmentRequest) -> GatherCall:
        left = None if self._end is None else max(0.001, self._end - self._clock.seconds())
        return self._cluster.query(
            request.segments, request.sql, request.parameters, listener=self, seconds=left
        )

    async def _over(self, call: GatherCall) -> None:
        try:
            await call.done
        except errors.Cancelled:
            # By us: the answer is whole, or the gathering itself will say what is wrong.
            if self._refusal is None and not self._gathering.satisfied:
                raise

    def _stop(self, error: errors.TroughError) -> None:
        self._gathering.stop(error)
        self._cancel_calls()

    def _cancel_calls(self) -> None:
        for call in list(self._calls):
            call.cancel()

    # -- what the segments say -------------------------------------------------------------

    def state(self, segment: str, mark: str) -> None:
        self.stale[segment] = mark

    def columns(self, segment: str, names: Sequence[str]) -> None:
        self._gathering.columns(segment, names)

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        self._gathering.rows(segment, rows)
        self._look()

    def done(self, segment: str, count: int) -> None:
        self._gathering.done(segment, count)
        self._look()

    def _look(self) -> None:
        if self._gathering.streams:
            self._hand_on()
        if self._gathering.satisfied:
            self._cancel_calls()

    def failed(self, segment: str, error: errors.TroughError) -> None:
        if self._exist and isinstance(error, errors.NoSuchSegment):
            error = errors.Unavailable(
                f"segment {segment} exists, and no worker that is alive serves it",
                "ask again in a moment; trough-admin status names workers that are gone",
            )
        self.stale.pop(segment, None)
        self._gathering.failed(segment, error)

    def restarted(self, segment: str) -> bool:
        self.stale.pop(segment, None)
        return self._gathering.restarted(segment)

    # -- handing on ------------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Hand on what is ready, unless that is being done already."""
        if self._handing_on is not None:
            return
        rows = self._gathering.take()
        if not rows:
            return
        self._handing_on = Deferred.fromCoroutine(self._hand_on_from(rows))
        self._handing_on.addErrback(self._refused)
        if self._handing_on.called:
            self._handing_on = None
            return
        if self._closed:  # by who was given the rows
            self._handing_on.cancel()
        for call in self._calls:
            call.pause()

    async def _hand_on_from(self, rows: Rows) -> None:
        while rows:
            await self._pass(rows)
            rows = self._gathering.take()
        self._handing_on = None
        for call in self._calls:
            call.resume()

    def _refused(self, failure: Failure) -> None:
        self._handing_on = None
        self._refusal = failure
        self._cancel_calls()

    async def _handed_on(self) -> None:
        if self._handing_on is not None:
            await self._handing_on
        if self._refusal is not None:
            self._refusal.raiseException()

    async def _pass(self, rows: Rows) -> None:
        self._received = True
        waited_for = self._receive(self._gathering.names, rows)
        if waited_for is not None:
            await waited_for

    async def hand_on_result(self) -> None:
        """Run the final step, and hand on its rows."""
        rows = self._gathering.result()
        while bunch := await self._in_thread(self._some_of, rows):
            await self._pass(bunch)
        if not self._received:
            await self._pass([])

    def _some_of(self, rows: Iterator[Sequence[Any]]) -> Rows:
        with self._lock:
            return list(itertools.islice(rows, BUNCH))

    async def close(self) -> None:
        """Let go of everything, once no step is under way."""
        self._closed = True
        if self._late is not None and self._late.active():
            self._late.cancel()
        if self._handing_on is not None:
            # Whoever takes its time to receive rows need not any more, and gets no others.
            self._handing_on.cancel()
        await self._in_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._gathering.close()
