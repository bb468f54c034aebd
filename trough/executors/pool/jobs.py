"""Requests for executors, as their callers see them, and writes as the front keeps them.

A job belongs to its caller. Its receiver gets the answer's bytes and, exactly once, the
outcome. Queries, which are split into parts, are in :mod:`trough.executors.pool.read_jobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.logger import Logger

from trough import errors
from trough.executors.messages import FrontMessage, Target, WriteSegment, packed_parameters
from trough.sql.queries import Parameters
from trough.util.job import SilentJob

_log = Logger()


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What one request may use.

    :ivar seconds: for the whole request, from when it is handed to the pool
    :ivar rows: of each segment; more are an error of that segment. 0: no limit
    :ivar running: seconds that a write may run once its turn has come
    :ivar client: who asks; clients share the executors
    """

    seconds: float
    rows: int = 0
    running: float = float("inf")
    client: str = ""


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
    :ivar position: where the log of a replicated segment ended when a write was on this disk
    """

    segments: int = 0
    failed: int = 0
    rows: int = 0
    changes: int = 0
    error: errors.TroughError | None = None
    corrupt: tuple[str, ...] = ()
    position: int | None = None


class LargeLineSource(Protocol):
    """A line that is too large to be sent at once, and waits for its connection."""

    def go(self) -> None:
        """Have it sent; nothing else may be sent until its end."""

    def give_credit(self) -> None:
        """Have more of it sent, as what came so far is on its way to the reader."""


class LargeLineReceiver(Protocol):
    """The same as its receiver has it."""

    def data(self, chunk: bytes) -> None:
        """Take a further piece."""

    def end(self) -> None:
        """The last piece was given."""

    def lost(self) -> None:
        """There will be no more of it, though there should be, if it has begun. Idempotent."""


class Receiver(Protocol):
    """Receives an answer. Both methods are called on the reactor's thread, never before the
    call that returns the job has returned.

    It may have a method ``whole(chunk, rows)`` as well, which takes the answer of the only segment,
    or the rest of it, together with the end. Where that returns false, both come as ever.

    It may have a method ``large_line(source)``, which returns a :class:`LargeLineReceiver`. Where
    it has none, a large line comes by `data` as well, and in pieces that are no whole lines.
    """

    def data(self, chunk: bytes) -> None:
        """Take a further piece of the answer; some may come after a pause, too."""

    def finished(self, outcome: Outcome) -> None:
        """Take note of the end; called exactly once, and last."""


class Executor(Protocol):
    """The side of an executor that a job sees.

    :ivar mark_since: when it began what it is at, by :func:`time.monotonic`
    """

    mark_since: float

    def send(self, message: FrontMessage) -> None:
        """Send a message with the next frame."""

    def hold(self, client: str) -> None:
        """Have a client's reads wait, once more."""

    def release(self, client: str) -> None:
        """Undo one :meth:`hold`."""

    def withdraw(self, number: int) -> None:
        """Forget a part of a query, and have the executor forget it."""

    def cancel_write(self, job: WriteJob) -> bool:
        """Cancel a write; whether it was never handed over, and is forgotten."""


class WriteJob(SilentJob):
    """A write to one segment.

    :ivar place: in the executor's table of writes that were begun, or None while the
        write has not been handed over
    :ivar when_over: called before the receiver gets the outcome
    :ivar running: seconds that it may run
    :ivar client: who asked; clients take turns
    :ivar executor: that has it, or None while it waits for one
    :ivar returning: whether the executor was asked to hand it back, to move it
    :ivar cancelled: whether its client does not want it any more
    """

    place: int | None = None
    over = False
    returning = False
    cancelled = False
    executor: Executor | None = None
    when_over: Callable[[WriteJob], None] | None = None

    def __init__(
        self,
        receiver: Receiver,
        target: Target,
        text: bytes,
        parameters: bytes,
        deadline: float,
        number: int,
        when_damaged: Callable[[tuple[str, ...]], None],
        running: float = float("inf"),
        client: str = "",
    ) -> None:
        self.receiver = receiver
        self.running = running
        self.client = client
        self.target = target
        self._text = text
        self._parameters = parameters
        self.deadline = deadline
        self.number = number
        self._when_damaged = when_damaged

    def cancel(self) -> None:
        self.cancelled = True
        if not self.over and (self.executor is None or self.executor.cancel_write(self)):
            self.fail(errors.Cancelled("the write was cancelled before it began"))

    def message(self, place: int) -> WriteSegment:
        """What hands it over.

        :param place: in the executor's table of begun writes
        """
        return WriteSegment(
            self.number,
            place,
            self._text,
            self._parameters,
            self.deadline,
            self.running,
            self.client,
            self.target,
        )

    def written(self, changes: int, position: int | None = None) -> None:
        """It is on disk."""
        self._finish(Outcome(segments=1, changes=changes, position=position))

    def fail(self, error: errors.TroughError) -> None:
        """It was not applied, or its outcome is unknown."""
        damaged = (self.target.segment,) if isinstance(error, errors.CorruptSegment) else ()
        self._finish(Outcome(segments=1, failed=1, error=error, corrupt=damaged))

    def _finish(self, outcome: Outcome) -> None:
        if self.over:
            return
        self.over = True
        if self.when_over is not None:
            self.when_over(self)
        try:
            if outcome.corrupt:
                self._when_damaged(outcome.corrupt)
            self.receiver.finished(outcome)
        except Exception:
            _log.failure(
                "a receiver failed to take the outcome of a write to {segment}",
                segment=self.target.segment,
            )


_VALUES = frozenset({type(None), bool, int, float, str, bytes})


def as_bytes(sql: str | bytes) -> bytes:
    """SQL text in the form in which it travels; an executor refuses what is not UTF-8."""
    return sql.encode("utf-8", "surrogatepass") if isinstance(sql, str) else sql


def checked_parameters(parameters: Parameters) -> bytes:
    """Parameters in the form in which they travel.

    :raises trough.errors.BadRequest: one of them is nothing that SQLite could store
    """
    if parameters is None:
        return b""
    if type(parameters) is tuple:  # by far the most frequent kind, and ready to go
        if not _VALUES.issuperset(map(type, parameters)):
            raise _not_a_value(parameters)
        return packed_parameters(parameters)
    if isinstance(parameters, Mapping):
        if not _VALUES.issuperset(map(type, parameters.values())):
            raise _not_a_value(parameters.values())
        return packed_parameters(dict(parameters))
    return checked_parameters(tuple(parameters))


def _not_a_value(values: Iterable[Any]) -> errors.BadRequest:
    name = next(type(value).__name__ for value in values if type(value) not in _VALUES)
    return errors.BadRequest(
        f"a parameter of type {name}", "None, bool, int, float, str and bytes can be bound"
    )
