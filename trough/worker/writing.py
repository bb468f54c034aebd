"""One write, from its arrival to its answer. No other code acknowledges a write.

::

    ARRIVED ---> FENCED ---> NOTED ---> SUBMITTED ---> COMMITTED -----------> ACKNOWLEDGED
       |           |           |            |              | |                     |
       |           |           |            |              | +--> REPLICATED ------+
       +-----------+-----------+------------+--> REFUSED   |           |
                                            +--------------+-----------+--> UNKNOWN

======================  ==============================================================
ARRIVED                 the write is in memory
FENCED                  the worker knows that its write lock on the segment is in force
NOTED                   the catalogue, and the metadata store beside the lock, record
                        durably that the copy has unpromoted writes
SUBMITTED               an executor process has the write
COMMITTED               the transaction is on this worker's disk
REPLICATED              the transaction is also on the disks of all followers that the lock's
                        row names
ACKNOWLEDGED            the client is answered with success
REFUSED                 the client is answered with an error, and nothing was stored
UNKNOWN                 the client is answered with an error, and the write may be stored
======================  ==============================================================

Two promises are kept here, and only here. *Acknowledged means durable*: ACKNOWLEDGED follows
COMMITTED alone, and on a segment that is replicated REPLICATED alone. *Nothing is acknowledged
after the lock is lost*: a committed write is acknowledged only if, at that moment, the worker has
not stalled since it last confirmed its locks, and the copy still takes writes. After a stall the
worker asks the metadata store first.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.executors.pool.pool import Outcome, ReadLimits, Receiver, Target
from trough.util.job import Job, SilentJob
from trough.worker.local_copies import LocalCopy
from trough.worker.replicated import ReplicatedSegment

_log = Logger()


class WriteState(enum.IntEnum):
    """Where a write is; see the module's text."""

    ARRIVED = enum.auto()
    FENCED = enum.auto()
    NOTED = enum.auto()
    SUBMITTED = enum.auto()
    COMMITTED = enum.auto()
    REPLICATED = enum.auto()
    ACKNOWLEDGED = enum.auto()
    REFUSED = enum.auto()
    UNKNOWN = enum.auto()


#: The states that may follow each state.
NEXT: dict[WriteState, frozenset[WriteState]] = {
    WriteState.ARRIVED: frozenset({WriteState.FENCED, WriteState.REFUSED}),
    WriteState.FENCED: frozenset({WriteState.NOTED, WriteState.REFUSED}),
    WriteState.NOTED: frozenset({WriteState.SUBMITTED, WriteState.REFUSED}),
    WriteState.SUBMITTED: frozenset({WriteState.COMMITTED, WriteState.REFUSED, WriteState.UNKNOWN}),
    WriteState.COMMITTED: frozenset(
        {WriteState.REPLICATED, WriteState.ACKNOWLEDGED, WriteState.UNKNOWN}
    ),
    WriteState.REPLICATED: frozenset({WriteState.ACKNOWLEDGED, WriteState.UNKNOWN}),
    WriteState.ACKNOWLEDGED: frozenset(),
    WriteState.REFUSED: frozenset(),
    WriteState.UNKNOWN: frozenset(),
}

#: The states in which the client has its answer.
ENDED = frozenset(state for state, following in NEXT.items() if not following)

# Errors of an executor after which it is certain that a write stored nothing.
_NOTHING_STORED = (errors.BadRequest, errors.DiskFull, errors.NoWriteLock)


