"""The answer to a QUERY with ``keep=yes``: what was kept is sent, and only the rest is asked.

What was kept is sent in slices, so that neither the reactor nor memory holds much of it at once,
and no faster than the reader reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import monotonic

from twisted.internet.task import TaskFinished, TaskStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.jobs import LargeLineReceiver, LargeLineSource
from trough.executors.pool.pool import Framing, Outcome, ReadLimits, Target
from trough.protocols.line.arguments import QueryArguments
from trough.protocols.line.replies import QueryReply, Reply
from trough.util.job import Job
from trough.util.slices import SLICE, cooperate
from trough.worker.queries import QueryService

_log = Logger()


class KeptReply:
    """One such answer; a job for :meth:`trough.protocols.line.replies.Reply.follow`.

    :param targets: that answer here
    :param receiver: is called at the end of this part
    """

    def __init__(
        self,
        queries: QueryService,
        arguments: QueryArguments,
        limits: ReadLimits,
        targets: Sequence[Target],
        reply: Reply,
        *,
        receiver: QueryReply,
    ) -> None:
        self._queries = queries
        self._arguments = arguments
        self._limits = limits
        self._targets = targets
        self._tag = reply.tag
        self._receiver = receiver
        self._query = queries.kept_query(
            arguments.sql, arguments.parameters, limits.rows, reply.tag, arguments.tests
        )
        self._until = monotonic() + limits.seconds
        self._rest: list[Target] = []
        self._job: Job | None = None
        self._paused = False
        self._sent_all = False
        receiver.version = lambda segments: queries.remember(self._query, segments)
        self._sending = cooperate(self._send())
        self._sending.whenDone().addCallbacks(self._sent, self._stopped)

    # -- for the reply -----------------------------------------------------------------

    def cancel(self) -> None:
        """See :class:`trough.util.job.Job`."""
        if self._job is not None:
            self._job.cancel()
        else:
            self._end(errors.Cancelled("the query was cancelled"))

    def pause(self) -> None:
        """See :class:`trough.util.job.Job`."""
        if self._job is not None:
            self._job.pause()
        elif not (self._paused or self._sent_all):
            self._paused = True
            self._sending.pause()

    def resume(self) -> None:
        """See :class:`trough.util.job.Job`."""
        if self._paused:
            self._paused = False
            self._sending.resume()
        if self._job is not None:
            self._job.resume()

    # -- inside ------------------------------------------------------------------------

    def _send(self) -> Iterator[None]:
        for start in range(0, len(self._targets), SLICE):
            if monotonic() > self._until:
                raise errors.DeadlineExceeded("the time for it ran out")
            some = self._targets[start : start + SLICE]
            pruned = -self._query.pruned
            lines, rows, rest = self._query.find(some)
            pruned += self._query.pruned
            self._rest += rest
            self._receiver.answered(len(some) - len(rest), rows, pruned)
            if lines:
                self._receiver.data(lines)
            yield

    def _sent(self, _: object) -> None:
        """Ask what is left."""
        self._sent_all = True
        if not self._rest:
            self._receiver.finished(Outcome())
            return
        try:
            self._job = self._queries.read(
                self._rest,
                self._arguments.sql,
                self._arguments.parameters,
                replace(self._limits, seconds=max(0.0, self._until - monotonic())),
                Framing.LINES,
                self._tag,
                self,
                self._query.keep,
                self._arguments.merge,
            )
        except errors.TroughError as error:
            self._receiver.finished(Outcome(error=error))

    # -- for the executors' answer -----------------------------------------------------

    def data(self, chunk: bytes) -> None:
        """See :class:`trough.executors.pool.pool.Receiver`."""
        self._receiver.data(chunk)

    def large_line(self, source: LargeLineSource) -> LargeLineReceiver:
        """See :class:`trough.executors.pool.pool.Receiver`."""
        return self._receiver.large_line(source)

    def finished(self, outcome: Outcome) -> None:
        """See :class:`trough.executors.pool.pool.Receiver`."""
        self._job = None  # which knows this reply
        self._receiver.finished(outcome)
        if outcome.error is None:
            self._query.make_filters(self._rest, self._limits.client)

    def _stopped(self, failure: Failure) -> None:
        self._sent_all = True
        if isinstance(failure.value, errors.TroughError):
            self._receiver.finished(Outcome(error=failure.value))
        elif not failure.check(TaskStopped):
            _log.failure("kept answers could not be sent", failure)
            error = errors.TroughError("kept answers could not be sent: the log has the reason")
            self._receiver.finished(Outcome(error=error))

    def _end(self, error: errors.TroughError) -> None:
        try:
            self._sending.stop()
        except TaskFinished:  # and so has the answer
            return
        self._receiver.finished(Outcome(error=error))
