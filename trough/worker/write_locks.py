"""What a worker does as a segment's writer.

It promotes, gives write locks up, and writes nothing without one.
:mod:`trough.worker.provisioning` describes how it takes one.

A lock is in force under an epoch. A worker that was stalled or killed asks the metadata store
before its next write which of its locks are still in force. It retires segments that it may no
longer write, and moves unpromoted writes aside.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.executors.pool.pool import ReadLimits, Receiver
from trough.model import Lock, check_segment_id
from trough.util.keyed_lock import KeyedLock
from trough.util.periodic import Periodic
from trough.worker.catalogue import Entry
from trough.worker.dirty_marks import DirtyMarks
from trough.worker.local_copies import LocalCopy
from trough.worker.refusals import WRITES
from trough.worker.replication import Replication
from trough.worker.shared import Shared
from trough.worker.stall_guard import StallDetector
from trough.worker.timing import Timing
from trough.worker.writing import Write, WriteRequest, WriteSteps

_log = Logger()

#: Seconds for which a write waits until it is known whether this worker may write.
ATTENTIVE = 10.0


class WriteLockManager(service.MultiService):
    """See the module's text.

    :param ttl: seconds without a heartbeat after which others take this worker for dead
    :param replication: of writes, or None
    """

    def __init__(
        self,
        shared: Shared,
        timing: Timing,
        ttl: float,
        replication: Replication | None,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._replication = replication
        self._shared = shared
        self._timing = timing
        self._clock = clock
        self._giving_up = KeyedLock()
        self._ttl = ttl
        # Half of what makes others take this worker for dead: heartbeats are rarer than that.
        self._attention = StallDetector(ttl / 2, self._confirm_locks, clock)
        self._attention.setServiceParent(self)
        self._steps = WriteSteps(
            node=shared.node,
            stalled=lambda: self._attention.lapsed,
            confirm=self.attentive,
            copy_of=shared.segments.get,
            note=self._note_dirty,
            submit=shared.segments.submit,
            report=lambda error: shared.refusals.note(WRITES, error),
            now=clock.seconds,
        )
        self.marks = DirtyMarks(shared, clock)
        self.marks.setServiceParent(self)
        Periodic("idle write locks", timing.retry, self._retire_idle, clock).setServiceParent(self)
        Periodic("disk counter", timing.heartbeat, self._count_on, clock).setServiceParent(self)
        # A lock that could not be released when it was given up would stay forever.
        Periodic("write locks", timing.full, self._confirm_locks, clock).setServiceParent(self)

    # -- writing ---------------------------------------------------------------

    def write(
        self,
        segment: str,
        sql: str | bytes,
        parameters: Any,
        limits: ReadLimits,
        receiver: Receiver,
    ) -> Write:
        """Run `sql` in one transaction; `receiver` is called once that is on disk.

        :raises trough.errors.NoWriteLock: this worker does not write the segment
        :raises trough.errors.BadRequest: a parameter that SQLite could not store
        """
        write = Write(self._steps, WriteRequest(segment, sql, parameters, limits), receiver)
        write.begin()
        return write

    async def _note_dirty(self, copy: LocalCopy) -> None:
        await self._shared.segments.note_dirty(copy, self._before_write)

    async def _before_write(self, copy: LocalCopy) -> None:
        if self._replication is not None:
            await self._replication.ready(copy)
        await self.marks.before_write(copy)

    async def attentive(self) -> None:
        """Return once it is known which write locks this worker has.

        :raises trough.errors.Unavailable: that cannot be found out now
        """
        regained = Deferred.fromCoroutine(self._attention.regained())
        try:
            await regained.addTimeout(ATTENTIVE, self._clock)
        except TimeoutError:
            raise errors.Unavailable(
                f"{self._shared.node} was started or stood still, and cannot find out yet "
                "which write locks it holds",
                "the metadata store does not answer",
            ) from None

    async def _confirm_locks(self) -> None:
        """Stop writing segments that this worker may no longer write. Give back locks that it
        took before its restart and that it writes nothing under."""
        segments, turns = self._shared.segments, self._shared.turns
        locks = await self._locks_in_force()
        for entry in segments.writable():
            lock = locks.pop(entry.segment, None)
            if lock is not None and lock.epoch == entry.epoch:
                self.marks.found(lock)
                continue
            if not await self._is_in_force(entry.segment, entry.epoch):
                # To retire it may take long, and other segments wait here meanwhile.
                segments.refuse_writes(entry.segment, entry.epoch)
                self._shared.look_at([entry.segment])
        for segment, lock in locks.items():
            copy = segments.get(segment)
            if turns.busy(segment) or (copy is not None and copy.writable):
                continue
            if self._replication is not None and self._replication.is_kept(lock):
                continue
            # Held, so that no provisioning takes the lock that is being released for its own.
            async with turns.hold(segment):
                with suppress(errors.Fenced):
                    await self._shared.metadata.release_lock(lock)

    async def _locks_in_force(self) -> dict[str, Lock]:
        """This worker's write locks, as the metadata store has them."""
        locks = await self._shared.metadata.locks(self._shared.node)
        return {lock.segment: lock for lock in locks}

    async def check_lock(self, segment: str, epoch: int) -> None:
        """Go on writing `segment` if the metadata store confirms the lock in a strict read."""
        if not await self._is_in_force(segment, epoch):
            await self.give_up(segment, epoch, "its write lock is lost")

    async def _is_in_force(self, segment: str, epoch: int) -> bool:
        try:
            await self._shared.metadata.check_lock(Lock(segment, self._shared.node, epoch))
        except errors.Fenced:
            return await self._is_raised(segment, epoch)
        return True

    async def _is_raised(self, segment: str, epoch: int) -> bool:
        """Whether this worker itself has raised the epoch of its lock."""
        if self._replication is None:
            return False
        lock = await self._shared.metadata.lock_of(segment)
        return lock is not None and lock.epoch > epoch and self._replication.is_own(lock)

    async def finish_giving_up(self, segment: str) -> None:
        """Return once a segment is not in the midst of being given up.

        Until then the metadata store has the lock as this worker's, which is being released.
        """
        async with self._giving_up.hold(segment):
            copy = self._shared.segments.get(segment)
            if copy is not None and copy.writable and copy.writes.closed:
                if self._is_left_to_followers(segment):
                    raise errors.Unavailable(
                        f"the log of segment {segment} is broken here, and a follower has to "
                        "take its lock over",
                        "provision again in a moment",
                    )
                await self._retire(segment, copy.entry.epoch, "it could not be before")

    async def go_on_giving_up(self, segment: str, epoch: int) -> bool:
        """Give up a segment whose writes are refused already, under a lock that is in force.

        :return: whether that has to be tried again
        """
        if self._replication is None or not self._is_left_to_followers(segment):
            await self.give_up(segment, epoch, "it could not be before")
            return False
        # They have all acknowledged writes, which a release of the lock would give up.
        await self._replication.broken_logs.try_again(segment)
        return True

    def _is_left_to_followers(self, segment: str) -> bool:
        replication = self._replication
        return replication is not None and replication.broken_logs.is_left_to_followers(segment)

    async def release(self, lock: Lock) -> None:
        """Give a lock back, unless another worker has it by now."""
        with suppress(errors.Fenced):
            await self._shared.metadata.release_lock(lock)
        self._shared.cluster.forget(lock)

    async def promote(self, segment: str) -> dict[str, object]:
        """Publish the segment's present state as its canonical copy.

        :raises trough.errors.NoWriteLock: this worker does not write the segment
        :raises trough.errors.Fenced: it no longer may
        """
        check_segment_id(segment)
        copy = self._shared.segments.get(segment)
        epoch = copy.entry.epoch if copy is not None else 0
        lock = Lock(segment, self._shared.node, epoch)
        published = await self._shared.segments.promote(segment, lambda: self._confirm(lock))
        try:
            await self._shared.metadata.announce_version(published)
        except errors.Unavailable as failure:
            # The leader finds it at its next look at the storage.
            _log.warn("{segment}: not announced: {failure}", segment=segment, failure=failure)
        return {"remote_path": self._shared.storage.location(published.path)}

    async def _confirm(self, lock: Lock) -> float:
        """Have the metadata store confirm a lock; seconds from now for which nobody else takes it.

        Others take the lock of a worker that they take for dead, and that is so when the time to
        live of its last heartbeat is over.
        """
        left = self._shared.cluster.renewed_at + self._ttl - self._clock.seconds()
        await self._shared.metadata.check_lock(lock)
        return left

    async def _count_on(self) -> None:
        """Have this disk be newer than every image that was taken of it before."""
        follows = self._replication is not None and self._replication.is_named
        if follows or self._shared.segments.writable():
            counter = await self._shared.segments.disk_counter.bump()
            await self._shared.metadata.note_disk_counter(self._shared.node, counter)

    async def _retire_idle(self) -> None:
        """Give back the locks of segments that are not written any more."""
        draining = await self.is_draining()
        for entry in self._shared.segments.writable():
            copy = self._shared.segments.get(entry.segment)
            if draining and await self._is_handed_over(entry.segment):
                continue
            if copy is None or entry.unpromoted or not copy.writes.idle:
                continue
            if self._timing.is_idle(self._clock.seconds() - copy.writes.last, draining):
                await self._give_up_idle(entry, "draining" if draining else "idle")

    async def _is_handed_over(self, segment: str) -> bool:
        replication = self._replication
        return replication is not None and await replication.hand_over(segment)

    async def _give_up_idle(self, entry: Entry, why: str) -> None:
        try:
            await self.give_up(entry.segment, entry.epoch, why)
        except CancelledError:
            raise
        except Exception:
            # Its file is open elsewhere, for example. Others are not to wait for that.
            # The reconciler tries again until it works, and logs the reason.
            self._shared.look_at([entry.segment])

    async def is_draining(self) -> bool:
        """Whether this worker is being emptied."""
        node = self._shared.node
        heard = self._shared.cluster.workers.get(node)
        # The state at the last heartbeat may be over by now, and work may have come since.
        return (
            heard is not None and heard.draining and node in await self._shared.metadata.draining()
        )

    async def give_up(self, segment: str, epoch: int, why: str) -> str | None:
        """Stop writing a segment, keep what was not promoted, release its lock.

        :param epoch: of the lock that is given up; a later one stays
        :return: the name of the file in ``aside/``, or None where nothing went there
        """
        # Several may find out at once that it has to be; the first one does it.
        async with self._giving_up.hold(segment):
            copy = self._shared.segments.get(segment)
            if self._replication is not None and self._replication.is_busy(segment):
                raise errors.Unavailable(f"segment {segment} is being handed over")
            if copy is not None and copy.writable and copy.entry.epoch == epoch:
                return await self._retire(segment, epoch, why)
        return None

    async def _retire(self, segment: str, epoch: int, why: str) -> str | None:
        lock = Lock(segment, self._shared.node, epoch)
        copy = self._shared.segments.get(segment)
        if self._replication is not None and copy is not None:
            copy.writes.closed = True
            await copy.writes.settled()
            self._replication.end(segment)
        aside = await self._shared.segments.retire(segment)
        if self._shared.segments.get(segment) is None:
            self._shared.publisher.withdraw(segment)
        else:
            self._shared.publisher.serve(segment, writable=False)
        if self._shared.digest.is_first(f"no longer written here: {why}"):
            _log.info("{segment}: no longer written here: {why}", segment=segment, why=why)
        await self.release(lock)
        self._shared.look_at([segment])
        return aside
