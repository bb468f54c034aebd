"""An executor as the front sees it: a process, the socket to it, the work it has.

It collects messages during a turn of the reactor and sends them as one frame. When the
process ends, its owner gets the reason, and finds here what was not answered. The owner can
then start it again. Messages that were sent meanwhile go to the new process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, cast

from twisted.internet import defer, error
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.executors import messages
from trough.executors.messages import ExecutorMessage, FrontMessage
from trough.executors.pool.child_socket import ChildSocket
from trough.executors.pool.jobs import WriteJob
from trough.executors.pool.read_jobs import ReadTask
from trough.executors.shared_memory import MOST_WRITES, SharedProgressTable, create_memory
from trough.util import child_process, core_priority
from trough.util.confinement import Confinement
from trough.util.flush_batch import FlushBatch

_log = Logger()

#: Bytes that the kernel is asked to hold between the two, so that neither waits for the
#: other's turn more often than need be. It gives less where it is configured to.
_SOCKET_BUFFER = 1 << 20

#: Seconds on a core after which a step has a lower priority.
_SHORT = 0.02

#: Seconds of one step after which it is a long one even if it waits for a disk, or for a core.
_LONG_WAIT = 1.0

#: Seconds for a process that is asked to end before it is killed.
_PATIENCE = 3.0


class _Owner(Protocol):
    """Has executors: :class:`trough.executors.pool.pool.ExecutorPool`.

    :ivar flush_batch: sends the messages of one turn of the reactor together at its end
    """

    flush_batch: FlushBatch

    def received(self, executor: ExecutorProcess, came: Sequence[ExecutorMessage]) -> None:
        """Called with the messages of an executor."""

    def ended(self, executor: ExecutorProcess, signal: int | None, status: int | None) -> None:
        """Called when an executor's process is gone; `status` is what it exited with."""


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Limits of one executor.

    :ivar memory: bytes that SQLite may use
    :ivar kept_handles: connections for reads that it keeps
    :ivar growth: bytes that a write may add to a segment, 0 for any number
    :ivar segment_size: bytes that a segment may have, 0 for any number
    :ivar confinement: the files that it may use
    :ivar lowers: whether its priority is lowered during a long step
    """

    memory: int
    kept_handles: int
    growth: int
    segment_size: int
    confinement: Confinement
    lowers: bool

    def arguments(self) -> list[str]:
        """Of the process's command."""
        limits = (self.memory, self.kept_handles, self.growth, self.segment_size)
        return [*map(str, limits), self.confinement.argument()]


