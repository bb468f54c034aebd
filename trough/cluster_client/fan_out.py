"""One query over many segments on many workers, as if one worker had them all.

Each worker gets one request for all of its segments. Another worker is asked for what it cannot
answer: segments that moved, those of a worker that dies in the middle, copies found damaged.

The listener gets no row twice without notice. The first batch of each segment's rows is held back
until the next batch or the end. Most answers have one batch only, so a short answer that is cut off
leaves no trace. If the listener already has rows, it gets
:meth:`~trough.cluster_client.interfaces.FanOutListener.restarted`, and returns whether it can
forget them.

This module does not know how segments are found and connections kept.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.cluster_client.interfaces import (
    FanOutListener,
    QueryHandle,
    QueryRequest,
    QueryStats,
    WorkerClient,
    WorkerClientFactory,
)
from trough.cluster_client.router import SegmentRouter, WorkerAddress
from trough.protocols.line.query_replies import MergedListener, Summary
from trough.util.slices import in_slices

_log = Logger()

#: How often a segment is asked for, at most.
MAX_TRIES = 4

#: Workers that one query asks at the same time.
WORKERS_AT_ONCE = 64

#: Batches held back, at most: those of the segments that wait longest are passed on. A
#: batch is some 64 kB.
HELD_BATCHES = 256

#: Seconds that segments to be asked again wait for others, to be asked for together.
BUNDLE_SECONDS = 0.02

#: Seconds past the deadline after which a worker that did not keep it is given up.
GRACE_SECONDS = 2.0

#: What workers of earlier versions do not know, the latest first: the word by which their refusal
#: names it (which also lists what they do know), and fields of a request without it.
_LATER_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("trace=", "trace", {"trace": ""}),
    ("tests", "tests", {"tests": ()}),
    ("keep=", "keep", {"keep": False, "tests": ()}),
)


class FanOut:
    """A query under way.

    :param segments: each once
    :param clock: for deadlines; the reactor, as a rule
    :ivar done: fires with the :class:`QueryStats` once every segment answered or failed; fails
        where the query as a whole is refused, with :class:`trough.errors.Cancelled` after
        `cancel`, or with what the listener raised. Cancelling it is `cancel`.
    :ivar tally: how it stands
    :ivar paused: whether the listener wants to be left alone
    """

    def __init__(
        self,
        segments: Sequence[str],
        question: QueryRequest,
        listener: FanOutListener,
        routes: SegmentRouter,
        sources: WorkerClientFactory,
        *,
        clock: Any,
    ) -> None:
        self.done: Deferred[QueryStats] = Deferred(lambda _: self.cancel())
        self.tally = QueryStats(len(segments))
        if question.keep:
            self.tally.versions = []
        self.paused = False
        self._question = question
        self._listener = listener
        self._routes = routes
        self._sources = sources
        self._clock = clock
        self._begun = clock.seconds()
        self._slots = DeferredSemaphore(WORKERS_AT_ONCE)
        self._unsettled = set(segments)
        self._errands: set[_SubQuery] = set()
        self._troubles: dict[str, _FailureHistory] = {}
        self._again: dict[str, WorkerAddress | None] = {}
        self._timers: dict[str, Any] = {}
        # Of a segment, first only columns arrived, then they and a batch are held back,
        # then the listener got rows; it is in one of these at a time.
        self._columns: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, tuple[tuple[str, ...], Any]] = {}
        self._told: set[str] = set()
        # Marks that the listener has not received.
        self._marks: dict[str, str] = {}
        self._over = False
        self._asked_in_vain = False
        if question.seconds is not None:
            self._later("deadline", question.seconds + GRACE_SECONDS, self._pass_deadline)
        self._spawn(self._ask_all(segments))

    # -- the caller's ----------------------------------------------------------

    def cancel(self) -> None:
        """End the query on all workers. The listener gets nothing more. Idempotent."""
        self._end(errors.Cancelled("cancelled by this client"))

    def pause(self) -> None:
        """Pass nothing more to the listener until `resume`, except the call under way.
        Answers of workers are not read meanwhile, and so the workers stop computing."""
        self.paused = True
        for errand in self._errands:
            errand.pause()

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        for errand in list(self._errands):
            errand.resume()

    # -- asking ----------------------------------------------------------------

    async def _ask_all(self, segments: Sequence[str]) -> None:
        avoid = {s: self._troubles[s].nodes for s in segments if s in self._troubles}
        try:
            routes = await self._routes.find(segments, avoid)
        except errors.Unavailable as error:
            for segment in segments:
                self._fail(segment, error)
            routes = {}
        by_place: dict[WorkerAddress, list[str]] = {}

        def sort_out(some: Sequence[str]) -> tuple[()]:
            for segment in some:
                place = routes.get(segment)
                if place is not None:
                    by_place.setdefault(place, []).append(segment)
                else:
                    self._fail(segment, _nowhere(segment))
            return ()

        await in_slices(sort_out, segments)
        for place, there in by_place.items():
            self._spawn(self._ask(place, there))
        if not segments:
            self._finish_if_settled()

    async def _ask(self, place: WorkerAddress, segments: Sequence[str]) -> None:
        """Ask one worker for all of its segments."""
        errand = _SubQuery(self, place, segments)
        self._errands.add(errand)
        self._routes.asked(place.node, len(segments))
        await self._slots.acquire()
        error: errors.TroughError = errors.Unavailable(f"{place.node} left it out of its answer")
        try:
            source = await self._sources.source(place)
            if not self._over:
                self._note_kept(place, await self._run(errand, source))
        except errors.BadRequest:
            raise  # no worker would take such a query
        except errors.TroughError as lost:
            error = lost
        finally:
            self._slots.release()
            self._errands.discard(errand)
            self._routes.answered(place.node, len(segments))
        for segment in list(errand.unfinished):
            errand.failed(segment, error)
        self._finish_if_settled()

    async def _run(self, errand: _SubQuery, source: WorkerClient) -> Summary:
        left_out: dict[str, Any] = {}
        while True:
            try:
                return await errand.run(source, replace(self._remaining(), **left_out))
            except errors.BadRequest as refusal:
                if self._question.merge and "merge=" in refusal.message:
                    # Nor do the others of this query merge.
                    self._question = replace(self._question, merge="")
                    continue
                further = self._not_known(refusal, left_out)
                if not further:
                    raise
                left_out |= further

    def _not_known(self, refusal: errors.BadRequest, left_out: dict[str, Any]) -> dict[str, Any]:
        """What a worker of an earlier version refuses, and is asked again without; or nothing."""
        for word, option, without in _LATER_OPTIONS:
            asked = getattr(self._question, option) and option not in left_out
            if asked and word in refusal.message:
                return without
        return {}

    def _note_kept(self, place: WorkerAddress, summary: Summary) -> None:
        if self.tally.versions is not None:
            self.tally.kept += summary.kept
            self.tally.pruned += summary.pruned
            self.tally.versions.append((place, summary.version))

    def _ask_again(self) -> None:
        """Ask for the segments that failed where they were asked for."""
        again, self._again = self._again, {}
        unknown = [segment for segment, place in again.items() if place is None]
        moved: dict[WorkerAddress, list[str]] = {}
        for segment, place in again.items():
            if place is not None:
                moved.setdefault(place, []).append(segment)
        for place, segments in moved.items():
            self._spawn(self._ask(place, segments))
        if unknown:
            self._spawn(self._ask_all(unknown))

    def _remaining(self) -> QueryRequest:
        question = self._question
        if question.seconds is None:
            return question
        left = question.seconds - (self._clock.seconds() - self._begun)
        if left <= 0:
            raise _too_late(question.seconds)
        return replace(question, seconds=left)

    # -- answers of workers ----------------------------------------------------

    def state(self, segment: str, mark: str) -> None:
        """A segment's answer need not be its present state."""
        self._marks[segment] = mark

    def columns(self, segment: str, names: tuple[str, ...]) -> None:
        """A segment begins to answer."""
        self._columns[segment] = names

    def rows(self, segment: str, rows: Any) -> None:
        """Rows of a segment: hold the first ones back, pass the others on."""
        if self._over:
            return
        names = self._columns.pop(segment, None)
        if names is None:
            self._release(segment)
            self._listener.rows(segment, rows)
            return
        self._held[segment] = (names, rows)
        if len(self._held) > HELD_BATCHES:
            self._release(next(iter(self._held)))

    def answered(self, segment: str, count: int) -> None:
        """A segment has answered whole."""
        if self._over:
            return
        names = self._columns.pop(segment, None)
        if names is not None:
            self._tell_mark(segment)
            self._listener.columns(segment, names)
        self._release(segment)
        self._told.discard(segment)
        self.tally.answered += 1
        self.tally.rows += count
        self._listener.done(segment, count)
        self._settle(segment)

    def merged(self, segments: list[str], count: int, rows: Any) -> None:
        """These segments have answered whole, together."""
        if self._over:
            return
        for segment in segments:
            self._tell_mark(segment)
        self.tally.answered += len(segments)
        self.tally.rows += count
        cast(MergedListener, self._listener).merged(segments, count, rows)
        for segment in segments:
            self._settle(segment)

    def refused(self, segment: str, place: WorkerAddress, error: errors.TroughError) -> None:
        """A segment was asked for in vain: ask elsewhere, or let it fail."""
        if self._over:
            return
        self._asked_in_vain = True
        self._columns.pop(segment, None)
        self._held.pop(segment, None)
        self._marks.pop(segment, None)
        trouble = self._troubles.setdefault(segment, _FailureHistory())
        trouble.nodes.append(place.node)
        trouble.error = error
        if not trouble.may_pass or not self._forgotten(segment):
            self._fail(segment, error)
            return
        self._routes.forget(segment)
        target = None
        if isinstance(error, errors.Moved):
            target = self._routes.place_of(error.node, error.line)
        self._again[segment] = target if target is not None and target.line else None
        self._later("again", BUNDLE_SECONDS, self._ask_again)

    def _release(self, segment: str) -> None:
        held = self._held.pop(segment, None)
        if held is not None:
            self._told.add(segment)
            self._tell_mark(segment)
            self._listener.columns(segment, held[0])
            self._listener.rows(segment, held[1])

    def _tell_mark(self, segment: str) -> None:
        mark = self._marks.pop(segment, None)
        if mark is not None:
            self._listener.state(segment, mark)

    def _forgotten(self, segment: str) -> bool:
        """Whether no rows of the segment are with the listener, or are no longer."""
        if segment not in self._told:
            return True
        if not self._listener.restarted(segment):
            return False
        self._told.discard(segment)
        self.tally.restarted += 1
        return True

    # -- ends ------------------------------------------------------------------

    def _fail(self, segment: str, error: errors.TroughError) -> None:
        if self._over or segment not in self._unsettled:
            return
        trouble = self._troubles.get(segment)
        if trouble is not None and trouble.error is not None and error.code == _NOWHERE:
            # That there is no other copy explains less than the last copy's error.
            error = trouble.error
        self.tally.failed[segment] = error
        self._listener.failed(segment, error)
        self._settle(segment)

    def _settle(self, segment: str) -> None:
        self._troubles.pop(segment, None)
        self._unsettled.discard(segment)
        self._finish_if_settled()

    def _finish_if_settled(self) -> None:
        if self._unsettled or self._over:
            return
        # The word for an answer's version comes behind its last segment.
        if self.tally.versions is None or self.tally.failed or not self._errands:
            self._finish()

    def _finish(self) -> None:
        self._stop()
        versions = self.tally.versions
        # A word is about all segments that its worker was asked for.
        whole = not (self.tally.failed or self._asked_in_vain or self._errands)
        if versions is not None and not (whole and all(word for _, word in versions)):
            self.tally.versions = None
        self.done.callback(self.tally)

    def _pass_deadline(self) -> None:
        error = _too_late(self._question.seconds or 0)
        for segment in list(self._unsettled):
            self._fail(segment, error)
        for errand in list(self._errands):
            errand.cancel()
        if not self._over:
            self._finish()

    def _end(self, error: Exception) -> None:
        if self._over:
            return
        self._stop()
        for errand in list(self._errands):
            errand.cancel()
        if not self.done.called:
            self.done.errback(error)

    def _stop(self) -> None:
        self._over = True
        self.tally.seconds = self._clock.seconds() - self._begun
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        timer = self._timers.get(name)
        if timer is None or not timer.active():
            self._timers[name] = self._clock.callLater(seconds, self._guarded, call)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # raised by the listener: for the caller
            self._end(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        if self._over and not failure.check(errors.TroughError):
            _log.failure("after the end of a query", failure)
        assert isinstance(failure.value, Exception)
        self._end(failure.value)


@dataclass(slots=True)
class _FailureHistory:
    """The workers that failed for a segment, and the last error."""

    nodes: list[str] = field(default_factory=list)
    error: errors.TroughError | None = None

    @property
    def may_pass(self) -> bool:
        """Whether asking once more may be of use."""
        return errors.may_pass(self.error) and len(self.nodes) < MAX_TRIES


class _SubQuery:
    """What one worker is asked, in one go, and has not answered yet."""

    def __init__(self, fan_out: FanOut, place: WorkerAddress, segments: Sequence[str]) -> None:
        self.unfinished = set(segments)
        self.state = fan_out.state
        self.columns = fan_out.columns
        self._fan_out = fan_out
        self._place = place
        self._segments = segments
        self._running: QueryHandle | None = None

    async def run(self, source: WorkerClient, question: QueryRequest) -> Summary:
        """Ask, and wait for the end of the answer; return the worker's summary of it."""
        self._running = source.query(self._segments, question, self)
        if self._fan_out.paused:
            self._running.pause()
        try:
            return await self._running.done
        finally:
            self._running = None

    def done(self, segment: str, count: int) -> None:
        if segment in self.unfinished:
            self.unfinished.discard(segment)
            self._fan_out.answered(segment, count)

    def rows(self, segment: str, rows: Any) -> None:
        # Others may follow where a segment failed for a row that was too large.
        if segment in self.unfinished:
            self._fan_out.rows(segment, rows)

    def merged(self, segments: list[str], count: int, rows: Any) -> None:
        before = len(self.unfinished)
        asked = self.unfinished.issuperset(segments)
        self.unfinished.difference_update(segments)
        if not asked or before - len(self.unfinished) != len(segments):
            raise errors.ProtocolError(
                f"{self._place.node} answered for segments that had their answers, or were not "
                "asked for"
            )
        self._fan_out.merged(segments, count, rows)

    def failed(self, segment: str, error: errors.TroughError) -> None:
        if segment in self.unfinished:
            self.unfinished.discard(segment)
            self._fan_out.refused(segment, self._place, error)

    def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def pause(self) -> None:
        if self._running is not None:
            self._running.pause()

    def resume(self) -> None:
        if self._running is not None:
            self._running.resume()


_NOWHERE = errors.NoSuchSegment.code


def _nowhere(segment: str) -> errors.TroughError:
    return errors.NoSuchSegment(f"no worker serves segment {segment}")


def _too_late(seconds: float) -> errors.TroughError:
    return errors.DeadlineExceeded(f"no answer within {seconds:g} s")
