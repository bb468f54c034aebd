"""Gives up segments whose log this worker's disk no longer stores.

Acknowledged writes are on the disks of the followers. So one of them takes the lock over: by an
order of this worker or, if it reaches none, because the lock's row says that they may. The disk
records that the log is broken, so that no later run of this worker serves it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.model import Lock, Member
from trough.replication.orders import Order, OrderKind, Reply
from trough.util.keyed_lock import KeyedLock
from trough.worker.local_copies import LocalCopy
from trough.worker.log_files import LogFiles
from trough.worker.replicated import ReplicatedSegment
from trough.worker.shared import Shared

_log = Logger()


class BrokenLogs:
    """See the module's text.

    :param held: segments that are replicated
    :param turns: the holder of a segment's turn pauses its writes
    :param send: sends an order to a follower
    :param offer: lets followers take a lock; returns whether its row says so now
    :param lost: called with a segment that is no longer written here, and the reason
    :param run: runs a function that blocks
    """

    def __init__(
        self,
        shared: Shared,
        held: Mapping[str, ReplicatedSegment],
        turns: KeyedLock,
        send: Callable[[Member, Order], Awaitable[Reply]],
        offer: Callable[[Lock], Awaitable[bool]],
        *,
        lost: Callable[[str, str], None],
        logs: LogFiles,
        run: Callable[..., Awaitable[Any]],
    ) -> None:
        self._shared = shared
        self._held = held
        self._turns = turns
        self._send = send
        self._offer = offer
        self._lost = lost
        self._logs = logs
        self._run = run
        #: Those that followers have to take over, and whether it was logged that none does yet.
        self._left: dict[str, tuple[LocalCopy, ReplicatedSegment, str]] = {}
        self._reported: set[str] = set()

    def is_left_to_followers(self, segment: str) -> bool:
        """Whether the lock of a segment waits for a follower, and must not be released."""
        left = self._left.get(segment)
        if left is not None and self._shared.segments.get(segment) is not left[0]:
            del self._left[segment]
            return False
        return left is not None

    async def try_again(self, segment: str) -> None:
        """Ask the followers of such a segment once more."""
        copy, replicated, reason = self._left[segment]
        await self._give_up(segment, copy, replicated, reason)

    def found(self, segment: str, generation: int, reason: str) -> None:
        """This disk no longer stores a segment's log: hand the lock to a follower.

        :param generation: of the segment's file
        """
        copy, replicated = self._shared.segments.get(segment), self._held.get(segment)
        if copy is None or replicated is None or copy.target.generation != generation:
            return
        if copy.writes.closed:
            return  # this worker gives it up already
        _log.error(
            "{segment}: its writes cannot be stored here any more: {reason}",
            segment=segment,
            reason=reason,
        )
        copy.writes.closed = True
        replicated.close()
        self._left.pop(segment, None)
        self._reported.discard(segment)
        if replicated.lock.followers:
            self._left[segment] = (copy, replicated, reason)
        giving = Deferred.fromCoroutine(self._give_up(segment, copy, replicated, reason))
        giving.addErrback(lambda failure: _log.failure("a broken log", failure))

    async def _give_up(
        self, segment: str, copy: LocalCopy, replicated: ReplicatedSegment, reason: str
    ) -> None:
        """Hand the lock to a follower, which has all acknowledged writes."""
        async with self._shared.turns.hold(segment), self._turns.hold(segment):
            if replicated.lock.followers:
                await self._note(copy, reason)
            for member in sorted(replicated.lock.followers):
                if self._shared.segments.get(segment) is not copy:
                    return
                order = Order(OrderKind.TAKE, segment, member.disk, replicated.lock.epoch)
                with suppress(errors.TroughError):
                    await self._send(member, order)
                    self._lost(segment, f"{member.node} was asked to take the lock over")
                    return
            if await self._is_offered(replicated.lock):
                self._lost(segment, "its followers may take the lock over")
                return
        if segment not in self._reported:
            self._reported.add(segment)
            _log.error(
                "{segment}: no follower takes its lock over yet; its writes are refused",
                segment=segment,
            )

    async def _note(self, copy: LocalCopy, reason: str) -> None:
        """Record that this copy is not to be served after a restart."""
        try:
            await self._run(self._logs.note_broken, Path(copy.target.path), reason)
        except errors.TroughError as failure:
            _log.warn(
                "{segment}: it could not be recorded that its log is broken: {reason}",
                segment=copy.entry.segment,
                reason=failure,
            )

    async def _is_offered(self, known: Lock) -> bool:
        """Whether the row of a lock says now that its followers may take it over."""
        try:
            lock = await self._shared.metadata.lock_of(known.segment)
            return lock is not None and lock.holder == known.holder and await self._offer(lock)
        except errors.Unavailable:
            return False