class ExecutorProcess:
    """One executor, and its successors in the same place.

    :param name: for logs and status
    :ivar outstanding: parts of queries that it was handed, by number
    :ivar writes: writes that it was given, by number
    :ivar calls: calls that it was handed, by number
    :ivar load: segments of queries, writes and calls that it was handed
    :ivar dismissed: whether it is to have no successor
    :ivar held_up: whether it has been running one and the same step for long
    :ivar resident: a long query that was given to it, beside which it gets nothing
    """

    def __init__(self, reactor: Any, owner: _Owner, name: str, settings: ExecutorSettings) -> None:
        self._reactor = reactor
        self._owner = owner
        self.name = name
        # Its descriptors are as start() lays them out.
        self._arguments = ["3", "4", *settings.arguments()]
        self._settings = settings
        self._outgoing: list[FrontMessage] = []
        self._socket: ChildSocket | None = None
        self._process: Any = None
        self._ended: defer.Deferred[None] | None = None
        self.table: SharedProgressTable | None = None
        self.outstanding: dict[int, ReadTask] = {}
        self.writes: dict[int, WriteJob] = {}
        self.calls: dict[int, tuple[str, defer.Deferred[None]]] = {}
        self.load = 0
        self.held_up = False
        #: Whether that step uses its cores, or waits so long that this makes no difference.
        self.is_long = False
        #: Whether its priority is lowered.
        self._lowered = False
        #: Its seconds on a core when the present step was seen first.
        self._mark_used = 0.0
        self.resident: ReadTask | None = None
        self.dismissed = False
        #: Paused jobs of each client whose reads wait.
        self._held: Counter[str] = Counter()
        self.idle_since = 0.0
        self.starts = 0
        self.started_at = 0.0
        #: What ran when it was looked at last, and since when.
        self.mark = (0, 0, 0)
        self.mark_since = 0.0
        #: Since when it has been running something that was cancelled.
        self.unwanted_since = 0.0
        #: Places in the table that are free, once there was a write.
        self._free_places: list[int] | None = None
        self._writes_to_come: dict[int, WriteJob] = {}

    # -- the process -------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Of the process, or None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start a process. Messages can be sent at once.

        :raises OSError: there are no descriptors for it, or no memory; it can be tried again
        """
        self.dismissed = False
        ours, theirs = socket.socketpair()
        try:
            table, self._process = self._spawn(ours, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.table = table
        parser = messages.ExecutorFrameParser()
        self._socket = ChildSocket(
            self._reactor,
            ours,
            lambda data: self._owner.received(self, parser.receive_data(data)),
            self._socket_lost,
        )
        self._ended = defer.Deferred()
        self.starts += 1
        self.started_at = self._reactor.seconds()
        self.mark_since = self.idle_since = monotonic()
        self.mark, self.held_up, self.is_long = (0, 0, 0), False, False
        self._lowered, self._mark_used = False, 0.0
        self._hand_over()
        if self._outgoing:
            self._owner.flush_batch.at_end(self.flush)

    def _spawn(self, ours: socket.socket, theirs: socket.socket) -> tuple[SharedProgressTable, Any]:
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
        with contextlib.ExitStack() as handed_on:
            memory = create_memory()
            handed_on.callback(os.close, memory)
            null = os.open(os.devnull, os.O_RDWR)
            handed_on.callback(os.close, null)
            table = SharedProgressTable(memory)
            with child_process.left_alone():
                process = cast(IReactorProcess, self._reactor).spawnProcess(
                    _Watcher(self),
                    sys.executable,
                    child_process.command("trough.executors.child.main", *self._arguments),
                    child_process.environment(),
                    childFDs={0: null, 1: null, 2: "r", 3: theirs.fileno(), 4: memory},
                )
            return table, process

    def _socket_lost(self) -> None:
        # It has closed its end, so it is ending and must not linger; or it sent what no executor
        # sends.
        self.kill()

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            try:
                self._process.signalProcess("KILL")
            except error.ProcessExitedAlready:
                return

    def stop(self) -> defer.Deferred[None]:
        """End the process, for good, and fire when it is gone."""
        self.dismissed = True
        if self._socket is not None:
            self._socket.close()
        if self._process is None or self._ended is None:
            return defer.succeed(None)
        timer = self._reactor.callLater(_PATIENCE, self.kill)

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        waiting: defer.Deferred[None] = defer.Deferred()
        self._ended.chainDeferred(waiting)
        return waiting.addBoth(ended)

    def process_ended(self, reason: Failure) -> None:
        """Called when the process is gone and its last output is read."""
        if self._socket is not None:
            self._socket.drain()
            self._socket.close()
        self._socket = self._process = None
        number = getattr(reason.value, "signal", None)
        ended, self._ended = self._ended, None
        self._owner.ended(self, number, getattr(reason.value, "exitCode", None))
        if ended is not None:
            ended.callback(None)

    def forget_process(self) -> None:
        """Release what only a dead process's table could still show."""
        if self.table is not None:
            self.table.close()
            self.table = None
        self._outgoing.clear()
        self._held.clear()
        self._free_places = None
        self.load = 0

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def occupied(self) -> bool:
        """Whether a new request would have to wait here for a long query."""
        resident = self.resident
        if resident is not None and (resident.delivered or resident.number not in self.outstanding):
            resident = self.resident = None
        return self.held_up or resident is not None

    @property
    def ready(self) -> bool:
        """Whether its process has begun to work."""
        return self.table is not None and self.table.running()[2] > 0

    # -- messages ----------------------------------------------------------------------

    def send(self, message: FrontMessage) -> None:
        """Send a message with the frame of this turn of the reactor."""
        if not self._outgoing:
            self._owner.flush_batch.at_end(self.flush)
        self._outgoing.append(message)

    def flush(self) -> None:
        """Send what is collected."""
        if self._socket is not None and self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._socket.write(messages.frame(outgoing))

    def withdraw(self, number: int) -> None:
        """Forget a part of a query, and have the executor forget it."""
        if self.take_out(number) is not None:
            self.send(messages.CancelWork(number))

    def hold(self, client: str) -> None:
        """Have a client's reads wait, once more."""
        self._held[client] += 1
        if self._held[client] == 1:
            self.send(messages.HoldClient(client))

    def release(self, client: str) -> None:
        """Undo one :meth:`hold`; without effect if the process is another one by now."""
        if client not in self._held:
            return
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
            self.send(messages.ReleaseClient(client))

    def take_out(self, number: int) -> ReadTask | None:
        """Forget a part of a query, if it is known."""
        part = self.outstanding.pop(number, None)
        if part is not None:
            self.load -= len(part.targets) - len(part.moved)
            part.drop_line()
        return part

    def call(self, number: int, name: str, arguments: tuple[Any, ...]) -> defer.Deferred[None]:
        """Have one of the executor's procedures run."""

        def cancel(called: defer.Deferred[None]) -> None:
            if self.call_answered(number) is not None:
                self.send(messages.CancelWork(number))
                called.errback(errors.Cancelled(f"{name} was cancelled"))

        called: defer.Deferred[None] = defer.Deferred(cancel)
        self.calls[number] = (name, called)
        self.load += 1
        self.send(messages.CallProcedure(number, name, arguments))
        return called

    def call_answered(self, number: int) -> defer.Deferred[None] | None:
        """Take a call out that was answered."""
        call = self.calls.pop(number, None)
        if call is None:
            return None
        self.load -= 1
        return call[1]

    # -- writes ------------------------------------------------------------------------

    def write(self, job: WriteJob) -> None:
        """Hand a write over, as soon as there is a process and a place in its table."""
        job.executor = self
        self.writes[job.number] = job
        self._writes_to_come[job.number] = job
        self.load += 1
        self._hand_over()

    def _hand_over(self) -> None:
        if self._free_places is None:
            self._free_places = list(range(MOST_WRITES))
        while self._writes_to_come and self._free_places and self.table is not None:
            job = self._writes_to_come.pop(next(iter(self._writes_to_come)))
            place = job.place = self._free_places.pop()
            self.table.hand_over(place)
            self.send(job.message(place))

    def write_answered(self, number: int) -> WriteJob | None:
        """Take a write out that was answered."""
        job = self.writes.pop(number, None)
        if job is None:
            return None
        self.load -= 1
        if job.place is not None and self._free_places is not None:
            self._free_places.append(job.place)
        if self._writes_to_come:
            self._hand_over()
        return job

    def cancel_write(self, job: WriteJob) -> bool:
        """Cancel a write; whether it was never handed over, and is forgotten."""
        if self._writes_to_come.pop(job.number, None) is None:
            # An executor answers at once if it has not begun the write.
            self.send(messages.CancelWork(job.number))
            return False
        del self.writes[job.number]
        self.load -= 1
        return True

    def end_overdue_writes(self, now: float) -> None:
        """Fail those that are past their deadline, and were never handed over."""
        for job in list(self._writes_to_come.values()):
            if now > job.deadline and self.cancel_write(job):
                job.fail(errors.DeadlineExceeded("the time for it ran out before it began"))

    def unanswered_writes(self) -> tuple[list[WriteJob], list[WriteJob]]:
        """After the process's end: writes that may have been applied, and the others."""
        jobs, self.writes = list(self.writes.values()), {}
        self._writes_to_come.clear()
        begun: list[WriteJob] = []
        others: list[WriteJob] = []
        for job in jobs:
            lost = self.may_have_begun(job)
            job.place = None
            (begun if lost else others).append(job)
        return begun, others

    # -- what it is doing --------------------------------------------------------------

    def look(self, now: float, patience: float) -> None:
        """Notice whether it has been at one and the same step for `patience` seconds.

        On a busy machine a short step may wait as long for a core. It holds up what is behind it,
        and is still no long one.
        """
        mark = (0, 0, 0) if self.table is None else self.table.running()
        used = core_priority.seconds_on_cores(self.pid) if mark[0] and self.pid else 0.0
        if mark != self.mark:
            self.mark, self.mark_since, self._mark_used = mark, now, used
        since = now - self.mark_since
        self.held_up = mark[0] != 0 and since >= patience
        seconds = used - self._mark_used
        self.is_long = self.held_up and (seconds >= patience / 2 or since >= _LONG_WAIT)
        wanted = self.has(mark[0])
        if not self.held_up or wanted:
            self.unwanted_since = now
        # One that is to end soon needs a core for that.
        self._lower((self.is_long or seconds >= _SHORT) and wanted)

    def _lower(self, lowered: bool) -> None:
        """Lower its priority, or raise it again: the front and short requests go first."""
        if lowered is not self._lowered:
            self._lowered = lowered
            if self._settings.lowers and self.pid is not None:
                core_priority.set_lowered(self.pid, lowered)

    def running_at_its_end(self) -> tuple[int, int, int]:
        """What the process ran that is gone."""
        return (0, 0, 0) if self.table is None else self.table.running()

    def has_outrun_its_time(self, now: float) -> bool:
        """Whether a write has run for longer than it may; a commit may take its time."""
        number, committing, _ = self.mark
        job = self.writes.get(number) if self.held_up and not committing else None
        return job is not None and now - self.mark_since > job.running

    def may_have_begun(self, job: WriteJob) -> bool:
        """Whether a write that it was given may have been applied."""
        table = self.table
        return job.place is not None and table is not None and table.has_begun(job.place)

    def has(self, number: int) -> bool:
        """Whether a part, write or call of this number is still wanted."""
        return number in self.outstanding or number in self.writes or number in self.calls

    def deadlines(self) -> Iterator[float]:
        """Of all queries and writes that it has."""
        yield from (part.deadline for part in self.outstanding.values())
        yield from (job.deadline for job in self.writes.values())

    def take_measures(self) -> list[float]:
        """What the present process measured so far; empty without one."""
        return [] if self.table is None else [float(each) for each in self.table.numbers]

    def status(self) -> dict[str, Any]:
        """Its state, for people."""
        return {
            "name": self.name,
            "pid": self.pid,
            "restarts": max(self.starts - 1, 0),
            "load": self.load,
            "queries": len(self.outstanding),
            "writes": len(self.writes),
            "calls": len(self.calls),
            "held_up": self.held_up,
            **_memory(self.pid),
        }


class _Watcher(ProcessProtocol):
    """Reports the process's end, and logs what it writes to its standard error."""

    def __init__(self, owner: ExecutorProcess) -> None:
        self._owner = owner
        self._line = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            _log.error(
                "{executor}: {line}",
                executor=self._owner.name,
                line=line.decode("utf-8", "backslashreplace"),
            )

    def processEnded(self, reason: Failure) -> None:
        self._owner.process_ended(reason)


def _memory(pid: int | None) -> dict[str, int]:
    """Bytes of memory that a process has now, and had at most; empty if unknown."""
    wanted = {"VmRSS": "memory", "VmHWM": "memory_peak"}
    found = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in wanted:
                found[wanted[name]] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return {}
    return found


def signal_name(number: int | None) -> str:
    """A signal as people know it."""
    if number is None:
        return "no signal"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
