"""Queries as the front keeps them: a job, and the parts it is split into.

A part is the share of a job that one executor has. The job counts its segments. It knows which
are still to be answered when an executor dies, or when work that an executor has not begun moves
elsewhere. It does not know how executors are chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger

from trough import errors
from trough.executors import messages
from trough.executors.messages import Target
from trough.executors.pool.jobs import Executor, LargeLineReceiver, Outcome, Receiver
from trough.sql import rows
from trough.sql.queries import LINES, OBJECTS, Framing
from trough.util.job import Job

_log = Logger()

#: Bytes of one part that may be on their way or with the receiver while it is paused.
WINDOW = 1 << 19

#: Bytes after which the executor gets credit for them.
_CREDIT = WINDOW // 4


class ReadTask:
    """Segments of a job that one executor was given.

    :ivar number: by which the executor knows it; never used again
    :ivar attempts: executors that died while they ran this very part
    """

    attempts = 0
    #: That of :class:`trough.executors.pool.long_queries.Parked`, if it waited for its turn.
    level = 0
    #: Places as in :class:`trough.executors.messages.PartPieces`, of what was delivered.
    delivered: set[int] | frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()
    #: Bytes that the receiver was given and the executor has no credit for yet.
    uncredited = 0
    #: The large line that it has, or is about to have, on its way to the receiver.
    line: LargeLineReceiver | None = None

    def __init__(
        self, job: ReadJob, executor: Executor, number: int, targets: Sequence[Target]
    ) -> None:
        self.job = job
        self.executor = executor
        self.number = number
        self.targets = targets

    @property
    def deadline(self) -> float:
        """By :func:`time.monotonic`."""
        return self.job.deadline

    def check(self, places: Sequence[int], answers: int) -> None:
        """Refuse an executor's message that is not about segments of this part.

        :param places: as in :class:`trough.executors.messages.PartPieces`
        :param answers: how many the message has, one for each place
        :raises trough.errors.ProtocolError: the executor is broken
        """
        number = len(self.targets)
        if len(places) != answers or (
            places and not -number <= min(places) <= max(places) < number
        ):
            raise errors.ProtocolError("an executor answered for a segment that it was not asked")

    def undelivered(self) -> list[int]:
        """Places of segments of which nothing was delivered, and that are asked here alone."""
        delivered = {place if place >= 0 else ~place for place in self.delivered}
        return [
            place
            for place in range(len(self.targets))
            if place not in delivered and place not in self.moved
        ]

    def partly_delivered(self) -> list[int]:
        """Places of segments of which some was delivered, and not all."""
        ended = {place for place in self.delivered if place >= 0}
        return sorted({~place for place in self.delivered if place < 0} - ended - self.moved)

    def taken(self, size: int) -> None:
        """Give the executor credit for bytes that the receiver was given."""
        self.uncredited += size
        if self.uncredited >= _CREDIT and not self.job.paused:
            self.give_credit()

    def go(self) -> None:
        """See :class:`trough.executors.pool.jobs.LargeLineSource`."""
        self.executor.send(messages.SendLarge(self.number))

    def drop_line(self) -> None:
        """There will be no more of a large line."""
        line, self.line = self.line, None
        if line is not None:
            line.lost()

    def give_credit(self) -> None:
        """Give the executor credit for everything that the receiver was given."""
        if self.uncredited:
            self.executor.send(messages.GiveCredit(self.number, self.uncredited))
            self.uncredited = 0


class ReadJob(Job):
    """A query of any number of segments.

    :ivar client: who asked; clients share the executors
    """

    # Here and not set for each job: there are a hundred thousand a second.
    paused = False
    over = False
    #: How often it waits for a segment before it can ask that.
    waiting = 0
    #: Executors that hold the client's reads for this job.
    _held: tuple[Executor, ...] = ()
    _failed = 0
    _rows = 0
    #: Called before the receiver gets the outcome.
    when_over: Callable[[Outcome], None] | None = None
    _corrupt: tuple[str, ...] = ()
    #: Takes whole answers that would be the same again: target, number of rows, lines.
    keeper: Callable[[Target, int, bytes], None] | None = None
    #: Rules by which rows of several segments become one.
    merge = ""

    def __init__(
        self,
        receiver: Receiver,
        text: bytes,
        parameters: bytes,
        deadline: float,
        limit: int,
        framing: Framing,
        tag: str,
        segments: int,
        when_damaged: Callable[[tuple[str, ...]], None],
        client: str = "",
    ) -> None:
        self.receiver = receiver
        self.client = client
        self.framing = framing
        self.tag = tag
        self.deadline = deadline
        self.parts: list[ReadTask] = []
        self._text = text
        self._parameters = parameters
        self._limit = limit
        self._segments = segments
        self._when_damaged = when_damaged

    def message(
        self, number: int, targets: Sequence[Target], stays: bool = False
    ) -> messages.ReadSegments:
        """What hands a part over.

        :param stays: whether the executor never hands it back
        """
        return messages.ReadSegments(
            number,
            self._text,
            self._parameters,
            self.deadline,
            self._limit,
            0 if self.framing is LINES else 1,
            self.tag,
            WINDOW,
            self.client,
            stays,
            self.keeper is not None,
            self.merge,
            targets,
        )

    # -- the caller --------------------------------------------------------------------

    def cancel(self) -> None:
        self.fail(errors.Cancelled("the query was cancelled"))

    def pause(self) -> None:
        if not (self.paused or self.over):
            self.paused = True
            for part in self.parts:
                self.hold(part.executor)

    def hold(self, executor: Executor) -> None:
        """Have an executor begin nothing for a client that does not read what it has."""
        if self.client and executor not in self._held:
            self._held += (executor,)
            executor.hold(self.client)

    def _release(self) -> None:
        held, self._held = self._held, ()
        for executor in held:
            executor.release(self.client)

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self._release()
            for part in self.parts:
                part.give_credit()

    # -- messages from executors -------------------------------------------------------

    def ended(self, part: ReadTask, chunk: bytes, count: int) -> None:
        """The last bytes of the only segment of `part`."""
        if part.line is not None:
            part.drop_line()
        if self._segments == 1:
            self.over = True
            self.parts.clear()
            if count >= 0 and self.when_over is None and not self._held:
                whole = getattr(self.receiver, "whole", None)
                if whole is not None and self._takes_whole(whole, chunk, count):
                    return
            if chunk:
                self._give(chunk)
            if count >= 0:
                self._finish(_answered(count))
            else:
                corrupt = (part.targets[0].segment,) if count == messages.COUNT_CORRUPT else ()
                self._finish(Outcome(segments=1, failed=1, rows=self._rows, corrupt=corrupt))
            return
        self.pieces(part, [0], [count], [chunk])
        self.part_is_over(part)

    def _takes_whole(self, whole: Callable[[bytes, int], bool], chunk: bytes, count: int) -> bool:
        try:
            return whole(chunk, count)
        except Exception:
            _log.failure("a receiver failed to take the answer of {tag}", tag=self.tag)
            return True

    def some(self, part: ReadTask, chunk: bytes) -> None:
        """Some bytes of the only segment of `part`."""
        part.delivered = {~0}
        self._give(chunk)
        part.taken(len(chunk))

    def large(self, part: ReadTask) -> None:
        """A line of `part` waits until it can be sent in pieces."""
        begin = getattr(self.receiver, "large_line", None)
        if begin is None:
            part.go()
        else:
            part.drop_line()  # a process may send anything
            part.line = begin(part)

    def large_data(self, part: ReadTask, place: int, chunk: bytes, last: bool) -> None:
        """A piece of that line, which is about the segment at `place`."""
        part.check([place], 1)
        if isinstance(part.delivered, set):
            part.delivered.add(place if place < 0 else ~place)
        else:
            part.delivered = {place if place < 0 else ~place}
        line = part.line
        if line is None:
            self._give(chunk)
            part.taken(len(chunk))
            return
        part.uncredited += len(chunk)
        line.data(chunk)
        if last:
            part.line = None
            line.end()

    def pieces(
        self, part: ReadTask, places: list[int], counts: list[int], pieces: list[bytes]
    ) -> None:
        """Bytes of some segments of `part`; see :class:`trough.executors.messages.PartPieces`.

        :raises trough.errors.ProtocolError: they are not about its segments
        """
        part.check(places, len(counts))
        size = sum(map(len, pieces))
        if part.moved:
            places, counts, pieces = _without(part.moved, places, counts, pieces)
        if isinstance(part.delivered, set):
            part.delivered.update(places)
        else:
            part.delivered = set(places)
        self._rows += sum(counts)
        if min(counts, default=0) < 0:
            self._count_failures(part, places, counts)
        chunk = b"".join(pieces)
        if chunk:
            self._give(chunk)
        part.taken(size)

    def merged(self, part: ReadTask, message: messages.PartMerged) -> None:
        """One answer of several segments of `part`, none of which is asked elsewhere.

        :raises trough.errors.ProtocolError: it is not about its segments
        """
        places, counts = message.places, message.counts
        part.check(places, len(counts))
        if min(places, default=0) < 0:
            raise errors.ProtocolError("an executor sent half an answer of several segments")
        if self.keeper is not None:
            _check_numbers(message.repeatable, len(places))
            for number, lines in zip(message.repeatable, message.kept, strict=True):
                self.keeper(part.targets[places[number]], counts[number], lines)
        if isinstance(part.delivered, set):
            part.delivered.update(places)
        else:
            part.delivered = set(places)
        self._rows += sum(counts)
        self._give(message.line)
        part.taken(len(message.line))

    def keep(
        self,
        part: ReadTask,
        places: list[int],
        counts: list[int],
        pieces: list[bytes],
        repeatable: list[int],
    ) -> None:
        """Pass on those answers of `part` that would be the same again.

        :raises trough.errors.ProtocolError: they are not whole answers of its segments
        """
        if self.keeper is not None:
            part.check(places, len(counts))
            _check_numbers(repeatable, len(places))
            if any(places[number] < 0 for number in repeatable):
                raise errors.ProtocolError("an executor sent half an answer to be kept")
            for number in repeatable:
                self.keeper(part.targets[places[number]], counts[number], pieces[number])

    def _count_failures(self, part: ReadTask, places: list[int], counts: list[int]) -> None:
        for place, count in zip(places, counts, strict=True):
            if count < 0:
                self._failed += 1
                self._rows -= count
                if count == messages.COUNT_CORRUPT:
                    self._corrupt += (part.targets[place].segment,)

    def part_is_over(self, part: ReadTask) -> None:
        """`part` is finished; the job may be over with it."""
        if part in self.parts:
            self.parts.remove(part)
        self.end_if_answered()

    def end_if_answered(self) -> None:
        """End the job if no executor has a part of it, or will have."""
        if not self.parts and not self.waiting and not self.over:
            self.over = True
            self._finish(Outcome(self._segments, self._failed, self._rows, corrupt=self._corrupt))

    def fail_segment(self, target: Target, error: errors.TroughError) -> None:
        """One segment will not be answered."""
        damaged = (target.segment,) if isinstance(error, errors.CorruptSegment) else ()
        if self.framing is OBJECTS:
            self.fail(error, damaged)
            return
        self._failed += 1
        self._corrupt += damaged
        self._give(rows.fail_line(self.tag, target.segment, error).encode("utf-8", "replace"))

    def fail(self, error: errors.TroughError, corrupt: tuple[str, ...] = ()) -> None:
        """The job ends with an error, even if parts are still under way."""
        if self.over:
            return
        self.over = True
        parts, self.parts = self.parts, []
        for part in parts:
            part.executor.withdraw(part.number)
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
        if self._held:
            self._release()
        try:
            if self.when_over is not None:
                self.when_over(outcome)
            if outcome.corrupt:
                self._when_damaged(outcome.corrupt)
            self.receiver.finished(outcome)
        except Exception:
            _log.failure("a receiver failed to take the outcome of {tag}", tag=self.tag)


def _check_numbers(numbers: Sequence[int], most: int) -> None:
    if numbers and not 0 <= min(numbers) <= max(numbers) < most:
        raise errors.ProtocolError("an executor named an answer that it did not send")


@functools.lru_cache(maxsize=1024)
def _answered(count: int) -> Outcome:
    return Outcome(segments=1, rows=count)


def _without(
    moved: frozenset[int], places: list[int], counts: list[int], pieces: list[bytes]
) -> tuple[list[int], list[int], list[bytes]]:
    """The pieces of segments that are not asked elsewhere by now."""
    kept: Iterable[tuple[int, int, bytes]] = (
        each
        for each in zip(places, counts, pieces, strict=True)
        if (each[0] if each[0] >= 0 else ~each[0]) not in moved
    )
    columns = list(zip(*kept, strict=True)) or [(), (), ()]
    return list(columns[0]), list(columns[1]), list(columns[2])
