"""Returns a segment that this worker writes to its last promoted state, on a person's order.

Nothing is deleted: the whole local copy, with its unpromoted writes, goes into ``aside/``, and
the lock it was written under is given back. Then the worker takes the lock again, under a new
epoch, and fetches the canonical copy, so that the segment stays writable here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from trough import errors
from trough.model import CanonicalCopy, check_segment_id
from trough.worker.local_copies import LocalCopy

if TYPE_CHECKING:
    from trough.worker.controller import LocalSyncController

_log = Logger()


class Reverting:
    """See the module's text.

    :param worker: whose segments, metadata store and storage these are
    """

    def __init__(self, worker: LocalSyncController) -> None:
        self._worker = worker

    async def revert(self, segment: str, preview: bool) -> dict[str, object]:
        """Give up all writes since the last promotion; they are kept in a file aside.

        Cancelled, it goes on: a segment must not stay half reverted.

        :param preview: change nothing, and only report what would be given up
        :return: ``node``; ``promoted_at``, seconds since the epoch; ``size``, bytes of the
            local copy; ``unpromoted``, whether there was anything to give up; ``aside``, the
            name of the file that keeps it, or None; ``writable``, whether it is so again
        :raises trough.errors.NoWriteLock: this worker does not write the segment
        :raises trough.errors.Conflict: it was never promoted
        """
        check_segment_id(segment)
        provisioning = self._worker.provisioning
        return await provisioning.carry_out(segment, self._revert(segment, preview))

    async def _revert(self, segment: str, preview: bool) -> dict[str, object]:
        worker = self._worker
        await worker.writer.attentive()
        async with worker.provisioning.alone(segment):
            copy = self._written(segment)
            promoted = await self._promoted(copy)
            answer: dict[str, object] = {
                "node": worker.myself.node,
                "promoted_at": promoted.modified / 1000,
                "size": await worker.segments.size_of(segment),
                "unpromoted": copy.entry.unpromoted,
                "aside": None,
                "writable": True,
            }
            if preview or not copy.entry.unpromoted:
                return answer
            epoch = copy.entry.epoch
            answer["aside"] = await worker.writer.give_up(segment, epoch, "it is reverted")
        try:
            await worker.provisioning.take_again(segment)
        except errors.TroughError as reason:
            _log.warn("{segment}: reverted, not writable: {reason}", segment=segment, reason=reason)
            answer["writable"] = False
        return answer

    def _written(self, segment: str) -> LocalCopy:
        copy = self._worker.segments.get(segment)
        if copy is None or not copy.writable or copy.writes.closed:
            raise errors.NoWriteLock(
                f"this worker does not hold the write lock of segment {segment}",
                "only a segment that is being written can be reverted",
            )
        return copy

    async def _promoted(self, copy: LocalCopy) -> CanonicalCopy:
        """What the segment returns to; looked at first, for it must be there."""
        entry = copy.entry
        found = await self._worker.storage.find(entry.segment, entry.path)
        if found is not None:
            return found
        if entry.modified:
            raise errors.Conflict(
                f"the canonical copy of segment {entry.segment} is not at {entry.path} any more",
                "promote the segment to have one again",
            )
        raise errors.Conflict(
            f"segment {entry.segment} was never promoted: it has no state to return to",
            "promote it; once its write lock is given back it can be deleted",
        )
