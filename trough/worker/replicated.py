"""Runs the rules of :mod:`trough.replication.holder` for one segment.

It uses the worker's clock, disk, connections and metadata store.

It gives two guarantees. :meth:`ReplicatedSegment.acknowledged` returns only if all followers that
the lock's row names, or may name, have a write on disk. A follower that makes no progress leaves
the row before a write is acknowledged without it.

This module decides nothing. It passes each event to the rules, and carries out their actions in
order. :mod:`trough.worker.follower_link` sends to one follower.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.model import Lock, Member
from trough.replication import holder as rules
from trough.replication.holder import ChangeRow, Holder, ReadRow, SendBase, SendJoin, SendLog
from trough.replication.log import HolderLog, LogPart
from trough.replication.messages import Behind, Confirmed, LockRow, Rejected
from trough.replication.orders import Order, Reply
from trough.worker.follower_link import FollowerLink

_log = Logger()

#: Seconds before a retry of a follower, or of the store, that could not be reached.
RETRY = 0.25

#: Seconds for which a write that is on this disk waits for followers and store. Existing clients
#: wait for ten minutes, and treat a failure as a lost write.
PATIENCE = 10.0

#: Bytes of a part of a log that are read at once, without a thread.
SMALL = 64 << 10

#: Runs a function that blocks in a thread.
Run = Callable[..., Awaitable[Any]]

#: Sends an order to a member, and returns its reply.
Send = Callable[[Member, Order], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class HolderServices:
    """What the holder of a segment needs from its worker.

    :ivar send: raises :class:`trough.errors.Unavailable` where the member cannot be reached, and
        another error where it refuses
    :ivar change: see :meth:`trough.metadata.Metadata.change_lock`
    :ivar read: see :meth:`trough.metadata.Metadata.lock_of`
    :ivar timeout: seconds without progress after which a follower leaves the row
    :ivar without_copies: whether writes are acknowledged while neither followers nor the store
        answer
    :ivar refused: called with a follower that left or could not follow, the segment, and why
    :ivar ended: called once for a segment, with the reason, when another worker may hold its lock
    :ivar raised: called with a lock whose epoch its holder raised
    :ivar broken: called with a segment, the number of its file, and the reason, when this worker's
        log is no longer readable
    """

    run: Run
    send: Send
    change: Callable[[Lock, Lock], Awaitable[Lock | None]]
    read: Callable[[str], Awaitable[Lock | None]]
    timeout: float
    without_copies: bool
    refused: Callable[[Member, str, str], None]
    ended: Callable[[str, str], None]
    raised: Callable[[Lock], None]
    broken: Callable[[str, int, str], None]
    clock: IReactorTime


def row_of(lock: Lock) -> LockRow:
    """The row that the rules see of a lock."""
    return LockRow(lock.holder, lock.epoch, lock.revision, lock.followers)


def lock_as(lock: Lock, row: LockRow) -> Lock:
    """A lock with the fields of the rules' row."""
    return replace(
        lock,
        node=row.holder.node,
        disk=row.holder.disk,
        epoch=row.epoch,
        revision=row.revision,
        followers=row.followers,
    )


