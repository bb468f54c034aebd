"""The process that runs SQL: requests in, batches of answers out, over one socket.

The front (:mod:`trough.executors.pool.pool`) starts several of these processes. Each does all
its work on one thread: reads, writes, and operations on a whole file. It imports no Twisted and
little else, so it starts in milliseconds. It may be killed at any moment. A table in shared
memory then shows what it was doing, and another process takes its place. It ends when the front
does, even in the middle of its work. It ignores Ctrl-C and SIGTERM, which the front handles.

While a statement runs, SQLite calls :meth:`ExecutorLoop.tick` now and then. That call sends
the answers that are ready and notices a deadline or a cancel.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from time import monotonic
from types import FrameType
from typing import Any

from trough.sql import library

# Before anything imports pysqlite3.
if __name__ == "__main__":
    library.configure_for_one_thread()

from trough import errors
from trough.executors import messages
from trough.executors.child.merging import MergingRead
from trough.executors.child.parent_socket import ParentSocket
from trough.executors.child.process_limits import (
    die_with_the_parent,
    ignore_signals,
    limit_data,
)
from trough.executors.child.tasks import (
    CommandTask,
    MultiSegmentRead,
    ReadPart,
    SegmentWrites,
    SingleSegmentRead,
    Task,
    WaitingWrite,
    out_of_time,
    time_left,
    told,
)
from trough.executors.child.turns import FairQueue
from trough.executors.messages import ExecutorMessage, FrontMessage, Target
from trough.executors.shared_memory import SharedProgressTable
from trough.metrics.executor_measures import ExecutorMeasures
from trough.metrics.totals import BOUNDS
from trough.sql import comparison, segment_files, sqlite, statements
from trough.sql.handles import Handles
from trough.sql.queries import QueryPlan
from trough.sql.reading import Reader
from trough.sql.writing import Quota, SqlWrite, Writer
from trough.util.confinement import Confinement, confine

#: Seconds between two looks at the socket while there is something to do.
LOOK = 0.002

#: Seconds between two such looks while a regular expression is being matched.
ALARM = 0.02

#: Seconds that a read may run before its first row while another client's work waits here.
SLICE = 0.02

#: SQL texts whose plans are kept.
KEPT_PLANS = 1000

#: Connections for writes that are kept, each with up to sqlite.WRITE_CACHE of memory.
KEPT_WRITERS = 128

#: Bytes of Python's own that a process may have beside SQLite's.
PYTHON_MEMORY = 1 << 30

#: Seconds of a turn, or of the wait for it, that are counted with others like it.
SHORTEST = BOUNDS[0]


class ExecutorLoop:
    """The state and the loop of the process.

    :param kept_handles: connections for reads that are kept
    :param quota: how much a segment may grow
    :param mounts: directories of cold segments, into which others put files
    """

    def __init__(
        self,
        channel: ParentSocket[FrontMessage, ExecutorMessage],
        table: SharedProgressTable,
        kept_handles: int,
        quota: Quota,
        mounts: Sequence[str] = (),
    ) -> None:
        self._channel = channel
        #: Sends a message soon; see :meth:`trough.executors.child.parent_socket.ParentSocket.send`.
        self.send = channel.send
        self.table = table
        measures = ExecutorMeasures(table.numbers)
        self._queue, self._turn = measures.queue, measures.turn
        #: When the messages were taken that were taken last.
        self._taken = 0.0
        engine = self._engine = sqlite.Engine(self.tick, mounts)
        engine.functions.before_matching = self._set_alarm
        self._alarm_set = False
        self._read_handles = Handles(engine.open_reader, kept_handles)
        self._write_handles = segment_files.writing_handles(engine, KEPT_WRITERS)
        self.reader = Reader(engine, self._read_handles)
        self.writer = Writer(
            engine,
            self._write_handles,
            self._watch,
            quota,
            self._committed,
            broken=lambda *broken: self.send(messages.LogFailed(*broken)),
            measured=measures.add_commit,
        )
        self._plans: dict[bytes, QueryPlan] = {}
        #: Work that can go on, in the order of its turns.
        self.ready: FairQueue[Task] = FairQueue()
        #: What a cancel can name, by its number.
        self.parts: dict[int, Any] = {}
        #: Parts that have something to send with the next frame.
        self.untold: list[MultiSegmentRead] = []
        #: Writes that wait for a commit.
        self.waiting_writes: dict[Target, SegmentWrites] = {}
        #: Reads of clients that have enough to read.
        self._held: dict[str, list[ReadPart]] = {}
        #: What a tick interrupts where it has to.
        self.watched: Task | SqlWrite | None = None
        #: The segment that a statement runs on; None where it may be any.
        self.segment: str | None = None
        self._writing = 0
        self._next_look = 0.0
        self._turn_began = 0.0
        self._receivers: dict[type[FrontMessage], Callable[[Any], None]] = {
            messages.ReadSegments: self._read,
            messages.WriteSegment: self._write,
            messages.CallProcedure: self._call,
            messages.CancelWork: self._cancel,
            messages.GiveCredit: self._credit,
            messages.DropTargets: self._drop,
            messages.HoldClient: self._hold,
            messages.ReleaseClient: self._release,
            messages.SendLarge: self._go,
        }
        self._procedures: dict[str, Callable[..., Any]] = {
            "make_writable": self._make_writable,
            "retire": self._retire,
            "snapshot": self._snapshot,
            "check": self._check,
            "compare": self._compare,
            "forget": self._forget,
            "begin_log": self._begin_log,
            "checkpoint_log": self._checkpoint_log,
        }

    # -- the loop ----------------------------------------------------------------------

    def run(self) -> None:
        """Work until the front is gone."""
        ready, lines, waiting = self.ready, self.ready.lines, self.ready.order
        client, began = "", 0.0
        # Most turns are shorter than the first bound. They are counted here, and noted together.
        turns, turn_seconds, waits, wait_seconds = 0, 0.0, 0, 0.0
        while True:
            now = monotonic()
            if began:
                seconds, began = now - began, 0.0
                if seconds <= SHORTEST:
                    turns += 1
                    turn_seconds += seconds
                else:
                    self._turn.add(seconds)
            if (turns or waits) and (not waiting or now >= self._next_look):
                self._turn.add_least(turns, turn_seconds)
                self._queue.add_least(waits, wait_seconds)
                turns, turn_seconds, waits, wait_seconds = 0, 0.0, 0, 0.0
            if not waiting:
                self._rest()
            elif now >= self._next_look:
                self._look(now)
            else:
                # As `ready.popleft` does, without a call for each point read.
                line = lines[waiting[0]]
                work = line.popleft()
                if not line or len(waiting) > 1:
                    ready.passed()
                if self._held and self._waits_for_its_client(work, now):
                    continue
                if work.client != client:
                    # Its turn may be one call of a function that takes long. Answers of others
                    # do not wait for that.
                    client = work.client
                    self.flush()
                self._turn_began = began = now
                if work.waits_since:
                    seconds, work.waits_since = now - work.waits_since, 0.0
                    if seconds <= SHORTEST:
                        waits += 1
                        wait_seconds += seconds
                    else:
                        self._queue.add(seconds)
                try:
                    work.turn(self, now)
                except Exception as error:  # a bug; the caller must get an answer
                    self._broken(work, error)

    def _rest(self) -> None:
        self.flush()
        self.table.runs(0, 0)
        if self._alarm_set:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            self._alarm_set = False
        stalled = [part for part in self.parts.values() if part.stalled]
        ends = time_left([part for part in stalled if not part.is_midway])
        came = self._channel.wait(ends)
        now = self._taken = monotonic()
        self._next_look = now + LOOK
        self._take(came)
        for part in stalled:
            if part.stalled and now > part.deadline and not part.is_midway:
                part.stalled = False
                self.ready.append(part)

    def _look(self, now: float) -> None:
        self._next_look = now + LOOK
        self.flush()
        self._taken = now
        self._take(self._channel.receive())

    def _take(self, came: Sequence[FrontMessage]) -> None:
        receivers = self._receivers
        for message in came:
            receivers[type(message)](message)

    def _broken(self, work: Task, error: Exception) -> None:
        traceback.print_exc()
        failure = errors.TroughError(f"the executor failed: {type(error).__name__}: {error}")
        if isinstance(work, ReadPart):
            work.close()
            self.send(messages.PartFailed(work.number, *told(failure)))
            self.parts.pop(work.number, None)
        elif isinstance(work, CommandTask):
            self.send(messages.WorkRefused(work.number, *told(failure)))
        else:
            # What became of the writes is not known; the front finds out by our death.
            self.flush()
            os._exit(1)

    def flush(self) -> None:
        """Send everything that is ready."""
        if self.untold:
            untold, self.untold = self.untold, []
            for part in untold:
                part.tell(self)
        self._channel.flush()

    # -- while a statement runs --------------------------------------------------------

    def _watch(self, write: SqlWrite | None) -> None:
        if write is None:
            self.table.runs(self._writing, 1)  # on the way to the commit
        else:
            self._writing = write.number
            self.table.runs(write.number, 0)
        self.watched = write

    def _committed(self, segment: str, generation: int, end: int) -> None:
        """Report the end of a log at once: followers flush it while this process does."""
        self.send(messages.LogCommitted(segment, generation, end))
        self.flush()

    def tick(self) -> int:
        """Called by SQLite: send and receive; return whether to interrupt."""
        now = monotonic()
        if now < self._next_look:
            return 0
        self._look(now)
        watched = self.watched
        if watched is None:
            return 0
        if watched.cancelled:
            self._engine.stopped = errors.Cancelled("it was cancelled")
            return 1
        if now > watched.deadline:
            self._engine.stopped = out_of_time()
            return 1
        if self._has_to_yield(watched, now):
            self._engine.stopped = errors.Cancelled("others have their turn")
            return 1
        return 0

    def _has_to_yield(self, watched: Task | SqlWrite, now: float) -> bool:
        """Whether to stop a read, so that the front can run it where no work waits behind it."""
        if not isinstance(watched, ReadPart) or not watched.movable:
            return False
        if now - self._turn_began >= SLICE and self.ready.others(watched.client):
            watched.handed_back = True
        return watched.handed_back

    def _set_alarm(self) -> None:
        if not self._alarm_set:
            self._alarm_set = True
            signal.setitimer(signal.ITIMER_REAL, ALARM, ALARM)

    def alarm(self, number: int, frame: FrameType | None) -> None:
        """Called by a signal, also in the midst of matching a regular expression."""
        functions = self._engine.functions
        if functions.matching and self.tick():
            functions.matching = False
            raise self._engine.stopped or errors.Cancelled("it was cancelled")

    # -- messages ----------------------------------------------------------------------

    def _read(self, asked: messages.ReadSegments) -> None:
        try:
            plan = self._plans.get(asked.text) or self._plan(asked.text)
        except errors.TroughError as error:
            self.send(messages.PartFailed(asked.part, *told(error)))
            return
        kind: type[ReadPart] = MultiSegmentRead
        if len(asked.targets) == 1 and not asked.keeps:
            kind = SingleSegmentRead
        elif asked.merge and len(asked.targets) > 1:
            kind = MergingRead
        part = self.parts[asked.part] = kind(plan, asked)
        part.waits_since = self._taken
        self.ready.append(part)

    def _plan(self, text: bytes) -> QueryPlan:
        if len(self._plans) >= KEPT_PLANS:
            # Each read looks here, and a dict is three times as fast as a BoundedLru.
            del self._plans[next(iter(self._plans))]
        plan = self._plans[text] = QueryPlan(statements.as_text(text))
        return plan

    def _write(self, asked: messages.WriteSegment) -> None:
        waiting = self.waiting_writes.get(asked.target)
        if waiting is None:
            waiting = SegmentWrites(asked.target, asked.client)
            self.waiting_writes[asked.target] = waiting
            waiting.waits_since = self._taken
            self.ready.append(waiting)
        write = self.parts[asked.number] = WaitingWrite(waiting, asked)
        waiting.writes.append(write)

    def _call(self, asked: messages.CallProcedure) -> None:
        number, arguments = asked.number, asked.arguments
        procedure = self._procedures[asked.name]
        call = self.parts[number] = CommandTask(number, lambda call: procedure(call, *arguments))
        # A long statement on another segment is not to delay what is done to this one.
        if asked.name == "forget" and self.segment not in (None, *arguments):
            if not self._forget(call, str(arguments[0])):
                del self.parts[number]
                self.send(messages.CallReturned(number))
        else:
            self.ready.append(call)

    def _cancel(self, asked: messages.CancelWork) -> None:
        part = self.parts.get(asked.number)
        if part is None:
            return
        part.cancelled = True
        if isinstance(part, WaitingWrite):
            part.segment.cancel(self, part)
        elif isinstance(part, ReadPart) and part.stalled:
            part.stalled = False
            self.ready.append(part)

    def _credit(self, asked: messages.GiveCredit) -> None:
        part = self.parts.get(asked.part)
        if part is not None:
            part.credit(self, asked.size)

    def _go(self, asked: messages.SendLarge) -> None:
        part = self.parts.get(asked.part)
        if part is not None:
            part.go(self)

    def _drop(self, asked: messages.DropTargets) -> None:
        part = self.parts.get(asked.part)
        if part is not None:
            part.drop(asked.places)

    def _hold(self, asked: messages.HoldClient) -> None:
        self._held.setdefault(asked.client, [])

    def _release(self, asked: messages.ReleaseClient) -> None:
        for part in self._held.pop(asked.client, ()):
            # One that was cancelled or got credit meanwhile is in line already.
            if part.stalled:
                part.stalled = False
                self.ready.append(part)

    def _waits_for_its_client(self, work: Task, now: float) -> bool:
        """Put a read aside whose client has to read first what it was sent."""
        waiting = self._held.get(work.client)
        if waiting is None or not isinstance(work, ReadPart):
            return False
        if work.cancelled or work.is_midway or now > work.deadline:
            return False
        work.stalled = True
        waiting.append(work)
        return True

    # -- procedures: what is done to a file as a whole -----------------------------------

    def _make_writable(self, call: CommandTask, segment: str, path: str) -> None:
        self._close(segment)
        segment_files.make_writable(self._engine, path)

    def _retire(self, call: CommandTask, segment: str, path: str) -> None:
        if any(waiting.segment == segment for waiting in self.waiting_writes):
            raise errors.Unavailable(f"there are writes to segment {segment} under way")
        self._close(segment)
        segment_files.retire(self._engine, path)

    def _begin_log(self, call: CommandTask, segment: str, path: str) -> None:
        self._close(segment)
        segment_files.begin_log(self._engine, path)

    def _checkpoint_log(self, call: CommandTask, path: str, position: int) -> None:
        segment_files.checkpoint_log(self._engine, path, position)

    def _close(self, segment: str) -> None:
        self._write_handles.forget(segment)
        self._read_handles.forget(segment)

    def _snapshot(self, call: CommandTask, path: str, writable: bool, destination: str) -> None:
        def progress() -> None:
            self._look(monotonic())
            if call.cancelled:
                raise errors.Cancelled("the snapshot was cancelled")

        segment_files.snapshot(self._engine, path, writable, destination, progress)

    def _compare(self, call: CommandTask, kept: str, canonical: str, destination: str) -> None:
        def progress() -> None:
            self._look(monotonic())
            if call.cancelled:
                raise errors.Cancelled("the comparison was cancelled")

        comparison.compare(self._engine, kept, canonical, destination, progress)

    def _check(self, call: CommandTask, path: str, writable: bool) -> None:
        segment_files.check(self._engine, path, writable)

    def _forget(self, call: CommandTask, segment: str) -> bool:
        """Answered when nothing is open any more, which may be later."""

        def released() -> None:
            self.parts.pop(call.number, None)
            self.send(messages.CallReturned(call.number))

        self._write_handles.forget(segment)
        return not self._read_handles.forget(segment, released)


# -- the process ------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Run an executor.

    :param arguments: descriptors of the socket and of the shared memory, bytes that
        SQLite may use, connections to keep, bytes that a write may add and that a segment
        may have; and the files that it may use
    """
    *numbers, files = arguments
    descriptor, memory, limit, kept, growth, size = map(int, numbers)
    confinement = Confinement.of_argument(files)
    ignore_signals()
    die_with_the_parent()
    _limit_resources(limit)
    sqlite.limit_memory(limit)
    connection = socket.socket(fileno=descriptor)
    channel: ParentSocket[FrontMessage, ExecutorMessage]
    channel = ParentSocket(connection, messages.FrontFrameParser(), messages.frame)
    kept = min(kept, _most_handles())
    executor = ExecutorLoop(
        channel, SharedProgressTable(memory), kept, Quota(growth, size), confinement.read
    )
    signal.signal(signal.SIGALRM, executor.alarm)
    # SQLite's own system calls are to be taken up again after an alarm.
    signal.siginterrupt(signal.SIGALRM, False)
    # What is made for a request is gone with it, by counting references alone.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    confine(confinement)
    executor.run()


def _limit_resources(memory: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    limit_data(memory + PYTHON_MEMORY)


def _most_handles() -> int:
    # A segment that is being written takes three descriptors: itself, WAL, and index.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((files - 100) // 3, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
