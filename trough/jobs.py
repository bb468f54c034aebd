"""Requests for executors, as the front keeps them: a job, and the parts it is split into.

A job belongs to whoever asked: its receiver is told the answer's bytes and, exactly once,
the outcome. A part is what one executor was given of it. The job counts, and knows which
of its segments are still to be answered when an executor dies or has to be relieved of
what it has not begun; it refuses to know how executors are chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.logger import Logger

from trough import errors, frames, rows
from trough.reading import Framing

_log = Logger()

#: What may be bound to a statement.
Parameters = Sequence[Any] | Mapping[str, Any] | None

#: Bytes of one part that may be on their way or with the receiver while it is paused.
WINDOW = 1 << 19

#: Bytes after which the executor is told that they were taken.
_CREDIT = WINDOW // 4


@dataclass(frozen=True, slots=True)
class Target:
    """A local file that can be queried.

    :ivar generation: another number whenever the file behind the path is another one;
        executors then drop what they keep of it
    :ivar writable: in WAL mode, and being written; else it never changes, and is opened so
    """

    segment: str
    path: str
    generation: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may use.

    :ivar seconds: for the whole request, from when it is handed to the pool
    :ivar rows: of each segment; more are an error of that segment. 0: no limit
    """

    seconds: float
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    :ivar segments: that were asked, whether or not they failed
    :ivar failed: how many of them failed
    :ivar rows: in all
    :ivar changes: rows that a write changed, those changed by triggers included
    :ivar error: why the whole request failed, or its only segment where the framing has
        no place for that
    :ivar corrupt: segments whose file turned out to be damaged
    """

    segments: int = 0
    failed: int = 0
    rows: int = 0
    changes: int = 0
    error: errors.TroughError | None = None
    corrupt: tuple[str, ...] = ()


class Receiver(Protocol):
    """Who asked. Both are called on the reactor's thread, never before the call that
    returns the job has returned."""

    def data(self, chunk: bytes) -> None:
        """Take a further piece of the answer; some may come after a pause, too."""

    def finished(self, outcome: Outcome) -> None:
        """Take note of the end; called exactly once, and last."""


class Executor(Protocol):
    """The side of an executor that a job sees."""

    def send(self, message: frames.Message) -> None:
        """Send a message with the next frame."""

    def withdraw(self, part: Part) -> None:
        """Forget a part, and have the executor forget it."""

    def cancel_write(self, job: WriteJob) -> bool:
        """Cancel a write; whether it was never handed over, and is forgotten."""


class Job:
    """A request that is under way."""

    __slots__ = ()

    def cancel(self) -> None:
        """End it. A query's receiver is told before this returns; a write's when it is
        known whether it was in time. Without effect once it is over."""

    def pause(self) -> None:
        """Have no more data, but for what is on its way; a bounded number of bytes."""

    def resume(self) -> None:
        """Undo :meth:`pause`."""


class Part:
    """Segments of a job that one executor was given.

    :ivar number: by which the executor knows it; never used again
    :ivar attempts: executors that died while they ran this very part
    """

    __slots__ = ("attempts", "executor", "job", "moved", "number", "said", "targets", "untaken")

    def __init__(
        self,
        job: ReadJob,
        executor: Executor,
        number: int,
        targets: Sequence[Target],
        attempts: int = 0,
    ) -> None:
        self.job = job
        self.executor = executor
        self.number = number
        self.targets = targets
        self.attempts = attempts
        self.moved: frozenset[int] = frozenset()
        #: Places as in frames.PIECES, in the order in which they were told.
        self.said: list[int] = []
        #: Bytes that the receiver was given and the executor has no credit for yet.
        self.untaken = 0

    @property
    def deadline(self) -> float:
        """By :func:`time.monotonic`."""
        return self.job.deadline

    def unsaid(self) -> list[int]:
        """Places of segments of which nothing was told, and that are asked here alone."""
        said = {place if place >= 0 else ~place for place in self.said}
        return [
            place
            for place in range(len(self.targets))
            if place not in said and place not in self.moved
        ]

    def half_said(self) -> list[int]:
        """Places of segments of which some was told, and not all."""
        ended = {place for place in self.said if place >= 0}
        return sorted({~place for place in self.said if place < 0} - ended - self.moved)

    def taken(self, size: int) -> None:
        """Give the executor credit for bytes that the receiver was given."""
        self.untaken += size
        if self.untaken >= _CREDIT and not self.job.paused:
            self.give_credit()

    def give_credit(self) -> None:
        """Tell the executor of everything that the receiver was given."""
        if self.untaken:
            self.executor.send((frames.CREDIT, self.number, self.untaken))
            self.untaken = 0


class ReadJob(Job):
    """A query of any number of segments."""

    __slots__ = (
        "_corrupt",
        "_failed",
        "_rows",
        "_segments",
        "deadline",
        "framing",
        "limit",
        "over",
        "parameters",
        "parts",
        "paused",
        "receiver",
        "sql",
        "tag",
    )

    def __init__(
        self,
        receiver: Receiver,
        sql: str | bytes,
        parameters: Parameters,
        deadline: float,
        limit: int,
        framing: Framing,
        tag: str,
        segments: int,
    ) -> None:
        self.receiver = receiver
        self.sql = sql
        self.parameters = parameters
        self.deadline = deadline
        self.limit = limit
        self.framing = framing
        self.tag = tag
        self.parts: list[Part] = []
        self.paused = False
        self.over = False
        self._segments = segments
        self._failed = 0
        self._rows = 0
        self._corrupt: tuple[str, ...] = ()

    # -- whoever asked -----------------------------------------------------------------

    def cancel(self) -> None:
        self.fail(errors.Cancelled("the query was cancelled"))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            for part in self.parts:
                part.give_credit()

    # -- what executors say ------------------------------------------------------------

    def ended(self, part: Part, chunk: bytes, count: int) -> None:
        """The last bytes of the only segment of `part`."""
        if self._segments == 1:
            self.over = True
            if chunk:
                self._give(chunk)
            self.parts.clear()
            if count >= 0:
                self._finish(_answered(count))
            else:
                corrupt = (part.targets[0].segment,) if count == frames.COUNT_CORRUPT else ()
                self._finish(Outcome(segments=1, failed=1, rows=self._rows, corrupt=corrupt))
            return
        self.pieces(part, [0], [count], [chunk])
        self.part_is_over(part)

    def some(self, part: Part, chunk: bytes) -> None:
        """Some bytes of the only segment of `part`."""
        part.said = [~0]
        self._give(chunk)
        part.taken(len(chunk))

    def pieces(self, part: Part, places: list[int], counts: list[int], pieces: list[bytes]) -> None:
        """Bytes of some segments of `part`; see frames.PIECES."""
        size = sum(map(len, pieces))
        if part.moved:
            places, counts, pieces = _without(part.moved, places, counts, pieces)
        part.said += places
        self._rows += sum(counts)
        if min(counts, default=0) < 0:
            self._count_failures(part, places, counts)
        chunk = b"".join(pieces)
        if chunk:
            self._give(chunk)
        part.taken(size)

    def _count_failures(self, part: Part, places: list[int], counts: list[int]) -> None:
        for place, count in zip(places, counts, strict=True):
            if count < 0:
                self._failed += 1
                self._rows -= count
                if count == frames.COUNT_CORRUPT:
                    self._corrupt += (part.targets[place].segment,)

    def part_is_over(self, part: Part) -> None:
        """`part` has no more to say; the job may be over with it."""
        if part in self.parts:
            self.parts.remove(part)
        self.end_if_answered()

    def end_if_answered(self) -> None:
        """End the job if no executor has a part of it."""
        if not self.parts and not self.over:
            self.over = True
            self._finish(Outcome(self._segments, self._failed, self._rows, corrupt=self._corrupt))

    def fail_segment(self, target: Target, error: errors.TroughError) -> None:
        """One segment will not be answered."""
        damaged = (target.segment,) if isinstance(error, errors.CorruptSegment) else ()
        if self.framing is Framing.OBJECTS:
            self.fail(error, damaged)
            return
        self._failed += 1
        self._corrupt += damaged
        self._give(rows.fail_line(self.tag, target.segment, error).encode("utf-8", "replace"))

    def fail(self, error: errors.TroughError, corrupt: tuple[str, ...] = ()) -> None:
        """The job ends with an error, whatever is still under way."""
        if self.over:
            return
        self.over = True
        parts, self.parts = self.parts, []
        for part in parts:
            part.executor.withdraw(part)
        failed = self._segments
        self._finish(
            Outcome(
                self._segments, failed, self._rows, error=error, corrupt=self._corrupt + corrupt
            )
        )

    # -- the receiver ------------------------------------------------------------------

    def _give(self, chunk: bytes) -> None:
        try:
            self.receiver.data(chunk)
        except Exception:
            _log.failure("a receiver failed to take data of {tag}", tag=self.tag)

    def _finish(self, outcome: Outcome) -> None:
        try:
            self.receiver.finished(outcome)
        except Exception:
            _log.failure("a receiver failed to take the outcome of {tag}", tag=self.tag)


class WriteJob(Job):
    """A write to one segment.

    :ivar place: in the executor's table of writes that were begun, or None while the
        write has not been handed over
    """

    __slots__ = (
        "deadline",
        "executor",
        "number",
        "over",
        "parameters",
        "place",
        "receiver",
        "sql",
        "target",
    )

    def __init__(
        self,
        receiver: Receiver,
        target: Target,
        sql: str | bytes,
        parameters: Parameters,
        deadline: float,
        number: int,
    ) -> None:
        self.receiver = receiver
        self.target = target
        self.sql = sql
        self.parameters = parameters
        self.deadline = deadline
        self.number = number
        self.executor: Executor | None = None
        self.place: int | None = None
        self.over = False

    def cancel(self) -> None:
        executor = self.executor
        if not self.over and executor is not None and executor.cancel_write(self):
            self.fail(errors.Cancelled("the write was cancelled before it began"))

    def message(self) -> frames.Message:
        """What hands it over."""
        target = self.target
        return (
            frames.WRITE,
            self.number,
            self.place,
            self.sql,
            self.parameters,
            self.deadline,
            target.segment,
            target.path,
            target.generation,
        )

    def written(self, changes: int) -> None:
        """It is on disk."""
        self._finish(Outcome(segments=1, changes=changes))

    def fail(self, error: errors.TroughError) -> None:
        """It was not applied, or nobody knows."""
        damaged = (self.target.segment,) if isinstance(error, errors.CorruptSegment) else ()
        self._finish(Outcome(segments=1, failed=1, error=error, corrupt=damaged))

    def _finish(self, outcome: Outcome) -> None:
        if self.over:
            return
        self.over = True
        try:
            self.receiver.finished(outcome)
        except Exception:
            _log.failure(
                "a receiver failed to take the outcome of a write to {segment}",
                segment=self.target.segment,
            )


@functools.lru_cache(maxsize=1024)
def _answered(count: int) -> Outcome:
    return Outcome(segments=1, rows=count)


def _without(
    moved: frozenset[int], places: list[int], counts: list[int], pieces: list[bytes]
) -> tuple[list[int], list[int], list[bytes]]:
    """What is said of segments that are not asked elsewhere by now."""
    kept: Iterable[tuple[int, int, bytes]] = (
        said
        for said in zip(places, counts, pieces, strict=True)
        if (said[0] if said[0] >= 0 else ~said[0]) not in moved
    )
    columns = list(zip(*kept, strict=True)) or [(), (), ()]
    return list(columns[0]), list(columns[1]), list(columns[2])


_MARSHALLED = frozenset({type(None), bool, int, float, str, bytes})


def check_parameters(parameters: Parameters) -> Parameters:
    """Parameters in the form in which they travel.

    :raises trough.errors.BadRequest: one of them is nothing that SQLite could store
    """
    if parameters is None:
        return None
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    for value in values:
        if type(value) not in _MARSHALLED:
            raise errors.BadRequest(
                f"a parameter of type {type(value).__name__}",
                "None, bool, int, float, str and bytes can be bound",
            )
    return dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)