@dataclass(frozen=True, slots=True)
class WriteSteps:
    """What the steps of a write need of its worker.

    :ivar node: name of the worker
    :ivar stalled: whether the worker may have missed the loss of a lock; asked before each act
    :ivar confirm: returns once the worker knows which locks it holds;
        raises :class:`trough.errors.Unavailable` where it cannot find out
    :ivar copy_of: the local copy of a segment, or None
    :ivar note: returns once it is recorded that a copy has unpromoted writes
    :ivar submit: hands a write to an executor; see
        :meth:`trough.executors.pool.pool.ExecutorPool.write`
    :ivar report: takes the error of each write that failed after it was accepted
    :ivar now: seconds, by the worker's clock
    """

    node: str
    stalled: Callable[[], bool]
    confirm: Callable[[], Awaitable[None]]
    copy_of: Callable[[str], LocalCopy | None]
    note: Callable[[LocalCopy], Awaitable[None]]
    submit: Callable[[Target, str | bytes, Any, ReadLimits, Receiver], Job]
    report: Callable[[errors.TroughError], object]
    now: Callable[[], float]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What a client asks for: `sql`, in one transaction.

    :ivar parameters: a sequence, a mapping of names, or None
    """

    segment: str
    sql: str | bytes
    parameters: Any
    limits: ReadLimits


class Write(SilentJob):
    """One write; see the module's text.

    :param receiver: of the answer. It is called exactly once, unless :meth:`begin` raises.
    :ivar state: where the write is
    """

    def __init__(self, steps: WriteSteps, request: WriteRequest, receiver: Receiver) -> None:
        self.state = WriteState.ARRIVED
        self.data = receiver.data
        self._steps = steps
        self._request = request
        self._receiver = receiver
        self._copy: LocalCopy | None = None
        self._job: Job | None = None
        self._cancelled = False

    def begin(self) -> None:
        """Start the write. Where nothing has to be awaited, the executor has it on return.

        :raises trough.errors.NoWriteLock: this worker does not write the segment
        :raises trough.errors.UnderReplicated: no write of it could be acknowledged now
        :raises trough.errors.BadRequest: a parameter that SQLite could not store
        """
        if self._steps.stalled() and self._steps.copy_of(self._request.segment) is not None:
            Deferred.fromCoroutine(self._run())
            return
        copy = self._fence()
        if copy.noted:
            self._enter(WriteState.NOTED)
            self._submit(copy)
            copy.writes.begun(self._steps.now())  # a write that submit refuses does not count
        else:
            copy.writes.begun(self._steps.now())
            Deferred.fromCoroutine(self._run())

    @property
    def epoch(self) -> int:
        """Epoch of the write lock under which the write is stored; 0 before ``FENCED``."""
        copy = self._copy
        if copy is None:
            return 0
        return copy.entry.epoch if copy.replicated is None else copy.replicated.epoch

    # -- a job, for the client -----------------------------------------------------------

    def cancel(self) -> None:
        """Give the write up; without effect once it is being committed."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()

    # -- the steps before the commit -----------------------------------------------------

    async def _run(self) -> None:
        """Take the steps that have to be awaited."""
        try:
            if self.state is WriteState.ARRIVED:
                await self._steps.confirm()
                self._fence().writes.begun(self._steps.now())
            copy = self._copy
            assert copy is not None
            if not copy.noted:
                await self._steps.note(copy)
            self._enter(WriteState.NOTED)
            if self._cancelled:
                raise errors.Cancelled("the write was cancelled before it began")
            self._submit(copy)
        except errors.TroughError as refusal:
            self._refuse(refusal)
        except Exception as failure:
            _log.failure("a write could not be begun")
            self._refuse(errors.Unavailable(f"the write could not be begun: {failure}"))

    def _fence(self) -> LocalCopy:
        """Check that this worker writes the segment.

        :raises trough.errors.NoWriteLock: it does not
        :raises trough.errors.UnderReplicated: no write of it could be acknowledged now
        """
        segment = self._request.segment
        copy = self._steps.copy_of(segment)
        if copy is None or not copy.takes_writes or copy.writes.suspended:
            raise errors.NoWriteLock(
                f"this worker does not hold the write lock of segment {segment}",
                "provision the segment and write to the URL that comes back",
            )
        if copy.replicated is not None:
            copy.replicated.check_writable()
        self._copy = copy
        self._enter(WriteState.FENCED)
        return copy

    def _submit(self, copy: LocalCopy) -> None:
        request = self._request
        self._job = self._steps.submit(
            copy.target, request.sql, request.parameters, request.limits, self
        )
        self._enter(WriteState.SUBMITTED)

    def _refuse(self, refusal: errors.TroughError) -> None:
        """End a write that no executor ever had."""
        fenced = self.state is not WriteState.ARRIVED
        try:
            self._answer(WriteState.REFUSED, Outcome(failed=1, error=refusal))
        finally:
            if fenced and self._copy is not None:
                self._copy.writes.ended()

    # -- the end -------------------------------------------------------------------------

    def finished(self, outcome: Outcome) -> None:
        """Take the executor's outcome."""
        copy = self._copy
        assert copy is not None
        if not isinstance(outcome.error, _NOTHING_STORED):
            copy.writes.committed = True
        if outcome.error is None and copy.replicated is not None:
            self._enter(WriteState.COMMITTED)
            Deferred.fromCoroutine(self._replicate(copy, copy.replicated, outcome))
            return
        try:
            if outcome.error is None:
                self._enter(WriteState.COMMITTED)
                self._judge(copy, outcome)
            elif isinstance(outcome.error, errors.OutcomeUnknown):
                self._answer(WriteState.UNKNOWN, outcome)
            else:
                self._answer(WriteState.REFUSED, outcome)
        finally:  # also if the receiver fails: a retirement waits for the end of all writes
            copy.writes.ended()

    async def _replicate(
        self, copy: LocalCopy, replicated: ReplicatedSegment, outcome: Outcome
    ) -> None:
        """Wait until the followers have the write on disk."""
        try:
            end = outcome.position
            waiting = replicated.acknowledged(replicated.end if end is None else end)
            if waiting is not None:
                await waiting
            self._enter(WriteState.REPLICATED)
            self._judge(copy, outcome)
        except errors.UnderReplicated as reason:
            self._answer(WriteState.UNKNOWN, self._doubtful(str(reason)))
        except Exception:
            _log.failure("a write could not be replicated")
            if self.state not in ENDED:
                self._answer(WriteState.UNKNOWN, self._doubtful("see the worker's log"))
        finally:
            copy.writes.ended()

    def _judge(self, copy: LocalCopy, outcome: Outcome) -> None:
        """Acknowledge a committed write if the lock is in force at this moment."""
        if self._steps.stalled():
            Deferred.fromCoroutine(self._judge_late(copy, outcome))
        elif copy.takes_writes:
            self._answer(WriteState.ACKNOWLEDGED, outcome)
        else:
            self._answer(WriteState.UNKNOWN, self._lost())

    async def _judge_late(self, copy: LocalCopy, outcome: Outcome) -> None:
        """Judge a write during which this process stalled."""
        present: LocalCopy | None = None
        try:
            await self._steps.confirm()
            present = self._steps.copy_of(self._request.segment)
        except errors.TroughError:
            pass  # the store is away: whether the lock is in force is not known
        except Exception:
            _log.failure("a write could not be judged")
        if present is not None and present.takes_writes and present.entry.epoch == copy.entry.epoch:
            self._answer(WriteState.ACKNOWLEDGED, outcome)
        else:
            self._answer(WriteState.UNKNOWN, self._lost())

    def _doubtful(self, reason: str) -> Outcome:
        error = errors.OutcomeUnknown(
            f"segment {self._request.segment} was written, and may have it lost or kept: {reason}"
        )
        return Outcome(failed=1, error=error)

    def _lost(self) -> Outcome:
        """The write lock was lost, or may have been, during the write."""
        error = errors.OutcomeUnknown(
            f"segment {self._request.segment} was written while its write lock was lost, or may be",
            f"if it was, the write is in a file that {self._steps.node} keeps aside",
        )
        return Outcome(failed=1, error=error)

    def _answer(self, state: WriteState, outcome: Outcome) -> None:
        self._enter(state)
        if outcome.error is not None:
            self._steps.report(outcome.error)
        self._receiver.finished(outcome)

    def _enter(self, state: WriteState) -> None:
        if state not in NEXT[self.state]:
            raise AssertionError(f"a write went from {self.state.name} to {state.name}")
        self.state = state
