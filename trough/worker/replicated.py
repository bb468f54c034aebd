"""One segment's holder at work: the rules of :mod:`trough.replication.holder` with the worker's
clock, disk, connections and metadata store.

It promises two things. :meth:`ReplicatedSegment.acknowledged` returns only if all followers that
the lock's row names, or may name, have a write on disk. A follower that makes no progress leaves
the row before a write is acknowledged without it.

Nothing here decides: what happens goes to the rules, and their actions are carried out in order.
:mod:`trough.worker.follower_link` sends to one follower.
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
from trough.replication.log import HolderLog
from trough.replication.messages import Behind, Confirmed, Rejected, Row
from trough.replication.orders import Order, Reply
from trough.worker.follower_link import FollowerLink

_log = Logger()

#: Seconds before a follower that could not be reached, or a store, is tried again.
RETRY = 0.25

#: Seconds for which a write that is on this disk waits for followers and store. Existing clients
#: wait for ten minutes, and take a failure for a lost write.
PATIENCE = 10.0

#: Runs a function that blocks in a thread.
Run = Callable[..., Awaitable[Any]]

#: Sends an order to a member, and gives its reply.
Send = Callable[[Member, Order], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class HolderServices:
    """What the holder of a segment needs of its worker.

    :ivar send: raises :class:`trough.errors.Unavailable` where the member cannot be reached, and
        another error where it refuses
    :ivar change: see :meth:`trough.metadata.Metadata.change_lock`
    :ivar read: see :meth:`trough.metadata.Metadata.lock_of`
    :ivar timeout: seconds without progress after which a follower leaves the row
    :ivar without_copies: whether writes are acknowledged while neither followers nor the store
        answer
    :ivar refused: called with a follower that left, or could not follow
    """

    run: Run
    send: Send
    change: Callable[[Lock, Lock], Awaitable[Lock | None]]
    read: Callable[[str], Awaitable[Lock | None]]
    timeout: float
    without_copies: bool
    refused: Callable[[Member], None]
    clock: IReactorTime


def row_of(lock: Lock) -> Row:
    """What the rules know of a lock."""
    return Row(lock.holder, lock.epoch, lock.revision, lock.followers)


def lock_as(lock: Lock, row: Row) -> Lock:
    """A lock with what the rules know of it."""
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

    :param lock: as the store confirmed it, of this worker
    :param log: of the segment, of which everything up to `end` is on this disk
    :param ended: called once, with the reason, when somebody else may hold the lock
    :param raised: called with a lock whose epoch this holder raised
    :param broken: called with the reason, when the own log cannot be read any more
    """

    def __init__(
        self,
        services: HolderServices,
        lock: Lock,
        log: HolderLog,
        end: int,
        ended: Callable[[str], None],
        raised: Callable[[Lock], None],
        broken: Callable[[str], None],
    ) -> None:
        self._broken = broken
        self.segment = lock.segment
        self.log = log
        #: Where the log ended when it was brought into the database last.
        self.checkpointed = end
        self._services = services
        self._lock = lock
        self._ended = ended
        self._raised = raised
        self._closed = False
        self._reading = DeferredLock()
        self._links: dict[Member, FollowerLink] = {}
        #: When each follower last made progress, or had nothing to do.
        self._moved: dict[Member, float] = {}
        #: When a change of the row began that is not answered yet.
        self._changing_since: float | None = None
        self._waiting: deque[tuple[int, float, Deferred[None]]] = deque()
        #: Who waits for so many followers in the row.
        self._unfollowed: list[tuple[int, Deferred[None]]] = []
        self._actions: deque[rules.Action] = deque()
        self._acting = False
        self._holder: Holder
        self._take(rules.begin(row_of(lock), end))

    # -- what the worker asks ------------------------------------------------------------

    @property
    def lock(self) -> Lock:
        """The lock, as the store confirmed it last."""
        return lock_as(self._lock, self._holder.row)

    @property
    def end(self) -> int:
        """The end of the log, as far as it is known to be committed."""
        return self._holder.end

    @property
    def followers(self) -> frozenset[Member]:
        """Members that follow, or were asked to."""
        return frozenset(self._holder.followers) - self._holder.unwanted

    @property
    def is_settled(self) -> bool:
        """Whether all that was written is acknowledged, and nothing is on its way."""
        holder = self._holder
        basing = any(each.phase is rules.Phase.BASE for each in holder.followers.values())
        return holder.acknowledged >= holder.end and holder.wanted is None and not basing

    @property
    def is_blocked(self) -> bool:
        """Whether neither the followers nor the store have answered for long."""
        since, seconds = self._changing_since, self._services.clock.seconds()
        return since is not None and seconds - since > self._services.timeout

    def check_writable(self) -> None:
        """Refuse a write that could not be acknowledged.

        :raises trough.errors.UnderReplicated: neither followers nor the store answer
        """
        if self.is_blocked and not self._services.without_copies:
            raise self._under_replicated()

    def committed(self, end: int) -> None:
        """A transaction was committed; it may not be on this disk yet."""
        if end <= self._holder.end or self._closed:
            return
        now = self._services.clock.seconds()
        for member, progress in self._holder.followers.items():
            if progress.confirmed >= self._holder.end:
                self._moved[member] = now  # it had nothing to do until now
        self._take(rules.appended(self._holder, end))

    def acknowledged(self, end: int) -> Deferred[None] | None:
        """What is committed up to `end` is on this disk: wait for the others; None: they have it.

        The Deferred fails with :class:`trough.errors.UnderReplicated` where the write is on this
        disk, and perhaps on others, and may not be acknowledged.
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
            self._waiting.append((end, services.clock.seconds(), waiting))
        return waiting

    def followed(self, count: int) -> Deferred[None]:
        """Fires once the row names so many followers; fails as :meth:`acknowledged`."""
        waiting: Deferred[None] = Deferred()
        self._unfollowed.append((count, waiting))
        self._tell_followed()
        return waiting

    def add(self, member: Member) -> None:
        """Have a member follow; it enters the row once it has caught up."""
        self._moved[member] = self._services.clock.seconds()
        self._take(rules.candidate(self._holder, member))

    def remove(self, member: Member) -> None:
        """Have a follower leave."""
        self._take(rules.stuck(self._holder, member))

    def check_progress(self) -> None:
        """Give up followers that make no progress; to be called several times a second."""
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

    def close(self) -> None:
        """Send nothing any more; writes that wait fail. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for link in self._links.values():
            link.close()
        waiting, self._waiting = self._waiting, deque()
        unfollowed, self._unfollowed = self._unfollowed, []
        for each in [*(each for _, _, each in waiting), *(each for _, each in unfollowed)]:
            if not each.called:
                each.errback(self._under_replicated())

    # -- what links report ---------------------------------------------------------------

    def replied(self, member: Member, reply: Confirmed | Behind | Rejected, matches: bool) -> None:
        """A follower has replied to an order; see :func:`trough.replication.holder.replied`."""
        self.moved(member)
        self._take(rules.replied(self._holder, member, reply, matches))

    def moved(self, member: Member) -> None:
        """A follower makes progress."""
        self._moved[member] = self._services.clock.seconds()

    def needs_base(self, member: Member) -> None:
        """The log does not reach back to what a follower has."""
        behind = Behind(self._holder.row.epoch, -1, b"")
        self._take(rules.replied(self._holder, member, behind, matches=False))

    def unreachable(self, member: Member) -> None:
        """What was sent to a follower may be lost: begin with it again in a moment."""
        self._services.clock.callLater(RETRY, self._again, member)

    def refused(self, member: Member, reason: errors.TroughError) -> None:
        """A follower cannot follow."""
        self._give_up(member, str(reason))

    def log_broken(self, reason: errors.TroughError) -> None:
        """The own log cannot be read: somebody else has to hold the lock."""
        if not self._closed:
            self._broken(reason.message)

    def _again(self, member: Member) -> None:
        if not self._closed:
            self._take(rules.lost(self._holder, member))

    def _give_up(self, member: Member, reason: str) -> None:
        if member in self._holder.unwanted or member not in self._holder.followers:
            return
        _log.warn(
            "{segment}: goes on without the copy on {node}: {reason}",
            segment=self.segment,
            node=member.node,
            reason=reason,
        )
        self._services.refused(member)
        self._take(rules.stuck(self._holder, member))

    # -- the rules at work ---------------------------------------------------------------

    def _take(self, step: rules.Step) -> None:
        """Take a step of the rules, and carry its actions out, in order also where one of them
        leads to a further step at once."""
        self._holder, actions = step
        self._actions.extend(actions)
        if self._acting:
            return
        self._acting = True
        try:
            while self._actions and not self._closed:
                self._carry_out(self._actions.popleft())
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
            if not each.called:  # or else nobody waits any more
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
            link = FollowerLink(self, member, self.log, self._read_log, self._services.send)
            self._links[member] = link
        return link

    def _read_log(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        """Run a function that reads the log, one after the other."""
        return self._reading.run(self._services.run, function, *arguments)

    async def _change(self, expected: Row, wanted: Row) -> None:
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
            return  # the follower makes no progress, and is given up or rejects again
        self._is(found, rejected)

    def _is(self, found: Lock | None, rejected: int = 0) -> None:
        """The store has answered what the row is."""
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
                self._raised(found)

    def _failed(self, failure: Any) -> None:
        _log.failure("{segment}: its lock's row", failure=failure, segment=self.segment)
        self._end(str(failure.value))

    def _end(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self._ended(reason)

    def _release(self, end: int) -> None:
        """Let go the writes up to `end`; those that wait come in the order of their commits."""
        while self._waiting and self._waiting[0][0] <= end:
            self._waiting.popleft()[2].callback(None)

    def _under_replicated(self) -> errors.UnderReplicated:
        return errors.UnderReplicated(
            f"segment {self.segment}: neither its followers nor the metadata store answer, so "
            "that nobody may acknowledge writes",
            "write again when they are back",
        )
