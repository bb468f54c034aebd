"""Takes the write locks of followed segments whose holder is gone, and begins to write them.

A holder is gone once its row has expired by the store's clock, or has another disk. The follower
first promises to reject older epochs. Then it changes the lock's row, and makes its copy of the log
the local copy. A crash in between leaves a lock that names this worker, and a log. The rest of the
take-over is done from these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from twisted.application import service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.metadata import LockChanges
from trough.model import CanonicalCopy, Lock, Member
from trough.replication import follower as follower_rules
from trough.replication.choice import member_of
from trough.replication.log import FollowerLog
from trough.util.keyed_lock import KeyedLock
from trough.util.periodic import Periodic
from trough.worker.cluster_view import ClusterView
from trough.worker.followed_logs import FollowedLogs
from trough.worker.log_files import LogFiles
from trough.worker.replicated import lock_as, row_of
from trough.worker.shared import Shared

_log = Logger()

#: Seconds between two looks for holders that are gone.
INTERVAL = 0.5

#: Take-overs that run at the same time.
AT_ONCE = 8


def is_alive(cluster: ClusterView, member: Member) -> bool:
    """Whether a worker is alive by the store's clock, and still has the same disk."""
    worker = cluster.workers.get(member.node)
    return worker is not None and member_of(worker) == member


