"""The work of an executor, in pieces that take turns.

A turn is short where SQLite allows it: one segment, or one piece of a large answer, or
one commit. Work that is not finished after its turn goes to the end of the queue. So queries and
segments of any size are served alike. Work without credit is in no queue: it holds its
connection and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from trough import errors
from trough.executors import messages
from trough.executors.child.large_lines import LARGE, LargeLine
from trough.executors.child.turns import FairQueue
from trough.executors.messages import ExecutorMessage, ReadSegments, Target, WriteSegment
from trough.executors.shared_memory import SharedProgressTable
from trough.sql import rows
from trough.sql.queries import LINES, OBJECTS, PIECE, Answer, Framing, Query, QueryPlan
from trough.sql.reading import Reader
from trough.sql.writing import SqlWrite, Writer

#: Bytes of a piece above which it is sent in pieces. Lines of the line protocol are sent
#: otherwise; see :mod:`trough.executors.child.large_lines`.
_LARGE = 4 * PIECE

#: Segments of one part that are answered side by side, where their answers are large.
SIDE_BY_SIDE = 4

#: Writes that share a commit, at most.
MOST_WRITES_A_COMMIT = 4096

_FRAMINGS = {framing.value: framing for framing in Framing}


class Send(Protocol):
    """See :meth:`trough.executors.child.parent_socket.ParentSocket.send`."""

    def __call__(self, message: ExecutorMessage, size: int = 0) -> None: ...


class TaskLoop(Protocol):
    """What tasks use of :class:`trough.executors.child.main.ExecutorLoop`."""

    table: SharedProgressTable
    reader: Reader
    writer: Writer
    ready: FairQueue[Task]
    parts: dict[int, Any]
    untold: list[MultiSegmentRead]
    waiting_writes: dict[Target, SegmentWrites]
    watched: Task | SqlWrite | None
    segment: str | None
    send: Send


class Task:
    """A piece of work that takes turns.

    :ivar client: that asked for it; clients take turns
    :ivar deadline: by :func:`time.monotonic`
    :ivar cancelled: its result is not wanted any more
    :ivar stalled: it waits for credit
    :ivar is_midway: half a line of it has been sent, so it goes on to the end of that line
    :ivar movable: it can be stopped now and run again elsewhere, because none of its
        results were sent
    :ivar handed_back: it was stopped for that
    :ivar waits_since: when it was taken, by :func:`time.monotonic`, until its first turn; then 0
    """

    client = ""
    waits_since = 0.0
    deadline = float("inf")
    cancelled = False
    stalled = False
    is_midway = False
    movable = False
    handed_back = False

    def turn(self, executor: TaskLoop, now: float) -> None:
        """Do a little, and get in line again if that was not all."""
        raise NotImplementedError


class ReadPart(Task, Query):
    """A query of segments that this executor is to ask.

    :ivar number: by which the front knows it
    :ivar window: bytes that may be on their way
    :ivar stays: it is never handed back
    :ivar keeps: whether the front may keep answers that would be the same again
    :ivar merge: rules by which rows of several segments become one; or empty
    :ivar targets: all that it was given
    """

    def __init__(self, plan: QueryPlan, asked: ReadSegments) -> None:
        self.plan = plan
        self.client = asked.client
        self.stays = asked.stays
        self.keeps = asked.keeps
        self.merge = asked.merge
        self.number = asked.part
        self.parameters = messages.unpacked_parameters(asked.parameters)
        self.deadline = asked.deadline
        self.limit = asked.limit
        self.framing = _FRAMINGS[asked.framing]
        self.tag = asked.tag
        self.window = asked.window
        self.targets = asked.targets

    unacknowledged = 0
    #: Lines that are sent in pieces, or are to be.
    _line: LargeLine | None = None

    def _begin_line(self, executor: TaskLoop, lines: bytes, place: int, count: int) -> None:
        """Ask the front for the connection."""
        self._line = LargeLine(lines, place, count)
        self.stalled = True
        executor.send(messages.LargeWaits(self.number))

    def go(self, executor: TaskLoop) -> None:
        """Take note that the connection is free for the large line."""
        if self._line is not None and not self.is_midway:
            self.is_midway = True
            self.stalled = False
            executor.ready.append(self)

    def _send_line(self, executor: TaskLoop) -> LargeLine | None:
        """Send a piece of the large line; return that if it was the last."""
        line = self._line
        assert line is not None
        message, size = line.next_message(self.number)
        self.unacknowledged += size
        executor.send(message, size)
        if line.is_sent:
            self._line = None
            self.is_midway = False
            return line
        self._wait_for_credit(executor)
        return None

    def _wait_for_credit(self, executor: TaskLoop) -> None:
        if self.unacknowledged < self.window:
            executor.ready.append(self)
        else:
            self.stalled = True

    def credit(self, executor: TaskLoop, size: int) -> None:
        """Subtract `size` bytes that the receiver has, and continue if there is room again."""
        self.unacknowledged -= size
        if self._line is not None and not self.is_midway:
            return
        if self.stalled and self.unacknowledged < self.window:
            self.stalled = False
            executor.ready.append(self)

    def hand_back(self, executor: TaskLoop) -> None:
        """Leave the rest to the front, which asks for it again."""
        self.close()
        executor.parts.pop(self.number, None)
        executor.send(messages.PartHandedBack(self.number))

    def drop(self, places: frozenset[int]) -> None:
        """Forget those of these targets that have not been asked."""

    def close(self) -> None:
        """Give back what is held."""

    def _failure(
        self, executor: TaskLoop, segment: str, error: errors.TroughError
    ) -> tuple[bytes, int]:
        """The line and the count that report a failure."""
        damaged = isinstance(error, errors.CorruptSegment)
        line = rows.fail_line(self.tag, segment, error).encode("utf-8", "replace")
        return line, messages.COUNT_CORRUPT if damaged else messages.COUNT_FAILED


class SingleSegmentRead(ReadPart):
    """A query of one segment; most are such."""

    _answer: Answer | None = None
    #: What is left of a large row, which goes out no faster than its reader reads.
    _rest: memoryview | None = None

    def turn(self, executor: TaskLoop, now: float) -> None:
        if self.cancelled:
            self.close()
            executor.parts.pop(self.number, None)
            return
        if self.is_midway:
            self._go_on_with_line(executor)
            return
        executor.watched = self
        executor.segment = self.targets[0].segment
        executor.table.runs(self.number, 0)
        try:
            if now > self.deadline:
                raise out_of_time()
            if self._answer is None:
                self.movable = not self.stays
                answer = self._answer = executor.reader.begin(self, *file_of(self.targets[0]))
                self.handed_back = False
                piece = answer.first
            else:
                answer = self._answer
                piece = self._cut(self._rest) if self._rest else answer.go_on()
            if len(piece) > _LARGE and self.framing is OBJECTS:
                piece = self._cut(memoryview(piece))
        except errors.TroughError as error:
            if self.handed_back:
                self.hand_back(executor)
            else:
                self._fail(executor, error)
            return
        finally:
            executor.watched = None
            self.movable = False
        if len(piece) > LARGE and self.framing is LINES:
            self._begin_line(executor, piece, 0, answer.count)
            return
        if answer.over and not self._rest:
            del executor.parts[self.number]
            executor.send(messages.PartEnded(self.number, piece, answer.count), len(piece))
            return
        self.unacknowledged += len(piece)
        executor.send(messages.PartSome(self.number, piece), len(piece))
        self._wait_for_credit(executor)

    def _go_on_with_line(self, executor: TaskLoop) -> None:
        if self._send_line(executor) is None:
            return
        assert self._answer is not None
        if self._answer.over:
            del executor.parts[self.number]
            executor.send(messages.PartEnded(self.number, b"", self._answer.count))
        else:
            self._wait_for_credit(executor)

    def _cut(self, rest: memoryview) -> bytes:
        self._rest = rest[PIECE:]
        return bytes(rest[:PIECE])

    def _fail(self, executor: TaskLoop, error: errors.TroughError) -> None:
        self.close()
        executor.parts.pop(self.number, None)
        line, count = self._failure(executor, self.targets[0].segment, error)
        if self.framing is OBJECTS:
            executor.send(messages.PartFailed(self.number, *told(error)))
        else:
            executor.send(messages.PartEnded(self.number, line, count))

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


class MultiSegmentRead(ReadPart):
    """A query of several segments."""

    def __init__(self, plan: QueryPlan, asked: ReadSegments) -> None:
        super().__init__(plan, asked)
        self._targets = deque(enumerate(self.targets))
        self._under_way: deque[tuple[int, str, Answer]] = deque()
        # What the next message is to contain.
        self._places: list[int] = []
        self._counts: list[int] = []
        self._pieces: list[bytes] = []
        self._repeatable: list[int] = []
        self._size = 0

    def turn(self, executor: TaskLoop, now: float) -> None:
        if self.cancelled:
            self.close()
            executor.parts.pop(self.number, None)
            return
        if self.is_midway:
            line = self._send_line(executor)
            if line is None:
                return
            self._add(executor, line.place, b"", line.count)
        elif now > self.deadline:
            self._fail_rest(executor, out_of_time())
        elif self._targets and len(self._under_way) < SIDE_BY_SIDE:
            self._begin(executor)
        elif self._under_way:
            self._go_on(executor)
        if self.handed_back:
            self.tell(executor)
            self.hand_back(executor)
        elif self._line is not None:
            return  # until the front gives it the connection
        elif not self._targets and not self._under_way:
            self.tell(executor)
            executor.send(messages.PartFinished(self.number))
            executor.parts.pop(self.number, None)
        elif self.unacknowledged + self._size < self.window:
            executor.ready.append(self)
        else:
            self.tell(executor)
            self.stalled = True

    def drop(self, places: frozenset[int]) -> None:
        self._targets = deque(each for each in self._targets if each[0] not in places)

    def close(self) -> None:
        for _, _, answer in self._under_way:
            answer.close()
        self._under_way.clear()
        self._targets.clear()

    # -- one segment -------------------------------------------------------------------

    def _begin(self, executor: TaskLoop) -> None:
        place, target = self._targets.popleft()
        executor.watched = self
        executor.segment = target.segment
        executor.table.runs(self.number, place)
        try:
            # What has sent some rows cannot be asked again.
            self.movable = not (self.stays or self._under_way)
            found = self._ask(executor, place, target)
            self.handed_back = False
        except errors.TroughError as error:
            if not self.handed_back:
                self._add(executor, place, *self._failure(executor, target.segment, error))
            return
        finally:
            executor.watched = None
            self.movable = False
        if found is None:
            return
        answer, repeatable = found
        if answer.over:
            if repeatable and len(answer.first) <= LARGE:
                self._repeatable.append(len(self._pieces))
            self._add(executor, place, answer.first, answer.count)
        else:
            self._under_way.append((place, target.segment, answer))
            self._add(executor, ~place, answer.first, 0)

    def _ask(self, executor: TaskLoop, place: int, target: Target) -> tuple[Answer, bool] | None:
        """The answer of a segment, and whether it may be kept; None if that is taken care of.

        :raises trough.errors.TroughError: why there is none
        """
        if self.keeps:
            return executor.reader.begin_repeatable(self, *file_of(target))
        return executor.reader.begin(self, *file_of(target)), False

    def _go_on(self, executor: TaskLoop) -> None:
        place, segment, answer = self._under_way.popleft()
        executor.watched = self
        executor.segment = segment
        executor.table.runs(self.number, place)
        try:
            piece = answer.go_on()
        except errors.TroughError as error:
            self._add(executor, place, *self._failure(executor, segment, error))
            return
        finally:
            executor.watched = None
        if answer.over:
            self._add(executor, place, piece, answer.count)
        else:
            self._under_way.append((place, segment, answer))
            self._add(executor, ~place, piece, 0)

    def _fail_rest(self, executor: TaskLoop, error: errors.TroughError) -> None:
        rest = [(place, segment) for place, segment, _ in self._under_way]
        rest += [(place, target.segment) for place, target in self._targets]
        line, self._line = self._line, None
        if line is not None and line.place >= 0:  # its answer is over, and was not sent
            rest.append((line.place, self.targets[line.place].segment))
        self.close()
        for place, segment in rest:
            self._add(executor, place, *self._failure(executor, segment, error))

    # -- messages to the front ---------------------------------------------------------

    def _add(self, executor: TaskLoop, place: int, piece: bytes, count: int) -> None:
        if len(piece) > LARGE:
            self.tell(executor)
            self._begin_line(executor, piece, place, count)
            return
        if not self._places:
            executor.untold.append(self)
        self._places.append(place)
        self._counts.append(count)
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= PIECE:
            self.tell(executor)

    def tell(self, executor: TaskLoop) -> None:
        """Send the collected pieces."""
        if self._places:
            message = messages.PartPieces(
                self.number, self._places, self._counts, self._pieces, self._repeatable
            )
            self.unacknowledged += self._size
            size, self._size = self._size, 0
            self._places, self._counts, self._pieces, self._repeatable = [], [], [], []
            executor.send(message, size)


class WaitingWrite(SqlWrite):
    """A write as this process has it.

    :param segment: among whose writes it waits
    """

    __slots__ = ("client", "segment")

    def __init__(self, segment: SegmentWrites, asked: WriteSegment) -> None:
        super().__init__(
            asked.number,
            asked.text,
            messages.unpacked_parameters(asked.parameters),
            asked.deadline,
            asked.place,
            asked.seconds,
        )
        self.segment = segment
        self.client = asked.client


class SegmentWrites(Task):
    """The writes to one segment that wait for a commit.

    :param client: whose write is the first of them
    """

    def __init__(self, target: Target, client: str) -> None:
        self.target = target
        self.client = client
        self.writes: FairQueue[WaitingWrite] = FairQueue()

    def turn(self, executor: TaskLoop, now: float) -> None:
        writes = self.writes
        together: list[WaitingWrite] = []
        while writes and len(together) < MOST_WRITES_A_COMMIT:
            together.append(writes.popleft())
        for write in together:
            executor.table.begins(write.place)
        target = self.target
        executor.segment = target.segment
        rest = executor.writer.apply(target.segment, target.path, target.generation, together)
        left = together[len(together) - len(rest) :]
        for write in together[: len(together) - len(rest)]:
            if write.error is None:
                executor.send(messages.WriteStored(write.number, write.changes, write.position))
            else:
                executor.send(messages.WorkRefused(write.number, *told(write.error)))
            executor.parts.pop(write.number, None)
        for write in reversed(left):
            writes.appendleft(write)
        if writes:
            executor.ready.append(self)
        else:
            executor.waiting_writes.pop(target, None)

    def cancel(self, executor: TaskLoop, write: WaitingWrite) -> None:
        """Answer a write that was cancelled, if it has not begun."""
        if self.writes.remove(write):
            executor.parts.pop(write.number, None)
            error = errors.Cancelled("the write was cancelled before it began")
            executor.send(messages.WorkRefused(write.number, *told(error)))


class CommandTask(Task):
    """One of the executor's procedures, and its arguments."""

    def __init__(self, number: int, run: Callable[[CommandTask], Any]) -> None:
        self.number = number
        self.run = run

    def turn(self, executor: TaskLoop, now: float) -> None:
        executor.watched = self
        executor.segment = None
        executor.table.runs(self.number, 0)
        try:
            later = self.run(self)
        except errors.TroughError as error:
            executor.send(messages.WorkRefused(self.number, *told(error)))
        else:
            if later:
                return
            executor.send(messages.CallReturned(self.number))
        finally:
            executor.watched = None
        executor.parts.pop(self.number, None)


def file_of(target: Target) -> tuple[str, str, int, bool]:
    return target.segment, target.path, target.generation, target.writable


def told(error: errors.TroughError) -> tuple[str, str, str]:
    """An error as it goes through a frame."""
    return error.code, messages.text_of(error.message), messages.text_of(error.hint)


def out_of_time() -> errors.DeadlineExceeded:
    """The error of a query that is stopped at its deadline."""
    return errors.DeadlineExceeded(
        "the time for it ran out", "ask for less, or for more time with seconds="
    )


def time_left(parts: list[Task]) -> float | None:
    """Seconds until the first of some stalled parts runs out of time."""
    if not parts:
        return None
    return min(part.deadline for part in parts) - monotonic()
