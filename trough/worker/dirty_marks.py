"""Keeps the metadata store informed which write locks of this worker are *dirty*.

Under a dirty lock there may be writes that are in no canonical copy. The leader can release a
clean lock of a dead worker without loss, so it does that by itself. For that a mark has to be
right at any moment:

* A lock is dirty from the moment it is taken. Before the first write to a clean segment is
  submitted, the store has a new mark on disk. That costs one call for each period in which a
  segment is dirty.
* A lock becomes clean only after a promotion is in place and no write has come for :data:`QUIET`
  seconds. So a segment that is written to all the time costs no calls at all.
* The store may carry out late a call that was not answered. So each mark has a time of its own,
  and a lock becomes clean only if its mark is still the one that the worker means. After a restart
  the worker does not know what it asked for before, and sets new marks.
* The store refuses a mark where the lock is not in force any more. So a worker that comes back
  after its clean lock was released cannot write under it.
"""

from __future__ import annotations

import time

from twisted.application import service
from twisted.internet.interfaces import IReactorTime

from trough import errors
from trough.model import Lock
from trough.util.periodic import Periodic
from trough.worker.local_copies import LocalCopy
from trough.worker.shared import Shared

#: Seconds between two searches for locks that became clean.
INTERVAL = 1.0

#: Seconds without a write after which a lock may become clean.
QUIET = 5.0


class DirtyMarks(service.MultiService):
    """See the module's text."""

    def __init__(self, shared: Shared, clock: IReactorTime) -> None:
        super().__init__()
        self._shared = shared
        self._clock = clock
        #: Locks that are to be marked clean, by segment, as the store may have them.
        self._to_clean: dict[str, Lock] = {}
        Periodic("clean write locks", INTERVAL, self._clean, clock).setServiceParent(self)

    def taken(self, lock: Lock) -> None:
        """A lock was taken; the store has it as dirty."""
        copy = self._shared.segments.get(lock.segment)
        if copy is not None and copy.entry.epoch == lock.epoch and not copy.noting:
            copy.marked = lock.dirty_since or 0.0

    def found(self, lock: Lock) -> None:
        """The store reported a lock in force whose mark this process did not set."""
        copy = self._shared.segments.get(lock.segment)
        if copy is None or copy.marked or copy.entry.epoch != lock.epoch or lock.is_clean:
            return
        self._to_clean.setdefault(lock.segment, lock)

    async def before_write(self, copy: LocalCopy) -> None:
        """Return once the store has the lock of a clean copy as dirty.

        :raises trough.errors.NoWriteLock: the lock was released meanwhile
        :raises trough.errors.Unavailable: the store does not answer
        """
        if copy.marked:
            return
        entry = copy.entry
        since = time.time()
        lock = Lock(entry.segment, self._shared.node, entry.epoch, dirty_since=since)
        # From here on no other mark may become clean.
        self._to_clean.pop(entry.segment, None)
        try:
            await self._shared.metadata.mark_dirty(lock)
        except errors.Fenced as lost:
            self._shared.segments.refuse_writes(entry.segment, entry.epoch)
            self._shared.look_at([entry.segment])
            raise errors.NoWriteLock(
                f"this worker has lost the write lock of segment {entry.segment}: {lost}",
                "provision the segment and write to the URL that comes back",
            ) from lost
        except errors.Unavailable as away:
            raise errors.Unavailable(
                f"segment {entry.segment}: all of it is promoted, and the metadata store has to be "
                f"told before it is written to again: {away}",
                "write again in a moment",
            ) from away
        copy.marked = since

    async def _clean(self) -> None:
        now = self._clock.seconds()
        for entry in self._shared.segments.writable():
            copy = self._shared.segments.get(entry.segment)
            if copy is None or not copy.marked or not _is_quiet(copy, now):
                continue
            node = self._shared.node
            lock = Lock(entry.segment, node, entry.epoch, dirty_since=copy.marked)
            # From here on the mark may be gone, with any answer.
            copy.marked = 0.0
            self._to_clean[entry.segment] = lock
        due = {
            segment: lock
            for segment, lock in self._to_clean.items()
            if (copy := self._shared.segments.get(segment)) is not None and _is_quiet(copy, now)
        }
        if due:
            await self._shared.metadata.mark_clean(list(due.values()))
            for segment, lock in due.items():
                if self._to_clean.get(segment) is lock:
                    del self._to_clean[segment]


def _is_quiet(copy: LocalCopy, now: float) -> bool:
    """Whether all of a copy is promoted, and no write to it is under way."""
    idle = copy.writes.idle and not copy.noting and now - copy.writes.last >= QUIET
    return copy.writable and not copy.entry.unpromoted and idle
