"""What an executor has to do, as pieces of work that are done in turns.

A turn is short where SQLite lets it be: one segment, or one piece of a large answer, or
one commit. Work that is not finished after its turn goes to the end of the line, so that
queries and segments are served alike whatever their size. Work without credit is in no
line: it holds its connection and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from trough import errors, frames, rows
from trough.reading import PIECE, Answer, Framing, Query
from trough.writing import Write

if TYPE_CHECKING:
    from trough.executor import Executor

#: Segments of one part that are answered side by side, where their answers are large.
SIDE_BY_SIDE = 4

#: Writes that share a commit, at most.
MOST_WRITES_A_COMMIT = 4096

#: Place among the part's targets, segment, path, generation, writable.
Target = tuple[int, str, str, int, bool]


class Work:
    """Something that is done in turns.

    :ivar deadline: by :func:`time.monotonic`
    :ivar cancelled: nobody wants it any more
    """

    __slots__ = ("cancelled", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cancelled = False

    def turn(self, executor: Executor, now: float) -> None:
        """Do a little, and get in line again if that was not all."""
        raise NotImplementedError


class ReadPart(Work):
    """A query and those of its segments that this executor is to ask."""

    __slots__ = (
        "counts",
        "number",
        "pieces",
        "places",
        "query",
        "single",
        "size",
        "stalled",
        "targets",
        "unacknowledged",
        "under_way",
        "window",
    )

    def __init__(
        self, number: int, query: Query, deadline: float, window: int, targets: list[Target]
    ) -> None:
        super().__init__(deadline)
        self.number = number
        self.query = query
        self.window = window
        self.targets = deque(targets)
        self.single = len(targets) == 1
        self.unacknowledged = 0
        self.stalled = False
        self.under_way: deque[tuple[int, str, Answer]] = deque()
        # What is to be said of several segments, with the next message.
        self.places: list[int] = []
        self.counts: list[int] = []
        self.pieces: list[bytes] = []
        self.size = 0

    def turn(self, executor: Executor, now: float) -> None:
        if self.cancelled:
            self.close()
            executor.parts.pop(self.number, None)
            return
        if now > self.deadline:
            self._fail_rest(executor, out_of_time())
        elif self.targets and len(self.under_way) < SIDE_BY_SIDE:
            self._begin(executor)
        elif self.under_way:
            self._go_on(executor)
        self._line_up(executor)

    def _line_up(self, executor: Executor) -> None:
        if not self.targets and not self.under_way:
            if not self.single:
                self.tell(executor)
                executor.send((frames.FINISHED, self.number))
            executor.parts.pop(self.number, None)
        elif self.unacknowledged + self.size < self.window:
            executor.ready.append(self)
        else:
            self.tell(executor)
            self.stalled = True

    def credit(self, executor: Executor, size: int) -> None:
        """Take note of bytes that were taken off the front's hands."""
        self.unacknowledged -= size
        if self.stalled and self.unacknowledged < self.window:
            self.stalled = False
            executor.ready.append(self)

    def drop(self, places: frozenset[int]) -> None:
        """Forget those of these targets that have not been asked."""
        self.targets = deque(target for target in self.targets if target[0] not in places)

    def close(self) -> None:
        """Give back what is held."""
        for _, _, answer in self.under_way:
            if answer.pieces is not None:
                answer.pieces.close()
        self.under_way.clear()
        self.targets.clear()

    # -- one segment -------------------------------------------------------------------

    def _begin(self, executor: Executor) -> None:
        place, segment, path, generation, writable = self.targets.popleft()
        executor.runs(self, self.number, place)
        try:
            answer = executor.reader.begin(self.query, segment, path, generation, writable)
        except errors.TroughError as error:
            self._fail(executor, place, segment, error)
            return
        finally:
            executor.watched = None
        if answer.pieces is None:
            self._say(executor, place, answer.first, answer.count)
        else:
            self.under_way.append((place, segment, answer))
            self._say_some(executor, place, answer.first)

    def _go_on(self, executor: Executor) -> None:
        place, segment, answer = self.under_way.popleft()
        executor.runs(self, self.number, place)
        assert answer.pieces is not None
        try:
            piece = next(answer.pieces, None)
        except errors.TroughError as error:
            self._fail(executor, place, segment, error)
            return
        finally:
            executor.watched = None
        if piece is None:
            self._say(executor, place, b"", answer.count)
        else:
            self.under_way.append((place, segment, answer))
            self._say_some(executor, place, piece)

    def _fail(
        self, executor: Executor, place: int, segment: str, error: errors.TroughError
    ) -> None:
        if isinstance(error, errors.LimitExceeded):
            executor.free_memory()
        if self.query.framing is Framing.OBJECTS:
            executor.send((frames.FAILED, self.number, *told(error)))
            return
        damaged = isinstance(error, errors.CorruptSegment)
        line = rows.fail_line(self.query.tag, segment, error).encode("utf-8", "replace")
        count = frames.COUNT_CORRUPT if damaged else frames.COUNT_FAILED
        self._say(executor, place, line, count)

    def _fail_rest(self, executor: Executor, error: errors.TroughError) -> None:
        rest = [(place, segment) for place, segment, _ in self.under_way]
        rest += [(target[0], target[1]) for target in self.targets]
        self.close()
        for place, segment in rest:
            self._fail(executor, place, segment, error)

    # -- what is said ------------------------------------------------------------------

    def _say(self, executor: Executor, place: int, piece: bytes, count: int) -> None:
        """Say the last bytes of a segment."""
        if self.single:
            executor.send((frames.ENDED, self.number, piece, count), len(piece))
        else:
            self._add(executor, place, piece, count)

    def _say_some(self, executor: Executor, place: int, piece: bytes) -> None:
        if self.single:
            self.unacknowledged += len(piece)
            executor.send((frames.SOME, self.number, piece), len(piece))
        else:
            self._add(executor, ~place, piece, 0)

    def _add(self, executor: Executor, place: int, piece: bytes, count: int) -> None:
        if not self.places:
            executor.untold.append(self)
        self.places.append(place)
        self.counts.append(count)
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size >= PIECE:
            self.tell(executor)

    def tell(self, executor: Executor) -> None:
        """Send what there is to say of several segments."""
        if self.places:
            message = (frames.PIECES, self.number, self.places, self.counts, self.pieces)
            self.unacknowledged += self.size
            size, self.size = self.size, 0
            self.places, self.counts, self.pieces = [], [], []
            executor.send(message, size)


