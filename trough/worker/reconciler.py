"""Brings a worker's copies in line with its assignments, one segment at a time.

Each look decides from what is true at that moment and does at most one thing.
:mod:`trough.worker.look_scheduler` decides when to look at a segment.
"""

from __future__ import annotations

from collections.abc import Collection

from twisted.application import service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.metadata import AssignmentChanges
from trough.model import READ, Assignment
from trough.util.periodic import Periodic
from trough.worker.cold_cache import ColdSegments
from trough.worker.late_copies import LateCopies
from trough.worker.local_copies import LocalCopy
from trough.worker.shared import Shared
from trough.worker.write_locks import WriteLockManager

_log = Logger()

#: Seconds between two log lines that count further segments with the same outcome.
DIGEST_SECONDS = 10.0


class Reconciler(service.MultiService):
    """See the module's text.

    :ivar late: assigned copies that cannot be made
    """

    def __init__(self, shared: Shared, writer: WriteLockManager, clock: IReactorTime) -> None:
        super().__init__()
        self._shared = shared
        self._writer = writer
        self._wanted: dict[str, Assignment] = {}
        self._known = False
        self.late = LateCopies(clock)
        Periodic("log digest", DIGEST_SECONDS, self._flush, clock).setServiceParent(self)

    # -- what there is to do ----------------------------------------------------

    def assignments_changed(self, changes: AssignmentChanges) -> None:
        """Take notice of what the leader decided."""
        touched = {row.segment for row in changes.changed} | set(changes.removed)
        if changes.full:
            touched |= {*self._shared.segments, *self._wanted}
            self._wanted = {}
            self._known = True
        for row in changes.changed:
            self._wanted[row.segment] = row
        for segment in changes.removed:
            self._wanted.pop(segment, None)
        for segment in touched.difference(self._wanted):
            self.late.ended(segment)
        self._shared.look_at(touched)

    async def everything(self) -> None:
        """Compare all segments with all assignments."""
        if self._known:
            self._shared.look_at([*self._wanted, *self._shared.segments])

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
        entry = copy.entry
        wanted = self._wanted.get(entry.segment)
        if wanted is None:
            return False
        announced, here = wanted.modified, entry.modified
        return announced > here or (announced == here and wanted.size > entry.size)

    async def look(self, segment: str) -> bool:
        """Do what one segment needs; whether to look at it again later."""
        copy = self._shared.segments.get(segment)
        wanted = self._wanted.get(segment)
        if copy is not None and copy.writable:
            return await self._look_at_written(segment, copy, wanted)
        if self._shared.cold is not None:
            self._answer_for(self._shared.cold, segment, wanted)
        elif wanted is not None:
            return await self._hold(copy, wanted)
        elif copy is not None and self._known:
            return await self._collect(segment, copy)
        return False

    async def _look_at_written(
        self, segment: str, copy: LocalCopy, wanted: Assignment | None
    ) -> bool:
        """Find out whether this worker may go on writing; whether to look again later."""
        epoch = copy.entry.epoch
        lock = self._shared.cluster.locks.get(segment)
        if lock is None or (lock.node, lock.epoch) != (self._shared.node, epoch):
            # The report may be older than what this worker just did: ask with a strict read.
            await self._writer.check_lock(segment, epoch)
            return False
        if copy.writes.closed:
            return await self._writer.go_on_giving_up(segment, epoch)
        if wanted is None or not wanted.modified:
            return False
        if wanted.canonical.version == copy.entry.canonical.version:
            return False
        if await self._shared.segments.is_overwritten(wanted.canonical):
            why = "somebody else replaced its canonical copy"
            await self._writer.give_up(segment, epoch, why)
        return False

    async def _hold(self, copy: LocalCopy | None, wanted: Assignment) -> bool:
        """Have the assigned version, and serve it; whether to look again later."""
        if not wanted.modified:
            return False
        if copy is None or copy.entry.canonical.version != wanted.canonical.version:
            try:
                await self._shared.segments.fetch(wanted.canonical)
            except errors.TroughError as reason:
                self.late.failed(wanted.segment, reason)
                if not isinstance(reason, errors.NoSuchSegment):
                    raise
                # Deleted, and the leader takes the assignment back. If it does not, it sees
                # another storage than this worker.
                return True
        elif self._shared.publisher.serves(wanted.segment):
            return False  # or else a provisioning that failed has brought the copy
        self.late.ended(wanted.segment)
        self._shared.publisher.serve(wanted.segment, writable=False)
        return False

    def _answer_for(self, cold: ColdSegments, segment: str, wanted: Assignment | None) -> None:
        """Take over a cold segment, or leave it to others; nothing is fetched for that."""
        if wanted is not None and wanted.modified:
            cold.learn(wanted.canonical)
            self._shared.publisher.serve(segment, writable=False)
        elif segment in cold:
            cold.forget(segment)
            self._shared.publisher.withdraw(segment)

    async def _collect(self, segment: str, copy: LocalCopy) -> bool:
        """Delete a copy that is not assigned, once enough others hold the segment.

        :return: whether that has to wait
        """
        shared = self._shared
        assigned = await shared.metadata.assignments_of_segment(segment)
        if assigned:
            copies = (await shared.metadata.copies_of([segment])).get(segment, [])
            live = {copy.node for copy in copies if copy.role == READ}
            # If it is assigned to this worker, and the report is on its way, it stays.
            enough = all(row.node in live - {shared.node} for row in assigned)
        else:
            enough = await self._is_deleted_or_cold(segment)
        if not enough or shared.turns.busy(segment) or shared.segments.get(segment) is not copy:
            return True  # it may be written by now
        async with shared.turns.hold(segment):
            shared.publisher.withdraw(segment)
            await shared.segments.drop(segment)
        if self._shared.digest.is_first(_DELETED):
            _log.info("{segment}: {done}", segment=segment, done=_DELETED)
        return False

    async def _is_deleted_or_cold(self, segment: str) -> bool:
        copy = self._shared.segments.get(segment)
        if copy is None or self._shared.cluster.locks.get(segment) is not None:
            return False
        found = await self._shared.storage.find(segment, copy.entry.path)
        return found is None or self._shared.is_cold(segment)

    async def _flush(self) -> None:
        self._shared.digest.flush()


_DELETED = "local copy deleted, others hold it"
