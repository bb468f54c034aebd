"""Hands a segment that this worker writes over to a follower.

New writes wait until all begun writes are acknowledged. Then the worker asks the follower to take
the lock. If the lock's row names the follower, the worker removes the local copy. Otherwise writes
go on here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from trough import errors
from trough.model import Lock, Member
from trough.replication.orders import Order, OrderKind, Reply
from trough.util.keyed_lock import KeyedLock
from trough.worker.local_copies import LocalCopy
from trough.worker.replicated import ReplicatedSegment
from trough.worker.shared import Shared
from trough.worker.take_overs import is_alive

_log = Logger()

#: Hand-overs that run at the same time.
AT_ONCE = 8

#: How often to look whether the writes of a segment have ended, and the seconds between looks.
TRIES, PAUSE = 100, 0.005


async def is_quiet(
    copy: LocalCopy, replicated: ReplicatedSegment | None, clock: IReactorTime
) -> bool:
    """Wait until the writes of a paused copy are acknowledged; return whether they were in time.

    :param replicated: None: the copy is not replicated yet
    """
    for _ in range(TRIES):
        settled = replicated is None or replicated.is_settled
        if copy.writes.under_way <= len(copy.noting) and settled:
            return True
        await deferLater(clock, PAUSE, lambda: None)
    return False


class HandingOver:
    """See the module's text.

    :param held: segments that are replicated
    :param turns: the holder of a segment's turn pauses its writes
    :param send: sends an order to a follower
    :param end: ends the replication of a segment
    :param is_own: whether a lock is this worker's
    """

    def __init__(
        self,
        shared: Shared,
        held: Mapping[str, ReplicatedSegment],
        turns: KeyedLock,
        send: Callable[[Member, Order], Awaitable[Reply]],
        end: Callable[[str], None],
        *,
        is_own: Callable[[Lock], bool],
        clock: IReactorTime,
    ) -> None:
        self._shared = shared
        self._held = held
        self._turns = turns
        self._send = send
        self._end = end
        self._is_own = is_own
        self._clock = clock

    async def all(self) -> None:
        """Hand over all segments with followers, for example before this worker stops."""
        gate = DeferredSemaphore(AT_ONCE)
        segments = list(self._held)
        await DeferredList([gate.run(Deferred.fromCoroutine, self.one(s)) for s in segments])

    async def one(self, segment: str) -> bool:
        """Hand a segment over to a follower; return whether one took it.

        The worker then removes what is not promoted: the follower has all of it.
        """
        async with self._shared.turns.hold(segment), self._turns.hold(segment):
            copy, replicated = self._shared.segments.get(segment), self._held.get(segment)
            if copy is None or replicated is None or copy.replicated is not replicated:
                return False
            copy.paused = True
            try:
                for member in sorted(replicated.lock.followers):
                    if is_alive(self._shared.cluster, member) and await self._hand_to(
                        member, copy, replicated
                    ):
                        return True
            except errors.TroughError as reason:
                _log.warn("{segment}: not handed over: {reason}", segment=segment, reason=reason)
            finally:
                copy.paused = False
        return False

    async def _hand_to(
        self, member: Member, copy: LocalCopy, replicated: ReplicatedSegment
    ) -> bool:
        segment = replicated.segment
        if not await is_quiet(copy, replicated, self._clock):
            return False
        copy.writes.closed = True
        order = Order(OrderKind.TAKE, segment, member.disk, replicated.lock.epoch)
        try:
            await self._send(member, order)
        finally:
            lock = await self._shared.metadata.lock_of(segment)
            if lock is not None and self._is_own(lock):
                copy.writes.closed = False
        if lock is None or lock.holder != member:
            return False
        self._end(segment)
        self._shared.cluster.take_notice(lock)
        await self._keep_or_discard(copy)
        self._shared.look_at([segment])
        if self._shared.digest.is_first(f"handed over to {member.node}"):
            _log.info("{segment}: handed over to {node}", segment=segment, node=member.node)
        return True

    async def _keep_or_discard(self, copy: LocalCopy) -> None:
        """Keep a copy for reads if all of it is promoted: it may be one of few."""
        segment, segments = copy.entry.segment, self._shared.segments
        if copy.entry.unpromoted:
            self._shared.publisher.withdraw(segment)
            await segments.discard(copy)
            return
        await segments.retire(segment)
        if segments.get(segment) is None:  # it was damaged
            self._shared.publisher.withdraw(segment)
        else:
            self._shared.publisher.serve(segment, writable=False)
