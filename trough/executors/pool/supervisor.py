"""What the pool does about executors that die, or that are held up.

The supervisor checks all executors at intervals while any work is under way. A check costs
little: each executor records what it runs in memory that it shares with the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from twisted.logger import Logger

from trough import errors
from trough.executors.pool.process import ExecutorProcess, signal_name
from trough.executors.pool.read_jobs import ReadTask
from trough.executors.pool.read_scheduler import ReadScheduler
from trough.executors.pool.write_scheduler import WriteScheduler

_log = Logger()

#: Seconds between two looks, and until a step counts as a long one.
_LOOK, _LONG = 0.05, 0.1

#: Seconds between two looks while all that is there is a helper without work.
_IDLE_LOOK = 5.0

#: Seconds between two looks for what should have ended.
_CHECK = 1.0

#: Seconds that an executor may take to answer after a deadline, before it is killed.
_GRACE = 2.0

#: Seconds until a dead executor has a successor, where it lived no longer than that, and
#: until one is started that could not be.
_TOO_SOON = 1.0


class Supervisor:
    """Watches executors.

    :param executors: gives all of them
    """

    def __init__(
        self,
        reactor: Any,
        reads: ReadScheduler,
        writes: WriteScheduler,
        executors: Callable[[], Iterable[ExecutorProcess]],
    ) -> None:
        self._reactor = reactor
        self._reads = reads
        self._writes = writes
        self._executors = executors
        #: Whether a look is due.
        self.will_look = False
        self._next_look: Any = None
        self._next_check = 0.0
        self._restarts: set[Any] = set()
        self._stopped = False

    def start(self) -> None:
        """Begin to watch executors."""
        self._stopped = False

    def stop(self) -> None:
        """Start no executor any more, and watch none."""
        self._stopped = True
        for call in (self._next_look, *self._restarts):
            if call is not None and call.active():
                call.cancel()
        self.will_look = False
        self._restarts.clear()

    # -- looking -----------------------------------------------------------------------

    def look_soon(self) -> None:
        """Note that work is under way."""
        if not self.will_look and not self._stopped:
            self._look_after(_LOOK)

    def look_now(self) -> None:
        """Note that an executor has become free for the work that waits."""
        if self.will_look and not self._stopped:
            self._next_look.reset(0)
        else:
            self.look_soon()

    def _look_after(self, seconds: float) -> None:
        self.will_look = True
        self._next_look = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self.will_look = False
        now = monotonic()
        busy = False
        for executor in self._executors():
            executor.look(now, _LONG)
            busy = busy or executor.load > 0
        for executor in self._reads.all():
            if executor.held_up:
                self._reads.relieve(executor)
        self._reads.keep_room(now)
        self._writes.keep_room(now)
        busy = busy or bool(self._reads.long) or self._writes.busy
        if now >= self._next_check:
            self._next_check = now + _CHECK
            self._reads.long.end_overdue(now)
            self._writes.end_overdue(now)
            for executor in self._executors():
                if executor.load:
                    self._end_what_is_overdue(executor, now)
                self._end_what_nobody_wants(executor, now)
        self._reads.group.dismiss_helpers(now)
        if busy:
            self.look_soon()
        elif (self._reads.group.helpers or self._writes.group.helpers) and not self._stopped:
            self._look_after(_IDLE_LOOK)

    def _end_what_is_overdue(self, executor: ExecutorProcess, now: float) -> None:
        """Answer for an executor that missed a deadline, and kill it if it is stuck.

        An executor itself ends work at its deadline, and also work that waits for its turn.
        """
        if executor.has_outrun_its_time(now - _GRACE):
            self._kill(executor, "its time limit")
            return
        if now <= min(executor.deadlines(), default=now) + _GRACE:
            return
        if executor.running and now - executor.mark_since > _GRACE:
            self._kill(executor, "a deadline")
            return
        for part in list(executor.outstanding.values()):
            if now > part.deadline + _GRACE:
                part.job.fail(errors.DeadlineExceeded("the time for it ran out"))
        executor.end_overdue_writes(now - _GRACE)

    def _end_what_nobody_wants(self, executor: ExecutorProcess, now: float) -> None:
        """Kill an executor that goes on with cancelled work."""
        if executor.running and now - executor.unwanted_since > _GRACE:
            self._kill(executor, "a cancellation")

    def _kill(self, executor: ExecutorProcess, what: str) -> None:
        _log.warn(
            "{executor} (pid {pid}) did not stop at {what} and is killed",
            executor=executor.name,
            pid=executor.pid,
            what=what,
        )
        executor.kill()

    # -- an executor's end ---------------------------------------------------------------

    def ended(self, executor: ExecutorProcess, signal: int | None, status: int | None) -> None:
        """Called when an executor's process is gone: answer, or ask again, what it had."""
        if not (self._stopped or executor.dismissed):
            _log.error(
                "{executor} ended: {how}, and is replaced",
                executor=executor.name,
                how=f"exit status {status}" if signal is None else signal_name(signal),
            )
        running, place, _ = executor.running_at_its_end()
        parts, executor.outstanding = list(executor.outstanding.values()), {}
        calls, executor.calls = executor.calls, {}
        begun, others = executor.unanswered_writes()
        executor.forget_process()
        self._replace(executor)
        for part in parts:
            blamed = place if part.number == running else None
            self._recover(part, blamed, signal)
        for job in begun:
            job.fail(
                errors.OutcomeUnknown(
                    f"the process that applied a write to segment {job.target.segment} died",
                    "look whether it is there before writing it again",
                )
            )
        now = monotonic()
        for job in others:
            if now > job.deadline:
                job.fail(errors.DeadlineExceeded("the time for it ran out before it began"))
            elif job.returning:
                self._writes.returned(job)
            else:
                executor.write(job)
        for name, called in calls.values():
            if name == "forget":  # a process that is gone has nothing open
                called.callback(None)
            else:
                called.errback(errors.Unavailable(f"the process died that did this: {name}"))

    def _replace(self, executor: ExecutorProcess) -> None:
        """Start a successor; later where its predecessor did not live long, or where the
        machine has no room for a process now."""
        if self._stopped or executor.dismissed:
            return
        too_soon = self._reactor.seconds() - executor.started_at < _TOO_SOON
        if not too_soon and _started(executor):
            return

        def restart() -> None:
            self._restarts.discard(call)
            self._replace(executor)

        call = self._reactor.callLater(_TOO_SOON, restart)
        self._restarts.add(call)

    def _recover(self, part: ReadTask, blamed: int | None, signal: int | None) -> None:
        """Ask again what a dead executor had not answered, or report that it failed.

        :param blamed: the place of the target that it was at
        """
        job = part.job
        halves = part.partly_delivered()
        again = [place for place in part.undelivered() if place != blamed]
        retry = blamed is not None and blamed in part.undelivered()
        job.parts.remove(part)
        part.drop_line()
        for place in halves:
            job.fail_segment(part.targets[place], _died(part.targets[place].segment, signal))
        if job.over:
            return
        if retry and blamed is not None:
            target = part.targets[blamed]
            if part.attempts:
                job.fail_segment(target, _died(target.segment, signal))
            else:
                self._reads.try_again(job, target, part.attempts + 1)
        if again and not job.over:
            self._reads.ask(job, [part.targets[place] for place in again])
        job.end_if_answered()


def _started(executor: ExecutorProcess) -> bool:
    try:
        executor.start()
    except OSError as reason:
        _log.error("{executor} cannot be started: {reason}", executor=executor.name, reason=reason)
        return False
    return True


_SIGBUS = 7


def _died(segment: str, signal: int | None) -> errors.TroughError:
    if signal == _SIGBUS:
        # The file is mapped; it ends earlier than it did, or its disk fails.
        return errors.CorruptSegment(f"the file of segment {segment} ended while it was read")
    return errors.Unavailable(
        f"the process that was asking segment {segment} died", "it may succeed if asked again"
    )