class TakeOvers(service.MultiService):
    """See the module's text.

    :param turns: the holder of a segment's turn pauses its writes
    :param begin: begins to replicate the writes under a lock
    :param taken: called with each lock that was taken over
    :ivar me: this worker
    :ivar are_finished: whether the take-overs of an earlier run are complete
    """

    def __init__(
        self,
        shared: Shared,
        me: Member,
        logs: LogFiles,
        followed: FollowedLogs,
        turns: KeyedLock,
        *,
        run: Callable[..., Awaitable[Any]],
        begin: Callable[[Lock], Awaitable[None]],
        taken: Callable[[Lock], None],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.are_finished = False
        self._shared = shared
        self.me = me
        self._logs = logs
        self._followed = followed
        self._turns = turns
        self._run = run
        self._begin = begin
        self._taken = taken
        #: Locks that name this worker, by segment.
        self._named: dict[str, Lock] = {}
        Periodic("taking over", INTERVAL, self._take_over_all, clock).setServiceParent(self)

    @property
    def is_named(self) -> bool:
        """Whether the row of any lock names this worker."""
        return bool(self._named)

    @property
    def following(self) -> int:
        """How many segments this worker follows, according to the locks' rows."""
        return sum(not self._is_own(lock) for lock in self._named.values())

    def _is_own(self, lock: Lock) -> bool:
        return bool(lock.disk) and lock.holder == self.me

    async def open(self) -> None:
        """Finish the take-overs that an earlier run began."""
        for segment in await self._run(self._logs.followed):
            copy = self._shared.segments.get(segment)
            if copy is None or not copy.writable:
                continue
            async with self._followed.log_of(segment) as log:
                # The promise alone proves nothing: it stays when the copy is removed.
                whole = log.state.joined and log.state.promised == copy.entry.epoch
                unfinished = log.taking is not None or whole
                if unfinished:
                    await self._shared.segments.put_followed(copy, log.take_over)
            if unfinished:
                await self._followed.remove(segment)
        self.are_finished = True

    def locks_changed(self, changes: LockChanges) -> None:
        """Note the changes that the store reports."""
        if changes.full:
            self._named = {}
        for lock in changes.held:
            if self.me in lock.followers or self._is_own(lock):
                self._named[lock.segment] = lock
            else:
                self._named.pop(lock.segment, None)
        for segment in changes.released:
            self._named.pop(segment, None)

    async def _take_over_all(self) -> None:
        gate = DeferredSemaphore(AT_ONCE)
        due = [lock for lock in self._named.values() if self._is_due(lock)]
        await DeferredList(
            [gate.run(Deferred.fromCoroutine, self._try_to_take_over(lock)) for lock in due]
        )

    def _is_due(self, lock: Lock) -> bool:
        """Whether this worker has to take over a lock that names it."""
        if self._shared.turns.busy(lock.segment):
            return False
        if not self._is_own(lock):
            return not is_alive(self._shared.cluster, lock.holder)
        copy = self._shared.segments.get(lock.segment)
        return bool(lock.followers or lock.revision) and (copy is None or not copy.writable)

    async def _try_to_take_over(self, lock: Lock) -> None:
        try:
            await self.take_over(lock)
        except errors.TroughError as failure:
            _log.warn(
                "{segment}: could not be taken over: {reason}",
                segment=lock.segment,
                reason=failure,
            )
        except CancelledError:
            pass  # this worker stops, and finishes it at its next start

    async def take_over(self, known: Lock) -> bool:
        """Take the lock of a holder that is gone, or that hands it over; whether it succeeded.

        :param known: the lock, as the store or its holder reported it
        """
        shared, segment = self._shared, known.segment
        async with shared.turns.hold(segment), self._turns.hold(segment):
            lock: Lock | None = await shared.metadata.lock_of(segment)
            if lock is None or (lock.holder, lock.epoch) != (known.holder, known.epoch):
                return False
            copy = shared.segments.get(segment)
            if copy is not None and copy.writable:
                # Writes under an older lock go aside first.
                shared.segments.refuse_writes(segment, copy.entry.epoch)
                shared.look_at([segment])
                return False
            async with self._followed.log_of(segment) as log:
                if not self._is_own(lock):
                    lock = await self._change_holder(lock, log)
                elif not log.state.joined:
                    await self.offer(lock)
                    return False
                if lock is None:
                    return False
                await self._install(lock, log)
            await self._followed.remove(segment)
            await self._begin_taken(lock)
        if shared.digest.is_first(f"taken over from {known.node}"):
            _log.info("{segment}: taken over, epoch {epoch}", segment=segment, epoch=lock.epoch)
        return True

    async def _begin_taken(self, lock: Lock) -> None:
        try:
            await self._begin(lock)
            self._taken(lock)
        finally:  # if it fails, the next write tries again
            copy = self._shared.segments.get(lock.segment)
            if copy is not None:
                copy.paused = False

    async def offer(self, lock: Lock) -> bool:
        """Let followers take a lock that names this worker, if the segment is not on this disk.

        :return: whether the lock's row says so now
        :raises trough.errors.Unavailable: that is not known
        """
        if not lock.followers:
            return False
        lost = replace(
            lock, disk=f"{lock.disk}-lost", epoch=lock.epoch + 1, revision=lock.revision + 1
        )
        found = await self._shared.metadata.change_lock(lock, lost)
        return found is not None and row_of(found) == row_of(lost)

    async def _change_holder(self, lock: Lock, log: FollowerLog) -> Lock | None:
        if not log.state.joined:
            raise errors.LogBroken(f"this disk has no whole copy of segment {lock.segment}")
        step = follower_rules.take_over(log.state, row_of(lock), self.me)
        if step is None:
            return None
        promised, row = step
        await self._run(log.remember, promised)
        found = await self._shared.metadata.change_lock(lock, lock_as(lock, row))
        return found if found is not None and row_of(found) == row else None

    async def _install(self, lock: Lock, log: FollowerLog) -> None:
        """Make the followed log the local copy, writable under `lock`."""
        shared, segment = self._shared, lock.segment
        with shared.segments.arriving(segment):
            canonical = await self._canonical(segment)
            await shared.segments.install_followed(segment, lock.epoch, canonical, log.take_over)
            shared.cluster.take_notice(lock)
            shared.publisher.serve(segment, writable=True)

    async def _canonical(self, segment: str) -> CanonicalCopy | None:
        """The present canonical copy, which the next promotion replaces."""
        rows = await self._shared.metadata.assignments_of_segment(segment)
        path = next((row.path for row in rows), None)
        return await self._shared.storage.find(segment, path)
