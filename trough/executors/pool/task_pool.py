"""Functions of untrusted input, called in processes that can be killed.

:meth:`TaskPool.run` calls a function of this package in a child process
(:mod:`trough.executors.child.task_main`) that has a memory limit, and processor time for that
call alone. No call costs the reactor more than a few messages. Every call ends at its
budget.

**Fairness.** Nearly every call takes milliseconds. Each call first gets a short slice of
processor time. A call that needs more is killed, and starts again behind others of its kind,
which may occupy half of the processes. So endless calls of one client delay those of others by
one slice each, and not by their whole budgets. A function may therefore be killed and called a
second time: it must leave nothing behind, or clean up first. A call that has used a core for a
fifth of its slice gives way to short work on the cores (:mod:`trough.util.core_priority`).

A process starts when it is first needed. The pool needs no reactor with signal handlers: it sees
the end of a process at its socket.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.executors import ipc
from trough.executors.error_frames import error_of
from trough.executors.pool.child_socket import ChildSocket
from trough.util import child_process, core_priority
from trough.util.confinement import Confinement

P = ParamSpec("P")
T = TypeVar("T")

_log = Logger()

#: Processes, and bytes that SQLite may use in each.
PROCESSES = 4
MEMORY = 128 << 20

#: Seconds of processor time that a call has at first.
SLICE = 0.25

#: Seconds on a core after which a process has a lower priority until the end of the call.
_SHORT = 0.05

#: Seconds that a call may take for each second of its budget, and besides, on a machine that
#: has much else to do. It is killed after that: it may be waiting for a disk.
_WALL_FACTOR, _WALL_EXTRA = 10.0, 20.0


class TaskPool:
    """See the module.

    :param processes: at most
    :param memory: bytes that SQLite may use in each
    :param confinement: the files that they may use
    """

    def __init__(
        self,
        reactor: Any,
        processes: int = PROCESSES,
        memory: int = MEMORY,
        confinement: Confinement | None = None,
    ) -> None:
        self.confinement = confinement or Confinement()
        #: Whether the priority of a process may be lowered.
        self.lowers = core_priority.can_raise()
        self._reactor = reactor
        self._most = processes
        self._memory = memory
        self._idle: list[_TaskProcess] = []
        self._busy: set[_TaskProcess] = set()
        self._quick: deque[_Task] = deque()
        self._slow: deque[_Task] = deque()
        self._closed = False

    def run(
        self, budget: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call a function that its module has at its top, in another process.

        Cancelling the Deferred kills the call.

        :param budget: seconds of processor time
        :param args: of the types that :mod:`marshal` knows; no keywords. The result is of
            those that :func:`trough.executors.ipc.child_frame` takes; its lists become tuples
        :return: fails with the error of Trough that the function raises; with
            :class:`trough.errors.DeadlineExceeded` where it used up its budget; with
            :class:`trough.errors.Unavailable` where its process cannot start or died
        """
        assert not kwargs
        task = _Task(self, f"{function.__module__}:{function.__qualname__}", args, budget)
        self._quick.append(task)
        self._dispatch()
        return task.deferred

    async def close(self) -> None:
        """Kill all processes; what they do, and what waits, fails as cancelled. Idempotent."""
        self._closed = True
        waiting, self._quick, self._slow = [*self._quick, *self._slow], deque(), deque()
        for task in [*waiting, *(each.task for each in self._busy if each.task is not None)]:
            task.fail(_closed())
        for process in [*self._idle, *self._busy]:
            process.end()
        self._idle.clear()
        self._busy.clear()

    def status(self) -> dict[str, int]:
        """How many calls run and wait."""
        return {"running": len(self._busy), "waiting": len(self._quick) + len(self._slow)}

    # -- who is next -------------------------------------------------------------------

    def _dispatch(self) -> None:
        while not self._closed and (task := self._next()) is not None:
            try:
                process = self._idle.pop() if self._idle else _TaskProcess(self, self._reactor)
            except errors.Unavailable as reason:
                task.fail(reason)
                continue
            self._busy.add(process)
            process.begin(task)
        if self._closed:
            for queue in (self._quick, self._slow):
                while queue:
                    queue.popleft().fail(_closed())

    def _next(self) -> _Task | None:
        if len(self._busy) >= self._most:
            return None
        if self._quick:
            return self._quick.popleft()
        slow = sum(each.task is not None and each.task.is_slow for each in self._busy)
        if self._slow and slow < max(1, self._most // 2):
            return self._slow.popleft()
        return None

    def withdraw(self, task: _Task) -> None:
        """Called when a task's result is not wanted any more."""
        for queue in (self._quick, self._slow):
            if task in queue:
                queue.remove(task)
        for process in self._busy:
            if process.task is task:
                process.kill()

    # -- what processes report -----------------------------------------------------------

    @property
    def memory(self) -> int:
        """Bytes that SQLite may use in each process."""
        return self._memory

    def answered(self, process: _TaskProcess, task: _Task, answer: ipc.Message) -> None:
        """Called when a process is free again."""
        self._busy.discard(process)
        if not process.is_doomed:  # else its answer was faster than its end
            self._idle.append(process)
        if answer[0] == ipc.TASK_RETURNED:
            task.succeed(answer[1])
        else:
            task.fail(error_of(*answer[1:]))
        self._dispatch()

    def ended(self, process: _TaskProcess, task: _Task | None, status: int | None) -> None:
        """Called when a process is gone."""
        self._busy.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        if task is not None and not task.deferred.called:
            if status != -signal.SIGPROF and not process.was_late:
                _log.error("a task process died ({status}) at {task}", status=status, task=task)
                if task.may_die:
                    task.may_die = False
                    self._quick.append(task)
                else:
                    task.fail(errors.Unavailable(f"the process died that did this: {task}"))
            elif task.is_slow:
                task.fail(errors.DeadlineExceeded(f"it took more than {task.budget:g} s"))
            else:
                task.is_slow = True
                self._slow.append(task)
        self._dispatch()


class _Task:
    """One call.

    :ivar is_slow: it has used up its first slice
    :ivar may_die: no process has died with it, other than at its budget; it is not to blame for
        a kill from outside
    """

    may_die = True

    def __init__(
        self, pool: TaskPool, function: str, arguments: tuple[Any, ...], budget: float
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.budget = budget
        self.is_slow = budget <= SLICE
        self.deferred: Deferred[Any] = Deferred(lambda _: pool.withdraw(self))

    def __str__(self) -> str:
        return self.function.rpartition(":")[2]

    @property
    def seconds(self) -> float:
        """Of processor time, for the attempt that is due."""
        return self.budget if self.is_slow else SLICE

    def succeed(self, result: Any) -> None:
        if not self.deferred.called:
            self.deferred.callback(result)

    def fail(self, error: errors.TroughError) -> None:
        if not self.deferred.called:
            self.deferred.errback(error)


class _TaskProcess:
    """One child process, from its start to its end.

    :ivar task: what it does
    :ivar was_late: it was killed because it took too long by the clock
    :ivar is_doomed: it was killed, and is still there
    :raises trough.errors.Unavailable: the system starts no process
    """

    def __init__(self, pool: TaskPool, reactor: Any) -> None:
        self._pool = pool
        self._reactor = reactor
        self._parser = ipc.ChildFrameParser()
        self._late: Any = None
        self._next_look: Any = None
        self._used_before = 0.0
        self._lowered = False
        self.task: _Task | None = None
        self.was_late = self.is_doomed = False
        self._process, ours = child_process.start_with_socket(
            "trough.executors.child.task_main", pool.memory, pool.confinement.argument()
        )
        self._socket = ChildSocket(reactor, ours, self._received, self._ended)

    def begin(self, task: _Task) -> None:
        """Have a task run; the process is free for it."""
        self.task = task
        self._late = self._reactor.callLater(
            task.seconds * _WALL_FACTOR + _WALL_EXTRA, self._too_late
        )
        self._used_before = core_priority.seconds_on_cores(self._process.pid)
        self._look()
        self._socket.write(ipc.frame([(task.function, task.seconds, task.arguments)]))

    def _look(self) -> None:
        """Lower its priority once the call has used a core for long; look again until then."""
        assert self.task is not None
        used = core_priority.seconds_on_cores(self._process.pid) - self._used_before
        if self.task.is_slow or used >= _SHORT:
            self._lower(True)
        else:
            self._next_look = self._reactor.callLater(_SHORT, self._look)

    def _lower(self, lowered: bool) -> None:
        if lowered is not self._lowered and self._pool.lowers:
            self._lowered = lowered
            core_priority.set_lowered(self._process.pid, lowered)

    def _too_late(self) -> None:
        self.was_late = True
        self.kill()

    def kill(self) -> None:
        """End the process at once; its pool is notified later."""
        self.is_doomed = True
        self._process.kill()

    def end(self) -> None:
        """Kill the process, and release everything. Its pool is not notified."""
        self._free()
        self._socket.close()
        child_process.reaped(self._process)

    def _received(self, data: bytes) -> None:
        for answer in self._parser.receive_data(data):
            task = self._free()
            if task is not None:
                self._pool.answered(self, task, answer)

    def _free(self) -> _Task | None:
        for call in (self._late, self._next_look):
            if call is not None and call.active():
                call.cancel()
        self._lower(False)
        task, self.task = self.task, None
        return task

    def _ended(self) -> None:
        task = self._free()
        self._pool.ended(self, task, child_process.reaped(self._process))


def _closed() -> errors.Cancelled:
    return errors.Cancelled("the server is shutting down")
