"""Bookkeeping of the writes to one local copy.

A promotion has to know whether anything was written since its snapshot began, and a
copy that retires has to wait for the writes that are under way. Both are questions of
two counters.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.executors.pool.pool import Job, Outcome, Receiver

_log = Logger()

# Errors that say for certain that a write stored nothing.
_NOTHING_STORED = (errors.BadRequest, errors.DiskFull, errors.NoWriteLock)


class WriteTracker:
    """The writes to one copy.

    :ivar started: number of writes that were ever accepted
    :ivar last: when the last one was accepted, or the copy became what it is
    :ivar closed: whether further ones are to be refused
    :ivar committed: whether one was stored, or may have been
    """

    __slots__ = ("_finished", "_waiting", "closed", "committed", "last", "started")

    def __init__(self, now: float) -> None:
        self.started = 0
        self.last = now
        self.closed = False
        self.committed = False
        self._finished = 0
        self._waiting: list[Deferred[None]] = []

    @property
    def idle(self) -> bool:
        """Whether no write is under way."""
        return self.started == self._finished

    def begun(self, now: float) -> None:
        """Count a write in, whose :class:`CountedReceiver` counts it out."""
        self.started += 1
        self.last = now

    async def settled(self) -> None:
        """Return once no write is under way."""
        if not self.idle:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting

    def _one_finished(self) -> None:
        self._finished += 1
        if self.idle and self._waiting:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)


class CountedReceiver:
    """Passes everything on, and counts the write out at its end."""

    __slots__ = ("_receiver", "_writes", "data")

    def __init__(self, writes: WriteTracker, receiver: Receiver) -> None:
        self._writes = writes
        self._receiver = receiver
        self.data = receiver.data

    def finished(self, outcome: Outcome) -> None:
        """The write has ended, well or not."""
        if not isinstance(outcome.error, _NOTHING_STORED):
            self._writes.committed = True
        try:
            self._receiver.finished(outcome)
        finally:  # or the copy would never come to rest again
            self._writes._one_finished()


class PendingWrite:
    """A write that waits for a preparation, and can be treated as a job meanwhile.

    :param prepare: awaited first
    :param submit: hands the write on
    """

    def __init__(
        self,
        prepare: Coroutine[Any, Any, None],
        submit: Callable[[], Job | PendingWrite],
        receiver: Receiver,
    ) -> None:
        self._job: Job | PendingWrite | None = None
        self._cancelled = False
        Deferred.fromCoroutine(self._run(prepare, submit, receiver))

    async def _run(
        self,
        prepare: Coroutine[Any, Any, None],
        submit: Callable[[], Job | PendingWrite],
        receiver: Receiver,
    ) -> None:
        try:
            await prepare
            if self._cancelled:
                raise errors.Cancelled("the write was cancelled before it began")
            self._job = submit()
        except errors.TroughError as refusal:
            receiver.finished(Outcome(failed=1, error=refusal))
        except Exception as failure:
            _log.failure("a write could not be begun")
            unknown = errors.Unavailable(f"the write could not be begun: {failure}")
            receiver.finished(Outcome(failed=1, error=unknown))

    def cancel(self) -> None:
        """Give the write up; without effect once it is being committed."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()

    def pause(self) -> None:
        """A write sends nothing that could be held back."""

    def resume(self) -> None:
        """See :meth:`pause`."""