class ReplicatedSegment:
    """See the module's text.

    A worker may write very many segments, most of them at rest. So what one takes at rest is kept
    small: an empty list takes a tenth of an empty deque, and links exist only while they send.

    :param lock: as the store confirmed it, of this worker
    :param log: of the segment; everything up to `end` is on this disk
    :param generation: number of the segment's file
    """

    __slots__ = (
        *("_acting", "_actions", "_changing_since", "_closed", "_generation", "_holder", "_links"),
        *("_lock", "_moved", "_reading", "_resting", "_services", "_unfollowed", "_waiting"),
        *("checkpointed", "log", "segment"),
    )

    def __init__(
        self, services: HolderServices, lock: Lock, log: HolderLog, end: int, generation: int
    ) -> None:
        self._generation = generation
        self.segment = lock.segment
        self.log = log
        #: Where the log ended at the last checkpoint.
        self.checkpointed = end
        self._services = services
        self._lock = lock
        self._closed = False
        #: Reads of the log happen one at a time. None: there was none since the last rest.
        self._reading: DeferredLock | None = None
        #: Whether the log's file is closed, and there is no link.
        self._resting = False
        self._links: dict[Member, FollowerLink] = {}
        #: When each follower last made progress, or had nothing to do.
        self._moved: dict[Member, float] = {}
        #: When the change of the row began that the store has not answered yet.
        self._changing_since: float | None = None
        #: Writes, in the order of their commits; None while none waits.
        self._waiting: deque[tuple[int, float, Deferred[None]]] | None = None
        #: Callers that wait for a number of followers in the row.
        self._unfollowed: list[tuple[int, Deferred[None]]] = []
        self._actions: list[rules.Action] = []
        self._acting = False
        self._holder: Holder
        self._take(rules.begin(row_of(lock), end))

    # -- calls of the worker ------------------------------------------------------------

    @property
    def lock(self) -> Lock:
        """The lock, as the store confirmed it last."""
        return lock_as(self._lock, self._holder.row)

    @property
    def epoch(self) -> int:
        """Of the lock, as the store confirmed it last."""
        return self._holder.row.epoch

    @property
    def end(self) -> int:
        """The end of the log, as far as commits were reported."""
        return self._holder.end

    @property
    def lag(self) -> tuple[int, float]:
        """Bytes of the log that the slowest follower lacks, and seconds since it made progress;
        zeros where each has all."""
        end, now = self._holder.end, self._services.clock.seconds()
        behind = [
            (end - max(progress.confirmed, 0), now - self._moved.get(member, now))
            for member, progress in self._holder.followers.items()
            if progress.confirmed < end
        ]
        return max(behind, default=(0, 0.0))

    @property
    def followers(self) -> frozenset[Member]:
        """Members that follow, or that this holder asked to follow."""
        return frozenset(self._holder.followers) - self._holder.unwanted

    @property
    def is_settled(self) -> bool:
        """Whether all writes are acknowledged, and no base or change of the row is under way."""
        holder = self._holder
        basing = any(each.phase is rules.Phase.BASE for each in holder.followers.values())
        return holder.acknowledged >= holder.end and holder.wanted is None and not basing

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way: each follower has the whole log, and stays."""
        holder = self._holder
        return (
            self.is_settled
            and not holder.unwanted
            and holder.row.followers == set(holder.followers)
            and all(
                each.phase is rules.Phase.STREAMING and each.confirmed >= holder.end
                for each in holder.followers.values()
            )
        )

    @property
    def is_blocked(self) -> bool:
        """Whether a change of the row has waited for the store for longer than the timeout."""
        since, seconds = self._changing_since, self._services.clock.seconds()
        return since is not None and seconds - since > self._services.timeout

    def check_writable(self) -> None:
        """Refuse a write that this holder could not acknowledge.

        :raises trough.errors.UnderReplicated: neither followers nor the store answer
        """
        if self.is_blocked and not self._services.without_copies:
            raise self._under_replicated()

    def committed(self, end: int) -> None:
        """An executor committed a transaction; it may not be on this disk yet."""
        if end <= self._holder.end or self._closed:
            return
        now = self._services.clock.seconds()
        for member, progress in self._holder.followers.items():
            if progress.confirmed >= self._holder.end:
                self._moved[member] = now  # it had nothing to do until now
        self._take(rules.appended(self._holder, end))

    def acknowledged(self, end: int) -> Deferred[None] | None:
        """Everything up to `end` is on this disk: wait for the followers; None: they have it.

        The Deferred fails with :class:`trough.errors.UnderReplicated` if the write may not be
        acknowledged. The write is then on this disk, and perhaps on others.
        """
        services = self._services
        self.committed(end)
        self._take(rules.synced(self._holder, end))
        if self._holder.acknowledged >= end or (self.is_blocked and services.without_copies):
            return None
        waiting: Deferred[None] = Deferred()
        if self._closed or self._holder.fenced:
            waiting.errback(self._under_replicated())
        else:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append((end, services.clock.seconds(), waiting))
        return waiting

    def followed(self, count: int) -> Deferred[None]:
        """Fires once the row names `count` followers; fails as :meth:`acknowledged`."""
        waiting: Deferred[None] = Deferred()
        self._unfollowed.append((count, waiting))
        self._tell_followed()
        return waiting

    def add(self, member: Member) -> None:
        """Ask a member to follow; it enters the row once it has caught up."""
        self._moved[member] = self._services.clock.seconds()
        self._take(rules.candidate(self._holder, member))

    def remove(self, member: Member) -> None:
        """Remove a follower from the row."""
        self._take(rules.stuck(self._holder, member))

    def check_progress(self) -> None:
        """Give up followers that make no progress; call this several times a second."""
        now = self._services.clock.seconds()
        for member, progress in list(self._holder.followers.items()):
            streaming = progress.phase is rules.Phase.STREAMING
            if streaming and progress.confirmed >= self._holder.end:
                self._moved[member] = now
            elif now - self._moved.setdefault(member, now) > self._services.timeout:
                self._give_up(member, f"no progress for {self._services.timeout:g} s")
        if not self.is_blocked:
            return
        if self._services.without_copies:
            self._release(self._holder.synced)
        while self._waiting and now - self._waiting[0][1] > PATIENCE:
            self._waiting.popleft()[2].errback(self._under_replicated())

    def rest(self) -> None:
        """Keep no more than the next write needs; call this only while it is at rest.

        The log's file is closed until it is read again. Idempotent: each worker that comes or goes
        causes a look at every segment, and so a call for each.
        """
        if self._resting:
            return
        self._resting = True
        for link in self._links.values():
            link.close()
        self._links = {}
        self._moved = {}
        self._waiting = self._waiting or None
        closing = Deferred.fromCoroutine(self._close_log())
        closing.addErrback(lambda failure: _log.failure("a log was not closed", failure))

    async def _close_log(self) -> None:
        await self._lock_of_reads().run(self._services.run, self.log.close)
        if self._reading is not None and not (self._reading.locked or self._reading.waiting):
            self._reading = None

    def close(self, reason: str = "its worker stopped writing it") -> None:
        """Stop sending; writes that wait fail for `reason`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for link in self._links.values():
            link.close()
        waiting, self._waiting = self._waiting or (), None
        unfollowed, self._unfollowed = self._unfollowed, []
        error = errors.UnderReplicated(f"segment {self.segment}: {reason}")
        for each in [*(each for _, _, each in waiting), *(each for _, each in unfollowed)]:
            if not each.called:
                each.errback(error)
        # The file may be moved or removed now; a read that is under way ends first.
        self._lock_of_reads().run(self.log.finish)

    # -- reports of links ---------------------------------------------------------------

    async def read_part(self, start: int, end: int) -> LogPart:
        """The log from `start` on, see :meth:`trough.replication.log.HolderLog.read`."""
        if end - start <= SMALL and (self._reading is None or not self._reading.locked):
            # An executor has just written it, so it is in the page cache. Two switches of the
            # thread take longer, and each write waits for them.
            self._resting = False
            return self.log.read(start, end)
        part: LogPart = await self._read_log(self.log.read, start, end)
        return part

    def replied(self, member: Member, reply: Confirmed | Behind | Rejected, matches: bool) -> None:
        """A follower has replied to an order; see :func:`trough.replication.holder.replied`."""
        before = self._holder.followers.get(member)
        self._take(rules.replied(self._holder, member, reply, matches))
        after = self._holder.followers.get(member)
        if before is None or after is None:
            return
        # A follower that joins again and again makes no progress while its log stays as it is. A
        # candidate holds no write up, and a base takes time to begin.
        begins = isinstance(reply, Behind) and member not in self._holder.required
        if after.confirmed > before.confirmed or begins:
            self.moved(member)

    def moved(self, member: Member) -> None:
        """A follower makes progress."""
        self._moved[member] = self._services.clock.seconds()

    def needs_base(self, member: Member) -> None:
        """The log does not reach back to the follower's end: the follower needs a base."""
        behind = Behind(self._holder.row.epoch, -1, b"")
        self._take(rules.replied(self._holder, member, behind, matches=False))

    def unreachable(self, member: Member) -> None:
        """Orders to a follower may be lost: ask it to join again after :data:`RETRY`."""
        self._services.clock.callLater(RETRY, self._again, member)

    def refused(self, member: Member, reason: errors.TroughError) -> None:
        """A follower cannot follow."""
        self._give_up(member, str(reason))

    def log_broken(self, reason: errors.TroughError) -> None:
        """This worker's log is not readable: another worker has to hold the lock."""
        if not self._closed:
            self._services.broken(self.segment, self._generation, reason.message)

    def _again(self, member: Member) -> None:
        if not self._closed:
            self._take(rules.lost(self._holder, member))

    def _give_up(self, member: Member, reason: str) -> None:
        if member in self._holder.unwanted or member not in self._holder.followers:
            return
        self._services.refused(member, self.segment, reason)
        self._take(rules.stuck(self._holder, member))

    # -- the rules at work ---------------------------------------------------------------

    def _take(self, step: rules.Step) -> None:
        """Take a step of the rules, and carry out its actions in order.

        The order holds even if an action causes a further step at once.
        """
        self._holder, actions = step
        self._actions.extend(actions)
        if self._acting:
            return
        self._acting = True
        try:
            while self._actions and not self._closed:
                self._carry_out(self._actions.pop(0))
        finally:
            self._acting = False
        for member in set(self._links) - set(self._holder.followers):
            self._links.pop(member).close()
        if self._holder.fenced:
            self._end("another worker holds its write lock, or may")
        else:
            self._release(self._holder.acknowledged)
            self._tell_followed()

    def _tell_followed(self) -> None:
        found = len(self._holder.row.followers)
        due = [each for count, each in self._unfollowed if count <= found]
        self._unfollowed = [(count, each) for count, each in self._unfollowed if count > found]
        for each in due:
            if not each.called:  # else its caller no longer waits
                each.callback(None)

    def _carry_out(self, action: rules.Action) -> None:
        epoch = self._holder.row.epoch
        match action:
            case SendJoin(member):
                self._link(member).join(epoch, self._holder.end)
            case SendLog(member, start, end):
                self._link(member).append(epoch, start, end)
            case SendBase(member):
                self._link(member).base(epoch, self._holder.end)
            case ChangeRow(expected, wanted):
                Deferred.fromCoroutine(self._change(expected, wanted)).addErrback(self._failed)
            case ReadRow(rejected):
                Deferred.fromCoroutine(self._read(rejected)).addErrback(self._failed)

    def _link(self, member: Member) -> FollowerLink:
        link = self._links.get(member)
        if link is None:
            self._resting = False
            link = FollowerLink(self, member, self.log, self._read_log, self._services.send)
            self._links[member] = link
        return link

    def _read_log(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Run a function that reads the log; one at a time."""
        self._resting = False
        return self._lock_of_reads().run(self._services.run, function, *arguments)

    def _lock_of_reads(self) -> DeferredLock:
        if self._reading is None:
            self._reading = DeferredLock()
        return self._reading

    async def _change(self, expected: LockRow, wanted: LockRow) -> None:
        if self._changing_since is None:
            self._changing_since = self._services.clock.seconds()
        try:
            found = await self._services.change(
                lock_as(self._lock, expected), lock_as(self._lock, wanted)
            )
        except errors.Unavailable:
            self._services.clock.callLater(RETRY, self._ask_again)
        else:
            self._is(found)

    def _ask_again(self) -> None:
        if not self._closed:
            self._take(rules.row_unknown(self._holder))

    async def _read(self, rejected: int) -> None:
        try:
            found = await self._services.read(self.segment)
        except errors.Unavailable:
            return  # the follower makes no progress: it is given up, or rejects again
        self._is(found, rejected)

    def _is(self, found: Lock | None, rejected: int = 0) -> None:
        """The store has answered with the present row."""
        if self._closed:
            return
        if found is None:
            self._end("its write lock was released")
            return
        before = self._holder.row
        self._take(rules.row_is(self._holder, row_of(found), rejected))
        if self._holder.wanted is None:
            self._changing_since = None
        if self._holder.row != before:
            self._lock = found
            if self._holder.row.epoch != before.epoch:
                self._services.raised(found)

    def _failed(self, failure: Any) -> None:
        _log.failure("{segment}: its lock's row", failure=failure, segment=self.segment)
        self._end(str(failure.value))

    def _end(self, reason: str) -> None:
        if not self._closed:
            self.close(reason)
            self._services.ended(self.segment, reason)

    def _release(self, end: int) -> None:
        """Acknowledge the writes up to `end`; they wait in the order of their commits."""
        while self._waiting and self._waiting[0][0] <= end:
            self._waiting.popleft()[2].callback(None)

    def _under_replicated(self) -> errors.UnderReplicated:
        return errors.UnderReplicated(
            f"segment {self.segment}: neither its followers nor the metadata store answer, so "
            "that nobody may acknowledge writes",
            "write again when they are back",
        )
