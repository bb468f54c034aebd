"""Finds the worker for a write that came to a worker without the segment's write lock.

Existing clients drop a batch that is refused. So a worker passes a write on to the holder of the
lock. If the lock was given up for want of writes and has no holder, this worker takes it again. It
makes no new segment: that needs a schema, which provisioning names.
"""

from __future__ import annotations

from trough import errors
from trough.model import Worker
from trough.worker.controller import LocalSyncController


class WriteRouter:
    """See the module's text.

    :param worker: where the writes arrive
    """

    def __init__(self, worker: LocalSyncController) -> None:
        self._worker = worker

    def is_here(self, segment: str) -> bool:
        """Whether this worker writes `segment` now."""
        copy = self._worker.segments.get(segment)
        return copy is not None and copy.writable and not copy.writes.closed

    def check_not_cold(self, segment: str) -> None:
        """Refuse a write that no worker will ever take.

        :raises trough.errors.ColdSegment: `segment` belongs to the cold tier
        """
        if self._worker.is_cold(segment):
            raise errors.cold_segment(segment)

    async def find(self, segment: str) -> Worker | None:
        """The other worker that writes `segment`; None where this one is to be asked, which
        has the lock then, or refuses the write.

        :raises trough.errors.ColdSegment: it belongs to the cold tier
        :raises trough.errors.Unavailable: the lock cannot be taken now
        """
        worker = self._worker
        self.check_not_cold(segment)
        if self.is_here(segment):
            return None
        if worker.turns.busy(segment):  # it is being handed over, here or from here
            async with worker.turns.hold(segment):
                pass
            if self.is_here(segment):
                return None
        holder = worker.cluster.holder_elsewhere(segment)
        if holder is not None:
            return holder
        lock = worker.cluster.locks.get(segment)
        if lock is not None and lock.node != worker.myself.node:
            return None
        if not await self._may_take(segment):
            return await self._holder_in_store(segment)
        try:
            await worker.provisioning.take_again(segment)
        except errors.Moved as moved:
            return worker.cluster.workers.get(moved.node)
        return None

    async def _holder_in_store(self, segment: str) -> Worker | None:
        """The live holder of a lock that this worker's list of locks does not have yet."""
        worker = self._worker
        lock = await worker.metadata.lock_of(segment)
        if lock is None or lock.node == worker.myself.node:
            return None
        return worker.cluster.workers.get(lock.node)

    async def _may_take(self, segment: str) -> bool:
        worker = self._worker
        if not worker.ready or worker.myself.cold_storage or await worker.writer.is_draining():
            return False
        if worker.segments.get(segment) is not None:
            return True
        rows = await worker.metadata.assignments_of_segment(segment)
        return any(row.modified for row in rows)
