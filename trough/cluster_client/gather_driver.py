"""GATHER over the Twisted client.

:func:`gather` sends a GATHER process's requests to the segments and returns their answers to the
process. It passes on the answer's rows as they arrive. Its only transport is the cluster's
``query``. It runs no SQL: planning, merging and the final step run in the process
(:mod:`trough.gather.process`). The reactor never waits for that process. Data on its way to the
process is bounded by back-pressure: the workers pause while the process has enough to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trough import errors
from trough.cluster_client.gather_process import GatherProcess
from trough.cluster_client.router import WorkerAddress
from trough.gather import messages
from trough.gather.errors import stale_refused
from trough.gather.explaining import ANALYZE, Round, Taken, explained, plan_lines
from trough.gather.limits import Limits
from trough.sql.column_filters import FilterTest
from trough.util.job import Job

Rows = list[Sequence[Any]]

#: As in :data:`trough.gather.messages.REQUESTS`.
Request = tuple[tuple[str, ...], str, Any, list[tuple[Any, ...]], str]


class GatherCall(Job, Protocol):
    """A query under way, as the Twisted client has it."""

    done: Deferred[Any]


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
        keep: bool = False,
        tests: Sequence[FilterTest] = (),
        encoded: bool = False,
        merge: str = "",
    ) -> GatherCall: ...


@dataclass(slots=True)
class GatherResult:
    """An answer.

    :ivar names: of its columns
    :ivar rows: all of them, unless a receiver got them
    :ivar missing: segments that failed, where that was allowed, and why
    :ivar stale: segments in the answer whose state need not be the present one, with their
        marks: ``last-promoted`` or ``unconfirmed``
    :ivar versions: the workers that were asked, with the words for the states that they
        answered from, if the same query on these states gives the same answer; else None
    """

    names: tuple[str, ...] = ()
    rows: Rows = field(default_factory=list)
    missing: Mapping[str, errors.TroughError] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    versions: list[tuple[WorkerAddress, str]] | None = None


#: Takes the names and some rows, which may be :class:`trough.sql.json_rows.JsonRows`; what it
#: returns is waited for.
Receive = Callable[[tuple[str, ...], Sequence[Sequence[Any]]], Awaitable[None] | None]


async def gather(
    cluster: GatherCluster,
    segments: Iterable[str],
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    process: GatherProcess,
    clock: Any,
    partial: bool = False,
    within: bool = False,
    seconds: float | None = None,
    now: float | None = None,
    limits: Limits | None = None,
    receive: Receive | None = None,
    exist: bool = False,
    refuse_stale: bool = False,
) -> GatherResult:
    """Answer `sql` over `segments` as if their tables were one.

    Cancelling the Deferred that this becomes ends it everywhere.

    :param process: one that has no session; the caller closes it
    :param clock: the reactor, for the deadline
    :param partial: answer from the segments that do not fail
    :param within: rows of different segments never meet
    :param seconds: the deadline for all of it, or None
    :param now: see :func:`trough.gather.planner.plan`
    :param receive: takes the names and some rows at a time, at least once; while what it
        returns is waited for, the workers pause. Without it, rows are in the result
    :param exist: all of `segments` exist: one that is found nowhere cannot be read now
    :param refuse_stale: whether to fail where a segment did not answer its present state
    :raises trough.errors.TroughError: there is no exact answer, or segments failed

    With ``EXPLAIN`` or ``EXPLAIN ANALYZE`` before `sql` the answer is what would be done, or what
    was done; see :mod:`trough.gather.explaining`.
    """
    result = GatherResult()
    explaining, sql = explained(sql)
    take = _drop if explaining else receive or _collector(result)
    running = _Running(cluster, process, clock, seconds, take, exist=exist)
    if isinstance(parameters, Mapping):
        parameters = dict(parameters)
    elif parameters is not None:
        parameters = list(parameters)
    ids = tuple(segments)
    process.begin(
        sql,
        ids,
        parameters,
        partial,
        within,
        now,
        None if limits is None else astuple(limits),
    )
    try:
        if explaining:
            lines = await _explanation(running, clock, len(ids), explaining == ANALYZE)
            rows: Rows = [(line,) for line in lines]
            result.names = ("plan",)
            waited_for = (receive or _collector(result))(result.names, rows)
            if waited_for is not None:
                await waited_for
            return result
        await running.ask_everything()
        if refuse_stale and running.stale:
            raise stale_refused(running.stale, len(ids))
        await running.hand_on_result()
    finally:
        running.close()
    result.names, result.missing = running.names, running.missing
    result.stale = running.stale
    if running.repeatable and not running.missing:
        result.versions = running.versions
    return result


def _drop(names: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
    """Rows of a GATHER that is explained go nowhere."""


async def _explanation(running: _Running, clock: Any, segments: int, analyze: bool) -> list[str]:
    """What is done with a query, line by line, and with `analyze` what it took.

    :raises trough.errors.TroughError: why there is no answer
    """
    began = clock.seconds()
    if not analyze:
        return plan_lines(await running.plan(), running.repeatable, segments)
    await running.ask_everything()
    asked = clock.seconds()
    text = await running.plan()
    await running.hand_on_result()
    taken = Taken(
        running.rounds,
        asked - began,
        clock.seconds() - asked,
        running.answer_rows,
        {segment: str(error) for segment, error in running.missing.items()},
        running.stale,
        bool(running.repeatable and running.versions and not running.missing),
    )
    return plan_lines(text, running.repeatable, segments) + taken.lines()


def _collector(
    result: GatherResult,
) -> Callable[[tuple[str, ...], Sequence[Sequence[Any]]], None]:
    def collect(_: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
        result.rows += rows

    return collect


class _Running:
    """One GATHER under way; the listener of its queries.

    Rows that may be handed on go one portion after the other, and the queries are paused
    while one is waited for.

    :ivar names: of the answer's columns, once they are known
    :ivar missing: segments that failed, once the answer is whole
    """

    def __init__(
        self,
        cluster: GatherCluster,
        process: GatherProcess,
        clock: Any,
        seconds: float | None,
        receive: Receive,
        *,
        exist: bool,
    ) -> None:
        self._exist = exist
        #: See :class:`GatherResult`; and whether the plan lets an answer be repeated.
        self.versions: list[tuple[WorkerAddress, str]] | None = []
        #: Rows of the answer that were passed on.
        self.answer_rows = 0
        #: What was asked so far.
        self.rounds: list[Round] = []
        self.repeatable = False
        #: Marks of the segments whose state need not be the present one.
        self.stale: dict[str, str] = {}
        self.names: tuple[str, ...] = ()
        self.missing: Mapping[str, errors.TroughError] = {}
        self._cluster = cluster
        self._process = process
        self._clock = clock
        self._end = None if seconds is None else clock.seconds() + seconds
        self._receive = receive
        self._late = None
        if seconds is not None:
            error = errors.DeadlineExceeded(f"no answer within {seconds:g} s")
            self._late = clock.callLater(seconds, self._stop, error)
        self._calls: list[GatherCall] = []
        self._pauses: set[str] = set()
        self._satisfied = False
        self._stopped: errors.TroughError | None = None
        self._ready: list[Sequence[Sequence[Any]]] = []
        self._handing_on: Deferred[None] | None = None
        self._refusal: Failure | None = None
        self._received = False
        self._closed = False
        process.passed = self._passed
        process.satisfied = self._cancel_unneeded
        process.flow = lambda full: self._pause("process", full)
        process.lost = self._stop

    # -- asking ----------------------------------------------------------------------------

    async def ask_everything(self) -> None:
        """Go round after round, until nothing is left to ask."""
        while requests := await self._next_requests():
            await self._ask_round(requests)
        # Rows of the last round came before the answer that there is no further one.
        await self._handed_on()

    async def _ask_round(self, requests: list[Request]) -> None:
        began = self._clock.seconds()
        told = Round(sum(len(request[0]) for request in requests), len(requests))
        self.rounds.append(told)
        try:
            for request in requests:
                self._calls.append(self._ask(*request))
            for call in self._calls:
                await self._over(call)
            await self._handed_on()
        finally:
            for call in self._calls:
                call.cancel()
            self._calls = []
            told.seconds = self._clock.seconds() - began

    async def plan(self) -> str:
        """The plan, as text; asks no more than is needed to know it."""
        while requests := await self._next_requests():
            _, text = await self._answer(messages.EXPLAIN)
            if text is not None:
                return str(text)
            await self._ask_round(requests)
        _, text = await self._answer(messages.EXPLAIN)
        return text or ""

    async def _next_requests(self) -> list[Request]:
        _, requests, self.names, self.repeatable = await self._answer(messages.NEXT)
        return requests

    async def _answer(self, question: int) -> Any:
        """Ask the process something.

        :raises trough.errors.TroughError: why there is no answer
        """
        self._check()
        try:
            answer = await self._process.ask(question)
        except errors.TroughError:
            self._check()
            raise
        self._check()
        if answer[0] != messages.REFUSED:
            return answer
        code, message, hint, rest, *_ = answer[1:]
        raise messages.error_of(code, message, hint, rest)

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _ask(
        self,
        segments: tuple[str, ...],
        sql: str,
        parameters: Any,
        tests: list[tuple[Any, ...]],
        merge: str,
    ) -> GatherCall:
        left = None if self._end is None else max(0.001, self._end - self._clock.seconds())
        # Workers find out by themselves what may be kept.
        call = self._cluster.query(
            segments,
            sql,
            parameters,
            listener=self,
            seconds=left,
            keep=True,
            tests=tuple(FilterTest(*test) for test in tests),
            encoded=True,
            merge=merge,
        )
        if self._pauses:
            call.pause()
        return call

    async def _over(self, call: GatherCall) -> None:
        versions = None
        try:
            stats = await call.done
            versions = stats.versions
            self.rounds[-1].kept += stats.kept
            self.rounds[-1].pruned += stats.pruned
        except errors.Cancelled:
            self._check()
            # By us: the answer is whole, or the process itself will report the error.
            if self._refusal is None and not self._satisfied:
                raise
        if versions is None:
            self.versions = None
        elif self.versions is not None:
            self.versions += versions

    def _stop(self, error: errors.TroughError) -> None:
        """End everything with this error."""
        if self._stopped is None:
            self._stopped = error
            self._cancel_calls()
            if self._handing_on is not None:
                self._handing_on.cancel()
            # Nothing else ends it for sure, in any state.
            self._process.abandon()

    def _cancel_unneeded(self) -> None:
        self._satisfied = True
        self._cancel_calls()

    def _cancel_calls(self) -> None:
        for call in list(self._calls):
            call.cancel()

    def _pause(self, reason: str, wanted: bool) -> None:
        """Pause the workers while there is any reason to."""
        before = bool(self._pauses)
        (self._pauses.add if wanted else self._pauses.discard)(reason)
        if bool(self._pauses) != before:
            for call in self._calls:
                if wanted:
                    call.pause()
                else:
                    call.resume()

    # -- what the segments send ------------------------------------------------------------

    def state(self, segment: str, mark: str) -> None:
        self.stale[segment] = mark

    def columns(self, segment: str, names: Sequence[str]) -> None:
        """A segment's answer begins."""

    def rows(self, segment: str, rows: bytes) -> None:
        # The process decodes them, unless they can be passed on as they are.
        self._process.send((messages.ROWS, segment, rows), len(rows))

    def done(self, segment: str, count: int) -> None:
        self.rounds[-1].rows += count
        self._process.send((messages.DONE, segment, count))

    def merged(self, segments: list[str], count: int, rows: bytes) -> None:
        self.rounds[-1].rows += count
        self._process.send((messages.MERGED, segments, rows), len(rows) + 8 * len(segments))

    def failed(self, segment: str, error: errors.TroughError) -> None:
        if self._exist and isinstance(error, errors.NoSuchSegment):
            error = errors.Unavailable(
                f"segment {segment} exists, and no worker that is alive serves it",
                "ask again in a moment; trough-admin status names workers that are gone",
            )
        self.stale.pop(segment, None)
        self._process.send((messages.FAILED, segment, error.code, error.message, error.hint))

    def restarted(self, segment: str) -> bool:
        self.stale.pop(segment, None)
        # Where what came before cannot be forgotten, the process takes the segment for failed.
        self._process.send((messages.RESTARTED, segment))
        return True

    # -- handing on ------------------------------------------------------------------------

    def _passed(self, rows: Sequence[Sequence[Any]]) -> None:
        self._ready.append(rows)
        self._hand_on()

    def _hand_on(self) -> None:
        """Hand on what is ready, unless that is being done already."""
        if self._handing_on is not None or self._closed or not self._ready:
            return
        handing_on = self._handing_on = Deferred.fromCoroutine(self._hand_on_ready())
        handing_on.addErrback(self._refused)
        if handing_on.called:
            self._handing_on = None
        elif self._closed:  # by the receiver of the rows
            handing_on.cancel()
        else:
            self._pause("reader", True)

    async def _hand_on_ready(self) -> None:
        while self._ready:
            batches, self._ready = self._ready, []
            for rows in batches:
                await self._pass(rows)
        self._handing_on = None
        self._pause("reader", False)

    def _refused(self, failure: Failure) -> None:
        self._handing_on = None
        self._refusal = failure
        self._cancel_calls()

    async def _handed_on(self) -> None:
        if self._handing_on is not None:
            await self._handing_on
        self._check()
        if self._refusal is not None:
            self._refusal.raiseException()

    async def _pass(self, rows: Sequence[Sequence[Any]]) -> None:
        self._received = True
        self.answer_rows += len(rows)
        waited_for = self._receive(self.names, rows)
        if waited_for is not None:
            await waited_for

    async def hand_on_result(self) -> None:
        """Run the final step, and hand on its rows."""
        missing = None
        while missing is None:
            _, rows, missing = await self._answer(messages.MORE)
            if rows:
                await self._pass(list(rows))
        self.missing = messages.failures_of(missing)
        if not self._received:
            await self._pass([])

    def close(self) -> None:
        """Release everything except the process."""
        self._closed = True
        if self._late is not None and self._late.active():
            self._late.cancel()
        if self._handing_on is not None:
            # A slow receiver of rows need not finish, and gets no others.
            self._handing_on.cancel()
