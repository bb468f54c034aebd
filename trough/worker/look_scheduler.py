"""When a worker looks at which of its segments.

A segment is looked at when something about it changed, and again a while later if its look failed
or had to wait. A look too many does no harm. This module does not know what a look decides
(:mod:`trough.worker.reconciler`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.util.periodic import Periodic
from trough.util.waiting import Waiters
from trough.worker.refusals import COPIES, Refusals
from trough.worker.segments import Segments

_log = Logger()

#: Segments looked at at once, of those that are written and of the others. Transfers have a
#: bound of their own, in the storage.
PARALLEL = 8

#: Looks that are begun in one turn of the reactor, at most: a few milliseconds.
LOOKS_A_TURN = 500

#: Segments put off that are tried again at once. Where the first of them fail once more, as
#: on a full disk, so will most others, and there may be very many.
TRIES = 1000

#: Looks at one segment; whether it has to be looked at again later.
Look = Callable[[str], Awaitable[bool]]


class LookScheduler(service.MultiService):
    """See the module's text.

    :param retry: seconds before a segment whose look failed, or had to wait, is looked at again
    :param first_fetches: segments without a copy here that are looked at at once
    """

    def __init__(
        self,
        segments: Segments,
        refusals: Refusals,
        retry: float,
        clock: IReactorTime,
        first_fetches: int = PARALLEL,
    ) -> None:
        super().__init__()
        self._first_fetches = max(first_fetches, PARALLEL)
        self._segments = segments
        self._refusals = refusals
        self._clock = clock
        self._look: Look | None = None
        self._queue: OrderedDict[str, None] = OrderedDict()
        #: Those that are written: whether they still may be is not to wait for any fetch.
        self._written: OrderedDict[str, None] = OrderedDict()
        self._active: dict[str, Deferred[None]] = {}
        self._active_written: set[str] = set()
        #: The end of the last look; the stop waits for it.
        self._idle: Waiters[None] = Waiters()
        #: Looks that ended since the start, and those of them that failed.
        self._looks = self._failed = 0
        self._later: set[str] = set()
        #: Those that come again in this round, until they are queued; those that are.
        self._round: set[str] = set()
        self._tried: set[str] = set()
        #: Those under way that have to be looked at once more right after.
        self._behind: set[str] = set()
        #: Why the last look at a segment failed: the same reason is not logged again.
        self._reasons: dict[str, str] = {}
        # Not whether it runs: locks that were lost are looked at before it does.
        self._stopped = False
        self._filling = False
        self._soon: IDelayedCall | None = None
        Periodic("segments put off", retry, self.retry, clock).setServiceParent(self)

    def begin(self, look: Look) -> None:
        """Look by this from now on."""
        self._look = look
        self._fill()

    @property
    def status(self) -> dict[str, int]:
        """Counts for the worker's status."""
        return {
            "queued": len(self._queue) + len(self._written) + len(self._behind),
            "active": len(self._active),
            "put_off": len(self._later | self._round),
            "looks": self._looks,
            "failed": self._failed,
        }

    def look_at(self, segments: Iterable[str]) -> None:
        """Have these looked at soon; a worker that stops looks at nothing any more."""
        if self._stopped:
            return
        for segment in segments:
            copy = self._segments.get(segment)
            if copy is not None and copy.writable:
                self._written[segment] = None
                continue
            self._queue[segment] = None
            if copy is not None:
                # A newer version of what is being served goes before what never was.
                self._queue.move_to_end(segment, last=False)
        self._fill()

    def startService(self) -> None:
        self._stopped = False
        super().startService()

    async def stopService(self) -> None:
        """Cancel the looks under way, and wait for them."""
        self._stopped = True
        self._queue.clear()
        self._written.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        await super().stopService()
        for looking in list(self._active.values()):
            looking.cancel()
        if self._active:
            await self._idle.wait()

    # -- one at a time ----------------------------------------------------------

    async def retry(self) -> None:
        """Look again at some of the segments whose look failed or had to wait."""
        self._try_again(TRIES)

    def _try_again(self, count: int) -> None:
        """Check so many of those put off, all of them before any a second time."""
        if not self._round:
            self._round, self._later = self._later, set()
        portion = [self._round.pop() for _ in range(min(count, len(self._round)))]
        self._tried.update(portion)
        self.look_at(portion)

    def _fill(self) -> None:
        # Most looks find all well and end at once, which would fill from within the
        # filling: as deep a stack as there are segments.
        if self._filling:
            return
        self._filling = True
        try:
            self._begin_looks()
        finally:
            self._filling = False
        if self._next_queue() is not None and self._soon is None:
            self._soon = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._soon = None
        self._fill()

    def _next_queue(self) -> OrderedDict[str, None] | None:
        """Where the next segment to be looked at waits; None while none may be."""
        if self._look is None:
            return None
        written = len(self._active_written)
        if self._written and written < PARALLEL:
            return self._written
        most = PARALLEL
        if self._queue and self._segments.get(next(iter(self._queue))) is None:
            most = self._first_fetches
        return self._queue if self._queue and len(self._active) - written < most else None

    def _begin_looks(self) -> None:
        for _turn in range(LOOKS_A_TURN):
            queue = self._next_queue()
            if queue is None:
                return
            segment, _ = queue.popitem(last=False)
            if segment in self._active:
                self._behind.add(segment)
                continue
            if queue is self._written:
                self._active_written.add(segment)
            looking = Deferred.fromCoroutine(self._carry_out(segment))
            self._active[segment] = looking
            looking.addBoth(self._looked, segment)

    async def _carry_out(self, segment: str) -> None:
        assert self._look is not None
        if await self._look(segment):
            self._later.add(segment)

    def _looked(self, result: object, segment: str) -> None:
        self._active.pop(segment, None)
        self._looks += 1
        self._failed += isinstance(result, Failure)
        self._active_written.discard(segment)
        if not self._active:
            self._idle.fire(None)
        if self._stopped:
            return
        if isinstance(result, Failure):
            self._put_off(segment, result)
        else:
            self._reasons.pop(segment, None)
        if segment in self._tried:
            self._tried.remove(segment)
            if segment not in self._later:
                # What kept it from its turn may keep no other one by now. With each success
                # fewer are left, so that this ends.
                self._try_again(2)
        if segment in self._behind:
            self._behind.remove(segment)
            self.look_at([segment])
        self._fill()

    def _put_off(self, segment: str, failure: Failure) -> None:
        self._later.add(segment)
        if failure.check(errors.TroughError):
            self._refusals.note(COPIES, failure.value)
            return
        kind = type(failure.value).__name__
        if self._reasons.get(segment) != kind:
            self._reasons[segment] = kind
            _log.failure("{segment}: put off", failure=failure, segment=segment)