class SegmentWrites(Work):
    """The writes to one segment that wait for a commit."""

    __slots__ = ("generation", "path", "segment", "writes")

    def __init__(self, segment: str, path: str, generation: int) -> None:
        super().__init__(float("inf"))
        self.segment = segment
        self.path = path
        self.generation = generation
        self.writes: deque[Write] = deque()

    def turn(self, executor: Executor, now: float) -> None:
        writes = self.writes
        bunch = [writes.popleft() for _ in range(min(len(writes), MOST_WRITES_A_COMMIT))]
        for write in bunch:
            executor.table.begins(write.place)
        executor.table.runs(bunch[0].number, 0)
        rest = executor.writer.apply(self.segment, self.path, self.generation, bunch)
        for write in bunch[: len(bunch) - len(rest)]:
            if write.error is None:
                executor.send((frames.WRITTEN, write.number, write.changes))
            else:
                executor.send((frames.REFUSED, write.number, *told(write.error)))
            executor.parts.pop(write.number, None)
        writes.extendleft(reversed(rest))
        if writes:
            executor.ready.append(self)
        else:
            executor.waiting_writes.pop((self.segment, self.path, self.generation), None)


class Call(Work):
    """One of the executor's procedures, and its arguments."""

    __slots__ = ("number", "run")

    def __init__(self, number: int, run: Callable[[Call], Any]) -> None:
        super().__init__(float("inf"))
        self.number = number
        self.run = run

    def turn(self, executor: Executor, now: float) -> None:
        executor.runs(self, self.number, 0)
        try:
            later = self.run(self)
        except errors.TroughError as error:
            executor.send((frames.REFUSED, self.number, *told(error)))
        else:
            if later:
                return
            executor.send((frames.RETURNED, self.number))
        finally:
            executor.watched = None
        executor.parts.pop(self.number, None)


def told(error: errors.TroughError) -> tuple[str, str, str]:
    """An error as it goes through a frame."""
    return error.code, error.message, error.hint


def out_of_time() -> errors.DeadlineExceeded:
    """What a query is told that is stopped at its deadline."""
    return errors.DeadlineExceeded(
        "the time for it ran out", "ask for less, or for more time with seconds="
    )


def time_left(parts: list[Work]) -> float | None:
    """Seconds until the first of some stalled parts runs out of time."""
    if not parts:
        return None
    return min(part.deadline for part in parts) - monotonic()
