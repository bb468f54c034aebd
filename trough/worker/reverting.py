"""Returns a segment that this worker writes to its last promoted state, on a person's order.

Nothing is deleted: the whole local copy, with its unpromoted writes, goes into ``aside/``, and
the lock it was written under is given back. Then the worker takes the lock again, under a new
epoch, and fetches the canonical copy, so that the segment stays writable here.
"""

from __future__ import annotations

from twisted.logger import Logger

from trough import errors
from trough.model import CanonicalCopy, check_segment_id
from trough.worker.local_copies import LocalCopy
from trough.worker.provisioning import Provisioning
from trough.worker.shared import Shared
from trough.worker.write_locks import WriteLockManager

_log = Logger()


class Reverting:
    """See the module's text."""

    def __init__(
        self, shared: Shared, writer: WriteLockManager, provisioning: Provisioning
    ) -> None:
        self._shared = shared
        self._writer = writer
        self._provisioning = provisioning

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
        return await self._provisioning.carry_out(segment, self._revert(segment, preview))

    async def _revert(self, segment: str, preview: bool) -> dict[str, object]:
        await self._writer.attentive()
        async with self._shared.turns.hold(segment):
            copy = self._written(segment)
            promoted = await self._promoted(copy)
            answer: dict[str, object] = {
                "node": self._shared.node,
                "promoted_at": promoted.modified / 1000,
                "size": await self._shared.segments.size_of(segment),
                "unpromoted": copy.entry.unpromoted,
                "aside": None,
                "writable": True,
            }
            if preview or not copy.entry.unpromoted:
                return answer
            epoch = copy.entry.epoch
            answer["aside"] = await self._writer.give_up(segment, epoch, "it is reverted")
        try:
            await self._provisioning.take_again(segment)
        except errors.TroughError as reason:
            _log.warn("{segment}: reverted, not writable: {reason}", segment=segment, reason=reason)
            answer["writable"] = False
        return answer

    def _written(self, segment: str) -> LocalCopy:
        copy = self._shared.segments.get(segment)
        if copy is None or not copy.writable or copy.writes.closed:
            raise errors.NoWriteLock(
                f"this worker does not hold the write lock of segment {segment}",
                "only a segment that is being written can be reverted",
            )
        return copy

    async def _promoted(self, copy: LocalCopy) -> CanonicalCopy:
        """What the segment returns to; looked at first, for it must be there."""
        entry = copy.entry
        found = await self._shared.storage.find(entry.segment, entry.path)
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
