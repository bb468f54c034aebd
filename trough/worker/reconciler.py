"""Brings a worker's copies in line with its assignments, one segment at a time.

A segment is looked at when something about it changed, again a while later if its turn
failed or had to wait, and now and then all are compared. Each look decides from what is
true at that moment and does at most one thing, so that a look too many does no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.metadata import AssignmentChanges
from trough.model import READ, Assignment
from trough.util.log_digest import LogDigest
from trough.util.periodic import Periodic
from trough.worker.refusals import COPIES

if TYPE_CHECKING:
    from trough.worker.cold_cache import ColdSegments
    from trough.worker.controller import LocalSyncController
    from trough.worker.local_copies import LocalCopy

_log = Logger()

#: Segments looked at at once, of those that are written and of the others. Transfers have a
#: bound of their own, in the storage.
PARALLEL = 8

#: Looks that are begun in one turn of the reactor, at most: a few milliseconds.
LOOKS_A_TURN = 500

#: Segments put off that are tried again at once. Where the first of them fail once more, as
#: on a full disk, so will most others, and there may be very many.
TRIES = 1000


class Reconciler(service.MultiService):
    """See the module's text.

    :param worker: whose segments, metadata store and storage these are
    :param retry: seconds before a segment whose check failed is checked again
    """

    def __init__(self, worker: LocalSyncController, retry: float, clock: IReactorTime) -> None:
        super().__init__()
        self._worker = worker
        self._wanted: dict[str, Assignment] = {}
        self._known = False
        self._queue: OrderedDict[str, None] = OrderedDict()
        #: Those that are written: whether they still may be is not to wait for any fetch.
        self._written: OrderedDict[str, None] = OrderedDict()
        self._active: dict[str, Deferred[None]] = {}
        self._active_written: set[str] = set()
        #: Fires when the last check has ended; the stop waits for that.
        self._ended: Deferred[None] | None = None
        self._later: set[str] = set()
        #: Those that come again in this round, until they are queued; those that are.
        self._round: set[str] = set()
        self._tried: set[str] = set()
        #: Those under way that have to be looked at once more right after.
        self._behind: set[str] = set()
        #: Why the last look at a segment failed: the same reason is not logged again.
        self._reasons: dict[str, str] = {}
        self._clock = clock
        # Not whether it runs: locks that were lost are looked at before it does.
        self._stopped = False
        self._filling = False
        self._soon: IDelayedCall | None = None
        self._digest = LogDigest(clock.seconds, _report_more)
        Periodic("segments put off", retry, self._again, clock).setServiceParent(self)

    # -- what there is to do ----------------------------------------------------

    def assignments_changed(self, changes: AssignmentChanges) -> None:
        """Take notice of what the leader decided."""
        touched = {row.segment for row in changes.changed} | set(changes.removed)
        if changes.full:
            touched |= set(self._worker.segments)
            self._wanted = {}
            self._known = True
        for row in changes.changed:
            self._wanted[row.segment] = row
        for segment in changes.removed:
            self._wanted.pop(segment, None)
        self.look_at(touched)

    def look_at(self, segments: Iterable[str]) -> None:
        """Have these checked soon; a worker that stops checks nothing any more."""
        if self._stopped:
            return
        for segment in segments:
            copy = self._worker.segments.get(segment)
            if copy is not None and copy.writable:
                self._written[segment] = None
                continue
            self._queue[segment] = None
            if copy is not None:
                # A newer version of what is being served goes before what never was.
                self._queue.move_to_end(segment, last=False)
        self._fill()

    async def everything(self) -> None:
        """Compare all segments with all assignments."""
        if self._known:
            self.look_at([*self._wanted, *self._worker.segments])

    @property
    def assigned(self) -> Collection[str] | None:
        """Segments that are assigned to this worker; None until the metadata store has reported
        them.
        """
        return self._wanted.keys() if self._known else None

    def awaits(self, segment: str) -> bool:
        """Whether a copy of `segment` is assigned to this worker, which it does not serve yet."""
        wanted = self._wanted.get(segment)
        return wanted is not None and wanted.modified > 0

    def is_behind(self, copy: LocalCopy) -> bool:
        """Whether a newer version of a copy that is only read was announced."""
        wanted, entry = self._wanted.get(copy.entry.segment), copy.entry
        return wanted is not None and (wanted.modified, wanted.size) > (entry.modified, entry.size)

    @property
    def status(self) -> dict[str, int]:
        """Counts for the worker's status."""
        return {
            "assigned": len(self._wanted),
            "queued": len(self._queue) + len(self._written) + len(self._behind),
            "active": len(self._active),
            "put_off": len(self._later | self._round),
        }

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
            self._ended = Deferred()
            await self._ended

    # -- one at a time ----------------------------------------------------------

    async def _again(self) -> None:
        self._digest.flush()
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
        written = len(self._active_written)
        if self._written and written < PARALLEL:
            return self._written
        if self._queue and len(self._active) - written < PARALLEL:
            return self._queue
        return None

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
            looking = Deferred.fromCoroutine(self._look(segment))
            self._active[segment] = looking
            looking.addBoth(self._looked, segment)

    def _looked(self, result: object, segment: str) -> None:
        self._active.pop(segment, None)
        self._active_written.discard(segment)
        if self._ended is not None and not self._active:
            ended, self._ended = self._ended, None
            ended.callback(None)
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
            self._worker.refusals.note(COPIES, failure.value)
            return
        kind = type(failure.value).__name__
        if self._reasons.get(segment) != kind:
            self._reasons[segment] = kind
            _log.failure("{segment}: put off", failure=failure, segment=segment)

    async def _look(self, segment: str) -> None:
        copy = self._worker.segments.get(segment)
        wanted = self._wanted.get(segment)
        if copy is not None and copy.writable:
            await self._look_at_written(segment, copy, wanted)
        elif self._worker.cold is not None:
            self._answer_for(self._worker.cold, segment, wanted)
        elif wanted is not None:
            await self._hold(copy, wanted)
        elif copy is not None and self._known:
            await self._collect(segment, copy)

    async def _look_at_written(
        self, segment: str, copy: LocalCopy, wanted: Assignment | None
    ) -> None:
        """Find out whether this worker may go on writing."""
        worker = self._worker
        epoch = copy.entry.epoch
        lock = worker.locks.get(segment)
        if lock is None or (lock.node, lock.epoch) != (worker.myself.node, epoch):
            # The report may be older than what this worker just did: ask with a strict read.
            await worker.writer.check_lock(segment, epoch)
            return
        if copy.writes.closed:
            await worker.writer.give_up(segment, epoch, "it could not be before")
            return
        if wanted is None or not wanted.modified:
            return
        if wanted.canonical.version == copy.entry.canonical.version:
            return
        if await worker.segments.is_overwritten(wanted.canonical):
            why = "somebody else replaced its canonical copy"
            await worker.writer.give_up(segment, epoch, why)

    async def _hold(self, copy: LocalCopy | None, wanted: Assignment) -> None:
        """Have the assigned version, and serve it."""
        if not wanted.modified:
            return
        if copy is None or copy.entry.canonical.version != wanted.canonical.version:
            try:
                await self._worker.segments.fetch(wanted.canonical)
            except errors.NoSuchSegment:
                return  # deleted meanwhile; the leader takes the assignment back
        elif self._worker.publisher.serves(wanted.segment):
            return  # or else a provisioning that failed has brought the copy
        self._worker.publisher.serve(wanted.segment, writable=False)

    def _answer_for(self, cold: ColdSegments, segment: str, wanted: Assignment | None) -> None:
        """Take over a cold segment, or leave it to others; nothing is fetched for that."""
        if wanted is not None and wanted.modified:
            cold.learn(wanted.canonical)
            self._worker.publisher.serve(segment, writable=False)
        elif segment in cold:
            cold.forget(segment)
            self._worker.publisher.withdraw(segment)

    async def _collect(self, segment: str, copy: LocalCopy) -> None:
        """Delete a copy that is not assigned, once enough others hold the segment."""
        worker = self._worker
        assigned = await worker.metadata.assignments_of_segment(segment)
        if assigned:
            copies = (await worker.metadata.copies_of([segment])).get(segment, [])
            live = {copy.node for copy in copies if copy.role == READ}
            # If it is assigned to this worker, and the report is on its way, it stays.
            enough = all(row.node in live - {worker.myself.node} for row in assigned)
        else:
            enough = await self._is_deleted_or_cold(segment)
        if not enough:
            self._later.add(segment)
            return
        if worker.provisioning.busy(segment) or worker.segments.get(segment) is not copy:
            self._later.add(segment)  # it may be written by now
            return
        async with worker.provisioning.alone(segment):
            worker.publisher.withdraw(segment)
            await worker.segments.drop(segment)
        if self._digest.is_first(_DELETED):
            _log.info("{segment}: {done}", segment=segment, done=_DELETED)

    async def _is_deleted_or_cold(self, segment: str) -> bool:
        copy = self._worker.segments.get(segment)
        if copy is None or self._worker.locks.get(segment) is not None:
            return False
        found = await self._worker.storage.find(segment, copy.entry.path)
        return found is None or self._worker.is_cold(segment)


_DELETED = "local copy deleted, others hold it"


def _report_more(cause: str, count: int) -> None:
    _log.info("{count} more segments: {cause}", count=count, cause=cause)
