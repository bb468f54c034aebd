"""Replicated writes on one worker: as a holder, as a follower, and in a take-over.

As a *holder* the worker keeps a :class:`trough.worker.replicated.ReplicatedSegment` for each
segment that it writes, and looks for followers while there are too few. As a *follower* it stores
the logs of other workers. Once the row of a holder has expired by the store's clock, it takes that
holder's lock.

This module does nothing if one copy is configured and no row names a follower.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.model import Lock, Member, Worker
from trough.replication.choice import choose, member_of
from trough.replication.log import HolderLog
from trough.replication.messages import Confirmed
from trough.replication.orders import Order, OrderKind, Reply
from trough.util.keyed_lock import KeyedLock
from trough.util.periodic import Periodic
from trough.util.trouble_log import Section, TroubleLog
from trough.util.wording import counted
from trough.worker.broken_logs import BrokenLogs
from trough.worker.earlier_workers import EarlierWorkers
from trough.worker.followed_logs import FollowedLogs
from trough.worker.handing_over import HandingOver, is_quiet
from trough.worker.local_copies import LocalCopy
from trough.worker.log_files import LogFiles
from trough.worker.old_replicas import OldReplicas
from trough.worker.replicated import HolderServices, ReplicatedSegment, row_of
from trough.worker.shared import Shared
from trough.worker.take_overs import TakeOvers, is_alive
from trough.worker.under_replication import UnderReplication

_log = Logger()

#: Seconds between two looks for followers that make no progress.
LOOK = 0.25

#: Seconds before this worker asks a worker again that could not follow a segment.
REFUSED = 5.0

#: Bytes of a log after which a checkpoint is due.
CHECKPOINT = 16 << 20


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """How writes are replicated.

    :ivar copies: disks that store each acknowledged write, in all
    :ivar timeout: seconds without progress after which a follower leaves
    :ivar without_copies: whether writes are acknowledged while neither followers nor store answer
    """

    copies: int = 1
    timeout: float = 2.0
    without_copies: bool = False


class Replication(service.MultiService):
    """See the module's text.

    :param send: sends an order to the line port at an address
    :param run: runs a function that blocks
    :param taken: called with each lock that was taken over
    """

    def __init__(
        self,
        shared: Shared,
        myself: Worker,
        settings: ReplicationSettings,
        logs: LogFiles,
        send: Callable[[str, Order], Awaitable[Reply]],
        *,
        run: Callable[..., Awaitable[Any]],
        taken: Callable[[Lock], None],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._shared = shared
        self._myself = myself
        self._me = member_of(myself)
        self._logs = logs
        self._send_to = send
        self._run = run
        self._clock = clock
        self.followed = FollowedLogs(logs, run)
        self._services = HolderServices(
            run=run,
            send=self._send,
            change=shared.metadata.change_lock,
            read=shared.metadata.lock_of,
            timeout=settings.timeout,
            without_copies=settings.without_copies,
            refused=self._refuse,
            ended=self._lost,
            raised=self._epoch_raised,
            broken=lambda *found: self.log_broken(*found),
            clock=clock,
        )
        self._held: dict[str, ReplicatedSegment] = {}
        #: Those of them that something is under way for, or may be.
        self._active: dict[str, ReplicatedSegment] = {}
        #: The members that were alive at the last look, and whether each is being drained.
        self._alive: frozenset[tuple[Member, bool]] = frozenset()
        #: The holder of a segment's turn begins to replicate it, or pauses its writes.
        self._turns = KeyedLock()
        #: Segments with a checkpoint under way.
        self._checkpoints: set[str] = set()
        #: Bytes of logs and bases that were sent, since the start.
        self._sent = 0
        self._troubles = TroubleLog(clock)
        self._short = UnderReplication(settings.copies - 1, clock)
        self._earlier = EarlierWorkers(shared.cluster, shared.segments, settings.copies > 1)
        #: When a worker could not follow.
        self._refused: dict[str, float] = {}
        Periodic("replication", LOOK, self._look, clock).setServiceParent(self)
        self.take_overs = TakeOvers(
            shared,
            self._me,
            logs,
            self.followed,
            self._turns,
            run=run,
            begin=self.begin,
            taken=taken,
            clock=clock,
        )
        self.take_overs.setServiceParent(self)
        self.handing_over = HandingOver(
            shared, self._held, self._turns, self._send, self.end, is_own=self.is_own, clock=clock
        )
        self._old = OldReplicas(self._me, shared.metadata, logs, self.followed, run, clock=clock)
        self._old.setServiceParent(self)

        offer = self.take_overs.offer
        self.broken_logs = broken = BrokenLogs(
            shared, self._held, self._turns, self._send, offer, lost=self._lost, logs=logs, run=run
        )
        #: Called with a segment, the number of its file, and why its log is broken.
        self.log_broken = broken.found

    def admit(self, myself: Worker) -> None:
        """Carry out orders from now on, as this worker with its disk, which was checked."""
        self._myself = myself
        self._me = self.take_overs.me = self._old.me = member_of(myself)
        self.followed.disk = self._me.disk

    async def stopService(self) -> None:
        """Stop sending, and close the logs."""
        await super().stopService()
        for replicated in list(self._held.values()):
            replicated.close()
        self._held.clear()
        await self.followed.close()

    @property
    def is_on(self) -> bool:
        """Whether this worker replicates segments that it begins to write."""
        return self._earlier.allow_followers

    @property
    def disk(self) -> str:
        """The disk that this worker's new locks name; empty: it does not replicate."""
        return self._me.disk if self.is_on else ""

    @property
    def is_named(self) -> bool:
        """Whether the row of any lock names this worker with its disk."""
        return self.take_overs.is_named

    def is_own(self, lock: Lock) -> bool:
        """Whether a lock names this worker and its present disk."""
        return bool(lock.disk) and lock.holder == self._me

    def is_kept(self, lock: Lock) -> bool:
        """Whether this worker must keep a lock of its name under which it writes nothing.

        It must if followers have the lock's writes, or if another disk had them.
        """
        return bool(lock.followers) or lock.disk not in ("", self._me.disk)

    def is_busy(self, segment: str) -> bool:
        """Whether this worker begins to replicate a segment, or hands it over."""
        return self._turns.busy(segment)

    def committed(self, segment: str, generation: int, end: int) -> None:
        """An executor has committed a transaction; the segment's log ends at `end`.

        :param generation: of the segment's file
        """
        copy = self._shared.segments.get(segment)
        if copy is not None and copy.replicated and copy.target.generation == generation:
            copy.replicated.committed(end)
            self._active[segment] = copy.replicated

    # -- holding -------------------------------------------------------------------------

    async def begin_new(self, lock: Lock) -> None:
        """Replicate a segment whose lock this worker has just taken.

        It waits for the first followers, but no longer than the timeout of a follower.
        """
        async with self._turns.hold(lock.segment):
            copy = self._shared.segments.get(lock.segment)
            if not lock.disk:
                self._earlier.is_plain(lock.segment)
            elif copy is not None and copy.replicated is None:
                await self.begin(lock)
                await self._await_followers(lock.segment)

    async def begin(self, lock: Lock) -> None:
        """Replicate a segment that this worker has begun to write under `lock`.

        The lock names this worker's disk. The caller holds the segment's turn.
        """
        segment = lock.segment
        log = await self._holder_log(segment)
        end: int = await self._run(log.end)
        copy = self._shared.segments.get(segment)
        if copy is None or not copy.writable:
            raise errors.NoWriteLock(f"segment {segment} is not written here any more")
        replicated = ReplicatedSegment(self._services, lock, log, end, copy.target.generation)
        self._held[segment] = self._active[segment] = copy.replicated = replicated
        await self._find_followers(replicated)

    async def _await_followers(self, segment: str) -> None:
        replicated = self._held.get(segment)
        if replicated is None:
            return
        followed = replicated.followed(min(self.settings.copies - 1, len(replicated.followers)))
        with suppress(TimeoutError, errors.UnderReplicated):
            await followed.addTimeout(self.settings.timeout, self._clock)
        if len(replicated.lock.followers) < self.settings.copies - 1:
            found = counted(len(replicated.lock.followers) + 1, "copy", "copies")
            reason = f"{segment}: {found}, and WRITE_COPIES is {self.settings.copies}"
            self._troubles.report(Section.UNDER_REPLICATED, "segments with few copies", reason)

    async def _holder_log(self, segment: str) -> HolderLog:
        copy = self._shared.segments.get(segment)
        path = Path(copy.target.path) if copy is not None else Path()
        try:
            return await self._run(self._logs.holder, path)
        except errors.LogBroken:
            path = await self._shared.segments.begin_log(segment)
            return await self._run(self._logs.holder, path)

    async def ready(self, copy: LocalCopy) -> None:
        """Return once the writes of a copy can be replicated.

        There is work to do after a restart of this worker, and for the first write.

        :raises trough.errors.NoWriteLock: another worker has the lock
        :raises trough.errors.Unavailable: the store does not answer
        """
        segment = copy.entry.segment
        async with self._turns.hold(segment):
            if self._shared.segments.get(segment) is not copy or not copy.takes_writes:
                raise errors.NoWriteLock(
                    f"segment {segment} was handed over to another worker",
                    "provision the segment and write to the URL that comes back",
                )
            if copy.replicated is not None:
                return
            if not self.is_on:
                known = self._shared.cluster.locks.get(segment)
                if known is not None and not known.disk:
                    self._earlier.is_plain(segment)
                    return  # as without replication, which needs fewer calls of the store
            if not self.take_overs.are_finished:
                raise errors.Unavailable(f"{self._me.node} is being started", "write again")
            lock = await self._shared.metadata.lock_of(segment)
            if lock is None or lock.node != self._me.node:
                return  # the call that marks the lock as dirty finds out
            if not (lock.disk or (self.is_on and await is_quiet(copy, None, self._clock))):
                # Writes that began without followers end without them, however long they take.
                self._earlier.is_plain(segment)
                return
            # Messages of an earlier run may still be on the way. A new epoch makes them invalid.
            wanted = replace(
                lock, disk=self._me.disk, epoch=lock.epoch + 1, revision=lock.revision + 1
            )
            found = None
            if lock.disk in ("", self._me.disk):
                found = await self._shared.metadata.change_lock(lock, wanted)
            if found is None or row_of(found) != row_of(wanted):
                raise errors.NoWriteLock(
                    f"the write lock of segment {segment} is not this worker's any more",
                    "provision the segment and write to the URL that comes back",
                )
            await self._shared.segments.raise_epoch(segment, found.epoch)
            self._shared.cluster.take_notice(found)
            await self.begin(found)

    def end(self, segment: str) -> None:
        """Stop replicating a segment that this worker no longer writes. Idempotent."""
        replicated = self._held.pop(segment, None)
        self._active.pop(segment, None)
        self._short.ended(segment)
        if replicated is not None:
            replicated.close()

    def _lost(self, segment: str, reason: str) -> None:
        self.end(segment)
        copy = self._shared.segments.get(segment)
        if copy is None or not copy.writable:
            return
        _log.warn("{segment}: no longer written here: {reason}", segment=segment, reason=reason)
        self._shared.segments.refuse_writes(segment, copy.entry.epoch)
        self._shared.look_at([segment])

    def _epoch_raised(self, lock: Lock) -> None:
        self._shared.cluster.take_notice(lock)
        raising = Deferred.fromCoroutine(
            self._shared.segments.raise_epoch(lock.segment, lock.epoch)
        )
        raising.addErrback(lambda failure: _log.failure("an epoch was not noted", failure))

    async def _send(self, member: Member, order: Order) -> Reply:
        worker = self._shared.cluster.workers.get(member.node)
        if worker is None or not is_alive(self._shared.cluster, member):
            raise errors.Unavailable(f"{member.node} is not alive, or has another disk")
        self._sent += len(order.part)
        return await self._send_to(worker.line, order)

    # -- followers -----------------------------------------------------------------------

    async def _look(self) -> None:
        self._earlier.look()
        workers = self._shared.cluster.workers.values()
        alive = frozenset((member_of(each), each.draining) for each in workers)
        if alive != self._alive:
            self._alive = alive
            self._active.update(self._held)
        active = list(self._active.values())
        for replicated in active:
            replicated.check_progress()
            for member in replicated.followers:
                if not is_alive(self._shared.cluster, member):
                    replicated.remove(member)
            if self._is_large(replicated) and replicated.segment not in self._checkpoints:
                self._checkpoints.add(replicated.segment)
                work = Deferred.fromCoroutine(self._checkpoint(replicated))
                work.addErrback(lambda failure: _log.failure("no checkpoint", failure))
                work.addBoth(self._checkpointed, replicated.segment)
        for replicated in active:
            self._trim(replicated)
            self._short.note(replicated.segment, len(replicated.lock.followers))
            await self._find_followers(replicated)
            self._let_rest(replicated)

    @staticmethod
    def _is_large(replicated: ReplicatedSegment) -> bool:
        """Whether a log is due to begin again."""
        return replicated.end - replicated.checkpointed > CHECKPOINT

    def _let_rest(self, replicated: ReplicatedSegment) -> None:
        """Look at a segment no more for which nothing is under way, until there is."""
        followers = replicated.lock.followers
        right = len(followers) == self._wanted
        stays = right and not any(self._leaves(each) for each in followers)
        if stays and replicated.is_at_rest and not self._is_large(replicated):
            self._active.pop(replicated.segment, None)
            replicated.rest()

    def _checkpointed(self, _: object, segment: str) -> None:
        self._checkpoints.discard(segment)

    def _refuse(self, member: Member, segment: str, reason: str) -> None:
        self._refused[member.node] = self._clock.seconds()
        what = f"written segments go on without the copy on {member.node}"
        self._troubles.report(Section.UNDER_REPLICATED, what, f"{segment}: {reason}")

    def _trim(self, replicated: ReplicatedSegment) -> None:
        """Remove followers that are too many; those that are being drained leave first."""
        named = replicated.lock.followers
        if len(named) > self._wanted and replicated.followers >= named:
            replicated.remove(min(named, key=lambda member: (not self._leaves(member), member)))

    @property
    def _wanted(self) -> int:
        """Followers of each segment. A worker that is drained hands its segments to one of them,
        which needs as many as before."""
        return self.settings.copies - 1 + (self.settings.copies > 1 and self._leaves(self._me))

    async def hand_over(self, segment: str) -> bool:
        """Hand a segment of this worker, which is drained, to a follower; whether one took it.

        The lock's row names a follower for the next holder first, if any worker can follow.
        """
        replicated = self._held.get(segment)
        if replicated is not None:
            staying = sum(not self._leaves(each) for each in replicated.lock.followers)
            joining = replicated.followers - replicated.lock.followers
            if staying < self._wanted and (joining or self._choice(replicated, ()) is not None):
                return False
        return await self.handing_over.one(segment)

    def _leaves(self, member: Member) -> bool:
        worker = self._shared.cluster.workers.get(member.node)
        return worker is not None and worker.draining

    async def _find_followers(self, replicated: ReplicatedSegment) -> None:
        if self._missing(replicated) <= 0 or self._choice(replicated, ()) is None:
            return
        rows = await self._shared.metadata.assignments_of_segment(replicated.segment)
        assigned = {row.node for row in rows}
        for _ in range(self._missing(replicated)):  # another call may have asked one meanwhile
            chosen = self._choice(replicated, assigned)
            if chosen is not None:
                replicated.add(member_of(chosen))

    def _missing(self, replicated: ReplicatedSegment) -> int:
        """How many followers more should be asked."""
        return self._wanted - sum(not self._leaves(each) for each in replicated.followers)

    def _choice(self, replicated: ReplicatedSegment, assigned: Collection[str]) -> Worker | None:
        now = self._clock.seconds()
        refused = {node for node, at in self._refused.items() if now - at < REFUSED}
        workers = self._shared.cluster.workers.values()
        return choose(self._myself, replicated.followers, workers, assigned, refused)

    async def _checkpoint(self, replicated: ReplicatedSegment) -> None:
        """Begin the log again with a checkpoint, once everything in it is acknowledged."""
        segment = replicated.segment
        copy = self._shared.segments.get(segment)
        async with self._turns.hold(segment):
            if copy is None or copy.replicated is not replicated or copy.writes.closed:
                return
            copy.paused = True
            try:
                if await is_quiet(copy, replicated, self._clock):
                    await self._shared.segments.checkpoint_log(copy, replicated.end)
                    replicated.checkpointed = replicated.end
            except errors.Unavailable as reason:
                _log.debug("{segment}: no checkpoint: {reason}", segment=segment, reason=reason)
            finally:
                copy.paused = False

    async def obey(self, order: Order) -> Reply:
        """Carry out a holder's order; see :meth:`FollowedLogs.obey`."""
        if order.kind is not OrderKind.TAKE:
            return await self.followed.obey(order)
        self.followed.check_disk(order)
        lock = await self._shared.metadata.lock_of(order.segment)
        if lock is None or lock.epoch != order.epoch:
            raise errors.Conflict(f"the lock of segment {order.segment} has changed")
        if not await self.take_overs.take_over(lock):
            raise errors.Unavailable(f"segment {order.segment} could not be taken over")
        return Confirmed(order.epoch, 0)

    def trouble(self) -> str:
        """What needs an operator, and the section of the guide; or empty."""
        return "; ".join(filter(None, (self._short.trouble(), self._earlier.trouble())))

    def status(self) -> dict[str, Any]:
        """Fields for the worker's status."""
        lags = [each.lag for each in self._held.values()]
        return {
            "copies": self.settings.copies,
            "earlier_workers": self._earlier.names,
            "replicated": len(self._held),
            **self._short.status(),
            "blocked": sum(each.is_blocked for each in self._held.values()),
            "following": self.take_overs.following,
            "lag_bytes": max((size for size, _ in lags), default=0),
            "lag_seconds": max((seconds for _, seconds in lags), default=0.0),
            "sent_bytes": self._sent,
        }
